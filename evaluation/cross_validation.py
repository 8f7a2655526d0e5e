"""A run over ten folds of people, each judged by the network that never saw it: Tables 3 and 4 for CK+ and Oulu-CASIA.

    accelerate launch -m train --config train/presets/paper_dynamic.yaml --train corpora/ckplus --fold all
    python -m evaluation folds --model runs/paper_dynamic --data corpora/ckplus

Thresholds are chosen for each network on its validation fold, and its test fold is judged with them. Photographs of
different folds are never compared, for their embeddings come from different networks.
"""

import argparse
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from evaluation import report
from evaluation.calibration import calibrate
from evaluation.comparison_table import training_record
from evaluation.embeddings import (
    PER_PHOTOGRAPH,
    Checkpoint,
    Embeddings,
    embed_checkpoint,
    load_checkpoint,
    training_warning,
)
from evaluation.expression import class_mapping, expression_report
from evaluation.holistic import build_trials, judge, trials_report
from evaluation.metrics import TooLittleError, best_threshold, rate, share_of_pairs
from evaluation.run import Figures, circumstances, corpus_record
from evaluation.verification import ScoredPairs, curve, generated_pairs, score_pairs
from face_data.folds import fold_splits
from face_data.pairs import Pair, read_pairs
from face_data.table import load_corpus


@dataclass(frozen=True)
class Fold:
    """One of the ten: its number, its network, and what that says of its validation fold and of its test fold."""

    number: int
    checkpoint: Checkpoint
    chosen: Embeddings
    judged: Embeddings


def judge_folds(arguments: argparse.Namespace) -> Path:
    """Judge all folds there are, print the tables, write results and figures; returns the path of results.json."""
    folds = []
    for number, folder in fold_models(arguments.model).items():
        checkpoint = load_checkpoint(folder, arguments.device)
        _, *parts = fold_splits(number)
        chosen, judged = (
            embed_checkpoint(checkpoint, load_corpus(arguments.data, splits), arguments.batch_size, arguments.cache)
            for splits in parts
        )
        folds.append(Fold(number, checkpoint, chosen, judged))
    path = arguments.out / "results.json"
    if not arguments.speaks:
        return path
    whole = hashlib.sha256("".join(fold.checkpoint.sha256 for fold in folds).encode()).hexdigest()
    model = {"name": f"{arguments.model}, {len(folds)} folds", "sha256": whole}
    report.read_results(arguments.out, model)
    arguments.out.mkdir(parents=True, exist_ok=True)
    about = corpus_record(arguments.data)
    draw = Figures(arguments.out, f"{about['name']} folds")
    section = circumstances(arguments, folds[0].checkpoint, about, [str(fold.number) for fold in folds])
    section |= {"train_splits": None, "warnings": _warnings(folds)}  # each network was trained on folds of its own
    classes = folds[0].judged.classes
    mapping = class_mapping(arguments.classes, classes) if arguments.classes else None
    required = arguments.required or folds[0].checkpoint.model.config.challenge_expressions
    pairs = read_pairs(arguments.data, missing_ok=True)
    judged = {
        "verification": lambda: verification_of_folds(folds, pairs, arguments.far, arguments.seed, draw),
        "expression": lambda: expression_of_folds(folds, arguments.seed, mapping, draw),
        "authentication": lambda: authentication_of_folds(folds, arguments.far, required, arguments.seed),
    }
    section["missing"] = {}
    tasks = training_record(folds[0].checkpoint.folder)["tasks"]
    for name, run in judged.items():
        try:
            if len(tasks) == 1 and name != tasks[0]:
                raise TooLittleError(f"the networks were trained for {tasks[0]} alone")
            section[name] = run()
        except TooLittleError as error:  # a corpus without people, or without expressions
            section[name], section["missing"][name] = None, str(error)
    section["figures"] = draw.files
    path = report.write_results(arguments.out, model, "folds", about["name"], section)
    print(folds_text(section))
    return path


def _warnings(folds: Sequence[Fold]) -> list[str]:
    """Which networks were, or may have been, trained on the people they are judged on."""
    found = {
        fold.number: training_warning(fold.judged.seen_splits(fold.checkpoint.trained_on), fold.judged.splits)
        for fold in folds
    }
    return [f"fold {number}: {warning}" for number, warning in found.items() if warning]


def fold_models(run: str | Path) -> dict[int, Path]:
    """Number of fold -> folder of the model chosen on its validation fold, of a `--fold all` run.

    Raises:
        FileNotFoundError: no such run.
    """
    folders = {int(path.name.removeprefix("fold-")): path / "best" for path in sorted(Path(run).glob("fold-*"))}
    if not folders:
        raise FileNotFoundError(f"{run}: no fold-01, fold-02 … there; train with --fold all and give its --out")
    for folder in folders.values():
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing: that fold's training has not ended")
    return folders


def pooled(parts: Sequence[Embeddings]) -> Embeddings:
    """Several folds' photographs as one; the embeddings of two of them must not be compared."""
    return replace(
        parts[0],
        embeddings=np.concatenate([part.embeddings for part in parts]),
        expression_probabilities=np.concatenate([part.expression_probabilities for part in parts]),
        **{name: [value for part in parts for value in getattr(part, name)] for name in PER_PHOTOGRAPH},
        attributes={name: [one for part in parts for one in part.attributes[name]] for name in parts[0].attributes},
    )


def verification_of_folds(
    folds: Sequence[Fold], pairs: Sequence[Pair], far: float, seed: int, draw: Figures | None = None
) -> dict:
    """Accuracy of every fold at the threshold of its validation fold, and all its scores on one curve.

    Args:
        pairs: the publisher's; without any, pairs are generated among the people of each fold.

    Returns:
        "mean" and "standard_error" over folds; "accuracy", over all pairs, with its interval over people; "folds":
        "fold", "accuracy", "threshold"; "curve" (`verification.curve`) of all scores together, which takes the scale of
        the ten networks' similarities for the same.
    """
    parts, rights, rows = [], [], []
    for fold in folds:
        chosen, judged = (_scored(part, pairs, seed) for part in (fold.chosen, fold.judged))
        threshold = best_threshold(chosen.scores, chosen.same)
        right = (judged.scores >= threshold) == judged.same
        rows.append({"fold": fold.number, "accuracy": rate(int(right.sum()), len(right)), "threshold": threshold})
        parts.append(judged)
        rights.append(right)
    scored = ScoredPairs(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(ScoredPairs)))
    right = np.concatenate(rights)
    if draw:
        draw("roc", {f"{len(folds)} folds": (scored.scores, scored.same)})
    return _mean([row["accuracy"]["value"] for row in rows]) | {
        "accuracy": share_of_pairs(right, np.ones_like(right), scored.first, scored.second, seed=seed),
        "folds": rows,
        "curve": curve(scored, (far,), seed),
    }


def expression_of_folds(
    folds: Sequence[Fold], seed: int, mapping: dict[str, str] | None = None, draw: Figures | None = None
) -> dict:
    """`expression_report` over all folds' photographs, with "folds", "mean" and "standard_error" of the accuracy."""
    rows = []
    for fold in folds:
        accuracy = expression_report(fold.judged, seed, mapping)["accuracy"]
        rows.append({"fold": fold.number, "accuracy": accuracy})
    whole = expression_report(pooled([fold.judged for fold in folds]), seed, mapping)
    if draw:
        draw("confusion", whole["confusion_matrix"], whole["classes"])
    return _mean([row["accuracy"]["value"] for row in rows]) | {"folds": rows, "report": whole}


def authentication_of_folds(folds: Sequence[Fold], far: float, required: Sequence[str], seed: int) -> dict:
    """Tables 7 and 8 over the trials of all folds, each decided at the thresholds `calibrate` chooses on its validation
    fold. "folds": "fold", "similarity_threshold", "expression_threshold"; "report": `holistic.trials_report`."""
    trials, decisions, unknown, rows, start = [], [], Counter(), [], 0
    for fold in folds:
        chosen = calibrate(
            fold.chosen,
            far=far,
            corpus="validation fold",
            required=required,
            expression_threshold=fold.checkpoint.model.config.expression_threshold,
            seen=fold.chosen.seen_splits(fold.checkpoint.trained_on),
            seed=seed,
        )
        thresholds = {name: chosen[name] for name in ("similarity_threshold", "expression_threshold")}
        own, left_out = build_trials(fold.judged, required, seed)
        decisions += judge(own, fold.judged, *thresholds.values())
        trials += [replace(trial, input=trial.input + start, reference=trial.reference + start) for trial in own]
        unknown.update(left_out)
        rows.append({"fold": fold.number} | thresholds)
        start += len(fold.judged)
    whole = pooled([fold.judged for fold in folds])
    return {"folds": rows, "report": trials_report(whole, trials, decisions, dict(unknown), required, seed)}


def folds_text(section: dict) -> str:
    """The section as a table for the terminal."""
    lines = [f"Folds {', '.join(section['splits'])} of {section['corpus']['name']}, each judged by its own network"]
    for name in ("verification", "expression"):
        if section[name] is not None:
            own = section[name]
            error = "" if own["standard_error"] is None else f" ± {own['standard_error']:.4f}"
            lines.append(f"  {name:<14} accuracy {own['mean']:.4f}{error} (standard error over folds)")
    lines += [f"  no {name}: {reason}" for name, reason in section["missing"].items()]
    parts = {"verification": "curve", "expression": "report", "authentication": "report"}
    shown = {name: section[name][part] for name, part in parts.items() if section[name] is not None}
    if "verification" in shown:
        lines += report.curve_lines(shown["verification"])
    if "expression" in shown:
        lines.append(report.expression_text(section | {"report": shown["expression"]}))
    if "authentication" in shown:
        lines.append(report.authentication_text(section | {"report": shown["authentication"]}))
    return "\n".join(lines)


def _scored(embeddings: Embeddings, pairs: Sequence[Pair], seed: int) -> ScoredPairs:
    own = [pair for pair in pairs if str(pair.fold) in set(embeddings.splits)]
    return score_pairs(own, embeddings) if own else generated_pairs(embeddings, seed)


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "standard_error": error}
