"""The template: the mean embedding of a person's reference photographs.

Made by `authenticator` and `reference`, kept on disk by `template_store`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline_facelivenet import mean_embedding


@dataclass(frozen=True)
class Template:
    """The mean of the reference photographs' embeddings. On disk it lies encrypted or not at all.

    embedding: (d,) float64, `mean_embedding` of theirs.
    photographs: how many references it was made of.
    """

    embedding: np.ndarray
    photographs: int

    @classmethod
    def from_embeddings(cls, embeddings: Sequence[np.ndarray]) -> "Template":
        """Args: one or more (d,) embeddings of the same person.

        Raises:
            ValueError: none given, NaN among them, or embeddings that cancel each other out.
        """
        if not len(embeddings):
            raise ValueError("a template needs at least one reference photograph")
        if not np.isfinite(embeddings).all():
            raise ValueError(f"a number in the {len(embeddings)} reference embeddings is not finite: no template")
        mean = mean_embedding(embeddings)
        if not np.linalg.norm(mean) > 1e-3:
            raise ValueError(f"the {len(embeddings)} reference embeddings cancel each other out: no template")
        return cls(mean, len(embeddings))

    def similarity(self, embedding: np.ndarray) -> float:
        """Dot product of the template and a (d,) embedding, in [-1, 1]; NaN where that holds NaN."""
        return float(self.embedding @ np.asarray(embedding, dtype=np.float64))
