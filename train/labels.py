"""Labels of training images: the person as a number, and the expression as probabilities.

Called by `photographs`, and for streams by `data` and `streaming`. Next to read: train/photographs.py.
"""

from collections import Counter

import numpy as np
from datasets import Dataset as Corpus

from face_data.table import CORPUS_EXPRESSIONS, splits_by_source
from modeling_facelivenet import IGNORE

LABEL_COLUMNS = ("source", "identity", "expression", "expression_votes", "split")


class Labels:
    """The labels of several corpora as one table.

    The people of all corpora are numbered together. The same name in two sources means two people. People with a single
    photograph have no identity label: as additional classes they made verification worse (docs/experiments.md). The
    expression is the votes of annotators as probabilities, if a photograph has any. Votes for expressions that the
    network does not predict are ignored.

    Args:
        parts: the corpora, each with LABEL_COLUMNS.
        expressions: those that the network predicts.

    Attributes:
        identity: (rows,) labels, −100 if the person is unknown or has a single photograph.
        expression: (rows, n) float32 probabilities: the votes, or 1 for the label, or zeros without a known label.
        num_identities: number of people.
        splits: source -> splits of the photographs.
    """

    def __init__(self, parts: list[Corpus], expressions: tuple[str, ...]):
        table = [row for part in parts for row in _label_rows(part)]
        photographs = Counter((row["source"], row["identity"]) for row in table if row["identity"])
        people = sorted(name for name, count in photographs.items() if count >= 2)
        self._number = {person: label for label, person in enumerate(people)}
        self.num_identities = len(people)
        self.expressions = expressions
        self.identity = np.array([self.label(row) for row in table])
        self.expression = np.stack([self.target(row) for row in table])
        self.splits = splits_by_source(parts)

    def label(self, row: dict) -> int:
        """The identity label of a row, −100 if the person is unknown."""
        return self._number.get((row["source"], row["identity"]), IGNORE)

    def target(self, row: dict) -> np.ndarray:
        """(n,) expression probabilities of a row, zeros without a label."""
        probability = dict(zip(CORPUS_EXPRESSIONS, row["expression_votes"] or [], strict=False))
        if not probability and row["expression"] is not None:
            probability = {CORPUS_EXPRESSIONS[row["expression"]]: 1.0}
        target = np.array([probability.get(name, 0.0) for name in self.expressions], dtype=np.float32)
        return target / target.sum() if target.sum() > 0 else target


def _label_rows(part: Corpus) -> list[dict]:
    columns = part.select_columns(list(LABEL_COLUMNS)).to_dict()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
