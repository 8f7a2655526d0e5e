"""The table every protocol evaluates: embeddings and expression probabilities of images, with the corpus's labels.

`compute` makes it with our network, `compare.baselines` with others. Anything that makes one can be evaluated.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from datasets import Dataset

from face_data.table import FEATURES, column

UNUSED = ("image", "box", "crop", "landmarks", "detection_probability")  # columns that no protocol reads
LISTS = ("keys", "identities", "expressions", "sources", "splits", "votes")  # fields with one entry per image


@dataclass(frozen=True)
class Embeddings:
    """Network outputs for n images.

    keys: (n,) unique names. embeddings: (n, d) float32. expression_probabilities: (n, classes) in the
    order of `classes`, the model's names. identities, expressions: (n,) the corpus's labels, None where it has none.
    sources, splits: (n,) the corpus an image comes from, and its split there. votes: (n,) the annotators' 8
    probabilities in the order of `face_data.table.CORPUS_EXPRESSIONS`, or None; empty where the corpus has no such
    column. attributes: the corpus's further columns, such as gender: (n,) each.
    """

    keys: list[str]
    embeddings: np.ndarray
    expression_probabilities: np.ndarray
    identities: list[str | None]
    expressions: list[str | None]
    sources: list[str]
    splits: list[str]
    classes: tuple[str, ...]
    votes: list[Sequence[float] | None] = field(default_factory=list)
    attributes: dict[str, list[str | None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of_corpus(
        cls, corpus: Dataset, embeddings: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
    ) -> "Embeddings":
        """The outputs for the images of a prepared corpus, in its order, with its labels."""
        columns = {name: column(corpus, name) for name in corpus.column_names if name not in UNUSED}
        names = corpus.features["expression"].names
        return cls(
            keys=columns["key"],
            embeddings=embeddings,
            expression_probabilities=probabilities,
            identities=columns["identity"],
            expressions=[None if label is None else names[label] for label in columns["expression"]],
            sources=columns["source"],
            splits=columns["split"],
            classes=tuple(classes),
            votes=columns["expression_votes"],
            attributes={name: values for name, values in columns.items() if name not in FEATURES},
        )

    @property
    def probabilities_by_name(self) -> list[dict[str, float]]:
        """(n,) expression -> probability, as `pipeline_facelivenet.decide` expects it."""
        return [dict(zip(self.classes, row, strict=True)) for row in self.expression_probabilities.tolist()]

    def select(self, rows: Sequence[int]) -> "Embeddings":
        """Only these images, in this order."""
        lists = {name: getattr(self, name) for name in LISTS}
        return replace(
            self,
            embeddings=self.embeddings[rows],
            expression_probabilities=self.expression_probabilities[rows],
            **{name: [values[row] for row in rows] if values else [] for name, values in lists.items()},
            attributes={name: [values[row] for row in rows] for name, values in self.attributes.items()},
        )

    def of_splits(self, splits: Sequence[str]) -> "Embeddings":
        """Only the images of these splits, in the same order."""
        return self.select([row for row, split in enumerate(self.splits) if split in splits])

    def trained_splits(self, trained_on: Mapping[str, Sequence[str]] | None) -> frozenset[str] | None:
        """Which splits of these images' corpora a network was trained on; None where that is not recorded."""
        if trained_on is None:
            return None
        return frozenset(split for source in set(self.sources) for split in trained_on.get(source, ()))


def concatenate(parts: Sequence[Embeddings]) -> Embeddings:
    """Several tables of the same classes as one; attributes that not all of them have are left out.

    Embeddings of different networks must not be compared afterwards.
    """
    first = parts[0]
    shared = [name for name in first.attributes if all(name in part.attributes for part in parts)]
    return replace(
        first,
        embeddings=np.concatenate([part.embeddings for part in parts]),
        expression_probabilities=np.concatenate([part.expression_probabilities for part in parts]),
        **{name: [value for part in parts for value in getattr(part, name)] for name in LISTS},
        attributes={name: [value for part in parts for value in part.attributes[name]] for name in shared},
    )


def training_warning(trained: frozenset[str] | None, splits: Iterable[str]) -> str | None:
    """Why a result on these splits may be optimistic because of the training data; None where it is not.

    Args:
        trained: as `Embeddings.trained_splits` returns it.
    """
    if trained is None:
        return "UNKNOWN: it is not recorded which people the network was trained on, possibly on these"
    both = sorted(trained & set(splits))
    return f"OPTIMISTIC: the network was trained on split {', '.join(both)}" if both else None
