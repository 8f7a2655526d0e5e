"""What the network sees of rendered pictures, kept on disk so that no picture passes it twice.

A `Look` is everything a session is shown of a frame, before the frame is judged; looks can be mixed, as the frames of a
film lie between its pictures.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from authentication.authenticator import Authenticator
from authentication.session import upper_face


@dataclass(frozen=True)
class Look:
    """embedding: (d,). logits: (expressions,) log probabilities. landmarks: (5, 2). band: upper_face's.

    unusable: why the quality gate refuses the face, see `Evidence`; None where it does not.
    """

    embedding: np.ndarray
    logits: np.ndarray
    landmarks: np.ndarray
    band: np.ndarray
    unusable: str | None = None

    def probabilities(self, names: tuple[str, ...]) -> dict[str, float]:
        values = np.exp(self.logits - np.logaddexp.reduce(self.logits))
        return dict(zip(names, values.tolist(), strict=True))


def between(one: Look, other: Look, share: float) -> Look:
    """What lies so far on the way from one look to the other, 0 to 1; usable where the nearer one is."""
    if share <= 0:
        return one
    if share >= 1:
        return other
    mixed = {
        name: (1 - share) * getattr(one, name) + share * getattr(other, name)
        for name in ("embedding", "logits", "landmarks", "band")
    }
    length = (1 - share) * np.linalg.norm(one.embedding) + share * np.linalg.norm(other.embedding)
    mixed["embedding"] = mixed["embedding"] * (length / np.linalg.norm(mixed["embedding"]))
    return Look(**mixed, unusable=(one if share < 0.5 else other).unusable)


class Looks:
    """Looks at pictures, each only once.

    Args:
        folder: where looks are kept, in one file for each network; None keeps nothing.
    """

    FIELDS = ("embedding", "logits", "landmarks", "band")

    def __init__(self, authenticator: Authenticator, name: str, folder: Path | None):
        self.authenticator = authenticator
        self.names = tuple(authenticator.config.expressions)
        self._path = folder / f"looks_{name}.npz" if folder else None
        self._kept: dict[str, Look | None] = {}
        self._new = 0
        if self._path and self._path.is_file():
            with np.load(self._path) as file:
                stored = [file[field] for field in self.FIELDS]
                for place, (key, unusable) in enumerate(zip(file["keys"], file["unusable"], strict=True)):
                    parts = [values[place].astype(np.float32) for values in stored]
                    seen = np.isfinite(parts[0]).all()
                    self._kept[str(key)] = Look(*parts, unusable=str(unusable) or None) if seen else None

    def at(self, picture: Image.Image) -> Look | None:
        """None where the picture does not show exactly one face."""
        key = hashlib.blake2b(picture.tobytes(), digest_size=12).hexdigest()
        if key not in self._kept:
            evidence = self.authenticator.look(picture)
            self._new += 1
            self._kept[key] = None
            if evidence is not None and evidence.face_count == 1:
                values = [max(evidence.expression_probabilities[name], 1e-9) for name in self.names]
                landmarks, band = evidence.landmarks.astype(np.float64), upper_face(picture, evidence.landmarks)
                self._kept[key] = Look(evidence.embedding, np.log(values), landmarks, band, evidence.unusable)
        return self._kept[key]

    def save(self) -> None:
        """Write what is new; the file is readable by its owner alone, for it holds embeddings of people."""
        if not self._path or not self._new:
            return
        known = next((look for look in self._kept.values() if look is not None), None)
        if known is None:
            return
        nothing = Look(*(np.full_like(getattr(known, field), np.nan, dtype=np.float32) for field in self.FIELDS))
        looks = [look or nothing for look in self._kept.values()]
        arrays = {field: np.stack([getattr(look, field) for look in looks]).astype(np.float32) for field in self.FIELDS}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch(mode=0o600)
        unusable = np.array([look.unusable or "" for look in looks])
        np.savez(self._path, keys=np.array(list(self._kept)), unusable=unusable, **arrays)
        self._new = 0
