"""Stores the files that visitors upload, in a folder of this process, under paths that cannot be guessed.

Files are deleted when their page is closed, after UPLOAD_SECONDS, and when the server ends. The folder of a killed
process is deleted by another process, which may start later. `server` and `app.py` call it.
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

from startup import return_freed_memory

UPLOAD_SECONDS = 600  # then a file is deleted even if its page is open
SWEEP_SECONDS = 20
STALE_SECONDS = 120  # then a folder that no process has touched is deleted
PREFIX = "facelivenet-uploads-"
ALIVE = "alive"  # a file in the folder that its process touches regularly
MAX_FILE_BYTES = 20_000_000
MAX_FILES_PER_VISITOR, MAX_BYTES_PER_VISITOR = 40, 100_000_000  # of one visitor, at the same time
MAX_FILES, MAX_BYTES = 2000, 2_000_000_000  # of all visitors


class UploadLimitError(RuntimeError):
    """This visitor, or all visitors together, have uploaded as much as the server stores."""


@dataclass
class _File:
    visitor: str
    size: int
    added: float  # time
    page: str | None = None


class Uploads:
    """The uploaded files, with their visitors and pages, and their deletion. Threads may share it.

    Args:
        base: folder for the folders of all processes; by default the system's folder for temporary files.
        clock: seconds.
    """

    def __init__(self, base: str | Path | None = None, clock: Callable[[], float] = time.monotonic):
        base = Path(base or tempfile.gettempdir())
        base.mkdir(parents=True, exist_ok=True)
        self._base = base
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base)).resolve()  # readable by its owner only
        (self.folder / ALIVE).touch()
        self._files: dict[str, _File] = {}
        self._permanent: set[str] = set()
        self._clock = clock
        self._lock = threading.Lock()
        self._is_closed = threading.Event()

    def keep(self, files: Iterable[str | Path]) -> None:
        """Register files of the server, such as examples. Any visitor may use them, and they are not deleted."""
        self._permanent.update(str(Path(file)) for file in files)

    def add(self, visitor: str, name: str, content: BinaryIO, size: int) -> str:
        """Write a file; returns its path, which nobody can guess.

        Args:
            name: the client's name for it; only the last part is used.

        Raises:
            UploadLimitError: a limit is reached; nothing is written.
        """
        folder = self.folder / secrets.token_urlsafe(24)
        path = folder / _safe_name(name)
        with self._lock:
            sizes = [file.size for file in self._files.values() if file.visitor == visitor]
            total = sum(file.size for file in self._files.values())
            if len(sizes) >= MAX_FILES_PER_VISITOR or sum(sizes) + size > MAX_BYTES_PER_VISITOR:
                raise UploadLimitError("too many files of this visitor")
            if len(self._files) >= MAX_FILES or total + size > MAX_BYTES:
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
        """An uploaded file, or a registered file of the server; None for any other path.

        Args:
            page: to which the file belongs from now on; it is deleted with this page.
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
        """Delete the files of a closed page."""
        with self._lock:
            paths = [path for path, file in self._files.items() if file.page == page]
        self._delete(paths)

    def sweep(self) -> None:
        """Delete files that are too old, and the folders of processes that no longer run."""
        with self._lock:
            now = self._clock()
            old = [path for path, file in self._files.items() if now - file.added > UPLOAD_SECONDS]
        self._delete(old)
        if self.folder.is_dir():
            (self.folder / ALIVE).touch()
        for mark in self._base.glob(f"{PREFIX}*/{ALIVE}"):
            try:
                untouched = time.time() - mark.stat().st_mtime
            except OSError:  # deleted in the meantime
                continue
            if mark.parent.resolve() != self.folder and untouched > STALE_SECONDS:
                shutil.rmtree(mark.parent, ignore_errors=True)

    def sweep_regularly(self) -> None:
        """Sweep now, and every SWEEP_SECONDS in a thread until `close`."""
        self.sweep()

        def sweep_repeatedly() -> None:
            while not self._is_closed.wait(SWEEP_SECONDS):
                self.sweep()
                return_freed_memory()  # large images and clips leave holes in the heap

        threading.Thread(target=sweep_repeatedly, daemon=True, name="sweep").start()

    def close(self) -> None:
        """Delete all uploaded files."""
        self._is_closed.set()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _delete(self, paths: list[str]) -> None:
        for path in paths:
            shutil.rmtree(Path(path).parent, ignore_errors=True)
        with self._lock:
            for path in paths:
                self._files.pop(path, None)


def _safe_name(name: str) -> str:
    """The last part of a file name, shortened, with its suffix, and with unusual characters replaced."""
    name = PurePosixPath(PureWindowsPath(str(name)).name).name
    cleaned = "".join(letter if letter.isalnum() or letter in "._- " else "_" for letter in name).strip(". ")
    stem, dot, suffix = cleaned.rpartition(".")
    short = f"{stem[:40]}{dot}{suffix[:8]}" if stem else cleaned[:40]
    return short.encode("ascii", "replace").decode().replace("?", "_") or "file"
