"""Lets a command import PyTorch and what depends on it in two thirds of the time.

Called by `app.py` and by the `__main__` of the rooms, around their imports of PyTorch.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator


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
