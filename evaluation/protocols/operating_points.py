"""The ROC curve of scored pairs, and the rates at a threshold, with counts and intervals over people.

`verification`, `slices`, `folds` and the calibration report them. Read `statistics.curves` next.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from evaluation.protocols.pairs import ScoredPairs
from evaluation.statistics.curves import TarAtFar, WeightedRoc, roc, tar_at_far
from evaluation.statistics.intervals import identity_weights, interval, rate_over_people
from evaluation.statistics.rates import Count, Interval, Rate, Share, result

FARS = (1e-1, 1e-2, 1e-3, 1e-4)  # at which TAR is always reported; the last needs 10,000 impostor pairs


@result
class ThresholdResult:
    """Accuracy, FAR and FRR at a threshold that was chosen on other pairs. Generated pairs have no accuracy, because
    impostor pairs are ten times more numerous and would dominate it."""

    threshold: float
    accuracy: Rate | None = None
    far: Rate
    frr: Rate


@result
class Curve:
    """The figures without a chosen threshold: counts of pairs and people, AUC and EER with intervals over people, and
    TAR at several FARs. An interval is None if the number is 0 or 1, because then every draw gives that number."""

    genuine_pairs: Count
    impostor_pairs: Count
    missing_pairs: Count
    people: Count
    auc: Share
    auc_interval: Interval | None
    eer: Share
    eer_interval: Interval | None
    tar_at_far: list[TarAtFar]
    shipped_threshold: ThresholdResult | None = None


def curve(scored: ScoredPairs, fars: Sequence[float], seed: int) -> Curve:
    """AUC, EER and TAR at the requested FARs, then at the other FARs of FARS."""
    unweighted = roc(scored.scores, scored.same)
    fars = [*fars, *(far for far in FARS if not np.isclose(far, fars).any())]
    weighted = WeightedRoc(scored.scores, scored.same)
    draws = np.array([weighted(weights, fars) for weights in identity_weights(scored.first, scored.second, seed=seed)])
    tars = []
    for far, values in zip(fars, draws.T[2:], strict=True):
        tar = tar_at_far(scored.scores, scored.same, far)
        tars.append(tar if tar.value is None else replace(tar, bootstrap=interval(values)))
    return Curve(
        genuine_pairs=int(scored.same.sum()),
        impostor_pairs=int((~scored.same).sum()),
        missing_pairs=int(scored.missing.sum()),
        people=len(np.union1d(scored.first, scored.second)),
        auc=unweighted.auc,
        auc_interval=interval(draws[:, 0]) if 0 < unweighted.auc < 1 else None,
        eer=unweighted.eer,
        eer_interval=interval(draws[:, 1]) if 0 < unweighted.eer < 1 else None,
        tar_at_far=tars,
    )


def at_threshold(scored: ScoredPairs, threshold: float, seed: int) -> ThresholdResult:
    """Accuracy, FAR and FRR at a threshold, with intervals over people."""
    accepted, same = scored.scores >= threshold, scored.same
    cases = {
        "accuracy": (accepted == same, np.ones_like(same)),
        "far": (accepted, ~same),
        "frr": (~accepted, same),
    }
    rates = {
        name: rate_over_people(hits, is_counted, scored.first, scored.second, seed=seed)
        for name, (hits, is_counted) in cases.items()
    }
    return ThresholdResult(threshold=threshold, **rates)
