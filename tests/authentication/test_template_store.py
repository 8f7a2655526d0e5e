"""Templates on disk: encrypted, bound to one network, and written completely or not at all."""

import base64
import json
import os
import time
from datetime import UTC, datetime

import numpy as np
import pytest
from cryptography.fernet import Fernet

from authentication.__main__ import main
from authentication.template import Template
from authentication.template_store import (
    FORMAT,
    KEY,
    KEY_FILE,
    TemplateStoreError,
    enrolled_on,
    load_template,
    new_key_file,
    read_key,
    save_template,
)
from authentication.template_store import main as store_main


@pytest.fixture
def key(monkeypatch) -> bytes:
    """A new key. The environment has no key."""
    for name in (KEY, KEY_FILE):
        monkeypatch.delenv(name, raising=False)
    return Fernet.generate_key()


@pytest.fixture
def template() -> Template:
    embeddings = np.random.default_rng(0).normal(size=(2, 1792))
    return Template.from_embeddings(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True))


def test_a_saved_template_can_be_loaded_and_is_encrypted(key, template, tmp_path):
    path = tmp_path / "anna.template"
    save_template(template, path, "abc123", key)
    loaded = load_template(path, "abc123", 1792, key)
    assert np.array_equal(loaded.embedding, template.embedding) and loaded.photographs == 2
    content = path.read_bytes()
    assert b"abc123" not in content and template.embedding.tobytes()[:32] not in content
    assert path.stat().st_mode & 0o777 == 0o600
    save_template(template, tmp_path / "again.template", "abc123", key)
    assert (tmp_path / "again.template").read_bytes() != content, "two files of the same template must differ"


def test_a_template_of_another_network_is_refused(key, template, tmp_path):
    path = tmp_path / "anna.template"
    save_template(template, path, "abc123", key)
    for other in ("def456", "abc123-int8", "", None):
        with pytest.raises(
            TemplateStoreError, match=r"made by weights abc123, but the model has .*: enrol the person again"
        ):
            load_template(path, other, 1792, key)
    with pytest.raises(TemplateStoreError, match="no revision to bind"):
        save_template(template, path, None, key)


def test_a_wrong_key_or_a_changed_byte_is_refused(key, template, tmp_path):
    path = tmp_path / "anna.template"
    save_template(template, path, "abc123", key)
    with pytest.raises(TemplateStoreError, match=r"anna\.template: not encrypted with this key, or changed since"):
        load_template(path, "abc123", 1792, Fernet.generate_key())
    content = path.read_bytes()
    for place in (0, 12, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(TemplateStoreError, match="changed since"):
            load_template(path, "abc123", 1792, key)
    path.write_bytes(content[:-40])
    with pytest.raises(TemplateStoreError, match="changed since"):
        load_template(path, "abc123", 1792, key)
    with pytest.raises(TemplateStoreError, match="is not valid"):
        load_template(path, "abc123", 1792, b"secret")


def record_of(template: Template, **changed) -> dict:
    content = base64.b64encode(template.embedding.tobytes()).decode()
    return {
        "format": FORMAT,
        "name": "anna",
        "enrolled": 7,
        "revision": "abc123",
        "photographs": 1,
        "embedding": content,
    } | changed


def test_a_template_of_another_format_is_refused(key, template, tmp_path):
    path = tmp_path / "anna.template"
    for other in (1, 3, "2", None):
        path.write_bytes(Fernet(key).encrypt(json.dumps(record_of(template, format=other)).encode()))
        with pytest.raises(TemplateStoreError, match=f"has format {other!r}, but this program reads {FORMAT}"):
            load_template(path, "abc123", 1792, key)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"7",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        {"name": None},
        {"name": 7},
        {"enrolled": "x"},
        {"photographs": 0},
        {"photographs": "1"},
        {"photographs": True},
        {"embedding": 7},
        {"embedding": "no base64!"},
        {"embedding": ""},
        {"embedding": base64.b64encode(bytes(7)).decode()},
        {"embedding": base64.b64encode(np.ones(100).tobytes()).decode()},
        {"embedding": base64.b64encode(np.ones(1792).tobytes()).decode()},
        {"embedding": base64.b64encode(np.full(1792, np.nan).tobytes()).decode()},
        {"embedding": base64.b64encode(np.zeros(1792).tobytes()).decode()},
    ],
)
def test_wrong_content_is_refused_even_with_the_right_key(key, template, tmp_path, content):
    path = tmp_path / "anna.template"
    record = content if isinstance(content, bytes) else json.dumps(record_of(template, **content)).encode()
    path.write_bytes(Fernet(key).encrypt(record))
    with pytest.raises(TemplateStoreError, match=r"anna\.template: contains no .*: enrol the person again"):
        load_template(path, "abc123", 1792, key)
    path.write_bytes(Fernet(key).encrypt(json.dumps(record_of(template)).encode()))
    assert np.array_equal(load_template(path, "abc123", 1792, key).embedding, template.embedding)


def test_a_template_is_bound_to_its_name_and_contains_its_date(key, template, tmp_path):
    ben, anna, moved = tmp_path / "ben.template", tmp_path / "anna.template", tmp_path / "x" / "ben.template"
    before = datetime.now(UTC).replace(microsecond=0)
    save_template(template, ben, "abc123", key)
    anna.write_bytes(ben.read_bytes())
    with pytest.raises(
        TemplateStoreError,
        match=r"anna\.template: is the template of 'ben'; a template cannot be used under another name",
    ):
        load_template(anna, "abc123", 1792, key)
    moved.parent.mkdir()
    ben.rename(moved)
    assert load_template(moved, "abc123", 1792, key).photographs == template.photographs
    assert before <= enrolled_on(moved, key) <= datetime.now(UTC)


def test_a_restored_old_template_is_refused(template, tmp_path, key):
    """An attacker who can write only to the folder of the templates cannot change the files beside the key."""
    newest, anna = tmp_path / "template.key.newest", tmp_path / "anna.template"
    options = {"key": key, "newest": newest}
    save_template(template, anna, "abc123", **options)
    old = anna.read_bytes()
    save_template(template, anna, "abc123", **options)  # within the same second, on most machines
    new = anna.read_bytes()
    assert enrolled_on(anna, key) > datetime.fromtimestamp(0, UTC)
    anna.write_bytes(old)
    with pytest.raises(
        TemplateStoreError, match=r"anna\.template: saved on .*enrolled again .*: an old template was restored"
    ):
        load_template(anna, "abc123", 1792, **options)
    assert load_template(anna, "abc123", 1792, key).photographs == 2, "not recognized without the file"
    anna.write_bytes(new)
    assert load_template(anna, "abc123", 1792, **options).photographs == 2
    assert b"anna" not in newest.read_bytes() and newest.stat().st_mode & 0o777 == 0o600
    ben = tmp_path / "ben.template"
    save_template(template, ben, "abc123", key)  # on another machine, with the same key
    assert load_template(ben, "abc123", 1792, **options).photographs == 2, "each name has its own time"


def test_the_time_of_a_template_from_another_machine_is_recorded(template, tmp_path, key, monkeypatch):
    """The clock of that machine may be ahead. A server that has read the newer template refuses the older one."""
    newest, anna = tmp_path / "here.newest", tmp_path / "anna.template"
    save_template(template, anna, "abc123", key)
    old = anna.read_bytes()
    monkeypatch.setattr(time, "time", lambda: 4_000_000_000.0)
    save_template(template, anna, "abc123", key)
    monkeypatch.undo()
    load_template(anna, "abc123", 1792, key, newest)
    new = anna.read_bytes()
    anna.write_bytes(old)
    with pytest.raises(TemplateStoreError, match="an old template was restored"):
        load_template(anna, "abc123", 1792, key, newest)
    save_template(template, anna, "abc123", key, newest)  # enrolled again, with a clock that is behind
    load_template(anna, "abc123", 1792, key, newest)
    anna.write_bytes(new)
    with pytest.raises(TemplateStoreError, match="an old template was restored"):
        load_template(anna, "abc123", 1792, key, newest)


def test_a_revoked_template_is_refused(template, tmp_path, key, monkeypatch, capsys):
    key_file, anna = tmp_path / "keys" / "template.key", tmp_path / "anna.template"
    key_file.parent.mkdir()
    new_key_file(key_file)
    monkeypatch.setenv(KEY_FILE, str(key_file))
    save_template(template, anna, "abc123")
    copy = anna.read_bytes()
    assert store_main(["--revoke", str(anna)]) == 0 and not anna.exists()
    anna.write_bytes(copy)
    with pytest.raises(TemplateStoreError, match="an old template was restored"):
        load_template(anna, "abc123", 1792)
    save_template(template, anna, "abc123")
    assert load_template(anna, "abc123", 1792).photographs == 2, "a person can be enrolled again"
    monkeypatch.setenv(KEY, key.decode())
    assert store_main(["--revoke", str(anna)]) == 2 and anna.exists()
    assert "cannot record the revocation" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"x", b"[]", b'{"anna": "1"}', b"\xff", b"[" * 100_000])
def test_a_changed_record_of_the_newest_times_is_an_error(template, tmp_path, key, content):
    newest, anna = tmp_path / "template.key.newest", tmp_path / "anna.template"
    save_template(template, anna, "abc123", key)
    for written in (content, Fernet(key).encrypt(content)):
        newest.write_bytes(written)
        for use in (load_template, save_template):
            arguments = (anna, "abc123", 1792) if use is load_template else (template, anna, "abc123")
            with pytest.raises(TemplateStoreError, match=r"key\.newest: not encrypted with the key in this folder"):
                use(*arguments, key=key, newest=newest)


def test_an_unwritable_record_of_the_newest_times_is_reported(template, tmp_path, key):
    anna, newest = tmp_path / "anna.template", tmp_path / "missing" / "template.key.newest"
    (tmp_path / "missing").write_text("a file where a folder should be")
    with pytest.raises(TemplateStoreError, match=r"template\.key\.newest: cannot be (read|written)"):
        save_template(template, anna, "abc123", key, newest)
    assert not anna.exists()


def test_the_key_comes_from_the_environment_or_a_private_file(key, tmp_path, monkeypatch):
    with pytest.raises(TemplateStoreError, match=f"set {KEY_FILE}"):
        read_key()
    path = tmp_path / "template.key"
    monkeypatch.setenv(KEY_FILE, str(path))
    with pytest.raises(TemplateStoreError, match="cannot be read: No such file"):
        read_key()
    new_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600 and Fernet(read_key())
    with pytest.raises(FileExistsError):
        new_key_file(path)
    for mode in (0o640, 0o604, 0o620, 0o602):
        path.chmod(mode)
        with pytest.raises(TemplateStoreError, match=r"other users may read or change this key: .* chmod 600"):
            read_key()
    monkeypatch.setenv(KEY, key.decode())
    assert read_key() == key


def test_a_failed_write_keeps_the_old_template(key, template, tmp_path, monkeypatch):
    path = tmp_path / "anna.template"
    save_template(template, path, "abc123", key)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_template(template, path, "abc123", key)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["anna.template"]


def test_the_command_saves_and_uses_a_template(happy_model, portrait, tmp_path, key, monkeypatch, capsys):
    photograph, saved = tmp_path / "anna.png", tmp_path / "anna.template"
    portrait.save(photograph)

    def decide(reference, *options) -> int:
        return main([str(reference), str(photograph), "--expression", "happy", "--model", str(happy_model), *options])

    assert decide(photograph, "--save-template", str(saved)) == 2
    assert "no key for templates" in capsys.readouterr().err and not saved.exists()
    monkeypatch.setenv(KEY, key.decode())
    assert decide(photograph, "--save-template", str(tmp_path / "anna.jpg")) == 2
    assert "must end in .template" in capsys.readouterr().err and not (tmp_path / "anna.jpg").exists()
    assert decide(photograph, "--save-template", str(saved)) == 0
    assert decide(saved) == 0
    assert capsys.readouterr().out.count("ACCEPTED") == 2
    assert decide(saved, "--reference", str(photograph)) == 2
    assert "must be the only reference" in capsys.readouterr().err
    monkeypatch.setenv(KEY, Fernet.generate_key().decode())
    assert decide(saved) == 2
    assert "not encrypted with this key" in capsys.readouterr().err
