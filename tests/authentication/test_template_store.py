"""Templates on disk: unreadable without the key, of no use to another network, and never half written."""

import os

import numpy as np
import pytest
from cryptography.fernet import Fernet

from authentication.__main__ import main
from authentication.template import Template
from authentication.template_store import (
    KEY,
    KEY_FILE,
    TemplateStoreError,
    load_template,
    new_key_file,
    read_key,
    save_template,
)


@pytest.fixture
def key(monkeypatch) -> bytes:
    """A key; the environment holds none."""
    for name in (KEY, KEY_FILE):
        monkeypatch.delenv(name, raising=False)
    return Fernet.generate_key()


@pytest.fixture
def template() -> Template:
    return Template.from_embeddings(np.random.default_rng(0).normal(size=(2, 1792)))


def test_what_is_saved_comes_back_and_is_not_in_the_file(key, template, tmp_path):
    path = tmp_path / "anna.template"
    save_template(template, path, "abc123", key)
    again = load_template(path, "abc123", key)
    assert np.array_equal(again.embedding, template.embedding) and again.photographs == 2
    content = path.read_bytes()
    assert b"abc123" not in content and template.embedding.tobytes()[:32] not in content
    assert path.stat().st_mode & 0o777 == 0o600
    save_template(template, tmp_path / "again.template", "abc123", key)
    assert (tmp_path / "again.template").read_bytes() != content, "the same person twice must not look the same"


def test_another_network_s_template_is_refused(key, template, tmp_path):
    path = tmp_path / "anna.template"
    save_template(template, path, "abc123", key)
    for other in ("def456", "abc123-int8", "", None):
        with pytest.raises(TemplateStoreError, match=r"made by weights abc123, these are .*: enrol the person again"):
            load_template(path, other, key)
    with pytest.raises(TemplateStoreError, match="no revision to bind"):
        save_template(template, path, None, key)


def test_a_wrong_key_or_a_changed_byte_is_noticed(key, template, tmp_path):
    path = tmp_path / "anna.template"
    save_template(template, path, "abc123", key)
    with pytest.raises(TemplateStoreError, match=r"anna\.template: not encrypted with this key, or changed since"):
        load_template(path, "abc123", Fernet.generate_key())
    content = path.read_bytes()
    for place in (0, 12, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(TemplateStoreError, match="changed since"):
            load_template(path, "abc123", key)
    path.write_bytes(content[:-40])
    with pytest.raises(TemplateStoreError, match="changed since"):
        load_template(path, "abc123", key)
    with pytest.raises(TemplateStoreError, match="is not one"):
        load_template(path, "abc123", b"secret")


def test_a_template_of_another_format_is_refused(key, tmp_path):
    path = tmp_path / "anna.template"
    path.write_bytes(Fernet(key).encrypt(b'{"format": 2, "revision": "abc123"}'))
    with pytest.raises(TemplateStoreError, match="of format 2, this program reads 1"):
        load_template(path, "abc123", key)


def test_the_key_comes_from_the_environment_or_a_file_of_ones_own(key, tmp_path, monkeypatch):
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
        with pytest.raises(TemplateStoreError, match="others may read or change this key: chmod 600"):
            read_key()
    monkeypatch.setenv(KEY, key.decode())
    assert read_key() == key


def test_a_template_that_cannot_be_written_leaves_the_old_one(key, template, tmp_path, monkeypatch):
    path = tmp_path / "anna.template"
    save_template(template, path, "abc123", key)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_template(template, path, "abc123", key)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["anna.template"]


def test_the_command_keeps_and_uses_a_template(happy_model, portrait, tmp_path, key, monkeypatch, capsys):
    photograph, kept = tmp_path / "anna.png", tmp_path / "anna.template"
    portrait.save(photograph)

    def ask(reference, *options) -> int:
        return main([str(reference), str(photograph), "--expression", "happy", "--model", str(happy_model), *options])

    assert ask(photograph, "--save-template", str(kept)) == 2
    assert "no key for templates" in capsys.readouterr().err and not kept.exists()
    monkeypatch.setenv(KEY, key.decode())
    assert ask(photograph, "--save-template", str(tmp_path / "anna.jpg")) == 2
    assert "must end in .template" in capsys.readouterr().err and not (tmp_path / "anna.jpg").exists()
    assert ask(photograph, "--save-template", str(kept)) == 0
    assert ask(kept) == 0
    assert capsys.readouterr().out.count("ACCEPTED") == 2
    assert ask(kept, "--reference", str(photograph)) == 2
    assert "stands alone" in capsys.readouterr().err
    monkeypatch.setenv(KEY, Fernet.generate_key().decode())
    assert ask(kept) == 2
    assert "not encrypted with this key" in capsys.readouterr().err
