"""The files that people upload: deleted with the page, whichever tab they were given in."""

import threading
from collections.abc import Iterable
from pathlib import Path

import gradio as gr

UPLOAD_SECONDS = 600  # then Gradio deletes the files of whoever has not left the page
PAGES = 500  # whose files are remembered; those of the one that gave some longest ago are left to Gradio


class Uploads:
    """Which page gave which files, only to delete them with it. Safe to share between threads.

    What a client sends as its files may be any in the folder of uploads: the page's own examples lie there too, and
    the same file uploaded twice is one.
    """

    def __init__(self, pages: int = PAGES):
        self._most = pages
        self._kept: set[Path] = set()
        self._files: dict[str, set[Path]] = {}  # by page; the one that gave some last stands at the end
        self._lock = threading.Lock()

    def keep(self, files: Iterable[str | Path]) -> None:
        """Never delete these, whoever gives them."""
        self._kept.update(Path(file).resolve() for file in files)

    def remember(self, page: str, files: Iterable[str | Path]) -> None:
        """page: its session hash. Of the files only those that are there."""
        given = {Path(file).resolve() for file in files} - self._kept
        with self._lock:
            own = {file for file in self._files.pop(page, set()) | given if file.is_file()}
            if own:
                self._files[page] = own
            while len(self._files) > self._most:
                del self._files[next(iter(self._files))]

    def on_change(self, file: str | None, request: gr.Request) -> None:
        """A component that takes one file has another."""
        self.remember(request.session_hash, [file] if file else [])

    def on_leave(self, request: gr.Request) -> None:
        """Delete the files of a page that was closed, less those another page gave as well."""
        with self._lock:
            files = self._files.pop(request.session_hash, set())
            for file in files.difference(*self._files.values()):
                file.unlink(missing_ok=True)
