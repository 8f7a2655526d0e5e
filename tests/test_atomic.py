"""Files and folders are replaced completely or not at all."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

import atomic
from atomic import create, folder_replacement, replacement, write


class Interruption(Exception):
    pass


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_keeps_its_content_until_the_new_content_is_complete(tmp_path, shared):
    path = tmp_path / "results.json"
    write(path, b"earlier")
    with replacement(path, shared=shared) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"earlier" and temporary.parent == path.parent
    assert path.read_bytes() == b"new" and names(tmp_path) == ["results.json"]
    with pytest.raises(Interruption), replacement(path, shared=shared) as temporary:
        temporary.write_bytes(b"half of")
        raise Interruption
    assert path.read_bytes() == b"new" and names(tmp_path) == ["results.json"]


def test_a_failed_write_leaves_no_file(tmp_path):
    with pytest.raises(FileNotFoundError), replacement(tmp_path / "file"):
        pass
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "no folder" / "file", b"")
    assert not names(tmp_path)


def test_a_file_of_a_killed_process_is_overwritten(tmp_path):
    with pytest.raises(Interruption), replacement(tmp_path / "shard") as left:
        raise Interruption
    left.write_bytes(b"a long half of a shard")
    write(tmp_path / "shard", b"whole")
    assert names(tmp_path) == ["shard"] and (tmp_path / "shard").read_bytes() == b"whole"


def test_writers_of_one_file_use_separate_temporary_files(tmp_path):
    path = tmp_path / "cache"
    with replacement(path, shared=True) as first, replacement(path, shared=True) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first"  # the first writer finished last
    assert names(tmp_path) == ["cache"]


@pytest.mark.skipif(os.name != "posix", reason="the modes of POSIX")
def test_a_private_file_is_never_readable_by_others(tmp_path):
    def mode(path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    before = os.umask(0o022)
    try:
        path = tmp_path / "template"
        path.write_bytes(b"readable")
        left = path.with_name("template.tmp")  # of a process that was killed
        left.write_bytes(b"readable")
        with replacement(path, private=True) as temporary:
            assert temporary == left and mode(temporary) == 0o600
            temporary.write_bytes(b"secret")
        assert mode(path) == 0o600 and path.read_bytes() == b"secret"
        write(tmp_path / "public", b"")
        assert mode(tmp_path / "public") == 0o644
    finally:
        os.umask(before)


@pytest.mark.parametrize("shared", [False, True])
def test_a_folder_replaces_the_earlier_one(tmp_path, shared):
    folder = tmp_path / "runs" / "best"
    for content in ("first", "second"):
        with folder_replacement(folder, shared=shared) as temporary:
            (temporary / content).write_text(content)
        assert names(folder) == [content] and names(folder.parent) == ["best"]
    with pytest.raises(Interruption), folder_replacement(folder, shared=shared) as temporary:
        (temporary / "third").write_text("half of")
        raise Interruption
    assert names(folder) == ["second"] and names(folder.parent) == ["best"]


def test_the_earlier_folder_is_restored_if_the_new_one_cannot_be_renamed(tmp_path, monkeypatch):
    folder = tmp_path / "best"
    folder.mkdir()
    (folder / "earlier").touch()
    real = os.replace

    def refuse(source, target):
        if str(source).endswith(".tmp"):
            raise OSError("the disk is away")
        real(source, target)

    monkeypatch.setattr(atomic.os, "replace", refuse)
    with pytest.raises(OSError, match="away"), folder_replacement(folder):
        pass
    assert names(tmp_path) == ["best"] and names(folder) == ["earlier"]


def test_only_one_of_many_threads_creates_a_file(tmp_path):
    path = tmp_path / "lock"
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda number: create(path, bytes([number])), range(64)))
    assert sum(created) == 1 and path.read_bytes() == bytes([created.index(True)])
    assert names(tmp_path) == ["lock"]


def test_no_file_is_created_without_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(atomic.os, "link", refuse)
    assert not create(tmp_path / "lock", b"") and not names(tmp_path)
