"""Writes files and folders completely or not at all: under a temporary name, and then renames them.

    with replacement(path) as temporary:            # a file; `temporary` lies in the same folder
        dataset.to_parquet(temporary)
    with folder_replacement(folder) as temporary:   # a folder
        model.save_pretrained(temporary)
    write(path, content)                            # a file with these bytes
    create(path, content)                           # the same, but only if the file does not exist

Another process that reads the file meanwhile gets either the complete earlier content or the complete new content.
Use it for every file that another process may read while it is written.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacement(path: Path, *, shared: bool = False, private: bool = False) -> Iterator[Path]:
    """The path of a temporary file. At the end it is renamed to `path`; after an error it is removed.

    Args:
        shared: several processes or threads may write `path` at the same time, so each has another temporary file. If
            False, the temporary name is always the same, so the file of a killed process is overwritten.
        private: only the owner may read the file (mode 600), and this applies from the first byte on.
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
    """A new, empty folder. At the end it is renamed to `folder`; after an error it is removed.

    An earlier folder is renamed before that, and removed after it. After an error it gets its name back. `shared` is as
    in `replacement`.
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
    """Write a file with these bytes. `shared` is as in `replacement`."""
    with replacement(path, shared=shared) as temporary:
        temporary.write_bytes(content)


def create(path: Path, content: bytes) -> bool:
    """Write a file with these bytes if it does not exist. If several processes do this, only one of them gets True.

    Returns:
        whether the file was written. Always False on file systems without links, such as a mounted object store.
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
    random_part = f".{secrets.token_hex(3)}" if shared else ""
    return path.with_name(f"{path.name}{random_part}.{suffix}")
