"""Shared by all readers: the `Photograph` they yield, names of expressions, and reading files that may be damaged.

`face_data.prepare` consumes the photographs. Read `lfw` next, a reader that uses most of this.
"""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TextIO

from PIL import Image

from face_data.table import CORPUS_EXPRESSIONS, CorpusError

# File types that every reader accepts. A file that this installation cannot decode is skipped and counted.
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
CUT_BORDER = 0.3  # of pictures that end inside the chin, so that the detector finds the face
NOT_PEOPLE = ("@eaDir", "__MACOSX", "$RECYCLE.BIN", "lost+found", "#recycle")  # folders that other systems leave
UNKNOWN = ("", "na", "n/a", "nan", "?", "none", "null", "unknown", "-")  # how tables write a missing value

# The spellings of the publishers, lower-cased.
EXPRESSION_NAMES = {name: name for name in CORPUS_EXPRESSIONS} | {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}


@dataclass(frozen=True)
class Photograph:
    """One photograph of a corpus, before faces are detected in it.

    key: the publisher's name of it, unique in the corpus. image: its path, its encoded bytes, or (drawn faces) a
    function that makes it, called in the process that prepares it.
    votes: 8 probabilities in the order of CORPUS_EXPRESSIONS. attributes: what else the publisher records of the
    photograph or the person, such as gender; every photograph of a corpus has the same names, None for a missing value.
    refused: why the reader cannot use it (a damaged row, no person's folder); it is then counted as skipped.
    enlarge, border: for pictures that the publisher cropped too tightly for the detector. They are scaled by `enlarge`,
    then their border pixels are repeated over `border` times the side. If the detector still finds no face in a picture
    with a border, the whole picture is used.
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


def cell_value(cell: str | None) -> str | None:
    """A table's cell without surrounding blanks; None if it is one of UNKNOWN."""
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
    """The first of these paths that exists in source: archives are unpacked with or without their outer folders."""
    return next((source / name for name in names if (source / name).exists()), None) or require(source / names[0])


@contextmanager
def opened_text(path: Path) -> Iterator[TextIO]:
    """A text file, with or without a byte order mark; reading errors name the file."""
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
    """Whether a path inside a corpus is a picture, by its suffix in upper or lower case. Files that operating systems
    add (hidden files, macOS's `._NAME.jpg`, Synology's thumbnails in `@eaDir`) are not."""
    return path.suffix.lower() in PICTURES and not any(_is_foreign(part) for part in path.parts)


def _is_foreign(name: str) -> bool:
    return name[0] == "." or name in NOT_PEOPLE


def pictures_in(folder: Path, deep: bool = True) -> list[Path]:
    """Every picture of a folder and, if deep, of the folders in it, in the order of their names."""
    paths = folder.rglob("*") if deep else folder.iterdir()
    return sorted(path for path in paths if is_picture(path.relative_to(folder)) and path.is_file())


def folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in require(folder).iterdir() if path.is_dir() and not _is_foreign(path.name))
