"""Shared by all readers: the `Photograph` they yield, names of expressions, and reading files that may be damaged.

`face_data.prepare` consumes the photographs. Read `lfw` next, a reader that uses most of this.
"""

import codecs
import csv
import os
import re
import unicodedata
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
    ".j2k",
    ".jpf",
    ".jpx",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
    ".apng",
    ".mpo",
    ".dib",
    # not read, but somebody's photographs
    ".jxl",
    ".dng",
    ".cr2",
    ".cr3",
    ".nef",
    ".arw",
    ".raf",
    ".orf",
    ".rw2",
    ".psd",
    ".tga",
)
# First bytes of pictures whose names do not say so: `1`, `1.jpg_large`, `1.jpg.bak`
STARTS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF.{4}WEBP|.{4}ftyp(hei[cxms]|mif1|avif)|II\*\0|MM\0\*", re.DOTALL
)
THUMBNAILS = (".thm", ".db")  # of cameras and of Windows: they show what is there already
CUT_BORDER = 0.3  # of pictures that end inside the chin, so that the detector finds the face
# Folders that other systems leave, in lower case
NOT_PEOPLE = (
    "@eadir",
    "@recycle",
    "@recently-snapshot",
    "@tmp",
    "#recycle",
    "#snapshot",
    "__macosx",
    "$recycle.bin",
    "recycler",
    "system volume information",
    "network trash folder",
    "temporary items",
    "lost+found",
    "lost.dir",
    "found.000",
    "recycled",
)
ARCHIVES = (
    b"PK\3\4",
    b"Rar!",
    b"7z\xbc\xaf",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zX",
    b"\xd0\xcf\x11\xe0",
)  # the last is Excel's
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

    def __post_init__(self):
        for name in ("key", "identity", "split", "refused"):
            if (text := getattr(self, name)) is not None:
                object.__setattr__(self, name, in_unicode(text))
        if self.identity is not None:
            object.__setattr__(self, "identity", composed(self.identity))


def in_unicode(name: str) -> str:
    """A file's name as it is; with `\\xfc` for what is not in UTF-8, as archives of other systems are unpacked."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def composed(name: str) -> str:
    """A person's name with accents as one letter each: a Mac writes them as two, and one person would be two."""
    return unicodedata.normalize("NFC", name).strip()


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


class _Rows(csv.DictReader):
    """Refuses a quotation mark that is never closed: all rows after it would be one cell."""

    def __init__(self, file: TextIO, **options):
        self.name, self._ended = file.name, False
        super().__init__(self._lines(file), **options)

    def _lines(self, file: TextIO) -> Iterator[str]:
        yield from file
        self._ended = True

    def __next__(self) -> dict:
        first = self.line_num + 2  # the header was read before
        row = super().__next__()
        if self._ended:  # within a row: it was not the end of a line that ended it
            raise CorpusError(f"{self.name} is damaged: a quotation mark in line {first} or after it is not closed")
        return row


def table_in(file: TextIO) -> csv.DictReader:
    """The rows of a table whose columns are parted by commas, semicolons or tabs, with blanks around their names."""
    header = file.readline()
    if header.lower().startswith("sep="):  # a line for Excel
        header = file.readline()
    rows = _Rows(file, delimiter=max(",;\t", key=header.count))
    rows.fieldnames = [name.strip() for name in next(csv.reader([header], rows.reader.dialect), [])]
    return rows


@contextmanager
def opened_text(path: Path, errors: str = "strict") -> Iterator[TextIO]:
    """A text file in UTF-8, or in UTF-16 with a byte order mark; reading errors name the file."""
    try:
        with require(path).open("rb") as file:
            head = file.read(4)
            is_utf16 = head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        if head.startswith(ARCHIVES):
            raise CorpusError(f"{path} is an archive or a spreadsheet: unpack it, or save the table as csv")
        with path.open(newline="", encoding="utf-16" if is_utf16 else "utf-8-sig", errors=errors) as file:
            yield file
    except UnicodeError as error:
        reason = getattr(error, "reason", error)
        raise CorpusError(
            f"{path} is not UTF-8 text ({reason}): save it as such; or it is damaged or another file"
        ) from None
    except csv.Error as error:
        raise CorpusError(f"{path} is damaged: {error}") from None


def read_lines(path: Path) -> list[str]:
    with opened_text(path) as file:
        return file.read().splitlines()


def is_picture(path: PurePath) -> bool:
    """Whether a path inside a corpus is a picture, by its suffix in upper or lower case. Files that operating systems
    add (hidden files, macOS's `._NAME.jpg`, Synology's thumbnails in `@eaDir`) are not."""
    return path.suffix.rstrip().lower() in PICTURES and not any(is_foreign(part) for part in path.parts)


def _is_picture_in_folder(path: Path) -> bool:
    """`is_picture`, or by its first bytes if its suffix is that of no picture."""
    name = PurePath(path.name)
    if is_picture(name) or is_foreign(path.name) or name.suffix.lower() in THUMBNAILS or not path.is_file():
        return is_picture(name)
    try:
        with path.open("rb") as file:
            return STARTS.match(file.read(16)) is not None
    except OSError:
        return False


def is_foreign(name: str) -> bool:
    return name[0] == "." or name.lower() in NOT_PEOPLE


def pictures_in(folder: Path, deep: bool = True) -> list[Path]:
    """Every picture of a folder and, if deep, of the folders in it, in the order of their names.

    Linked folders count too, a link that leads nowhere is a picture that cannot be read.
    """
    if not deep:
        return sorted(path for path in folder.iterdir() if _is_picture_in_folder(path) and not path.is_dir())
    return sorted(_pictures_below(folder))


def holds_pictures(folder: Path) -> bool:
    return next(_pictures_below(folder), None) is not None


def _pictures_below(folder: Path) -> Iterator[Path]:
    seen, root = set(), os.path.realpath(folder)
    for place, inner, files in os.walk(folder, onerror=_raise, followlinks=True):
        real = os.path.realpath(place)
        # a link back would never end, and one to a folder above would make all people in it this one
        if real in seen or (real != root and Path(real) in Path(root).parents):
            inner.clear()
            continue
        seen.add(real)
        inner[:] = [name for name in inner if not is_foreign(name)]
        yield from filter(_is_picture_in_folder, (Path(place, name) for name in files))


def _raise(error: OSError) -> None:
    raise error


def folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in require(folder).iterdir() if path.is_dir() and not is_foreign(path.name))


def stem_of(name: str | PurePath) -> str:
    """A picture's name without what systems change: its suffix, capitals, how accents are composed."""
    return unicodedata.normalize("NFC", PurePath(name).stem).lower()


def finder(folder: Path) -> Callable[[str], Path]:
    """Where the pictures are that a table names: with another suffix or capitals than it says, if need be.

    The table may have been written on Windows, with backslashes. What is nowhere is found where the table says.
    """
    known_in: dict[Path, dict[str, Path]] = {}

    def find(name: str) -> Path:
        path = folder / name
        if path.is_file():
            return path
        path = folder / name.replace("\\", "/")
        if path.is_file() or not path.parent.is_dir():
            return path
        if path.parent not in known_in:
            known_in[path.parent] = {stem_of(one): one for one in pictures_in(path.parent, deep=False)}
        return known_in[path.parent].get(stem_of(path), path)

    return find
