"""Fixtures for the tests of the training."""

import pytest


@pytest.fixture(autouse=True)
def no_shutdown_sleep(monkeypatch):
    """`datasets` sleeps five seconds after every pass, because threads of Arrow can outlive the interpreter."""
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.01)
