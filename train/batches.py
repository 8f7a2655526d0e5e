"""Batches from prepared corpora: labels, images, the weights of images, and the order in which they are drawn.

Called by `loop`; streams are read by `streaming`, composite people made by `composites`. Next: `augmentation`.
"""

import io
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import PIL.Image
import torch
from accelerate import Accelerator
from datasets import Dataset as Corpus
from datasets import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from face_data.named import on_hub
from face_data.table import (
    CORPUS_EXPRESSIONS,
    CorpusError,
    column,
    load_corpus,
    read_summary,
    rows_of_splits,
    split_corpus,
    splits_by_source,
)
from image_processing_facelivenet import LANDMARK_TEMPLATE
from modeling_facelivenet import IGNORE
from train.composites import Composite, compose, draw_composites
from train.teacher import Standard, Teacher, photograph_targets

# Means over the crops of LFW folds 1-8, as fractions of the side: eyes, nose, corners of the mouth.
ORDINARY_LANDMARKS = np.array([[0.34, 0.41], [0.66, 0.41], [0.50, 0.58], [0.37, 0.73], [0.63, 0.73]])
DRAWN = "drawn"  # the source of drawn faces in a corpus
LABEL_COLUMNS = ("source", "identity", "expression", "expression_votes", "split")


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


def vector_of_drawn_person(name: str, size: int) -> np.ndarray:
    """(size,) float32 of length 1, always the same for a name: the targets of two people are nearly orthogonal."""
    vector = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(size)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


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


class TrainingFaces(Dataset):
    """Several prepared corpora as one; asked for rows, it gives a `Batch`.

    A photograph that cannot be decoded is replaced by the next one that can, and named in the batch.
    With `composites` so many people made of others' parts follow the real ones: their photographs are further rows,
    their labels further identities, and nothing is said of their expression (see `train.composites`). With `landmarks`
    batches say where these lie.
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
        if not corpora:
            raise CorpusError("no corpus to read: name at least one")
        named = [split_corpus(text) for text in corpora]
        wholes = [load_corpus(folder) for folder, _ in named]
        self.rows = [  # of each corpus, those that are used
            np.array(rows_of_splits(whole, folder, splits) if splits is not None else range(len(whole)))
            for whole, (folder, splits) in zip(wholes, named, strict=True)
        ]
        parts = [whole.select(rows) for whole, rows in zip(wholes, self.rows, strict=True)]
        # one column, undecoded: reading whole rows takes ten times as long as decoding the JPEG
        self.images = [whole.select_columns("image").cast_column("image", Image(decode=False)) for whole in wholes]
        self.start = np.cumsum([0] + [len(part) for part in parts])
        self.keys = [key for part in parts for key in column(part, "key")]
        self.labels = Labels(parts, expressions, minimum_photographs, soft_labels)
        people = self.labels.identity
        self.composites = draw_composites(people, composites, seed) if composites else []
        self.num_identities = self.labels.num_identities + len(self.composites)
        self.folders, self.wholes = [folder for folder, _ in named], wholes
        self.landmarks = None
        if self.composites or landmarks:
            found = [landmarks_in_crops(part, folder) for part, (folder, _) in zip(parts, named, strict=True)]
            self.landmarks = np.concatenate(found)
        self.tell_landmarks = landmarks
        self.targets: np.ndarray | None = None  # of the photographs, from `learn_from`
        self.composite_start = len(self.keys) + np.cumsum([0] + [len(composite) for composite in self.composites])

    def __len__(self) -> int:
        return int(self.composite_start[-1])

    def __getitems__(self, rows: list[int]) -> Batch:
        found = self.pictures(rows)
        faces, used, unreadable = None, [], {}
        for place, requested in enumerate(rows):
            row, face = requested, found[place]
            while isinstance(face, Exception):
                unreadable[self.key(row)] = str(face)
                row = (row + 1) % len(self)
                if row == requested:
                    raise CorpusError("none of the training photographs can be decoded") from None
                [face] = self.pictures([row])
            if faces is None:
                faces = np.empty((len(rows), *face.shape), dtype=np.uint8)
            faces[place] = resized(face, faces.shape[1:])
            used.append(row)
        return Batch(
            torch.from_numpy(faces).permute(0, 3, 1, 2),
            torch.tensor([self.identity(row) for row in used]),
            torch.from_numpy(np.stack([self.expression(row) for row in used])),
            [self.key(row) for row in used],
            unreadable,
            self._landmarks_of(used) if self.tell_landmarks else None,
            self._targets_of(used) if self.targets is not None else None,
        )

    def learn_from(self, teacher: Teacher, accelerator: Accelerator) -> Standard:
        """Have the batches carry a teacher's standardised vectors, and return what standardises them.

        A teacher that has never seen a drawing finds all drawn people alike, so these have vectors of their own.
        """
        vectors = [
            photograph_targets(teacher, folder, images, decode, landmarks_in_crops(whole, folder), accelerator)[rows]
            for folder, images, whole, rows in zip(self.folders, self.images, self.wholes, self.rows, strict=True)
        ]
        vectors = np.concatenate(vectors)
        standard = Standard.of(vectors)
        self.targets = standard(vectors)
        for whole, rows, start in zip(self.wholes, self.rows, self.start, strict=False):
            sources, people = column(whole, "source"), column(whole, "identity")
            for place, row in enumerate(rows.tolist()):
                if sources[row] == DRAWN and people[row] is not None:
                    self.targets[start + place] = vector_of_drawn_person(people[row], vectors.shape[1])
        return standard

    def _landmarks_of(self, rows: list[int]) -> Tensor:
        """(b, 5, 2) of pictures; a composite has those of its base."""
        return torch.from_numpy(self.landmarks[[self._made_of(row)[1][-1] for row in rows]]).float()

    def _targets_of(self, rows: list[int]) -> Tensor:
        """(b, d) of photographs; NaN for composites, which the teacher has not seen."""
        targets = np.full((len(rows), self.targets.shape[1]), np.nan, dtype=np.float32)
        photographs = [place for place, row in enumerate(rows) if row < len(self.keys)]
        targets[photographs] = self.targets[[rows[place] for place in photographs]]
        return torch.from_numpy(targets)

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__([row])

    def identity(self, row: int) -> int:
        """The label of a row's person, −100 where it is unknown."""
        composite, _ = self._made_of(row)
        return int(self.labels.identity[row]) if composite is None else composite.label

    def expression(self, row: int) -> np.ndarray:
        """(n,) probabilities of a row's expressions, zeros where it is unknown."""
        composite, _ = self._made_of(row)
        return self.labels.expression[row] if composite is None else np.zeros_like(self.labels.expression[0])

    def key(self, row: int) -> str:
        """The name of a row's image: its photograph's, or those of a composite's two photographs."""
        composite, sources = self._made_of(row)
        if composite is None:
            return self.keys[row]
        donor, base = sources
        return f"{self.keys[base]} with the {' and '.join(composite.parts)} of {self.keys[donor]}"

    def pictures(self, rows: list[int]) -> list[np.ndarray | Exception]:
        """The rows' pictures, each (h, w, 3) uint8 of its own size, or why it cannot be decoded."""
        made_of = [self._made_of(row) for row in rows]
        photographs = iter(self.photographs([source for _, sources in made_of for source in sources]))
        return [
            next(photographs)
            if composite is None
            else self._composed(composite, sources, next(photographs), next(photographs))
            for composite, sources in made_of
        ]

    def _composed(self, composite: Composite, sources: tuple[int, ...], *faces: np.ndarray | Exception):
        """What becomes of the donor's and the base's picture."""
        for face in faces:
            if isinstance(face, Exception):
                return face
        donor, base = faces
        from_donor, from_base = (
            self.landmarks[source] * [face.shape[1], face.shape[0]] for source, face in zip(sources, faces, strict=True)
        )
        return compose(base, from_base, donor, from_donor, composite.parts)

    def _made_of(self, row: int) -> tuple[Composite | None, tuple[int, ...]]:
        """The composite of a row, None for a photograph; and what it is made of: donor and base, or itself."""
        if row < len(self.keys):
            return None, (row,)
        number = int(np.searchsorted(self.composite_start, row, side="right")) - 1
        composite = self.composites[number]
        return composite, composite.rows(row - int(self.composite_start[number]))

    def photographs(self, rows: list[int]) -> list[np.ndarray | Exception]:
        """Photographs as `pictures` gives them."""
        faces = []
        for encoded in self.encoded(rows):
            try:
                faces.append(decode(encoded))
            except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises on damaged pictures
                faces.append(error)
        return faces

    def encoded(self, rows: list[int]) -> list[bytes]:
        """The rows' pictures as they are stored: one look-up per corpus costs half as much as one per row."""
        parts, places = self._places(rows)
        encoded = [b""] * len(rows)
        for part in set(parts):
            indices = [index for index, other in enumerate(parts) if other == part]
            images = self.images[part][[places[index] for index in indices]]["image"]
            for index, image in zip(indices, images, strict=True):
                encoded[index] = image["bytes"]
        return encoded

    def _places(self, rows: list[int]) -> tuple[list[int], list[int]]:
        """Of each row its corpus, and its row in the whole of it."""
        parts = (np.searchsorted(self.start, rows, side="right") - 1).tolist()
        return parts, [int(self.rows[part][row - self.start[part]]) for part, row in zip(parts, rows, strict=True)]

    def row_weights(self, weights: list[float], identity_balance: float, composite_share: float = 0.0) -> np.ndarray:
        """(rows,) probability of each image.

        Args:
            weights: share of each corpus.
            identity_balance: within a corpus people are drawn by the number of their photographs to the power of
                1 − identity_balance.
            composite_share: share of composite people together, all equally likely.
        """
        row_weight = np.ones(len(self.keys))
        identity = self.labels.identity
        known = identity != IGNORE
        photographs = np.bincount(identity[known], minlength=self.labels.num_identities)
        row_weight[known] = photographs[identity[known]] ** -identity_balance
        for weight, first, last in zip(weights, self.start, self.start[1:], strict=False):
            row_weight[first:last] *= weight / row_weight[first:last].sum()
        if not self.composites:
            return row_weight / row_weight.sum()
        each = composite_share / len(self.composites)
        of_composites = [np.full(len(composite), each / len(composite)) for composite in self.composites]
        return np.concatenate([row_weight / row_weight.sum() * (1 - composite_share), *of_composites])


def decode(encoded: bytes) -> np.ndarray:
    """An encoded picture as (h, w, 3) uint8."""
    with PIL.Image.open(io.BytesIO(encoded)) as image:
        image.load()
        # converting one that is RGB would copy it
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def resized(face: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A decoded picture in another (h, w, 3), where it is not in that one."""
    if face.shape == tuple(shape):
        return face
    return np.asarray(PIL.Image.fromarray(face).resize((shape[1], shape[0]), PIL.Image.Resampling.BILINEAR))


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


def landmarks_in_crops(part: Corpus, folder: str) -> np.ndarray:
    """(rows, 5, 2) of a corpus's aligned faces, as fractions of their side.

    Where the publisher cut the face out and the detector found none, those of an ordinary face stand in.
    """
    if on_hub(folder):
        raise CorpusError(
            f"{folder}: landmarks need a corpus.json, which says how faces were cut out; one on the Hub has none"
        )
    if read_summary(folder)["options"]["alignment"] == "similarity":
        return np.broadcast_to(LANDMARK_TEMPLATE, (len(part), 5, 2))
    if "crop" not in part.column_names:
        raise CorpusError(f"{folder}: prepared by an earlier version, which did not note the crop; prepare it again")
    crop = np.array(column(part, "crop"), dtype=np.float64)
    landmarks = [np.full((5, 2), np.nan) if points is None else points for points in column(part, "landmarks")]
    inside = (np.array(landmarks, dtype=np.float64) - crop[:, None, :2]) / (crop[:, 2:] - crop[:, :2])[:, None]
    return np.where(np.isnan(inside), ORDINARY_LANDMARKS, inside)


def _label_rows(part: Corpus) -> list[dict]:
    columns = part.select_columns(list(LABEL_COLUMNS)).to_dict()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
