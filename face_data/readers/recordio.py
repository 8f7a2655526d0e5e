"""MXNet's RecordIO, in which InsightFace publishes aligned faces: `train.rec`, read from its first byte to its last.

A record is the number MAGIC, a word with its length (29 bits) and kind (3 bits), its bytes, and zeros up to a multiple
of 4, all little-endian. Where MAGIC itself would stand in the bytes, at a multiple of 4, the writer leaves it out and
splits the record in parts there: kind 1 begins such a record, 2 goes on, 3 ends it; 0 is a whole one.

The bytes of a record are the flag, the label, two ids, `flag` numbers more (then the first of them is the label, not
the one before) and the encoded picture. In InsightFace's files record 0 has no picture, and its label is the number
of the first of the records after the pictures, a table of people, which have none either.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from face_data.readers.source import Photograph, require
from face_data.table import CorpusError

MAGIC = struct.pack("<I", 0xCED7230A)
HEADER = struct.Struct("<IfQQ")  # flag, label, id, second id


def read_recordio(path: Path) -> Iterator[Photograph]:
    """The pictures of a `train.rec`, as keys `identity/number of the record`.

    Raises:
        CorpusError: no RecordIO, damaged, or ended early; names the file and the byte.
    """
    promised, records = 0, 0
    for number, (position, content) in enumerate(read_records(path)):
        label, picture = unpacked(path, position, content)
        records += 1
        if picture:
            yield Photograph(f"{label}/{number:08d}", picture, str(label), split="train")
        elif number == 0:
            promised = label
    if records < promised:
        raise CorpusError(f"{path} ends after {records:,} of at least {promised:,} records; download it again")


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Position in the file and bytes of every record, one in memory at a time."""
    parts, begin, position = [], 0, 0
    with require(path).open("rb") as file:
        while head := file.read(8):
            if not head.startswith(MAGIC[: len(head)]):
                raise CorpusError(f"{path}, byte {position:,}: no record begins here; damaged, or not a RecordIO file")
            word = int.from_bytes(head[4:], "little")
            kind, length = word >> 29, word & (1 << 29) - 1
            filled = length + -length % 4
            content = file.read(filled)
            if len(head) < 8 or len(content) < filled:
                raise CorpusError(f"{path}, byte {position:,}: the file ends within this record; download it again")
            if kind > 3 or bool(parts) != (kind in (2, 3)):
                raise CorpusError(f"{path}, byte {position:,}: a part of a record out of place; download it again")
            begin = begin if parts else position
            parts.append(content[:length])
            if kind in (0, 3):
                yield begin, MAGIC.join(parts)
                parts = []
            position += 8 + filled
    if parts:
        raise CorpusError(f"{path}, byte {begin:,}: the file ends within this record; download it again")


def unpacked(path: Path, position: int, content: bytes) -> tuple[int, bytes]:
    """Label and encoded picture of a record; path and position are named where it has none."""
    try:
        flag, label, _, _ = HEADER.unpack_from(content)
        if flag:
            label = struct.unpack_from(f"<{flag}f", content, HEADER.size)[0]
        return int(label), content[HEADER.size + 4 * flag :]
    except (struct.error, ValueError, OverflowError):
        raise CorpusError(f"{path}, byte {position:,}: this record has no label; is it a file of pictures?") from None
