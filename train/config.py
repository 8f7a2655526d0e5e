"""One training run: a typed config, read from YAML and overridden on the command line."""

import argparse
from dataclasses import dataclass, field, fields
from pathlib import Path

import yaml
from transformers import HfArgumentParser

OPTIMIZERS = ("rmsprop", "adamw")
SCHEDULES = ("steps", "cosine")


def _setting(default, text: str):
    """A field with the help text that `--help` prints."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass
class TrainingConfig:
    """Defaults are the paper's section 5.1 where the paper has a number."""

    out: str = _setting("runs/dynamic", "folder for checkpoints, log.jsonl and training.json")
    train: list[str] = _setting([], "prepared corpora as FOLDER or FOLDER:SPLIT,SPLIT; for lfw the folds to train on")
    train_weights: list[float] = _setting(
        [], "share of each corpus in a batch, in the order of --train (default: equal)"
    )
    validation: list[str] = _setting(
        [], "corpora to validate on, same form; pairs.csv is used where the corpus has one"
    )
    start_from: str | None = _setting(
        None, "checkpoint folder whose weights to start from (heads of other sizes start anew)"
    )
    seed: int = _setting(0, "of weights, sampling and augmentation")

    image_size: int = _setting(160, "side of the input in pixels; smaller trains faster")
    network: dict = field(default_factory=dict, metadata={"help": "further FaceLiveNetConfig settings (YAML only)"})
    minimum_photographs: int = _setting(1, "people with fewer photographs count as unknown: they train expression only")

    steps: int = _setting(100_000, "how many batches")
    batch_size: int = _setting(90, "photographs per batch and process")
    optimizer: str = _setting("rmsprop", "rmsprop (the paper) or adamw")
    learning_rate: float = _setting(0.1, "at the start, or after the warm-up")
    schedule: str = _setting("steps", "steps: divided by 10 at --milestones (the paper); cosine: warm-up, then to zero")
    milestones: list[int] = _setting([60_000, 80_000], "steps after which the learning rate is divided by 10")
    warmup_steps: int = _setting(0, "of the cosine schedule")
    momentum: float = _setting(0.99, "of rmsprop")
    weight_decay: float = _setting(5e-5, "on weights, not on biases and batch norms")
    clip_norm: float = _setting(5.0, "largest norm of the whole gradient")

    crop_scale: float = _setting(0.1, "augmentation: faces are scaled by up to 1 ± this")
    shift: float = _setting(0.05, "augmentation: and shifted by up to this fraction of the side")
    rotation: float = _setting(8.0, "augmentation: and turned by up to this many degrees")
    gray: float = _setting(0.1, "augmentation: probability of losing the colour")
    light: float = _setting(0.3, "augmentation: strength of the change of gamma and of a light gradient")

    validate_every: int = _setting(1000, "steps")
    save_every: int = _setting(1000, "steps between checkpoints of the whole training state")
    resume: bool = _setting(False, "go on from the last checkpoint in --out")
    workers: int = _setting(2, "processes that decode photographs")
    mixed_precision: str = _setting("auto", "auto (bf16 where the device is built for it), no, or bf16")
    cpu: bool = _setting(False, "train on the CPU even where a GPU is")

    def __post_init__(self):
        def check(condition: bool, name: str, expected: str):
            if not condition:
                raise ValueError(f"{name}: {expected}, not {getattr(self, name)!r}")

        check(self.optimizer in OPTIMIZERS, "optimizer", f"one of {', '.join(OPTIMIZERS)}")
        check(self.schedule in SCHEDULES, "schedule", f"one of {', '.join(SCHEDULES)}")
        check(self.mixed_precision in ("auto", "no", "bf16"), "mixed_precision", "auto, no or bf16")
        for name in ("steps", "batch_size", "validate_every", "save_every", "minimum_photographs"):
            check(getattr(self, name) >= 1, name, "at least 1")
        for name in ("learning_rate", "clip_norm"):
            check(getattr(self, name) > 0, name, "positive")
        for name in ("weight_decay", "rotation", "workers", "warmup_steps"):
            check(getattr(self, name) >= 0, name, "not negative")
        for name in ("crop_scale", "shift", "gray", "light"):
            check(0 <= getattr(self, name) < 1 or (name == "gray" and self.gray == 1), name, "within 0..1")
        check(
            len(self.train_weights) in (0, len(self.train)),
            "train_weights",
            f"one for each of {len(self.train)} corpora",
        )
        check(all(weight > 0 for weight in self.train_weights), "train_weights", "positive")


def parse_config(argv: list[str] | None = None) -> TrainingConfig:
    """`--config FILE.yaml` first, then everything else on the command line over it.

    Exits with status 2 and the key's name where a key is unknown or a value impossible.
    """
    description = __doc__ + "\nExample: accelerate launch -m train --config train/presets/drawn.yaml --steps 300"
    parser = HfArgumentParser(TrainingConfig, prog="python -m train", description=description)
    parser.add_argument("--config", metavar="FILE.yaml", help="settings to start from (see train/presets)")
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--config")
    file = first.parse_known_args(argv)[0].config
    if file:
        if not Path(file).is_file():
            parser.error(f"--config {file}: no such file")
        settings = yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}
        known = {one.name for one in fields(TrainingConfig)}
        for key in settings:
            if key not in known:
                parser.error(f"{file}: unknown key {key!r}; known are {', '.join(sorted(known))}")
        parser.set_defaults(**settings)
    values = vars(parser.parse_args(argv))
    values.pop("config")
    try:
        return TrainingConfig(**values)
    except (TypeError, ValueError) as error:
        parser.error(str(error))


def split_corpus(text: str) -> tuple[str, list[str] | None]:
    """`corpora/lfw:1,2` -> ("corpora/lfw", ["1", "2"]); without a colon, every split."""
    folder, colon, splits = text.partition(":")
    return folder, splits.split(",") if colon else None
