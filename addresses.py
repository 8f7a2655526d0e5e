"""Folders at an address such as `s3://bucket/corpora/lfw`: the only place that knows what an address is.

    is_address(name)                # anything with ://; a mount is a folder like any other
    local_copy(name)                # a folder of this machine with the same files, downloaded once; a folder itself
    working_folder(name)            # where this machine keeps the files that it writes for an address
    Remote(name)                    # the files at an address: list, read, write, upload, download, remove

Whatever fsspec has a file system for will do. Credentials and endpoints are those of its library: AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, HF_TOKEN, ... fsspec is imported when there is an address.
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

AT_ONCE = 16  # files that are downloaded together


class AddressError(OSError):
    """An address cannot be reached, read or written; the message names it."""


def cache_folder() -> Path:
    """$FACELIVENET_CACHE, or facelivenet in the user's cache folder: everything in it can be had again."""
    folder = os.environ.get("FACELIVENET_CACHE")
    return Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "facelivenet"


def is_address(name: str | Path) -> bool:
    return "://" in str(name)


def join(folder: str | Path, name: str) -> str:
    """A name in a folder, or at an address."""
    return f"{str(folder).rstrip('/')}/{name}" if is_address(folder) else str(Path(folder) / name)


def write_text(folder: str | Path, name: str, text: str) -> None:
    """A file in a folder, or at an address."""
    if is_address(folder):
        Remote(folder).write(name, text.encode())
    else:
        write(Path(folder) / name, text.encode())


def working_folder(name: str | Path) -> Path:
    """The folder itself; of an address, a folder in the cache that belongs to it."""
    if not is_address(name):
        return Path(name)
    address = str(name).rstrip("/")
    return cache_folder() / "runs" / _digest(address) / address.rpartition("/")[2]


def local_copy(name: str | Path, check: Callable[[Path], None] | None = None) -> Path:
    """The folder itself; of an address, a copy in the cache folder, which is downloaded when what lies there is new.

    Processes of one machine download it once. A copy gets its name when all its files are there.

    Args:
        check: is given a copy that was just downloaded, before anybody else can use it, and raises if it is damaged.

    Raises:
        AddressError: there is nothing, or it cannot be read.
    """
    return _copy(str(name).rstrip("/"), check) if is_address(name) else Path(name)


@functools.cache  # a process reads what it found first
def _copy(address: str, check: Callable[[Path], None] | None) -> Path:
    from filelock import FileLock  # with fsspec the only one of these imports that takes time

    remote = Remote(address)
    files = remote.files()
    if not files:
        raise AddressError(f"{address}: there is nothing")
    base = cache_folder() / "copies" / _digest(address, json.dumps(sorted(files.items())))
    copy = base / address.rpartition("/")[2]
    base.mkdir(parents=True, exist_ok=True)
    with FileLock(base / "lock"):
        if not copy.exists():
            print(f"downloading {address} ({len(files):,} files)", file=sys.stderr)
            temporary = base / "part"  # goes on where an earlier download stopped
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
    """A folder at an address; files are named relative to it. Every error is an AddressError.

    Object stores show a file when it is whole; what belongs together has to be uploaded in the right order.
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
        """Of a file in the file system."""
        return f"{self.folder}/{name}"

    def files(self) -> dict[str, str]:
        """Name of each file -> a text that is another one when the file is. Empty where there is nothing."""
        with self._named():
            self.file_system.invalidate_cache()
            try:
                found = self.file_system.find(self.folder, detail=True)
            except FileNotFoundError:
                return {}
        start = len(self.folder) + 1
        return {path[start:]: json.dumps(found[path], sort_keys=True, default=str) for path in sorted(found)}

    def read(self, name: str) -> bytes | None:
        """None where there is no such file."""
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
        """Write a file where there is none; False where there is one. Of several processes one has True."""
        with self._named():
            self._make_parent(self.path(name))
            try:
                self.file_system.pipe_file(self.path(name), content, mode="create")
            except OSError:  # of a kind that differs among stores
                self.file_system.invalidate_cache()
                if not self.file_system.exists(self.path(name)):
                    raise
                return False
            return True

    def modified(self, name: str) -> datetime:
        """By the clock of whoever keeps the files."""
        with self._named():
            self.file_system.invalidate_cache()
            return self.file_system.modified(self.path(name))

    def upload(self, folder: Path, names: Iterable[str]) -> None:
        """Files of a local folder, one after the other in this order."""
        with self._named():
            for name in names:
                self._make_parent(self.path(name))
                self.file_system.put_file(str(folder / name), self.path(name))

    def download(self, names: Iterable[str], folder: Path) -> None:
        """Into a local folder; each file gets its name when it is whole."""
        folder.mkdir(parents=True, exist_ok=True)
        for some in _batches(names, AT_ONCE):
            for name in some:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as files, self._named():
                temporary = [files.enter_context(replacement(folder / name)) for name in some]
                self.file_system.get([self.path(name) for name in some], [str(path) for path in temporary])

    def remove(self, names: Iterable[str]) -> None:
        """Files that are gone already are no error."""
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
        except Exception as error:  # each file system has kinds of its own, many of them no OSError
            raise AddressError(f"{self.address}: {error or type(error).__name__}") from error


def _batches(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    return iter(lambda: list(itertools.islice(items, size)), [])
