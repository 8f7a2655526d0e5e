"""Guard of the person: exactly one face, of the reference's person, and the same in all frames.

Identity is decided on the pooled embeddings of all frames that counted, at the end. The mean of several frames is more
reliable than each of them, so a blurred frame does no harm. An exchange of faces is detected from frame to frame,
within SWITCH_SECONDS.

`machine` calls it for every frame. Read `baseline` next, the face at rest.
"""

import math
from collections import deque
from collections.abc import Iterable

import numpy as np

from pipeline_facelivenet import Decision

STRANGER_SECONDS = 2.0
SWITCH_SECONDS = 0.4
CROWD_SECONDS = 1.5
LOST_SECONDS = 2.5
UNSEEN_SECONDS = 0.5  # after so long out of sight the face may be another photograph
POOL_SECONDS = 1.0  # time over which the similarity of the newest frames is pooled
STEP_FACTOR = 0.9  # times the threshold: smallest similarity of the frames of a step to the reference
CONTINUITY_FACTOR = 0.8  # times the threshold: smallest similarity to the face of the previous frame
TURNED_FACTOR = 0.5  # times the threshold: smallest similarity of a turned head to the frontal reference


def pooled_similarity(similarities: Iterable[float], embeddings: Iterable[np.ndarray]) -> float:
    """Similarity of a template to the `mean_embedding` of n embeddings, from the n similarities; -1 if n is 0.

    With the mean length l of the embeddings, template · (l Σe / |Σe|) = l Σ(template · e) / |Σe|. So the template is
    not needed here.
    """
    embeddings = np.array([*embeddings])
    if not len(embeddings):
        return -1.0
    length = float(np.linalg.norm(embeddings.sum(axis=0)) / np.linalg.norm(embeddings, axis=1).mean())
    return min(math.fsum(similarities) / length, 1.0) if length > 1e-6 else -1.0


class PersonGuard:
    """Checks every frame and gives the reason to end the session, if there is one.

    Attributes:
        is_continuous: the newest face is that of the previous frame.
        is_reference_person: the faces of the last second, pooled, are close to the reference (STEP_FACTOR).
    """

    def __init__(self):
        self.is_continuous = self.is_reference_person = False
        self._face: np.ndarray | None = None  # embedding of the last continuous face
        self._recent: deque[tuple[float, float, np.ndarray]] = deque()  # time, similarity, embedding
        self._since: dict[str, float] = {}  # condition -> the time it began
        self._seen_at = math.inf  # time of the last frame with a single face

    def check(self, decision: Decision, face: np.ndarray | None, turning: bool, now: float) -> str | None:
        """The reason to end the session because of this frame, or None.

        Args:
            face: (d,) embedding of the only face of the frame, or None.
            turning: whether a turn of the head is required; then the similarity to the frontal reference may be lower.
            now: seconds.
        """
        self.is_continuous = self.is_reference_person = False
        if self._lasted("crowd", decision.reason == "several_faces", now) >= CROWD_SECONDS:
            return "several_faces"
        is_lost = self._face is not None and decision.reason in ("no_face", "no_frames")
        if self._lasted("lost", is_lost, now) >= LOST_SECONDS:
            return "face_lost"
        if face is None or decision.similarity is None:
            return None  # conditions of earlier frames continue
        threshold = 1.0 if decision.threshold is None else decision.threshold
        self.is_continuous = self._face is None or float(self._face @ face) >= CONTINUITY_FACTOR * threshold
        if self.is_continuous:
            self._face = face
            self._recent.append((now, decision.similarity, face))
        while self._recent and now - self._recent[0][0] > POOL_SECONDS:
            self._recent.popleft()
        pooled = pooled_similarity((entry[1] for entry in self._recent), (entry[2] for entry in self._recent))
        min_similarity = threshold * (TURNED_FACTOR if turning else STEP_FACTOR)
        self.is_reference_person = self.is_continuous and decision.threshold is not None and pooled >= min_similarity
        if self._lasted("switched", not self.is_continuous, now) >= SWITCH_SECONDS:
            return "identity_switched"
        if self._lasted("stranger", not self.is_reference_person, now) >= STRANGER_SECONDS:
            return "different_person"
        return None

    def was_hidden(self, face: np.ndarray | None, now: float, longest_gap: float) -> bool:
        """Whether the face was out of sight for so long that it may be on another photograph now.

        Args:
            face: of the frame, as for `check`.
            now: seconds.
            longest_gap: largest time in seconds between two frames that both show the face.
        """
        hidden = now - self._seen_at
        if face is None:
            return hidden >= UNSEEN_SECONDS
        self._seen_at = now
        return hidden > longest_gap

    def forget(self) -> None:
        self._face = None
        self._recent.clear()

    def _lasted(self, name: str, holds: bool, now: float) -> float:
        """Seconds for which a condition has held in every frame; 0 if it does not hold now."""
        if not holds:
            self._since.pop(name, None)
            return 0.0
        return now - self._since.setdefault(name, now)
