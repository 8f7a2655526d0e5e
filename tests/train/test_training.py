"""Training runs for real: every stage learns, nothing is lost, several processes are one run, nonsense stops it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from datasets import Dataset
from facenet_pytorch import InceptionResnetV1
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from face_data.table import FEATURES, load_corpus
from modeling_facelivenet import FaceLiveNetModel
from train.__main__ import main
from train.batches import Batch
from train.config import TrainingConfig
from train.progress import LOGGED, Progress

# A third of the paper's weights, and steps in a third of the time: where a test is not about the network.
TINY = ("--network.trunk", "test_resnet", "--network.repeats", "[1, 1, 0]", "--image_size", "64")
SMALL = (*TINY, "--steps", "12", "--batch_size", "8", "--save_every", "3", "--validate_every", "6", "--log_every", "1")
PACE = ("images_per_second", "share_waiting_for_data")  # of log.jsonl, other in every run


def on_drawn_faces(corpus: Path, out: Path, *more: str, preset: str = "dynamic") -> list[str]:
    return [
        "--config",
        f"train/presets/{preset}.yaml",
        "train/presets/drawn.yaml",
        "--out",
        str(out),
        "--cpu",
        "true",
        "--train",
        f"{corpus}:train",
        "--validation",
        f"{corpus}:valid",
        *more,
    ]


def few_people(corpus: Path, out: Path, people: int = 4) -> Path:
    """A corpus of the first people of another: so few that a tiny network learns them in 100 steps."""
    names = {f"person_{number:04d}" for number in range(people)}
    rows = [row for row in load_corpus(corpus, ["train"]).to_list() if row["identity"] in names]
    out.mkdir(parents=True)
    Dataset.from_list(rows, features=FEATURES).to_parquet(out / "part-00000.parquet")
    shutil.copy(corpus / "corpus.json", out)
    return out


def log(out: Path) -> list[dict]:
    return [json.loads(row) for row in (out / "log.jsonl").read_text().splitlines()]


def record(out: Path) -> dict:
    return json.loads((out / "training.json").read_text())


def validation(out: Path) -> dict:
    """The last validation's numbers by their names without the corpus's."""
    return {name.split("_", 1)[1]: value for name, value in record(out)["validations"][-1].items() if "_" in name}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module", autouse=True)
def in_repository(repository):
    before = Path.cwd()
    os.chdir(repository)
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """Accelerate keeps one state per process; each run here is to be like one of its own."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def pretrained(drawn_corpus, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "pretrain"
    assert main(on_drawn_faces(drawn_corpus, out, *TINY, "--steps", "120", preset="pretrain")) == 0
    return out


@pytest.fixture(scope="module")
def run(drawn_corpus, tmp_path_factory) -> Path:
    """Dynamic training from scratch, with the average of the weights."""
    out = tmp_path_factory.mktemp("run") / "drawn"
    assert main(on_drawn_faces(drawn_corpus, out, "--ema_decay", "0.95", preset="from_scratch")) == 0
    return out


# every stage learns


def test_pretraining_learns_people(pretrained):
    rows = log(pretrained)
    assert sum(row["softmax_loss"] for row in rows[-10:]) < 0.3 * sum(row["softmax_loss"] for row in rows[:10])
    assert validation(pretrained)["verification_auc"] > 0.9  # chance: 0.5; people it never saw
    assert all(row["w1"] == 1 and row["w2"] == 0 and row["expression_loss"] == 0 for row in rows)
    assert "expression_accuracy" not in validation(pretrained)


def test_identity_is_learnt_from_people_who_do_not_exist(drawn_corpus, tmp_path):
    """Streamed, with a sample of the people in each step, as the preset says."""
    more = (*TINY, "--steps", "100", "--network.sampled_identities", "32", "--tracker", "none", "--ema_decay", "0")
    assert main(on_drawn_faces(drawn_corpus, tmp_path, *more, preset="synthetic_people")) == 0
    rows = log(tmp_path)
    assert sum(row["softmax_loss"] for row in rows[-10:]) < 0.7 * sum(row["softmax_loss"] for row in rows[:10])
    assert all(row["w1"] == 1 and row["expression_loss"] == 0 for row in rows)
    assert validation(tmp_path)["verification_auc"] > 0.6  # chance: 0.5; people it never saw


STAGES = [
    "single_verification",
    "single_expression",
    "dynamic",
    "static_1_1",
    "inverse_loss",
    "uncertainty",
]


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_learns_from_the_pretrained_network(stage, pretrained, drawn_corpus, tmp_path, capsys):
    """Judged on the photographs it learns from; test_both_tasks_are_learnt_from_scratch judges people it never saw."""
    few = few_people(drawn_corpus, tmp_path / "drawn")
    transfer = "false" if stage == "single_verification" else "true"
    more = (*TINY, "--steps", "100", "--batch_size", "16", "--validate_every", "100", "--tracker", "none")
    more += (
        "--start_from",
        str(pretrained),
        "--transfer_branch",
        transfer,
        "--train",
        str(few),
        "--validation",
        str(few),
    )
    assert main(on_drawn_faces(drawn_corpus, tmp_path / "run", *more, preset=stage)) == 0
    rows, numbers = log(tmp_path / "run"), validation(tmp_path / "run")
    first, last = ({name: sum(row[name] for row in part) / 10 for name in rows[0]} for part in (rows[:10], rows[-10:]))
    with capsys.disabled():
        columns = ("verification_loss", "expression_loss", "w1", "w2")
        print(f"\n  {stage:<20}" + "".join(f" {name} {last[name]:.3f}" for name in columns), end="")
        shown = ("verification_accuracy", "verification_auc", "expression_accuracy")
        print("".join(f" {name} {numbers[name]:.3f}" for name in shown if name in numbers), end=" ")
    if stage != "single_expression":
        assert numbers["verification_auc"] > 0.95
        assert last["verification_loss"] < first["verification_loss"]
    if stage != "single_verification":
        assert last["expression_loss"] < first["expression_loss"] - 0.1
        # chance is 1 in 7; equation 5 takes most weight from expressions here, because L1 is the smaller loss
        assert numbers["expression_accuracy"] > (0.17 if stage == "dynamic" else 0.25)
    if stage in ("dynamic", "inverse_loss"):
        assert all(row["w1"] + row["w2"] == pytest.approx(1, abs=1e-3) for row in rows)
        assert abs(last["w1"] - first["w1"]) > 0.05  # the unit has learnt


@pytest.mark.parametrize("stage, w2", [("static_1_1", 1), ("static_1_2", 2), ("static_1_half", 0.5)])
def test_static_weights_are_what_the_stage_is_called(stage, w2, drawn_corpus, tmp_path):
    more = (*TINY, "--steps", "2", "--batch_size", "8", "--validate_every", "2", "--tracker", "none")
    assert main(on_drawn_faces(drawn_corpus, tmp_path, *more, preset=stage)) == 0
    for row in log(tmp_path):
        assert row["loss"] == pytest.approx(row["verification_loss"] + w2 * row["expression_loss"], rel=1e-3)


def test_the_papers_own_stages_learn(drawn_corpus, tmp_path, capsys):
    """RMSProp and plain logits, at the overlay's rate; L1 is the smaller loss here and takes all of equation 5."""

    def learn(preset: str, steps: int, *more: str) -> tuple[list[dict], dict]:
        AcceleratorState._reset_state(reset_partial_state=True)
        out = tmp_path / preset
        arguments = on_drawn_faces(drawn_corpus, out, "--steps", str(steps), "--tracker", "none", *more, preset=preset)
        arguments[2] = "train/presets/paper_drawn.yaml"
        arguments += [*TINY, "--milestones", str(steps * 2 // 3), str(steps * 9 // 10), "--validate_every", str(steps)]
        assert main(arguments) == 0
        return log(out), validation(out)

    rows, numbers = learn("paper_pretrain", 150)
    assert sum(row["softmax_loss"] for row in rows[-10:]) < 0.3 * sum(row["softmax_loss"] for row in rows[:10])
    assert numbers["verification_auc"] > 0.9
    start = ("--start_from", str(tmp_path / "paper_pretrain"), "--transfer_branch", "true")
    rows, numbers = learn("paper_dynamic", 60, *start)
    assert numbers["verification_auc"] > 0.95
    assert rows[-1]["w1"] > rows[0]["w1"] + 0.1
    assert rows[-1]["verification_loss"] < rows[-1]["expression_loss"]


def test_the_full_network_starts_from_published_weights(drawn_corpus, tmp_path):
    """The preset of VGGFace2, with random weights in the published format."""
    torch.manual_seed(3)
    published = InceptionResnetV1(pretrained=None)
    torch.save(published.state_dict(), tmp_path / "vggface2.pt")
    more = ("--steps", "2", "--batch_size", "4", "--start_from", str(tmp_path / "vggface2.pt"))
    more += ("--learning_rate", "1e-9", "--validate_every", "2", "--network.batch_norm_momentum", "1e-9")
    assert main(on_drawn_faces(drawn_corpus, tmp_path / "run", *more, preset="vggface2_expression")) == 0
    model = FaceLiveNetModel.from_pretrained(tmp_path / "run" / "last")
    assert model.config.repeats == [5, 10, 5] and len(model.shared.repeat_2) == 10
    theirs = published.state_dict()
    for own, name in (
        (model.shared.repeat_2[3].branch1[1].conv.weight, "repeat_2.3.branch1.1.conv.weight"),
        (model.verification.block8.conv2d.weight, "block8.conv2d.weight"),
        (model.expression.block8.conv2d.weight, "block8.conv2d.weight"),
    ):
        torch.testing.assert_close(own.detach(), theirs[name], rtol=0, atol=1e-4)
    assert "expression_accuracy" in validation(tmp_path / "run")
    assert record(tmp_path / "run")["trained_on"] is None  # whom those weights have seen they do not say


# what a run leaves behind


def test_both_tasks_are_learnt_from_scratch(run):
    """Judged on drawn people the network never saw."""
    assert validation(run)["expression_accuracy"] > 0.5  # chance: 1 in 7
    assert validation(run)["verification_auc"] > 0.9  # chance: 0.5


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


def test_tracker_and_curves(run):
    events = EventAccumulator(str(next((run / "tensorboard").rglob("events.*")).parent))
    events.Reload()
    assert [point.step for point in events.Scalars("w1")] == list(range(1, 241))
    assert events.Scalars("expression_loss")[-1].value == pytest.approx(log(run)[-1]["expression_loss"], rel=1e-4)
    assert any("verification_auc" in name for name in events.Tags()["scalars"])
    for name in ("weights.png", "losses.png"):
        with Image.open(run / name) as picture:
            assert picture.width > 600 and len(picture.convert("RGB").getcolors(1 << 20)) > 20


def test_the_model_left_behind_is_ready_to_use(run):
    done = json.loads((run / "last" / "training.json").read_text())
    assert done["steps"] == 240 and done["trained_on"] == {"drawn": ["train"]} and done["minutes"] > 0
    assert done["network"]["cosine_scale"] == 24 and done["images_per_second"] > 0
    model = FaceLiveNetModel.from_pretrained(run / "last").eval()
    assert model.config.num_identities == 0 and model.identity_head is None
    assert json.loads((run / "last" / "preprocessor_config.json").read_text())["size"] == 80
    with torch.no_grad():
        assert torch.isfinite(model(torch.randn(1, 3, 80, 80)).embedding).all()


def test_the_average_of_the_weights_is_what_is_used(run):
    """The saved model is the average, not the last step's network."""
    last = weights(run / "last")
    stepped = weights(max((run / "checkpoints").iterdir()))
    name = "shared.conv2d_4b.conv.weight"
    assert not torch.equal(last[name], stepped[name])
    assert (last[name] - stepped[name]).norm() < 0.2 * stepped[name].norm()


# nothing is lost


def start(arguments: list[str], repository: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "train", *arguments], cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read().decode()[-2000:]
        time.sleep(0.01)


@pytest.mark.parametrize("streaming", ["false", "true"])
def test_a_killed_run_ends_bit_by_bit_as_one_that_was_not(drawn_corpus, tmp_path, repository, streaming):
    """SIGKILL at whatever step it is at, with dropout, every augmentation, the average and accumulated batches."""
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
        "--shuffle_buffer",
        "50",
        "--identity_balance",
        "0",
        "--mixed_precision",
        "no",
    )
    assert main(on_drawn_faces(drawn_corpus, tmp_path / "whole", *more)) == 0
    killed = on_drawn_faces(drawn_corpus, tmp_path / "killed", *more)
    process = start(killed, repository)
    wait_for(lambda: list((tmp_path / "killed" / "checkpoints").glob("step-????????")), process)
    time.sleep(int.from_bytes(os.urandom(1)) / 255)  # a step or a save further
    process.kill()
    process.wait()
    assert len(log(tmp_path / "killed")) < 12
    assert main(killed) == 0  # without another word: to go on is the default
    assert [row["step"] for row in log(tmp_path / "killed")] == list(range(1, 13))
    for part in ("last", "checkpoints/step-00000012"):
        expected, got = (weights(tmp_path / name / part) for name in ("whole", "killed"))
        assert expected.keys() == got.keys() and any("running_mean" in name for name in got)
        for name, value in expected.items():
            assert torch.equal(value, got[name]), name
    timeless = [
        [{name: value for name, value in row.items() if name not in PACE} for row in log(tmp_path / name)]
        for name in ("whole", "killed")
    ]
    assert timeless[0] == timeless[1]
    assert record(tmp_path / "killed")["trained_on"] == {"drawn": ["train"]}


def test_a_run_that_is_asked_to_stop_saves_first(drawn_corpus, tmp_path, repository):
    arguments = on_drawn_faces(drawn_corpus, tmp_path, *SMALL, "--steps", "500", "--save_every", "400")
    process = start(arguments, repository)
    wait_for(lambda: (tmp_path / "log.jsonl").exists(), process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[0].decode()
    assert process.returncode == 130 and "the same command goes on from" in said
    [saved] = (tmp_path / "checkpoints").iterdir()
    assert int(saved.name.removeprefix("step-")) == len(log(tmp_path)) < 500
    assert record(tmp_path)["trained_on"] == {"drawn": ["train"]}, "a stage may start from here"


def test_a_damaged_newest_checkpoint_costs_no_more_than_its_steps(drawn_corpus, tmp_path, capsys):
    assert main(on_drawn_faces(drawn_corpus, tmp_path, *SMALL)) == 0
    expected = weights(tmp_path / "last")
    newest = tmp_path / "checkpoints" / "step-00000012" / "optimizer.bin"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert main(on_drawn_faces(drawn_corpus, tmp_path, *SMALL)) == 0
    said = capsys.readouterr()
    assert "optimizer.bin is damaged" in said.err and "going on from" in said.out and "step-00000009" in said.out
    assert all(torch.equal(value, weights(tmp_path / "last")[name]) for name, value in expected.items())


def test_a_run_without_a_whole_checkpoint_is_not_overwritten(drawn_corpus, tmp_path, capsys):
    one_step = on_drawn_faces(drawn_corpus, tmp_path, *TINY, "--steps", "1", "--batch_size", "8", "--tracker", "none")
    assert main(one_step) == 0
    (tmp_path / "checkpoints" / "step-00000001" / "model.safetensors").write_bytes(b"")
    assert main(one_step) == 2
    assert "no checkpoint in" in capsys.readouterr().err and (tmp_path / "last" / "model.safetensors").is_file()


def test_another_run_in_the_folder_is_refused(drawn_corpus, tmp_path, capsys):
    one_step = (*TINY, "--steps", "1", "--batch_size", "8", "--tracker", "none")
    assert main(on_drawn_faces(drawn_corpus, tmp_path, *one_step)) == 0
    assert main(on_drawn_faces(drawn_corpus, tmp_path, *one_step, "--learning_rate", "0.5")) == 2
    said = capsys.readouterr().err
    assert "learning_rate 0.001, now 0.5" in said and "--resume false" in said
    more = ("--learning_rate", "0.5", "--resume", "false", "--warmup_steps", "0")
    assert main(on_drawn_faces(drawn_corpus, tmp_path, *one_step, *more)) == 0
    assert len(log(tmp_path)) == 1 and log(tmp_path)[0]["learning_rate"] == 0.5


def test_a_run_older_than_a_setting_goes_on(drawn_corpus, tmp_path, capsys):
    settings = (*TINY, "--batch_size", "8", "--tracker", "none", "--save_every", "1", "--validate_every", "2")
    assert main(on_drawn_faces(drawn_corpus, tmp_path, *settings, "--steps", "2")) == 0
    file = tmp_path / "run.json"
    recorded = json.loads(file.read_text())
    assert recorded.pop("composites") == 0 and recorded.pop("ema_decay") == 0
    file.write_text(json.dumps(recorded))
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000002")
    assert main(on_drawn_faces(drawn_corpus, tmp_path, *settings, "--steps", "2", "--ema_decay", "0.9")) == 2
    assert "ema_decay 0.0, now 0.9" in capsys.readouterr().err
    assert main(on_drawn_faces(drawn_corpus, tmp_path, *settings, "--steps", "2")) == 0
    assert [row["step"] for row in log(tmp_path)] == [1, 2]


def test_a_loss_that_is_not_finite_stops_the_run(drawn_corpus, tmp_path, capsys):
    more = (*SMALL, "--steps", "20", "--save_every", "1")
    assert main(on_drawn_faces(drawn_corpus, tmp_path, *more, "--learning_rate", "1e30", "--warmup_steps", "2")) == 2
    said = capsys.readouterr().err
    assert "the loss is not finite at step" in said and "person_00" in said
    assert "last good checkpoint: " in said and "step-0000000" in said
    assert not (tmp_path / "last").exists()


def test_a_gradient_that_is_not_finite_is_found_before_anything_is_saved(tmp_path):
    """The loss of its own step is finite: that of the next would be the first to show it."""
    progress = Progress(TrainingConfig(out=str(tmp_path)), tmp_path, 1)
    batch = Batch(torch.zeros(1, 3, 8, 8), torch.zeros(1), torch.zeros(1, 7), ["anna.jpg"])
    numbers = dict.fromkeys(LOGGED, torch.tensor(1.0)) | {"task_weights": torch.tensor([0.5, 0.5])}
    for norm in (2.0, torch.inf):
        progress.note(SimpleNamespace(**numbers), batch, 1e-3)
        progress.note_gradient(torch.tensor(norm))
        progress.step += 1
    rows, broken = progress.flush(Accelerator(cpu=True))
    assert [(row["step"], row["gradient_norm"]) for row in rows] == [(1, 2.0)]
    assert broken.startswith("the gradient is not finite at step 2 (loss 1, ") and "anna.jpg" in broken


def test_missing_corpus_is_named(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--train", str(tmp_path / "nowhere"), "--cpu", "true"]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert main(["--out", str(tmp_path), "--cpu", "true"]) == 2
    assert "name at least one" in capsys.readouterr().err


# several processes


@pytest.mark.parametrize("streaming", ["false", "true"])
def test_two_processes_train_one_network(drawn_corpus, tmp_path, repository, streaming):
    # accelerate's name for torchrun is --multi_gpu; --cpu true then has it use the CPUs
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    more = (*TINY, "--steps", "4", "--batch_size", "8", "--validate_every", "4", "--mixed_precision", "no")
    more += ("--streaming", streaming, "--identity_balance", "0", "--save_every", "2")
    more += ("--network.sampled_identities", "20")
    done = subprocess.run(
        [*launch, "-m", "train", *on_drawn_faces(drawn_corpus, tmp_path, *more)],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert record(tmp_path)["processes"] == 2 and record(tmp_path)["photographs_seen"] == 4 * 8 * 2
    assert [row["step"] for row in log(tmp_path)] == [1, 2, 3, 4]
    assert set(validation(tmp_path)) >= {"verification_auc", "expression_accuracy"}


def test_a_later_stage_starts_from_an_earlier_one(run, drawn_corpus, tmp_path, capsys):
    more = (
        "--steps",
        "1",
        "--batch_size",
        "8",
        "--learning_rate",
        "1e-9",
        "--validate_every",
        "1",
        "--tracker",
        "none",
        "--resume",
        "false",
    )
    small = on_drawn_faces(drawn_corpus, tmp_path, *more, "--image_size", "112", "--start_from", str(run / "last"))
    assert main(small) == 0
    printed = capsys.readouterr().out
    assert "identity_head.classifier.weight" in printed and "dynamic_weight_unit.fc.weight" in printed
    assert "shared." not in printed
    assert main(on_drawn_faces(drawn_corpus, tmp_path, *more, "--start_from", str(run))) == 0
    assert "anew: nothing" in capsys.readouterr().out  # a run's folder has the identity head too
    assert record(tmp_path)["trained_on"] == {"drawn": ["train"]}
    [before] = record(tmp_path)["earlier_stages"]
    assert before["steps"] == 240 and record(tmp_path)["started_from"] == 1
    before, after = weights(max((run / "checkpoints").iterdir())), weights(tmp_path / "last")
    name = "shared.conv2d_1a.conv.weight"
    torch.testing.assert_close(before[name], after[name], rtol=0, atol=1e-6)
