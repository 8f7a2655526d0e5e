"""Folders at an address such as `s3://bucket/corpora/lfw`. No other module of this project accesses addresses.

    is_address(name)                # whether it contains ://; a mounted folder is an ordinary folder
    local_copy(name)                # a local folder with the same files, downloaded once; a local folder is returned
    working_folder(name)            # the local folder for files that will be uploaded to an address
    Remote(name)                    # the files at an address: list, read, write, upload, download, remove

All file systems of fsspec can be used. Credentials and endpoints are in the variables of their libraries, such as
AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and HF_TOKEN. fsspec is imported only if there is an address.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path

from atomic import replacement, write

AT_ONCE = 16  # number of files in one download


class AddressError(OSError):
    """An address cannot be reached, read or written. The message names it."""


def cache_folder() -> Path:
    """$FACELIVENET_CACHE, or `facelivenet` in the cache folder of the user. All its files can be created again."""
    folder = os.environ.get("FACELIVENET_CACHE")
    return Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "facelivenet"


def is_address(name: str | Path) -> bool:
    return "://" in str(name)


def join(folder: str | Path, name: str) -> str:
    """The path of a file in a folder, or its address."""
    return f"{str(folder).rstrip('/')}/{name}" if is_address(folder) else str(Path(folder) / name)


def write_text(folder: str | Path, name: str, text: str) -> None:
    """Write a text file to a folder, or to an address."""
    if is_address(folder):
        Remote(folder).write(name, text.encode())
    else:
        write(Path(folder) / name, text.encode())


def working_folder(name: str | Path) -> Path:
    """For a folder, the folder itself. For an address, its folder in the cache."""
    if not is_address(name):
        return Path(name)
    address = str(name).rstrip("/")
    return cache_folder() / "runs" / _digest(address) / address.rpartition("/")[2]


def local_copy(name: str | Path, check: Callable[[Path], None] | None = None) -> Path:
    """For a folder, the folder itself. For an address, a copy in the cache folder.

    The copy is downloaded again if the files at the address changed. If several processes of a machine need it, one of
    them downloads it. A copy gets its name when all its files are complete.

    Args:
        check: a function that raises an error if a new copy is damaged. It is called before other processes can use the
            copy.

    Raises:
        AddressError: there are no files at the address, or they cannot be read.
    """
    return _copy(str(name).rstrip("/"), check) if is_address(name) else Path(name)


@functools.cache  # a process always uses the same copy, even if the address changes
def _copy(address: str, check: Callable[[Path], None] | None) -> Path:
    from filelock import FileLock  # imported here, because it takes time, like fsspec

    remote = Remote(address)
    files = remote.files()
    if not files:
        raise AddressError(f"{address}: contains no files")
    base = cache_folder() / "copies" / _digest(address, json.dumps(sorted(files.items())))
    copy = base / address.rpartition("/")[2]
    base.mkdir(parents=True, exist_ok=True)
    with FileLock(base / "lock"):
        if not copy.exists():
            print(f"downloading {address} ({len(files):,} files)", file=sys.stderr)
            temporary = base / "part"  # it may contain files of an interrupted download
            remote.download([file for file in files if not (temporary / file).exists()], temporary)
            if check is not None:
                try:
                    check(temporary)
                except Exception:
                    shutil.rmtree(temporary)
                    raise
            os.replace(temporary, copy)
    return copy


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


class Remote:
    """A folder at an address. The names of files are relative to it. Every error is an AddressError.

    In an object store, a file is visible only when it is complete. For several files, the order of uploading matters.
    """

    def __init__(self, address: str | Path):
        self.address = str(address).rstrip("/")
        import fsspec

        try:
            self.file_system, self.folder = fsspec.core.url_to_fs(self.address)
        except ImportError as error:  # it names the package: "Install s3fs to access S3"
            raise AddressError(f"{self.address} needs a package that is not installed: {error}") from None
        except Exception as error:
            raise AddressError(f"{self.address}: {error}") from error

    def path(self, name: str) -> str:
        """The path of a file in the file system of the address."""
        return f"{self.folder}/{name}"

    def files(self) -> dict[str, str]:
        """Name of each file -> a text that changes if the file changes. Empty if there are no files."""
        with self._named():
            self.file_system.invalidate_cache()
            try:
                found = self.file_system.find(self.folder, detail=True)
            except FileNotFoundError:
                return {}
        start = len(self.folder) + 1
        return {path[start:]: json.dumps(found[path], sort_keys=True, default=str) for path in sorted(found)}

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if it does not exist."""
        with self._named():
            try:
                return self.file_system.cat_file(self.path(name))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        with self._named():
            self._make_parent(self.path(name))
            self.file_system.pipe_file(self.path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file if it does not exist. Return whether it was written; only one of several processes gets True."""
        with self._named():
            self._make_parent(self.path(name))
            try:
                self.file_system.pipe_file(self.path(name), content, mode="create")
            except OSError:  # each store raises another subclass if the file exists
                self.file_system.invalidate_cache()
                if not self.file_system.exists(self.path(name)):
                    raise
                return False
            return True

    def modified(self, name: str) -> datetime:
        """The modification time of a file, by the clock of the server."""
        with self._named():
            self.file_system.invalidate_cache()
            return self.file_system.modified(self.path(name))

    def upload(self, folder: Path, names: Iterable[str]) -> None:
        """Upload files of a local folder, one after the other in this order."""
        with self._named():
            for name in names:
                self._make_parent(self.path(name))
                self.file_system.put_file(str(folder / name), self.path(name))

    def download(self, names: Iterable[str], folder: Path) -> None:
        """Download files to a local folder. Each file gets its name when it is complete."""
        folder.mkdir(parents=True, exist_ok=True)
        for batch in _batches(names, AT_ONCE):
            for name in batch:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as files, self._named():
                temporary = [files.enter_context(replacement(folder / name)) for name in batch]
                self.file_system.get([self.path(name) for name in batch], [str(path) for path in temporary])

    def remove(self, names: Iterable[str]) -> None:
        """Remove files. A missing file is not an error."""
        with self._named():
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    self.file_system.rm_file(self.path(name))

    def _make_parent(self, path: str) -> None:
        if getattr(self.file_system, "local_file", False):  # object stores have no folders
            self.file_system.makedirs(path.rpartition("/")[0], exist_ok=True)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # file systems raise many unrelated types
            raise AddressError(f"{self.address}: {error or type(error).__name__}") from error


def _batches(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    return iter(lambda: list(itertools.islice(items, size)), [])
