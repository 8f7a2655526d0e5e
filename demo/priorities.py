"""Priorities in the server's process: frames of live attempts are judged before other work.

`app.py` sets up the process, `live` marks when a frame is being judged, and `bounded` lets other work wait.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

from startup import call_glibc

SWITCH_SECONDS = 0.0005  # for which a thread keeps the interpreter lock while others wait; Python's default is 0.005
STEP_ASIDE_SECONDS = 0.02  # longest wait of other work for live frames, before each photograph or decoded frame
LONGEST_PAUSE_SECONDS = 1.0  # of other work, while attempts are live
PRESENT_SECONDS = 1.0  # after a live frame, more frames are expected for this time


def set_up_process() -> None:
    """Call this before NumPy and PyTorch are imported, because they read the number of threads then.

    To judge a frame, a thread acquires Python's interpreter lock a dozen times, and waits each time for the thread that
    has it. So threads are made to switch often. Several frames are judged at the same time, so each network and each
    matrix product of NumPy uses one thread: more threads would compete for the cores, and NumPy's threads wait for one
    another in a busy loop.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Per-thread memory arenas of glibc fragment and memory grows, so allow only two.
    call_glibc("mallopt", -8, 2)  # M_ARENA_MAX


class LiveFrames:
    """Counts the frames of live attempts that are being judged. Threads may share it."""

    def __init__(self):
        self._being_judged, self._end_of_newest = 0, -PRESENT_SECONDS
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def judging(self) -> Iterator[None]:
        """A context during which one frame is judged."""
        with self._changed:
            self._being_judged += 1
        try:
            yield
        finally:
            with self._changed:
                self._being_judged, self._end_of_newest = self._being_judged - 1, time.monotonic()
                self._changed.notify_all()

    def let_pass(self, seconds_of_work: float = 0.0) -> None:
        """Wait until no frame is being judged, at most STEP_ASIDE_SECONDS, and pause while attempts are live.

        Args:
            seconds_of_work: since the last call. While attempts are live, other work pauses for twice this time.
        """
        if time.monotonic() - self._end_of_newest < PRESENT_SECONDS:
            time.sleep(min(2 * seconds_of_work, LONGEST_PAUSE_SECONDS))
        with self._changed:
            self._changed.wait_for(lambda: not self._being_judged, STEP_ASIDE_SECONDS)
