"""What a network said about a photograph, kept on disk, so that no face passes the same network twice.

One file for each network (by the checksum of its weights) and each way of running it (image size, mirror image,
device); in it a row for each photograph, known by the checksum of its encoded bytes. So corpora that share photographs
share rows, and a photograph that changes is computed again. The files hold embeddings of people in research corpora:
they are readable by their owner alone, and the oldest go when all together outgrow MOST_BYTES.
"""

import hashlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MOST_BYTES = 4 * 2**30  # about 560,000 photographs at 1,792 float32 each


def digest(encoded: bytes) -> bytes:
    """16 bytes by which a photograph is known."""
    return hashlib.blake2b(encoded, digest_size=16).digest()


class EmbeddingCache:
    """The rows of one network.

    Args:
        folder: where the files lie; created when something is stored.
        name: of the file: the network and the way it is run.
    """

    def __init__(self, folder: Path, name: str):
        self.path = Path(folder) / f"{name}.npz"

    def read(self, digests: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is known of these photographs.

        Returns:
            known (n,) bool; then, of the k known ones in their order, embeddings (k, d) and probabilities (k, classes).
            A file that is missing or damaged knows nothing.
        """
        stored, embeddings, probabilities = self._load()
        row_of = {bytes(one): row for row, one in enumerate(stored)}
        rows = [row_of.get(one, -1) for one in digests]
        known = np.array([row >= 0 for row in rows], dtype=bool)
        found = [row for row in rows if row >= 0]
        return known, embeddings[found], probabilities[found]

    def write(self, digests: Sequence[bytes], embeddings: np.ndarray, probabilities: np.ndarray) -> None:
        """Add rows, keeping those that are there; the file is replaced as a whole. Rows already there are not doubled.

        Raises:
            OSError: the folder cannot be written to.
        """
        before = self._load()
        there = {bytes(one) for one in before[0]}
        new = list({one: row for row, one in enumerate(digests) if one not in there}.values())
        added = np.array([list(digests[row]) for row in new], dtype=np.uint8), embeddings[new], probabilities[new]
        whole = [np.concatenate(pair) for pair in zip(before, added, strict=True)] if there else added
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            np.savez(file, digests=whole[0], embeddings=whole[1], probabilities=whole[2])
        os.replace(temporary, self.path)
        self._make_room()

    def _load(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        try:
            with np.load(self.path) as file:
                return file["digests"], file["embeddings"], file["probabilities"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return np.empty((0, 16), np.uint8), np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)

    def _make_room(self) -> None:
        total = 0
        for path in sorted(self.path.parent.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True):
            total += path.stat().st_size
            if total > MOST_BYTES and path != self.path:
                path.unlink(missing_ok=True)
