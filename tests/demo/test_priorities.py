"""Frames of live attempts have priority over other work."""

import os
import socket
import subprocess
import sys
import threading
import time

import app
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
        assert other.is_alive(), "one of two frames is still being evaluated"
    other.join(30)
    assert not other.is_alive()


def test_other_work_waits_for_a_limited_time(monkeypatch):
    """Continuous live frames delay other work for a limited time. Without live frames there is no delay."""
    frames = LiveFrames()
    with frames.judging():
        frames.let_pass()
    monkeypatch.setattr(priorities, "STEP_ASIDE_SECONDS", 60)
    other = threading.Thread(target=frames.let_pass)
    other.start()
    other.join(30)
    assert not other.is_alive()


def test_other_work_pauses_after_a_live_frame(monkeypatch):
    monkeypatch.setattr(priorities, "PRESENT_SECONDS", 1e9)
    frames = LiveFrames()
    monkeypatch.setattr(priorities, "PRESENT_SECONDS", 60)
    began = time.monotonic()
    frames.let_pass(seconds_of_work=1e9)  # there was no live frame for a long time
    with frames.judging():
        pass
    frames.let_pass(seconds_of_work=0.1)
    assert time.monotonic() - began >= 0.2


def test_every_library_of_the_server_computes_in_one_thread(repository):
    """A second thread of NumPy would use a complete core while it waits for work."""
    code = (
        "import app; app.priorities.set_up_process(); "
        "import numpy, threadpoolctl, torch; "
        "print(torch.get_num_threads(), *(pool['num_threads'] for pool in threadpoolctl.threadpool_info()))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, env=environment, capture_output=True, text=True, timeout=240
    )
    threads = done.stdout.split()
    assert len(threads) > 1 and set(threads) == {"1"}, done.stdout + done.stderr


def test_the_second_part_of_an_answer_does_not_wait_for_the_first():
    """Otherwise every answer would wait up to 40 ms for the client's acknowledgement of the head."""
    with app.listen("127.0.0.1", "0") as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
