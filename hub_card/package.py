"""A checkpoint and its results -> the folder that goes to the Hub. The same inputs give the same bytes.

config.json, preprocessor_config.json   those of the checkpoint, and which class of which Python file reads them
model.safetensors                       the weights, byte for byte, so that results.json speaks of these
modeling_facelivenet.py, …              the three self-contained files that transformers runs as remote code
README.md, LICENSE.md, figures/         the card
results.json, training.json             what its numbers are read from; inference.json, onnx.json where they exist
"""

import json
import shutil
import sys
from pathlib import Path

from atomic import folder_replacement
from checkpoints import TRAINING_RECORD, WEIGHTS, file_sha256, find_checkpoint
from hub_card.card import write_card
from hub_card.folder import CODE, OPTIONAL_RESULTS, REPOSITORY, check_results, is_built, read_json

AUTO_MAP = {
    "AutoConfig": "modeling_facelivenet.FaceLiveNetConfig",
    "AutoModel": "modeling_facelivenet.FaceLiveNetModel",
    "AutoModelForImageClassification": "modeling_facelivenet.FaceLiveNetForImageClassification",
}
PROCESSOR_MAP = {"AutoImageProcessor": "image_processing_facelivenet.FaceLiveNetImageProcessor"}
CUSTOM_PIPELINES = {
    "face-authentication": {
        "impl": "pipeline_facelivenet.FaceAuthenticationPipeline",
        "pt": ["AutoModel"],
        "type": "image",
    }
}


def build(model: str | Path, results: Path, out: Path) -> Path:
    """Write the folder for the Hub to `out`, in the place of an earlier one.

    Args:
        model: name of a checkpoint (`checkpoints.find_checkpoint`) that has a training record; no .onnx file.
        results: the folder `python -m evaluation all --model MODEL --out RESULTS` wrote.

    Raises:
        FileNotFoundError: a file is missing; names it.
        ValueError: the results are of other weights, or lack a protocol; or `out` holds something else.
    """
    model = find_checkpoint(model)
    if not model.is_dir():
        raise ValueError(f"{model}: an exported graph cannot be published; give the folder it was exported from")
    for path in (model / TRAINING_RECORD, results / "results.json"):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: {_ORIGIN[path.name]}")
    weights = file_sha256(model / WEIGHTS)
    check_results(read_json(results / "results.json"), results / "results.json", weights)
    if out.exists() and any(out.iterdir()) and not is_built(out):
        raise ValueError(f"{out} holds something that this command did not write; choose another --out")

    with folder_replacement(out, shared=True) as folder:
        shutil.copyfile(model / WEIGHTS, folder / WEIGHTS)
        # Whoever loads without naming a dtype gets the one the processor's faces have.
        config = read_json(model / "config.json") | {"auto_map": AUTO_MAP, "custom_pipelines": CUSTOM_PIPELINES}
        write_json(folder / "config.json", config | {"dtype": "float32"})
        processor = read_json(model / "preprocessor_config.json") | {"auto_map": PROCESSOR_MAP}
        write_json(folder / "preprocessor_config.json", processor)
        for name in CODE:
            shutil.copyfile(REPOSITORY / name, folder / name)
        shutil.copyfile(model / "training.json", folder / "training.json")
        shutil.copyfile(results / "results.json", folder / "results.json")
        for path in (results / name for name in OPTIONAL_RESULTS):
            if path.is_file() and weights.startswith(read_json(path).get("weights") or "none"):
                shutil.copyfile(path, folder / path.name)
            elif path.is_file():
                print(f"hub_card: {path} is left out: it was measured with other weights", file=sys.stderr)
        write_card(folder, results, log=_log_of(model))
    return out


_ORIGIN = {
    "training.json": "the record that `python -m train` leaves beside the weights; the card quotes it",
    "results.json": "run `python -m evaluation all --model MODEL --out RESULTS` first",
}


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _log_of(model: Path) -> Path | None:
    """The log of the run whose folder `last` or `best` the model is, for its curves; None where there is none."""
    path = model.parent / "log.jsonl"
    return path if model.name in ("best", "last") and path.is_file() else None
