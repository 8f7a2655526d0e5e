"""Builds the folder for the Hub from a checkpoint and its results. The same inputs give the same bytes.

config.json, preprocessor_config.json   those of the checkpoint, and the classes that read them
model.safetensors                       the weights, unchanged, so that results.json belongs to them
modeling_facelivenet.py, …              the three self-contained files that transformers runs as remote code
README.md, LICENSE.md, figures/         the card
results.json, training.json             the sources of the card's numbers; inference.json and onnx.json, if they exist

`__main__` calls `build`. Read `card` next.
"""

import json
import shutil
import sys
from pathlib import Path

from atomic import folder_replacement
from checkpoints import TRAINING_RECORD, WEIGHTS, file_sha256, find_checkpoint
from hub_card.card import write_card
from hub_card.folder import CODE, OPTIONAL_RESULTS, REPOSITORY, check_results, is_built, read_json
from pipeline_facelivenet import CUSTOM_PIPELINES

AUTO_MAP = {
    "AutoConfig": "modeling_facelivenet.FaceLiveNetConfig",
    "AutoModel": "modeling_facelivenet.FaceLiveNetModel",
    "AutoModelForImageClassification": "modeling_facelivenet.FaceLiveNetForImageClassification",
}
PROCESSOR_MAP = {"AutoImageProcessor": "image_processing_facelivenet.FaceLiveNetImageProcessor"}


def build(model: str | Path, results: Path, out: Path) -> Path:
    """Write the folder for the Hub to `out`, and replace an earlier one.

    Args:
        model: name of a checkpoint (`checkpoints.find_checkpoint`) with a training record; not an .onnx file.
        results: folder that `python -m evaluation all --model MODEL --out RESULTS` wrote.

    Raises:
        FileNotFoundError: a file is missing; the message names it.
        ValueError: the results are of other weights or lack a protocol, or `out` contains other files.
    """
    model = find_checkpoint(model)
    if not model.is_dir():
        raise ValueError(f"{model}: an exported graph cannot be published; use the folder from which it was exported")
    for path in (model / TRAINING_RECORD, results / "results.json"):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: {_ORIGIN[path.name]}")
    weights = file_sha256(model / WEIGHTS)
    check_results(read_json(results / "results.json"), results / "results.json", weights)
    if out.exists() and any(out.iterdir()) and not is_built(out):
        raise ValueError(f"{out} contains files that this command did not write; choose another --out")

    with folder_replacement(out, shared=True) as folder:
        shutil.copyfile(model / WEIGHTS, folder / WEIGHTS)
        # Without a dtype argument, the model is loaded in the dtype of the processor's faces.
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
                print(f"hub_card: {path} is not included: it was measured with other weights", file=sys.stderr)
        write_card(folder, results, log=_find_log(model))
    return out


_ORIGIN = {
    "training.json": "`python -m train` writes it into the folder of the weights, and the card needs it",
    "results.json": "run `python -m evaluation all --model MODEL --out RESULTS` first",
}


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _find_log(model: Path) -> Path | None:
    """The log of the run, if the model is its folder `last` or `best`; None if there is none."""
    path = model.parent / "log.jsonl"
    return path if model.name in ("best", "last") and path.is_file() else None
