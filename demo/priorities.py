"""What goes first in the server's process: frames of live attempts, whose visitors wait before the camera.

`app.py` sets the process up, `live.py` says when a frame is judged, `bounded.py` lets it go first.
"""

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator

SWITCH_SECONDS = 0.0005  # that a thread may keep the interpreter lock while another waits; Python's default is 0.005
STEP_ASIDE_SECONDS = 0.02  # the longest wait of other work for live frames, before each photograph or decoded frame
LONGEST_PAUSE_SECONDS = 1.0  # of other work that goes on and on
PRESENT_SECONDS = 1.0  # after a live frame, in which more are expected


def set_up_process() -> None:
    """Call before NumPy and PyTorch are imported: they read the number of threads then.

    Judging a frame acquires Python's interpreter lock a dozen times, and each time it waits for the thread that has it:
    so threads switch often. Several frames are judged at the same time, so each network, and each of NumPy's matrix
    products, computes in one thread: more threads would compete for the cores, and NumPy's wait for one another in a
    loop that takes a core of its own.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with contextlib.suppress(OSError, AttributeError):  # another C library
        # glibc gives each thread a memory arena of its own: they fragment and memory grows, so two are allowed
        ctypes.CDLL("libc.so.6").mallopt(-8, 2)  # M_ARENA_MAX


class LiveFrames:
    """The frames of live attempts that are being judged. Safe to share between threads."""

    def __init__(self):
        self._judged, self._newest = 0, -PRESENT_SECONDS
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def judging(self) -> Iterator[None]:
        """While one frame is judged."""
        with self._changed:
            self._judged += 1
        try:
            yield
        finally:
            with self._changed:
                self._judged, self._newest = self._judged - 1, time.monotonic()
                self._changed.notify_all()

    def let_pass(self, worked: float = 0.0) -> None:
        """Wait until none is being judged, STEP_ASIDE_SECONDS at most, and pause before the next ones come.

        Args:
            worked: seconds of work since the last call: while attempts go on, other work pauses for twice as long.
        """
        if time.monotonic() - self._newest < PRESENT_SECONDS:
            time.sleep(min(2 * worked, LONGEST_PAUSE_SECONDS))
        with self._changed:
            self._changed.wait_for(lambda: not self._judged, STEP_ASIDE_SECONDS)
