"""The live session's state machine, on constructed evidence."""

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
    judged,
    moving,
    reply,
    shown,
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
TWIN = Scene(person=2, likeness=0.75)  # matches the reference too, and is still not the face that was there
BLURRED = replace(REST, likeness=0.45)  # follows the face before, and does not match by itself
SMILING = [*moving(REST, "happy"), HAPPY]
STRANGER_HAPPY = replace(STRANGER, expression="happy", strength=1.0)
TWIN_HAPPY = replace(TWIN, expression="happy", strength=1.0)

SMILE = Challenge(("happy",), (0.0,))
LEFT = Challenge(("turn_left",), (0.0,))
LONG = int(STEP_SECONDS / STEP) + 20  # frames that no step lasts
HOLD = round(HOLD_SECONDS / STEP) + 2  # frames that hold a step, rounding included
TURN_HOLD = round(TURN_SECONDS / STEP) + 2


def play(scenes, session=None, start=0.0, step=STEP):
    """Show the scenes one after the other until the session is decided."""
    session = session or ChallengeSession(SMILE)
    for index, scene in enumerate(scenes):
        frame = judged(scene, session)
        if session.observe(frame, start + index * step).decision:
            break
    return session


def turned(scene: Scene, yaw: float) -> Scene:
    return replace(scene, yaw=yaw)


@pytest.mark.parametrize(
    ("scenes", "reason"),
    [
        pytest.param([REST] * HOLD + SMILING + [HAPPY] * HOLD, "accepted", id="genuine, at once"),
        pytest.param([BLANK] * 15 + [REST] * 30 + [BLANK] * 4 + SMILING + [HAPPY] * 9, "accepted", id="slowly"),
        pytest.param([HAPPY] * 30 + [REST] * HOLD + SMILING + [HAPPY] * HOLD, "accepted", id="smiling too early"),
        pytest.param([REST] * 4 + [BLURRED] + [REST] * 4 + SMILING + [HAPPY] * 9, "accepted", id="a blurred frame"),
        pytest.param([CROWD] * 10 + [REST] * 9 + SMILING + [HAPPY] * 9, "accepted", id="somebody passes behind"),
        pytest.param(
            [REST] * 9 + [SURPRISE] * 20 + [REST] + SMILING + [HAPPY] * 9, "accepted", id="another expression"
        ),
        pytest.param([STRANGER] * LONG, "different_person", id="impostor"),
        pytest.param([STRANGER_HAPPY] * LONG, "different_person", id="impostor, happy"),
        pytest.param(([STRANGER_HAPPY] * 4 + [BLANK]) * 9, "different_person", id="impostor who looks away"),
        pytest.param([REST] * 9 + [replace(REST, likeness=0.35)] * LONG, "different_person", id="matches no more"),
        pytest.param([REST] * 9 + [STRANGER_HAPPY] * 9, "identity_switched", id="swapped for a stranger"),
        pytest.param([REST] * 9 + [STRANGER] * 9, "identity_switched", id="swapped for a stranger at rest"),
        pytest.param([REST] * 9 + [BLANK] * 4 + [STRANGER] * 9, "identity_switched", id="swapped out of view"),
        pytest.param([REST] * 9 + ([BLANK] * 9 + [HAPPY] * 15) * 9, "timed_out", id="exchanged photographs"),
        pytest.param([REST] * 9 + ([CROWD] * 9 + [HAPPY] * 15) * 9, "timed_out", id="exchanged side by side"),
        pytest.param(([REST] * 9 + [HAPPY] * 9) * 9, "timed_out", id="exchanged from one frame to the next"),
        pytest.param([REST] * 9 + [BLANK] * 9 + [REST] * 9 + SMILING + [HAPPY] * 9, "accepted", id="looks away"),
        pytest.param([REST] * LONG, "timed_out", id="still photograph, neutral"),
        pytest.param([HAPPY] * LONG, "timed_out", id="still photograph, happy"),
        pytest.param([HAPPY] * 20 + [REST] * LONG, "timed_out", id="the wrong order"),
        pytest.param([REST, HAPPY] * LONG, "timed_out", id="nothing held"),
        pytest.param([REST] * 9 + [HAPPY, HAPPY, UNSURE, REST] * LONG, "timed_out", id="held with gaps"),
        pytest.param([BLANK] * LONG, "timed_out", id="nobody"),
        pytest.param([CROWD] * LONG, "several_faces", id="two people"),
        pytest.param([REST] * 9 + [CROWD] * LONG, "several_faces", id="second face in the second step"),
        pytest.param([REST] * 9 + [BLANK] * LONG, "face_lost", id="leaves"),
        pytest.param([REST] * 9 + [UNREADABLE] * LONG, "face_lost", id="unreadable frames"),
        pytest.param([REST] * 9 + [SURPRISE] * LONG, "wrong_expression", id="another expression throughout"),
        pytest.param([REST] * 9 + [turned(REST, 32)] * LONG, "wrong_turn", id="turns unasked"),
    ],
)
def test_outcome(scenes, reason):
    session = play(scenes)
    assert session.step == "decided"
    assert session.decision.reason == reason
    assert session.decision.accepted is (reason == "accepted")


@pytest.mark.parametrize("broken", ["similarity", "probabilities"])
def test_numbers_that_are_none_never_advance(broken):
    session = play([REST] * HOLD)
    for index in range(LONG):
        frame = shown(HAPPY, session.required_expression)
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


def test_a_recording_in_another_order_shows_what_might_have_been_asked():
    both = Challenge(("happy", "surprise"), (0.0, 0.0))
    session = play([REST] * HOLD + [*moving(REST, "surprise"), *[SURPRISE] * 9], ChallengeSession(both))
    assert session.decision.reason == "wrong_expression"
    alone = play([REST] * HOLD + [*moving(REST, "surprise"), *[SURPRISE] * 9])
    assert alone.decision is None, "which cannot be asked for here, and faces pass through many"
    told = ChallengeSession(SMILE, alternatives=ACTIONS)
    assert play([REST] * HOLD + [SURPRISE] * (round(RIVAL_SECONDS / STEP) + 2), told).decision


def test_the_moment_cannot_be_foreseen():
    """Whoever shows the expression before it is asked for starts over, and waits again."""
    later = ChallengeSession(Challenge(("happy",), (1.0,)))
    play([REST] * (HOLD + 2) + [HAPPY] * 9, later)
    assert later.step == "neutral" and later.decision is None
    play([REST] * round((HOLD_SECONDS + 1.0) / STEP), later, start=2.0)
    assert later.step == "neutral"
    play([REST] * 3, later, start=3.6)
    assert later.step == "action"


def test_an_unclear_frame_does_no_harm_once_the_neutral_face_was_held():
    session = ChallengeSession(Challenge(("happy",), (0.5,)))
    play([REST] * 7 + [UNSURE] * 2 + [REST] * 4, session)
    assert session.step == "action"


# ---- turns


def turning(yaw: float, scene: Scene = REST, frames: int = 4) -> list[Scene]:
    way = moving(scene, yaw=yaw, frames=frames)
    return [*way, *[way[-1]] * TURN_HOLD, *way[::-1]]


@pytest.mark.parametrize(("asked", "yaw"), [("turn_left", 32), ("turn_right", -32)])
def test_a_head_that_turns_and_comes_back(asked, yaw):
    session = play([REST] * HOLD + turning(yaw), ChallengeSession(Challenge((asked,), (0.0,))))
    assert session.passed == 1 and session.step == "neutral", "it has to look ahead again"
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
def test_what_is_no_turn(scenes, hint):
    rest = replace(scenes[0], yaw=0.0)
    session = play([rest] * HOLD + scenes[: 4 + TURN_HOLD], ChallengeSession(LEFT))
    assert (session.passed, session.decision, session.progress().hint) == (0, None, hint)
    play([rest] * LONG, session, start=2.5)
    assert session.decision.reason == "timed_out"


def test_the_other_side_is_wrong():
    assert play([REST] * HOLD + turning(-32) + [REST] * 9, ChallengeSession(LEFT)).decision.reason == "wrong_turn"


def test_a_turned_head_may_look_less_like_the_reference_but_not_like_another():
    likely = replace(REST, likeness=0.8)
    dim = [replace(likely, yaw=yaw, likeness=0.55) for yaw in (16, 32)] + [replace(likely, yaw=32, likeness=0.5)] * 4
    scenes = [likely] * HOLD + [replace(likely, yaw=8, likeness=0.7), *dim]
    assert play(scenes, ChallengeSession(LEFT)).passed == 1
    stranger = [replace(STRANGER, yaw=yaw) for yaw in (8, 16, 24, 32, 32, 32, 32, 32)]
    assert play([likely] * HOLD + stranger, ChallengeSession(LEFT)).decision.reason == "identity_switched"


def test_a_turn_from_one_frame_to_the_next_is_an_exchange():
    session = play([REST] * HOLD + [turned(REST, 32)] * (TURN_HOLD + 1), ChallengeSession(LEFT))
    assert (session.passed, session.step, session.progress().hint) == (0, "neutral", "too_sudden")


def test_without_landmarks_no_turn_is_seen():
    session = ChallengeSession(LEFT)
    for index, scene in enumerate([REST] * HOLD + turning(32)):
        session.observe(replace(shown(scene, "neutral"), landmarks=None), index * STEP)
    assert session.passed == 0 and session.decision is None


# ---- expressions that photographs make


def test_a_mouth_that_moves_alone_does_not_count():
    covered = replace(REST, eyes_move=False)
    session = play([covered] * HOLD + [*moving(covered, "happy"), *[replace(HAPPY, eyes_move=False)] * HOLD])
    assert (session.passed, session.step, session.progress().hint) == (0, "action", "mouth_only")
    play([replace(HAPPY, eyes_move=False)] * LONG, session, start=2.0)
    assert session.decision.reason == "timed_out"


def test_without_a_picture_of_the_face_no_expression_counts():
    session = ChallengeSession(SMILE)
    for index, scene in enumerate([REST] * HOLD + SMILING + [HAPPY] * HOLD):
        frame = shown(scene, session.required_expression)
        session.observe(replace(frame, upper_face=None), index * STEP)
    assert session.passed == 0 and session.decision is None


def test_an_exchange_is_sent_back_and_a_smile_that_grows_is_not():
    session = play([REST] * HOLD + [HAPPY] * HOLD)
    assert (session.passed, session.step, session.progress().hint) == (0, "neutral", "too_sudden")
    play([REST] * (HOLD + 2) + SMILING + [HAPPY] * HOLD, session, start=2.0)
    assert session.decision.accepted


def test_the_baseline_is_that_of_the_face_held_neutral():
    session = play([REST] * HOLD)
    assert session.required_action == "happy"
    assert session.baseline["happy"][0] == pytest.approx(-3) and session.baseline["happy"][1] < 0.1
    assert ChallengeSession(SMILE).baseline is None


def test_the_baseline_is_taken_anew_after_a_gap():
    session = play([REST] * HOLD)
    assert session.baseline is not None
    play([BLANK] * 8, session, start=1.0)
    assert session.step == "neutral" and session.baseline is None


# ---- identity of the whole session


def smiling_weakly(likeness: float) -> list[Scene]:
    weak = replace(REST, likeness=likeness)
    return [*moving(weak, "happy"), *[replace(weak, expression="happy", strength=1.0)] * 40]


def test_the_identity_is_that_of_all_frames_that_counted():
    session = play([REST] * HOLD + SMILING + [HAPPY] * HOLD)
    assert session.decision.accepted
    assert session.decision.similarity == pytest.approx(0.8, abs=0.05)
    weak = smiling_weakly(0.52)
    assert shown(weak[-1], "happy").decision.similarity < 0.5, "by itself it would not match"
    assert play([replace(REST, likeness=0.52)] * HOLD + weak).decision.accepted
    weaker = smiling_weakly(0.4)
    assert play([REST] * HOLD + weaker).decision.reason == "different_person", "a step of its own is no stranger's"


# ---- progress, time, stream


def test_steps_and_progress():
    session = ChallengeSession(Challenge(("happy", "surprise"), (0.0, 0.0)), step_seconds=10)
    assert session.progress().step == "start"
    scenes = [REST, REST, REST, UNSURE, HAPPY, HAPPY, HAPPY, REST]
    seen = []
    for index, scene in enumerate(scenes):
        frame = judged(scene, session)
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


def test_identity_is_decided_on_all_frames_that_counted():
    """The threshold is 0.5. In a step 0.45 is enough, if the frames of all steps together reach it."""
    smiling = [replace(scene, likeness=0.52) for scene in (*SMILING, *[HAPPY] * 9)]  # the smile itself: 0.465
    weak_smile = play([REST] * 15 + smiling)
    assert weak_smile.decision.accepted and weak_smile.decision.similarity >= 0.5
    all_weak = play([replace(REST, likeness=0.47)] * 15 + smiling)
    assert (all_weak.decision.reason, all_weak.passed) == ("different_person", 1)
    assert 0.45 < all_weak.decision.similarity < 0.5


def test_a_face_whose_rest_looks_like_a_smile_may_begin_a_little_later_and_must_smile_more():
    rest = replace(HAPPY, strength=0.4)  # a little more probable than neutral
    smile = [replace(HAPPY, strength=strength) for strength in np.linspace(0.4, 1, 5)]
    at_rest = round((PATIENCE_SECONDS + HOLD_SECONDS) / STEP) + 4
    session = play([rest] * at_rest)
    assert session.step == "action" and session.baseline["happy"][0] > 0
    assert play([rest] * (at_rest - 8)).step == "neutral"
    assert play(smile + [HAPPY] * 9, session, start=at_rest * STEP).decision.accepted
    session = play([rest] * at_rest)
    clear = replace(HAPPY, strength=0.8)  # has risen by 3.2
    assert play([*smile[:3], *[clear] * 20], session, start=at_rest * STEP).decision is None


def test_three_frames_are_needed_however_slow_they_come():
    half = replace(HAPPY, strength=0.4)
    assert not play([REST] * 2 + [half] + [HAPPY] * 9, step=0.5).decision
    assert play([REST] * 3 + [half] + [HAPPY] * 3, step=0.5).decision.accepted


def test_a_frame_judged_for_another_step_does_not_count():
    session = ChallengeSession(SMILE)
    for index in range(9):  # accepted frames, but the session still asks for neutral
        session.observe(shown(HAPPY, "happy"), index * STEP)
    assert session.step == "neutral"
    session = play([REST] * HOLD)
    for index in range(9):
        session.observe(shown(REST, "neutral"), 1 + index * STEP)
    assert session.step == "action"


def test_a_frozen_picture():
    session = play([REST] * HOLD)
    for index in range(99):
        progress = session.observe(shown(HAPPY, "happy", b"frozen"), 1 + index * STEP)
        if progress.decision:
            break
    assert progress.decision.reason == "frozen_stream"
    assert FROZEN_SECONDS <= index * STEP <= FROZEN_SECONDS + 2 * STEP


def test_a_slow_camera_repeats_frames_and_they_count_once():
    session = ChallengeSession(SMILE)
    counted = [
        session.observe(shown(REST, "neutral", f"{index // 3}".encode()), index * STEP).counted for index in range(6)
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
    assert play([REST] * 99, step=step).decision.reason == "slow_stream"


def test_a_gap_breaks_the_run():
    session = play([REST] * (HOLD - 3))
    session.observe(shown(REST, "neutral"), 2.0)  # long enough after the first, but nobody saw what was between
    assert session.step == "neutral"


def test_what_happened_in_a_gap_nobody_saw():
    """After the neutral face as little as within a run: it might be another photograph now."""
    session = play([REST] * HOLD)
    assert session.step == "action"
    play([HAPPY] * 20, session, start=2.0)
    assert session.step == "neutral"
    play([REST] * HOLD + SMILING + [HAPPY] * HOLD, session, start=4.0)
    assert session.decision.accepted


@pytest.mark.parametrize("apart", [[1.0, 1.4, 2.4], [0.6, 1.2], [1.01]])
def test_what_happened_between_frames_and_faceless_frames(apart):
    """It is since the last face that nobody saw anything, not since the first frame without one."""
    session = play([REST] * HOLD)
    assert session.step == "action"
    last = (HOLD - 1) * STEP
    for seconds in apart[:-1]:
        session.observe(shown(BLANK, "happy"), last + seconds)
    session.observe(shown(HAPPY, "happy"), last + apart[-1])
    assert session.step == "neutral"


def test_hiding_gives_no_new_time_for_the_action():
    """The pause before it is known by then, and a prepared video could be tried until it fits."""
    session = ChallengeSession(SMILE)
    again = [BLANK] * 6 + [REST] * HOLD + [HAPPY] * 3
    for index, scene in enumerate([REST] * HOLD + again * LONG):
        if session.observe(shown(scene, session.required_expression), index * STEP).decision:
            break
    assert session.decision.reason == "timed_out"
    assert index * STEP == pytest.approx(HOLD * STEP + STEP_SECONDS, abs=3 * STEP)
    both = ChallengeSession(Challenge(("happy", "happy"), (0.0, 0.0)))  # and the next step has all of its own
    smile = [REST] * HOLD + SMILING + [HAPPY] * HOLD
    scenes = [REST] * HOLD + [UNSURE] * 80 + [BLANK] * 6 + smile + [UNSURE] * 80
    assert play(scenes + smile, both).decision.accepted


@pytest.mark.parametrize("late", [math.nan, math.inf, -1.0])
def test_a_clock_that_is_none_ends_the_session(late):
    session = play([REST] * HOLD + SMILING)
    assert session.observe(shown(HAPPY, "happy"), late).decision.reason == "timed_out"


def test_once_decided_nothing_changes():
    rejected = play([STRANGER] * LONG)
    before = rejected.decision
    play([REST] * 9 + SMILING + [HAPPY] * 9, rejected, start=30.0)
    assert rejected.decision is before
    assert not before.accepted
    accepted = play([REST] * HOLD + SMILING + [HAPPY] * HOLD)
    before = accepted.decision
    play([STRANGER_HAPPY] * LONG, accepted, start=3.0)
    assert accepted.decision is before


def test_without_a_threshold_nobody_gets_in():
    session = ChallengeSession(SMILE)
    for index in range(LONG):
        frame = shown(REST, session.required_expression)
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


# ---- whole sessions of people who do what is asked


def test_people_who_do_what_is_asked_are_accepted_in_time():
    seconds = []
    for seed in range(12):
        session = ChallengeSession(draw_challenge(ACTIONS, 3, Random(seed)), alternatives=ACTIONS)
        seconds.append(reply(session))
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
def test_nobody_else_is_accepted_whatever_is_drawn(scene, reasons):
    seen = set()
    for seed in range(6):
        session = ChallengeSession(draw_challenge(ACTIONS, 3, Random(seed)), alternatives=ACTIONS)
        reply(session, scene)
        seen.add(session.decision.reason)
    assert seen <= reasons
