"""The files that visitors upload: in one folder of this process, each known by the path the server gave it.

The whole folder is gone when the server ends; that of a process which was killed goes when another one starts, or is
swept by one that runs.
"""

import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

UPLOAD_SECONDS = 600  # then a file is deleted, whether its page is still open or not
SWEEP_SECONDS = 20
STALE_SECONDS = 120  # a folder that no process has touched for so long belongs to none
PREFIX = "facelivenet-uploads-"
ALIVE = "alive"  # a file in the folder that its process touches
MOST_FILE_BYTES = 20_000_000
MOST_FILES_EACH, MOST_BYTES_EACH = 40, 100_000_000  # of one visitor, at the same time
MOST_FILES, MOST_BYTES = 2000, 2_000_000_000  # of everybody


class UploadLimitError(RuntimeError):
    """This visitor, or everybody together, has uploaded as much as the server keeps."""


@dataclass
class _File:
    visitor: str
    size: int
    given: float
    page: str | None = None


class Uploads:
    """Which files there are, whose they are, and when they go. Safe to share between threads.

    Args:
        base: the folder that holds the folders of all processes; by default the system's for temporary files.
        clock: seconds.
    """

    def __init__(self, base: str | Path | None = None, clock: Callable[[], float] = time.monotonic):
        base = Path(base or tempfile.gettempdir())
        base.mkdir(parents=True, exist_ok=True)
        self._base = base
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base)).resolve()  # readable by its owner alone
        (self.folder / ALIVE).touch()
        self._files: dict[str, _File] = {}
        self._kept: set[str] = set()
        self._clock = clock
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def keep(self, files: Iterable[str | Path]) -> None:
        """These are the server's own, such as examples: anybody may name them, and they stay."""
        self._kept.update(str(Path(file)) for file in files)

    def add(self, visitor: str, name: str, content: BinaryIO, size: int) -> str:
        """Write a file; returns its path, which nobody can guess.

        Args:
            name: as the client calls it; only its last part is used.

        Raises:
            UploadLimitError: nothing is written then.
        """
        folder = self.folder / secrets.token_urlsafe(24)
        path = folder / _safe(name)
        with self._lock:
            own = [file.size for file in self._files.values() if file.visitor == visitor]
            everybody = sum(file.size for file in self._files.values())
            if len(own) >= MOST_FILES_EACH or sum(own) + size > MOST_BYTES_EACH:
                raise UploadLimitError("too many files of this visitor")
            if len(self._files) >= MOST_FILES or everybody + size > MOST_BYTES:
                raise UploadLimitError("too many files of all visitors")
            self._files[str(path)] = _File(visitor, size, self._clock())
        try:
            folder.mkdir(mode=0o700)
            with path.open("xb") as file:
                shutil.copyfileobj(content, file)
        except BaseException:
            self._delete([str(path)])
            raise
        return str(path)

    def find(self, path: object, page: str | None = None) -> Path | None:
        """An uploaded file, or one of the server's own; None for any other path.

        page: whose it is from now on, to be deleted with it.
        """
        if not isinstance(path, str):
            return None
        with self._lock:
            if file := self._files.get(path):
                file.page = page or file.page
            elif path not in self._kept:
                return None
        return Path(path)

    def leave(self, page: str) -> None:
        """Delete the files of a page that was closed."""
        with self._lock:
            own = [path for path, file in self._files.items() if file.page == page]
        self._delete(own)

    def sweep(self) -> None:
        """Delete what is old, and what processes that are no more have left behind."""
        with self._lock:
            now = self._clock()
            old = [path for path, file in self._files.items() if now - file.given > UPLOAD_SECONDS]
        self._delete(old)
        if self.folder.is_dir():
            (self.folder / ALIVE).touch()
        for mark in self._base.glob(f"{PREFIX}*/{ALIVE}"):
            try:
                silent = time.time() - mark.stat().st_mtime
            except OSError:  # gone by now
                continue
            if mark.parent.resolve() != self.folder and silent > STALE_SECONDS:
                shutil.rmtree(mark.parent, ignore_errors=True)

    def sweep_regularly(self) -> None:
        """Sweep now, and from time to time in a thread until the end."""
        self.sweep()

        def again() -> None:
            while not self._ended.wait(SWEEP_SECONDS):
                self.sweep()

        threading.Thread(target=again, daemon=True, name="sweep").start()

    def close(self) -> None:
        """Delete everything."""
        self._ended.set()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _delete(self, paths: list[str]) -> None:
        for path in paths:
            shutil.rmtree(Path(path).parent, ignore_errors=True)
        with self._lock:
            for path in paths:
                self._files.pop(path, None)

    def __len__(self) -> int:
        return len(self._files)


def _safe(name: str) -> str:
    """The last part of a file's name, short, of harmless characters, with its suffix."""
    name = PurePosixPath(PureWindowsPath(str(name)).name).name
    kept = "".join(letter if letter.isalnum() or letter in "._- " else "_" for letter in name).strip(". ")
    stem, dot, suffix = kept.rpartition(".")
    short = f"{stem[:40]}{dot}{suffix[:8]}" if stem else kept[:40]
    return short.encode("ascii", "replace").decode().replace("?", "_") or "file"
