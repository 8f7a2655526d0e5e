"""ZeroGPU, the hardware of free Gradio Spaces: a GPU is lent to a decorated function for the time of a call.

The app does not use it: a frame takes tens of milliseconds on the CPU, less than lending a GPU takes. But a Space on
ZeroGPU that decorates no function is stopped, and the package `spaces` waits for Gradio's `launch`, which `app.py` does
not call. Elsewhere the package is missing, or does nothing. Called by `app.py`.
"""

import torch

try:
    import spaces
except ImportError:
    spaces = None


def lent_gpu() -> str:
    """The name of the GPU that is lent for this call; nothing calls it, but a Space must decorate a function."""
    return torch.cuda.get_device_name()


if spaces is not None:
    lent_gpu = spaces.GPU(duration=5)(lent_gpu)


def report_start() -> None:
    """Report to ZeroGPU that the app has started; does nothing elsewhere."""
    startup = getattr(spaces.zero, "startup", None) if spaces is not None else None
    if startup is not None:
        startup()
