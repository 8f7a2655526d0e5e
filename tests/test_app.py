"""The app: what it tells people, and all of it in a real browser whose webcam plays a video made of photographs."""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app import instruction, main, meter, scores
from authentication.session import Progress
from face_data.drawn import draw_face
from pipeline_facelivenet import decide, reject

PERSON, STRANGER = "036", "097"
TIMEOUT = 20  # seconds per attempt, of the server under test
FRAMES_PER_SECOND = 30  # at which Chromium plays the file
UNUSABLE = {
    "two.png": "Several faces were found",
    "nobody.png": "No face was found",
    "text.jpg": "cannot be read (not a picture in any known format)",
}

ACCEPTED = decide(
    similarity=0.8765,
    threshold=0.5,
    expression_probabilities={"neutral": 0.1, "happy": 0.9},
    required_expression="happy",
    expression_threshold=0.5,
)


def progress(step="neutral", required="neutral", held=1, frame=None, decision=None):
    return Progress("happy", step, required, held, 12.0, frame, decision)


def test_the_challenge_stays_hidden_until_its_turn():
    for step in ("start", "neutral"):
        shown = instruction(progress(step)) + meter(progress(step))
        assert "neutral face" in shown
        assert "happy" not in shown
        assert "smile" not in shown
    shown = instruction(progress("expression", "happy")) + meter(progress("expression", "happy"))
    assert "smile" in shown


def test_people_see_no_scores_and_the_operator_does():
    shown = progress("decided", "happy", 0, ACCEPTED, ACCEPTED)
    assert "Accepted" in instruction(shown)
    assert "0.87" not in instruction(shown) + meter(shown)
    assert "0.876 (threshold 0.500)" in scores(shown)
    assert "0.900" in scores(shown)


@pytest.mark.parametrize("reason", ["different_person", "several_faces", "timed_out"])
def test_a_rejection_says_why(reason):
    decision = reject(reason, "happy")
    shown = instruction(progress("decided", "happy", 0, decision, decision))
    assert "Rejected" in shown
    assert decision.message in shown


def test_a_missing_model_is_named(tmp_path, capsys):
    assert main(["--model", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser():
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


@pytest.fixture(scope="module")
def server(repository, tmp_path_factory):
    """`python app.py` with the shipped checkpoint on a free port; yields its address and its folder for uploads."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("app")
    uploads = folder / "uploads"
    environment = os.environ | {"GRADIO_TEMP_DIR": str(uploads), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "app.py", "--port", str(port), "--timeout", str(TIMEOUT), "--challenge", "happy"]
    with open(folder / "log", "w+") as log:
        process = subprocess.Popen(command, cwd=repository, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(address, process, folder / "log")
            yield address, uploads
        finally:
            process.terminate()
            process.wait(20)
    assert "Traceback" not in (folder / "log").read_text()


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"app.py ended with status {process.returncode}: {log.read_text()}")
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
    pytest.fail(f"app.py did not answer within 120 s: {log.read_text()}")


def write_webcam_video(path: Path, photographs: list[Path], seconds: float = 6) -> Path:
    """Motion JPEG, 640x480, each photograph for some seconds, never quite still, for Chromium to play in a loop."""
    rng = np.random.default_rng(0)
    with open(path, "wb") as video:
        for photograph in photographs:
            face = Image.open(photograph).convert("RGB").resize((480, 480), Image.Resampling.LANCZOS)
            frames = []
            for _ in range(10):
                frame = Image.new("RGB", (640, 480), "white")
                frame.paste(face, (80 + int(rng.integers(-3, 4)), int(rng.integers(-3, 4))))
                noisy = np.asarray(frame) + rng.normal(0, 3, (480, 640, 1))
                data = io.BytesIO()
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=90)
                frames.append(data.getvalue())
            for number in range(int(seconds * FRAMES_PER_SECOND)):
                video.write(frames[number % len(frames)])
    return path


def film(path: Path, london: Path, person: str) -> Path:
    """A person of the London set before the webcam: neutral, then happy."""
    return write_webcam_video(path, [london / f"{person}_neutral.jpg", london / f"{person}_happy.jpg"])


def attempt(browser, address: str, reference: Path, video: Path) -> tuple[str, str, str]:
    """Upload the reference, press Start, wait: the decision's CSS class, its text, and all text of the page."""
    with browser(video) as chromium:
        page = chromium.new_context(permissions=["camera"], viewport={"width": 1280, "height": 860}).new_page()
        page.goto(address)
        page.locator("#reference input[type=file]").set_input_files(reference)
        page.get_by_text("One face found").wait_for(timeout=30_000)
        page.locator("#start").click()
        card = page.locator(".card.accepted, .card.rejected")
        card.wait_for(timeout=(TIMEOUT + 40) * 1000)
        return card.get_attribute("class"), card.inner_text(), page.locator("body").inner_text()


@pytest.mark.browser
@pytest.mark.real_data
def test_neutral_then_happy_is_accepted(browser, server, real_data, tmp_path):
    london = real_data / "london"
    video = film(tmp_path / "cam.mjpeg", london, PERSON)
    address, uploads = server
    kind, text, page = attempt(browser, address, london / f"{PERSON}_neutral.jpg", video)
    assert kind == "card accepted", text
    assert "similarity" not in page, "scores are for the operator"
    stored = {path.name for path in uploads.rglob("*") if path.is_file()}
    assert stored <= {f"{PERSON}_neutral.jpg", *UNUSABLE}, "nothing of the stream may be written to disk"


@pytest.mark.browser
@pytest.mark.real_data
def test_another_person_is_rejected(browser, server, real_data, tmp_path):
    london = real_data / "london"
    video = film(tmp_path / "cam.mjpeg", london, STRANGER)
    kind, text, _ = attempt(browser, server[0], london / f"{PERSON}_neutral.jpg", video)
    assert kind == "card rejected"
    assert "does not match" in text


@pytest.mark.browser
@pytest.mark.real_data
def test_a_still_photograph_is_rejected(browser, server, real_data, tmp_path):
    photograph = real_data / "london" / f"{PERSON}_neutral.jpg"
    video = write_webcam_video(tmp_path / "cam.mjpeg", [photograph])
    kind, text, _ = attempt(browser, server[0], photograph, video)
    assert kind == "card rejected"
    assert "time was over" in text


@pytest.mark.browser
def test_references_that_cannot_be_used_are_explained(browser, server, tmp_path):
    rng = np.random.default_rng(0)
    two = Image.new("RGB", (500, 250))
    for place in range(2):
        two.paste(draw_face(place, "neutral", rng), (250 * place, 0))
    two.save(tmp_path / "two.png")
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "nobody.png")
    (tmp_path / "text.jpg").write_text("This is not a picture.")
    with browser() as chromium:
        for name, message in UNUSABLE.items():
            page = chromium.new_page()
            page.goto(server[0])
            page.locator("#start").click()
            page.locator("#instruction").get_by_text("give a reference photograph first").wait_for()
            page.locator("#reference input[type=file]").set_input_files(tmp_path / name)
            page.locator("#note").get_by_text(message).wait_for()
            page.locator("#start").click()
            page.locator("#instruction").get_by_text(message).wait_for()
            assert page.locator("#camera [title='stop recording']").count() == 0, "the camera must stay off"
            page.close()
