"""The app as people start it, and a real browser whose webcam plays a video."""

import re
import shutil
from pathlib import Path

import pytest

from authentication.authenticator import DEFAULT_MODEL, Authenticator
from benchmarks.live import Server

STEP_SECONDS = 9  # per step, of the server under test


@pytest.fixture(scope="session")
def shipped() -> Authenticator:
    return Authenticator.from_pretrained(DEFAULT_MODEL)


@pytest.fixture(scope="package")
def server():
    """`python app.py` with the shipped checkpoint, asking everybody to smile."""
    with Server(str(DEFAULT_MODEL), "--challenge", "happy", "--step-seconds", str(STEP_SECONDS)) as running:
        yield running
        errors = re.findall(r"^([\w.]+(?:Error|Exception|Group))\b", running.log(), re.MULTILINE)
        assert not errors, running.log()


@pytest.fixture(scope="package")
def drawing_server():
    """As people start it: the challenge is drawn, from a smile and both turns."""
    with Server(str(DEFAULT_MODEL), "--actions", "happy", "turn_left", "turn_right", "--live-only") as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    """Starts a headless Chromium whose webcam is a video file, or nothing.

    Playwright keeps an event loop running in this thread. It ends with the module: other tests start their own.
    """
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as api:

        def launch(video: Path | None = None):
            flags = [
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
            ]
            if video:
                flags.append(f"--use-file-for-fake-video-capture={video}")
            return api.chromium.launch(executable_path=executable, args=flags)

        yield launch
