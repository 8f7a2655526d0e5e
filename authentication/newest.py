"""Remembers when each person's newest template was saved, so that an older one that was put back is detected.

The file lies beside the key, not beside the templates: whoever may write these alone cannot change it. It is encrypted
and authenticated with the same key, and is only ever raised.
"""

import json
import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from filelock import FileLock

from atomic import replacement

SUFFIX = ".newest"  # after the name of the key's file


class NewestError(ValueError):
    """The file cannot be read or written, or is not of this key; the message names it."""


class Newest:
    """The newest template of each name, in a file that several processes may use.

    Args:
        path: need not exist: then nothing is known yet.
        fernet: of the templates' key.
    """

    def __init__(self, path: Path, fernet: Fernet):
        self.path = path
        self._fernet = fernet

    def next(self, name: str, now: int) -> int:
        """The seconds since 1970 to save a template under: now, or later than all that were, for clocks are set back.

        Raises:
            NewestError: as do all of these.
        """
        return max(now, self._read().get(name, 0) + 1)

    def raise_to(self, name: str, enrolled: int) -> int:
        """Note that there is a template of this time. Returns the newest, which is that or a later one."""
        known = self._read().get(name, 0)
        if known >= enrolled:
            return known
        try:
            with FileLock(f"{self.path}.lock", mode=0o600):
                times = self._read()
                times[name] = max(enrolled, times.get(name, 0))
                write_private(self.path, self._fernet.encrypt(json.dumps(times).encode()))
        except OSError as error:
            raise NewestError(f"{self.path}: cannot be written: {error.strerror}. It lies beside the key") from None
        return times[name]

    def _read(self) -> dict[str, int]:
        try:
            token = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise NewestError(f"{self.path}: cannot be read: {error.strerror}") from None
        try:
            times = json.loads(self._fernet.decrypt(token))
        except (InvalidToken, ValueError, RecursionError):
            times = None
        if not isinstance(times, dict) or any(type(time) is not int for time in times.values()):
            raise NewestError(f"{self.path}: not encrypted with the key beside it, or changed since")
        return times


def write_private(path: Path, content: bytes) -> None:
    """Write a file that its owner alone may read, as a whole or not at all."""
    with replacement(path, shared=True, private=True) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
