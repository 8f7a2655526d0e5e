"""Batches of training images: photographs and composite people together, and the order in which they are drawn.

Called by `data`. The images come from `photographs` and `composites`; streams are read by `streaming`. Next to read:
train/augmentation.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from face_data.table import CorpusError
from train.composites import Composites
from train.photographs import Photographs, resized


@dataclass
class Batch:
    """One batch of training images with their labels.

    Attributes:
        faces: (b, 3, h, w) uint8.
        identity: (b,) labels, −100 if the person is unknown.
        expression: (b, n) probabilities, zeros if the expression is unknown.
        keys: names of the images.
        unreadable: name -> error of the photographs that were replaced by others.
        landmarks: (b, 5, 2) as fractions of the side; None if the photographs were read without landmarks.
        targets: (b, d) standardised vectors of a teacher, NaN if they are not computed yet; None without a teacher.
    """

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
    """The collate function of data loaders whose dataset returns complete batches."""
    return batch


class TrainingFaces(Dataset):
    """A list of photographs and, after them, of the images of composite people; several of its rows make a `Batch`.

    An image that cannot be decoded is replaced by the next one that can be decoded, and named in the batch.

    Args:
        photographs: with landmarks if there are composites.
        composites: number of composite people. seed: of their random choice (`Composites`).
    """

    def __init__(self, photographs: Photographs, composites: int = 0, seed: int = 0):
        self.photographs = photographs
        self.composites = Composites(photographs, composites, seed)
        self.labels = photographs.labels
        self.num_identities = self.labels.num_identities + len(self.composites.people)

    def __len__(self) -> int:
        return len(self.photographs) + len(self.composites)

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> Batch:
        images, used, unreadable = self._readable(rows)
        shape = images[0].shape
        faces = np.stack([resized(image, shape) for image in images])
        sources = [self._source(row) for row in used]
        landmarks = targets = None
        if self.photographs.landmarks is not None:
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
        """The name of the image of a row."""
        source, row = self._source(row)
        return source.key(row)

    def _source(self, row: int) -> tuple[Photographs | Composites, int]:
        """The list that contains a row, and the number of the row in this list."""
        first = len(self.photographs)
        return (self.photographs, row) if row < first else (self.composites, row - first)

    def _decoded(self, rows: list[int]) -> list[np.ndarray | Exception]:
        """The images of rows, each (h, w, 3) uint8 of any size, or the error if it cannot be decoded."""
        first = len(self.photographs)
        photographs = iter(self.photographs.images([row for row in rows if row < first]))
        composites = iter(self.composites.images([row - first for row in rows if row >= first]))
        return [next(photographs if row < first else composites) for row in rows]

    def _readable(self, rows: list[int]) -> tuple[list[np.ndarray], list[int], dict[str, str]]:
        """Images, their rows, which replace those that cannot be decoded, and the names and errors of the latter."""
        images, used, unreadable = self._decoded(rows), list(rows), {}
        for place, requested in enumerate(rows):
            while isinstance(images[place], Exception):
                unreadable[self.key(used[place])] = str(images[place])
                used[place] = (used[place] + 1) % len(self)
                if used[place] == requested:
                    raise CorpusError("none of the training photographs can be decoded")
                [images[place]] = self._decoded([used[place]])
        return images, used, unreadable


def row_weights(faces: TrainingFaces, shares: list[float], composite_share: float = 0.0) -> np.ndarray:
    """(rows,) probability of each image. Within a corpus all photographs are equally probable.

    Args:
        shares: share of each corpus.
        composite_share: share of all composite people together, who are equally probable.
    """
    counts = faces.photographs.counts
    weights = np.repeat(np.array(shares) / counts, counts)
    weights /= weights.sum()
    composites = faces.composites
    if not composites.people:
        return weights
    each = composite_share / len(composites.people)
    return np.concatenate([weights * (1 - composite_share), np.repeat(each / composites.counts, composites.counts)])


class DrawnBatches(Sampler):
    """Draws the rows of each batch by their weights, with replacement. They depend only on the seed and the step.

    So a run can be resumed at any step. The photographs of a step are the same for any number of processes and
    accumulated batches, if its size is the same.

    Args:
        row_weights: (rows,) proportional to the probability of each row.
        first, last: the steps from `first` to `last` − 1, counted from 0.
        shape: of the rows of one step: (accumulated batches, processes, photographs in a batch).
        process: number of this process.
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
