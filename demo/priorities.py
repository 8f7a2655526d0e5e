"""What goes first in the server's process: frames of live attempts, whose visitors wait before the camera.

`app.py` sets the process up, `live.py` says when a frame is judged, `bounded.py` lets it go first.
"""

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator

SWITCH_SECONDS = 0.0005  # for which one thread may keep the interpreter while another waits; Python's own are 0.005
STEP_ASIDE_SECONDS = 0.02  # that other work waits for live frames at most, between two pieces of it


def set_up_process() -> None:
    """Call before PyTorch is imported.

    A frame takes the interpreter a dozen times, and each time waits for a thread that is busy with requests. Several
    frames are judged at the same time, so that each has one thread of the networks': more would wait for one another.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with contextlib.suppress(OSError, AttributeError):  # another C library
        # glibc gives each thread a memory arena of its own: they fragment and memory grows, so two are allowed
        ctypes.CDLL("libc.so.6").mallopt(-8, 2)  # M_ARENA_MAX


class LiveFrames:
    """The frames of live attempts that are being judged. Safe to share between threads."""

    def __init__(self):
        self._judged = 0
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
                self._judged -= 1
                self._changed.notify_all()

    def let_pass(self) -> None:
        """Wait for a moment without any, STEP_ASIDE_SECONDS at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._judged, STEP_ASIDE_SECONDS)
