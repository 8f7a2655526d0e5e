"""The live session's state machine, on constructed evidence."""

import math
from collections import Counter

import pytest

from authentication.session import (
    FRAMES_TO_REJECT,
    TIMEOUT_SECONDS,
    ChallengeSession,
    draw_challenge,
)
from pipeline_facelivenet import FRAMES_TO_HOLD, decide, reject

STEP = 0.25  # seconds between frames of a stream

# What stands before the camera: (similarity to the reference, the expression's probabilities).
NEUTRAL = (0.8, {"neutral": 0.9, "happy": 0.1})
HAPPY = (0.8, {"neutral": 0.1, "happy": 0.9})
STRANGER_NEUTRAL = (0.1, NEUTRAL[1])
STRANGER_HAPPY = (0.1, HAPPY[1])
BROKEN = (math.nan, HAPPY[1])
BLANK, CROWD = "no_face", "several_faces"


def judge(scene, required):
    if isinstance(scene, str):
        return reject(scene, required)
    return decide(
        similarity=scene[0],
        threshold=0.5,
        expression_probabilities=scene[1],
        required_expression=required,
        expression_threshold=0.5,
    )


def play(scenes, session=None, start=0.0):
    """Show the scenes one after the other, each frame judged for what the session requires, until it is decided."""
    session = session or ChallengeSession("happy")
    for index, scene in enumerate(scenes):
        progress = session.observe(judge(scene, session.required_expression), start + index * STEP)
        if progress.decision:
            break
    return session


LONG = int(TIMEOUT_SECONDS / STEP) + 2


@pytest.mark.parametrize(
    ("scenes", "reason"),
    [
        pytest.param([NEUTRAL] * 3 + [HAPPY] * 3, "accepted", id="genuine, at once"),
        pytest.param([BLANK] * 9 + [NEUTRAL] * 9 + [BLANK] + [HAPPY] * 9, "accepted", id="genuine, slowly"),
        pytest.param([HAPPY] * 9 + [NEUTRAL] * 3 + [HAPPY] * 3, "accepted", id="genuine, smiling too early"),
        pytest.param(([NEUTRAL] * 4 + [STRANGER_NEUTRAL] * 7) * 2 + [HAPPY] * 3, "accepted", id="flickering identity"),
        pytest.param([CROWD] * 7 + [NEUTRAL] * 3 + [HAPPY] * 3, "accepted", id="somebody passes behind"),
        pytest.param([STRANGER_NEUTRAL] * 9 + [STRANGER_HAPPY] * 9, "different_person", id="impostor"),
        pytest.param([STRANGER_HAPPY] * LONG, "different_person", id="impostor, happy"),
        pytest.param([NEUTRAL] * 3 + [STRANGER_HAPPY] * LONG, "different_person", id="swapped after the neutral step"),
        pytest.param(([STRANGER_HAPPY] * 4 + [BLANK]) * 2, "different_person", id="impostor who looks away"),
        pytest.param([NEUTRAL] * LONG, "timed_out", id="still photograph, neutral"),
        pytest.param([HAPPY] * LONG, "timed_out", id="still photograph, happy"),
        pytest.param([HAPPY] * 20 + [NEUTRAL] * LONG, "timed_out", id="happy, then neutral: the wrong order"),
        pytest.param([NEUTRAL, HAPPY] * LONG, "timed_out", id="nothing held"),
        pytest.param([NEUTRAL] * 3 + [HAPPY, HAPPY, BLANK] * LONG, "timed_out", id="held with gaps"),
        pytest.param([BLANK] * LONG, "timed_out", id="nobody"),
        pytest.param([BROKEN] * LONG, "timed_out", id="NaN"),
        pytest.param([NEUTRAL] * 3 + [BROKEN] * LONG, "timed_out", id="NaN in the second step"),
        pytest.param([CROWD] * LONG, "several_faces", id="two people"),
        pytest.param([NEUTRAL] * 3 + [CROWD] * LONG, "several_faces", id="second face in the second step"),
    ],
)
def test_outcome(scenes, reason):
    session = play(scenes)
    assert session.step == "decided"
    assert session.decision.reason == reason
    assert session.decision.accepted is (reason == "accepted")
    assert session.decision.required_expression == "happy"


def test_steps_and_progress():
    session = ChallengeSession("happy", timeout=10)
    assert session.progress(5.0).step == "start"
    seen = []
    for index, scene in enumerate([NEUTRAL] * 3 + [HAPPY] * 3):
        progress = session.observe(judge(scene, session.required_expression), 100.0 + index)
        seen.append((progress.step, progress.required_expression, progress.held, progress.seconds_left))
    assert seen == [
        ("neutral", "neutral", 1, 10),
        ("neutral", "neutral", 2, 9),
        ("expression", "happy", 0, 8),
        ("expression", "happy", 1, 7),
        ("expression", "happy", 2, 6),
        ("decided", "happy", 0, 5),
    ]


def test_a_frame_judged_for_another_step_does_not_count():
    session = ChallengeSession("happy")
    for index in range(9):
        session.observe(judge(HAPPY, "happy"), index * STEP)  # accepted frames, but the session still asks for neutral
    assert session.step == "neutral"
    session = play([NEUTRAL] * 3)
    for index in range(9):
        session.observe(judge(NEUTRAL, "neutral"), 1 + index * STEP)
    assert session.step == "expression"
    session = play([NEUTRAL] * 3)
    sad = judge((0.8, {"happy": 0.1, "sad": 0.9}), "sad")
    assert sad.accepted
    assert all(session.observe(sad, 1 + index * STEP).decision is None for index in range(9))


@pytest.mark.parametrize("late", [TIMEOUT_SECONDS + 0.01, math.nan, math.inf, -1.0])
def test_a_frame_outside_the_time_ends_the_session(late):
    session = play([NEUTRAL] * FRAMES_TO_HOLD + [HAPPY] * (FRAMES_TO_HOLD - 1))
    assert session.observe(judge(HAPPY, "happy"), late).decision.reason == "timed_out"


def test_once_decided_nothing_changes():
    rejected = play([STRANGER_NEUTRAL] * FRAMES_TO_REJECT)
    before = rejected.decision
    play([NEUTRAL] * 9 + [HAPPY] * 9, rejected, start=3.0)
    assert rejected.decision is before
    assert not before.accepted
    accepted = play([NEUTRAL] * 3 + [HAPPY] * 3)
    before = accepted.decision
    play([STRANGER_HAPPY] * LONG, accepted, start=3.0)
    assert accepted.decision is before


def test_challenge_is_never_neutral_and_covers_the_list():
    drawn = Counter(draw_challenge(["neutral", "happy", "sad", "anger"]) for _ in range(600))
    assert set(drawn) == {"happy", "sad", "anger"}
    assert min(drawn.values()) > 120
    with pytest.raises(ValueError, match="no expression to ask for"):
        draw_challenge(["neutral"])
    for wrong in ("neutral", ""):
        with pytest.raises(ValueError, match="other than neutral"):
            ChallengeSession(wrong)
