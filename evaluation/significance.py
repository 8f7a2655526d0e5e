"""Are two networks different, or were they lucky? Both were asked about the same cases, so the cases are paired."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binomtest

from evaluation.metrics import RESAMPLES, identity_weights, interval


def paired_bootstrap(
    statistics: Sequence[Callable[[np.ndarray], np.ndarray]],
    first: Sequence[str],
    second: Sequence[str],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """What k statistics of m numbers say of the same drawn people: (resamples, k, m); the people as drawn by
    `identity_bootstrap`, so that a difference between two of them holds nothing of who happened to be drawn."""
    drawn = identity_weights(first, second, seed=seed, resamples=resamples)
    return np.array([[statistic(weights) for statistic in statistics] for weights in drawn])


def bootstrap_difference(value: float, reference: float, draws: np.ndarray, reference_draws: np.ndarray) -> dict:
    """value - reference with its 95 % interval and two-sided p over the same drawn people (both (r,)).

    p is twice the smaller share of draws on one side of no difference, each side with one draw more (Davison and
    Hinkley 1997, section 4.2.2): it never is 0, and at best 2 / (r + 1).

    Returns:
        "difference", "low", "high", "p" and "resamples" (the draws that held what is measured). Where there is none,
        low and high are None and p is 1.
    """
    differences = draws - reference_draws
    differences = differences[~np.isnan(differences)]
    low, high = interval(differences) or (None, None)
    tail = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    p = min(1.0, 2 * (tail + 1) / (len(differences) + 1))
    return {"difference": value - reference, "low": low, "high": high, "p": p, "resamples": len(differences)}


def mcnemar(right, reference_right) -> dict:
    """McNemar's exact test (Psychometrika 1947): are two classifiers equally often right on the same n cases?

    Only the cases on which they disagree tell; if both are equally good, each of them falls either way with chance 1/2.
    The test takes the cases for independent. Pairs that share a person are not, and its p is then too small.

    Args:
        right, reference_right: (n,) bool.

    Returns:
        "only_this" and "only_reference": how often one alone was right; "p", two-sided.
    """
    right, reference_right = np.asarray(right, dtype=bool), np.asarray(reference_right, dtype=bool)
    if right.shape != reference_right.shape:
        raise ValueError(f"{right.shape} and {reference_right.shape} decisions are not about the same cases")
    this, other = int((right & ~reference_right).sum()), int((reference_right & ~right).sum())
    p = float(binomtest(this, this + other).pvalue) if this + other else 1.0
    return {"only_this": this, "only_reference": other, "p": p}


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (Scandinavian Journal of Statistics 1979) of p-values that were looked at together.

    Where only those below 0.05 are believed, the chance of believing any wrongly stays below 0.05.
    """
    corrected, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, (len(p_values) - rank) * p_values[index])
        corrected[index] = min(1.0, float(highest))
    return corrected
