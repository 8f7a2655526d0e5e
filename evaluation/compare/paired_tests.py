"""Do two models differ, or is it chance? Both were evaluated on the same cases, so the cases are paired.

`models` uses these tests for every row of a comparison.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binomtest

from evaluation.statistics.intervals import RESAMPLES, identity_weights, interval
from evaluation.statistics.rates import Count, Share, result


@result
class Difference:
    """value - reference with its 95 % interval and two-sided p over the same drawn people; p_holm is corrected over the
    rows of a column. resamples: the draws that contained what is measured; where there is none, low and high are None
    and p is 1. by_seed: differences between networks of the same seed, None for a seed the reference does not have."""

    difference: float
    low: float | None
    high: float | None
    p: Share
    p_holm: Share | None = None
    resamples: Count
    by_seed: list[float | None] | None = None


@result
class McNemar:
    """only_this, only_reference: how often one of the two alone was correct; p is two-sided, p_holm corrected."""

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

    People are drawn as by `identity_bootstrap`; sharing the draws removes the chance of who was drawn from differences.
    """
    drawn = identity_weights(first, second, seed=seed, resamples=resamples)
    return np.array([[statistic(weights) for statistic in statistics] for weights in drawn])


def bootstrap_difference(
    value: float, reference: float, draws: np.ndarray, reference_draws: np.ndarray, by_seed: list | None = None
) -> Difference:
    """The difference with its interval and p, from both models' draws (both (r,)).

    p is twice the smaller share of draws on one side of zero, each side with one extra draw (Davison and Hinkley 1997,
    section 4.2.2): it is never 0, and at best 2 / (r + 1).
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
    """McNemar's exact test (Psychometrika 1947): are two classifiers equally often correct on the same n cases?

    Only the cases on which they disagree count; if both are equally good, either is correct with probability 1/2. The
    test assumes independent cases. Pairs that share a person are not, and p is then too small.

    Args:
        correct, reference_correct: (n,) bool.
    """
    correct, reference_correct = np.asarray(correct, dtype=bool), np.asarray(reference_correct, dtype=bool)
    if correct.shape != reference_correct.shape:
        raise ValueError(f"{correct.shape} and {reference_correct.shape} decisions are not about the same cases")
    this, reference = int((correct & ~reference_correct).sum()), int((reference_correct & ~correct).sum())
    p = float(binomtest(this, this + reference).pvalue) if this + reference else 1.0
    return McNemar(only_this=this, only_reference=reference, p=p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (Scandinavian Journal of Statistics 1979) of p-values that are read together.

    If only corrected values below 0.05 are called significant, the probability of any false one stays below 0.05.
    """
    corrected, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, (len(p_values) - rank) * p_values[index])
        corrected[index] = min(1.0, float(highest))
    return corrected
