"""Settings of a process for faster imports of PyTorch, for the start of worker processes, and for glibc's memory.

`app.py`, `train/command.py` and the `__main__` of the packages call it before they import PyTorch. The code that starts
worker processes calls it too.
"""

import contextlib
import ctypes
import gc
import multiprocessing
import sys
from collections.abc import Iterator
from multiprocessing.context import BaseContext


@contextlib.contextmanager
def large_imports() -> Iterator[None]:
    """Disable garbage collection during the first imports of PyTorch, which then take two thirds of the time.

    Imports create half a million permanent objects, and a garbage collection has to visit all of them. They are frozen
    at the end, so later collections do not visit them. If PyTorch is already imported, this context changes nothing,
    because some of the existing objects may be garbage.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def worker_context() -> BaseContext:
    """The context that starts worker processes as forks of a server, which imports the large packages only once.

    Windows has no forks: there the context is `spawn`, and each worker imports the packages.

    The server only imports packages and computes nothing, so its forks are safe. Forks of this process may not be safe,
    because the threads of PyTorch do not exist in a fork.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(["torchvision", "transformers.modeling_utils", "datasets", "facenet_pytorch"])
    return context


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors for new tensors. Training on a CPU is then 5 to 9 % faster.

    By default glibc returns large blocks to the system, and the system clears every page again for the next step. The
    disadvantage: the memory of the process stays at its maximum.
    """
    call_glibc("mallopt", -1, -1)  # M_TRIM_THRESHOLD: never
    call_glibc("mallopt", -3, 2**25)  # M_MMAP_THRESHOLD: the largest value that glibc accepts


def return_freed_memory() -> None:
    """Return free memory of the heap to the system. By default glibc keeps free memory between used blocks."""
    call_glibc("malloc_trim", 0)


def call_glibc(name: str, *arguments: int) -> None:
    """Call a function of glibc. With another C library, this does nothing."""
    with contextlib.suppress(OSError, AttributeError):
        getattr(ctypes.CDLL("libc.so.6"), name)(*arguments)
