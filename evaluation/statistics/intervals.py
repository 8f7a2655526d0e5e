"""Bootstrap over people: intervals of a statistic from draws of people instead of images.

Two pairs that share a person are not independent, so intervals that treat all pairs as independent are too narrow.
Every protocol uses these functions for its intervals.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from evaluation.statistics.rates import LEVEL, Interval, Rate, rate

RESAMPLES = 1000


def identity_bootstrap(
    statistic: Callable[[np.ndarray], float],
    first: Sequence[str],
    second: Sequence[str],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """95 % percentile interval of a statistic over pairs when people are drawn with replacement.

    Args:
        statistic: weights (n,) -> number, or NaN for a draw without the pairs that it needs; NaN is left out.
        first, second: identities (n,) of the two images, equal in genuine pairs.

    Returns:
        (low, high), or None if every draw gave NaN.
    """
    return interval([statistic(weights) for weights in identity_weights(first, second, seed=seed, resamples=resamples)])


def identity_weights(
    first: Sequence[str], second: Sequence[str], *, seed: int, resamples: int = RESAMPLES
) -> Iterator[np.ndarray]:
    """How often each pair counts, (n,) integers, in each draw of `identity_bootstrap`.

    A genuine pair of a person who was drawn c times has weight c. An impostor pair has the product of both counts.
    Several statistics of the same pairs can share these draws, which take longer than most statistics.
    """
    people, index = np.unique(np.concatenate([np.asarray(first), np.asarray(second)]), return_inverse=True)
    first_index, second_index = index[: len(first)], index[len(first) :]
    impostors = np.flatnonzero(first_index != second_index)
    impostor_seconds = second_index[impostors]
    probabilities = np.full(len(people), 1 / len(people))
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        count = rng.multinomial(len(people), probabilities)
        weights = count[first_index]
        weights[impostors] *= count[impostor_seconds]
        yield weights


def interval(values: Sequence[float]) -> Interval | None:
    """The 95 % percentile interval of bootstrap values; None if all of them are NaN."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def rate_over_people(hits, eligible, first: Sequence[str], second: Sequence[str], *, seed: int) -> Rate:
    """The rate of hits among the pairs where `eligible` is true (both (n,) bool), with its interval over people.

    A single image counts as a pair of a person with the same person. If no pair or every pair is a hit, there is no
    interval over people, because every draw gives the same rate; only Wilson's interval is informative then.
    """
    counted = rate(int((hits & eligible).sum()), int(eligible.sum()))
    if not 0 < counted.hits < counted.total:
        return counted
    return replace(counted, bootstrap=identity_bootstrap(weighted_share(hits, eligible), first, second, seed=seed))


def weighted_share(hits: np.ndarray, eligible: np.ndarray) -> Callable[[np.ndarray], float]:
    """The statistic "share of hits of the pairs where `eligible`" for `identity_bootstrap`; both (n,) bool."""
    counted, hit = np.flatnonzero(eligible), np.flatnonzero(hits & eligible)

    def share(weights: np.ndarray) -> float:
        total = weights[counted].sum()
        return float(weights[hit].sum() / total) if total else float("nan")

    return share
