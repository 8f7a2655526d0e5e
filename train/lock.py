"""The lock of a run's folder: OUT/run.lock names the process that writes there, which touches it regularly.

Taken by `loop` for the whole run.
"""

import contextlib
import json
import os
import threading
import time
from pathlib import Path

from machines import this_machine

FILE = "run.lock"
BEAT = 10.0  # seconds between two touches of the file
SILENCE = 120.0  # seconds without one after which a lock of another machine counts as left behind
SETTLED = 0.5  # seconds after a takeover in which another process may take it over too; the last one has it


class FolderInUseError(RuntimeError):
    """Another process writes to the folder; the message names it and the file to remove where it does not."""


class RunLock:
    """Held while its `with` lasts.

    A lock that was left behind is taken over: of a process of this machine that no longer runs, and of another machine
    where it was not touched for two minutes, by the clock of the disk. A killed run therefore needs no cleaning up.
    """

    def __init__(self, folder: Path):
        self.file = folder / FILE
        self._own = {"machine": this_machine(), "process": os.getpid(), "started": _start_of(os.getpid())}
        self._released = threading.Event()

    def __enter__(self) -> "RunLock":
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._own) + "\n"
        temporary = self.file.with_name(f"{FILE}.{self._own['machine']}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        try:
            try:
                os.link(temporary, self.file)  # as a whole, and only where there is none
            except FileExistsError:
                self._refuse_unless_left_behind(temporary)
                os.replace(temporary, self.file)
                time.sleep(SETTLED)
            except OSError:  # a file system without links
                if self.file.exists():
                    self._refuse_unless_left_behind(temporary)
                os.replace(temporary, self.file)
                time.sleep(SETTLED)
        finally:
            temporary.unlink(missing_ok=True)
        if self._holder() != self._own:
            raise self._in_use(self._holder())
        threading.Thread(target=self._touch, name="run lock", daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._released.set()
        if self._holder() == self._own:
            self.file.unlink(missing_ok=True)

    def _holder(self) -> dict:
        """Empty where the file is gone or damaged."""
        try:
            return json.loads(self.file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}

    def _refuse_unless_left_behind(self, temporary: Path) -> None:
        holder = self._holder()
        if holder.get("machine") == self._own["machine"]:
            running = _start_of(holder.get("process")) == holder.get("started")
        else:
            now = temporary.stat().st_mtime  # just written: by the clock that dates the lock
            running = False
            with contextlib.suppress(FileNotFoundError):
                running = now - self.file.stat().st_mtime < SILENCE
        if running:
            raise self._in_use(holder)

    def _in_use(self, holder: dict) -> FolderInUseError:
        whom = f"process {holder.get('process', '?')} on {holder.get('machine', '?')}"
        return FolderInUseError(
            f"{self.file.parent} is in use by {whom}: give another --out, or remove {self.file} if it no longer runs"
        )

    def _touch(self) -> None:
        while not self._released.wait(BEAT):
            with contextlib.suppress(OSError):  # the disk is away for a moment; or the lock, and the run is ending
                os.utime(self.file)


def _start_of(process: int | None) -> str | None:
    """When a process of this machine began, in ticks since it booted; None where there is none of that number.

    A number is used again after a while: with the time it is this very process.
    """
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]  # a killed one that nobody has waited for runs no more
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return None
    try:  # without /proc: as long as there is one of that number
        os.kill(int(process), 0)
    except (OSError, TypeError, ValueError):
        return None
    return "running"
