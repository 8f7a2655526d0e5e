"""Support for ZeroGPU, the hardware of free Gradio Spaces, which lends a GPU to a decorated function during a call.

The app does not use the GPU: a frame takes tens of milliseconds on the CPU, less than borrowing a GPU takes. But a
Space on ZeroGPU without a decorated function is stopped, and the package `spaces` waits for Gradio's `launch`, which
`app.py` does not call. On other hardware the package is missing or does nothing. `app.py` calls `report_start`.
"""

import torch

try:
    import spaces
except ImportError:
    spaces = None


def lent_gpu() -> str:
    """The name of the lent GPU. Nothing calls this function, but a Space must have a decorated function."""
    return torch.cuda.get_device_name()


if spaces is not None:
    lent_gpu = spaces.GPU(duration=5)(lent_gpu)


def report_start() -> None:
    """Report to ZeroGPU that the app has started; does nothing elsewhere."""
    startup = getattr(spaces.zero, "startup", None) if spaces is not None else None
    if startup is not None:
        startup()
