"""A run that is killed, stopped or damaged resumes or ends with a reason. Several processes can share a run."""

import json
import os
import shutil
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from programs import Program, connected
from small_runs import SMALL, TINY, log, record, run_arguments, validation, weights

from train.__main__ import main
from train.batches import Batch
from train.config import TrainingConfig
from train.progress import LOGGED, Progress

TIMES = ("images_per_second", "share_waiting_for_data")  # fields of log.jsonl that differ between runs


def wait_for(condition, process: Program) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.stderr[-2000:]
        time.sleep(0.01)


@pytest.mark.parametrize("streaming", ["false", "true"])
def test_a_killed_run_resumes_and_ends_with_exactly_the_same_weights(drawn_corpus, tmp_path, repository, streaming):
    """The run is killed at a random step. It uses dropout, all augmentations, averaged weights and accumulation."""
    more = (
        *SMALL,
        "--erase",
        "0.3",
        "--blur",
        "0.3",
        "--downscale",
        "0.3",
        "--colour",
        "0.2",
        "--gray",
        "0.2",
        "--ema_decay",
        "0.9",
        "--network.dropout",
        "0.3",
        "--accumulation",
        "2",
        "--streaming",
        streaming,
    )
    assert main(run_arguments(drawn_corpus, tmp_path / "whole", *more)) == 0
    arguments = run_arguments(drawn_corpus, tmp_path / "killed", *more)
    process = Program(["-m", "train", *arguments], repository)
    wait_for(lambda: list((tmp_path / "killed" / "checkpoints").glob("step-????????")), process)
    time.sleep(int.from_bytes(os.urandom(1)) / 255)  # so that the kill comes at any moment
    process.kill()
    process.wait()
    assert len(log(tmp_path / "killed")) < 12
    assert main(arguments) == 0  # without a further option: resuming is the default
    assert [row["step"] for row in log(tmp_path / "killed")] == list(range(1, 13))
    for part in ("last", "checkpoints/step-00000012"):
        expected, got = (weights(tmp_path / name / part) for name in ("whole", "killed"))
        assert expected.keys() == got.keys() and any("running_mean" in name for name in got)
        for name, value in expected.items():
            assert torch.equal(value, got[name]), name
    logs = [
        [{name: value for name, value in row.items() if name not in TIMES} for row in log(tmp_path / name)]
        for name in ("whole", "killed")
    ]
    assert logs[0] == logs[1]
    assert record(tmp_path / "killed")["trained_on"] == {"drawn": ["train"]}


def test_a_terminated_run_saves_a_checkpoint(drawn_corpus, tmp_path, repository):
    arguments = run_arguments(drawn_corpus, tmp_path, *SMALL, "--steps", "500", "--save_every", "400")
    process = Program(["-m", "train", *arguments], repository)
    wait_for(lambda: (tmp_path / "log.jsonl").exists(), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 130 and "the same command continues from" in process.stderr
    [saved] = (tmp_path / "checkpoints").iterdir()
    assert int(saved.name.removeprefix("step-")) == len(log(tmp_path)) < 500
    assert record(tmp_path)["trained_on"] == {"drawn": ["train"]}, "a stage may start from here"


def test_a_run_resumes_from_the_previous_checkpoint_if_the_newest_is_damaged(drawn_corpus, tmp_path, capsys):
    assert main(run_arguments(drawn_corpus, tmp_path, *SMALL)) == 0
    expected = weights(tmp_path / "last")
    newest = tmp_path / "checkpoints" / "step-00000012" / "optimizer.bin"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert main(run_arguments(drawn_corpus, tmp_path, *SMALL)) == 0
    output = capsys.readouterr()
    assert "optimizer.bin is damaged" in output.err and "resumed from" in output.out and "step-00000009" in output.out
    assert all(torch.equal(value, weights(tmp_path / "last")[name]) for name, value in expected.items())


def test_a_run_without_a_complete_checkpoint_is_not_overwritten(drawn_corpus, tmp_path, capsys):
    one_step = run_arguments(drawn_corpus, tmp_path, *TINY, "--steps", "1", "--batch_size", "8", "--tracker", "none")
    assert main(one_step) == 0
    (tmp_path / "checkpoints" / "step-00000001" / "model.safetensors").write_bytes(b"")
    assert main(one_step) == 2
    assert "no checkpoint in" in capsys.readouterr().err and (tmp_path / "last" / "model.safetensors").is_file()


def test_a_run_with_other_settings_in_the_same_folder_is_refused(drawn_corpus, tmp_path, capsys):
    one_step = (*TINY, "--steps", "1", "--batch_size", "8", "--tracker", "none")
    assert main(run_arguments(drawn_corpus, tmp_path, *one_step)) == 0
    assert main(run_arguments(drawn_corpus, tmp_path, *one_step, "--learning_rate", "0.5")) == 2
    error = capsys.readouterr().err
    assert "learning_rate 0.001, now 0.5" in error and "--resume false" in error
    more = ("--learning_rate", "0.5", "--resume", "false", "--warmup_steps", "0")
    assert main(run_arguments(drawn_corpus, tmp_path, *one_step, *more)) == 0
    assert len(log(tmp_path)) == 1 and log(tmp_path)[0]["learning_rate"] == 0.5


def test_a_run_that_is_older_than_a_setting_resumes(drawn_corpus, tmp_path, capsys):
    settings = (*TINY, "--batch_size", "8", "--tracker", "none", "--save_every", "1", "--validate_every", "2")
    assert main(run_arguments(drawn_corpus, tmp_path, *settings, "--steps", "2")) == 0
    file = tmp_path / "run.json"
    recorded = json.loads(file.read_text())
    assert recorded.pop("composites") == 0 and recorded.pop("ema_decay") == 0
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000002")
    for name, value in {"clip_norm": 1.0, "soft_labels": False}.items():
        file.write_text(json.dumps(recorded | {name: value}))
        assert main(run_arguments(drawn_corpus, tmp_path, *settings, "--steps", "2")) == 2
        assert f"{name} {value}, now None" in capsys.readouterr().err
    file.write_text(json.dumps(recorded | {"clip_norm": 5.0, "exchange_share": 0.0}))  # the values of every run now
    assert main(run_arguments(drawn_corpus, tmp_path, *settings, "--steps", "2", "--ema_decay", "0.9")) == 2
    assert "ema_decay 0.0, now 0.9" in capsys.readouterr().err
    assert main(run_arguments(drawn_corpus, tmp_path, *settings, "--steps", "2")) == 0
    assert [row["step"] for row in log(tmp_path)] == [1, 2]


def test_a_loss_that_is_not_finite_stops_the_run(drawn_corpus, tmp_path, capsys):
    more = (*SMALL, "--steps", "20", "--save_every", "1")
    assert main(run_arguments(drawn_corpus, tmp_path, *more, "--learning_rate", "1e30", "--warmup_steps", "2")) == 2
    error = capsys.readouterr().err
    assert "the loss is not finite at step" in error and "person_00" in error
    assert "last good checkpoint: " in error and "step-0000000" in error
    assert not (tmp_path / "last").exists()


def test_a_gradient_that_is_not_finite_is_found_before_anything_is_saved(tmp_path):
    """The loss of the same step is finite. Only the loss of the next step would show the problem."""
    progress = Progress(TrainingConfig(out=str(tmp_path)), tmp_path, 1)
    batch = Batch(torch.zeros(1, 3, 8, 8), torch.zeros(1), torch.zeros(1, 7), ["anna.jpg"])
    numbers = dict.fromkeys(LOGGED, torch.tensor(1.0)) | {"task_weights": torch.tensor([0.5, 0.5])}
    for norm in (2.0, torch.inf):
        progress.add_batch(SimpleNamespace(**numbers), batch, 1e-3)
        progress.add_gradient_norm(torch.tensor(norm))
        progress.step += 1
    rows, problem = progress.flush(Accelerator(cpu=True))
    assert [(row["step"], row["gradient_norm"]) for row in rows] == [(1, 2.0)]
    assert problem.startswith("the gradient is not finite at step 2 (loss 1, ") and "anna.jpg" in problem


def test_a_missing_corpus_is_reported(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--train", str(tmp_path / "nowhere"), "--cpu", "true"]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert main(["--out", str(tmp_path), "--cpu", "true"]) == 2
    assert "name at least one" in capsys.readouterr().err


# several processes


def test_two_processes_train_one_network(drawn_corpus, tmp_path, repository):
    """This run uses a stream. test_teacher.py tests a run with a table that `accelerate launch` starts."""
    more = (*TINY, "--steps", "4", "--batch_size", "8", "--validate_every", "4")
    more += ("--streaming", "true", "--save_every", "2")
    more += ("--network.sampled_identities", "20")
    command = ["-m", "train", *run_arguments(drawn_corpus, tmp_path, *more)]
    processes = [Program(command, repository, os.environ | variables) for variables in connected(2)]
    for process in processes:
        assert process.wait() == 0, process.stderr[-3000:]
    assert record(tmp_path)["processes"] == 2 and record(tmp_path)["photographs_seen"] == 4 * 8 * 2
    assert [row["step"] for row in log(tmp_path)] == [1, 2, 3, 4]
    assert set(validation(tmp_path)) >= {"verification_auc", "expression_accuracy"}
