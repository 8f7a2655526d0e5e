"""The session as a state machine: the face at rest, then an action, and this two to four times.

A step is passed when consecutive frames have counted for long enough:

    neutral    the face of the reference's person, at rest and frontal, for HOLD_SECONDS and a secret pause
    expression the required expression of the same person, for HOLD_SECONDS. It must appear gradually, and the upper
               half of the face must move with the mouth
    turn       the head turned to the required side, for TURN_SECONDS. It must appear gradually, and a flat photograph
               does not pass. The next neutral step requires the head to turn back

Each of these reasons ends the session:

    timed_out          a step took longer than STEP_SECONDS
    different_person   the face was far from the reference for STRANGER_SECONDS, or all counted frames together do not
                       match it
    identity_switched  the face was not that of the previous frames for SWITCH_SECONDS
    several_faces      a second face for CROWD_SECONDS
    face_lost          no face for LOST_SECONDS, after one had been seen
    wrong_expression   another expression than the required one for WRONG_SECONDS, or for RIVAL_SECONDS if it is one of
                       the alternatives, which a recording of another session would show
    wrong_turn         a turn that was not required, for RIVAL_SECONDS
    frozen_stream      the same frame for FROZEN_SECONDS, or repetitions of earlier frames, which a camera never sends
    slow_stream        fewer than MIN_FRAMES_PER_SECOND, or a gap of GAP_SECONDS, in which anything may have happened

If photographs may have been exchanged, the session requires the face at rest again, within the remaining time of the
action. This happens after the face was out of sight, and if an action appeared from one frame to the next.

`attempt` passes frames to it. Read the guards `stream` and `person` next, then `turn` and `movement`.
"""

import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from authentication.session.baseline import Baseline
from authentication.session.challenge import TURNS, Challenge
from authentication.session.frame import Frame, Progress
from authentication.session.movement import was_sudden
from authentication.session.person import STEP_FACTOR, PersonGuard, pooled_similarity
from authentication.session.stream import StreamGuard
from authentication.session.turn import (
    FRONT_PARALLAX,
    LARGEST_NOSE_OFFSET,
    STARTED_PARALLAX,
    face_shape,
    parallax,
    turned_to,
)
from image_processing_facelivenet import nose_offset
from pipeline_facelivenet import (
    FRAMES_TO_HOLD,
    UNUSABLE,
    Decision,
    decide_run,
    has_risen,
    looks_neutral,
    margins,
)

STEP_SECONDS = 12.0
HOLD_SECONDS = 0.5
TURN_SECONDS = 0.3  # shorter, because people soon turn back from a far turn
PATIENCE_SECONDS = 3.0  # of a neutral step, until a face that does not look neutral counts as at rest
WRONG_SECONDS = 2.5
RIVAL_SECONDS = 0.6
MIN_PROBABILITY_SHOWN = 0.5  # probability from which an expression counts as clearly shown
RUN_GAP_SECONDS = 1.0  # frames further apart than this are not consecutive
NOTICE_SECONDS = 2.5  # duration of the hint about a refused action
MAX_RUN_FRAMES = 60  # frames of a step that are stored: two seconds at 30 frames a second


class ChallengeSession:
    """The state of one attempt. It does not change after the decision.

    Args:
        challenge: the required actions.
        step_seconds: time limit for each neutral face and for each action.
        alternatives: all actions that could have been drawn; by default those of the challenge.
    """

    def __init__(
        self, challenge: Challenge, step_seconds: float = STEP_SECONDS, alternatives: Collection[str] | None = None
    ):
        self.challenge = challenge
        self.step_seconds = step_seconds
        self.alternatives = frozenset(challenge.actions if alternatives is None else alternatives)
        self.step = "start"
        self.passed = 0
        self.decision: Decision | None = None
        self._stream, self._person = StreamGuard(), PersonGuard()
        self._time = self._step_began = 0.0
        self._run: list[tuple[float, Frame]] = []  # consecutive frames that count for this step
        self._path: list[tuple[float, np.ndarray]] = []  # (amount of the action, embedding), since it is required
        self._counted: list[Frame] = []  # of the steps before; their embeddings are pooled
        self._baseline: Baseline | None = None
        self._parallax: float | None = None  # of the newest frame; None if unknown
        self._turn: str | None = None  # the turn that the newest frame shows
        self._newest: Decision | None = None
        self._newest_counted = False
        self._hint: str | None = None
        self._notice: tuple[str, float] | None = None  # (hint, time until which it is shown)
        self._wrong_since: dict[str, float] = {}  # condition -> time since which it holds
        self._sent_back = False  # whether the neutral face is required again

    @property
    def required_action(self) -> str:
        """The action to show now: "neutral", or an action of the challenge."""
        if self.step in ("start", "neutral"):
            return "neutral"
        return self.challenge.actions[min(self.passed, len(self.challenge.actions) - 1)]

    @property
    def required_expression(self) -> str:
        """The expression for which to judge the next frame; "neutral" while a turn is required."""
        return "neutral" if self.required_action in TURNS else self.required_action

    @property
    def accepts_any_rest(self) -> bool:
        """The `at_rest` argument of `decide` for the next frame: whether a face that does not look neutral may count.

        Only after PATIENCE_SECONDS: most people look neutral by then, and a neutral face is a better baseline.
        """
        return self.required_action == "neutral" and self._time - self._step_began >= PATIENCE_SECONDS

    @property
    def baseline(self) -> dict[str, tuple[float, float]] | None:
        """The `baseline` argument of `decide` for the next frame; None while the neutral face is required."""
        return self._baseline.margins if self.step == "action" and self._baseline else None

    def progress(self) -> Progress:
        return Progress(
            challenge=self.challenge.actions,
            passed=self.passed,
            step=self.step,
            required_action=self.required_action,
            held=1.0 if self.decision is not None and self.decision.accepted else self._held_share(),
            seconds_left=max(0.0, self.step_seconds - (self._time - self._step_began)),
            counted=self._newest_counted,
            hint=self._notice[0] if self._notice and self._time < self._notice[1] else self._hint,
            frame=self._newest,
            decision=self.decision,
        )

    def observe(self, frame: Frame, now: float) -> Progress:
        """Show the session one frame.

        Args:
            frame: it never advances the session if it has no face, is unreadable, is repeated, or was judged for
                another expression than that of this step.
            now: seconds on the server's monotonic clock.
        """
        if self.decision is not None:
            return self.progress()
        if self.step == "start":
            self._enter("neutral", now)
            self._time = now
        self._newest, self._newest_counted, self._hint = frame.decision, False, frame.decision.reason
        gap, self._time = now - self._time, now
        if not (math.isfinite(gap) and gap >= 0):  # the clock runs backwards, or is not a number
            self._time = self._step_began
            return self._reject("timed_out")
        self._measure_turn(frame)
        new, face = self._stream.is_new(frame.fingerprint), frame.embedding
        turning = self.required_action in TURNS
        reason = (
            self._stream.check(frame.fingerprint, face is not None, now, gap)
            or self._person.check(frame.decision, face, turning, now)
            or self._wrong_action_reason(frame, now)
        )
        if reason is None and now - self._step_began > self.step_seconds:
            reason = "timed_out"
        if reason:
            return self._reject(reason)
        if self._person.was_hidden(face, now, RUN_GAP_SECONDS) and self.step == "action":
            self._send_back()
        if new:
            self._advance(frame, now)
        return self.progress()

    def _advance(self, frame: Frame, now: float) -> None:
        """Count the frame, or start the run again; pass the step when it has been held for long enough."""
        decision, action = frame.decision, self.required_action
        is_judged_for_step = (
            decision.required_expression == self.required_expression and self._person.is_reference_person
        )
        if action in TURNS:
            turned = self._is_turned(action)
            counts = is_judged_for_step and turned
        else:
            counts = is_judged_for_step and decision.expression_passed and decision.reason not in UNUSABLE
            if action == "neutral":
                counts = counts and self._is_frontal(frame)
        if self._run and now - self._run[-1][0] > RUN_GAP_SECONDS:
            self._run = []
        if counts:
            self._run = [*self._run[-MAX_RUN_FRAMES:], (now, frame)]
            self._hint = "accepted"
        elif not (
            self._is_pausing() and self._person.is_reference_person and not self._shows_other_expression(decision)
        ):
            self._run = []
        self._newest_counted = counts
        if self.step == "action" and frame.embedding is not None:
            self._path.append((self._amount(frame, action), frame.embedding))
        if counts and self._held_share() >= 1:
            self._pass(now)

    def _pass(self, now: float) -> None:
        """Enter the next step, unless the pooled frames of the run contradict it."""
        run, action = [frame for _, frame in self._run], self.required_action
        if action in TURNS:
            if turned_to(self._baseline.front, [face_shape(frame.landmarks) for frame in run]) != action:
                return
        elif not self._is_reference_person(run):
            return
        if self.step == "action" and self._is_unnatural(run, action):
            return
        if action not in TURNS:
            self._counted += run
        if self.step == "neutral":
            self._baseline = Baseline.from_frames(run)
            if self.passed == len(self.challenge.actions):
                self._accept(run)
                return
            if not self._sent_back:  # else the time of the same action continues
                self._enter("action", now)
            self.step, self._run = "action", []
            self._path = [(self._amount(run[-1], self.required_action), run[-1].embedding)]
            return
        self.passed += 1
        if self.passed == len(self.challenge.actions) and action not in TURNS:
            self._accept(run)
        else:
            self._enter("neutral", now)

    def _is_reference_person(self, run: list[Frame]) -> bool:
        """Whether these frames, pooled, are close to the reference. All counted frames are judged at the end."""
        threshold = run[-1].decision.threshold
        return threshold is not None and _pooled(run) >= STEP_FACTOR * threshold

    def _is_unnatural(self, run: list[Frame], action: str) -> bool:
        """Whether the action appeared as in exchanged or changed photographs; the hint then says why it does not
        pass."""
        if action not in TURNS:
            resting, bands = self._baseline.resting, [frame.upper_face for frame in run if frame.upper_face is not None]
            if resting is None or not resting.moved(bands):
                self._notice = "mouth_only", self._time + NOTICE_SECONDS
                self._run = []  # it must be held again
                return True
        amounts, embeddings = zip(*self._path, strict=True)
        if was_sudden(amounts, embeddings, self._baseline.embedding):
            self._send_back()
            self._notice = "too_sudden", self._time + NOTICE_SECONDS
            return True
        return False

    def _amount(self, frame: Frame, action: str) -> float:
        """The amount of the action in a frame: its margin over neutral, or the parallax to the required side."""
        if action not in TURNS:
            return margins(frame.decision.expression_probabilities).get(action, 0.0)
        amount = self._parallax or 0.0
        return amount if action == "turn_left" else -amount

    def _measure_turn(self, frame: Frame) -> None:
        """Set the parallax and the turn of the newest frame."""
        front = self._baseline.front if self._baseline else None
        self._parallax = self._turn = None
        if front is not None and frame.landmarks is not None:
            shape = face_shape(frame.landmarks)
            self._parallax, self._turn = parallax(front, shape), turned_to(front, [shape])

    def _is_turned(self, action: str) -> bool:
        """Whether the newest frame shows the turn; sets the hint."""
        if self._parallax is None:
            return False
        self._hint = "different_person"  # replaced by "accepted" if the frame counts
        if self._turn != action:
            wrong_side = abs(self._parallax) > STARTED_PARALLAX and (self._parallax > 0) != (action == "turn_left")
            self._hint = "other_side" if wrong_side else "turn_more"
        return self._turn == action

    def _is_frontal(self, frame: Frame) -> bool:
        """Whether the head is frontal, compared with the baseline, or roughly if there is none; sets the hint."""
        if frame.landmarks is None:
            return True  # without landmarks no turn counts either
        if self._parallax is None:
            is_frontal = abs(nose_offset(frame.landmarks)) <= LARGEST_NOSE_OFFSET
        else:
            is_frontal = abs(self._parallax) <= FRONT_PARALLAX
        if not is_frontal:
            self._hint = "turn_back"
        return is_frontal

    def _held_share(self) -> float:
        """The share of the step's holding time that is done, 0 to 1."""
        if not self._run:
            return 0.0
        seconds = TURN_SECONDS if self.required_action in TURNS else HOLD_SECONDS
        if self.step == "neutral" and self.passed < len(self.challenge.actions):
            seconds += self.challenge.pauses[self.passed]
        return min(len(self._run) / FRAMES_TO_HOLD, (self._run[-1][0] - self._run[0][0]) / seconds, 1.0)

    def _is_pausing(self) -> bool:
        """Whether the neutral face has been held and only its secret pause remains. Then a frame that is not clearly
        neutral does not end the run, unless it shows an action."""
        if self.step != "neutral" or not self._run:
            return False
        return len(self._run) >= FRAMES_TO_HOLD and self._run[-1][0] - self._run[0][0] >= HOLD_SECONDS

    def _shows_other_expression(self, decision: Decision) -> bool:
        """Whether the frame clearly shows an expression that is neither required nor how this face looks at rest."""
        expression, probabilities = decision.expression, decision.expression_probabilities
        if expression is None or expression in ("neutral", self.required_action):
            return False
        if probabilities[expression] < MIN_PROBABILITY_SHOWN:
            return False
        resting = self._baseline.margins if self._baseline else {}
        return looks_neutral(resting) or has_risen(probabilities, expression, resting)

    def _wrong_action_reason(self, frame: Frame, now: float) -> str | None:
        """The reason to end, if another action than the required one has been shown for too long; else None."""
        required, is_action = self.required_action, self.step == "action"
        is_wrong_turn = is_action and self._turn is not None and self._turn != required
        # the expression of a turned head is unreliable
        is_frontal = self._parallax is None or abs(self._parallax) < STARTED_PARALLAX
        shows_other_expression = is_action and is_frontal and self._shows_other_expression(frame.decision)
        is_wrong = shows_other_expression and required not in TURNS
        is_rival = shows_other_expression and frame.decision.expression in self.alternatives
        for name, holds, seconds, reason in (
            ("turned", is_wrong_turn, RIVAL_SECONDS, "wrong_turn"),
            ("rival", is_rival, RIVAL_SECONDS, "wrong_expression"),
            ("wrong", is_wrong, WRONG_SECONDS, "wrong_expression"),
        ):
            if not holds:
                self._wrong_since.pop(name, None)
            elif now - self._wrong_since.setdefault(name, now) >= seconds:
                return reason
        return None

    def _enter(self, step: str, now: float) -> None:
        self.step, self._step_began, self._run, self._path = step, now, [], []
        self._sent_back = False
        self._wrong_since = {}

    def _send_back(self) -> None:
        """Require the neutral face again. The action's time limit continues, because its pause is not secret any more,
        and hiding the face must not give more time."""
        self.step, self._run, self._path, self._sent_back = "neutral", [], [], True
        self._wrong_since = {}

    def _accept(self, run: list[Frame]) -> None:
        """End; the similarity is that of all counted frames, pooled."""
        self._finish(decide_run([frame.decision for frame in run], _pooled(self._counted)))

    def _reject(self, reason: str) -> Progress:
        """End with the scores of the newest frame, which the operator sees."""
        required = self.required_expression
        self._finish(replace(self._newest, accepted=False, reason=reason, required_expression=required))
        return self.progress()

    def _finish(self, decision: Decision) -> None:
        self.decision, self.step = decision, "decided"
        self._person.forget()
        self._stream.forget()
        self._path, self._counted, self._baseline = [], [], None
        if not decision.accepted:
            self._run = []


def _pooled(frames: list[Frame]) -> float:
    return pooled_similarity([frame.decision.similarity for frame in frames], [frame.embedding for frame in frames])
