"""The lock of a run's folder or address: OUT/run.lock names the process that writes there, which touches it regularly.

Taken by `loop` for the whole run.
"""

import contextlib
import json
import os
import threading
import time
from pathlib import Path

import atomic
from addresses import Remote, is_address, join
from machines import this_machine

FILE = "run.lock"
BEAT = 10.0  # seconds between two touches of the file
SILENCE = 120.0  # seconds without one after which a lock of another machine counts as left behind
SETTLED = 0.5  # seconds after a takeover in which another process may take it over too; the last one has it


class FolderInUseError(RuntimeError):
    """Another process writes to the folder; the message names it and the file to remove where it does not."""


class RunLock:
    """Held while its `with` lasts.

    A lock that was left behind is taken over. On Linux that is a lock of a process of this machine that no longer runs.
    Otherwise it is a lock that was not touched for two minutes, by the clock of the disk. So nobody has to clean up
    after a killed run.
    """

    def __init__(self, folder: str | Path):
        """folder: or an address."""
        self._files = _RemoteFiles(folder) if is_address(folder) else _LocalFiles(Path(folder))
        self.file = join(folder, FILE)
        self._folder = folder
        self._own = {"machine": this_machine(), "process": os.getpid(), "started": _start_of(os.getpid())}
        self._released = threading.Event()

    def __enter__(self) -> "RunLock":
        text = json.dumps(self._own) + "\n"
        if not self._files.create(text):
            self._refuse_unless_left_behind()
            self._files.replace(text)
            time.sleep(SETTLED)
        if self._holder() != self._own:
            raise self._in_use(self._holder())
        self._toucher = threading.Thread(target=self._touch, name="run lock", daemon=True)
        self._toucher.start()
        return self

    def __exit__(self, *error) -> None:
        self._released.set()
        self._toucher.join()
        if self._holder() == self._own:
            self._files.remove()

    def _holder(self) -> dict:
        """Empty where the file is gone or damaged."""
        try:
            return json.loads(self._files.read())
        except (FileNotFoundError, ValueError):
            return {}

    def _refuse_unless_left_behind(self) -> None:
        holder = self._holder()
        if holder.get("machine") == self._own["machine"] and self._own["started"] is not None:
            running = _start_of(holder.get("process")) == holder.get("started")
        else:
            running = False
            with contextlib.suppress(FileNotFoundError):
                running = self._files.silence() < SILENCE
        if running:
            raise self._in_use(holder)

    def _in_use(self, holder: dict) -> FolderInUseError:
        whom = f"process {holder.get('process', '?')} on {holder.get('machine', '?')}"
        return FolderInUseError(
            f"{self._folder} is in use by {whom}: give another --out, or remove {self.file} if it no longer runs"
        )

    def _touch(self) -> None:
        while not self._released.wait(BEAT):
            with contextlib.suppress(OSError):  # the disk is away for a moment; or the lock, and the run is ending
                self._files.touch()


class _LocalFiles:
    """The lock's file in a folder."""

    def __init__(self, folder: Path):
        self.file = folder / FILE

    def create(self, text: str) -> bool:
        """As a whole, and only where there is none; False where there is one, or may be."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        return atomic.create(self.file, text.encode())

    def replace(self, text: str) -> None:
        atomic.write(self.file, text.encode(), shared=True)

    def read(self) -> str:
        return self.file.read_text(encoding="utf-8")

    def touch(self) -> None:
        os.utime(self.file)

    def silence(self) -> float:
        """Seconds since it was touched, by the clock that dates it."""
        own = self.file.with_name(f"{FILE}.{this_machine()}.{os.getpid()}.tmp")
        own.touch()
        now = own.stat().st_mtime
        own.unlink()
        return now - self.file.stat().st_mtime

    def remove(self) -> None:
        self.file.unlink(missing_ok=True)


class _RemoteFiles:
    """The same at an address."""

    def __init__(self, address: str | Path):
        self.remote = Remote(address)
        self._text = ""

    def create(self, text: str) -> bool:
        self._text = text
        return self.remote.create(FILE, text.encode())

    def replace(self, text: str) -> None:
        self._text = text
        self.remote.write(FILE, text.encode())

    def read(self) -> str:
        content = self.remote.read(FILE)
        if content is None:
            raise FileNotFoundError(FILE)
        return content.decode()

    def touch(self) -> None:
        if self.read() == self._text:  # written anew, for there is no other way: not over that of another run
            self.replace(self._text)

    def silence(self) -> float:
        own = f"{FILE}.{this_machine()}.{os.getpid()}.tmp"
        self.remote.write(own, b"now")
        now = self.remote.modified(own)
        self.remote.remove([own])
        return (now - self.remote.modified(FILE)).total_seconds()

    def remove(self) -> None:
        self.remote.remove([FILE])


def _start_of(process: int | None) -> str | None:
    """When a process of this machine began, in ticks since it booted; None where there is none of that number, or where
    the system does not tell.

    A number is used again after a while: with the time it is this very process.
    """
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]  # a killed one that nobody has waited for runs no more
    except OSError:
        return None
