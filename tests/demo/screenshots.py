"""The pictures of the page in docs/: one session of a drawn person, filmed in a real browser.

PYTHONPATH=. python tests/demo/screenshots.py docs

Writes session.webp, a film of the session on a desktop, and app_phone.png, a moment of it on a phone with dark colours.
Start it on a machine that does nothing else: the browser, its camera and the server share the cores.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path

from chromium import find_chromium, launcher
from films import acting, film
from PIL import Image

from authentication.authenticator import DEFAULT_MODEL
from benchmarks.live import Server
from demo.examples import WELL_KNOWN
from face_data.drawn import drawn_photograph

PERSON = WELL_KNOWN[0]
ACTS = (("neutral", 0, 3), ("happy", 0, 2.5), ("neutral", 0, 2.5), ("neutral", 32, 2.5))
DESKTOP, PHONE = (1280, 860), (390, 844)
FILM_WIDTH = 720  # pixels
LAST_SECONDS = 3  # with the decision


def main(folder: Path) -> None:
    executable = find_chromium()
    if executable is None:
        raise SystemExit("screenshots: no Chromium on this machine: apt-get install chromium")
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / "anna.png"
        drawn_photograph(PERSON, "neutral", 0, seed=0).save(reference)
        # no frame is repeated: the film is longer than a session, and each scene is shorter than 120 frames
        video = film(Path(scratch) / "cam.mjpeg", acting(PERSON, *ACTS * 4), different_frames=120)
        arguments = ("--challenge", "happy", "turn_left", "--live-only", "--step-seconds", "15")
        with (
            Server(str(DEFAULT_MODEL), *arguments) as server,
            launcher(executable) as launch,
            launch(video) as chromium,
        ):
            page = _ready(chromium, server.address, reference, DESKTOP, "light")
            _save_film(folder / "session.webp", _session(page)[0])
            page.context.close()
            page = _ready(chromium, server.address, reference, PHONE, "dark")
            _, smiling = _session(page)
            smiling.save(folder / "app_phone.png", optimize=True)


def _ready(chromium, address: str, reference: Path, size: tuple[int, int], colours: str):
    """The page with an accepted reference."""
    viewport = dict(zip(("width", "height"), size, strict=True))
    context = chromium.new_context(permissions=["camera"], viewport=viewport, color_scheme=colours)
    page = context.new_page()
    page.goto(address)
    page.locator("#reference input[type=file]").first.set_input_files(reference)
    page.locator("#note .note.good").wait_for(timeout=30_000)
    return page


def _session(page) -> tuple[list[tuple[float, Image.Image]], Image.Image]:
    """(seconds since the start, screenshot) until the decision, and the screenshot of a smile that is being counted."""
    page.locator("#start").click()
    start, frames, smiling = time.monotonic(), [], None
    while not page.locator(".card.accepted, .card.rejected").count():
        frames.append((time.monotonic() - start, Image.open(io.BytesIO(page.screenshot())).convert("RGB")))
        text = page.locator("body").inner_text()
        if "Now smile" in text and "Good. Hold it." in text:
            smiling = frames[-1][1]
    frames.append((time.monotonic() - start, Image.open(io.BytesIO(page.screenshot())).convert("RGB")))
    if not page.locator(".card.accepted").count() or smiling is None:
        ending = page.locator(".card").first.inner_text()
        raise SystemExit(f"screenshots: the drawn person was not accepted: {ending!r}; is the machine busy?")
    return frames, smiling


def _save_film(path: Path, frames: list[tuple[float, Image.Image]]) -> None:
    ends = [seconds for seconds, _ in frames[1:]] + [frames[-1][0] + LAST_SECONDS]
    durations = [round(1000 * (end - seconds)) for end, (seconds, _) in zip(ends, frames, strict=True)]
    height = round(FILM_WIDTH * DESKTOP[1] / DESKTOP[0])
    first, *others = (frame.resize((FILM_WIDTH, height), Image.Resampling.LANCZOS) for _, frame in frames)
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0, quality=60, method=6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the pictures are written to, such as docs")
    main(parser.parse_args().folder)
