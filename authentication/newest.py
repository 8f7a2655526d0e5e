"""Records when each person's newest template was saved, to detect when a file is replaced by an older template.

The record is in the folder of the key. An attacker who can only write the folder of the templates cannot change it. It
is encrypted and authenticated with the same key, and its times only increase. `template_store` uses it.
"""

import json
import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from filelock import FileLock

from atomic import replacement

SUFFIX = ".newest"  # appended to the name of the key file


class NewestError(ValueError):
    """The file cannot be read or written, or belongs to another key; the message names the file."""


class Newest:
    """The time of the newest template of each name, in a file that several processes may use.

    Every method raises NewestError if the file cannot be used.

    Args:
        path: of the file; it is empty if it does not exist.
        fernet: made with the templates' key.
    """

    def __init__(self, path: Path, fernet: Fernet):
        self.path = path
        self._fernet = fernet

    def next_time(self, name: str, now: int) -> int:
        """The time to write into a new template, in seconds since 1970: now, but later than the recorded time.

        The clock may have been set back.
        """
        return max(now, self._read().get(name, 0) + 1)

    def record_time(self, name: str, enrolled: int) -> int:
        """Record a template of this time, if it is the newest. Returns the time of the newest template."""
        recorded = self._read().get(name, 0)
        if recorded >= enrolled:
            return recorded
        try:
            with FileLock(f"{self.path}.lock", mode=0o600):
                times = self._read()
                times[name] = max(enrolled, times.get(name, 0))
                write_private(self.path, self._fernet.encrypt(json.dumps(times).encode()))
        except OSError as error:
            raise NewestError(
                f"{self.path}: cannot be written: {error.strerror}. It is in the folder of the key"
            ) from None
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
            raise NewestError(f"{self.path}: not encrypted with the key in this folder, or changed since")
        return times


def write_private(path: Path, content: bytes) -> None:
    """Write a file atomically, readable by its owner only."""
    with replacement(path, shared=True, private=True) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
