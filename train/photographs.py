"""The photographs of several prepared corpora as one list, with labels, landmarks, and targets of a teacher.

Called by `data`, `batches`, `composites` and `cover_detector`; streams are read by `streaming`. Next to read:
train/composites.py, train/batches.py.
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
from train.teacher import Standardisation, Teacher, photograph_targets

# Means over the crops of LFW folds 1-8, as fractions of the side: eyes, nose, corners of the mouth.
MEAN_LANDMARKS = np.array([[0.34, 0.41], [0.66, 0.41], [0.50, 0.58], [0.37, 0.73], [0.63, 0.73]])
DRAWN = "drawn"  # value of the column `source` for drawn faces


class _Part(NamedTuple):
    """A complete prepared corpus, and the numbers of the rows that are used."""

    folder: str
    table: Corpus
    rows: np.ndarray

    @classmethod
    def of(cls, text: str) -> "_Part":
        folder, splits = split_corpus(text)
        table = load_corpus(folder)
        rows = range(len(table)) if splits is None else rows_of_splits(table, folder, splits)
        return cls(folder, table, np.array(rows))

    def vectors(self, teacher: Teacher, accelerator: Accelerator) -> np.ndarray:
        """(used rows, d) vectors of a teacher, which are computed and cached for the whole corpus."""
        landmarks = landmarks_in_crops(self.table, self.folder)
        vectors = photograph_targets(teacher, self.folder, _encoded_images(self.table), decode, landmarks, accelerator)
        return vectors[self.rows]

    def drawn_people(self) -> list[str | None]:
        """For each used row the name of a drawn person; None if it is not a drawn face."""
        sources, people = column(self.table, "source"), column(self.table, "identity")
        return [people[row] if sources[row] == DRAWN else None for row in self.rows]


class Photographs:
    """The photographs of the chosen splits of each corpus, one corpus after the other; a row is a place in this list.

    Args:
        corpora: as FOLDER or FOLDER:SPLIT,SPLIT.
        expressions: as for `Labels`.
        landmarks: whether to read the landmarks.

    Attributes:
        keys: (rows,) names of the photographs. labels: of the photographs.
        counts: number of photographs of each corpus.
        landmarks: (rows, 5, 2) in the crops, as fractions of their side; None if they were not read.
        targets: (rows, d) float32, the standardised vectors of a teacher; None before `compute_targets`.

    Raises:
        CorpusError: no corpus, one that does not exist or has no such split, or landmarks of a corpus that cannot give
            them (`landmarks_in_crops`).
    """

    def __init__(self, corpora: list[str], expressions: tuple[str, ...], landmarks: bool = False):
        if not corpora:
            raise CorpusError("no corpus to read: name at least one")
        self._parts = [_Part.of(text) for text in corpora]
        tables = [part.table.select(part.rows) for part in self._parts]
        self.counts = [len(table) for table in tables]
        # complete corpora and row numbers: `datasets` looks up the rows of a selection one by one, which is slow
        self._encoded_images = concatenate_datasets([_encoded_images(part.table) for part in self._parts])
        before = np.cumsum([0] + [len(part.table) for part in self._parts[:-1]])
        self._places = np.concatenate([start + part.rows for start, part in zip(before, self._parts, strict=True)])
        self.keys = [key for table in tables for key in column(table, "key")]
        self.labels = Labels(tables, expressions)
        self.landmarks = None
        if landmarks:
            parts = [landmarks_in_crops(table, part.folder) for table, part in zip(tables, self._parts, strict=True)]
            self.landmarks = np.concatenate(parts)
        self.targets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def encoded(self, rows: list[int]) -> list[bytes]:
        """The encoded files of images. One call for many rows takes less time than a call for each row."""
        return [image["bytes"] for image in self._encoded_images[self._places[rows].tolist()]["image"]] if rows else []

    def images(self, rows: list[int]) -> list[np.ndarray | Exception]:
        """The images, each (h, w, 3) uint8 of any size, or the error if it cannot be decoded."""
        images = []
        for encoded in self.encoded(rows):
            try:
                images.append(decode(encoded))
            except (OSError, ValueError, SyntaxError) as error:  # raised by Pillow for damaged images
                images.append(error)
        return images

    def key(self, row: int) -> str:
        return self.keys[row]

    def identity(self, row: int) -> int:
        """The label of the person, −100 if it is unknown."""
        return int(self.labels.identity[row])

    def expression(self, row: int) -> np.ndarray:
        """(n,) probabilities of the expressions, zeros if they are unknown."""
        return self.labels.expression[row]

    def landmarks_of(self, row: int) -> np.ndarray:
        """(5, 2) landmarks as fractions of the side."""
        return self.landmarks[row]

    def target(self, row: int) -> np.ndarray:
        """(d,) standardised vector of the teacher."""
        return self.targets[row]

    def compute_targets(self, teacher: Teacher, accelerator: Accelerator) -> Standardisation:
        """Compute `targets`, the standardised vectors of a teacher.

        A teacher was not trained on drawn faces, and finds all of them similar. Their targets are random vectors
        instead, one for each drawn person.

        Returns:
            the standardisation, for vectors that are computed later.
        """
        vectors = np.concatenate([part.vectors(teacher, accelerator) for part in self._parts])
        standardisation = Standardisation.of(vectors)
        self.targets = standardisation(vectors)
        for row, person in enumerate(person for part in self._parts for person in part.drawn_people()):
            if person is not None:
                self.targets[row] = vector_of_drawn_person(person, vectors.shape[1])
        return standardisation


def _encoded_images(corpus: Corpus) -> Corpus:
    """The column of encoded images alone: reading complete rows takes ten times as long as decoding the JPEG."""
    return corpus.select_columns("image").cast_column("image", Image(decode=False))


def decode(encoded: bytes) -> np.ndarray:
    """Decode an image to (h, w, 3) uint8."""
    with PIL.Image.open(io.BytesIO(encoded)) as image:
        image.load()
        # converting an RGB image would copy it
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def resized(face: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A decoded image in this shape (h, w, 3); the image itself if it has this shape."""
    if face.shape == tuple(shape):
        return face
    return np.asarray(PIL.Image.fromarray(face).resize((shape[1], shape[0]), PIL.Image.Resampling.BILINEAR))


def vector_of_drawn_person(name: str, size: int) -> np.ndarray:
    """(size,) float32 random vector of length 1, seeded by the name. Vectors of two people are nearly orthogonal."""
    vector = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(size)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def landmarks_in_crops(part: Corpus, folder: str) -> np.ndarray:
    """(rows, 5, 2) landmarks of the aligned faces of a corpus, as fractions of their side.

    If the publisher had cropped a face and the detector found none, they are MEAN_LANDMARKS.

    Raises:
        CorpusError: the corpus is on the Hub, without the corpus.json that describes the crops.
    """
    if on_hub(folder):
        raise CorpusError(
            f"{folder}: landmarks need the corpus.json, which describes the crops; a corpus on the Hub has none"
        )
    if read_summary(folder)["options"]["alignment"] == "similarity":
        return np.broadcast_to(LANDMARK_TEMPLATE, (len(part), 5, 2))
    crop = np.array(column(part, "crop"), dtype=np.float64)
    landmarks = [np.full((5, 2), np.nan) if points is None else points for points in column(part, "landmarks")]
    inside = (np.array(landmarks, dtype=np.float64) - crop[:, None, :2]) / (crop[:, 2:] - crop[:, :2])[:, None]
    return np.where(np.isnan(inside), MEAN_LANDMARKS, inside)
