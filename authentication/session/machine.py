"""The session as a state machine: a neutral face, then an action, two to four times over.

A step is passed when frames have counted one after the other for a while:

    neutral    the neutral face of the reference's person, looking ahead, for HOLD_SECONDS and a pause nobody knows
    expression the asked expression, of the same person, for HOLD_SECONDS; it came gradually, and the upper half of the
               face moved with the mouth
    turn       the head turned to the asked side, for TURN_SECONDS, as a flat picture cannot be; it came gradually, and
               the neutral face that follows is the way back to the front

What may not happen ends the session with a reason of its own:

    timed_out          a step took longer than STEP_SECONDS
    different_person   not the person of the reference for STRANGER_SECONDS
    identity_switched  not the person of the frames before, and not again within SWITCH_SECONDS
    several_faces      a second face for CROWD_SECONDS
    face_lost          no face for LOST_SECONDS, after one had been seen
    wrong_expression   another expression than the asked one for WRONG_SECONDS; one that might have been asked for, for
                       RIVAL_SECONDS: a recording of another session shows these
    wrong_turn         a turn that was not asked for, for RIVAL_SECONDS
    frozen_stream      the same picture for FROZEN_SECONDS, or frames that were shown before: a camera's never are
    slow_stream        less than MIN_FRAMES_PER_SECOND, or a gap of GAP_SECONDS, in which anything may have happened

And what may be an exchange of pictures sends an action back to its neutral face, within the time the action has left:
a face that was out of sight, and an action that was there from one frame to the next.
"""

import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from authentication.session.baseline import Baseline
from authentication.session.challenge import TURNS, Challenge
from authentication.session.frame import Frame, Progress
from authentication.session.movement import was_sudden
from authentication.session.person import CONTINUITY_FACTOR, PersonGuard, pooled_similarity
from authentication.session.stream import StreamGuard
from authentication.session.turn import (
    BEGUN_PARALLAX,
    FRONT_PARALLAX,
    LARGEST_NOSE_OFFSET,
    nose_offset,
    parallax,
    shape_of,
    turned_to,
)
from pipeline_facelivenet import FRAMES_TO_HOLD, UNUSABLE, Decision, decide_run, margins

STEP_SECONDS = 12.0
HOLD_SECONDS = 0.5
TURN_SECONDS = 0.3  # shorter: a head that is turned far is soon turned back
WRONG_SECONDS = 2.5
RIVAL_SECONDS = 0.6
SURE = 0.5  # probability from which another expression is certainly not the asked one
RUN_GAP_SECONDS = 1.0  # frames further apart than this do not follow one another
NOTICE_SECONDS = 2.5  # for which a hint about what has just been refused stays
MOST_RUN = 60  # frames of a step that are kept: two seconds at 30 frames a second


class ChallengeSession:
    """One attempt. Decided once, it never changes again.

    Args:
        challenge: what is asked for.
        step_seconds: for each neutral face and for each action.
        alternatives: everything that might have been asked for instead; by default the challenge's own actions.
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
        self._now = self._step_began = 0.0
        self._run: list[tuple[float, Frame]] = []  # frames of this step that count, one after the other
        self._path: list[tuple[float, np.ndarray]] = []  # amount of the action and embedding, since it was asked for
        self._counted: list[Frame] = []  # of the steps before: whose embeddings are pooled
        self._baseline: Baseline | None = None
        self._parallax: float | None = None  # of the newest frame; None where it is not known
        self._turn: str | None = None  # which turn the newest frame shows
        self._newest: Decision | None = None
        self._newest_counted = False
        self._hint: str | None = None
        self._notice: tuple[str, float] | None = None  # a hint that stays, and until when
        self._wrong_since: dict[str, float] = {}
        self._sent_back = False  # from the action to its neutral face

    @property
    def required_action(self) -> str:
        """What has to be shown now: "neutral", or an action of the challenge."""
        if self.step in ("start", "neutral"):
            return "neutral"
        return self.challenge.actions[min(self.passed, len(self.challenge.actions) - 1)]

    @property
    def required_expression(self) -> str:
        """What the next frame has to be judged for; while the head is turned its expression plays no part."""
        return "neutral" if self.required_action in TURNS else self.required_action

    @property
    def baseline(self) -> dict[str, tuple[float, float]] | None:
        """What the next frame's expression may be compared with (`decide`): None while the face is held neutral."""
        return self._baseline.margins if self.step == "action" and self._baseline else None

    def progress(self) -> Progress:
        return Progress(
            challenge=self.challenge.actions,
            passed=self.passed,
            step=self.step,
            required_action=self.required_action,
            held=1.0 if self.decision is not None and self.decision.accepted else self._held(),
            seconds_left=max(0.0, self.step_seconds - (self._now - self._step_began)),
            counted=self._newest_counted,
            hint=self._notice[0] if self._notice and self._now < self._notice[1] else self._hint,
            frame=self._newest,
            decision=self.decision,
        )

    def observe(self, frame: Frame, now: float) -> Progress:
        """Show the session one frame.

        Args:
            frame: one without a face, an unreadable one, a repeated one and one that was judged for another expression
                than this step's never advance the session.
            now: seconds on the server's monotonic clock.
        """
        if self.decision is not None:
            return self.progress()
        if self.step == "start":
            self._enter("neutral", now)
            self._now = now
        self._newest, self._newest_counted, self._hint = frame.decision, False, frame.decision.reason
        gap, self._now = now - self._now, now
        if not (math.isfinite(gap) and gap >= 0):  # a clock that runs backwards, or none
            self._now = self._step_began
            return self._reject("timed_out")
        self._measure_turn(frame)
        new, face = self._stream.is_new(frame.fingerprint), frame.embedding
        turning = self.required_action in TURNS
        reason = (
            self._stream.check(frame.fingerprint, face is not None, now, gap)
            or self._person.check(frame.decision, face, turning, now)
            or self._wrong_action(frame, now)
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
        """Count the frame, or break the run; pass the step when it has been held."""
        decision, action = frame.decision, self.required_action
        right = decision.required_expression == self.required_expression and self._person.same
        if action in TURNS:
            turned = self._is_turned(action)
            counts = right and turned
        else:
            counts = right and decision.expression_passed and decision.reason not in UNUSABLE
            if action == "neutral":
                counts = counts and self._looks_ahead(frame)
        if self._run and now - self._run[-1][0] > RUN_GAP_SECONDS:
            self._run = []
        if counts:
            self._run = [*self._run[-MOST_RUN:], (now, frame)]
            self._hint = "accepted"
        elif not (self._pausing() and self._person.same and not self._sure(decision)):
            self._run = []
        self._newest_counted = counts
        if self.step == "action" and frame.embedding is not None:
            self._path.append((self._amount(frame, action), frame.embedding))
        if counts and self._held() >= 1:
            self._pass(now)

    def _pass(self, now: float) -> None:
        """The step was held for long enough: go on, unless it was not what it seemed to be."""
        run, action = [frame for _, frame in self._run], self.required_action
        if action in TURNS:
            if turned_to(self._baseline.front, [shape_of(frame.landmarks) for frame in run]) != action:
                return
        elif not self._is_the_person(run):
            return
        if self.step == "action" and self._is_unnatural(run, action):
            return
        if action not in TURNS:
            self._counted += run
        if self.step == "neutral":
            self._baseline = Baseline.of(run)
            if self.passed == len(self.challenge.actions):
                self._accept(run)
                return
            if not self._sent_back:  # else it is still the same action's time
                self._enter("action", now)
            self.step, self._run = "action", []
            self._path = [(self._amount(run[-1], self.required_action), run[-1].embedding)]
            return
        self.passed += 1
        if self.passed == len(self.challenge.actions) and action not in TURNS:
            self._accept(run)
        else:
            self._enter("neutral", now)

    def _is_the_person(self, run: list[Frame]) -> bool:
        """The frames that counted so far and these, pooled, are the reference's person, and these alone nearly so."""
        threshold = run[-1].decision.threshold
        if threshold is None:
            return False
        return _pooled([*self._counted, *run]) >= threshold and _pooled(run) >= CONTINUITY_FACTOR * threshold

    def _is_unnatural(self, run: list[Frame], action: str) -> bool:
        """Whether an action was shown as pictures show it, not faces; then it does not pass, and the hint says why."""
        if action not in TURNS:
            resting, bands = self._baseline.resting, [one.upper_face for one in run if one.upper_face is not None]
            if resting is None or not resting.moved(bands):
                self._notice = "mouth_only", self._now + NOTICE_SECONDS
                self._run = []  # to be held anew
                return True
        amounts, embeddings = zip(*self._path, strict=True)
        if was_sudden(amounts, embeddings, self._baseline.embedding):
            self._send_back()
            self._notice = "too_sudden", self._now + NOTICE_SECONDS
            return True
        return False

    def _amount(self, frame: Frame, action: str) -> float:
        """How much of the action a frame shows: its margin over neutral, or the parallax to the asked side."""
        if action not in TURNS:
            return margins(frame.decision.expression_probabilities).get(action, 0.0)
        amount = self._parallax or 0.0
        return amount if action == "turn_left" else -amount

    def _measure_turn(self, frame: Frame) -> None:
        front = self._baseline.front if self._baseline else None
        self._parallax = self._turn = None
        if front is not None and frame.landmarks is not None:
            shape = shape_of(frame.landmarks)
            self._parallax, self._turn = parallax(front, shape), turned_to(front, [shape])

    def _is_turned(self, action: str) -> bool:
        if self._parallax is None:
            return False
        self._hint = "different_person"  # else it counts, and that says so
        if self._turn != action:
            wrong_side = abs(self._parallax) > BEGUN_PARALLAX and (self._parallax > 0) != (action == "turn_left")
            self._hint = "other_side" if wrong_side else "turn_more"
        return self._turn == action

    def _looks_ahead(self, frame: Frame) -> bool:
        """Straight ahead, as before the first action; before that, roughly."""
        if frame.landmarks is None:
            return True  # then no turn is ever seen either
        if self._parallax is None:
            ahead = abs(nose_offset(shape_of(frame.landmarks))) <= LARGEST_NOSE_OFFSET
        else:
            ahead = abs(self._parallax) <= FRONT_PARALLAX
        if not ahead:
            self._hint = "turn_back"
        return ahead

    def _held(self) -> float:
        if not self._run:
            return 0.0
        seconds = TURN_SECONDS if self.required_action in TURNS else HOLD_SECONDS
        if self.step == "neutral" and self.passed < len(self.challenge.actions):
            seconds += self.challenge.pauses[self.passed]
        return min(len(self._run) / FRAMES_TO_HOLD, (self._run[-1][0] - self._run[0][0]) / seconds, 1.0)

    def _pausing(self) -> bool:
        """The neutral face has been held, and waits for the moment the action is asked for: a frame that is less
        clearly neutral does no harm now, one that shows the action too early does."""
        if self.step != "neutral" or not self._run:
            return False
        return len(self._run) >= FRAMES_TO_HOLD and self._run[-1][0] - self._run[0][0] >= HOLD_SECONDS

    def _sure(self, decision: Decision) -> bool:
        """Another expression than the asked one, and not neutral, is certainly seen."""
        seen = decision.expression
        others = seen is not None and seen not in ("neutral", self.required_action)
        return others and decision.expression_probabilities[seen] >= SURE

    def _wrong_action(self, frame: Frame, now: float) -> str | None:
        """Whether something else is shown than what is asked for."""
        asked, acting = self.required_action, self.step == "action"
        turned = acting and self._turn is not None and self._turn != asked
        # of a turned head the expression is anybody's guess
        ahead = self._parallax is None or abs(self._parallax) < BEGUN_PARALLAX
        wrong = acting and ahead and self._sure(frame.decision) and asked not in TURNS
        rival = acting and ahead and self._sure(frame.decision) and frame.decision.expression in self.alternatives
        for name, holds, seconds, reason in (
            ("turned", turned, RIVAL_SECONDS, "wrong_turn"),
            ("rival", rival, RIVAL_SECONDS, "wrong_expression"),
            ("wrong", wrong, WRONG_SECONDS, "wrong_expression"),
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
        """To the neutral face, whose pause is known by now: the action's clock therefore runs on, or hiding again and
        again would be as many tries."""
        self.step, self._run, self._path, self._sent_back = "neutral", [], [], True
        self._wrong_since = {}

    def _accept(self, run: list[Frame]) -> None:
        """With the identity of all frames that counted."""
        self._finish(decide_run([frame.decision for frame in run], _pooled(self._counted)))

    def _reject(self, reason: str) -> Progress:
        """End with the newest frame's evidence, which is the operator's."""
        asked, frame = self.required_expression, self._newest
        self._finish(replace(frame, accepted=False, reason=reason, required_expression=asked))
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
