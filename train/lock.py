"""The lock of the folder or address of a run: OUT/run.lock names the process that writes there.

This process touches the file regularly. Called by `loop`, which holds the lock during the whole run. Next to read:
addresses.py.
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
TOUCH_INTERVAL = 10.0  # seconds between two touches of the file
SILENCE = 120.0  # seconds without a touch after which a lock of another machine is considered abandoned
TAKEOVER_SECONDS = 0.5  # after a takeover, in which other processes may take the lock over too; the last one holds it


class FolderInUseError(RuntimeError):
    """Another process writes to the folder. The message names it, and the file to remove if it no longer runs."""


class RunLock:
    """A context manager that holds the lock.

    An abandoned lock is taken over, so that nothing has to be removed after a killed run. On Linux a lock of this
    machine is abandoned if its process no longer runs. Any other lock is abandoned if it was not touched for two
    minutes, by the clock of the disk.

    Raises:
        FolderInUseError: on entering, if another process holds the lock.
    """

    def __init__(self, folder: str | Path):
        """folder: a folder or an address."""
        self._files = _RemoteFiles(folder) if is_address(folder) else _LocalFiles(Path(folder))
        self.file = join(folder, FILE)
        self._folder = folder
        self._this_process = {"machine": this_machine(), "process": os.getpid(), "started": _start_of(os.getpid())}
        self._released = threading.Event()

    def __enter__(self) -> "RunLock":
        text = json.dumps(self._this_process) + "\n"
        if not self._files.create(text):
            self._refuse_unless_abandoned()
            self._files.replace(text)
            time.sleep(TAKEOVER_SECONDS)
        if self._holder() != self._this_process:
            raise self._in_use(self._holder())
        self._toucher = threading.Thread(target=self._touch, name="run lock", daemon=True)
        self._toucher.start()
        return self

    def __exit__(self, *error) -> None:
        self._released.set()
        self._toucher.join()
        if self._holder() == self._this_process:
            self._files.remove()

    def _holder(self) -> dict:
        """The content of the file; empty if it is missing or damaged."""
        try:
            return json.loads(self._files.read())
        except (FileNotFoundError, ValueError):
            return {}

    def _refuse_unless_abandoned(self) -> None:
        holder = self._holder()
        if holder.get("machine") == self._this_process["machine"] and self._this_process["started"] is not None:
            running = _start_of(holder.get("process")) == holder.get("started")
        else:
            running = False
            with contextlib.suppress(FileNotFoundError):
                running = self._files.seconds_since_touched() < SILENCE
        if running:
            raise self._in_use(holder)

    def _in_use(self, holder: dict) -> FolderInUseError:
        process = f"process {holder.get('process', '?')} on {holder.get('machine', '?')}"
        return FolderInUseError(
            f"{self._folder} is in use by {process}: give another --out, or remove {self.file} if it no longer runs"
        )

    def _touch(self) -> None:
        while not self._released.wait(TOUCH_INTERVAL):
            with contextlib.suppress(OSError):  # the disk is unavailable, or the run ends and has removed the file
                self._files.touch()


class _LocalFiles:
    """The file of a lock in a folder."""

    def __init__(self, folder: Path):
        self.file = folder / FILE

    def create(self, text: str) -> bool:
        """Create the file with this content, unless it exists; whether it was certainly created by this call."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        return atomic.create(self.file, text.encode())

    def replace(self, text: str) -> None:
        atomic.write(self.file, text.encode(), shared=True)

    def read(self) -> str:
        return self.file.read_text(encoding="utf-8")

    def touch(self) -> None:
        os.utime(self.file)

    def seconds_since_touched(self) -> float:
        """Seconds since the file was touched, by the clock of its disk."""
        temporary = self.file.with_name(f"{FILE}.{this_machine()}.{os.getpid()}.tmp")
        temporary.touch()
        now = temporary.stat().st_mtime
        temporary.unlink()
        return now - self.file.stat().st_mtime

    def remove(self) -> None:
        self.file.unlink(missing_ok=True)


class _RemoteFiles:
    """The file of a lock at an address."""

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
        # objects cannot be touched, only written again: but not over the lock of another run
        if self.read() == self._text:
            self.replace(self._text)

    def seconds_since_touched(self) -> float:
        temporary = f"{FILE}.{this_machine()}.{os.getpid()}.tmp"
        self.remote.write(temporary, b"now")
        now = self.remote.modified(temporary)
        self.remote.remove([temporary])
        return (now - self.remote.modified(FILE)).total_seconds()

    def remove(self) -> None:
        self.remote.remove([FILE])


def _start_of(process: int | None) -> str | None:
    """When a process of this machine started, in ticks since the machine booted.

    Process numbers are used again. Number and start together identify a process.

    Returns:
        None if there is no process of this number, or if the system does not report it.
    """
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]  # Z: a killed process, for which its parent has not waited yet
    except OSError:
        return None
