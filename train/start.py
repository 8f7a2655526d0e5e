"""Loads the weights from which a stage starts: an earlier checkpoint, or published Inception-ResNet-v1 weights.

Called by `network`. Next to read: modeling_facelivenet.py.
"""

from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file

from addresses import local_copy
from checkpoints import WEIGHTS
from modeling_facelivenet import FaceLiveNetModel
from train.checkpoint import newest_checkpoint

INCEPTION_RESNET_V1_URLS = {  # published by facenet-pytorch
    "vggface2": "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
    "casia-webface": "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180408-102900-casia-webface.pt",
}


def start_from(model: FaceLiveNetModel, source: str) -> list[str]:
    """Load all weights of a checkpoint that have the same shape in this network.

    Args:
        source: a saved model (RUN/best, RUN/last); the folder of a run, which means its newest training state, with
            classifier and centres of the people of the same corpora; an address of one of these; a Hub id; or weights
            in facenet-pytorch's InceptionResnetV1 format: a `.pt` file, "vggface2" or "casia-webface".

    Returns:
        the names of the weights that were not loaded, and keep their initial values.

    Raises:
        FileNotFoundError: there is no such checkpoint. ValueError: none of its shared layers has the same shape.
    """
    if source in INCEPTION_RESNET_V1_URLS or Path(source).suffix in (".pt", ".pth"):
        load_inception_resnet_v1(model, source)
        loaded = ("shared.", "verification.", "expression.")
        return [name for name in model.state_dict() if not name.startswith(loaded)]
    path = _safetensors_of(source)
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"--start_from {source}: {path} is damaged ({error})") from None
    current = model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in current and current[name].shape == value.shape}
    if not any(name.startswith("shared.") for name in fitting):
        raise ValueError(f"--start_from {source}: none of its shared layers fit this network")
    model.load_state_dict(fitting, strict=False)
    return [name for name in current if name not in fitting]


def transfer_branch(model: FaceLiveNetModel) -> None:
    """Copy branch 1 to branch 2: "transferring the learning of the pretrained BRANCH 1" (section 4.2)."""
    model.expression.load_state_dict(model.verification.state_dict())


def load_inception_resnet_v1(model: FaceLiveNetModel, source: str | Path) -> None:
    """Load weights in facenet-pytorch's InceptionResnetV1 format into the shared layers and both branches.

    Args:
        model: with repeats (5, 10, 5) and batch_norm_scale, as in the network of these weights.
        source: a `.pt` file of that state dict, or "vggface2" or "casia-webface" to download the published one.

    Raises:
        ValueError: the weights do not fit the network. FileNotFoundError: neither a file nor one of these names.
    """
    config = model.config
    if config.trunk or tuple(config.repeats) != (5, 10, 5) or not config.batch_norm_scale:
        raise ValueError(
            "Inception-ResNet-v1 weights need repeats=(5, 10, 5) and batch_norm_scale=True and no trunk, "
            f"not repeats={tuple(config.repeats)}, batch_norm_scale={config.batch_norm_scale}, trunk={config.trunk}"
        )
    if str(source) in INCEPTION_RESNET_V1_URLS:
        url = INCEPTION_RESNET_V1_URLS[str(source)]
        weights = torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)
    elif Path(source).is_file():
        weights = torch.load(source, map_location="cpu", weights_only=True)
    else:
        raise FileNotFoundError(f"{source}: no such file, and not one of {', '.join(INCEPTION_RESNET_V1_URLS)}")
    layers = {name: value for name, value in weights.items() if not name.startswith(("last_", "logits."))}
    in_branch = {name: value for name, value in layers.items() if name.startswith(("repeat_3.", "block8."))}
    try:
        model.shared.load_state_dict({name: value for name, value in layers.items() if name not in in_branch})
        model.verification.load_state_dict(in_branch)
        model.expression.load_state_dict(in_branch)
    except RuntimeError as error:
        raise ValueError(f"{source} does not hold an InceptionResnetV1 of facenet-pytorch: {error}") from None


def _safetensors_of(source: str) -> Path:
    folder = local_copy(source)
    checkpoint = newest_checkpoint(folder) or folder
    if (checkpoint / WEIGHTS).is_file():
        return checkpoint / WEIGHTS
    if folder.exists() or source.count("/") != 1 or source.startswith((".", "/")):
        raise FileNotFoundError(f"--start_from {source}: no checkpoint there ({WEIGHTS} is missing)")
    try:
        return Path(hf_hub_download(source, WEIGHTS))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(f"--start_from {source}: no such folder, and not on the Hub either ({error})") from None
