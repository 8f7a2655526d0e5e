"""The live session's state machine, on constructed evidence."""

import math
from collections import Counter
from itertools import count
from random import Random

import numpy as np
import pytest

from authentication.session import (
    FROZEN_SECONDS,
    HOLD_SECONDS,
    MAX_EXPRESSIONS,
    PAUSE_SECONDS,
    STEP_SECONDS,
    Challenge,
    ChallengeSession,
    Frame,
    draw_challenge,
    with_pauses,
)
from pipeline_facelivenet import decide, reject

STEP = 0.1  # seconds between frames of a stream
SECOND = round(1 / STEP)

# What stands before the camera: (similarity to the reference, the expression's probabilities, whose face it is).
NEUTRAL = (0.8, {"neutral": 0.9, "happy": 0.05, "surprise": 0.05}, 0)
HAPPY = (0.8, {"neutral": 0.05, "happy": 0.9, "surprise": 0.05}, 0)
SURPRISE = (0.8, {"neutral": 0.05, "happy": 0.05, "surprise": 0.9}, 0)
UNSURE = (0.8, {"neutral": 0.45, "happy": 0.35, "surprise": 0.2}, 0)
DIM = (0.1, NEUTRAL[1], 0)  # the same face as before, but it does not match the reference for a moment
STRANGER_NEUTRAL = (0.1, NEUTRAL[1], 1)
STRANGER_HAPPY = (0.1, HAPPY[1], 1)
TWIN_HAPPY = (0.8, HAPPY[1], 1)  # matches the reference too, and is still not the face that was there
BROKEN = (math.nan, HAPPY[1], 0)
BLANK, CROWD, UNREADABLE = "no_face", "several_faces", "no_frames"

SMILE = Challenge(("happy",), (0.0,))
fresh = count()


def shown(scene, required, fingerprint=None):
    """A frame of the scene, judged for what is required; its picture is a new one by default."""
    fingerprint = f"{next(fresh)}".encode() if fingerprint is None else fingerprint
    if isinstance(scene, str):
        return Frame(reject(scene, required), None, fingerprint)
    similarity, probabilities, face = scene
    decision = decide(
        similarity=similarity,
        threshold=0.5,
        expression_probabilities=probabilities,
        required_expression=required,
        expression_threshold=0.5,
    )
    return Frame(decision, np.eye(4)[face], fingerprint)


def play(scenes, session=None, start=0.0, step=STEP):
    """Show the scenes one after the other until the session is decided."""
    session = session or ChallengeSession(SMILE)
    for index, scene in enumerate(scenes):
        if session.observe(shown(scene, session.required_expression), start + index * step).decision:
            break
    return session


LONG = int(STEP_SECONDS / STEP) + 20  # frames that no step lasts
HOLD = round(HOLD_SECONDS / STEP) + 2  # frames that hold a step, rounding included


@pytest.mark.parametrize(
    ("scenes", "reason"),
    [
        pytest.param([NEUTRAL] * HOLD + [HAPPY] * HOLD, "accepted", id="genuine, at once"),
        pytest.param([BLANK] * 30 + [NEUTRAL] * 30 + [BLANK] * 4 + [HAPPY] * 9, "accepted", id="genuine, slowly"),
        pytest.param([HAPPY] * 30 + [NEUTRAL] * HOLD + [HAPPY] * HOLD, "accepted", id="genuine, smiling too early"),
        pytest.param(([NEUTRAL] * 4 + [DIM] * 15) * 2 + [NEUTRAL] * 9 + [HAPPY] * 9, "accepted", id="flickering"),
        pytest.param([CROWD] * 10 + [NEUTRAL] * 9 + [HAPPY] * 9, "accepted", id="somebody passes behind"),
        pytest.param([NEUTRAL] * 9 + [SURPRISE] * 20 + [HAPPY] * 9, "accepted", id="another expression for a moment"),
        pytest.param([STRANGER_NEUTRAL] * LONG, "different_person", id="impostor"),
        pytest.param([STRANGER_HAPPY] * LONG, "different_person", id="impostor, happy"),
        pytest.param(([STRANGER_HAPPY] * 4 + [BLANK]) * 9, "different_person", id="impostor who looks away"),
        pytest.param([NEUTRAL] * 9 + [DIM] * LONG, "different_person", id="does not match any more"),
        pytest.param([NEUTRAL] * 9 + [STRANGER_HAPPY] * 9, "identity_switched", id="swapped for a stranger"),
        pytest.param([NEUTRAL] * 9 + [TWIN_HAPPY] * 9, "identity_switched", id="swapped for a twin"),
        pytest.param([NEUTRAL] * 9 + [BLANK] * 5 + [TWIN_HAPPY] * 9, "identity_switched", id="swapped out of view"),
        pytest.param([NEUTRAL] * 9 + ([BLANK] * 9 + [HAPPY] * 15) * 9, "timed_out", id="exchanged photographs"),
        pytest.param([NEUTRAL] * 9 + ([CROWD] * 9 + [HAPPY] * 15) * 9, "timed_out", id="exchanged side by side"),
        pytest.param([NEUTRAL] * 9 + [BLANK] * 9 + [NEUTRAL] * 9 + [HAPPY] * 9, "accepted", id="looks away"),
        pytest.param([NEUTRAL] * LONG, "timed_out", id="still photograph, neutral"),
        pytest.param([HAPPY] * LONG, "timed_out", id="still photograph, happy"),
        pytest.param([HAPPY] * 20 + [NEUTRAL] * LONG, "timed_out", id="the wrong order"),
        pytest.param([NEUTRAL, HAPPY] * LONG, "timed_out", id="nothing held"),
        pytest.param([NEUTRAL] * 9 + [HAPPY, HAPPY, UNSURE] * LONG, "timed_out", id="held with gaps"),
        pytest.param([BLANK] * LONG, "timed_out", id="nobody"),
        pytest.param([BROKEN] * LONG, "timed_out", id="NaN"),
        pytest.param([NEUTRAL] * 9 + [BROKEN] * LONG, "timed_out", id="NaN in the second step"),
        pytest.param([CROWD] * LONG, "several_faces", id="two people"),
        pytest.param([NEUTRAL] * 9 + [CROWD] * LONG, "several_faces", id="second face in the second step"),
        pytest.param([NEUTRAL] * 9 + [BLANK] * LONG, "face_lost", id="leaves"),
        pytest.param([NEUTRAL] * 9 + [UNREADABLE] * LONG, "face_lost", id="unreadable frames"),
        pytest.param([NEUTRAL] * 9 + [SURPRISE] * LONG, "wrong_expression", id="another expression"),
    ],
)
def test_outcome(scenes, reason):
    session = play(scenes)
    assert session.step == "decided"
    assert session.decision.reason == reason
    assert session.decision.accepted is (reason == "accepted")


def test_every_expression_needs_a_neutral_face_before_it():
    both = Challenge(("happy", "surprise"), (0.0, 0.0))
    direct = play([NEUTRAL] * HOLD + [HAPPY] * HOLD + [SURPRISE] * LONG, ChallengeSession(both))
    assert direct.decision.reason == "timed_out" and direct.decision.required_expression == "neutral"
    scenes = [NEUTRAL] * HOLD + [HAPPY] * HOLD + [NEUTRAL] * HOLD + [SURPRISE] * HOLD
    assert play(scenes, ChallengeSession(both)).decision.accepted
    order = [NEUTRAL] * HOLD + [SURPRISE] * 9 + [NEUTRAL] * HOLD + [HAPPY] * HOLD + [NEUTRAL] * 30
    assert not play(order, ChallengeSession(both)).decision  # the surprise came too early, and has yet to come again
    again = Challenge(("happy", "happy"), (0.0, 0.0))
    assert not play([NEUTRAL] * HOLD + [HAPPY] * LONG, ChallengeSession(again)).decision.accepted


def test_the_moment_to_smile_cannot_be_foreseen():
    """Whoever shows the expression before it is asked for starts over, and waits again."""
    later = ChallengeSession(Challenge(("happy",), (1.0,)))
    play([NEUTRAL] * (HOLD + 2) + [HAPPY] * 9, later)
    assert later.step == "neutral" and later.decision is None
    play([NEUTRAL] * round((HOLD_SECONDS + 1.0) / STEP), later, start=2.0)
    assert later.step == "neutral"
    play([NEUTRAL] * 3, later, start=3.6)
    assert later.step == "expression"


def test_an_unclear_frame_does_no_harm_once_the_neutral_face_was_held():
    session = ChallengeSession(Challenge(("happy",), (0.5,)))
    play([NEUTRAL] * 7 + [UNSURE] * 2 + [NEUTRAL] * 4, session)
    assert session.step == "expression"
    session = ChallengeSession(Challenge(("happy",), (0.5,)))
    play([NEUTRAL] * 7 + [DIM] * 2 + [NEUTRAL] * 4, session)
    assert session.step == "neutral"


def test_steps_and_progress():
    session = ChallengeSession(Challenge(("happy", "surprise"), (0.0, 0.0)), step_seconds=10)
    assert session.progress().step == "start"
    seen = []
    for index, scene in enumerate([NEUTRAL, NEUTRAL, NEUTRAL, UNSURE, HAPPY, HAPPY, HAPPY, NEUTRAL]):
        progress = session.observe(shown(scene, session.required_expression), 100.0 + index / 2)
        seen.append((progress.step, progress.required_expression, progress.passed, progress.held, progress.counted))
    assert seen == [
        ("neutral", "neutral", 0, 0, True),
        ("neutral", "neutral", 0, pytest.approx(2 / 3), True),
        ("expression", "happy", 0, 0, True),
        ("expression", "happy", 0, 0, False),
        ("expression", "happy", 0, 0, True),
        ("expression", "happy", 0, pytest.approx(2 / 3), True),
        ("neutral", "neutral", 1, 0, True),
        ("neutral", "neutral", 1, 0, True),
    ]
    assert progress.seconds_left == 9.5
    assert progress.challenge == ("happy", "surprise")


def test_three_frames_are_needed_however_slow_they_come():
    assert not play([NEUTRAL] * 2 + [HAPPY] * 9, step=0.5).decision
    assert play([NEUTRAL] * 3 + [HAPPY] * 3, step=0.5).decision.accepted


def test_a_frame_judged_for_another_step_does_not_count():
    session = ChallengeSession(SMILE)
    for index in range(9):  # accepted frames, but the session still asks for neutral
        session.observe(shown(HAPPY, "happy"), index * STEP)
    assert session.step == "neutral"
    session = play([NEUTRAL] * HOLD)
    for index in range(9):
        session.observe(shown(NEUTRAL, "neutral"), 1 + index * STEP)
    assert session.step == "expression"


def test_a_frozen_picture():
    session = play([NEUTRAL] * HOLD)
    for index in range(99):
        progress = session.observe(shown(HAPPY, "happy", b"frozen"), 1 + index * STEP)
        if progress.decision:
            break
    assert progress.decision.reason == "frozen_stream"
    assert FROZEN_SECONDS <= index * STEP <= FROZEN_SECONDS + 2 * STEP


def test_a_slow_camera_repeats_frames_and_they_count_once():
    session = ChallengeSession(SMILE)
    counted = [
        session.observe(shown(NEUTRAL, "neutral", f"{index // 3}".encode()), index * STEP).counted for index in range(6)
    ]
    assert counted == [True, False, False, True, False, False]
    assert session.decision is None


def test_a_looped_video_repeats_itself():
    session = ChallengeSession(SMILE)
    for index in range(99):
        progress = session.observe(shown(UNSURE, "neutral", f"{index % 20}".encode()), index * STEP)
        if progress.decision:
            break
    assert progress.decision.reason == "frozen_stream"
    room = ChallengeSession(SMILE)  # an empty, dark picture may well be the same again
    for index in range(99):
        assert not room.observe(shown(BLANK, "neutral", f"{index % 20}".encode()), index * STEP).decision


@pytest.mark.parametrize("step", [0.9, 3.5])
def test_a_stream_that_is_too_slow(step):
    assert play([NEUTRAL] * 99, step=step).decision.reason == "slow_stream"


def test_a_gap_breaks_the_run():
    session = play([NEUTRAL] * (HOLD - 3))
    session.observe(shown(NEUTRAL, "neutral"), 2.0)  # long enough after the first, but nobody saw what was between
    assert session.step == "neutral"


def test_what_happened_in_a_gap_nobody_saw():
    """After the neutral face as little as within a run: it might be another photograph now."""
    session = play([NEUTRAL] * HOLD)
    assert session.step == "expression"
    play([HAPPY] * 20, session, start=2.0)
    assert session.step == "neutral"
    play([NEUTRAL] * HOLD + [HAPPY] * HOLD, session, start=4.0)
    assert session.decision.accepted


@pytest.mark.parametrize("apart", [[1.0, 1.4, 2.4], [0.6, 1.2], [1.01]])
def test_what_happened_between_frames_and_faceless_frames(apart):
    """It is since the last face that nobody saw anything, not since the first frame without one."""
    session = play([NEUTRAL] * HOLD)
    assert session.step == "expression"
    last = (HOLD - 1) * STEP
    for seconds in apart[:-1]:
        session.observe(shown(BLANK, "happy"), last + seconds)
    session.observe(shown(HAPPY, "happy"), last + apart[-1])
    assert session.step == "neutral"


def test_one_faceless_frame_of_a_slow_stream_is_forgiven():
    session = play([NEUTRAL] * 3 + [BLANK] + [HAPPY] * 3, step=0.4)
    assert session.decision.accepted


def test_hiding_gives_no_new_time_for_the_expression():
    """The pause before it is known by then, and a prepared video could be tried until it fits."""
    session = ChallengeSession(SMILE)
    again = [BLANK] * 6 + [NEUTRAL] * HOLD + [HAPPY] * 3
    scenes = [NEUTRAL] * HOLD + again * LONG
    for index, scene in enumerate(scenes):
        if session.observe(shown(scene, session.required_expression), index * STEP).decision:
            break
    assert session.decision.reason == "timed_out"
    assert index * STEP == pytest.approx(HOLD * STEP + STEP_SECONDS, abs=3 * STEP)
    both = ChallengeSession(Challenge(("happy", "happy"), (0.0, 0.0)))  # and the next step has all of its own
    scenes = [NEUTRAL] * HOLD + [UNSURE] * 90 + [BLANK] * 6 + [NEUTRAL] * HOLD + [HAPPY] * HOLD + [UNSURE] * 90
    play(scenes + [NEUTRAL] * HOLD + [HAPPY] * HOLD, both)
    assert both.decision.accepted


@pytest.mark.parametrize("late", [math.nan, math.inf, -1.0])
def test_a_clock_that_is_none_ends_the_session(late):
    session = play([NEUTRAL] * HOLD + [HAPPY] * (HOLD - 3))
    assert session.observe(shown(HAPPY, "happy"), late).decision.reason == "timed_out"


def test_once_decided_nothing_changes():
    rejected = play([STRANGER_NEUTRAL] * LONG)
    before = rejected.decision
    play([NEUTRAL] * 9 + [HAPPY] * 9, rejected, start=30.0)
    assert rejected.decision is before
    assert not before.accepted
    accepted = play([NEUTRAL] * HOLD + [HAPPY] * HOLD)
    before = accepted.decision
    play([STRANGER_HAPPY] * LONG, accepted, start=3.0)
    assert accepted.decision is before


def test_without_a_threshold_nobody_gets_in():
    session = ChallengeSession(SMILE)
    for index in range(LONG):
        decision = decide(
            similarity=1.0,
            threshold=None,
            expression_probabilities={session.required_expression: 1.0},
            required_expression=session.required_expression,
            expression_threshold=0.5,
        )
        if session.observe(Frame(decision, np.eye(4)[0], f"{index}".encode()), index * STEP).decision:
            break
    assert session.decision.reason == "different_person"


def test_challenges_are_drawn_from_the_list():
    names = ["neutral", "happy", "sad", "anger"]
    drawn = [draw_challenge(names) for _ in range(600)]
    assert Counter(len(one.expressions) for one in drawn).keys() == {1, 2, 3} and MAX_EXPRESSIONS == 3
    first = Counter(one.expressions[0] for one in drawn)
    assert set(first) == {"happy", "sad", "anger"} and min(first.values()) > 120
    for one in drawn:
        assert all(a != b for a, b in zip(one.expressions, one.expressions[1:], strict=False))
        assert all(PAUSE_SECONDS[0] <= pause <= PAUSE_SECONDS[1] for pause in one.pauses)
    assert len({pause for one in drawn for pause in one.pauses}) > 1000
    only = {draw_challenge(["happy"]).expressions for _ in range(99)}
    assert only == {("happy",), ("happy", "happy")}
    assert draw_challenge(names, 2, Random(1)) == draw_challenge(names, 2, Random(1))


def test_what_cannot_be_asked_for():
    with pytest.raises(ValueError, match="no expression to ask for"):
        draw_challenge(["neutral"])
    for wrong in (["neutral"], [""], []):
        with pytest.raises(ValueError, match="other than neutral"):
            with_pauses(wrong)
    for pauses in ((), (-1.0,), (math.nan,), (STEP_SECONDS,)):
        with pytest.raises(ValueError, match="one pause of 0 to 12 seconds"):
            Challenge(("happy",), pauses)
