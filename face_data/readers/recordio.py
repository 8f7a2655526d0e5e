"""Reads files in MXNet's format RecordIO. InsightFace publishes aligned faces in such files (`train.rec`).

`identities` and `synthetic` call it. Read `source` next.

A record is the number MAGIC, a word with its length (29 bits) and kind (3 bits), its bytes, and zeros up to a multiple
of 4, all little-endian. If the bytes of a record contain MAGIC at a multiple of 4, the writer omits it and splits
the record there: the first part has kind 1, the last one kind 3, those between kind 2. An unsplit record has kind 0.

The bytes of a record are: flag, label, two ids, `flag` further numbers, the encoded image. If there are further
numbers, the first of them is the label instead. In InsightFace's files record 0 has no image; its label is the number
of records up to the last image. The records after these are a table of people, without images.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from face_data.readers.source import Photograph, require
from face_data.table import CorpusError

MAGIC = struct.pack("<I", 0xCED7230A)
HEADER = struct.Struct("<IfQQ")  # flag, label, id, second id


def read_recordio(path: Path) -> Iterator[Photograph]:
    """The images of a `train.rec`, with keys `identity/number of the record`.

    Raises:
        CorpusError: not a RecordIO file, damaged, or truncated; the message names the file and the byte.
    """
    expected, records = 0, 0
    for number, (position, content) in enumerate(read_records(path)):
        label, image = unpack_record(path, position, content)
        records += 1
        if image:
            yield Photograph(f"{label}/{number:08d}", image, str(label), split="train")
        elif number == 0:
            expected = label
    if records < expected:
        raise CorpusError(f"{path} ends after {records:,} of at least {expected:,} records; download it again")


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Position in the file and bytes of every record; only one record is in memory at a time."""
    parts, begin, position = [], 0, 0
    with require(path).open("rb") as file:
        while head := file.read(8):
            if not head.startswith(MAGIC[: len(head)]):
                raise CorpusError(f"{path}, byte {position:,}: no record begins here; damaged, or not a RecordIO file")
            word = int.from_bytes(head[4:], "little")
            kind, length = word >> 29, word & (1 << 29) - 1
            padded = length + -length % 4
            content = file.read(padded)
            if len(head) < 8 or len(content) < padded:
                raise CorpusError(f"{path}, byte {position:,}: the file ends within this record; download it again")
            if kind > 3 or bool(parts) != (kind in (2, 3)):
                raise CorpusError(f"{path}, byte {position:,}: a part of a record at a wrong place; download it again")
            begin = begin if parts else position
            parts.append(content[:length])
            if kind in (0, 3):
                yield begin, MAGIC.join(parts)
                parts = []
            position += 8 + padded
    if parts:
        raise CorpusError(f"{path}, byte {begin:,}: the file ends within this record; download it again")


def unpack_record(path: Path, position: int, content: bytes) -> tuple[int, bytes]:
    """Label and encoded image of a record; an error names path and position."""
    try:
        flag, label, _, _ = HEADER.unpack_from(content)
        if flag:
            label = struct.unpack_from(f"<{flag}f", content, HEADER.size)[0]
        return int(label), content[HEADER.size + 4 * flag :]
    except (struct.error, ValueError, OverflowError):
        raise CorpusError(f"{path}, byte {position:,}: this record has no label; is it a file of images?") from None
