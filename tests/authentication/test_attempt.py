"""An attempt with the shipped network: drawn people before the camera."""

import io
import logging

import numpy as np
import pytest
from PIL import Image

from authentication.attempt import Attempt
from authentication.authenticator import DEFAULT_MODEL, Authenticator
from authentication.session import Challenge, ChallengeSession
from face_data.drawn import WELL_KNOWN, drawn_photograph

PERSON, STRANGER = WELL_KNOWN[:2]
STEP = 0.2


@pytest.fixture(scope="module")
def shipped() -> Authenticator:
    return Authenticator.from_pretrained(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def faces() -> dict:
    return {
        (person, name): drawn_photograph(person, name, 1, seed=0).resize((360, 360))
        for person in (PERSON, STRANGER)
        for name in ("neutral", "happy")
    }


def play(shipped, scenes, accepted=None) -> list:
    template = shipped.template([drawn_photograph(PERSON, "neutral", 0, seed=0)])
    session = ChallengeSession(Challenge(("happy",), (0.0,)))
    attempt = Attempt(shipped, template, session, accepted or (lambda: None))
    rng = np.random.default_rng(0)
    views = []
    for number, picture in enumerate(scenes):
        noisy = np.asarray(picture) + rng.normal(0, 2, (*picture.size[::-1], 1))
        frame = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        views.append(attempt.observe(frame, number * STEP))
        if views[-1].progress.decision:
            break
    return views


def test_the_person_smiles_and_is_accepted(shipped, faces, caplog):
    calls = []
    with caplog.at_level(logging.INFO, "authentication.attempt"):
        scenes = [faces[PERSON, "neutral"]] * 5 + [faces[PERSON, "happy"]] * 9
        views = play(shipped, scenes, lambda: calls.append(1))
    last = views[-1]
    assert last.progress.decision.accepted and calls == [1]
    assert last.size == (360, 360) and last.evidence.face_count == 1
    moments = last.moments
    assert len(moments) == len(views)
    assert [moment.asked for moment in moments if moment.passed] == ["neutral", "happy"]
    assert all(moment.counted for moment in moments if moment.passed)
    assert moments[0].similarity > 0.6 and moments[0].probability > 0.5 and moments[0].seconds == 0
    assert "accepted" in caplog.text and "0." not in caplog.text.split("frames")[0], "no score in the log"


def test_a_stranger_is_rejected(shipped, faces):
    calls = []
    views = play(shipped, [faces[STRANGER, "neutral"]] * 20, lambda: calls.append(1))
    assert views[-1].progress.decision.reason == "different_person" and not calls


def test_another_person_takes_over(shipped, faces):
    views = play(shipped, [faces[PERSON, "neutral"]] * 5 + [faces[STRANGER, "happy"]] * 9)
    assert views[-1].progress.decision.reason == "identity_switched"


def test_a_frame_that_cannot_be_read_is_a_frame_without_a_face(shipped, faces):
    template = shipped.template([faces[PERSON, "neutral"]])
    attempt = Attempt(shipped, template, ChallengeSession(Challenge(("happy",), (0.0,))))
    view = attempt.observe(b"not a picture", 0.0)
    assert view.progress.frame.reason == "no_frames" and view.evidence is None and view.size == (0, 0)
    assert attempt.observe(Image.new("RGB", (640, 480), "grey"), 0.1).progress.frame.reason == "no_face"
    assert attempt.observe(Image.new("RGB", (1, 1)), 0.2).progress.frame.reason == "no_face"
    assert attempt.observe(faces[PERSON, "neutral"], 0.3).progress.counted


def test_a_frame_larger_than_any_webcams_is_not_decoded(shipped, faces):
    """Frames arrive encoded: a few kB may unfold to hundreds of megabytes, from every client at once."""
    template = shipped.template([faces[PERSON, "neutral"]])
    attempt = Attempt(shipped, template, ChallengeSession(Challenge(("happy",), (0.0,))))
    file = io.BytesIO()
    Image.new("L", (4000, 4000)).save(file, "JPEG")
    view = attempt.observe(file.getvalue(), 0.0)
    assert view.progress.frame.reason == "no_frames" and view.size == (0, 0)
