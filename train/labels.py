"""Labels of training images: whose face it is as a number, and which expression as probabilities.

Called by `photographs`, and by `loop` and `streaming` for streams. Next: `photographs`.
"""

from collections import Counter

import numpy as np
from datasets import Dataset as Corpus

from face_data.table import CORPUS_EXPRESSIONS, splits_by_source
from modeling_facelivenet import IGNORE

LABEL_COLUMNS = ("source", "identity", "expression", "expression_votes", "split")


class Labels:
    """The labels of several corpora as one table.

    Identity labels number the people of all corpora together, a name being one person within a source and another in
    the next; −100 where the person is unknown or has fewer than `minimum_photographs`. The expression target holds
    probabilities over the network's expressions: with `soft` the annotators' votes where there are any, else all on the
    label, else zeros. Votes for expressions the network does not know are dropped; where nothing remains, the target is
    zeros. `splits` says which of each source's splits these are.
    """

    def __init__(self, parts: list[Corpus], expressions: tuple[str, ...], minimum_photographs: int, soft: bool):
        table = [row for part in parts for row in _label_rows(part)]
        photographs = Counter((row["source"], row["identity"]) for row in table if row["identity"])
        people = sorted(name for name, count in photographs.items() if count >= minimum_photographs)
        self._number = {person: label for label, person in enumerate(people)}
        self.num_identities = len(people)
        self.expressions, self.soft = expressions, soft
        self.identity = np.array([self.label(row) for row in table])
        self.expression = np.stack([self.target(row) for row in table])
        self.splits = splits_by_source(parts)

    def label(self, row: dict) -> int:
        """The label of one row's person, −100 where it is unknown."""
        return self._number.get((row["source"], row["identity"]), IGNORE)

    def target(self, row: dict) -> np.ndarray:
        """(n,) probabilities of one row, zeros where it has no label."""
        probability = dict(zip(CORPUS_EXPRESSIONS, (row["expression_votes"] or []) if self.soft else [], strict=False))
        if not probability and row["expression"] is not None:
            probability = {CORPUS_EXPRESSIONS[row["expression"]]: 1.0}
        target = np.array([probability.get(name, 0.0) for name in self.expressions], dtype=np.float32)
        return target / target.sum() if target.sum() > 0 else target


def _label_rows(part: Corpus) -> list[dict]:
    columns = part.select_columns(list(LABEL_COLUMNS)).to_dict()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
