"""Files and folders that are written as a whole or not at all: under a temporary name, which is then changed.

    with replacement(path) as temporary:            # a file; `temporary` lies in the same folder
        dataset.to_parquet(temporary)
    with folder_replacement(folder) as temporary:   # a folder
        model.save_pretrained(temporary)
    write(path, content)                            # a file of these bytes
    create(path, content)                           # the same, only where there is none

Whoever reads meanwhile finds the earlier content or all of the new one. Called by every room that writes what others
read; the files that the Hub serves on their own are an exception.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacement(path: Path, *, shared: bool = False, private: bool = False) -> Iterator[Path]:
    """The path of a temporary file that gets the name `path` at the end, or is removed after an error.

    Args:
        shared: several processes or threads may write `path` at once, so each has a temporary file of its own. Without
            it the temporary name is always the same, and what a killed process left there is written over.
        private: its owner alone may read the file (mode 600), from the first byte on.
    """
    temporary = _beside(path, "tmp", shared)
    try:
        if private:
            temporary.unlink(missing_ok=True)
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def folder_replacement(folder: Path, *, shared: bool = False) -> Iterator[Path]:
    """A new, empty folder that gets the name `folder` at the end, or is removed after an error.

    The earlier folder has another name while the new one gets its own, and is removed afterwards or put back.
    `shared` is as for `replacement`.
    """
    temporary, old = (_beside(folder, suffix, shared) for suffix in ("tmp", "old"))
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write(path: Path, content: bytes, *, shared: bool = False) -> None:
    """Write a file of these bytes; `shared` is as for `replacement`."""
    with replacement(path, shared=shared) as temporary:
        temporary.write_bytes(content)


def create(path: Path, content: bytes) -> bool:
    """Write a file of these bytes where there is none. Of several processes that do so at once, one has True.

    Returns:
        False where there is one, and on file systems without links, such as a mount of an object store.
    """
    temporary = _beside(path, "tmp", shared=True)
    try:
        temporary.write_bytes(content)
        with contextlib.suppress(OSError):
            os.link(temporary, path)
            return True
        return False
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path, suffix: str, shared: bool) -> Path:
    own = f".{secrets.token_hex(3)}" if shared else ""
    return path.with_name(f"{path.name}{own}.{suffix}")
