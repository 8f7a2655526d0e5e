"""Fixtures of the training's tests."""

import pytest
from accelerate.state import AcceleratorState


@pytest.fixture(autouse=True)
def quick_end(monkeypatch):
    """`datasets` sleeps five seconds at the end of every pass, for threads of Arrow that outlive the interpreter."""
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.01)


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """Accelerate keeps one state per process; each run here is to be like one of its own."""
    AcceleratorState._reset_state(reset_partial_state=True)
