"""ZeroGPU, the hardware of free Gradio Spaces: a GPU is lent to a decorated function for the time of a call.

The app needs none: a frame takes tens of milliseconds on the CPU, less than to be lent a GPU. But a Space there that
decorates no function is ended, and its package waits for Gradio's `launch`, which `app.py` does not call. Elsewhere
the package `spaces` is missing, or does nothing.
"""

import torch

try:
    import spaces
except ImportError:
    spaces = None


def lent_gpu() -> str:
    """The name of the GPU that is lent for this call."""
    return torch.cuda.get_device_name()


if spaces is not None:
    lent_gpu = spaces.GPU(duration=5)(lent_gpu)


def report_start() -> None:
    """Say that the app has started, where it runs on ZeroGPU."""
    startup = getattr(spaces.zero, "startup", None) if spaces is not None else None
    if startup is not None:
        startup()
