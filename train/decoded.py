"""Photographs decoded once: a file of pixels for each corpus, shared by all workers and processes of the machine.

WHOSE-CONTENT-NAME.faces    (rows,) uint64 checksums, then (rows, h, w, 3) uint8 pixels, as they are

A row is valid where its checksum is that of its pixels. So the file fills itself while photographs are drawn, several
writers at once write the same bytes, and what a killed process or a power cut left half written is decoded again. The
file is sparse and takes the room of the rows that were written. It is read and written by offset, not mapped into
memory: a full disk or a file cut short is then an error that can be caught, not a signal that ends the process.
"""

import hashlib
import io
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from datasets import Dataset as Corpus

from face_data.table import shards_of

LAYOUT = 1  # of the file; whoever changes it counts on, and older files are not read
CHECKSUM_BYTES = 8  # all zero: the row was never written


class DecodedFaces:
    """The decoded photographs of one corpus, all of one shape; those of another are never kept.

    May be handed to other processes: each opens the file anew.

    Args:
        path: the file; made by `open_decoded`.
        rows: photographs of the whole corpus, whatever splits are used.
        shape: (h, w, 3) of each.
    """

    def __init__(self, path: Path, rows: int, shape: tuple[int, int, int]):
        self.path, self.rows, self.shape = path, rows, shape
        self.size = int(np.prod(shape))
        # one warning for all workers: whoever meets the error first tells the others
        self.refused = torch.zeros((), dtype=torch.bool).share_memory_()
        self._file: io.FileIO | None = None
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        whole = rows * (CHECKSUM_BYTES + self.size)
        if os.fstat(self.file).st_size != whole:  # new, or cut short: rows that are lost fail their checksum
            os.ftruncate(self.file, whole)

    @property
    def file(self) -> int:
        if self._file is None:
            self._file = io.FileIO(self.path, "r+", opener=_open_or_make)
        return self._file.fileno()

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_file": None}

    def written(self, rows: np.ndarray) -> np.ndarray:
        """(k,) bool: which of these rows have a checksum; their pixels are checked when they are read."""
        checksums = np.zeros(self.rows, dtype=np.uint64)
        os.preadv(self.file, [checksums], 0)
        return checksums[rows] != 0

    def read(self, row: int) -> np.ndarray | None:
        """(h, w, 3) uint8, or None where the row is not there or not whole."""
        try:
            checksum = os.pread(self.file, CHECKSUM_BYTES, row * CHECKSUM_BYTES)
            if not any(checksum):
                return None
            face = np.empty(self.shape, dtype=np.uint8)
            os.preadv(self.file, [face], self._place(row))
        except OSError:
            return None
        return face if checksum == _checksum(face) else None

    def write(self, row: int, face: np.ndarray) -> None:
        """Keep a decoded photograph; does nothing if it has another shape, or after a write has failed."""
        if face.shape != self.shape or self.refused:
            return
        face = np.ascontiguousarray(face)
        checksum = _checksum(face)
        try:
            written = os.pwrite(self.file, face, self._place(row))
            written += os.pwrite(self.file, checksum, row * CHECKSUM_BYTES)  # last, so that others see a whole row
            if written != self.size + CHECKSUM_BYTES:
                raise OSError("the disk is full")
        except OSError as error:
            if not self.refused:
                self.refused.fill_(True)
                _warn(f"{self.path} cannot be written ({error}); what is not in it yet is decoded every time")

    def _place(self, row: int) -> int:
        return self.rows * CHECKSUM_BYTES + row * self.size


def open_decoded(folder: Path, corpora: list[tuple[str, Corpus, np.ndarray]]) -> list[DecodedFaces | None]:
    """The decoded photographs of several corpora, each in a file of its own.

    A file has the names, sizes and times of the corpus's shards in its name, so a corpus that changed gets another, and
    the one before is removed. Where a folder cannot be written to, or the disk is too small, stderr says so once.

    Args:
        folder: where the files lie; it is made.
        corpora: of each its folder or Hub id, its whole table with `image` undecoded, and the rows that are used.

    Returns:
        for each corpus, None where it is to be decoded every time.
    """
    opened, room = [], None
    for corpus, table, rows in corpora:
        decoded, shape = None, _shape(table)
        try:
            if shape is not None:
                path = _path(folder, corpus, table, shape)
                decoded = DecodedFaces(path, len(table), shape)
                for before in folder.glob(f"{path.name.partition('-')[0]}-*.faces"):
                    if before != path:
                        before.unlink(missing_ok=True)
                if room is None:  # the other half is left to checkpoints, and to everybody else
                    room = shutil.disk_usage(folder).free / 2
                needed = decoded.size * int((~decoded.written(rows)).sum())
                if needed <= room:
                    room -= needed
                else:
                    decoded.refused.fill_(True)
                    _warn(
                        f"{corpus}: what is not in {folder} yet is decoded every time, for its {needed / 2**30:.2f} "
                        "GiB would take more than half of the space left; set $FACELIVENET_CACHE to a larger disk"
                    )
        except OSError as error:
            decoded = None
            _warn(f"{corpus}: photographs are decoded every time, for {folder} cannot keep them ({error})")
        opened.append(decoded)
    return opened


def _path(folder: Path, corpus: str, table: Corpus, shape: tuple[int, ...]) -> Path:
    local = Path(corpus).is_dir()
    name = str(Path(corpus).resolve()) if local else corpus
    content = hashlib.blake2b(f"{LAYOUT} {len(table)} {shape}".encode(), digest_size=8)
    for file in shards_of(corpus) if local else [one["filename"] for one in table.cache_files]:
        state = os.stat(file)
        content.update(f"\n{Path(file).name} {state.st_size} {state.st_mtime_ns}".encode())
    whose = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return folder / f"{whose}-{content.hexdigest()}-{Path(name).name}.faces"


def _shape(table: Corpus) -> tuple[int, int, int] | None:
    """(h, w, 3) of a corpus's first photograph whose header can be read."""
    for row in table:
        try:
            with PIL.Image.open(io.BytesIO(row["image"]["bytes"])) as image:
                return image.height, image.width, 3
        except (OSError, ValueError, SyntaxError):
            continue
    return None


def _open_or_make(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o600)  # faces of people: for their owner alone


def _checksum(face: np.ndarray) -> bytes:
    """8 bytes, never those of an unwritten row; the sum of all words costs a hundredth of decoding."""
    flat = face.reshape(-1)
    whole = len(flat) // 8 * 8
    words = int(flat[:whole].view(np.uint64).sum(dtype=np.uint64)) + int(flat[whole:].sum())
    return (words % (2**64 - 1) + 1).to_bytes(CHECKSUM_BYTES, sys.byteorder)


def _warn(text: str) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # once a machine
        print(f"train: {text}", file=sys.stderr)
