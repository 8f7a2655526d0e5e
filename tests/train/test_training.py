"""Training runs for real: it learns, it can be killed, it runs in several processes, it stops on nonsense."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from modeling_facelivenet import FaceLiveNetModel
from train.__main__ import main


def command(corpus: Path, out: Path, *more: str) -> list[str]:
    return [
        "--config", "train/presets/drawn.yaml", "--out", str(out), "--cpu", "true",
        "--train", f"{corpus}:train", "--validation", f"{corpus}:valid", *more,
    ]  # fmt: skip


def log(out: Path) -> list[dict]:
    return [json.loads(row) for row in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(drawn_corpus, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "drawn"
    assert main(command(drawn_corpus, out)) == 0
    return out


def test_both_tasks_are_learnt_from_drawn_faces(run):
    """Judged on drawn people the network never saw."""
    last = json.loads((run / "training.json").read_text())["validations"][-1]
    numbers = {name.split("_", 1)[1]: value for name, value in last.items() if "_" in name}
    assert numbers["expression_accuracy"] > 0.5  # chance: 1 in 7
    assert numbers["verification_auc"] > 0.9  # chance: 0.5


def test_every_step_is_logged(run):
    rows = log(run)
    assert [row["step"] for row in rows] == list(range(1, 241))
    for row in rows:
        assert row["w1"] + row["w2"] == pytest.approx(1, abs=1e-3)
        l1, l2 = row["verification_loss"], row["expression_loss"]
        assert row["loss"] == pytest.approx((1 + row["w1"]) * l1 + row["w2"] * l2, rel=1e-3)
        assert l1 == pytest.approx(row["softmax_loss"] + 1e-4 * row["triplet_loss"], rel=1e-3)
    rates = [row["learning_rate"] for row in rows]
    assert max(rates) == pytest.approx(1e-3) and rates[-1] < 1e-5 and rates[0] < 2e-4
    assert sum(row["loss"] for row in rows[-15:]) < sum(row["loss"] for row in rows[:15])


def test_the_model_left_behind_is_ready_to_use(run):
    record = json.loads((run / "last" / "training.json").read_text())
    assert record["steps"] == 240 and list(record["train_splits"].values()) == [["train"]] and record["minutes"] > 0
    model = FaceLiveNetModel.from_pretrained(run / "last").eval()
    assert model.config.num_identities == 0 and model.identity_head is None
    assert json.loads((run / "last" / "preprocessor_config.json").read_text())["size"] == 80
    with torch.no_grad():
        assert torch.isfinite(model(torch.randn(1, 3, 80, 80)).embedding).all()


def test_a_killed_run_goes_on_where_its_checkpoint_stands(drawn_corpus, tmp_path, repository):
    more = ("--steps", "12", "--batch_size", "8", "--save_every", "4", "--validate_every", "12", "--resume", "true")
    arguments = command(drawn_corpus, tmp_path, *more)
    process = subprocess.Popen(
        [sys.executable, "-m", "train", *arguments], cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 240
    while not (tmp_path / "state").is_dir():
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read().decode()[-2000:]
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    killed_at = len(log(tmp_path))
    assert 4 <= killed_at < 12
    assert main(arguments) == 0
    assert [row["step"] for row in log(tmp_path)] == list(range(1, 13))
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == 12


def test_two_processes_train_one_network(drawn_corpus, tmp_path, repository):
    # without a GPU `accelerate launch` starts one process; torchrun, which it wraps, starts as many as it is asked for
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "train"]
    more = ("--steps", "4", "--batch_size", "8", "--validate_every", "4", "--mixed_precision", "no")
    done = subprocess.run(
        [*launch, *command(drawn_corpus, tmp_path, *more)], cwd=repository, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["processes"] == 2 and record["photographs_seen"] == 4 * 8 * 2
    assert [row["step"] for row in log(tmp_path)] == [1, 2, 3, 4]


def test_a_later_stage_starts_from_an_earlier_one(run, drawn_corpus, tmp_path, capsys):
    more = (
        "--steps",
        "1",
        "--batch_size",
        "8",
        "--image_size",
        "112",
        "--learning_rate",
        "1e-9",
        "--validate_every",
        "1",
    )
    assert main(command(drawn_corpus, tmp_path, *more, "--start_from", str(run / "last"))) == 0
    printed = capsys.readouterr().out
    assert "identity_head.classifier.weight" in printed and "shared." not in printed
    assert main(command(drawn_corpus, tmp_path, *more, "--start_from", str(run / "state"))) == 0
    assert "anew: dynamic_weight_unit.fc.weight" in capsys.readouterr().out  # the identity head goes on too
    before, after = (FaceLiveNetModel.from_pretrained(folder / "last") for folder in (run, tmp_path))
    torch.testing.assert_close(before.shared.conv2d_1a.conv.weight, after.shared.conv2d_1a.conv.weight)


def test_a_loss_that_is_not_finite_stops_the_run(drawn_corpus, tmp_path, capsys):
    more = ("--steps", "20", "--batch_size", "8", "--learning_rate", "1e30", "--warmup_steps", "0")
    assert main(command(drawn_corpus, tmp_path, *more)) == 2
    assert "at step" in capsys.readouterr().err
    assert not (tmp_path / "last").exists()


def test_missing_corpus_is_named(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--train", str(tmp_path / "nowhere"), "--cpu", "true"]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert main(["--out", str(tmp_path), "--cpu", "true"]) == 2
    assert "name at least one" in capsys.readouterr().err
