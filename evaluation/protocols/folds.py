"""Ten networks, each evaluated on the fold of people that it was not trained on: Tables 3 and 4 (CK+, Oulu-CASIA).

    accelerate launch -m train --config train/presets/paper_dynamic.yaml --train corpora/ckplus --fold all
    python -m evaluation folds --model runs/paper_dynamic --data corpora/ckplus

The thresholds of each network are chosen on its validation fold and applied to its test fold. Images of different
folds are never compared, because their embeddings are from different networks. `command` calls `load_folds` and then
`evaluate_folds`.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from addresses import local_copy
from checkpoints import Checkpoint, load_checkpoint
from evaluation.calibration import calibrate
from evaluation.embeddings.compute import BATCH_SIZE, embed_checkpoint
from evaluation.embeddings.table import Embeddings, concatenate, training_warning
from evaluation.protocols.corpus import circumstances, corpus_record
from evaluation.protocols.decisions import DecisionsReport, build_trials, decide_trials, trials_report
from evaluation.protocols.expression import ExpressionReport, class_mapping, expression_report
from evaluation.protocols.operating_points import Curve, curve
from evaluation.protocols.pairs import ScoredPairs, concatenate_pairs, generated_pairs, score_pairs
from evaluation.protocols.sections import Section
from evaluation.statistics.intervals import rate_over_people
from evaluation.statistics.rates import InsufficientDataError, Rate, Share, rate, result
from evaluation.training_record import summarise_training
from face_data.pairs import Pair, missing_text, pairs_of_complete_folds, read_pairs
from face_data.protocol import fold_protocol
from face_data.table import load_corpus
from face_data.thresholds import best_threshold


@dataclass(frozen=True)
class Fold:
    """One of the ten: its number, its network, and the network's output for the validation fold and the test fold."""

    number: int
    checkpoint: Checkpoint
    validation: Embeddings
    test: Embeddings


@result
class FoldRow:
    """Accuracy of one fold; threshold only for verification."""

    fold: int
    accuracy: Rate
    threshold: float | None = None


@result
class VerificationFolds:
    """mean, standard_error: over folds. accuracy: over all pairs, with its interval over people. curve: of all scores
    together, which assumes that the similarities of the ten networks have the same scale."""

    mean: Share
    standard_error: float | None
    accuracy: Rate
    folds: list[FoldRow]
    curve: Curve


@result
class ExpressionFolds:
    """mean, standard_error: of the accuracy over folds. report: over the images of all folds."""

    mean: Share
    standard_error: float | None
    folds: list[FoldRow]
    report: ExpressionReport


@result
class FoldThresholds:
    """The thresholds calibrated on a validation fold."""

    fold: int
    similarity_threshold: float
    expression_threshold: float


@result
class DecisionFolds:
    """report: Tables 7 and 8 over the trials of all folds, each decided at its fold's thresholds."""

    folds: list[FoldThresholds]
    report: DecisionsReport


@result
class FoldsSection(Section):
    """A part is None if the corpus or the networks do not allow it; the reason is in `missing`."""

    verification: VerificationFolds | None
    expression: ExpressionFolds | None
    authentication: DecisionFolds | None
    missing: dict[str, str]


@dataclass(frozen=True)
class EvaluatedFolds:
    """A section, the joint checksum of the networks, and the pairs of all folds for the figures."""

    name: str
    sha256: str
    section: FoldsSection
    scored: ScoredPairs | None


def load_folds(
    run: str | Path, data: str, *, device: str, batch_size: int = BATCH_SIZE, cache: Path | None = None
) -> list[Fold]:
    """Load the networks of a `--fold all` run and embed the validation and the test fold of each.

    Raises:
        FileNotFoundError: no such run.
    """
    folds = []
    for number, folder in fold_models(run).items():
        checkpoint = load_checkpoint(folder, device)
        protocol = fold_protocol(number)
        splits_of_parts = protocol.validation, protocol.test
        outputs = [
            embed_checkpoint(checkpoint, load_corpus(data, splits), batch_size, cache) for splits in splits_of_parts
        ]
        folds.append(Fold(number, checkpoint, *outputs))
    return folds


def evaluate_folds(
    folds: Sequence[Fold],
    data: str,
    *,
    far: float,
    seed: int,
    classes: Sequence[str] = (),
    required: Sequence[str] = (),
) -> EvaluatedFolds:
    """Every protocol over all folds.

    Args:
        classes: see `class_mapping`; empty takes the model's classes. required: expressions to request; empty takes the
            checkpoint's.
    """
    first_checkpoint = folds[0].checkpoint
    mapping = class_mapping(classes, folds[0].test.classes) if classes else None
    required = list(required or first_checkpoint.network.config.challenge_expressions)
    keys = [key for fold in folds for key in fold.test.keys]
    tested_splits = {split for fold in folds for split in fold.test.splits}
    published_pairs = [pair for pair in read_pairs(data, missing_ok=True) if str(pair.fold) in tested_splits]
    pairs, absent_photographs = pairs_of_complete_folds(published_pairs, data, keys)
    scored = []
    evaluations = {
        "verification": lambda: verification_over_folds(folds, pairs, far, seed, scored),
        "expression": lambda: expression_over_folds(folds, seed, mapping),
        "authentication": lambda: decisions_over_folds(folds, far, required, seed),
    }
    results, missing = {}, {}
    tasks = summarise_training(first_checkpoint.training).tasks
    for name, evaluate in evaluations.items():
        try:
            if len(tasks) == 1 and name != tasks[0]:
                raise InsufficientDataError(f"the networks were trained for {tasks[0]} alone")
            if name == "verification" and absent_photographs:
                raise InsufficientDataError(missing_text(absent_photographs, pairs))
            results[name] = evaluate()
        except InsufficientDataError as error:  # a corpus without identities, or without expressions
            results[name], missing[name] = None, str(error)
    record = corpus_record(data)
    section = FoldsSection(
        **circumstances(first_checkpoint, record, [str(fold.number) for fold in folds], seed),
        train_splits=None,  # it differs from network to network
        warnings=_warnings(folds),
        **results,
        missing=missing,
    )
    joint_checksum = hashlib.sha256("".join(fold.checkpoint.sha256 for fold in folds).encode()).hexdigest()
    return EvaluatedFolds(record.name, joint_checksum, section, scored[0] if scored else None)


def fold_models(run: str | Path) -> dict[int, Path]:
    """Number of fold -> folder of the model chosen on its validation fold, of a `--fold all` run.

    Raises:
        FileNotFoundError: no such run, or a fold whose training has not ended.
    """
    folders = {int(path.name.removeprefix("fold-")): path / "best" for path in sorted(local_copy(run).glob("fold-*"))}
    if not folders:
        raise FileNotFoundError(
            f"{run}: has no folders fold-01, fold-02 …; name the --out folder of a training with --fold all"
        )
    for folder in folders.values():
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing: the training of this fold has not ended")
    return folders


def verification_over_folds(
    folds: Sequence[Fold], pairs: Sequence[Pair], far: float, seed: int, scored: list[ScoredPairs] | None = None
) -> VerificationFolds:
    """Accuracy of every fold at the threshold of its validation fold, and all scores on one curve.

    Args:
        pairs: the publisher's; if there are none, pairs are generated among the people of each fold.
        scored: a list to which the pairs of all folds are appended, for a figure.
    """
    test_pairs, correct, rows = [], [], []
    for fold in folds:
        validation, test = (_scored(embeddings, pairs, seed) for embeddings in (fold.validation, fold.test))
        threshold = best_threshold(validation.scores, validation.same)
        is_correct = (test.scores >= threshold) == test.same
        rows.append(
            FoldRow(fold=fold.number, accuracy=rate(int(is_correct.sum()), len(is_correct)), threshold=threshold)
        )
        test_pairs.append(test)
        correct.append(is_correct)
    all_pairs, all_correct = concatenate_pairs(test_pairs), np.concatenate(correct)
    if scored is not None:
        scored.append(all_pairs)
    return VerificationFolds(
        **_mean(rows),
        accuracy=rate_over_people(all_correct, np.ones_like(all_correct), all_pairs.first, all_pairs.second, seed=seed),
        folds=rows,
        curve=curve(all_pairs, (far,), seed),
    )


def expression_over_folds(folds: Sequence[Fold], seed: int, mapping: dict[str, str] | None = None) -> ExpressionFolds:
    """`expression_report` over all folds' images, with the accuracy of each fold."""
    rows = [FoldRow(fold=fold.number, accuracy=expression_report(fold.test, seed, mapping).accuracy) for fold in folds]
    report = expression_report(concatenate([fold.test for fold in folds]), seed, mapping)
    return ExpressionFolds(**_mean(rows), folds=rows, report=report)


def decisions_over_folds(folds: Sequence[Fold], far: float, required: Sequence[str], seed: int) -> DecisionFolds:
    """Tables 7 and 8 over the trials of all folds, at the thresholds that `calibrate` chooses on validation folds."""
    trials, decisions, unknown_labels, rows, first_row = [], [], Counter(), [], 0
    for fold in folds:
        chosen = calibrate(
            {"validation fold": fold.validation},
            far=far,
            required=required,
            expression_threshold=fold.checkpoint.network.config.expression_threshold,
            trained_on=fold.checkpoint.trained_on,
            seed=seed,
        )
        thresholds = FoldThresholds(
            fold=fold.number,
            similarity_threshold=chosen.similarity_threshold,
            expression_threshold=chosen.expression_threshold,
        )
        fold_trials, fold_unknown_labels = build_trials(fold.test, required, seed)
        decisions += decide_trials(
            fold_trials, fold.test, thresholds.similarity_threshold, thresholds.expression_threshold
        )
        trials += [
            replace(trial, input=trial.input + first_row, reference=trial.reference + first_row)
            for trial in fold_trials
        ]
        unknown_labels.update(fold_unknown_labels)
        rows.append(thresholds)
        first_row += len(fold.test)
    all_embeddings = concatenate([fold.test for fold in folds])
    report = trials_report(all_embeddings, trials, decisions, dict(unknown_labels), required, seed)
    return DecisionFolds(folds=rows, report=report)


def _scored(embeddings: Embeddings, pairs: Sequence[Pair], seed: int) -> ScoredPairs:
    published_pairs = [pair for pair in pairs if str(pair.fold) in set(embeddings.splits)]
    return score_pairs(published_pairs, embeddings) if published_pairs else generated_pairs(embeddings, seed)


def _mean(rows: Sequence[FoldRow]) -> dict[str, float | None]:
    values = [row.accuracy.value for row in rows]
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "standard_error": error}


def _warnings(folds: Sequence[Fold]) -> list[str]:
    """The networks that were, or may have been, trained on the people on whom they are evaluated."""
    warnings_by_fold = {
        fold.number: training_warning(fold.test.trained_splits(fold.checkpoint.trained_on), fold.test.splits)
        for fold in folds
    }
    return [f"fold {number}: {warning}" for number, warning in warnings_by_fold.items() if warning]
