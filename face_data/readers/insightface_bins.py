"""The verification files that InsightFace publishes: `lfw.bin`, `cfp_fp.bin`, `agedb_30.bin`, `calfw.bin`, `cplfw.bin`.

Each is a pickle of 2n encoded pictures and n booleans: pictures 0 and 1 are a pair, 2 and 3 the next. The files hold no
identities. Unpickling can run arbitrary code, so everything but numbers, texts, bytes, lists and tuples is refused.
"""

import codecs
import pickle
from collections.abc import Iterator
from pathlib import Path

from face_data.pairs import Pair
from face_data.protocol import FOLDS
from face_data.readers.source import CUT_BORDER, Photograph, is_foreign, require
from face_data.table import CorpusError

NAMES = ("lfw", "cfp_fp", "agedb_30", "calfw", "cplfw")


class _PlainUnpickler(pickle.Unpickler):
    """Refuses every object that has to be imported: numbers, texts, bytes, lists and tuples remain.

    Bytes may be as Python 3 writes them for Python 2: as a text that is to be encoded.
    """

    def find_class(self, module: str, name: str):
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding: codecs.latin_1_encode(text)[0]
        if (module, name) in (("__builtin__", "bytes"), ("builtins", "bytes")):  # without content
            return lambda: b""
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_bin(source: Path) -> Iterator[Photograph]:
    """One of the files, or the only one in a folder; keys are numbers, split is the pair's fold (`bin_pairs`)."""
    pictures, same = _content(source)
    for number, picture in enumerate(pictures):
        split = str(_fold(number // 2, len(same)))
        yield Photograph(_key(number), picture, split=split, enlarge=2, border=CUT_BORDER)  # 112 x 112 pixels


def bin_pairs(source: Path) -> list[Pair]:
    """Its pairs in ten consecutive folds, as InsightFace splits them (`KFold(10)` without shuffling)."""
    _, same = _content(source)
    return [
        Pair(_fold(pair, len(same)), _key(2 * pair), _key(2 * pair + 1), is_same) for pair, is_same in enumerate(same)
    ]


def _key(number: int) -> str:
    return f"{number:05d}"


def _fold(pair: int, pairs: int) -> int:
    """1 to 10; where ten does not divide the pairs, the first folds have one more."""
    each, longer = divmod(pairs, FOLDS)
    start = longer * (each + 1)
    return pair // (each + 1) + 1 if pair < start else (pair - start) // max(each, 1) + longer + 1


def _content(source: Path) -> tuple[list[bytes], list[bool]]:
    path = source
    if source.is_dir():
        found = sorted(path for path in source.iterdir() if path.suffix.lower() == ".bin" and not is_foreign(path.name))
        if len(found) != 1:
            raise CorpusError(f"{source} holds {len(found)} .bin files: give the one to read, such as lfw.bin")
        path = found[0]
    with require(path).open("rb") as file:
        try:
            content = _PlainUnpickler(file, encoding="bytes").load()  # written by Python 2, whose texts are bytes
        except Exception as error:  # a damaged pickle can raise any exception
            raise CorpusError(
                f"{path}: not a file of pictures and booleans as InsightFace publishes it ({str(error)[:100]})"
            ) from None
    pictures, same = content if isinstance(content, (list, tuple)) and len(content) == 2 else (None, None)
    if not isinstance(pictures, list) or not isinstance(same, list):
        raise CorpusError(f"{path}: expected a list of pictures and a list of booleans")
    if not all(type(picture) is bytes for picture in pictures) or not all(type(value) is bool for value in same):
        raise CorpusError(f"{path}: holds other things than pictures and booleans")
    if not same or len(pictures) != 2 * len(same):
        raise CorpusError(f"{path}: {len(pictures):,} pictures for {len(same):,} pairs, and each pair needs two")
    return pictures, same
