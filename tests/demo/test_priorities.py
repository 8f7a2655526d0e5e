"""Frames of live attempts go before other work."""

import threading

from demo import priorities
from demo.priorities import LiveFrames


def test_other_work_waits_for_a_moment_without_live_frames(monkeypatch):
    monkeypatch.setattr(priorities, "STEP_ASIDE_SECONDS", 60)
    frames = LiveFrames()
    other = threading.Thread(target=frames.let_pass)
    with frames.judging():
        with frames.judging():
            other.start()
            other.join(0.05)
        other.join(0.05)
        assert other.is_alive(), "one of two frames is still being judged"
    other.join(30)
    assert not other.is_alive()


def test_other_work_waits_no_longer_than_it_must(monkeypatch):
    """Live frames without an end hold nothing up, and none at all holds nothing up either."""
    frames = LiveFrames()
    with frames.judging():
        frames.let_pass()
    monkeypatch.setattr(priorities, "STEP_ASIDE_SECONDS", 60)
    other = threading.Thread(target=frames.let_pass)
    other.start()
    other.join(30)
    assert not other.is_alive()
