"""The page while the model is being loaded: it reports this, all requests are refused, then it becomes the demo.

The key of the templates is a named pipe here: loading ends when the test has written the key into the pipe.
"""

import contextlib
import os
from pathlib import Path

import httpx
import pytest
from servers import ForkedServer

from authentication.authenticator import DEFAULT_MODEL
from authentication.template_store import KEY, KEY_FILE, new_key_file, save_template
from benchmarks.live import Page, RefusedError, photograph
from demo import words
from demo.examples import WELL_KNOWN

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are needed")


@pytest.fixture
def loading(shipped, tmp_path, monkeypatch):
    """A server that loads until the key is in the pipe, the pipe, and the key of Anna's template."""
    folder, pipe = tmp_path / "enrolled", tmp_path / "template.key"
    folder.mkdir()
    new_key_file(pipe)
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.setenv(KEY_FILE, str(pipe))
    save_template(shipped.template([photograph(WELL_KNOWN[0])]), folder / "anna.template", shipped.revision)
    key = pipe.read_bytes()
    pipe.unlink()
    os.mkfifo(pipe, 0o600)
    with ForkedServer(str(DEFAULT_MODEL), "--enrolled", str(folder), ready=False) as server:
        yield server, pipe, key


def write_key(key: bytes, pipe: Path) -> None:
    """Write the key into the pipe, and into a file for later reads."""
    file = pipe.with_suffix(".file")
    file.touch(0o600)
    file.write_bytes(key)
    with pipe.open("wb") as writer:  # continues when the server reads
        os.replace(file, pipe)
        writer.write(key)


def test_all_requests_are_refused_until_the_model_is_loaded(loading):
    server, pipe, key = loading
    answer = httpx.get(server.address)
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    assert words.LOADING_HELP in answer.text and words.TITLE in answer.text
    assert httpx.get(server.address, headers={"Host": "elsewhere.example"}).status_code == 403
    with contextlib.closing(Page(server.address)) as page:
        for request in (
            lambda: page.ask("start", name="anna", token=""),
            lambda: page.ask("reference", photographs=["/etc/passwd"]),
            lambda: page.upload("me.png", photograph(WELL_KNOWN[0])),
            lambda: page.frame(b"a frame", "a token"),
        ):
            with pytest.raises(RefusedError, match=words.LOADING_HELP) as refused:
                request()
            assert refused.value.status == 503
    write_key(key, pipe)
    server.wait_until_ready()
    with contextlib.closing(Page(server.address)) as page:
        assert page.ask("start", name="anna", token="")[0]
    assert "Traceback" not in server.log()


def test_a_loading_error_ends_the_server_with_one_message(loading):
    server, pipe, _ = loading
    write_key(b"no key", pipe)
    assert server.process.wait(300) == 2
    messages = [line for line in server.log().splitlines() if not line.startswith("* Running")]
    assert len(messages) == 1 and "key" in messages[0] and not server.files()


def test_the_server_can_be_ended_while_it_loads(loading):
    server, *_ = loading
    server.process.terminate()
    assert server.process.wait(60) == 0
    assert server.log().startswith("* Running on") and server.log().count("\n") == 1
    assert not any(server.uploads.iterdir())


@pytest.mark.browser
def test_an_open_page_becomes_the_demo(loading, browser):
    server, pipe, key = loading
    with browser() as chromium:
        page = chromium.new_page()
        page.goto(server.address)
        assert words.LOADING_HELP in page.inner_text("body")
        write_key(key, pipe)
        page.wait_for_selector("#start", timeout=300_000)
        assert words.LOADING_HELP not in page.inner_text("body")
