"""Publishing over HTTP: the files that are sent, refused input, and faults of the Hub."""

import os
import re
import shutil
import subprocess
import sys
import time

import huggingface_hub.constants
import pytest
import yaml

from checkpoints import WEIGHTS, file_sha256
from hub_card.__main__ import main


@pytest.fixture
def writable_hub(hub, monkeypatch):
    """The loopback Hub, to which this process publishes with a token that may write."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "writer")
    return hub


@pytest.fixture
def copy(built, tmp_path):
    """A copy of the folder for the Hub, which a test may change."""
    return shutil.copytree(built, tmp_path / "copy")


def push(folder, *options) -> int:
    return main(["push", str(folder), "user/faces", *options])


def test_one_commit_contains_the_folder_and_the_card_names_the_repository(writable_hub, built, capsys):
    assert push(built, "--private") == 0
    repository = writable_hub.repositories["model", "user/faces"]
    assert repository.private and len(repository.commits) == 2  # the Hub makes an empty first commit
    assert f"user/faces/commit/{repository.commits[-1][0]}" in capsys.readouterr().out
    expected = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert writable_hub.files("user/faces") == expected
    for path in expected - {"README.md"}:
        assert writable_hub.file("user/faces", path) == (built / path).read_bytes(), path
    card = writable_hub.file("user/faces", "README.md").decode()
    assert 'model="user/faces"' in card and "OWNER/NAME" not in card
    assert (built / "README.md").read_text(encoding="utf-8").count("OWNER/NAME") == card.count("user/faces")

    assert push(built) == 0  # the repository exists (409), and no file has changed
    assert len(repository.commits) == 2


def test_files_of_an_earlier_push_that_are_missing_now_are_removed(writable_hub, built, copy):
    removed = sorted(copy.glob("figures/*.png"))[0].relative_to(copy).as_posix()
    assert push(built) == 0 and removed in writable_hub.files("user/faces")
    (copy / removed).unlink()
    card = copy / "README.md"
    card.write_text(
        re.sub(rf"!\[[^]]*\]\({re.escape(removed)}\)", "", card.read_text(encoding="utf-8")), encoding="utf-8"
    )
    assert push(copy) == 0
    assert writable_hub.files("user/faces") == {
        path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()
    }


def test_a_dry_run_lists_the_files_and_sends_nothing(writable_hub, built, capsys):
    assert push(built, "--dry-run", "--space") == 0
    text = capsys.readouterr().out
    assert (
        "model.safetensors" in text and "space user/faces" in text and "app.py" in text and "nothing was sent" in text
    )
    assert not writable_hub.requests


def test_the_space_runs_the_demo_with_these_weights(writable_hub, built, tmp_path):
    assert push(built, "--space") == 0
    for path in writable_hub.files("user/faces", "space"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(writable_hub.file("user/faces", path, "space"))
    front_matter = yaml.safe_load((tmp_path / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert writable_hub.hardware == {"user/faces": "zero-a10g"}
    assert (
        front_matter["sdk"] == "gradio"
        and front_matter["models"] == ["user/faces"]
        and (tmp_path / front_matter["app_file"]).is_file()
    )
    code = (
        "import app, demo.command; "
        "print(demo.command.Authenticator.from_pretrained(app.parse_arguments([]).model).revision)"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert process.stdout.strip() == file_sha256(built / WEIGHTS)[:12], process.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("optimizer.bin", b"state", "must not be published"),
        ("checkpoints/step-00000300/manifest.json", b"{}", "must not be published"),
        ("anna.jpg", b"photograph", "must not be published"),
        ("figures/anna.png", b"photograph", "must not be published"),
        (".env", b"KEY=1", "must not be published"),
        ("training.json", b'{"token": "hf_' + b"a1B2" * 9 + b'"}', "looks like an access token"),
        ("README.md", b"---\nlicense: other\n---\n# A card\n", "the card has no results"),
        ("results.json", b'{"model": {"sha256": "0"}}', "other weights"),
        ("modeling_facelivenet.py", None, "lacks modeling_facelivenet.py"),
    ],
)
def test_forbidden_or_wrong_files_are_refused(writable_hub, copy, name, content, message, capsys):
    if content is None:
        (copy / name).unlink()
    else:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
        if name == "README.md":  # this card shows no figures
            shutil.rmtree(copy / "figures")
    assert push(copy) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not writable_hub.requests


def test_a_folder_that_was_not_built_and_a_name_without_owner_are_refused(writable_hub, built, repository, capsys):
    assert push(repository / "pretrained") == 2
    assert "is not a folder that `python -m hub_card build` wrote" in capsys.readouterr().err
    assert main(["push", str(built), "faces"]) == 2
    assert "owner/name" in capsys.readouterr().err
    assert not writable_hub.requests


@pytest.mark.parametrize(
    ("token", "message"),
    [("", "hf auth login"), ("forged", "hf auth login"), ("reader", "may not write to user/faces (403)")],
)
def test_a_token_without_write_access_is_reported_at_once(writable_hub, built, token, message, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setenv("HF_TOKEN_PATH", "/nonexistent")
    assert push(built) == 2
    assert message in capsys.readouterr().err
    assert not writable_hub.repositories and writable_hub.count("POST", "/repos/create") == 1


@pytest.mark.parametrize(("path", "status"), [("/repos/create", 500), ("/commit/", 503), ("/commit/", 409)])
def test_temporary_errors_are_retried(writable_hub, built, path, status, capsys):
    writable_hub.fail("POST", path, status)
    assert push(built) == 0
    assert len(writable_hub.repositories["model", "user/faces"].commits) == 2
    assert "trying again" in capsys.readouterr().err
    sent = writable_hub.count("PUT", file_sha256(built / WEIGHTS))
    assert sent == 1, "what the Hub has is not sent again"


def test_permanent_errors_of_the_hub_are_reported(writable_hub, built, capsys, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    writable_hub.fail("POST", "/repos/create", 500, times=99)
    assert push(built) == 2
    error = capsys.readouterr().err
    assert "did not accept user/faces" in error and "run the same command again" in error


def test_an_interrupted_upload_resumes_without_sending_all_files_again(hub, built, repository):
    weights = file_sha256(built / WEIGHTS)
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "writer",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-m", "hub_card", "push", str(built), "user/faces"]
    hub.cut("PUT", weights, after=1_000_000, times=99)
    process = subprocess.Popen(command, cwd=repository, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not hub.count("PUT", weights) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert hub.count("PUT", weights), "the upload has not begun"
    process.kill()
    process.wait()
    assert len(hub.repositories["model", "user/faces"].commits) == 1, "half a model is no commit"
    stored, before = set(hub.blobs), len(hub.requests)

    hub.clear_faults()
    assert subprocess.run(command, cwd=repository, env=environment, capture_output=True, timeout=60).returncode == 0
    assert hub.file("user/faces", WEIGHTS) == (built / WEIGHTS).read_bytes()
    sent_again = {re.fullmatch(r"/lfs/(\w+)", path)[1] for method, path in hub.requests[before:] if method == "PUT"}
    assert weights in sent_again and stored and not sent_again & stored
