"""Tests of whether two models differ. Both were evaluated on the same cases, so the cases are paired.

`models` uses these tests for every row of a comparison. Read `models` next.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binomtest

from evaluation.statistics.intervals import RESAMPLES, identity_weights, interval
from evaluation.statistics.rates import Count, Share, result


@result
class Difference:
    """The difference to the reference, with its 95 % interval and its two-sided p from draws of the same people.

    p_holm: p corrected over the rows of a column. resamples: number of draws in which the metric is defined; if none,
    low and high are None and p is 1. by_seed: differences of networks with the same seed; None for a seed that the
    reference does not have.
    """

    difference: float
    low: float | None
    high: float | None
    p: Share
    p_holm: Share | None = None
    resamples: Count
    by_seed: list[float | None] | None = None


@result
class McNemar:
    """only_this, only_reference: cases in which only this model, or only the reference, was correct. p is two-sided."""

    only_this: Count
    only_reference: Count
    p: Share
    p_holm: Share | None = None


def paired_bootstrap(
    statistics: Sequence[Callable[[np.ndarray], np.ndarray]],
    first: Sequence[str],
    second: Sequence[str],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """k statistics of m numbers, computed on the same drawn people: (resamples, k, m).

    People are drawn as by `identity_bootstrap`. All statistics share the draws, so the choice of people cancels out in
    their differences.
    """
    draws = identity_weights(first, second, seed=seed, resamples=resamples)
    return np.array([[statistic(weights) for statistic in statistics] for weights in draws])


def bootstrap_difference(
    value: float, reference: float, draws: np.ndarray, reference_draws: np.ndarray, by_seed: list | None = None
) -> Difference:
    """The difference with its interval and p, from both models' draws (both (r,)).

    p is twice the smaller share of draws on one side of zero, with one draw added to each side (Davison and Hinkley
    1997, section 4.2.2). So p is never 0; the smallest possible p is 2 / (r + 1).
    """
    differences = draws - reference_draws
    differences = differences[~np.isnan(differences)]
    low, high = interval(differences) or (None, None)
    tail = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    p = min(1.0, 2 * (tail + 1) / (len(differences) + 1))
    return Difference(
        difference=value - reference, low=low, high=high, p=p, resamples=len(differences), by_seed=by_seed
    )


def mcnemar(correct, reference_correct) -> McNemar:
    """McNemar's exact test (Psychometrika 1947): tests whether two classifiers are equally often correct on n cases.

    Only the cases on which they disagree count; if both are equally good, either is correct with probability 1/2. The
    test assumes independent cases. Pairs that share a person are not, and p is then too small.

    Args:
        correct, reference_correct: (n,) bool.
    """
    correct, reference_correct = np.asarray(correct, dtype=bool), np.asarray(reference_correct, dtype=bool)
    if correct.shape != reference_correct.shape:
        raise ValueError(f"{correct.shape} and {reference_correct.shape} decisions: not the same number of cases")
    this_alone, reference_alone = int((correct & ~reference_correct).sum()), int((reference_correct & ~correct).sum())
    p = float(binomtest(this_alone, this_alone + reference_alone).pvalue) if this_alone + reference_alone else 1.0
    return McNemar(only_this=this_alone, only_reference=reference_alone, p=p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (Scandinavian Journal of Statistics 1979) of p-values that belong together.

    If corrected values below 0.05 are called significant, the probability of any false finding is below 0.05.
    """
    corrected, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, (len(p_values) - rank) * p_values[index])
        corrected[index] = min(1.0, float(highest))
    return corrected
