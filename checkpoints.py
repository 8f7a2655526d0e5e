"""Loads a model by its name. No other module depends on the forms of these names, or on the files of a model.

A model is a folder, a folder at an address (`s3://bucket/run/last`), `owner/name` on the Hub, `owner/name@revision` (a
branch, tag or commit), or an exported `.onnx` file. The app, the command line, the training, the evaluation, `hub_card`
and the benchmarks load it with

    checkpoint = load_checkpoint("pretrained", device="cpu")
    checkpoint.network, checkpoint.processor, checkpoint.revision, checkpoint.training

A missing model is reported before PyTorch and the code of the network are imported, because that takes seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from addresses import is_address, local_copy

if TYPE_CHECKING:
    import torch

    from image_processing_facelivenet import FaceLiveNetImageProcessor
    from modeling_facelivenet import FaceLiveNetModel
    from onnx_network import OnnxNetwork

SUFFIX = ".onnx"  # of an exported graph
WEIGHTS = "model.safetensors"
REQUIRED = ("config.json", WEIGHTS, "preprocessor_config.json")
TRAINING_RECORD = "training.json"  # written by `python -m train`; optional
HUB_ID = re.compile(r"(?P<repository>[\w-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?")
REVISION_DIGITS = 12
logger = logging.getLogger(__name__)
DEFAULT_MODEL = Path(__file__).resolve().parent / "pretrained"
WEIGHTS_HELP = "model folder, address or Hub id (owner/name or owner/name@revision)"  # for commands that need weights
MODEL_HELP = f"{WEIGHTS_HELP}, or exported .onnx file"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model.

    name: the argument of `load_checkpoint`. path: the local folder, or the .onnx file. network: in evaluation mode, on
    its device. sha256: checksum of the file with the weights.
    """

    name: str
    path: Path
    network: FaceLiveNetModel | OnnxNetwork
    processor: FaceLiveNetImageProcessor
    sha256: str

    @property
    def revision(self) -> str:
        """The first 12 digits of the SHA-256 of the weights. Decisions (`model_revision`) and templates contain it.

        An exported graph has the revision of the exported weights, followed by `-int8` if it was quantised.
        """
        return self.network.revision if self.path.suffix == SUFFIX else self.sha256[:REVISION_DIGITS]

    @cached_property
    def training(self) -> dict:
        """The training record; empty if there is none.

        Raises:
            ValueError: the file is damaged.
        """
        return read_training_record(self.path)

    @property
    def trained_on(self) -> dict[str, list[str]] | None:
        """Source of images -> the splits that the network was trained on; None if they are not recorded."""
        return self.training.get("trained_on")


def load_checkpoint(name: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Load network and image processor.

    Raises:
        FileNotFoundError: there is no such folder, or a file of the checkpoint is missing.
        OSError: the checkpoint is damaged or cannot be downloaded.
        ValueError: the model is an exported graph, and the device is not the CPU. Every message names the model.
    """
    path = find_checkpoint(name)

    import torch

    from image_processing_facelivenet import FaceLiveNetImageProcessor
    from modeling_facelivenet import FaceLiveNetModel
    from onnx_network import OnnxNetwork

    if path.suffix == SUFFIX:
        network = OnnxNetwork(path).to(device)
        return Checkpoint(str(name), path, network, network.processor, file_sha256(path))
    try:
        network, report = FaceLiveNetModel.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
        processor = FaceLiveNetImageProcessor.from_pretrained(path)
    except Exception as error:  # transformers, safetensors and the checks of the config raise many unrelated types
        raise OSError(f"{name}: cannot be loaded: {error}") from error
    if report["missing_keys"]:  # transformers fills them with random numbers
        raise OSError(f"{name}: lacks weights: {', '.join(sorted(report['missing_keys'])[:3])}, …")
    if network.config.similarity_threshold is not None and network.calibrated_threshold is None:
        logger.warning("%s: its thresholds were calibrated with other weights and are ignored: calibrate it", name)
        network.config.similarity_threshold = None
    return Checkpoint(str(name), path, network.to(device).eval(), processor, file_sha256(path / WEIGHTS))


def find_checkpoint(name: str | Path) -> Path:
    """The local folder of a model, or its .onnx file. A model on the Hub or at an address is downloaded.

    If a folder contains no checkpoint but exactly one .onnx file, this file is the model.

    Raises:
        FileNotFoundError, OSError: as in `load_checkpoint`.
    """
    path = local_copy(name)
    if path.suffix == SUFFIX and path.is_file():
        return path
    if not path.is_dir():
        on_hub = _hub_id(name)
        if on_hub is None:
            raise FileNotFoundError(
                f"{name}: no such model folder; give a saved model's folder, an {SUFFIX} file, or owner/name on the Hub"
            )
        return _download(**on_hub.groupdict(), name=name)
    graphs = sorted(path.glob(f"*{SUFFIX}"))
    if not (path / WEIGHTS).exists() and len(graphs) == 1:
        return graphs[0]
    for file in REQUIRED:
        if not (path / file).is_file():
            raise FileNotFoundError(f"{path / file} is missing: {name} is not a model folder")
    return path


def no_usable_model(error: OSError) -> str:
    """What a command reports if `find_checkpoint` or `load_checkpoint` fails."""
    return f"no usable model: {error}. Name a trained checkpoint with --model DIR"


def has_to_be_downloaded(name: str | Path) -> bool:
    """Whether this is an address, or has the form of the id of a model on the Hub."""
    return is_address(name) or (not Path(name).exists() and _hub_id(name) is not None)


def _hub_id(name: str | Path) -> re.Match | None:
    return None if Path(name).parent.is_dir() else HUB_ID.fullmatch(str(name))


def _download(repository: str, revision: str | None, name: str | Path) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        for file in REQUIRED:
            path = hf_hub_download(repository, file, revision=revision)
        with contextlib.suppress(EntryNotFoundError):  # a model on the Hub may have no training record
            hf_hub_download(repository, TRAINING_RECORD, revision=revision)
    except Exception as error:  # huggingface_hub, HTTP clients and the file system raise many unrelated types
        raise OSError(f"{name}: cannot be loaded from the Hub: {error}") from error
    return Path(path).parent


def read_training_record(folder: Path) -> dict:
    """The `training.json` of a saved model; empty if it has none.

    Raises:
        ValueError: it is damaged.
    """
    path = folder / TRAINING_RECORD
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); save the model again, or remove the file") from None


def training_stages(record: dict) -> list[dict]:
    """All training stages that contributed to the weights of a model, each only once.

    A stage comes after the stages that it depends on, so the stage of the record itself is the last one. The first
    stage has the number 1. "started_from" is the number of the stage that provided the initial weights, or None.
    "averaged_with" has the numbers of the stages with which the weights were averaged. "expression_teachers" has those
    of the checkpoints that taught branch 2, with None for each that has no record. Only the last element of
    "validations" is kept.

    Args:
        record: the content of training.json, with the earlier stages in "earlier_stages".
    """
    stages: list[dict] = []
    add_stages(stages, record)
    return stages


def add_stages(stages: list[dict], record: dict) -> int:
    """Append the stages of a training record that the list lacks. Return the number of the last stage of the record."""
    numbers: list[int] = []  # in `stages`, of the stages of this record

    def number(reference: int | None) -> int | None:
        return None if reference is None else numbers[reference - 1]

    for written in (*record.get("earlier_stages", ()), record):
        stage = {name: value for name, value in written.items() if name != "earlier_stages"}
        stage["started_from"] = number(stage.get("started_from"))
        for several in ("averaged_with", "expression_teachers"):
            if stage.get(several):
                stage[several] = [number(reference) for reference in stage[several]]
        if "validations" in stage:
            stage["validations"] = stage["validations"][-1:]
        if stage not in stages:
            stages.append(stage)
        numbers.append(stages.index(stage) + 1)
    return numbers[-1]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
