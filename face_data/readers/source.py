"""Shared by all readers: the `Photograph` they yield, names of expressions, and reading files that may be damaged."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TextIO

from PIL import Image

from face_data.table import EXPRESSIONS, CorpusError

# Of all readers. What this installation cannot decode of them is counted among the skipped, by name and cause.
PICTURES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".bmp",
    ".webp",
    ".gif",
    ".tif",
    ".tiff",
    ".avif",
    ".heic",
    ".heif",
    ".hif",
    ".jp2",
    ".ppm",
    ".pgm",
    ".jxl",
)
CUT_BORDER = 0.3  # of pictures that end inside the chin, for the detector to find the face
NOT_PEOPLE = ("@eaDir", "__MACOSX", "$RECYCLE.BIN", "lost+found", "#recycle")  # folders that other systems leave
UNKNOWN = ("", "na", "n/a", "nan", "?", "none", "null", "unknown", "-")  # how tables say that nobody knows

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
    refused: why the reader itself cannot use it (a damaged row, a place where it belongs to nobody); such a photograph
    is counted among the skipped.
    enlarge, border: how a face that its publisher cut out, too tight for the detector, is shown to it: scaled by
    `enlarge`, then its border pixels repeated over `border` times its side. With a border the whole picture is taken
    where the detector finds nothing all the same.
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
    refused: str | None = None


def known(cell: str | None) -> str | None:
    """A table's cell without its blanks, or None where it is one of UNKNOWN."""
    text = (cell or "").strip()
    return None if text.lower() in UNKNOWN else text


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


def is_picture(path: PurePath) -> bool:
    """Whether a path inside a corpus is one of its pictures: by its suffix in any case, and nothing that a system put
    there for itself (hidden files, macOS's `._NAME.jpg`, Synology's thumbnails in `@eaDir`)."""
    return path.suffix.lower() in PICTURES and not any(_is_foreign(part) for part in path.parts)


def _is_foreign(name: str) -> bool:
    return name[0] == "." or name in NOT_PEOPLE


def pictures_in(folder: Path, deep: bool = True) -> list[Path]:
    """Every picture of a folder and, if deep, of the folders in it, in the order of their names."""
    paths = folder.rglob("*") if deep else folder.iterdir()
    return sorted(path for path in paths if is_picture(path.relative_to(folder)) and path.is_file())


def folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in require(folder).iterdir() if path.is_dir() and not _is_foreign(path.name))
