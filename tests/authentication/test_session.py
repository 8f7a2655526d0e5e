"""The state machine of the live session, with simulated frames."""

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from actor import (
    BLANK,
    CROWD,
    UNREADABLE,
    Scene,
    follow_challenge,
    frame_for_session,
    make_frame,
    moving,
)

from authentication.session import STEP_SECONDS, Challenge, ChallengeSession, draw_challenge
from authentication.session.machine import HOLD_SECONDS, PATIENCE_SECONDS, RIVAL_SECONDS, TURN_SECONDS
from authentication.session.stream import FROZEN_SECONDS
from pipeline_facelivenet import decide

STEP = 0.1  # seconds between frames of a stream
ACTIONS = ("happy", "surprise", "turn_left", "turn_right")

REST = Scene()
HAPPY = replace(REST, expression="happy", strength=1.0)
SURPRISE = replace(REST, expression="surprise", strength=1.0)
UNSURE = replace(REST, expression="happy", strength=0.38)  # about as likely neutral as happy
STRANGER = Scene(person=1, likeness=0.1)
TWIN = Scene(person=2, likeness=0.75)  # also matches the reference, but is not the face of the earlier frames
BLURRED = replace(REST, likeness=0.45)  # similar to the frames before, but does not match by itself
SMILING = [*moving(REST, "happy"), HAPPY]
STRANGER_HAPPY = replace(STRANGER, expression="happy", strength=1.0)
TWIN_HAPPY = replace(TWIN, expression="happy", strength=1.0)

SMILE = Challenge(("happy",), (0.0,))
LEFT = Challenge(("turn_left",), (0.0,))
LONG = int(STEP_SECONDS / STEP) + 20  # more frames than any step lasts
HOLD = round(HOLD_SECONDS / STEP) + 2  # enough frames to hold a step, with rounding
TURN_HOLD = round(TURN_SECONDS / STEP) + 2


def play(scenes, session=None, start=0.0, step=STEP):
    """Show the scenes one after the other until the session is decided."""
    session = session or ChallengeSession(SMILE)
    for index, scene in enumerate(scenes):
        frame = frame_for_session(scene, session)
        if session.observe(frame, start + index * step).decision:
            break
    return session


def turned(scene: Scene, yaw: float) -> Scene:
    return replace(scene, yaw=yaw)


@pytest.mark.parametrize(
    ("scenes", "reason"),
    [
        pytest.param([REST] * HOLD + SMILING + [HAPPY] * HOLD, "accepted", id="genuine, fast"),
        pytest.param([BLANK] * 15 + [REST] * 30 + [BLANK] * 4 + SMILING + [HAPPY] * 9, "accepted", id="genuine, slow"),
        pytest.param([HAPPY] * 30 + [REST] * HOLD + SMILING + [HAPPY] * HOLD, "accepted", id="smiling too early"),
        pytest.param([REST] * 4 + [BLURRED] + [REST] * 4 + SMILING + [HAPPY] * 9, "accepted", id="a blurred frame"),
        pytest.param(
            [CROWD] * 10 + [REST] * 9 + SMILING + [HAPPY] * 9, "accepted", id="a second person in the background"
        ),
        pytest.param(
            [REST] * 9 + [SURPRISE] * 20 + [REST] + SMILING + [HAPPY] * 9, "accepted", id="another expression"
        ),
        pytest.param([STRANGER] * LONG, "different_person", id="impostor"),
        pytest.param([STRANGER_HAPPY] * LONG, "different_person", id="impostor, happy"),
        pytest.param(([STRANGER_HAPPY] * 4 + [BLANK]) * 9, "different_person", id="impostor who looks away"),
        pytest.param([REST] * 9 + [replace(REST, likeness=0.35)] * LONG, "different_person", id="no longer matches"),
        pytest.param([REST] * 9 + [STRANGER_HAPPY] * 9, "identity_switched", id="swapped for a stranger"),
        pytest.param([REST] * 9 + [STRANGER] * 9, "identity_switched", id="swapped for a stranger at rest"),
        pytest.param([REST] * 9 + [BLANK] * 4 + [STRANGER] * 9, "identity_switched", id="swapped out of view"),
        pytest.param([REST] * 9 + ([BLANK] * 9 + [HAPPY] * 15) * 9, "timed_out", id="exchanged photographs"),
        pytest.param([REST] * 9 + ([CROWD] * 9 + [HAPPY] * 15) * 9, "timed_out", id="exchanged side by side"),
        pytest.param(([REST] * 9 + [HAPPY] * 9) * 9, "timed_out", id="exchanged between two frames"),
        pytest.param([REST] * 9 + [BLANK] * 9 + [REST] * 9 + SMILING + [HAPPY] * 9, "accepted", id="looks away"),
        pytest.param([REST] * LONG, "timed_out", id="still photograph, neutral"),
        pytest.param([HAPPY] * LONG, "timed_out", id="still photograph, happy"),
        pytest.param([HAPPY] * 20 + [REST] * LONG, "timed_out", id="the wrong order"),
        pytest.param([REST, HAPPY] * LONG, "timed_out", id="no expression held"),
        pytest.param([REST] * 9 + [HAPPY, HAPPY, UNSURE, REST] * LONG, "timed_out", id="held with gaps"),
        pytest.param([BLANK] * LONG, "timed_out", id="no face"),
        pytest.param([CROWD] * LONG, "several_faces", id="two people"),
        pytest.param([REST] * 9 + [CROWD] * LONG, "several_faces", id="second face in the second step"),
        pytest.param([REST] * 9 + [BLANK] * LONG, "face_lost", id="the face leaves"),
        pytest.param([REST] * 9 + [UNREADABLE] * LONG, "face_lost", id="unreadable frames"),
        pytest.param([REST] * 9 + [SURPRISE] * LONG, "wrong_expression", id="only another expression"),
        pytest.param([REST] * 9 + [turned(REST, 32)] * LONG, "wrong_turn", id="an unrequested turn"),
    ],
)
def test_outcome(scenes, reason):
    session = play(scenes)
    assert session.step == "decided"
    assert session.decision.reason == reason
    assert session.decision.accepted is (reason == "accepted")


@pytest.mark.parametrize("broken", ["similarity", "probabilities"])
def test_nan_values_never_advance_the_session(broken):
    session = play([REST] * HOLD)
    for index in range(LONG):
        frame = make_frame(HAPPY, session.required_expression)
        decision = decide(
            similarity=math.nan if broken == "similarity" else 0.9,
            threshold=0.5,
            expression_probabilities={"happy": math.nan} if broken == "probabilities" else {"neutral": 0, "happy": 1},
            required_expression="happy",
            expression_threshold=0.5,
            baseline=session.baseline,
        )
        if session.observe(replace(frame, decision=decision), 1 + index * STEP).decision:
            break
    assert session.decision.reason == "timed_out"


def test_every_action_needs_a_neutral_face_before_it():
    both = Challenge(("happy", "surprise"), (0.0, 0.0))
    surprised = [*moving(REST, "surprise"), *[SURPRISE] * HOLD]
    smiled = [REST] * HOLD + SMILING + [HAPPY] * HOLD
    direct = play(smiled + [SURPRISE] * LONG, ChallengeSession(both))
    assert direct.decision.reason == "timed_out" and direct.decision.required_expression == "neutral"
    assert play(smiled + [REST] * HOLD + surprised, ChallengeSession(both)).decision.accepted
    again = Challenge(("happy", "happy"), (0.0, 0.0))
    assert not play([REST] * HOLD + SMILING + [HAPPY] * LONG, ChallengeSession(again)).decision.accepted


def test_a_recording_of_another_action_is_rejected():
    both = Challenge(("happy", "surprise"), (0.0, 0.0))
    session = play([REST] * HOLD + [*moving(REST, "surprise"), *[SURPRISE] * 9], ChallengeSession(both))
    assert session.decision.reason == "wrong_expression"
    alone = play([REST] * HOLD + [*moving(REST, "surprise"), *[SURPRISE] * 9])
    assert alone.decision is None, "the challenge cannot contain surprise, which may occur between other expressions"
    with_alternatives = ChallengeSession(SMILE, alternatives=ACTIONS)
    assert play([REST] * HOLD + [SURPRISE] * (round(RIVAL_SECONDS / STEP) + 2), with_alternatives).decision


def test_an_early_expression_restarts_the_neutral_step():
    """An expression before its request restarts the neutral step, including the pause."""
    session = ChallengeSession(Challenge(("happy",), (1.0,)))
    play([REST] * (HOLD + 2) + [HAPPY] * 9, session)
    assert session.step == "neutral" and session.decision is None
    play([REST] * round((HOLD_SECONDS + 1.0) / STEP), session, start=2.0)
    assert session.step == "neutral"
    play([REST] * 3, session, start=3.6)
    assert session.step == "action"


def test_an_unclear_frame_after_the_neutral_hold_is_ignored():
    session = ChallengeSession(Challenge(("happy",), (0.5,)))
    play([REST] * 7 + [UNSURE] * 2 + [REST] * 4, session)
    assert session.step == "action"


# ---- turns


def turning(yaw: float, scene: Scene = REST, frames: int = 4) -> list[Scene]:
    turn = moving(scene, yaw=yaw, frames=frames)
    return [*turn, *[turn[-1]] * TURN_HOLD, *turn[::-1]]


@pytest.mark.parametrize(("action", "yaw"), [("turn_left", 32), ("turn_right", -32)])
def test_a_head_that_turns_and_returns_is_accepted(action, yaw):
    session = play([REST] * HOLD + turning(yaw), ChallengeSession(Challenge((action,), (0.0,))))
    assert session.passed == 1 and session.step == "neutral", "the head has to face the camera again"
    play([turned(REST, yaw)] * 5, session, start=3.0)
    assert session.decision is None and session.progress().hint == "turn_back"
    play([REST] * HOLD, session, start=3.6)
    assert session.decision.accepted and session.decision.expression_passed


@pytest.mark.parametrize(
    ("scenes", "hint"),
    [
        (turning(12), "turn_more"),
        (turning(-14), "other_side"),
        (turning(45, replace(REST, flat=True)), "turn_more"),
        (turning(60, replace(REST, flat=True)), "turn_more"),
    ],
)
def test_small_wrong_and_flat_turns_do_not_count(scenes, hint):
    rest = replace(scenes[0], yaw=0.0)
    session = play([rest] * HOLD + scenes[: 4 + TURN_HOLD], ChallengeSession(LEFT))
    assert (session.passed, session.decision, session.progress().hint) == (0, None, hint)
    play([rest] * LONG, session, start=2.5)
    assert session.decision.reason == "timed_out"


def test_a_turn_to_the_other_side_is_rejected():
    assert play([REST] * HOLD + turning(-32) + [REST] * 9, ChallengeSession(LEFT)).decision.reason == "wrong_turn"


def test_a_turned_head_may_be_less_similar_but_not_a_stranger():
    front = replace(REST, likeness=0.8)
    turn = [replace(front, yaw=yaw, likeness=0.55) for yaw in (16, 32)] + [replace(front, yaw=32, likeness=0.5)] * 4
    scenes = [front] * HOLD + [replace(front, yaw=8, likeness=0.7), *turn]
    assert play(scenes, ChallengeSession(LEFT)).passed == 1
    stranger = [replace(STRANGER, yaw=yaw) for yaw in (8, 16, 24, 32, 32, 32, 32, 32)]
    assert play([front] * HOLD + stranger, ChallengeSession(LEFT)).decision.reason == "identity_switched"


def test_a_sudden_turn_does_not_count():
    session = play([REST] * HOLD + [turned(REST, 32)] * (TURN_HOLD + 1), ChallengeSession(LEFT))
    assert (session.passed, session.step, session.progress().hint) == (0, "neutral", "too_sudden")


def test_no_turn_counts_without_landmarks():
    session = ChallengeSession(LEFT)
    for index, scene in enumerate([REST] * HOLD + turning(32)):
        session.observe(replace(make_frame(scene, "neutral"), landmarks=None), index * STEP)
    assert session.passed == 0 and session.decision is None


# ---- expressions made with photographs


def test_a_mouth_movement_alone_does_not_count():
    covered = replace(REST, eyes_move=False)
    session = play([covered] * HOLD + [*moving(covered, "happy"), *[replace(HAPPY, eyes_move=False)] * HOLD])
    assert (session.passed, session.step, session.progress().hint) == (0, "action", "mouth_only")
    play([replace(HAPPY, eyes_move=False)] * LONG, session, start=2.0)
    assert session.decision.reason == "timed_out"


def test_no_expression_counts_without_an_image_of_the_upper_face():
    session = ChallengeSession(SMILE)
    for index, scene in enumerate([REST] * HOLD + SMILING + [HAPPY] * HOLD):
        frame = make_frame(scene, session.required_expression)
        session.observe(replace(frame, upper_face=None), index * STEP)
    assert session.passed == 0 and session.decision is None


def test_a_sudden_smile_restarts_the_neutral_step_and_a_gradual_smile_does_not():
    session = play([REST] * HOLD + [HAPPY] * HOLD)
    assert (session.passed, session.step, session.progress().hint) == (0, "neutral", "too_sudden")
    play([REST] * (HOLD + 2) + SMILING + [HAPPY] * HOLD, session, start=2.0)
    assert session.decision.accepted


def test_the_baseline_comes_from_the_neutral_hold():
    session = play([REST] * HOLD)
    assert session.required_action == "happy"
    assert session.baseline["happy"][0] == pytest.approx(-3) and session.baseline["happy"][1] < 0.1
    assert ChallengeSession(SMILE).baseline is None


def test_a_gap_removes_the_baseline():
    session = play([REST] * HOLD)
    assert session.baseline is not None
    play([BLANK] * 8, session, start=1.0)
    assert session.step == "neutral" and session.baseline is None


# ---- identity of the whole session


def smiling_weakly(likeness: float) -> list[Scene]:
    weak = replace(REST, likeness=likeness)
    return [*moving(weak, "happy"), *[replace(weak, expression="happy", strength=1.0)] * 40]


def test_the_similarity_is_that_of_all_counted_frames():
    session = play([REST] * HOLD + SMILING + [HAPPY] * HOLD)
    assert session.decision.accepted
    assert session.decision.similarity == pytest.approx(0.8, abs=0.05)
    weak = smiling_weakly(0.52)
    assert make_frame(weak[-1], "happy").decision.similarity < 0.5, "a single frame does not match"
    assert play([replace(REST, likeness=0.52)] * HOLD + weak).decision.accepted
    weaker = smiling_weakly(0.4)
    assert play([REST] * HOLD + weaker).decision.reason == "different_person", "each step has to be similar enough"


# ---- progress, time, stream


def test_steps_and_progress():
    session = ChallengeSession(Challenge(("happy", "surprise"), (0.0, 0.0)), step_seconds=10)
    assert session.progress().step == "start"
    scenes = [REST, REST, REST, UNSURE, HAPPY, HAPPY, HAPPY, REST]
    seen = []
    for index, scene in enumerate(scenes):
        frame = frame_for_session(scene, session)
        progress = session.observe(frame, 100.0 + index / 2)
        seen.append((progress.step, progress.required_action, progress.passed, progress.held, progress.counted))
    assert seen == [
        ("neutral", "neutral", 0, 0, True),
        ("neutral", "neutral", 0, pytest.approx(2 / 3), True),
        ("action", "happy", 0, 0, True),
        ("action", "happy", 0, 0, False),
        ("action", "happy", 0, 0, True),
        ("action", "happy", 0, pytest.approx(2 / 3), True),
        ("neutral", "neutral", 1, 0, True),
        ("neutral", "neutral", 1, 0, True),
    ]
    assert progress.seconds_left == 9.5
    assert progress.challenge == ("happy", "surprise")


def test_the_identity_is_decided_on_all_counted_frames():
    """The threshold is 0.5. For one step 0.45 is enough if the frames of all steps together reach 0.5."""
    smiling = [replace(scene, likeness=0.52) for scene in (*SMILING, *[HAPPY] * 9)]  # the smile itself: 0.465
    weak_smile = play([REST] * 15 + smiling)
    assert weak_smile.decision.accepted and weak_smile.decision.similarity >= 0.5
    all_weak = play([replace(REST, likeness=0.47)] * 15 + smiling)
    assert (all_weak.decision.reason, all_weak.passed) == ("different_person", 1)
    assert 0.45 < all_weak.decision.similarity < 0.5


def test_a_neutral_face_similar_to_a_smile_starts_later_and_must_smile_more():
    rest = replace(HAPPY, strength=0.4)  # a little more probable than neutral
    smile = [replace(HAPPY, strength=strength) for strength in np.linspace(0.4, 1, 5)]
    at_rest = round((PATIENCE_SECONDS + HOLD_SECONDS) / STEP) + 4
    session = play([rest] * at_rest)
    assert session.step == "action" and session.baseline["happy"][0] > 0
    assert play([rest] * (at_rest - 8)).step == "neutral"
    assert play(smile + [HAPPY] * 9, session, start=at_rest * STEP).decision.accepted
    session = play([rest] * at_rest)
    clear = replace(HAPPY, strength=0.8)  # an increase of 3.2
    assert play([*smile[:3], *[clear] * 20], session, start=at_rest * STEP).decision is None


def test_three_frames_are_needed_at_any_frame_rate():
    half = replace(HAPPY, strength=0.4)
    assert not play([REST] * 2 + [half] + [HAPPY] * 9, step=0.5).decision
    assert play([REST] * 3 + [half] + [HAPPY] * 3, step=0.5).decision.accepted


def test_a_frame_evaluated_for_another_step_does_not_count():
    session = ChallengeSession(SMILE)
    for index in range(9):  # accepted frames, but the session still requires neutral
        session.observe(make_frame(HAPPY, "happy"), index * STEP)
    assert session.step == "neutral"
    session = play([REST] * HOLD)
    for index in range(9):
        session.observe(make_frame(REST, "neutral"), 1 + index * STEP)
    assert session.step == "action"


def test_a_frozen_stream_is_rejected():
    session = play([REST] * HOLD)
    for index in range(99):
        progress = session.observe(make_frame(HAPPY, "happy", b"frozen"), 1 + index * STEP)
        if progress.decision:
            break
    assert progress.decision.reason == "frozen_stream"
    assert FROZEN_SECONDS <= index * STEP <= FROZEN_SECONDS + 2 * STEP


def test_repeated_frames_of_a_slow_camera_count_once():
    session = ChallengeSession(SMILE)
    counted = [
        session.observe(make_frame(REST, "neutral", f"{index // 3}".encode()), index * STEP).counted
        for index in range(6)
    ]
    assert counted == [True, False, False, True, False, False]
    assert session.decision is None


def test_a_looped_video_is_rejected():
    session = ChallengeSession(SMILE)
    for index in range(99):
        progress = session.observe(make_frame(UNSURE, "neutral", f"{index % 20}".encode()), index * STEP)
        if progress.decision:
            break
    assert progress.decision.reason == "frozen_stream"
    dark_room = ChallengeSession(SMILE)  # images without a face may repeat, for example those of a dark room
    for index in range(99):
        assert not dark_room.observe(make_frame(BLANK, "neutral", f"{index % 20}".encode()), index * STEP).decision


@pytest.mark.parametrize("step", [0.9, 3.5])
def test_a_slow_stream_is_rejected(step):
    assert play([REST] * 99, step=step).decision.reason == "slow_stream"


def test_a_gap_interrupts_the_hold():
    session = play([REST] * (HOLD - 3))
    session.observe(make_frame(REST, "neutral"), 2.0)  # the hold time has passed, but without frames
    assert session.step == "neutral"


def test_a_gap_after_the_neutral_step_restarts_it():
    """Another photograph may have been put in front of the camera during the gap."""
    session = play([REST] * HOLD)
    assert session.step == "action"
    play([HAPPY] * 20, session, start=2.0)
    assert session.step == "neutral"
    play([REST] * HOLD + SMILING + [HAPPY] * HOLD, session, start=4.0)
    assert session.decision.accepted


@pytest.mark.parametrize("times", [[1.0, 1.4, 2.4], [0.6, 1.2], [1.01]])
def test_frames_without_a_face_do_not_shorten_a_gap(times):
    """A gap starts at the last frame with a face, not at the first frame without one."""
    session = play([REST] * HOLD)
    assert session.step == "action"
    last = (HOLD - 1) * STEP
    for seconds in times[:-1]:
        session.observe(make_frame(BLANK, "happy"), last + seconds)
    session.observe(make_frame(HAPPY, "happy"), last + times[-1])
    assert session.step == "neutral"


def test_hiding_the_face_does_not_extend_the_time_for_the_action():
    """The pause is known after the first request: an attacker could retry a prepared video until it fits."""
    session = ChallengeSession(SMILE)
    again = [BLANK] * 6 + [REST] * HOLD + [HAPPY] * 3
    for index, scene in enumerate([REST] * HOLD + again * LONG):
        if session.observe(make_frame(scene, session.required_expression), index * STEP).decision:
            break
    assert session.decision.reason == "timed_out"
    assert index * STEP == pytest.approx(HOLD * STEP + STEP_SECONDS, abs=3 * STEP)
    both = ChallengeSession(Challenge(("happy", "happy"), (0.0, 0.0)))  # the next step has its full time
    smile = [REST] * HOLD + SMILING + [HAPPY] * HOLD
    scenes = [REST] * HOLD + [UNSURE] * 80 + [BLANK] * 6 + smile + [UNSURE] * 80
    assert play(scenes + smile, both).decision.accepted


@pytest.mark.parametrize("time", [math.nan, math.inf, -1.0])
def test_an_invalid_time_ends_the_session(time):
    session = play([REST] * HOLD + SMILING)
    assert session.observe(make_frame(HAPPY, "happy"), time).decision.reason == "timed_out"


def test_a_decision_never_changes():
    rejected = play([STRANGER] * LONG)
    before = rejected.decision
    play([REST] * 9 + SMILING + [HAPPY] * 9, rejected, start=30.0)
    assert rejected.decision is before
    assert not before.accepted
    accepted = play([REST] * HOLD + SMILING + [HAPPY] * HOLD)
    before = accepted.decision
    play([STRANGER_HAPPY] * LONG, accepted, start=3.0)
    assert accepted.decision is before


def test_nobody_is_accepted_without_a_threshold():
    session = ChallengeSession(SMILE)
    for index in range(LONG):
        frame = make_frame(REST, session.required_expression)
        decision = decide(
            similarity=1.0,
            threshold=None,
            expression_probabilities={session.required_expression: 1.0},
            required_expression=session.required_expression,
            expression_threshold=0.5,
        )
        if session.observe(replace(frame, decision=decision), index * STEP).decision:
            break
    assert session.decision.reason == "different_person"


# ---- complete sessions


def test_people_who_follow_the_challenge_are_accepted_in_time():
    seconds = []
    for seed in range(12):
        session = ChallengeSession(draw_challenge(ACTIONS, 3, Random(seed)), alternatives=ACTIONS)
        seconds.append(follow_challenge(session))
        assert session.decision.accepted, (session.challenge, session.decision.reason)
    assert np.median(seconds) < 9


@pytest.mark.parametrize(
    ("scene", "reasons"),
    [
        (Scene(flat=True), {"timed_out"}),
        (Scene(person=1, likeness=0.1), {"different_person"}),
        (Scene(person=1, likeness=0.1, flat=True), {"different_person"}),
    ],
)
def test_strangers_and_photographs_are_rejected_for_every_challenge(scene, reasons):
    seen = set()
    for seed in range(6):
        session = ChallengeSession(draw_challenge(ACTIONS, 3, Random(seed)), alternatives=ACTIONS)
        follow_challenge(session, scene)
        seen.add(session.decision.reason)
    assert seen <= reasons
