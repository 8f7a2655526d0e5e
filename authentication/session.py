"""A live session as a state machine: start -> neutral face held -> asked expression held -> decided.

It knows neither camera, network nor clock: it is shown one `Decision` per frame and the time of it. A frame counts only
when the fusion rule accepted it for the expression the current step asks for, so a still photograph cannot pass: it is
either never neutral or never shows the challenge.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline_facelivenet import FRAMES_TO_HOLD, Decision, decide_frames, reject

FRAMES_TO_REJECT = 8  # consecutive frames of somebody else, or with a second face: about two seconds of a live stream
TIMEOUT_SECONDS = 30.0  # from the first frame


@dataclass(frozen=True)
class Progress:
    """How far a session is, for whoever draws it.

    challenge: the expression asked for after the neutral face.
    step: "start" (no frame yet), "neutral", "expression" or "decided".
    required_expression: what the next frame is judged for.
    held: consecutive accepted frames of this step, 0 to FRAMES_TO_HOLD - 1.
    seconds_left: until the session is rejected as timed out.
    frame: the decision about the newest frame, None before the first.
    decision: the decision about the session, None while it is open.
    """

    challenge: str
    step: str
    required_expression: str
    held: int
    seconds_left: float
    frame: Decision | None
    decision: Decision | None


def draw_challenge(expressions: Sequence[str]) -> str:
    """One of the expressions a session may ask for, drawn by a cryptographic random number generator."""
    choices = [name for name in expressions if name != "neutral"]
    if not choices:
        raise ValueError(f"no expression to ask for among {tuple(expressions)}; neutral is how every session starts")
    return secrets.choice(choices)


class ChallengeSession:
    """One attempt. Decided once, it never changes again.

    Args:
        challenge: the expression asked for after the neutral face.
        timeout: seconds from the first frame.
    """

    def __init__(self, challenge: str, timeout: float = TIMEOUT_SECONDS):
        if not challenge or challenge == "neutral":
            raise ValueError(f"the challenge must be an expression other than neutral, not {challenge!r}")
        self.challenge = challenge
        self.timeout = timeout
        self.step = "start"
        self.decision: Decision | None = None
        self._started: float | None = None
        self._run: list[Decision] = []  # consecutive accepted frames of this step
        self._strangers = self._crowds = 0  # consecutive frames of somebody else, with a second face
        self._newest: Decision | None = None

    @property
    def required_expression(self) -> str:
        """What the next frame has to be judged for."""
        return "neutral" if self.step in ("start", "neutral") else self.challenge

    def progress(self, now: float) -> Progress:
        left = self.timeout if self._started is None else max(0.0, self.timeout - (now - self._started))
        asked, held = self.required_expression, len(self._run)
        return Progress(self.challenge, self.step, asked, held, left, self._newest, self.decision)

    def observe(self, frame: Decision, now: float) -> Progress:
        """Show the session the decision about one frame, made for `required_expression`.

        Args:
            frame: of a camera frame; those without a face, unreadable ones and those judged for another expression than
                this step's never advance the session.
            now: seconds on the server's monotonic clock.
        """
        if self.decision is not None:
            return self.progress(now)
        if self._started is None:
            self._started, self.step = now, "neutral"
        self._newest = frame
        seen = frame.similarity is not None
        self._strangers = 0 if frame.same_identity else self._strangers + seen
        self._crowds = self._crowds + 1 if frame.reason == "several_faces" else 0
        counts = frame.accepted and frame.required_expression == self.required_expression
        self._run = [*self._run, frame] if counts else []

        if not 0 <= now - self._started <= self.timeout:  # NaN, too, is outside
            timed_out = reject("timed_out", self.challenge, threshold=frame.threshold)
            self._finish(replace(timed_out, model_revision=frame.model_revision))
        elif self._strangers >= FRAMES_TO_REJECT:
            self._finish(replace(frame, accepted=False, reason="different_person", required_expression=self.challenge))
        elif self._crowds >= FRAMES_TO_REJECT:
            self._finish(replace(frame, required_expression=self.challenge))
        elif counts:
            held = decide_frames(self._run, self.required_expression, FRAMES_TO_HOLD)
            if held.accepted and self.step == "neutral":
                self.step, self._run = "expression", []
            elif held.accepted:
                self._finish(held)
        return self.progress(now)

    def _finish(self, decision: Decision) -> None:
        self.decision, self.step, self._run = decision, "decided", []
