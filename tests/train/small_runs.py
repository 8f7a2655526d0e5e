"""Short training runs on drawn faces: the arguments of `python -m train`, and readers of the files of a run."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

PRESETS = Path(__file__).resolve().parents[2] / "train" / "presets"
# For tests that are not about the network: it has a third of the weights of the paper's network, and a step takes a
# quarter of the time. In 32 bits, because not every processor supports bf16.
TINY = ("--network.trunk", "test_resnet", "--network.repeats", "[1, 1, 0]", "--image_size", "64")
TINY += ("--mixed_precision", "no")
SMALL = (*TINY, "--steps", "12", "--batch_size", "8", "--save_every", "3", "--validate_every", "6")


def run_arguments(corpus: Path, out: Path, *more: str, preset: str = "dynamic", overlay: str = "drawn") -> list[str]:
    return [
        "--config",
        str(PRESETS / f"{preset}.yaml"),
        str(PRESETS / f"{overlay}.yaml"),
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


def log(out: Path) -> list[dict]:
    return [json.loads(row) for row in (out / "log.jsonl").read_text().splitlines()]


def record(out: Path) -> dict:
    return json.loads((out / "training.json").read_text())


def validation(out: Path) -> dict:
    """The numbers of the last validation, by name, without the name of the corpus."""
    return {name.split("_", 1)[1]: value for name, value in record(out)["validations"][-1].items() if "_" in name}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def copy_summary(corpus: Path, out: Path) -> None:
    """Copy the summary of `corpus` to a corpus with other shards. Its checksums are left out: they would not match."""
    summary = json.loads((corpus / "corpus.json").read_text())
    del summary["sha256"]
    (out / "corpus.json").write_text(json.dumps(summary))
