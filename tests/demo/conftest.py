"""The app as users start it, and a real browser with a video as its webcam."""

import re

import pytest
from chromium import find_chromium, launcher
from servers import ForkedServer

from authentication.authenticator import DEFAULT_MODEL, Authenticator

STEP_SECONDS = 9  # per step, of the server under test


@pytest.fixture(scope="session")
def shipped() -> Authenticator:
    return Authenticator.from_pretrained(DEFAULT_MODEL)


@pytest.fixture(scope="package")
def server():
    """`python app.py` with the shipped checkpoint. It asks every visitor to smile."""
    with ForkedServer(str(DEFAULT_MODEL), "--challenge", "happy", "--step-seconds", str(STEP_SECONDS)) as running:
        yield running
        errors = re.findall(r"^([\w.]+(?:Error|Exception|Group))\b", running.log(), re.MULTILINE)
        assert not errors, running.log()


@pytest.fixture(scope="package")
def random_challenge_server():
    """`python app.py` with random challenges of a smile and both turns."""
    with ForkedServer(str(DEFAULT_MODEL), "--actions", "happy", "turn_left", "turn_right", "--live-only") as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    """Starts a headless Chromium with a video file as its webcam, or without a webcam.

    The scope is the module, because the event loop of Playwright has to end before other tests start one.
    """
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    pytest.importorskip("playwright.sync_api")
    with launcher(executable) as launch:
        yield launch
