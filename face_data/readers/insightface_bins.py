"""Reads InsightFace's verification files: `lfw.bin`, `cfp_fp.bin`, `agedb_30.bin`, `calfw.bin`, `cplfw.bin`.

Each is a pickle of 2n encoded images and n booleans: images 0 and 1 are a pair, images 2 and 3 the next one. There are
no identities. Unpickling can run arbitrary code, so only numbers, texts, bytes, lists and tuples are allowed.

`READERS` has their names, and `face_data.command` writes their pairs. Read `face_data.pairs` next.
"""

import codecs
import pickle
from collections.abc import Iterator
from pathlib import Path

from face_data.pairs import Pair
from face_data.protocol import FOLDS
from face_data.readers.source import CROP_BORDER, Photograph, is_system_name, require
from face_data.table import CorpusError

NAMES = ("lfw", "cfp_fp", "agedb_30", "calfw", "cplfw")


class _PlainUnpickler(pickle.Unpickler):
    """Refuses every object that must be imported, so only numbers, texts, bytes, lists and tuples remain.

    Python 3 may have written bytes for Python 2: as a text that must be encoded.
    """

    def find_class(self, module: str, name: str):
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding: codecs.latin_1_encode(text)[0]
        if (module, name) in (("__builtin__", "bytes"), ("builtins", "bytes")):  # empty bytes
            return lambda: b""
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_bin(source: Path) -> Iterator[Photograph]:
    """One of the files, or the only one in a folder; a key is a number, split is the fold of the pair (`bin_pairs`)."""
    images, same = _content(source)
    for number, image in enumerate(images):
        split = str(_fold(number // 2, len(same)))
        yield Photograph(_key(number), image, split=split, enlarge=2, border=CROP_BORDER)  # 112 x 112 pixels


def bin_pairs(source: Path) -> list[Pair]:
    """The pairs in ten consecutive folds, as in InsightFace (`KFold(10)` without shuffling)."""
    _, same = _content(source)
    return [
        Pair(_fold(pair, len(same)), _key(2 * pair), _key(2 * pair + 1), is_same) for pair, is_same in enumerate(same)
    ]


def _key(number: int) -> str:
    return f"{number:05d}"


def _fold(pair: int, pairs: int) -> int:
    """The fold of a pair, 1 to 10. If the number of pairs is not a multiple of ten, the first folds have one more."""
    size, larger_folds = divmod(pairs, FOLDS)
    start = larger_folds * (size + 1)  # of the first fold without an additional pair
    return pair // (size + 1) + 1 if pair < start else (pair - start) // max(size, 1) + larger_folds + 1


def _content(source: Path) -> tuple[list[bytes], list[bool]]:
    path = source
    if source.is_dir():
        files = [path for path in source.iterdir() if path.suffix.lower() == ".bin" and not is_system_name(path.name)]
        if len(files) != 1:
            raise CorpusError(f"{source} contains {len(files)} .bin files: give the file to read, such as lfw.bin")
        path = files[0]
    with require(path).open("rb") as file:
        try:
            content = _PlainUnpickler(file, encoding="bytes").load()  # Python 2 wrote the file, so its texts are bytes
        except Exception as error:  # a damaged pickle can raise any exception
            raise CorpusError(
                f"{path}: not a file of images and booleans as InsightFace publishes it ({str(error)[:100]})"
            ) from None
    images, same = content if isinstance(content, (list, tuple)) and len(content) == 2 else (None, None)
    if not isinstance(images, list) or not isinstance(same, list):
        raise CorpusError(f"{path}: expected a list of images and a list of booleans")
    if not all(type(image) is bytes for image in images) or not all(type(value) is bool for value in same):
        raise CorpusError(f"{path}: contains values that are neither images nor booleans")
    if not same or len(images) != 2 * len(same):
        raise CorpusError(f"{path}: {len(images):,} images for {len(same):,} pairs, but each pair needs two")
    return images, same
