"""Settings of a process: PyTorch is imported in two thirds of the time, worker processes import it once together, and
glibc's memory is kept or given back.

Called by `app.py`, by the `__main__` of the rooms around their imports of PyTorch, by `train/command.py`, and where
worker processes start.
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
    """Switch garbage collection off for the imports in this context, which are the first of PyTorch in this process.

    Imports create half a million permanent objects, and collecting garbage among them is slow. Later collections do not
    visit them either. If PyTorch is loaded already, nothing changes: there may be garbage to collect.
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
    """How to start worker processes: as forks of a server that imports the large packages once, or on Windows by
    `spawn`, where each worker imports them.

    The server imports and computes nothing, so that its forks are safe. Forks of this process may not be: PyTorch's
    threads do not exist in a fork.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(["torchvision", "transformers.modeling_utils", "datasets", "facenet_pytorch"])
    return context


def keep_freed_memory() -> None:
    """Let this process keep memory that tensors no longer use, for the next tensors: 5 to 9 % faster training on a CPU.

    By default glibc returns large blocks to the system, which then clears every page again for the next step. The
    memory of the process stays at its peak.
    """
    call_glibc("mallopt", -1, -1)  # M_TRIM_THRESHOLD: never
    call_glibc("mallopt", -3, 2**25)  # M_MMAP_THRESHOLD: the largest that glibc takes


def return_freed_memory() -> None:
    """Give free memory of the heap back to the system. By itself glibc keeps free memory between blocks in use."""
    call_glibc("malloc_trim", 0)


def call_glibc(name: str, *arguments: int) -> None:
    """Call a function of glibc; does nothing with another C library."""
    with contextlib.suppress(OSError, AttributeError):
        getattr(ctypes.CDLL("libc.so.6"), name)(*arguments)
