"""What a run leaves behind: a training state to go on from, and a model to use."""

import json
import os
import shutil
from pathlib import Path

from accelerate import Accelerator
from safetensors.torch import load_file

from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel


def save_training_state(accelerator: Accelerator, folder: Path) -> None:
    """Weights, optimiser, schedule, random states and step; the previous state stays until this one is whole."""
    accelerator.wait_for_everyone()
    temporary, old = folder.with_name(folder.name + ".tmp"), folder.with_name(folder.name + ".old")
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def save_model(model: FaceLiveNetModel, processor: FaceLiveNetImageProcessor, folder: Path, record: dict) -> None:
    """The network as it is used: without the identity head, whose people are the training set's own business.

    Writes config.json, model.safetensors, preprocessor_config.json, training.json and the Python files the Hub needs.
    """
    config = FaceLiveNetConfig.from_dict(model.config.to_dict() | {"num_identities": 0})
    network = FaceLiveNetModel(config)
    network.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("identity_head.")})
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def start_from(model: FaceLiveNetModel, source: str) -> list[str]:
    """Take over every weight of an earlier checkpoint that has the same shape; returns the names that start anew.

    Args:
        source: a saved model (RUN/best, RUN/last), or RUN/state, which also knows the training set's people: with the
            same corpora, their classifier and centres go on too.

    Raises:
        FileNotFoundError, ValueError: no such checkpoint, or one that has nothing in common with this network.
    """
    if not (Path(source) / "model.safetensors").is_file():
        raise FileNotFoundError(f"--start-from {source}: no checkpoint there (model.safetensors is missing)")
    weights = load_file(Path(source) / "model.safetensors")
    own = model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not any(name.startswith("shared.") for name in fitting):
        raise ValueError(f"--start-from {source}: none of its shared layers fit this network")
    model.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]
