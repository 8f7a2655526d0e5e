"""How the page shows progress and decisions: instructions, steps, a timeline, and scores only for the operator."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from authentication.attempt import Moment, View
from authentication.authenticator import Evidence
from authentication.session import TURNS, ChallengeSession, Progress, machine
from demo import pictures, words
from pipeline_facelivenet import REASONS, decide, reject

ACCEPTED = decide(
    similarity=0.8765,
    threshold=0.5,
    expression_probabilities={"neutral": 0.1, "happy": 0.9},
    required_expression="happy",
    expression_threshold=0.5,
)


def progress(
    step="neutral", required="neutral", passed=0, frame=None, decision=None, held=0.5, actions=("happy", "turn_left")
):
    hint = frame.reason if frame else None
    return Progress(actions, passed, step, required, held, 11.6, True, hint, frame, decision)


def instruction_and_steps(progress):
    return pictures.instruction(progress) + pictures.steps(progress)


def test_an_action_is_hidden_until_its_step():
    for step in ("start", "neutral"):
        shown = instruction_and_steps(progress(step))
        assert "neutral face" in shown and shown.count(words.SECRET_STEP + "</span>") == 1
        assert not re.search("smile|happy|turn", shown)
    shown = instruction_and_steps(progress("action", "happy"))
    assert "smile" in shown and "turn" not in shown
    again = pictures.instruction(progress("neutral", "neutral", 1))
    assert words.NEUTRAL_AGAIN in again
    assert "to your left" in instruction_and_steps(progress("action", "turn_left", 1))
    ahead = instruction_and_steps(progress("neutral", "neutral", 2))
    assert words.AHEAD_AGAIN in ahead and ahead.count('<span class="step ') == 3


def test_turns_are_drawn_mirrored():
    left, right = (pictures.illustration(name) for name in ("turn_left", "turn_right"))
    assert 'class="arrow" d="M66 88 H24' in left, "an arrow to the left of the screen: the page mirrors the camera"
    assert "matrix(-1 0 0 1 100 0)" in right and "matrix" not in left


def test_the_time_left_and_hints_are_shown():
    shown = pictures.steps(progress(frame=reject("no_face", "neutral")))
    assert "12 s left" in shown and "No face is visible" in shown
    both = reject("different_person_and_wrong_expression", "neutral")
    assert "does not match" in pictures.steps(progress(frame=both))
    assert words.LIVE_ADVICE["dark"] in pictures.steps(progress(frame=both), "dark")
    assert words.HINTS["accepted"] in pictures.steps(progress(frame=ACCEPTED), "dark"), "a dark frame counts"
    assert "left" not in pictures.steps(progress("decided", "happy", 2, ACCEPTED, ACCEPTED, actions=("happy", "sad")))


@pytest.mark.parametrize("reason", sorted(set(REASONS) - {"accepted"}))
def test_a_rejection_shows_its_reason_and_offers_a_new_attempt(reason):
    decision = reject(reason, "happy")
    shown = pictures.instruction(progress("decided", "happy", 0, decision, decision))
    assert "card rejected" in shown and decision.message.replace("'", "&#x27;") in shown and words.AGAIN in shown


def test_only_the_operator_sees_scores():
    done = progress("decided", "happy", 2, ACCEPTED, ACCEPTED, actions=("happy", "sad"))
    moments = [Moment(0.1 * number, "happy", 0.8765, 0.9, True, number == 9) for number in range(10)]
    public = pictures.instruction(done) + pictures.steps(done) + pictures.timeline(moments, 0.5, operator=False)
    assert "0.87" not in public and "0.5" not in public and "polyline" not in public
    assert "0.876 (threshold 0.500)" in pictures.scores(ACCEPTED, "accepted")
    operator = pictures.timeline(moments, 0.5, operator=True)
    assert operator.count("polyline") == 2 and 'class="threshold"' in operator


def test_the_timeline_has_a_band_for_each_step_and_gaps_for_frames_without_a_face():
    moments = [Moment(0.0, "neutral", 0.8, 0.9, True, False), Moment(0.5, "neutral", 0.8, 0.9, True, True)]
    for number, similarity in enumerate((0.7, 0.7, None, 0.7, 0.7)):
        moments.append(Moment(1 + number / 2, "happy", similarity, None, False, False))
    shown = pictures.timeline(moments, 0.5, operator=True)
    assert shown.count("band neutral") == 1 and shown.count("band expression") == 1
    assert shown.count('polyline class="similarity"') == 2, "no line across the frame without a face"
    assert shown.count('class="counted') == 3  # two frames and the legend
    assert pictures.timeline(moments[:1], 0.5, operator=True) == ""


def test_the_oval_shows_the_position_for_the_face_and_turns_green():
    evidence = Evidence(np.ones(1), {}, np.array([10, 20, 110, 170.4]), np.full((5, 2), 60.0), 0.99, 1)
    shown = pictures.overlay(View(progress(), evidence, (640, 480), []))
    assert 'viewBox="0 0 640 480"' in shown and '<ellipse cx="320" cy="230"' in shown
    assert shown.count("<circle") == 5 and "overlay good" in shown
    crowd = Evidence(np.ones(1), {}, evidence.box, evidence.landmarks, 0.99, 2)
    assert "overlay bad" in pictures.overlay(View(progress(), crowd, (640, 480), []))
    assert "<ellipse" in pictures.overlay(View(progress(), None, (640, 480), [])), "also without a face"
    assert pictures.overlay(View(progress(), None, (0, 0), [])) == ""


def test_every_expression_has_texts_and_a_drawing():
    for name in words.ASK:
        assert name in words.HOW and name in words.SHOWN
        assert name in TURNS or (name in pictures.MOUTHS and name in pictures.BROWS)
    assert set(TURNS) < set(words.ASK)


def test_the_page_describes_the_steps_and_the_missing_checks():
    strip = pictures.coming(("happy", *TURNS))
    assert strip.count("<li>") == len(words.COMING) and all(text in strip for text in words.COMING.values())
    assert words.NO_TURNS not in strip
    flat = pictures.coming(("happy",))
    assert flat.count("<li>") == 3 and words.NO_TURNS in flat and "turn your head" not in flat
    assert words.NO_EXPRESSIONS in pictures.coming(TURNS)


def test_every_hint_of_the_session_has_a_sentence():
    source = Path(inspect.getfile(ChallengeSession)).read_text(encoding="utf-8")
    hints = set(re.findall(r'_(?:hint|notice) = "(\w+)"', source)) | {"other_side", "turn_more"}
    assert len(hints) > 5 and hints <= set(words.HINTS)


def test_untrusted_text_is_escaped():
    assert "<script>" not in pictures.card("idle", "<script>", "<script>")


def test_every_final_reason_is_documented(repository):
    """The documentation contains no other reasons."""
    reasons = set(re.findall(r"^    (\w+) {2,}", machine.__doc__, re.MULTILINE))
    final = {name for name in reasons if name in REASONS}
    table = (repository / "docs" / "demo.md").read_text(encoding="utf-8").split("ends the session at once")[1]
    assert set(re.findall(r"^\| `(\w+)` \|", table.split("##")[0], re.MULTILINE)) == final and len(final) == 9
