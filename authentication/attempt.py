"""An attempt: takes the frames of a camera, tracks and judges the face, and passes the result to the session.

`registry` keeps attempts under tokens. Read `tracking`, `authenticator` and `session` next.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from authentication.authenticator import Authenticator, Evidence
from authentication.reference import DARK, SMALL
from authentication.session import ChallengeSession, Frame, Progress, is_face, upper_face
from authentication.template import Template
from authentication.tracking import FaceTracker
from image_processing_facelivenet import UnreadableImageError, load_image
from pipeline_facelivenet import Decision, reject

MAX_MOMENTS = 2000  # in the timeline; more than a minute at 30 frames a second
MAX_FRAME_PIXELS = 1280 * 960  # a larger JPEG is decoded at a smaller scale, which is enough for a session
BRIGHT_SKIN = 225  # mean luminance of eyes and cheeks, 0 to 255; the lightest skin in good light is below it
FRAME_FORMATS = ("JPEG", "PNG", "WEBP")  # in which browsers encode frames

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Moment:
    """One frame in the timeline of an attempt.

    seconds: since the first frame of the attempt.
    asked: the requested action: "neutral", an expression, or a turn of the head.
    similarity: to the template, in [-1, 1]; None unless the frame shows exactly one face.
    probability: of the requested expression, in [0, 1]; None likewise, and while a turn is requested.
    counted: whether the frame counted for its step.
    passed: whether its step was passed with this frame.
    """

    seconds: float
    asked: str
    similarity: float | None
    probability: float | None
    counted: bool
    passed: bool


@dataclass(frozen=True)
class View:
    """What a page can show after a frame.

    progress: of the session.
    evidence: of the face; None without a face.
    size: width and height of the frame in pixels, (0, 0) if it could not be read.
    moments: the timeline so far; the same list grows with further frames.
    advice: what is wrong with the image of the face: it is "small", "dark" or "bright"; or None.
    """

    progress: Progress
    evidence: Evidence | None
    size: tuple[int, int]
    moments: list[Moment]
    advice: str | None = None


class Attempt:
    """A session with its template and its face tracker. Only one thread may use it at a time.

    Args:
        on_accepted: called once, when the session ends with an acceptance.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        template: Template,
        session: ChallengeSession,
        on_accepted: Callable[[], None] = lambda: None,
    ):
        self.session = session
        self._authenticator = authenticator
        self._template = template
        self._on_accepted = on_accepted
        self._tracker = FaceTracker(authenticator.processor)
        self._moments: list[Moment] = []
        self._start: float | None = None

    def observe(self, image: Image.Image, now: float) -> View:
        """Judge one frame for the action that the session requests now.

        Args:
            image: anything `load_image` reads. An unreadable image counts as a frame without a face.
            now: seconds on the server's monotonic clock.
        """
        session = self.session
        action, expression, passed, step = (
            session.required_action,
            session.required_expression,
            session.passed,
            session.step,
        )
        evidence, decision, pixels, size = None, None, b"", (0, 0)
        try:
            image = load_image(image, max_pixels=MAX_FRAME_PIXELS, formats=FRAME_FORMATS)
            size, pixels = image.size, image.tobytes()
            evidence = self._authenticator.evidence(image, self._tracker)
        except UnreadableImageError:
            decision = reject("no_frames", expression)
        decision = decision or self._authenticator.decide(
            self._template, evidence, expression, session.baseline, session.accepts_any_rest
        )
        fingerprint = hashlib.blake2b(pixels, digest_size=8).digest()
        frame = session_frame(decision, evidence, image, fingerprint)
        progress = session.observe(frame, now)
        self._start = now if self._start is None else self._start
        if len(self._moments) < MAX_MOMENTS:
            self._moments.append(
                Moment(
                    seconds=now - self._start,
                    asked=action,
                    similarity=decision.similarity,
                    probability=decision.expression_probabilities.get(action),
                    counted=progress.counted,
                    passed=progress.passed > passed or (step, progress.step) == ("neutral", "action"),
                )
            )
        if progress.decision is not None:
            self._finish(progress, now)
        return View(progress, evidence, size, self._moments, _advice(frame, evidence))

    def _finish(self, progress: Progress, now: float) -> None:
        """Log the decision, without names and without numbers from which a face could be recovered."""
        frames, seconds = len(self._moments), now - self._start
        logger.info("attempt decided: %s, %d frames in %.1f s", progress.decision.reason, frames, seconds)
        if progress.decision.accepted:
            self._on_accepted()


def _advice(frame: Frame, evidence: Evidence | None) -> str | None:
    """Advice about the image, from values that exist already, because it is computed for every frame."""
    if frame.upper_face is None:
        return None
    left, top, right, bottom = evidence.box
    if min(right - left, bottom - top) < SMALL:
        return "small"
    light = float(frame.upper_face.mean())
    return "dark" if light < DARK else "bright" if light > BRIGHT_SKIN else None


def session_frame(decision: Decision, evidence: Evidence | None, image: Image.Image, fingerprint: bytes) -> Frame:
    """The input of a session for one frame.

    Args:
        evidence: None without a face.
        image: the upright RGB image to which the evidence belongs.
    """
    if evidence is None or evidence.face_count != 1:
        return Frame(decision, None, fingerprint)
    landmarks = evidence.landmarks if is_face(evidence.landmarks) else None
    return Frame(decision, evidence.embedding, fingerprint, landmarks, upper_face(image, evidence.landmarks))
