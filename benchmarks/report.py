"""Functions that all benchmarks share: a description of the machine, medians, and tables.

Each benchmark has `run(arguments) -> dict` and `text(result) -> str`, which `__main__` calls.
"""

import os
import platform
from pathlib import Path
from statistics import median

import torch

LIVE_FRAMES = 25.0  # target: frames/s of one stream, and of one client of the demo


def machine(device: str) -> dict:
    """Device, processor, cores, threads and torch version, on which the numbers depend."""
    return {
        "device": device,
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "torch": torch.__version__,
    }


def machine_text(facts: dict) -> str:
    threads = f"{facts['threads']} thread{'s' * (facts['threads'] != 1)} on {facts['cores']} cores"
    return ", ".join(filter(None, [facts["gpu"], facts["cpu"], threads, f"torch {facts['torch']}"]))


def table(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table with aligned columns: the first to the left, the others to the right."""
    width = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    lines = [
        "  ".join(f"{cell:{'<>'[number > 0]}{width[number]}}" for number, cell in enumerate(row))
        for row in (headers, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def medians(measure: dict, repeats: int) -> dict:
    """Call the functions alternately, `repeats` times, so that other load on the machine affects all of them equally.

    Returns:
        name -> median of the values that its function returned.
    """
    values = {name: [] for name in measure}
    for _ in range(repeats):
        for name, function in measure.items():
            values[name].append(function())
    return {name: median(function_values) for name, function_values in values.items()}


def target_text(title: str, value: float, target: float, at_least: bool) -> str:
    reached = value >= target if at_least else value <= target
    bound = "at least" if at_least else "at most"
    return f"{title}: {value:.2f}, target {bound} {target:g}: {'reached' if reached else 'NOT REACHED'}"


def synchronize(device: str) -> None:
    """Wait for the GPU, because calls return when their work is queued, not when it is done."""
    if device == "cuda":
        torch.cuda.synchronize()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not on Linux, or the processor has no name there
        return platform.processor() or platform.machine()
