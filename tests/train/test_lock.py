"""A folder has one run at a time, and a killed one locks nobody out."""

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from machines import this_machine
from train.lock import FILE, SILENCE, FolderInUseError, RunLock


def holder(folder: Path, repository: Path) -> subprocess.Popen:
    """A process that holds the folder until it is killed."""
    script = textwrap.dedent(f"""
        import pathlib, time
        from train.lock import RunLock
        with RunLock(pathlib.Path({str(folder)!r})):
            print("held", flush=True)
            time.sleep(600)
    """)
    process = subprocess.Popen([sys.executable, "-c", script], cwd=repository, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_is_held_by_one_process_until_it_ends(tmp_path, repository):
    process = holder(tmp_path, repository)
    with pytest.raises(FolderInUseError) as refused, RunLock(tmp_path):
        pass
    assert f"in use by process {process.pid} on {this_machine()}" in str(refused.value)
    assert str(tmp_path / FILE) in str(refused.value)
    assert json.loads((tmp_path / FILE).read_text())["process"] == process.pid  # the refused one left it
    process.kill()
    process.wait()
    with RunLock(tmp_path):
        assert json.loads((tmp_path / FILE).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("age, left_behind", [(SILENCE / 2, False), (SILENCE * 2, True)])
def test_where_the_system_tells_nothing_of_processes_a_lock_counts_while_it_is_touched(
    tmp_path, monkeypatch, age, left_behind
):
    """Windows and macOS: there `os.kill(process, 0)` would be Ctrl-C, or another process of that number."""
    monkeypatch.setattr("train.lock._start_of", lambda process: None)
    (tmp_path / FILE).write_text(json.dumps({"machine": this_machine(), "process": 1, "started": None}))
    touched = time.time() - age
    os.utime(tmp_path / FILE, (touched, touched))
    if left_behind:
        with RunLock(tmp_path):
            return
    with pytest.raises(FolderInUseError, match="in use by process 1 on"), RunLock(tmp_path):
        pass


@pytest.mark.parametrize("age, left_behind", [(SILENCE / 2, False), (SILENCE * 2, True)])
def test_a_lock_of_another_machine_counts_while_it_is_touched(tmp_path, age, left_behind):
    lock = tmp_path / FILE
    lock.write_text(json.dumps({"machine": "elsewhere", "process": os.getpid(), "started": "1"}))
    touched = lock.stat().st_mtime - age
    os.utime(lock, (touched, touched))
    if left_behind:
        with RunLock(tmp_path):
            assert json.loads(lock.read_text())["machine"] == this_machine()
        return
    with pytest.raises(FolderInUseError, match=r"in use by process \d+ on elsewhere"), RunLock(tmp_path):
        pass


def test_a_number_that_another_process_has_now_is_not_the_holder(tmp_path):
    (tmp_path / FILE).write_text(json.dumps({"machine": this_machine(), "process": os.getpid(), "started": "1"}))
    with RunLock(tmp_path):
        pass


def test_a_damaged_lock_is_taken_over_when_it_is_old(tmp_path):
    lock = tmp_path / FILE
    lock.write_text("")
    with pytest.raises(FolderInUseError), RunLock(tmp_path):
        pass
    os.utime(lock, (1, 1))
    with RunLock(tmp_path):
        pass
