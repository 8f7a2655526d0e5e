"""Prepared corpora -> batches: which photographs, with which labels, in which mixture."""

import io
from collections import Counter

import numpy as np
import PIL.Image
import torch
from datasets import Image
from torch import Tensor
from torch.utils.data import Dataset, WeightedRandomSampler

from face_data.table import EXPRESSIONS, CorpusError, column, load_corpus
from train.config import split_corpus

IGNORE = -100


class TrainingFaces(Dataset):
    """Several corpora as one; an item is (face uint8 (3, h, w), identity label, expression target).

    Identity labels number the people of all corpora together; −100 where the person is unknown or has fewer than
    `minimum_photographs`. The expression target holds probabilities over the network's expressions: the annotators'
    votes where there are any, else all on the label, else zeros. Votes for expressions the network does not know are
    dropped; where nothing remains, the target is zeros.
    """

    def __init__(self, corpora: list[str], expressions: tuple[str, ...], minimum_photographs: int = 1):
        if not corpora:
            raise CorpusError("no corpus to read: name at least one")
        parts = [load_corpus(*split_corpus(text)) for text in corpora]
        # one column, undecoded: reading whole rows takes ten times as long as decoding the JPEG
        self.images = [part.select_columns("image").cast_column("image", Image(decode=False)) for part in parts]
        self.start = np.cumsum([0] + [len(part) for part in parts])
        self.splits = {
            split_corpus(text)[0]: sorted(set(column(part, "split")))
            for text, part in zip(corpora, parts, strict=True)
        }
        table = [row for part in parts for row in _labels(part)]
        photographs = Counter(row["identity"] for row in table if row["identity"])
        people = sorted(name for name, count in photographs.items() if count >= minimum_photographs)
        number = {person: label for label, person in enumerate(people)}
        self.num_identities = len(people)
        self.identity = np.array([number.get(row["identity"], IGNORE) for row in table])
        self.expression = np.stack([_target(row, expressions) for row in table])

    def __len__(self) -> int:
        return int(self.start[-1])

    def __getitem__(self, index: int) -> tuple[Tensor, int, np.ndarray]:
        part = int(np.searchsorted(self.start, index, side="right")) - 1
        encoded = self.images[part][int(index) - int(self.start[part])]["image"]["bytes"]
        pixels = np.array(PIL.Image.open(io.BytesIO(encoded)).convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1), int(self.identity[index]), self.expression[index]

    def sampler(self, weights: list[float], samples: int, generator: torch.Generator) -> WeightedRandomSampler:
        """Draws corpora by their weights and, within one, people by the square root of how many photographs they have,

        so that neither the few much-photographed people nor the many with two photographs make up a batch.
        """
        row_weight = np.ones(len(self))
        known = self.identity != IGNORE
        count = np.bincount(self.identity[known], minlength=self.num_identities)
        row_weight[known] = count[self.identity[known]] ** -0.5
        for weight, first, last in zip(weights, self.start, self.start[1:], strict=False):
            row_weight[first:last] *= weight / row_weight[first:last].sum()
        return WeightedRandomSampler(torch.from_numpy(row_weight), samples, generator=generator)


def _labels(part) -> list[dict]:
    columns = part.select_columns(["identity", "expression", "expression_votes"]).to_dict()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _target(row: dict, expressions: tuple[str, ...]) -> np.ndarray:
    probability = dict(zip(EXPRESSIONS, row["expression_votes"] or [], strict=False))
    if not probability and row["expression"] is not None:
        probability = {EXPRESSIONS[row["expression"]]: 1.0}
    target = np.array([probability.get(name, 0.0) for name in expressions], dtype=np.float32)
    return target / target.sum() if target.sum() > 0 else target
