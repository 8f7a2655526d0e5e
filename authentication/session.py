"""A live session as a state machine: a neutral face, then an expression, one to three times over.

    start ──first frame──> neutral 1 ──held──> expression 1 ──held──> neutral 2 ── … ──> expression n ──held──> accepted
                               │                    │                     │                   │
                               └────────────────────┴──── whatever may not be ────────────────┴───────────────> rejected

It knows neither camera, network nor clock: it is shown one `Frame` after the other, each with its time. A frame counts
where the fusion rule accepted it for what the step asks for, and a step is passed when frames have counted one after
the other for `HOLD_SECONDS`. Every expression has to come from a neutral face and on demand, at a moment that nobody
can foresee, so a photograph held before the camera never passes: it is either never neutral or never anything else. Nor
do two that take turns, unless the exchange is quicker than UNSEEN_SECONDS, or falls between two frames: a face that was
out of sight in between has to be neutral again, within the time the expression has left.

What may not be ends the session with a reason of its own:

    timed_out          a step took longer than STEP_SECONDS
    different_person   not the person of the reference for STRANGER_SECONDS
    identity_switched  not the person of the frames before, and not again within SWITCH_SECONDS
    several_faces      a second face for CROWD_SECONDS
    face_lost          no face for LOST_SECONDS, after one had been seen
    wrong_expression   another expression than the asked one for WRONG_SECONDS
    frozen_stream      the same picture for FROZEN_SECONDS, or frames that were shown before: a camera's never are
    slow_stream        less than MIN_FRAMES_PER_SECOND, or a gap of GAP_SECONDS, in which anything may have happened
"""

import math
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from pipeline_facelivenet import FRAMES_TO_HOLD, Decision, decide_frames

SYSTEM_RANDOM = secrets.SystemRandom()  # cryptographic: what it draws cannot be foreseen

MAX_EXPRESSIONS = 3
HOLD_SECONDS = 0.5
PAUSE_SECONDS = (0.0, 1.5)  # drawn anew for each expression: how much longer the neutral face before it is held
STEP_SECONDS = 12.0
STRANGER_SECONDS = 2.0
SWITCH_SECONDS = 0.4
FOLLOWS = 0.8  # of the threshold: how alike to the face before; less than to the reference, for faces move
CROWD_SECONDS = 1.5
LOST_SECONDS = 2.5
UNSEEN_SECONDS = 0.5  # since a face alone was seen: then the expression does not come from the neutral face any more
WRONG_SECONDS = 2.5
SURE = 0.5  # probability from which another expression is certainly not the asked one
FROZEN_SECONDS = 1.5
REPEATED_FRAMES = 6  # with a face, shown before and not just now: a looped video gives dozens
GAP_SECONDS = 3.0
MIN_FRAMES_PER_SECOND = 1.5
RATE_SECONDS = 5.0  # over which frames are counted for it
RUN_GAP_SECONDS = 1.0  # frames further apart than this do not follow one another


@dataclass(frozen=True)
class Challenge:
    """What a session asks for.

    expressions: one after the other, each from a neutral face; never neutral.
    pauses: seconds, one for each: how long the neutral face before it is held beyond HOLD_SECONDS.
    """

    expressions: tuple[str, ...]
    pauses: tuple[float, ...]

    def __post_init__(self):
        if not self.expressions or any(not name or name == "neutral" for name in self.expressions):
            raise ValueError(f"a challenge is made of expressions other than neutral, not {self.expressions!r}")
        if len(self.pauses) != len(self.expressions) or not all(0 <= pause < STEP_SECONDS for pause in self.pauses):
            raise ValueError(f"one pause of 0 to {STEP_SECONDS:g} seconds for each expression, not {self.pauses!r}")


def draw_challenge(expressions: Sequence[str], count: int | None = None, random: Random = SYSTEM_RANDOM) -> Challenge:
    """One to three of the expressions a session may ask for, with their pauses.

    Args:
        expressions: to draw from; neutral is left out. None follows itself where there is another one.
        count: how many; by default drawn too, at most one more than there are to choose from.
        random: cryptographic by default; another only for simulations.

    Raises:
        ValueError: nothing to draw from.
    """
    choices = [name for name in expressions if name != "neutral"]
    if not choices:
        raise ValueError(f"no expression to ask for among {tuple(expressions)}; neutral is how every session starts")
    drawn: list[str] = []
    for _ in range(count or random.randint(1, min(MAX_EXPRESSIONS, len(choices) + 1))):
        drawn.append(random.choice([name for name in choices if name not in drawn[-1:]] or choices))
    return with_pauses(drawn, random)


def with_pauses(expressions: Sequence[str], random: Random = SYSTEM_RANDOM) -> Challenge:
    """These expressions, in this order, at moments drawn at random."""
    return Challenge(tuple(expressions), tuple(random.uniform(*PAUSE_SECONDS) for _ in expressions))


@dataclass(frozen=True)
class Frame:
    """What a session is shown of one frame of the camera.

    decision: of the fusion rule, made for the session's `required_expression`.
    embedding: (d,) of length 1, of the face; None where the picture shows no single face.
    fingerprint: equal for two frames exactly where their pixels are.
    """

    decision: Decision
    embedding: np.ndarray | None
    fingerprint: bytes


@dataclass(frozen=True)
class Progress:
    """How far a session is, for whoever draws it.

    challenge: the expressions that are asked for, in order.
    passed: how many of them have been shown.
    step: "start" (no frame yet), "neutral", "expression" or "decided".
    required_expression: what the next frame is judged for.
    held: how much of this step's holding is done, 0 to 1.
    seconds_left: until this step is over.
    counted: the newest frame counted.
    frame: the decision about the newest frame, None before the first.
    decision: the decision about the session, None while it is open.
    """

    challenge: tuple[str, ...]
    passed: int
    step: str
    required_expression: str
    held: float
    seconds_left: float
    counted: bool
    frame: Decision | None
    decision: Decision | None


class ChallengeSession:
    """One attempt. Decided once, it never changes again.

    Args:
        challenge: what is asked for.
        step_seconds: for each neutral face and for each expression.
    """

    def __init__(self, challenge: Challenge, step_seconds: float = STEP_SECONDS):
        self.challenge = challenge
        self.step_seconds = step_seconds
        self.step = "start"
        self.passed = 0
        self.decision: Decision | None = None
        self._now = self._step_began = 0.0
        self._run: list[tuple[float, Decision]] = []  # frames of this step that count, one after the other
        self._newest: Decision | None = None
        self._counted = False
        self._since: dict[str, float] = {}  # what may not last -> since when it does
        self._times: deque[float] = deque()  # of the newest frames
        self._last_fingerprint: bytes | None = None
        self._fingerprints: set[bytes] = set()
        self._repeated = 0
        self._face: np.ndarray | None = None  # embedding of the last face that was the same person's
        self._seen_at = math.inf  # when a face alone was last seen
        self._sent_back = False  # from the expression to its neutral face

    @property
    def required_expression(self) -> str:
        """What the next frame has to be judged for."""
        if self.step in ("start", "neutral"):
            return "neutral"
        return self.challenge.expressions[min(self.passed, len(self.challenge.expressions) - 1)]

    def progress(self) -> Progress:
        return Progress(
            challenge=self.challenge.expressions,
            passed=self.passed,
            step=self.step,
            required_expression=self.required_expression,
            held=1.0 if self.decision is not None and self.decision.accepted else self._held(),
            seconds_left=max(0.0, self.step_seconds - (self._now - self._step_began)),
            counted=self._counted,
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
        decision, self._newest, self._counted = frame.decision, frame.decision, False
        gap, self._now = now - self._now, now
        if not (math.isfinite(gap) and gap >= 0):  # a clock that runs backwards, or none
            self._now = self._step_began
            return self._reject("timed_out")
        new = frame.fingerprint not in self._fingerprints
        reason = self._stream(frame, new, now, gap) or self._person(frame, now) or self._time(decision, now)
        if reason:
            return self._reject(reason)
        if self._was_hidden(frame, now) and self.step == "expression":
            self._send_back()
        if new:
            self._advance(decision, now)
        return self.progress()

    def _advance(self, decision: Decision, now: float) -> None:
        """Count the frame, or break the run; pass the step when it has been held."""
        counts = decision.accepted and decision.required_expression == self.required_expression
        if self._run and now - self._run[-1][0] > RUN_GAP_SECONDS:
            self._run = []
        if counts:
            self._run.append((now, decision))
        elif not (self._pausing() and decision.same_identity and not self._sure(decision)):
            self._run = []
        self._counted = counts
        if not counts or self._held() < 1:
            return
        run = [decision for _, decision in self._run]
        held = decide_frames(run, self.required_expression, len(run))
        if self.step == "neutral" and self._sent_back:
            self.step, self._run = "expression", []  # it is still the same step's time
            return
        if self.step == "neutral":
            self._enter("expression", now)
            return
        self.passed += 1
        if self.passed == len(self.challenge.expressions):
            self._finish(held)
        else:
            self._enter("neutral", now)

    def _held(self) -> float:
        if not self._run:
            return 0.0
        seconds = HOLD_SECONDS + (self.challenge.pauses[self.passed] if self.step == "neutral" else 0.0)
        return min(len(self._run) / FRAMES_TO_HOLD, (self._run[-1][0] - self._run[0][0]) / seconds, 1.0)

    def _pausing(self) -> bool:
        """The neutral face has been held, and waits for the moment the expression is asked for: a frame that is less
        clearly neutral does no harm now, one that shows the expression too early does."""
        if self.step != "neutral" or not self._run:
            return False
        return len(self._run) >= FRAMES_TO_HOLD and self._run[-1][0] - self._run[0][0] >= HOLD_SECONDS

    def _sure(self, decision: Decision) -> bool:
        """Another expression than the asked one, and not neutral, is certainly seen."""
        seen = decision.expression
        others = seen is not None and seen not in ("neutral", self.required_expression)
        return others and decision.expression_probabilities[seen] >= SURE

    def _stream(self, frame: Frame, new: bool, now: float, gap: float) -> str | None:
        """Whether the frames are a camera's."""
        again = frame.fingerprint == self._last_fingerprint
        self._repeated += not new and not again and frame.embedding is not None
        frozen = self._lasted("frozen", again, now)
        self._last_fingerprint = frame.fingerprint
        self._fingerprints.add(frame.fingerprint)
        if frozen >= FROZEN_SECONDS or self._repeated >= REPEATED_FRAMES:
            return "frozen_stream"
        self._times.append(now)
        slow = now - self._times[0] >= RATE_SECONDS
        while now - self._times[0] >= RATE_SECONDS:
            self._times.popleft()
        if gap >= GAP_SECONDS or (slow and len(self._times) < RATE_SECONDS * MIN_FRAMES_PER_SECOND):
            return "slow_stream"
        return None

    def _person(self, frame: Frame, now: float) -> str | None:
        """Whether one person, that of the reference and of the frames before, is there and alone."""
        decision, face = frame.decision, frame.embedding
        if self._lasted("crowd", decision.reason == "several_faces", now) >= CROWD_SECONDS:
            return "several_faces"
        lost = self._face is not None and decision.reason in ("no_face", "no_frames")
        if self._lasted("lost", lost, now) >= LOST_SECONDS:
            return "face_lost"
        if face is None or decision.similarity is None:
            return None  # and what was seen of a stranger before still stands
        least = 1.0 if decision.threshold is None else FOLLOWS * decision.threshold
        follows = self._face is None or float(self._face @ face) >= least
        if follows:
            self._face = face
        if self._lasted("switched", not follows, now) >= SWITCH_SECONDS:
            return "identity_switched"
        if self._lasted("stranger", not decision.same_identity, now) >= STRANGER_SECONDS:
            return "different_person"
        return None

    def _time(self, decision: Decision, now: float) -> str | None:
        """Whether what is asked for comes in time and nothing else comes instead."""
        wrong = self.step == "expression" and self._sure(decision)
        if self._lasted("wrong", wrong, now) >= WRONG_SECONDS:
            return "wrong_expression"
        return "timed_out" if now - self._step_began > self.step_seconds else None

    def _lasted(self, name: str, holds: bool, now: float) -> float:
        """Seconds for which something has been so in every frame; 0 where it is not so now."""
        if not holds:
            self._since.pop(name, None)
            return 0.0
        return now - self._since.setdefault(name, now)

    def _was_hidden(self, frame: Frame, now: float) -> bool:
        """Whether the face has been out of sight for so long that it may be another photograph by now."""
        hidden = now - self._seen_at
        if frame.embedding is None:
            return hidden >= UNSEEN_SECONDS
        self._seen_at = now
        return hidden > RUN_GAP_SECONDS

    def _enter(self, step: str, now: float) -> None:
        self.step, self._step_began, self._run = step, now, []
        self._sent_back = False
        self._since.pop("wrong", None)

    def _send_back(self) -> None:
        """To the neutral face, whose pause is known by now: the expression's clock therefore runs on, or hiding again
        and again would be as many tries."""
        self.step, self._run, self._sent_back = "neutral", [], True
        self._since.pop("wrong", None)

    def _reject(self, reason: str) -> Progress:
        """End with the newest frame's evidence, which is the operator's."""
        asked, frame = self.required_expression, self._newest
        self._finish(replace(frame, accepted=False, reason=reason, required_expression=asked))
        return self.progress()

    def _finish(self, decision: Decision) -> None:
        self.decision, self.step = decision, "decided"
        self._face, self._fingerprints = None, set()
        if not decision.accepted:
            self._run = []
