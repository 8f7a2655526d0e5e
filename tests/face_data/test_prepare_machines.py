"""Several processes prepare a corpus together. After one is killed, another number of processes resumes."""

import os
import signal
import time

import pytest
from programs import Program

from face_data.__main__ import main
from face_data.table import CorpusError, load_corpus, read_summary

COMMAND = ["synthesize", "--identities", "3", "--per-expression", "1", "--shard-size", "3", "--workers", "1"]

SHARDS = 7


def prepare_as_process(monkeypatch, process: int, processes: int, out) -> None:
    monkeypatch.setenv("RANK", str(process))
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    assert main([*COMMAND, str(out)]) == 0


def test_other_processes_resume_after_a_killed_one(tmp_path, repository, monkeypatch, capsys):
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert main([*COMMAND, str(alone)]) == 0

    environment = os.environ | {"RANK": "1", "WORLD_SIZE": "2"}
    killed = Program(["-m", "face_data", *COMMAND, together], repository, environment)
    first, deadline = together / "part-00001.json", time.monotonic() + 1200
    while not first.exists():
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    written = first.stat().st_mtime_ns

    for process in range(3):
        with pytest.raises(CorpusError, match="interrupted"):
            load_corpus(together)
        capsys.readouterr()
        prepare_as_process(monkeypatch, process, 3, together)
        printed = capsys.readouterr().out
        assert ("this process's shards are finished" in printed) == (process < 2)
    assert first.stat().st_mtime_ns == written  # the shard of the killed process was kept
    assert read_summary(together) == read_summary(alone)
    for shard in alone.glob("part-*.parquet"):
        assert shard.read_bytes() == (together / shard.name).read_bytes()


def test_processes_with_other_settings_are_refused(tmp_path, monkeypatch, capsys):
    prepare_as_process(monkeypatch, 0, SHARDS, tmp_path)
    monkeypatch.setenv("RANK", "1")
    assert main([*COMMAND, "--size", "80", str(tmp_path)]) == 2
    assert "size 160, now 80" in capsys.readouterr().err
