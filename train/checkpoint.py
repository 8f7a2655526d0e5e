"""Saves and finds training states and models. Both are written under a temporary name and renamed when complete.

OUT/checkpoints/step-00000300/    all that is needed to resume a run: weights, average, optimiser, schedule, centres,
                                  step, random states of all processes; manifest.json, written last, contains the
                                  SHA-256 of each file
OUT/best, OUT/last                models for use, without the layers that only the training needs

Called by `run` and `network`; `start`, `progress` and `remote_run` look for training states with it. Next to read:
machines.py.
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
from checkpoints import TRAINING_RECORD, WEIGHTS, file_sha256
from image_processing_facelivenet import FaceLiveNetImageProcessor
from machines import agree, send_folder
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel

MANIFEST = "manifest.json"


class CheckpointError(RuntimeError):
    """A training state cannot be written, or none can be read; the message names the last good one."""


def save_training_state(accelerator: Accelerator, out: Path, step: int, keep: int) -> Path | None:
    """Write OUT/checkpoints/step-N completely or not at all, and then remove all but the newest `keep` checkpoints.

    Only the main process writes there, also the random states of the others, so that no disk has to be shared.

    Returns:
        its path; None if the write failed. Then earlier checkpoints are kept, and the error is printed to stderr.
    """
    folder = out / "checkpoints" / f"step-{step:08d}"
    temporary = folder.with_suffix(".tmp")
    error, random_states = None, {}
    try:
        if accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
            accelerator.save_state(str(temporary))
        else:  # here Accelerate writes only the random state
            with tempfile.TemporaryDirectory() as folder_of_process:
                accelerator.save_state(folder_of_process)
                random_states = {path.name: path.read_bytes() for path in Path(folder_of_process).iterdir()}
    except Exception as caught:  # if the disk is full, safetensors and torch.save raise classes of their own
        error = caught
    random_states_of_all = gather_object([random_states])
    failed = any_process(accelerator, error is not None)
    if accelerator.is_main_process and not failed:
        try:
            for name, content in (item for states in random_states_of_all for item in states.items()):
                (temporary / name).write_bytes(content)
            _write_manifest(temporary)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
            for old in _checkpoints(out)[keep:]:
                shutil.rmtree(old, ignore_errors=True)
        except OSError as caught:
            error = caught
    failed = any_process(accelerator, error is not None)
    if not failed:
        return folder
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        last = newest_checkpoint(out)
        kept = f"the last one is {last}" if last else "there is no earlier one"
        print(f"train: the checkpoint of step {step} could not be written ({error}); {kept}", file=sys.stderr)
    return None


def newest_checkpoint(out: Path) -> Path | None:
    """The newest training state of a run without damaged files; newer ones with damage are reported on stderr."""
    for folder in _checkpoints(out):
        damage = _damage(folder)
        if damage is None:
            return folder
        print(f"train: {folder} is not used: {damage}", file=sys.stderr)
    return None


def common_checkpoint(accelerator: Accelerator, out: Path) -> Path | None:
    """The newest undamaged training state of the main process, copied to OUT of each machine; None if there is none.

    Raises:
        MachineError: a machine cannot write it, or still has a different one of the same name.
    """
    newest = newest_checkpoint(out) if accelerator.is_main_process else None
    [name_and_digest] = broadcast_object_list([newest and (newest.name, state_digest(newest))])
    if name_and_digest is None:
        return None
    name, digest = name_and_digest
    folder = out / "checkpoints" / name
    is_missing = not accelerator.is_main_process and (_damage(folder) is not None or state_digest(folder) != digest)
    send_folder(accelerator, folder, is_missing)
    agree(accelerator, checkpoint=f"{folder.name} {state_digest(folder)[:12]}")
    return folder


def common_model(accelerator: Accelerator, folder: Path) -> Path:
    """The saved model of the main process, copied to OUT of each machine.

    Raises:
        MachineError: a machine cannot write it.
    """
    weights = folder / WEIGHTS
    digest_here = file_sha256(weights) if weights.is_file() else None
    [digest] = broadcast_object_list([digest_here])
    send_folder(accelerator, folder, digest_here != digest)
    return folder


def state_digest(folder: Path) -> str:
    """SHA-256 of the manifest of a training state, which contains those of its files."""
    return file_sha256(folder / MANIFEST)


def contains_a_run(out: Path) -> bool:
    """Whether OUT has a training state, damaged or not."""
    return bool(_checkpoints(out))


def save_model(model: FaceLiveNetModel, processor: FaceLiveNetImageProcessor, folder: Path, record: dict) -> None:
    """Save a network for use: without the identity head, which nothing outside of the training needs.

    Writes config.json, model.safetensors, preprocessor_config.json, training.json and the Python files that the Hub
    needs, into a folder that replaces the earlier one when it is complete.
    """
    network = without_identities(model.config, model.state_dict(), weighting="dynamic")
    with folder_replacement(folder) as temporary:
        network.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        (temporary / TRAINING_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def try_to_write_record(record: dict, out: Path) -> None:
    """Write OUT/training.json. If the write fails, the earlier file is kept, and the error is printed to stderr."""
    try:
        write(out / TRAINING_RECORD, (json.dumps(record, indent=1) + "\n").encode())
    except OSError as error:
        print(f"train: {out / TRAINING_RECORD} could not be written ({error})", file=sys.stderr)


def try_to_save_model(
    model: FaceLiveNetModel, processor: FaceLiveNetImageProcessor, folder: Path, record: dict
) -> bool:
    """Like `save_model`, but if the write fails, the error is printed to stderr, and the earlier model is kept.

    Returns:
        whether it was written.
    """
    try:
        save_model(model, processor, folder, record)
    except Exception as error:  # if the disk is full, safetensors raises classes of its own
        kept = "the earlier one is kept" if folder.exists() else "there is no earlier one"
        print(f"train: {folder} could not be written ({error}); {kept}", file=sys.stderr)
        return False
    return True


def without_identities(config: FaceLiveNetConfig, state: dict, **settings) -> FaceLiveNetModel:
    """A network of this config and state without identity and teacher head; `settings` replace those of the config."""
    headless = config.to_dict() | {"num_identities": 0, "sampled_identities": 0, "teacher_size": 0} | settings
    network = FaceLiveNetModel(FaceLiveNetConfig.from_dict(headless))
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    return network


def _checkpoints(out: Path) -> list[Path]:
    """The folders of all training states, the newest first."""
    return sorted((out / "checkpoints").glob("step-" + "[0-9]" * 8), reverse=True)


def _write_manifest(folder: Path) -> None:
    """Write the manifest, and flush all files to the disk, before the folder is renamed."""
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
    """The damage of a training state; None if each file has its recorded hash."""
    try:
        digests = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, expected in digests.items():
            if file_sha256(folder / name) != expected:
                return f"{name} is damaged"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, AttributeError) as error:
        return str(error)
    return None


def any_process(accelerator: Accelerator, value: bool) -> bool:
    """Whether the value is true in at least one process."""
    return accelerator.reduce(torch.tensor(float(value), device=accelerator.device)).item() > 0
