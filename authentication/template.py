"""The template: the mean embedding of a person's reference photographs, each of which has several views.

`authenticator` and `reference` make templates, `template_store` saves them. Read `template_store` next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline_facelivenet import mean_embedding


@dataclass(frozen=True)
class Template:
    """The mean of the embeddings of reference photographs. It must only be saved encrypted.

    embedding: (d,) float64, from `mean_embedding`.
    photographs: number of reference photographs.
    """

    embedding: np.ndarray
    photographs: int

    @classmethod
    def from_embeddings(cls, embeddings: Sequence[np.ndarray]) -> "Template":
        """The template of one person.

        Args:
            embeddings: one or more (d,) embeddings of the same person.

        Raises:
            ValueError: there is no embedding, one is not finite, or they cancel each other out.
        """
        if not len(embeddings):
            raise ValueError("a template needs at least one reference photograph")
        if not np.isfinite(embeddings).all():
            raise ValueError(f"no template: a number in the {len(embeddings)} reference embeddings is not finite")
        mean = mean_embedding(embeddings)
        if not np.linalg.norm(mean) > 1e-3:
            raise ValueError(f"no template: the {len(embeddings)} reference embeddings cancel each other out")
        return cls(mean, len(embeddings))

    def similarity(self, embedding: np.ndarray) -> float:
        """Dot product of the template and a (d,) embedding, in [-1, 1]; NaN if the embedding contains NaN."""
        return float(self.embedding @ np.asarray(embedding, dtype=np.float64))
