"""An attempt: takes the frames of a camera, follows the face, judges it, and feeds the session.

Kept by `registry` under a token. Next: `tracking`, `authenticator`, `session`.
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

MAX_MOMENTS = 2000  # of the timeline: over a minute at 30 frames a second
MAX_FRAME_PIXELS = 1280 * 960  # above it a JPEG is decoded at a smaller scale: a session needs no more
BRIGHT_SKIN = 225  # mean luminance of eyes and cheeks, 0 to 255: the lightest skin in good light stays below
FRAME_FORMATS = ("JPEG", "PNG", "WEBP")  # as which a browser encodes them

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Moment:
    """One frame in the timeline of an attempt.

    seconds: since its first frame.
    asked: the action that was asked for: "neutral", an expression, or a turn of the head.
    similarity: to the template, in [-1, 1]; None where no single face was seen.
    probability: of the asked expression, in [0, 1]; None likewise, and while a turn is asked for.
    counted: the frame counted for its step.
    passed: it was the last one the step needed.
    """

    seconds: float
    asked: str
    similarity: float | None
    probability: float | None
    counted: bool
    passed: bool


@dataclass(frozen=True)
class View:
    """What the page shows after a frame.

    progress: how far the session is.
    evidence: of the face that was judged; None without one.
    size: width and height of the frame in pixels, (0, 0) where it could not be read.
    moments: the timeline so far, which goes on growing.
    advice: what would make the picture of the face better: "small", "dark", "bright", or None.
    """

    progress: Progress
    evidence: Evidence | None
    size: tuple[int, int]
    moments: list[Moment]
    advice: str | None = None


class Attempt:
    """A session, the template it is about, and what follows the face from frame to frame. One thread at a time.

    Args:
        on_accepted: called once, when the session is decided so.
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
        self._began: float | None = None

    def observe(self, image: Image.Image, now: float) -> View:
        """Judge one frame for what the session asks for at this moment.

        Args:
            image: anything `load_image` reads. One that cannot be read is a frame without a face.
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
            evidence = self._authenticator.look(image, self._tracker)
        except UnreadableImageError:
            decision = reject("no_frames", expression)
        decision = decision or self._authenticator.decide(self._template, evidence, expression, session.baseline)
        fingerprint = hashlib.blake2b(pixels, digest_size=8).digest()
        frame = frame_of(decision, evidence, image, fingerprint)
        progress = session.observe(frame, now)
        self._began = now if self._began is None else self._began
        if len(self._moments) < MAX_MOMENTS:
            self._moments.append(
                Moment(
                    seconds=now - self._began,
                    asked=action,
                    similarity=decision.similarity,
                    probability=decision.expression_probabilities.get(action),
                    counted=progress.counted,
                    passed=progress.passed > passed or (step, progress.step) == ("neutral", "action"),
                )
            )
        if progress.decision is not None:
            self._decided(progress, now)
        return View(progress, evidence, size, self._moments, _advice(frame, evidence))

    def _decided(self, progress: Progress, now: float) -> None:
        """Log the end, without names or numbers from which a face could be recovered."""
        frames, seconds = len(self._moments), now - self._began
        logger.info("attempt decided: %s, %d frames in %.1f s", progress.decision.reason, frames, seconds)
        if progress.decision.accepted:
            self._on_accepted()


def _advice(frame: Frame, evidence: Evidence | None) -> str | None:
    """Advice about the picture, from values that were computed already: it is needed for every frame."""
    if frame.upper_face is None:
        return None
    left, top, right, bottom = evidence.box
    if min(right - left, bottom - top) < SMALL:
        return "small"
    light = float(frame.upper_face.mean())
    return "dark" if light < DARK else "bright" if light > BRIGHT_SKIN else None


def frame_of(decision: Decision, evidence: Evidence | None, image: Image.Image, fingerprint: bytes) -> Frame:
    """What a session is shown of a picture and what was seen in it.

    Args:
        evidence: None without a face.
        image: the upright RGB picture that the evidence is about.
    """
    if evidence is None or evidence.face_count != 1:
        return Frame(decision, None, fingerprint)
    landmarks = evidence.landmarks if is_face(evidence.landmarks) else None
    return Frame(decision, evidence.embedding, fingerprint, landmarks, upper_face(image, evidence.landmarks))
