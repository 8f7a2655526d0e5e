"""The table that every protocol evaluates: embeddings and expression probabilities of images, with their labels.

`compute` makes it with our network, `compare.baselines` with other ones. Any network whose output has this form can be
evaluated. Read `protocols.corpus` next.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from datasets import Dataset

from face_data.table import FEATURES, column

UNUSED_COLUMNS = ("image", "box", "crop", "landmarks", "detection_probability")  # columns that no protocol reads
LIST_FIELDS = ("keys", "identities", "expressions", "sources", "splits", "votes")  # fields with one entry per image


@dataclass(frozen=True)
class Embeddings:
    """Network outputs for n images.

    keys: (n,) unique names. embeddings: (n, d), of the images as probes. references: (n, d), of the images as reference
    photographs (`pipeline_facelivenet.reference_embeddings`). expression_probabilities: (n, classes) in the order of
    `classes`, the model's expressions. identities, expressions: (n,) the corpus's labels, None where missing. sources,
    splits: (n,) the corpus from which an image comes, and its split there. votes: (n,) the annotators' 8 probabilities
    in the order of `face_data.table.CORPUS_EXPRESSIONS`, or None; empty if the corpus has no such column. attributes:
    (n,) each, the corpus's further columns, such as gender.
    """

    keys: list[str]
    embeddings: np.ndarray
    references: np.ndarray
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
    def from_corpus(
        cls,
        corpus: Dataset,
        embeddings: np.ndarray,
        references: np.ndarray,
        probabilities: np.ndarray,
        classes: Sequence[str],
    ) -> "Embeddings":
        """The outputs for the images of a prepared corpus, in the corpus's order, with its labels."""
        columns = {name: column(corpus, name) for name in corpus.column_names if name not in UNUSED_COLUMNS}
        names = corpus.features["expression"].names
        return cls(
            keys=columns["key"],
            embeddings=embeddings,
            references=references,
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
        """These rows, in this order."""
        lists = {name: getattr(self, name) for name in LIST_FIELDS}
        return replace(
            self,
            embeddings=self.embeddings[rows],
            references=self.references[rows],
            expression_probabilities=self.expression_probabilities[rows],
            **{name: [values[row] for row in rows] if values else [] for name, values in lists.items()},
            attributes={name: [values[row] for row in rows] for name, values in self.attributes.items()},
        )

    def in_splits(self, splits: Sequence[str]) -> "Embeddings":
        """The images of these splits, in unchanged order."""
        return self.select([row for row, split in enumerate(self.splits) if split in splits])

    def trained_splits(self, trained_on: Mapping[str, Sequence[str]] | None) -> frozenset[str] | None:
        """The splits of these images' corpora on which a network was trained; None if that is not recorded."""
        if trained_on is None:
            return None
        return frozenset(split for source in set(self.sources) for split in trained_on.get(source, ()))


def concatenate(tables: Sequence[Embeddings]) -> Embeddings:
    """Several tables of the same classes as one. Attributes are kept if every table has them.

    Embeddings of different networks cannot be compared with one another.
    """
    first_table = tables[0]
    shared = [name for name in first_table.attributes if all(name in table.attributes for table in tables)]
    return replace(
        first_table,
        embeddings=np.concatenate([table.embeddings for table in tables]),
        references=np.concatenate([table.references for table in tables]),
        expression_probabilities=np.concatenate([table.expression_probabilities for table in tables]),
        **{name: [value for table in tables for value in getattr(table, name)] for name in LIST_FIELDS},
        attributes={name: [value for table in tables for value in table.attributes[name]] for name in shared},
    )


def training_warning(trained: frozenset[str] | None, splits: Iterable[str]) -> str | None:
    """The warning that the network may have been trained on these splits; None if it was not.

    Args:
        trained: from `Embeddings.trained_splits`.
    """
    if trained is None:
        return "UNKNOWN: it is not recorded on which people the network was trained; these may be among them"
    trained_here = sorted(trained & set(splits))
    return f"OPTIMISTIC: the network was trained on split {', '.join(trained_here)}" if trained_here else None
