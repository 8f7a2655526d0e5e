"""The embedding cache: network outputs on disk, so that a network processes each image once.

There is one file per network (named by the checksum of its weights) and per setting of it (image size, device). Its
rows are found by the checksum of the image's encoded bytes: corpora that share images share rows, and a changed image
is computed again. The files hold embeddings of people in research corpora, so only their owner can read them. When all
files together exceed MAX_BYTES, the oldest are removed. Only `compute` uses the cache.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atomic import replacement

UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)  # of a missing or damaged .npz file
MAX_BYTES = 4 * 2**30  # about 560,000 images at 1,792 float32 each


def digest(encoded: bytes) -> bytes:
    """16 bytes that identify an image."""
    return hashlib.blake2b(encoded, digest_size=16).digest()


class EmbeddingCache:
    """The cached rows of one network.

    Args:
        folder: of the files; created by the first `write`.
        name: of the file; identifies the network and its settings.
    """

    def __init__(self, folder: Path, name: str):
        self.path = Path(folder) / f"{name}.npz"

    def read(self, digests: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The cached rows of these images.

        Returns:
            cached (n,) bool; then, of the k cached images in their order, embeddings (k, d) and probabilities
            (k, classes). A missing or damaged file has no rows.
        """
        stored, embeddings, probabilities = self._load()
        row_by_digest = {bytes(key): row for row, key in enumerate(stored)}
        rows = [row_by_digest.get(key, -1) for key in digests]
        cached = np.array([row >= 0 for row in rows], dtype=bool)
        cached_rows = [row for row in rows if row >= 0]
        return cached, embeddings[cached_rows], probabilities[cached_rows]

    def write(self, digests: Sequence[bytes], embeddings: np.ndarray, probabilities: np.ndarray) -> None:
        """Add rows; existing rows are kept and not replaced. The file is replaced atomically.

        Raises:
            OSError: the folder cannot be written to.
        """
        stored = self._load()
        existing = {bytes(key) for key in stored[0]}
        new = list({key: row for row, key in enumerate(digests) if key not in existing}.values())
        added = np.array([list(digests[row]) for row in new], dtype=np.uint8), embeddings[new], probabilities[new]
        arrays = [np.concatenate(pair) for pair in zip(stored, added, strict=True)] if existing else added
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacement(self.path, shared=True, private=True) as temporary, temporary.open("wb") as file:
            np.savez(file, digests=arrays[0], embeddings=arrays[1], probabilities=arrays[2])
        self._remove_oldest()

    def _load(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        try:
            with np.load(self.path) as file:
                return file["digests"], file["embeddings"], file["probabilities"]
        except UNREADABLE:
            return np.empty((0, 16), np.uint8), np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)

    def _remove_oldest(self) -> None:
        total = 0
        for path in sorted(self.path.parent.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True):
            total += path.stat().st_size
            if total > MAX_BYTES and path != self.path:
                path.unlink(missing_ok=True)
