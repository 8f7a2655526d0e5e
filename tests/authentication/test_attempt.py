"""An attempt with the shipped network: drawn people in front of the camera."""

import io
import logging

import av
import numpy as np
import pytest
from PIL import Image

from authentication.attempt import Attempt
from authentication.authenticator import DEFAULT_MODEL, Authenticator
from authentication.session import Challenge, ChallengeSession
from demo.examples import WELL_KNOWN
from face_data.drawn import drawn_frame, drawn_photograph

PERSON, STRANGER = WELL_KNOWN[:2]
STEP = 0.2


@pytest.fixture(scope="module")
def shipped() -> Authenticator:
    return Authenticator.from_pretrained(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def faces() -> dict:
    """(person, expression, strength, yaw) -> a frame of a film of that person."""
    return {
        (person, "happy", strength, yaw): drawn_frame(person, "happy", strength, yaw, seed=1).resize((360, 360))
        for person in (PERSON, STRANGER)
        for strength, yaw in [(0, 0), (0.25, 0), (0.5, 0), (0.75, 0), (1, 0), (0, 12), (0, 22), (0, 32)]
    }


def film(faces, person=PERSON, smiling=9) -> list:
    """A neutral face, then a gradual smile."""
    growing = [faces[person, "happy", strength, 0] for strength in (0.25, 0.5, 0.75)]
    return [faces[person, "happy", 0, 0]] * 5 + growing + [faces[person, "happy", 1, 0]] * smiling


def play(shipped, scenes, accepted=None, actions=("happy",), reference=None) -> list:
    """The views of an attempt with these frames, one every STEP seconds, until it is decided."""
    template = shipped.template([reference or drawn_photograph(PERSON, "neutral", 0, seed=0)])
    session = ChallengeSession(Challenge(actions, (0.0,) * len(actions)))
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
        views = play(shipped, film(faces), lambda: calls.append(1))
    last = views[-1]
    assert last.progress.decision.accepted and calls == [1]
    assert last.size == (360, 360) and last.evidence.face_count == 1
    moments = last.moments
    assert len(moments) == len(views)
    assert [moment.asked for moment in moments if moment.passed] == ["neutral", "happy"]
    assert all(moment.counted for moment in moments if moment.passed)
    assert moments[0].similarity > 0.6 and moments[0].probability > 0.5 and moments[0].seconds == 0
    assert "accepted" in caplog.text and "0." not in caplog.text.split("frames")[0], "no score in the log"


def test_a_turned_head_counts_and_a_turned_photograph_does_not(shipped, faces):
    front = faces[PERSON, "happy", 0, 0]
    turn = [faces[PERSON, "happy", 0, yaw] for yaw in (12, 22, 32, 32, 32, 32, 22, 12)]
    views = play(shipped, [front] * 5 + turn + [front] * 6, actions=("turn_left",))
    assert views[-1].progress.decision.accepted
    assert [moment.asked for moment in views[-1].moments if moment.passed] == ["neutral", "turn_left"]
    size, narrow = front.size, []
    for share in (0.9, 0.8, 0.7, 0.7, 0.7, 0.7, 0.8, 0.9):  # a turned print only gets narrower
        width = round(size[0] * share)
        narrow.append(Image.new("RGB", size, "grey"))
        narrow[-1].paste(front.resize((width, size[1])), ((size[0] - width) // 2, 0))
    views = play(shipped, [front] * 5 + narrow + [front] * 6, actions=("turn_left",))
    assert views[-1].progress.passed == 0 and views[-1].progress.decision is None


def test_a_smile_and_then_a_turn_are_accepted(shipped, faces):
    """As in a looped film. The session waits for each action."""
    front, turning = faces[PERSON, "happy", 0, 0], [faces[PERSON, "happy", 0, yaw] for yaw in (12, 22, 32, 32, 32)]
    turn = [front] * 8 + turning + turning[1::-1] + [front] * 8
    views = play(shipped, film(faces) + turn, actions=("happy", "turn_left"))
    assert views[-1].progress.decision.accepted
    passed = [moment.asked for moment in views[-1].moments if moment.passed]
    assert [action for action in passed if action != "neutral"] == ["happy", "turn_left"]


def test_a_mouth_painted_on_a_photograph_is_not_a_smile(shipped, faces):
    """The network sees a smile, but the eyes are those of the neutral photograph."""
    neutral, happy = faces[PERSON, "happy", 0, 0], faces[PERSON, "happy", 1, 0]
    nose = round(
        float(shipped.evidence(neutral).landmarks[2, 1])
    )  # the rows above it are those of the neutral photograph
    painted = happy.copy()
    painted.paste(neutral.crop((0, 0, 360, nose)), (0, 0))
    growing = [Image.blend(neutral, painted, share) for share in (0.3, 0.5, 0.75)]
    views = play(shipped, [neutral] * 5 + growing + [painted] * 9)
    assert views[-1].progress.passed == 0 and views[-1].progress.decision is None
    assert "mouth_only" in {view.progress.hint for view in views}, "the network did see a smile"


@pytest.mark.real_data
def test_a_real_smile_is_accepted(shipped, real_data):
    """The smile takes a fifth of a second. Ten frames a second are enough to show that it is gradual."""
    with av.open(real_data / "clips" / "single_face.mp4") as film:
        stream = film.streams.video[0]
        frames = [(float(frame.pts * stream.time_base), frame.to_image()) for frame in film.decode(stream)]
    session = ChallengeSession(Challenge(("happy",), (0.0,)))
    attempt = Attempt(shipped, shipped.template([frames[0][1]]), session)
    for seconds, picture in frames[::3]:
        if attempt.observe(picture, seconds).progress.decision:
            break
    assert session.decision is not None and session.decision.accepted


def test_a_stranger_is_rejected(shipped, faces):
    calls = []
    views = play(shipped, [faces[STRANGER, "happy", 0, 0]] * 20, lambda: calls.append(1))
    assert views[-1].progress.decision.reason == "different_person" and not calls


def test_a_change_of_person_is_rejected(shipped, faces):
    views = play(shipped, [faces[PERSON, "happy", 0, 0]] * 5 + [faces[STRANGER, "happy", 1, 0]] * 9)
    assert views[-1].progress.decision.reason == "identity_switched"


@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_exchanged_photographs_are_rejected(shipped, faces, seconds):
    """Each photograph shows the requested expression, but the change between them is sudden."""
    neutral, happy = faces[PERSON, "happy", 0, 0], faces[PERSON, "happy", 1, 0]
    count = round(seconds / STEP)
    views = play(shipped, ([neutral] * count + [happy] * count) * 12)
    assert views[-1].progress.decision.reason == "timed_out" and views[-1].progress.passed == 0


def test_a_photograph_in_front_of_the_camera_is_rejected(shipped, faces):
    views = play(shipped, [faces[PERSON, "happy", 0, 0]] * 100)
    assert views[-1].progress.decision.reason == "timed_out"


def test_a_film_in_the_wrong_order_is_rejected(shipped, faces):
    """A smile before its request does not count."""
    fading = [faces[PERSON, "happy", strength, 0] for strength in (0.75, 0.5, 0.25)]
    views = play(shipped, [faces[PERSON, "happy", 1, 0]] * 9 + fading + [faces[PERSON, "happy", 0, 0]] * 100)
    assert views[-1].progress.decision.reason == "timed_out"


def test_a_face_that_leaves_ends_the_attempt(shipped, faces):
    empty = Image.new("RGB", (360, 360), (150, 155, 160))
    views = play(shipped, [faces[PERSON, "happy", 0, 0]] * 5 + [empty] * 30)
    assert views[-1].progress.decision.reason == "face_lost"


def test_a_second_face_ends_the_attempt(shipped, faces):
    side_by_side = Image.new("RGB", (720, 360), (150, 155, 160))
    side_by_side.paste(faces[PERSON, "happy", 0, 0], (0, 0))
    alone = side_by_side.copy()
    side_by_side.paste(faces[STRANGER, "happy", 0, 0], (360, 0))
    views = play(shipped, [alone] * 5 + [side_by_side] * 30)
    assert views[-1].progress.decision.reason == "several_faces"


def test_an_unreadable_frame_is_handled_as_a_frame_without_a_face(shipped, faces):
    template = shipped.template([faces[PERSON, "happy", 0, 0]])
    attempt = Attempt(shipped, template, ChallengeSession(Challenge(("happy",), (0.0,))))
    view = attempt.observe(b"not a picture", 0.0)
    assert view.progress.frame.reason == "no_frames" and view.evidence is None and view.size == (0, 0)
    assert attempt.observe(Image.new("RGB", (640, 480), "grey"), 0.1).progress.frame.reason == "no_face"
    assert attempt.observe(Image.new("RGB", (1, 1)), 0.2).progress.frame.reason == "no_face"
    assert attempt.observe(faces[PERSON, "happy", 0, 0], 0.3).progress.counted


def test_a_frame_larger_than_any_webcam_frame_is_not_decoded(shipped, faces):
    """Frames arrive encoded: a few kB can decode to hundreds of megabytes, from all clients at once."""
    template = shipped.template([faces[PERSON, "happy", 0, 0]])
    attempt = Attempt(shipped, template, ChallengeSession(Challenge(("happy",), (0.0,))))
    for side, kind in ((4000, "PNG"), (8000, "JPEG")):  # a JPEG is decoded at half its size
        file = io.BytesIO()
        Image.new("L", (side, side)).save(file, kind)
        view = attempt.observe(file.getvalue(), side / 1e6)
        assert view.progress.frame.reason == "no_frames" and view.size == (0, 0)
