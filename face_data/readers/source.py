"""What the readers share: the photograph they yield, the spellings of expressions, and files that may be damaged."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from PIL import Image

from face_data.table import EXPRESSIONS, CorpusError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

# The spellings of the publishers, lower-cased.
EXPRESSION_NAMES = {name: name for name in EXPRESSIONS} | {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}


@dataclass(frozen=True)
class Photograph:
    """One photograph before anything was looked for in it.

    key: the publisher's name of it, unique in the corpus. image: where it lies, its encoded bytes, or (drawn faces)
    a function that makes it, called in the process that prepares it.
    votes: 8 probabilities in the order of EXPRESSIONS. attributes: whatever else the publisher says of it or of the
    person, such as gender; every photograph of a corpus has the same names, with None where it is not known.
    enlarge, border: how a face cropped too tight for the detector is shown to it: scaled by `enlarge`, then its border
    pixels repeated over `border` times its side.
    """

    key: str
    image: Path | bytes | Callable[[], Image.Image]
    identity: str | None = None
    expression: str | None = None
    votes: tuple[float, ...] | None = None
    split: str | None = None
    attributes: dict[str, str | None] = field(default_factory=dict)
    enlarge: int = 1
    border: float = 0.0


def expression_named(name: str, where: object) -> str:
    """The expression of that spelling; `where` is the file, and line, that an error names."""
    try:
        return EXPRESSION_NAMES[name.strip().lower()]
    except KeyError:
        raise CorpusError(f"{where}: unknown expression {name!r}; known are {', '.join(EXPRESSION_NAMES)}") from None


def require(path: Path) -> Path:
    if not path.exists():
        raise CorpusError(f"{path} is missing: give the folder as its publisher ships it")
    return path


def first_existing(source: Path, *names: str) -> Path:
    """The first of these places in source, where a corpus is unpacked now with and now without its outer folders."""
    return next((source / name for name in names if (source / name).exists()), None) or require(source / names[0])


@contextmanager
def opened_text(path: Path) -> Iterator[TextIO]:
    """A text file, with or without a byte order mark; what cannot be read of it becomes an error that names it."""
    try:
        with require(path).open(newline="", encoding="utf-8-sig") as file:
            yield file
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not UTF-8 text ({error.reason}): damaged, or another file") from None
    except csv.Error as error:
        raise CorpusError(f"{path} is damaged: {error}") from None


def read_lines(path: Path) -> list[str]:
    with opened_text(path) as file:
        return file.read().splitlines()


def pictures_in(folder: Path) -> list[Path]:
    """Every picture of a folder and the folders in it, in the order of their names; hidden files are none."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.name[0] != ".")


def folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in require(folder).iterdir() if path.is_dir() and path.name[0] != ".")
