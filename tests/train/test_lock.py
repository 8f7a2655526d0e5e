"""Only one run at a time uses a folder, and a killed run does not block it."""

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


def start_holder(folder: Path, repository: Path) -> subprocess.Popen:
    """Start a process that locks the folder until it is killed."""
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


def test_a_folder_is_locked_by_one_process_until_it_ends(tmp_path, repository):
    process = start_holder(tmp_path, repository)
    with pytest.raises(FolderInUseError) as refused, RunLock(tmp_path):
        pass
    assert f"in use by process {process.pid} on {this_machine()}" in str(refused.value)
    assert str(tmp_path / FILE) in str(refused.value)
    assert json.loads((tmp_path / FILE).read_text())["process"] == process.pid  # the refused process has not changed it
    process.kill()
    process.wait()
    with RunLock(tmp_path):
        assert json.loads((tmp_path / FILE).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("age, expired", [(SILENCE / 2, False), (SILENCE * 2, True)])
def test_without_process_information_a_lock_is_valid_while_it_is_updated(tmp_path, monkeypatch, age, expired):
    """As on Windows and macOS: there `os.kill(process, 0)` sends Ctrl-C, or finds another process of that number."""
    monkeypatch.setattr("train.lock._start_of", lambda process: None)
    (tmp_path / FILE).write_text(json.dumps({"machine": this_machine(), "process": 1, "started": None}))
    updated = time.time() - age
    os.utime(tmp_path / FILE, (updated, updated))
    if expired:
        with RunLock(tmp_path):
            return
    with pytest.raises(FolderInUseError, match="in use by process 1 on"), RunLock(tmp_path):
        pass


@pytest.mark.parametrize("age, expired", [(SILENCE / 2, False), (SILENCE * 2, True)])
def test_a_lock_of_another_machine_is_valid_while_it_is_updated(tmp_path, age, expired):
    lock = tmp_path / FILE
    lock.write_text(json.dumps({"machine": "elsewhere", "process": os.getpid(), "started": "1"}))
    updated = lock.stat().st_mtime - age
    os.utime(lock, (updated, updated))
    if expired:
        with RunLock(tmp_path):
            assert json.loads(lock.read_text())["machine"] == this_machine()
        return
    with pytest.raises(FolderInUseError, match=r"in use by process \d+ on elsewhere"), RunLock(tmp_path):
        pass


def test_a_reused_process_number_does_not_hold_the_lock(tmp_path):
    (tmp_path / FILE).write_text(json.dumps({"machine": this_machine(), "process": os.getpid(), "started": "1"}))
    with RunLock(tmp_path):
        pass


def test_an_old_damaged_lock_is_replaced(tmp_path):
    lock = tmp_path / FILE
    lock.write_text("")
    with pytest.raises(FolderInUseError), RunLock(tmp_path):
        pass
    os.utime(lock, (1, 1))
    with RunLock(tmp_path):
        pass
