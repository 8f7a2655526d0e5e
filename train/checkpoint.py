"""Saves and finds training states and models; both are written under a temporary name and renamed when complete.

OUT/checkpoints/step-00000300/    everything a run needs to go on: weights, average, optimiser, schedule, centres,
                                  random states of every process, step; manifest.json, written last, holds every
                                  file's SHA-256
OUT/best, OUT/last                the network as it is used

Called by `loop`.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from atomic import folder_replacement, write
from image_processing_facelivenet import FaceLiveNetImageProcessor
from machines import agree, send_folder
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel

MANIFEST = "manifest.json"
RECORD = "training.json"


class CheckpointError(RuntimeError):
    """A training state could not be written or none can be read; the message says which is the last good one."""


def save_training_state(accelerator: Accelerator, out: Path, step: int, keep: int) -> Path | None:
    """Write OUT/checkpoints/step-N as a whole or not at all; older ones beyond `keep` go only when it stands.

    The main process alone writes there, the others' random states too, so that no disk has to be shared.

    Returns:
        its path; None if the write failed: earlier checkpoints are kept, and stderr gives the error.
    """
    folder = out / "checkpoints" / f"step-{step:08d}"
    temporary = folder.with_suffix(".tmp")
    error, random_states = None, {}
    try:
        if accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
            accelerator.save_state(str(temporary))
        else:  # of these Accelerate writes nothing but the random state
            with tempfile.TemporaryDirectory() as own:
                accelerator.save_state(own)
                random_states = {path.name: path.read_bytes() for path in Path(own).iterdir()}
    except Exception as refused:  # safetensors and torch.save raise their own kinds where the disk is full
        error = refused
    everybody = gather_object([random_states])
    failed = anybody(accelerator, error is not None)
    if accelerator.is_main_process and not failed:
        try:
            for name, content in (item for states in everybody for item in states.items()):
                (temporary / name).write_bytes(content)
            _seal(temporary)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
            for old in _checkpoints(out)[keep:]:
                shutil.rmtree(old, ignore_errors=True)
        except OSError as refused:
            error = refused
    failed = anybody(accelerator, error is not None)
    if not failed:
        return folder
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        last = newest_checkpoint(out)
        standing = f"{last} still stands" if last else "there is no earlier one"
        print(f"train: the checkpoint of step {step} could not be written ({error}); {standing}", file=sys.stderr)
    return None


def newest_checkpoint(out: Path) -> Path | None:
    """The newest training state of a run whose files are all whole; says on stderr which newer ones are not."""
    for folder in _checkpoints(out):
        damage = _damage(folder)
        if damage is None:
            return folder
        print(f"train: {folder} is not used: {damage}", file=sys.stderr)
    return None


def common_checkpoint(accelerator: Accelerator, out: Path) -> Path | None:
    """The main process's newest whole training state, which every machine then has in its own OUT; None: it has none.

    Raises:
        MachineError: a machine cannot keep it, or has another one of that name even so.
    """
    newest = newest_checkpoint(out) if accelerator.is_main_process else None
    [named] = broadcast_object_list([newest and (newest.name, state_digest(newest))])
    if named is None:
        return None
    name, digest = named
    folder = out / "checkpoints" / name
    lacking = not accelerator.is_main_process and (_damage(folder) is not None or state_digest(folder) != digest)
    send_folder(accelerator, folder, lacking)
    agree(accelerator, checkpoint=f"{folder.name} {state_digest(folder)[:12]}")
    return folder


def common_model(accelerator: Accelerator, folder: Path) -> Path:
    """The main process's saved model, which every machine then has in its own OUT.

    Raises:
        MachineError: a machine cannot keep it.
    """
    own = _sha256(folder / "model.safetensors") if (folder / "model.safetensors").is_file() else None
    [digest] = broadcast_object_list([own])
    send_folder(accelerator, folder, own != digest)
    return folder


def state_digest(folder: Path) -> str:
    """SHA-256 of a training state: of its manifest, which holds those of its files."""
    return _sha256(folder / MANIFEST)


def holds_a_run(out: Path) -> bool:
    return bool(_checkpoints(out))


def save_model(model: FaceLiveNetModel, processor: FaceLiveNetImageProcessor, folder: Path, record: dict) -> None:
    """The network as it is used: without the identity head, whose people are the training set's own business.

    Writes config.json, model.safetensors, preprocessor_config.json, training.json and the Python files the Hub needs,
    in a folder that takes the place of the earlier one when it is whole.
    """
    network = without_identities(model.config, model.state_dict(), weighting="dynamic")
    with folder_replacement(folder) as temporary:
        network.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        (temporary / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def try_to_write_record(record: dict, out: Path) -> None:
    """Write OUT/training.json. If the write fails, the earlier file is kept and stderr gives the error."""
    try:
        write(out / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    except OSError as error:
        print(f"train: {out / RECORD} could not be written ({error})", file=sys.stderr)


def try_to_save_model(
    model: FaceLiveNetModel, processor: FaceLiveNetImageProcessor, folder: Path, record: dict
) -> bool:
    """`save_model`. If the write fails, the earlier model is kept, stderr gives the error, and training goes on.

    Returns:
        whether it was written.
    """
    try:
        save_model(model, processor, folder, record)
    except Exception as error:  # safetensors raises kinds of its own where the disk is full
        standing = "the earlier one still stands" if folder.exists() else "there is no earlier one"
        print(f"train: {folder} could not be written ({error}); {standing}", file=sys.stderr)
        return False
    return True


def without_identities(config: FaceLiveNetConfig, state: dict, **settings) -> FaceLiveNetModel:
    """A network of this config, with `settings` over it, and this state, but no identity or teacher head."""
    headless = config.to_dict() | {"num_identities": 0, "sampled_identities": 0, "teacher_size": 0} | settings
    network = FaceLiveNetModel(FaceLiveNetConfig.from_dict(headless))
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    return network


def _checkpoints(out: Path) -> list[Path]:
    """Newest first."""
    return sorted((out / "checkpoints").glob("step-" + "[0-9]" * 8), reverse=True)


def _seal(folder: Path) -> None:
    """Write the manifest, and have the disk hold everything before the folder gets its name."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digests[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(digests, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _damage(folder: Path) -> str | None:
    """What is wrong with a training state; None where every file is what was written."""
    try:
        digests = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, expected in digests.items():
            if _sha256(folder / name) != expected:
                return f"{name} is damaged"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, AttributeError) as error:
        return str(error)
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def anybody(accelerator: Accelerator, value: bool) -> bool:
    """Whether it is true in any of the processes."""
    return accelerator.reduce(torch.tensor(float(value), device=accelerator.device)).item() > 0
