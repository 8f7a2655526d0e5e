"""The template: what is kept of a person's reference photographs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Template:
    """The re-normalised mean of the reference photographs' embeddings. On disk it lies encrypted or not at all.

    embedding: (d,) float64, of length 1.
    photographs: how many references it was made of.
    """

    embedding: np.ndarray
    photographs: int

    @classmethod
    def from_embeddings(cls, embeddings: Sequence[np.ndarray]) -> "Template":
        """Args: one or more (d,) embeddings of the same person, each of length 1.

        Raises:
            ValueError: none given, NaN among them, or embeddings that cancel each other out.
        """
        if not len(embeddings):
            raise ValueError("a template needs at least one reference photograph")
        mean = np.mean(np.asarray(embeddings, dtype=np.float64), axis=0)
        length = np.linalg.norm(mean)
        if not (np.isfinite(length) and length > 1e-6):
            raise ValueError(f"the mean of the {len(embeddings)} reference embeddings has length {length}: no template")
        return cls(mean / length, len(embeddings))

    def similarity(self, embedding: np.ndarray) -> float:
        """Cosine similarity of the template and a (d,) embedding of length 1, in [-1, 1]; NaN where that holds NaN."""
        return float(self.embedding @ np.asarray(embedding, dtype=np.float64))
