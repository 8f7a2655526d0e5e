"""Batches of training images: photographs and composite people together, and the order in which they are drawn.

Called by `loop`; `photographs` and `composites` hold the images, and streams are read by `streaming`. Next:
`augmentation`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from face_data.table import CorpusError
from modeling_facelivenet import IGNORE
from train.composites import Composites
from train.photographs import Photographs, resized


@dataclass
class Batch:
    """faces: (b, 3, h, w) uint8. identity: (b,) labels, −100 unknown. expression: (b, n) probabilities, rows of zeros
    unknown. keys: where each face comes from. unreadable: photographs that others stand in for, and why.
    landmarks: (b, 5, 2) as fractions of the side, and targets: (b, d) standardised vectors of a teacher, rows of NaN
    where they are not known yet; None where nothing needs them."""

    faces: Tensor
    identity: Tensor
    expression: Tensor
    keys: list[str]
    unreadable: dict[str, str] = field(default_factory=dict)
    landmarks: Tensor | None = None
    targets: Tensor | None = None

    def pin_memory(self):
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.pin_memory())
        return self

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on a device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in tensors.items()})


def no_collate(batch: Batch) -> Batch:
    """The loader's collate function: the dataset makes whole batches."""
    return batch


class TrainingFaces(Dataset):
    """Photographs of several corpora, and composite people after them, as one list; asked for rows, it gives a `Batch`.

    A picture that cannot be decoded is replaced by the next one that can, and named in the batch.

    Args:
        corpora, expressions, minimum_photographs, soft_labels: as for `Photographs`.
        composites, seed: how many composite people, and which (`Composites`).
        landmarks: whether batches have them.
    """

    def __init__(
        self,
        corpora: list[str],
        expressions: tuple[str, ...],
        minimum_photographs: int = 1,
        soft_labels: bool = True,
        composites: int = 0,
        seed: int = 0,
        landmarks: bool = False,
    ):
        needs_landmarks = landmarks or composites > 0
        self.photographs = Photographs(corpora, expressions, minimum_photographs, soft_labels, needs_landmarks)
        self.composites = Composites(self.photographs, composites, seed)
        self.labels = self.photographs.labels
        self.num_identities = self.labels.num_identities + len(self.composites.people)
        self._tell_landmarks = landmarks

    def __len__(self) -> int:
        return len(self.photographs) + len(self.composites)

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> Batch:
        pictures, used, unreadable = self._readable(rows)
        shape = pictures[0].shape
        faces = np.stack([resized(picture, shape) for picture in pictures])
        sources = [self._source(row) for row in used]
        landmarks = targets = None
        if self._tell_landmarks:
            landmarks = torch.from_numpy(np.stack([source.landmarks_of(row) for source, row in sources])).float()
        if self.photographs.targets is not None:
            targets = torch.from_numpy(np.stack([source.target(row) for source, row in sources]))
        return Batch(
            torch.from_numpy(faces).permute(0, 3, 1, 2),
            torch.tensor([source.identity(row) for source, row in sources]),
            torch.from_numpy(np.stack([source.expression(row) for source, row in sources])),
            [source.key(row) for source, row in sources],
            unreadable,
            landmarks,
            targets,
        )

    def key(self, row: int) -> str:
        """The name of a row's picture."""
        source, row = self._source(row)
        return source.key(row)

    def _source(self, row: int) -> tuple[Photographs | Composites, int]:
        """Which of the two holds a row, and the row's place there."""
        first = len(self.photographs)
        return (self.photographs, row) if row < first else (self.composites, row - first)

    def _pictures(self, rows: list[int]) -> list[np.ndarray | Exception]:
        """The rows' pictures, each (h, w, 3) uint8 of its own size, or why it cannot be decoded."""
        first = len(self.photographs)
        photographs = iter(self.photographs.pictures([row for row in rows if row < first]))
        composites = iter(self.composites.pictures([row - first for row in rows if row >= first]))
        return [next(photographs if row < first else composites) for row in rows]

    def _readable(self, rows: list[int]) -> tuple[list[np.ndarray], list[int], dict[str, str]]:
        """The pictures of the rows or of those that stand in for them, these rows, and what is unreadable and why."""
        pictures, used, unreadable = self._pictures(rows), list(rows), {}
        for place, requested in enumerate(rows):
            while isinstance(pictures[place], Exception):
                unreadable[self.key(used[place])] = str(pictures[place])
                used[place] = (used[place] + 1) % len(self)
                if used[place] == requested:
                    raise CorpusError("none of the training photographs can be decoded")
                [pictures[place]] = self._pictures([used[place]])
        return pictures, used, unreadable


def row_weights(
    faces: TrainingFaces, shares: list[float], identity_balance: float, composite_share: float = 0.0
) -> np.ndarray:
    """(rows,) probability of each picture.

    Args:
        shares: of each corpus.
        identity_balance: within a corpus people are drawn by the number of their photographs to the power of
            1 − identity_balance.
        composite_share: share of composite people together, all equally likely.
    """
    weights = photograph_weights(faces.photographs, shares, identity_balance)
    composites = faces.composites
    if not composites.people:
        return weights
    each = composite_share / len(composites.people)
    return np.concatenate([weights * (1 - composite_share), np.repeat(each / composites.counts, composites.counts)])


def photograph_weights(photographs: Photographs, shares: list[float], identity_balance: float) -> np.ndarray:
    """(rows,) probability of each photograph, without composites; see `row_weights`."""
    identity = photographs.labels.identity
    known = identity != IGNORE
    count = np.bincount(identity[known], minlength=photographs.labels.num_identities)
    weights = np.ones(len(identity))
    weights[known] = count[identity[known]] ** -identity_balance
    first = 0
    for share, size in zip(shares, photographs.counts, strict=True):
        weights[first : first + size] *= share / weights[first : first + size].sum()
        first += size
    return weights / weights.sum()


class DrawnBatches(Sampler):
    """Which rows make which batch, with replacement by row weights: a function of seed and number of the batch alone.

    So a run that goes on at batch n needs no memory of those before it, and a global batch of a given size holds the
    same photographs however many processes, or accumulated batches, share it.

    Args:
        row_weights: (rows,) how likely each is.
        first, last: numbers of the steps, from 0, last excluded.
        shape: (accumulated batches, processes, photographs per batch): one step's rows.
        process: which of the processes this is.
    """

    def __init__(
        self, row_weights: np.ndarray, seed: int, first: int, last: int, shape: tuple[int, int, int], process: int
    ):
        self.cumulative = np.cumsum(row_weights / row_weights.sum())
        self.seed, self.first, self.last, self.shape, self.process = seed, first, last, shape, process

    def __len__(self) -> int:
        return (self.last - self.first) * self.shape[0]

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first, self.last):
            place = np.random.default_rng((self.seed, step)).random(self.shape)
            rows = np.searchsorted(self.cumulative, place).clip(max=len(self.cumulative) - 1)
            yield from rows[:, self.process].tolist()
