"""The files that visitors upload: kept in a folder of this process, each under a path that cannot be guessed.

Files are deleted with their page, after UPLOAD_SECONDS, and when the server ends; the folder of a killed process is
deleted by the next process, or by another one that runs. Called by `server`.
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

UPLOAD_SECONDS = 600  # after which a file is deleted even if its page is open
SWEEP_SECONDS = 20
STALE_SECONDS = 120  # after which a folder that no process has touched is deleted
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
    """The uploaded files, their visitors and pages, and their deletion. Safe to share between threads.

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
        self._permanent: set[str] = set()
        self._clock = clock
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def keep(self, files: Iterable[str | Path]) -> None:
        """Register files of the server, such as examples: any visitor may name them, and they are not deleted."""
        self._permanent.update(str(Path(file)) for file in files)

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
            sizes = [file.size for file in self._files.values() if file.visitor == visitor]
            total = sum(file.size for file in self._files.values())
            if len(sizes) >= MOST_FILES_EACH or sum(sizes) + size > MOST_BYTES_EACH:
                raise UploadLimitError("too many files of this visitor")
            if len(self._files) >= MOST_FILES or total + size > MOST_BYTES:
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
        """An uploaded file, or one of the server's; None for any other path.

        Args:
            page: the page that the file belongs to from now on; it is deleted with it.
        """
        if not isinstance(path, str):
            return None
        with self._lock:
            if file := self._files.get(path):
                file.page = page or file.page
            elif path not in self._permanent:
                return None
        return Path(path)

    def leave(self, page: str) -> None:
        """Delete the files of a page that was closed."""
        with self._lock:
            paths = [path for path, file in self._files.items() if file.page == page]
        self._delete(paths)

    def sweep(self) -> None:
        """Delete files that are too old, and the folders of processes that no longer run."""
        with self._lock:
            now = self._clock()
            old = [path for path, file in self._files.items() if now - file.given > UPLOAD_SECONDS]
        self._delete(old)
        if self.folder.is_dir():
            (self.folder / ALIVE).touch()
        for mark in self._base.glob(f"{PREFIX}*/{ALIVE}"):
            try:
                untouched = time.time() - mark.stat().st_mtime
            except OSError:  # deleted meanwhile
                continue
            if mark.parent.resolve() != self.folder and untouched > STALE_SECONDS:
                shutil.rmtree(mark.parent, ignore_errors=True)

    def sweep_regularly(self) -> None:
        """Sweep now, and every SWEEP_SECONDS in a thread until `close`."""
        self.sweep()

        def again() -> None:
            while not self._ended.wait(SWEEP_SECONDS):
                self.sweep()

        threading.Thread(target=again, daemon=True, name="sweep").start()

    def close(self) -> None:
        """Delete all uploaded files."""
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
    """The last part of a file's name, shortened, other characters replaced, with its suffix."""
    name = PurePosixPath(PureWindowsPath(str(name)).name).name
    kept = "".join(letter if letter.isalnum() or letter in "._- " else "_" for letter in name).strip(". ")
    stem, dot, suffix = kept.rpartition(".")
    short = f"{stem[:40]}{dot}{suffix[:8]}" if stem else kept[:40]
    return short.encode("ascii", "replace").decode().replace("?", "_") or "file"
