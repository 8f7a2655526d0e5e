"""Face verification: LFW's View 2 in ten folds, the identity-disjoint use of one fold, and generated pairs.

View 2 (Huang et al., UMass Amherst TR 07-49) chooses everything on nine folds and evaluates the tenth, ten times. Where
the network itself was trained on people of some folds, only the other folds have people it has never seen: the ten-fold
mean is then optimistic and is marked so. The single-fold protocol chooses the threshold on fold 9 and evaluates fold
10, once. `pairs` makes and scores the pairs, `corpus` runs this over a corpus.
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
from face_data.pairs import Pair, absent_text
from face_data.protocol import LFW, person_folds
from face_data.thresholds import best_threshold

[CHOOSE_FOLD], [REPORT_FOLD] = map(int, LFW.choices), map(int, LFW.test)  # pairs.csv has their numbers


@result
class SingleFold(Curve):
    """Fold 10, with thresholds chosen on fold 9; shipped_threshold is the checkpoint's calibrated one.

    far_threshold is None, with a reason, where fold 9 has too few impostor pairs for the requested FAR (CK+ has about
    98 in a fold, too few for 1 %).
    """

    best_accuracy_threshold: ThresholdResult
    far_threshold: ThresholdResult | None = None
    far_threshold_reason: str | None = None


@result
class FoldAccuracy:
    """trained_on: whether the network was trained on people of this fold; None where that is not recorded."""

    fold: int
    accuracy: Rate
    threshold: float
    trained_on: bool | None


@result
class TenFolds:
    """Mean accuracy over folds, each at the threshold that is best on all the others.

    standard_error: View 2's, over the folds. bootstrap: the interval of the mean over people, with fixed thresholds;
    None where all pairs or none are decided correctly. optimistic: whether any fold was trained on, None where that is
    not recorded. unseen_mean: over the folds that were not trained on.
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
    hard impostor pairs (`hard_pairs`) -> their curve. ten_folds_reason: why there are none although there are pairs."""

    ten_folds: TenFolds | None = None
    ten_folds_reason: str | None = None
    single_fold: SingleFold | None = None
    generated: Curve | None = None
    hard: dict[str, Curve] | None = None


@dataclass(frozen=True)
class Verification:
    """The result, and the scores behind its figures: title of a curve -> pairs."""

    result: VerificationResult
    curves: dict[str, ScoredPairs]


def evaluate_verification(
    embeddings: Embeddings,
    selected: Embeddings,
    pairs: Sequence[Pair],
    *,
    absent: Mapping[int, int],
    far: float,
    shipped_threshold: float | None,
    trained: frozenset[str] | None,
    seed: int,
) -> Verification:
    """Verification on the publisher's pairs and on generated ones, each where there are any.

    Args:
        embeddings: all images that `pairs` names. selected: those whose people make generated pairs.
        absent: fold of the publisher's that is not in `pairs` -> how many of its photographs the corpus lacks.
        far: false accept rate to report TAR and thresholds at.
        trained: the corpus's splits that the network was trained on; None where that is not recorded.

    Raises:
        InsufficientDataError: no protocol has all its photographs; names the folds that do.
    """
    parts, curves = {}, {}
    if absent:
        parts["ten_folds_reason"] = absent_text(absent, pairs)
    if pairs:
        scored = score_pairs(pairs, embeddings)
        if not absent:
            parts["ten_folds"] = ten_folds(scored, trained, seed)
        if not absent or {CHOOSE_FOLD, REPORT_FOLD} <= set(scored.folds.tolist()):
            parts["single_fold"] = single_fold(scored, far, shipped_threshold, seed)
            curves[f"fold {REPORT_FOLD}, pairs.csv"] = scored.where(scored.folds == REPORT_FOLD)
    if len({person for person in selected.identities if person is not None}) > 1:
        scored = generated_pairs(selected, seed)
        parts["generated"] = generated_curve(scored, far, shipped_threshold, seed)
        parts["hard"] = {
            kind: generated_curve(hard_pairs(selected, kind, seed), far, shipped_threshold, seed)
            for kind in hard_kinds(selected)
        }
        curves["generated pairs"] = scored
    if not curves:
        raise InsufficientDataError(parts.get("ten_folds_reason") or "it has no two people")
    return Verification(VerificationResult(**parts), curves)


@dataclass(frozen=True)
class OutOfFold:
    """accepted: (n,) decisions about pairs, each at a threshold chosen on pairs of other people. thresholds: fold (for
    a pair across two folds, both) -> threshold. method: whose pairs the thresholds were chosen on, in words."""

    accepted: np.ndarray
    thresholds: dict[tuple[int, int], float]
    method: str


def decide_out_of_fold(scored: ScoredPairs) -> OutOfFold:
    """Decide every pair at the threshold of highest accuracy on pairs of other people.

    Where the pairs are of several folds, which share no people, these are the pairs of the other folds (View 2). Where
    they are of one fold, its people are dealt into ten, and a pair of two people of different tenths is decided by the
    pairs among the other eight.

    Raises:
        ValueError: too few people to leave any out.
    """
    people = np.union1d(scored.first, scored.second).tolist()
    if len(np.unique(scored.folds)) > 1:
        first = second = scored.folds
        method = "pairs of the other folds"
    else:
        tenth = person_folds(people)
        first, second = (np.array([int(tenth[person]) for person in side]) for side in (scored.first, scored.second))
        method = "pairs of the other people, dealt into ten"
    accepted, thresholds = np.zeros(len(scored), dtype=bool), {}
    for low, high in np.unique(np.sort(np.stack([first, second], 1), 1), axis=0).tolist():
        held_out = (np.minimum(first, second) == low) & (np.maximum(first, second) == high)
        others = scored.where(~np.isin(first, (low, high)) & ~np.isin(second, (low, high)))
        if others.same.all() or not others.same.any():
            raise ValueError(
                f"{len(people)} people are too few to choose a threshold on other people than it is used for"
            )
        # Leaving people out removes more impostor pairs, which have two people, than genuine ones, which have one.
        threshold = best_threshold(others.scores, others.same, scored.same.mean())
        accepted[held_out] = scored.scores[held_out] >= threshold
        thresholds[low, high] = threshold
    return OutOfFold(accepted, thresholds, method)


def ten_folds(scored: ScoredPairs, trained: frozenset[str] | None, seed: int = 0) -> TenFolds:
    """View 2: every fold at the threshold of the others.

    Args:
        trained: the corpus's splits that the network was trained on; None where that is not recorded.

    Raises:
        ValueError: all pairs are of one fold, so that there is no other to choose its threshold on.
    """
    names, fold_of = np.unique(scored.folds, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"the pairs have one fold only, {names[0]}: a threshold is chosen on the other folds")
    decided = decide_out_of_fold(scored)
    correct = decided.accepted == scored.same
    folds = []
    for place, fold in enumerate(names.tolist()):
        inside = fold_of == place
        folds.append(
            FoldAccuracy(
                fold=fold,
                accuracy=rate(int(correct[inside].sum()), int(inside.sum())),
                threshold=decided.thresholds[fold, fold],
                # By the splits of the images, not by the number of the fold: some publishers' folds are unrelated.
                trained_on=None if trained is None else bool(np.isin(scored.splits[inside], list(trained)).any()),
            )
        )

    def mean_accuracy(weights: np.ndarray) -> float:
        drawn, hits = (np.bincount(fold_of, weights * counted) for counted in (1, correct))
        return float(np.mean(hits[drawn > 0] / drawn[drawn > 0])) if drawn.any() else float("nan")

    values = np.array([fold.accuracy.value for fold in folds])
    unseen = [fold.accuracy.value for fold in folds if fold.trained_on is False]
    mixed = correct.any() and not correct.all()
    return TenFolds(
        mean=float(values.mean()),
        standard_error=float(values.std(ddof=1) / np.sqrt(len(values))),
        bootstrap=identity_bootstrap(mean_accuracy, scored.first, scored.second, seed=seed) if mixed else None,
        pairs=len(scored),
        missing_pairs=int(scored.missing.sum()),
        optimistic=None if trained is None else any(fold.trained_on for fold in folds),
        unseen_mean=float(np.mean(unseen)) if unseen else None,
        folds=folds,
    )


def single_fold(scored: ScoredPairs, far: float, shipped_threshold: float | None, seed: int) -> SingleFold:
    """Fold 10 with thresholds chosen on fold 9.

    Raises:
        ValueError: the pairs have no fold 9 or 10.
    """
    choice_pairs, report_pairs = (scored.where(scored.folds == fold) for fold in (CHOOSE_FOLD, REPORT_FOLD))
    if not len(choice_pairs) or not len(report_pairs):
        raise ValueError(f"the pairs have no fold {CHOOSE_FOLD} or {REPORT_FOLD}; they have {np.unique(scored.folds)}")
    best = best_threshold(choice_pairs.scores, choice_pairs.same)
    points = {"best_accuracy_threshold": at_threshold(report_pairs, best, seed)}
    try:
        chosen = threshold_at_far(choice_pairs.scores, choice_pairs.same, far)
    except ValueError as error:
        points["far_threshold_reason"] = f"fold {CHOOSE_FOLD}: {error}"
    else:
        points["far_threshold"] = at_threshold(report_pairs, chosen, seed)
    if shipped_threshold is not None:
        points["shipped_threshold"] = at_threshold(report_pairs, shipped_threshold, seed)
    return SingleFold(**_fields(curve(report_pairs, (far,), seed)) | points)


def generated_curve(scored: ScoredPairs, far: float, shipped_threshold: float | None, seed: int) -> Curve:
    """The curve of generated pairs: there are enough impostor pairs for a tenth of the FAR, too."""
    whole = curve(scored, (far, far / 10), seed)
    if shipped_threshold is None:
        return whole
    return replace(whole, shipped_threshold=replace(at_threshold(scored, shipped_threshold, seed), accuracy=None))


def _fields(curve: Curve) -> dict:
    return {name: getattr(curve, name) for name in Curve.__dataclass_fields__}
