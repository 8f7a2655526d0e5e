"""Face verification: LFW's View 2 in ten folds, a single fold with separate people, and generated pairs.

View 2 (Huang et al., UMass Amherst TR 07-49) chooses the threshold on nine folds and evaluates the tenth, ten times. If
the network was trained on people of some folds, the ten-fold mean is optimistic and is marked so. The single-fold
protocol chooses thresholds on fold 9 and evaluates fold 10, once. `corpus` calls `evaluate_verification`. Read `pairs`
next, which makes and scores the pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation.embeddings.table import Embeddings
from evaluation.protocols.hard_pairs import hard_kinds, hard_pairs
from evaluation.protocols.operating_points import Curve, ThresholdResult, at_threshold, curve
from evaluation.protocols.pairs import ScoredPairs, generated_pairs, score_pairs
from evaluation.statistics.curves import threshold_at_far
from evaluation.statistics.intervals import identity_bootstrap
from evaluation.statistics.rates import Count, InsufficientDataError, Interval, Rate, Share, rate, result
from face_data.pairs import Pair, missing_text
from face_data.protocol import LFW, person_folds
from face_data.thresholds import best_threshold

[CHOICE_FOLD], [REPORT_FOLD] = map(int, LFW.validation), map(int, LFW.test)  # pairs.csv has their numbers


@result
class SingleFold(Curve):
    """Fold 10, with thresholds chosen on fold 9; shipped_threshold is the checkpoint's calibrated one.

    far_threshold is None, with a reason, if fold 9 has too few impostor pairs for the requested FAR (CK+ has about 98
    in a fold, too few for 1 %).
    """

    best_accuracy_threshold: ThresholdResult
    far_threshold: ThresholdResult | None = None
    far_threshold_reason: str | None = None


@result
class FoldAccuracy:
    """trained_on: whether the network was trained on people of this fold; None if that is not recorded."""

    fold: int
    accuracy: Rate
    threshold: float
    trained_on: bool | None


@result
class TenFolds:
    """Mean accuracy over folds, each at the threshold that is best on the other folds.

    standard_error: over the folds, as in View 2. bootstrap: the interval of the mean over people, with fixed
    thresholds; None if all pairs or no pairs are decided correctly. optimistic: whether the network was trained on any
    fold; None if that is not recorded. unseen_mean: over the folds on which it was not trained.
    """

    mean: Share
    standard_error: float
    bootstrap: Interval | None
    pairs: Count
    missing_pairs: Count
    optimistic: bool | None
    unseen_mean: Share | None
    folds: list[FoldAccuracy]


@result
class VerificationResult:
    """ten_folds, single_fold: of the publisher's pairs. generated: of the people of the evaluated splits. hard: kind of
    hard impostor pairs (`hard_pairs`) -> their curve. ten_folds_reason: why it is None although there are pairs."""

    ten_folds: TenFolds | None = None
    ten_folds_reason: str | None = None
    single_fold: SingleFold | None = None
    generated: Curve | None = None
    hard: dict[str, Curve] | None = None


@dataclass(frozen=True)
class Verification:
    """The result, and the pairs for the figures: title of a curve -> pairs."""

    result: VerificationResult
    curves: dict[str, ScoredPairs]


def evaluate_verification(
    embeddings: Embeddings,
    selected: Embeddings,
    pairs: Sequence[Pair],
    *,
    absent_photographs: Mapping[int, int],
    far: float,
    shipped_threshold: float | None,
    trained: frozenset[str] | None,
    seed: int,
) -> Verification:
    """Verification on the publisher's pairs and on generated ones, as far as they exist.

    Args:
        embeddings: all images that `pairs` names. selected: the images of which pairs are generated.
        absent_photographs: publisher's fold that is not in `pairs` -> number of its photographs that the corpus lacks.
        far: false accept rate for TAR and thresholds.
        trained: the corpus's splits on which the network was trained; None if that is not recorded.

    Raises:
        InsufficientDataError: photographs are missing for every protocol; the message names the complete folds.
    """
    results, curves = {}, {}
    if absent_photographs:
        results["ten_folds_reason"] = missing_text(absent_photographs, pairs)
    if pairs:
        scored = score_pairs(pairs, embeddings)
        if not absent_photographs:
            results["ten_folds"] = ten_folds(scored, trained, seed)
        if not absent_photographs or {CHOICE_FOLD, REPORT_FOLD} <= set(scored.folds.tolist()):
            results["single_fold"] = single_fold(scored, far, shipped_threshold, seed)
            curves[f"fold {REPORT_FOLD}, pairs.csv"] = scored.select(scored.folds == REPORT_FOLD)
    if len({person for person in selected.identities if person is not None}) > 1:
        scored = generated_pairs(selected, seed)
        results["generated"] = generated_curve(scored, far, shipped_threshold, seed)
        results["hard"] = {
            kind: generated_curve(hard_pairs(selected, kind, seed), far, shipped_threshold, seed)
            for kind in hard_kinds(selected)
        }
        curves["generated pairs"] = scored
    if not curves:
        raise InsufficientDataError(results.get("ten_folds_reason") or "it has no two people")
    return Verification(VerificationResult(**results), curves)


@dataclass(frozen=True)
class OutOfFold:
    """accepted: (n,) decisions about pairs, each at a threshold chosen on pairs of other people. thresholds: (fold of
    the first image, fold of the second) -> threshold. method: the pairs on which thresholds were chosen, in words."""

    accepted: np.ndarray
    thresholds: dict[tuple[int, int], float]
    method: str


def decide_out_of_fold(scored: ScoredPairs) -> OutOfFold:
    """Decide every pair at the threshold with the highest accuracy on pairs of other people.

    If the pairs have several folds, which share no people, the threshold is chosen on the other folds (View 2). If they
    have one fold, its people are divided into ten groups. A pair of people of two groups is then decided at a threshold
    chosen on the pairs among the other eight groups.

    Raises:
        ValueError: there are too few people.
    """
    people = np.union1d(scored.first, scored.second).tolist()
    if len(np.unique(scored.folds)) > 1:
        first = second = scored.folds
        method = "pairs of the other folds"
    else:
        tenth = person_folds(people)
        first, second = (np.array([int(tenth[person]) for person in side]) for side in (scored.first, scored.second))
        method = "pairs of the other people, in ten groups"
    accepted, thresholds = np.zeros(len(scored), dtype=bool), {}
    for low, high in np.unique(np.sort(np.stack([first, second], 1), 1), axis=0).tolist():
        held_out = (np.minimum(first, second) == low) & (np.maximum(first, second) == high)
        other_pairs = scored.select(~np.isin(first, (low, high)) & ~np.isin(second, (low, high)))
        if other_pairs.same.all() or not other_pairs.same.any():
            raise ValueError(
                f"{len(people)} people are too few: a threshold must be chosen on other people than those it decides"
            )
        # Leaving out people removes more impostor pairs (of two people) than genuine pairs (of one).
        threshold = best_threshold(other_pairs.scores, other_pairs.same, scored.same.mean())
        accepted[held_out] = scored.scores[held_out] >= threshold
        thresholds[low, high] = threshold
    return OutOfFold(accepted, thresholds, method)


def ten_folds(scored: ScoredPairs, trained: frozenset[str] | None, seed: int = 0) -> TenFolds:
    """View 2: every fold at the threshold that is chosen on the others.

    Args:
        trained: the corpus's splits on which the network was trained; None if that is not recorded.

    Raises:
        ValueError: all pairs are of one fold.
    """
    names, fold_index = np.unique(scored.folds, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"the pairs have one fold only, {names[0]}: a threshold is chosen on the other folds")
    decided = decide_out_of_fold(scored)
    correct = decided.accepted == scored.same
    folds = []
    for index, fold in enumerate(names.tolist()):
        inside = fold_index == index
        folds.append(
            FoldAccuracy(
                fold=fold,
                accuracy=rate(int(correct[inside].sum()), int(inside.sum())),
                threshold=decided.thresholds[fold, fold],
                # By the splits of the images, because some publishers' folds are not those of the corpus.
                trained_on=None if trained is None else bool(np.isin(scored.splits[inside], list(trained)).any()),
            )
        )

    def mean_accuracy(weights: np.ndarray) -> float:
        pairs_per_fold, correct_per_fold = (np.bincount(fold_index, weights * counted) for counted in (1, correct))
        has_pairs = pairs_per_fold > 0
        if not has_pairs.any():
            return float("nan")
        return float(np.mean(correct_per_fold[has_pairs] / pairs_per_fold[has_pairs]))

    accuracies = np.array([fold.accuracy.value for fold in folds])
    unseen_accuracies = [fold.accuracy.value for fold in folds if fold.trained_on is False]
    has_interval = correct.any() and not correct.all()
    return TenFolds(
        mean=float(accuracies.mean()),
        standard_error=float(accuracies.std(ddof=1) / np.sqrt(len(accuracies))),
        bootstrap=identity_bootstrap(mean_accuracy, scored.first, scored.second, seed=seed) if has_interval else None,
        pairs=len(scored),
        missing_pairs=int(scored.missing.sum()),
        optimistic=None if trained is None else any(fold.trained_on for fold in folds),
        unseen_mean=float(np.mean(unseen_accuracies)) if unseen_accuracies else None,
        folds=folds,
    )


def single_fold(scored: ScoredPairs, far: float, shipped_threshold: float | None, seed: int) -> SingleFold:
    """Fold 10 with thresholds chosen on fold 9.

    Raises:
        ValueError: the pairs have no fold 9 or 10.
    """
    choice_pairs, report_pairs = (scored.select(scored.folds == fold) for fold in (CHOICE_FOLD, REPORT_FOLD))
    if not len(choice_pairs) or not len(report_pairs):
        raise ValueError(f"the pairs have no fold {CHOICE_FOLD} or {REPORT_FOLD}; they have {np.unique(scored.folds)}")
    best = best_threshold(choice_pairs.scores, choice_pairs.same)
    results = {"best_accuracy_threshold": at_threshold(report_pairs, best, seed)}
    try:
        threshold = threshold_at_far(choice_pairs.scores, choice_pairs.same, far)
    except ValueError as error:
        results["far_threshold_reason"] = f"fold {CHOICE_FOLD}: {error}"
    else:
        results["far_threshold"] = at_threshold(report_pairs, threshold, seed)
    if shipped_threshold is not None:
        results["shipped_threshold"] = at_threshold(report_pairs, shipped_threshold, seed)
    return SingleFold(**_fields(curve(report_pairs, (far,), seed)) | results)


def generated_curve(scored: ScoredPairs, far: float, shipped_threshold: float | None, seed: int) -> Curve:
    """The curve of generated pairs, which are enough to report TAR at a tenth of the FAR as well."""
    generated = curve(scored, (far, far / 10), seed)
    if shipped_threshold is None:
        return generated
    return replace(generated, shipped_threshold=replace(at_threshold(scored, shipped_threshold, seed), accuracy=None))


def _fields(curve: Curve) -> dict:
    return {name: getattr(curve, name) for name in Curve.__dataclass_fields__}
