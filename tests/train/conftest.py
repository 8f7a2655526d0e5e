"""Fixtures of the training's tests."""

import pytest


@pytest.fixture(autouse=True)
def quick_end(monkeypatch):
    """`datasets` sleeps five seconds at the end of every pass, for threads of Arrow that outlive the interpreter."""
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.01)
