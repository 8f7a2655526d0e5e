"""The photographs of several prepared corpora as one list, with their labels, landmarks and a teacher's targets.

Called by `batches` and `composites`; streams are read by `streaming`. Next: `composites`, `batches`.
"""

import io
import zlib
from typing import NamedTuple

import numpy as np
import PIL.Image
from accelerate import Accelerator
from datasets import Dataset as Corpus
from datasets import Image, concatenate_datasets

from face_data.corpus import on_hub
from face_data.table import CorpusError, column, load_corpus, read_summary, rows_of_splits, split_corpus
from image_processing_facelivenet import LANDMARK_TEMPLATE
from train.labels import Labels
from train.teacher import Standard, Teacher, photograph_targets

# Means over the crops of LFW folds 1-8, as fractions of the side: eyes, nose, corners of the mouth.
ORDINARY_LANDMARKS = np.array([[0.34, 0.41], [0.66, 0.41], [0.50, 0.58], [0.37, 0.73], [0.63, 0.73]])
DRAWN = "drawn"  # the source of drawn faces in a corpus


class _Part(NamedTuple):
    """A whole prepared corpus, and which of its rows are used."""

    folder: str
    table: Corpus
    rows: np.ndarray

    @classmethod
    def of(cls, text: str) -> "_Part":
        folder, splits = split_corpus(text)
        table = load_corpus(folder)
        used = range(len(table)) if splits is None else rows_of_splits(table, folder, splits)
        return cls(folder, table, np.array(used))

    def vectors(self, teacher: Teacher, accelerator: Accelerator) -> np.ndarray:
        """(used rows, d) of a teacher, which are computed and kept for the whole corpus."""
        landmarks = landmarks_in_crops(self.table, self.folder)
        vectors = photograph_targets(teacher, self.folder, _images(self.table), decode, landmarks, accelerator)
        return vectors[self.rows]

    def drawn_people(self) -> list[str | None]:
        """Of each used row the person's name, None where it is no drawn one."""
        sources, people = column(self.table, "source"), column(self.table, "identity")
        return [people[row] if sources[row] == DRAWN else None for row in self.rows]


class Photographs:
    """The photographs of the chosen splits of each corpus, one corpus after the other; a row is a place in this list.

    Args:
        corpora: as FOLDER or FOLDER:SPLIT,SPLIT.
        expressions, minimum_photographs, soft_labels: as for `Labels`.
        landmarks: whether `landmarks` is read; a corpus that does not know the crop is refused then.

    Attributes:
        keys: (rows,) names of the photographs. labels: of the rows.
        counts: photographs of each corpus.
        landmarks: (rows, 5, 2) in the crops, as fractions of their side; None where they are not read.
        targets: (rows, d) float32, a teacher's standardised vectors; None before `learn_from`.
    """

    def __init__(
        self,
        corpora: list[str],
        expressions: tuple[str, ...],
        minimum_photographs: int = 1,
        soft_labels: bool = True,
        landmarks: bool = False,
    ):
        if not corpora:
            raise CorpusError("no corpus to read: name at least one")
        self._parts = [_Part.of(text) for text in corpora]
        tables = [part.table.select(part.rows) for part in self._parts]
        self.counts = [len(table) for table in tables]
        # whole corpora and places in them: `datasets` looks up rows of a selection one by one
        self._images = concatenate_datasets([_images(part.table) for part in self._parts])
        before = np.cumsum([0] + [len(part.table) for part in self._parts[:-1]])
        self._places = np.concatenate([start + part.rows for start, part in zip(before, self._parts, strict=True)])
        self.keys = [key for table in tables for key in column(table, "key")]
        self.labels = Labels(tables, expressions, minimum_photographs, soft_labels)
        self.landmarks = None
        if landmarks:
            found = [landmarks_in_crops(table, part.folder) for table, part in zip(tables, self._parts, strict=True)]
            self.landmarks = np.concatenate(found)
        self.targets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def encoded(self, rows: list[int]) -> list[bytes]:
        """The files of the images as they are stored. One call for many rows takes less time than one for each."""
        return [image["bytes"] for image in self._images[self._places[rows].tolist()]["image"]] if rows else []

    def pictures(self, rows: list[int]) -> list[np.ndarray | Exception]:
        """The images, each (h, w, 3) uint8 of its own size, or the error that says why it cannot be decoded."""
        pictures = []
        for encoded in self.encoded(rows):
            try:
                pictures.append(decode(encoded))
            except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises on damaged pictures
                pictures.append(error)
        return pictures

    def key(self, row: int) -> str:
        return self.keys[row]

    def identity(self, row: int) -> int:
        """The label of the person, −100 where it is unknown."""
        return int(self.labels.identity[row])

    def expression(self, row: int) -> np.ndarray:
        """(n,) probabilities of the expressions, zeros where they are unknown."""
        return self.labels.expression[row]

    def landmarks_of(self, row: int) -> np.ndarray:
        """(5, 2) as fractions of the side."""
        return self.landmarks[row]

    def target(self, row: int) -> np.ndarray:
        """(d,) of the teacher."""
        return self.targets[row]

    def learn_from(self, teacher: Teacher, accelerator: Accelerator) -> Standard:
        """Compute `targets`, a teacher's standardised vectors, and return what standardises them.

        A teacher that has never seen a drawing finds all drawn people alike, so these have vectors of their own.
        """
        vectors = np.concatenate([part.vectors(teacher, accelerator) for part in self._parts])
        standard = Standard.of(vectors)
        self.targets = standard(vectors)
        for row, person in enumerate(person for part in self._parts for person in part.drawn_people()):
            if person is not None:
                self.targets[row] = vector_of_drawn_person(person, vectors.shape[1])
        return standard


def _images(corpus: Corpus) -> Corpus:
    """One column, undecoded: reading whole rows takes ten times as long as decoding the JPEG."""
    return corpus.select_columns("image").cast_column("image", Image(decode=False))


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


def vector_of_drawn_person(name: str, size: int) -> np.ndarray:
    """(size,) float32 of length 1, always the same for a name: the targets of two people are nearly orthogonal."""
    vector = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(size)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


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
