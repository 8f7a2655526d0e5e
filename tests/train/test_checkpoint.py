"""A training state is complete or does not exist, and the run reports the state that it uses."""

import json
import textwrap
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from programs import Program
from torch import nn

from train.checkpoint import newest_checkpoint, save_training_state


@pytest.fixture
def accelerator() -> Accelerator:
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(nn.Linear(40, 40))
    return accelerator


def test_the_newest_states_are_kept(accelerator, tmp_path):
    for step in (2, 4, 6, 10):
        assert save_training_state(accelerator, tmp_path, step, keep=2).name == f"step-{step:08d}"
    assert [folder.name for folder in sorted((tmp_path / "checkpoints").iterdir())] == [
        "step-00000006",
        "step-00000010",
    ]
    assert newest_checkpoint(tmp_path).name == "step-00000010"
    assert newest_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("damage", ["cut", "altered", "missing", "no manifest", "empty manifest"])
def test_the_previous_state_is_used_if_the_newest_is_damaged(accelerator, tmp_path, capsys, damage):
    previous, newest = (save_training_state(accelerator, tmp_path, step, keep=2) for step in (2, 4))
    weights = newest / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-7])
    elif damage == "altered":
        content = bytearray(weights.read_bytes())
        content[-5] ^= 1
        weights.write_bytes(content)
    elif damage == "missing":
        weights.unlink()
    elif damage == "no manifest":
        (newest / "manifest.json").unlink()
    else:
        (newest / "manifest.json").write_text("")
    assert newest_checkpoint(tmp_path) == previous
    assert f"{newest} is not used: " in capsys.readouterr().err


def test_a_partly_written_state_is_ignored(accelerator, tmp_path):
    good = save_training_state(accelerator, tmp_path, 2, keep=2)
    accelerator.save_state(str(tmp_path / "checkpoints" / "step-00000004.tmp"))  # as if the power failed here
    assert newest_checkpoint(tmp_path) == good
    assert save_training_state(accelerator, tmp_path, 4, keep=2).name == "step-00000004"
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000002", "step-00000004"]


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory) -> tuple[Path, str]:
    """The folder and stderr of a process with a limit of file sizes: writing fails midway, as on a full disk."""
    out = tmp_path_factory.mktemp("refused")
    script = textwrap.dedent(f"""
        import resource, torch
        from accelerate import Accelerator
        from pathlib import Path
        from image_processing_facelivenet import FaceLiveNetImageProcessor
        from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel
        from train.checkpoint import newest_checkpoint, save_training_state, try_to_save_model

        def limit(size):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        accelerator, out = Accelerator(cpu=True), Path({str(out)!r})
        accelerator.prepare(torch.nn.Linear(400, 400))
        good = save_training_state(accelerator, out, 2, 2)
        limit(100_000)
        assert save_training_state(accelerator, out, 4, 2) is None
        assert newest_checkpoint(out) == good
        limit(resource.RLIM_INFINITY)
        assert save_training_state(accelerator, out, 6, 2).name == "step-00000006"

        model, processor = FaceLiveNetModel(FaceLiveNetConfig(image_size=75)), FaceLiveNetImageProcessor(size=75)
        best = out / "models" / "best"
        best.parent.mkdir()
        assert try_to_save_model(model, processor, best, dict(step=1))
        limit(100_000)
        assert not try_to_save_model(model, processor, best, dict(step=2))
        assert '"step": 1' in (best / "training.json").read_text()
        FaceLiveNetModel.from_pretrained(best)
    """)
    repository = Path(__file__).parents[2]
    program = Program(["-c", script], repository)
    assert program.wait() == 0, program.stderr
    return out, program.stderr


def test_a_full_disk_keeps_the_previous_state(full_disk):
    out, errors = full_disk
    assert "step 4 could not be written" in errors and "step-00000002" in errors
    assert not list((out / "checkpoints").glob("*.tmp"))


def test_a_full_disk_keeps_the_previous_model(full_disk):
    out, errors = full_disk
    assert "best could not be written" in errors and "the earlier one is kept" in errors
    assert [path.name for path in (out / "models").iterdir()] == ["best"]


def test_the_manifest_lists_every_file(accelerator, tmp_path):
    folder = save_training_state(accelerator, tmp_path, 2, keep=1)
    listed = json.loads((folder / "manifest.json").read_text())
    assert set(listed) | {"manifest.json"} == {path.name for path in folder.iterdir()}
    assert torch.load(folder / "random_states_0.pkl", weights_only=False)["torch_manual_seed"].numel()
