"""The detector's and the network's output for rendered frames, cached on disk so that each frame is processed once.

An `Observation` holds what a session needs of a frame, except the decision, which depends on the challenge.
Observations can be interpolated, which gives the frames between two rendered ones. `actors` uses this module; read it
next.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from atomic import replacement
from authentication.authenticator import Authenticator, SeveralFacesError, UnusableFaceError
from authentication.session import upper_face
from evaluation.embeddings.cache import UNREADABLE
from evaluation.protocols.sessions import interpolated_embedding
from image_processing_facelivenet import NoFaceError

FIELDS = ("embedding", "logits", "landmarks", "upper_face")


@dataclass(frozen=True)
class Observation:
    """A single face in a frame.

    embedding: (d,). logits: (expressions,) log probabilities. landmarks: (5, 2) pixels. upper_face: made by
    `authentication.session.upper_face`. unusable: why the quality gate refuses the face (`Evidence`), or None.
    """

    embedding: np.ndarray
    logits: np.ndarray
    landmarks: np.ndarray
    upper_face: np.ndarray
    unusable: str | None = None

    def probabilities(self, expressions: tuple[str, ...]) -> dict[str, float]:
        """Expression -> probability; the arguments are in the order of the logits."""
        values = np.exp(self.logits - np.logaddexp.reduce(self.logits))
        return dict(zip(expressions, values.tolist(), strict=True))


def interpolate(start: Observation, end: Observation, share: float) -> Observation:
    """The observation at this share, 0 to 1, of the way from start to end; `unusable` is that of the nearer one."""
    if share <= 0:
        return start
    if share >= 1:
        return end
    mixed = {name: (1 - share) * getattr(start, name) + share * getattr(end, name) for name in FIELDS}
    mixed["embedding"] = interpolated_embedding(start.embedding, end.embedding, share)
    return Observation(**mixed, unusable=(start if share < 0.5 else end).unusable)


class ObservationCache:
    """Observations by the content of the frame.

    Args:
        name: identifies the weights and the code that observations depend on.
        folder: of the cache, with one file for each name; None keeps the cache in memory. A damaged file counts as
            empty.
    """

    def __init__(self, authenticator: Authenticator, name: str, folder: Path | None):
        self.authenticator = authenticator
        self.expressions = tuple(authenticator.config.expressions)
        self._path = folder / f"observations_{name}.npz" if folder else None
        self._cached = _stored(self._path) if self._path else {}
        self._unsaved = 0

    def observe(self, frame: Image.Image) -> Observation | None:
        """The observation of a frame; None where it does not show exactly one face."""
        key = hashlib.blake2b(frame.tobytes(), digest_size=12).hexdigest()
        if key not in self._cached:
            evidence = self.authenticator.evidence(frame)
            self._unsaved += 1
            self._cached[key] = None
            if evidence is not None and evidence.face_count == 1:
                logits = np.log([max(evidence.expression_probabilities[name], 1e-9) for name in self.expressions])
                landmarks = evidence.landmarks.astype(np.float64)
                upper = upper_face(frame, evidence.landmarks)
                self._cached[key] = Observation(evidence.embedding, logits, landmarks, upper, evidence.unusable)
        return self._cached[key]

    def template(self, photograph: Image.Image) -> np.ndarray | None:
        """The embedding of the template of a reference photograph; None where it is refused."""
        try:
            return self.authenticator.template([photograph]).embedding
        except (NoFaceError, SeveralFacesError, UnusableFaceError):
            return None

    def save(self) -> None:
        """Write the cache if it has grown; readable by its owner alone, because it holds embeddings of people."""
        if not self._path or not self._unsaved:
            return
        example = next((observation for observation in self._cached.values() if observation is not None), None)
        if example is None:
            return
        absent = Observation(*(np.full_like(getattr(example, field), np.nan, dtype=np.float32) for field in FIELDS))
        rows = [observation or absent for observation in self._cached.values()]
        arrays = {field: np.stack([getattr(row, field) for row in rows]).astype(np.float32) for field in FIELDS}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unusable = np.array([row.unusable or "" for row in rows])
        with replacement(self._path, shared=True, private=True) as temporary, temporary.open("wb") as file:
            np.savez(file, keys=np.array(list(self._cached)), unusable=unusable, **arrays)
        self._unsaved = 0


def _stored(path: Path) -> dict[str, Observation | None]:
    """The observations in a file of the cache, by the content of the frame; none if it is missing or damaged."""
    stored = {}
    try:
        with np.load(path) as file:
            columns = [file[field].astype(np.float32) for field in FIELDS]
            for key, unusable, *values in zip(file["keys"], file["unusable"], *columns, strict=True):
                has_face = np.isfinite(values[0]).all()
                stored[str(key)] = Observation(*values, unusable=str(unusable) or None) if has_face else None
    except UNREADABLE:
        return {}
    return stored
