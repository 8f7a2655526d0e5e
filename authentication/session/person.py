"""Guard of the person: a single face, of the reference's person, the same from frame to frame.

Identity is decided on pooled embeddings, not on single frames: the mean of several frames is more reliable than each of
them, so a blurred frame does not matter. An exchange of faces is detected from frame to frame, within SWITCH_SECONDS.

Called by `machine` for every frame. Next: `baseline`, the face at rest.
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
UNSEEN_SECONDS = 0.5  # out of sight, after which the face may be another photograph
POOL_SECONDS = 1.0  # over which the similarity of the newest frames is pooled
CONTINUITY_FACTOR = 0.8  # times the threshold: least similarity to the face of the frame before
TURNED_FACTOR = 0.5  # times the threshold: least similarity of a turned head to the frontal reference


def pooled_similarity(similarities: Iterable[float], embeddings: Iterable[np.ndarray]) -> float:
    """Similarity of a template to the `mean_embedding` of n embeddings, from the similarities of each; -1 for none.

    With the mean length l of the embeddings, template · (l Σe / |Σe|) = l Σ(template · e) / |Σe|, so the template
    itself is not needed here.
    """
    embeddings = np.array([*embeddings])
    if not len(embeddings):
        return -1.0
    length = float(np.linalg.norm(embeddings.sum(axis=0)) / np.linalg.norm(embeddings, axis=1).mean())
    return min(math.fsum(similarities) / length, 1.0) if length > 1e-6 else -1.0


class PersonGuard:
    """Checks every frame and gives the reason to end the session, if there is one.

    Attributes:
        follows: the newest face is that of the frame before.
        same: the faces of the last second, pooled, are the reference's person.
    """

    def __init__(self):
        self.follows = self.same = False
        self._face: np.ndarray | None = None  # embedding of the last face that was the same person's
        self._recent: deque[tuple[float, float, np.ndarray]] = deque()  # time, similarity, embedding
        self._since: dict[str, float] = {}  # condition -> the time it began
        self._seen_at = math.inf  # time of the last frame with a single face

    def check(self, decision: Decision, face: np.ndarray | None, turning: bool, now: float) -> str | None:
        """The reason to end the session because of this frame, or None.

        Args:
            face: (d,) embedding of the only face of the frame, or None.
            turning: a turn of the head is required; its similarity to the frontal reference may then be lower.
            now: seconds.
        """
        self.follows = self.same = False
        if self._lasted("crowd", decision.reason == "several_faces", now) >= CROWD_SECONDS:
            return "several_faces"
        lost = self._face is not None and decision.reason in ("no_face", "no_frames")
        if self._lasted("lost", lost, now) >= LOST_SECONDS:
            return "face_lost"
        if face is None or decision.similarity is None:
            return None  # the time of a stranger seen before goes on
        threshold = 1.0 if decision.threshold is None else decision.threshold
        self.follows = self._face is None or float(self._face @ face) >= CONTINUITY_FACTOR * threshold
        if self.follows:
            self._face = face
            self._recent.append((now, decision.similarity, face))
        while self._recent and now - self._recent[0][0] > POOL_SECONDS:
            self._recent.popleft()
        pooled = pooled_similarity((entry[1] for entry in self._recent), (entry[2] for entry in self._recent))
        least = threshold * TURNED_FACTOR if turning else threshold
        self.same = self.follows and decision.threshold is not None and pooled >= least
        if self._lasted("switched", not self.follows, now) >= SWITCH_SECONDS:
            return "identity_switched"
        if self._lasted("stranger", not self.same, now) >= STRANGER_SECONDS:
            return "different_person"
        return None

    def was_hidden(self, face: np.ndarray | None, now: float, longest_gap: float) -> bool:
        """Whether the face was out of sight for so long that it may be another photograph now.

        Args:
            face: of the frame, as for `check`.
            now: seconds.
            longest_gap: seconds allowed between two frames that both show the face.
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
        """For how many seconds a condition has held in every frame; 0 if it does not hold now."""
        if not holds:
            self._since.pop(name, None)
            return 0.0
        return now - self._since.setdefault(name, now)
