"""Cross-validation over the publisher's ten folds of people: CK+, Oulu-CASIA, LFW (section 5.1).

    accelerate launch -m train --config train/presets/dynamic.yaml --train corpora/ckplus --fold all

Each fold is tested once, with a network that was trained on eight other folds and validated on the remaining one.
Called by `command`. Next to read: train/loop.py, which trains one fold.
"""

import json
from dataclasses import replace

import numpy as np
from accelerate import Accelerator, PartialState

from addresses import join, working_folder, write_text
from checkpoints import load_checkpoint
from face_data.protocol import FOLDS, fold_protocol
from face_data.table import CorpusError, split_corpus
from modeling_facelivenet import FaceLiveNetConfig
from train.checkpoint import common_model
from train.config import TrainingConfig
from train.loop import train
from train.network import precision_of
from train.validation import validate


def train_folds(config: TrainingConfig) -> dict:
    """Train and test the fold of the config, or all folds one after another.

    Writes OUT/fold-N/ with its test.json, and OUT/folds.json with the numbers of the folds, their mean and the standard
    error of the mean. An interrupted run continues with the fold at which it was interrupted.

    Returns:
        the content of folds.json.

    Raises:
        CorpusError: --train names splits, or --validation a corpus of --train. As `train.loop.train`.
    """
    for text in config.validation:
        if split_corpus(text)[0] in config.train:
            raise CorpusError(f"--fold chooses the people to validate on: leave {text} out of --validation")
    for text in config.train:
        if split_corpus(text)[1]:
            raise CorpusError(
                f"--fold chooses the splits: give {split_corpus(text)[0]} without `:{text.partition(':')[2]}`"
            )
    folds = range(1, FOLDS + 1) if config.fold == "all" else [int(config.fold)]
    results = {}
    for fold in folds:
        config_of_fold = fold_config(config, fold)
        train(config_of_fold)
        results[fold] = _test(config_of_fold, [_with_splits(text, fold_protocol(fold).test) for text in config.train])
    summary = {"folds": results, "mean": {}, "standard_error": {}}
    for name in sorted(set.intersection(*(set(numbers) for numbers in results.values()))):
        values = np.array([numbers[name] for numbers in results.values()])
        summary["mean"][name] = float(values.mean())
        if len(values) > 1:
            summary["standard_error"][name] = float(values.std(ddof=1) / len(values) ** 0.5)
    if PartialState().is_main_process:
        write_text(config.out, "folds.json", json.dumps(summary, indent=1) + "\n")
        print(f"{'test folds ' + ', '.join(map(str, results)):<48}{'mean':>8}{'± se':>8}")
        for name, value in summary["mean"].items():
            error = summary["standard_error"].get(name)
            print(f"  {name:<46}{value:>8.3f}" + (f"{error:>8.3f}" if error is not None else ""))
    return summary


def fold_config(config: TrainingConfig, fold: int) -> TrainingConfig:
    """The config of the run with this test fold: it trains on eight other folds, and validates on the remaining one."""
    protocol = fold_protocol(fold)
    return replace(
        config,
        fold=None,
        out=join(config.out, f"fold-{fold:02d}"),
        train=[_with_splits(text, protocol.training) for text in config.train],
        validation=[_with_splits(text, protocol.validation) for text in config.train] + config.validation,
    )


def _with_splits(corpus: str, splits: tuple[str, ...]) -> str:
    return f"{corpus}:{','.join(splits)}"


def _test(config: TrainingConfig, corpora: list[str]) -> dict[str, float]:
    """Evaluate OUT/best on the test corpora, with the thresholds of the validation corpora, and write OUT/test.json.

    Returns:
        the numbers of `validate`.
    """
    accelerator = Accelerator(cpu=config.cpu, mixed_precision=precision_of(config))
    best = load_checkpoint(common_model(accelerator, working_folder(config.out) / "best"), accelerator.device)
    model, processor = best.network, best.processor
    tasks = FaceLiveNetConfig(**config.network).tasks
    validation = validate(model, processor.whiten, config, tasks, accelerator)
    end = "_verification_threshold"
    thresholds = {name.removesuffix(end): value for name, value in validation.items() if name.endswith(end)}
    numbers = validate(model, processor.whiten, replace(config, validation=corpora), tasks, accelerator, thresholds)
    if accelerator.is_main_process:
        text = json.dumps({"corpora": corpora} | numbers, indent=1)
        write_text(config.out, "test.json", text + "\n")
    return numbers
