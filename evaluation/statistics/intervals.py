"""Bootstrap over people: the interval of a statistic when people, not images, are drawn again.

Two pairs that share a person are not independent, so intervals that count pairs are too narrow. Every protocol uses
the functions here for its intervals.
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
        statistic: weights (n,) -> number; NaN where a draw contains no pair that it needs, such draws are left out.
        first, second: identities (n,) of the two images, equal in genuine pairs.

    Returns:
        (low, high), or None where no draw contained such a pair.
    """
    return interval([statistic(weights) for weights in identity_weights(first, second, seed=seed, resamples=resamples)])


def identity_weights(
    first: Sequence[str], second: Sequence[str], *, seed: int, resamples: int = RESAMPLES
) -> Iterator[np.ndarray]:
    """How often each pair counts, (n,) integers, in each draw of `identity_bootstrap`.

    A person drawn c times gives weight c to genuine pairs, and c times the other person's count to impostor pairs.
    Several statistics of the same pairs can share these draws, which cost more than most statistics do.
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
    """The 95 % percentile interval of bootstrap values; None where all of them are NaN."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def rate_over_people(hits, among, first: Sequence[str], second: Sequence[str], *, seed: int) -> Rate:
    """The rate of hits among the pairs where `among` is true (both (n,) bool), with its interval over people.

    A single image is a pair of a person with themselves. There is no interval over people where no pair or every pair
    is a hit: no draw of these people could show anything else, and only Wilson's interval is informative.
    """
    counted = rate(int((hits & among).sum()), int(among.sum()))
    if not 0 < counted.hits < counted.total:
        return counted
    return replace(counted, bootstrap=identity_bootstrap(weighted_share(hits, among), first, second, seed=seed))


def weighted_share(hits: np.ndarray, among: np.ndarray) -> Callable[[np.ndarray], float]:
    """The statistic "share of hits among the pairs where `among`" for `identity_bootstrap`; both (n,) bool."""
    counted, hit = np.flatnonzero(among), np.flatnonzero(hits & among)

    def share(weights: np.ndarray) -> float:
        total = weights[counted].sum()
        return float(weights[hit].sum() / total) if total else float("nan")

    return share
