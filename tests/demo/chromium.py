"""A headless Chromium with a video file as its webcam, for the browser tests and screenshots.py."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


def find_chromium() -> str | None:
    """The path of the installed browser."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def launcher(executable: str) -> Iterator[Callable]:
    """A function that starts a browser with a video file (`films.film`) as its webcam, or without a webcam.

    Playwright runs an event loop in this thread until the end of the context.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as api:

        def launch(video: Path | None = None):
            webcam = [f"--use-file-for-fake-video-capture={video}"] if video else []
            return api.chromium.launch(executable_path=executable, args=[*FLAGS, *webcam])

        yield launch
