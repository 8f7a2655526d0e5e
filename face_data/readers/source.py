"""Code that all readers use: the class `Photograph`, names of expressions, and functions that find and open files.

`face_data.prepare` processes the photographs. Read `lfw` next, a reader that uses most of these functions.
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
from image_processing_facelivenet import printable_name

# Suffixes of the files that every reader yields. A file that cannot be decoded is skipped and counted.
IMAGE_SUFFIX = re.compile(
    r"\.(jpg|jpeg|jpe|jfif|png|bmp|webp|gif|tif|tiff|avif|heic|heif|hif|jp2|j2k|jpf|jpx|ppm|pgm|pbm|pnm|apng|mpo|dib"
    # formats without a decoder; the photographs are skipped and listed
    r"|jxl|dng|cr2|cr3|nef|arw|raf|orf|rw2|psd|tga)"
)
# First bytes of images, to recognise images with another suffix: `1`, `1.jpg_large`, `1.jpg.bak`. `has_image_signature`
# would also accept texts that start with the two letters of a BMP or PPM.
IMAGE_HEAD = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF.{4}WEBP|.{4}ftyp(hei[cxms]|mif1|avif)|II\*\0|MM\0\*", re.DOTALL
)
THUMBNAIL_SUFFIXES = (".thm", ".db")  # of cameras and of Windows: copies of images in the same folder
CROP_BORDER = 0.3  # `Photograph.border` for tight crops that end inside the chin, so that the detector finds the face
# Folders that operating systems and storage devices create, in lower case
SYSTEM_FOLDERS = (
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
# First bytes of archives and, last, of Excel's older files
ARCHIVE_HEADS = (
    b"PK\3\4",
    b"Rar!",
    b"7z\xbc\xaf",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zX",
    b"\xd0\xcf\x11\xe0",
)
MISSING_VALUES = ("", "na", "n/a", "nan", "?", "none", "null", "unknown", "-")  # spellings in tables

# Spellings of the publishers, in lower case -> the name in CORPUS_EXPRESSIONS
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
    """One photograph of a corpus, before face detection.

    key: the publisher's name of the photograph, unique in the corpus.
    image: its path, its encoded bytes, or (drawn faces) a function that draws it in the worker process.
    identity, expression, split: None if unknown.
    votes: 8 probabilities in the order of CORPUS_EXPRESSIONS.
    attributes: further values of the publisher for the photograph or the person, such as gender. All photographs of a
        corpus have the same names of attributes; a missing value is None.
    enlarge, border: for images that the publisher cropped too tightly for the detector. The image is scaled by
        `enlarge`, then its border pixels are repeated over `border` times the shorter side. If the detector finds no
        face in an image with a border, the complete image is used.
    refused: the reason if the reader cannot use the photograph, such as a damaged row; it is then counted as skipped.
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
                object.__setattr__(self, name, printable_name(text))
        if self.identity is not None:
            object.__setattr__(self, "identity", composed(self.identity))


def composed(name: str) -> str:
    """A name in Unicode normal form C. macOS writes an accented letter as two characters, which is another text."""
    return unicodedata.normalize("NFC", name).strip()


def cell_value(cell: str | None) -> str | None:
    """The text of a table cell without surrounding spaces; None if it is one of MISSING_VALUES."""
    text = (cell or "").strip()
    return None if text.lower() in MISSING_VALUES else text


def expression_from_name(name: str, where: object) -> str:
    """The expression with this spelling; `where` is the file and line for the error message."""
    try:
        return EXPRESSION_NAMES[name.strip().lower()]
    except KeyError:
        raise CorpusError(
            f"{where}: unknown expression {name!r}; the known ones are {', '.join(EXPRESSION_NAMES)}"
        ) from None


def require(path: Path) -> Path:
    """The path; CorpusError if it does not exist."""
    if not path.exists():
        raise CorpusError(f"{path} is missing: give the folder as its publisher ships it")
    return path


def first_existing(source: Path, *names: str) -> Path:
    """The first of these paths in source that exists, since archives are unpacked with or without outer folders.

    Raises:
        CorpusError: none exists; the message names the first one.
    """
    return existing(source, *names) or require(source / names[0])


def existing(source: Path, *names: str) -> Path | None:
    """The first of these paths in source that exists; None if none exists."""
    return next((source / name for name in names if (source / name).exists()), None)


class _Rows(csv.DictReader):
    """Refuses a quotation mark that is not closed, because all rows after it would be one cell."""

    def __init__(self, file: TextIO, **options):
        self.name, self._ended = file.name, False
        super().__init__(self._lines(file), **options)

    def _lines(self, file: TextIO) -> Iterator[str]:
        yield from file
        self._ended = True

    def __next__(self) -> dict:
        first = self.line_num + 2  # the header was read before
        row = super().__next__()
        if self._ended:  # the file ended within this row
            raise CorpusError(f"{self.name} is damaged: a quotation mark in line {first} or after it is not closed")
        return row


def table_rows(file: TextIO) -> csv.DictReader:
    """The rows of a table with commas, semicolons or tabs between its columns; names of columns are stripped."""
    header = file.readline()
    if header.lower().startswith("sep="):  # a line that Excel writes
        header = file.readline()
    rows = _Rows(file, delimiter=max(",;\t", key=header.count))
    rows.fieldnames = [name.strip() for name in next(csv.reader([header], rows.reader.dialect), [])]
    return rows


@contextmanager
def open_text(path: Path, errors: str = "strict") -> Iterator[TextIO]:
    """Open a text file in UTF-8, or in UTF-16 with a byte order mark; errors name the file."""
    try:
        with require(path).open("rb") as file:
            head = file.read(4)
            is_utf16 = head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        if head.startswith(ARCHIVE_HEADS):
            raise CorpusError(f"{path} is an archive or a spreadsheet: unpack it, or save the table as csv")
        with path.open(newline="", encoding="utf-16" if is_utf16 else "utf-8-sig", errors=errors) as file:
            yield file
    except UnicodeError as error:
        reason = getattr(error, "reason", error)
        raise CorpusError(
            f"{path} is not UTF-8 text ({reason}): save it as UTF-8, or check that it is the right file"
        ) from None
    except csv.Error as error:
        raise CorpusError(f"{path} is damaged: {error}") from None


def read_lines(path: Path) -> list[str]:
    with open_text(path) as file:
        return file.read().splitlines()


def is_image(path: PurePath) -> bool:
    """Whether a path inside a corpus is an image, by its suffix in upper or lower case.

    Files that operating systems create are not: hidden files, macOS's `._NAME.jpg`, Synology's thumbnails in `@eaDir`.
    """
    is_suffix = IMAGE_SUFFIX.fullmatch(path.suffix.rstrip().lower())
    return bool(is_suffix) and not any(is_system_name(part) for part in path.parts)


def is_system_name(name: str) -> bool:
    """Whether a file or folder was created by an operating system, not by the publisher."""
    return name[0] == "." or name.lower() in SYSTEM_FOLDERS


def _is_image_file(path: Path) -> bool:
    """`is_image` for a path on disk; a file with another suffix is an image if its first bytes are."""
    name = PurePath(path.name)
    if is_image(name) or is_system_name(path.name) or name.suffix.lower() in THUMBNAIL_SUFFIXES or not path.is_file():
        return is_image(name)
    try:
        with path.open("rb") as file:
            return IMAGE_HEAD.match(file.read(16)) is not None
    except OSError:
        return False


def images_in(folder: Path, deep: bool = True) -> list[Path]:
    """The images in a folder and, if deep, in its subfolders, in the order of their names.

    Links to folders are followed. A broken link is included, as an image that cannot be read.
    """
    if not deep:
        return sorted(path for path in folder.iterdir() if _is_image_file(path) and not path.is_dir())
    return sorted(_images_below(folder))


def contains_images(folder: Path) -> bool:
    return next(_images_below(folder), None) is not None


def _images_below(folder: Path) -> Iterator[Path]:
    visited, root = set(), os.path.realpath(folder)
    for parent, subfolders, files in os.walk(folder, onerror=_raise, followlinks=True):
        real = os.path.realpath(parent)
        # A link to a parent folder would be followed for ever, and one to a folder above `folder` would add the images
        # of other people
        if real in visited or (real != root and Path(real) in Path(root).parents):
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = [name for name in subfolders if not is_system_name(name)]
        yield from filter(_is_image_file, (Path(parent, name) for name in files))


def _raise(error: OSError) -> None:
    raise error


def folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in require(folder).iterdir() if path.is_dir() and not is_system_name(path.name))


def photographs_of_people(
    folder: Path, pattern: str, expected: str, split: str, root: Path | None = None, **crop
) -> Iterator[Photograph]:
    """The photographs of a folder per person; only one person's file names are in memory at a time.

    Args:
        pattern: of the names of people's folders; the photographs of other folders are refused.
        expected: what such a name is, for error messages.
        root: keys are relative to this folder; by default to `folder`.
        crop: `enlarge` and `border` of the photographs.

    Raises:
        CorpusError: no folder has such a name.
    """
    root, people = root or folder, folders_in(folder)
    if people and not any(re.fullmatch(pattern, person.name) for person in people):
        raise CorpusError(
            f"{people[0]} is not {expected}; for a folder per person with any name, use the layout `folder`"
        )
    for path in images_in(folder, deep=False):
        key = path.relative_to(root).as_posix()
        yield Photograph(key, path, split=split, refused="it lies in no person's folder", **crop)
    for person in people:
        refused = None if re.fullmatch(pattern, person.name) else f"its folder {person.name} is not {expected}"
        for path in images_in(person):
            key = path.relative_to(root).as_posix()
            yield Photograph(key, path, None if refused else person.name, split=split, refused=refused, **crop)


def normalised_stem(name: str | PurePath) -> str:
    """The name of an image without suffix, in lower case and with composed accents, because systems change these."""
    return unicodedata.normalize("NFC", PurePath(name).stem).lower()


def file_finder(folder: Path) -> Callable[[str], Path]:
    """A function from the name of an image in a table to its path in the folder.

    The suffix and upper or lower case may differ from the table, and the table may use backslashes, as on Windows. If
    the image does not exist, the function returns the path that the table names.
    """
    images_of_folder: dict[Path, dict[str, Path]] = {}  # folder -> normalised stem -> path

    def find(name: str) -> Path:
        path = folder / name
        if path.is_file():
            return path
        path = folder / name.replace("\\", "/")
        if path.is_file() or not path.parent.is_dir():
            return path
        if path.parent not in images_of_folder:
            images = images_in(path.parent, deep=False)
            images_of_folder[path.parent] = {normalised_stem(image): image for image in images}
        return images_of_folder[path.parent].get(normalised_stem(path), path)

    return find
