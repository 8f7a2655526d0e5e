"""The numbers of biometric and classification reports, each with its counts and its uncertainty.

Everywhere: scores (n,) are similarities, same (n,) says which pairs are genuine, and a pair is accepted where
score >= threshold. FAR is the share of impostor pairs accepted, FRR the share of genuine pairs rejected, TAR = 1 - FRR.
A rate is reported as {"value", "hits", "total", "low", "high"}, low and high being its 95 % interval.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from sklearn.metrics import auc, confusion_matrix, f1_score, roc_curve

LEVEL = 0.95
RESAMPLES = 1000


class TooLittleError(ValueError):
    """These photographs cannot show what was asked of them; the message says what they lack."""


@dataclass(frozen=True)
class Roc:
    """ROC curve: far and tar (k,), ascending, at thresholds (k,); the area under it and the equal error rate."""

    far: np.ndarray
    tar: np.ndarray
    thresholds: np.ndarray
    auc: float
    eer: float


def accuracy(scores, same, threshold: float) -> float:
    """Share of pairs decided rightly at a threshold."""
    scores, same = _checked(scores, same)
    return float(np.mean((scores >= threshold) == same))


def best_threshold(scores, same, genuine: float | None = None) -> float:
    """The threshold of the highest accuracy on these very scores; among equals the middle one.

    Args:
        genuine: the accuracy is that of pairs of which this share is genuine; by default the share of these.

    Candidates lie half-way between neighbouring scores, at the lowest score (accept all) and just above the highest
    (reject all).
    """
    scores, same = _checked(scores, same)
    genuine = same.mean() if genuine is None else genuine
    values = np.unique(scores)
    candidates = np.concatenate([values[:1], (values[:-1] + values[1:]) / 2, [np.nextafter(values[-1], np.inf)]])
    own, foreign = np.sort(scores[same]), np.sort(scores[~same])
    accepted = 1 - np.searchsorted(own, candidates) / max(len(own), 1)
    rejected = np.searchsorted(foreign, candidates) / max(len(foreign), 1)
    right = genuine * accepted + (1 - genuine) * rejected
    best = np.flatnonzero(right >= right.max() - 1e-12)  # equal but for the rounding of the shares
    return float(candidates[best[(len(best) - 1) // 2]])


def roc(scores, same) -> Roc:
    """The ROC curve with its area and the equal error rate, where FAR = FRR on the line between the curve's points."""
    scores, same = _both_kinds(scores, same)
    far, tar, thresholds = roc_curve(same, scores, drop_intermediate=False)
    return Roc(far, tar, thresholds, float(auc(far, tar)), _equal_error_rate(far, tar))


def tar_at_far(scores, same, far: float) -> dict:
    """TAR where at most the share `far` of these impostor pairs is accepted, or no value where they are too few.

    Returns a rate over the genuine pairs with "far" (asked for) and "impostors" (their number); "value" is None where
    far < 1 / impostors, because then not even one impostor pair may be accepted.
    """
    if not 0 <= far <= 1:  # NaN is not
        raise ValueError(f"far is a rate, 0 to 1, not {far!r}")
    scores, same = _both_kinds(scores, same)
    impostors = int((~same).sum())
    support = {"far": far, "impostors": impostors}
    if far * impostors < 1 - 1e-9:
        return {"value": None, "reason": f"{impostors} impostor pairs cannot show a FAR of {far:g}"} | support
    accepted = same & (scores > _highest_rejected(scores[~same], far))
    return rate(int(accepted.sum()), int(same.sum())) | support


def threshold_at_far(scores, same, far: float) -> float:
    """The lowest of these scores at which FAR on these pairs is not above `far`.

    Raises:
        ValueError: too few impostor pairs for this FAR, or no score lies above the impostors that must be rejected.
    """
    scores, same = _both_kinds(scores, same)
    impostors = scores[~same]
    if not 0 < far < 1 or far * len(impostors) < 1 - 1e-9:
        raise ValueError(f"a FAR of {far:g} needs at least 1/FAR impostor pairs, there are {len(impostors)}")
    above = scores[scores > _highest_rejected(impostors, far)]
    if not len(above):
        raise ValueError(f"no threshold gives a FAR of {far:g}: the highest of all scores belong to impostor pairs")
    return float(above.min())


class WeightedRoc:
    """The ROC of pairs that count as often as their weights say: the scores are sorted once for all the weights."""

    def __init__(self, scores, same):
        scores, same = _both_kinds(scores, same)
        self._order = np.argsort(-scores)
        self._genuine = same[self._order]
        # Pairs of one score are accepted together: the curve has a point after the last of them only.
        self._last = np.append(np.flatnonzero(np.diff(scores[self._order])), len(scores) - 1)

    def __call__(self, weights: np.ndarray, fars: Sequence[float] = ()) -> np.ndarray:
        """(2 + len(fars),): area, equal error rate and TAR at each FAR, as `roc` and `tar_at_far` define them.

        Args:
            weights: (n,) integers >= 0 in the order of the scores; where no genuine or no impostor pair has weight,
                all numbers are NaN.
        """
        weights = weights[self._order]
        genuine = np.cumsum(weights * self._genuine)[self._last]
        impostor = np.cumsum(weights)[self._last] - genuine
        if not genuine[-1] or not impostor[-1]:
            return np.full(2 + len(fars), np.nan)
        far, tar = (np.concatenate([[0.0], count / count[-1]]) for count in (impostor, genuine))
        area = (np.diff(far) * (tar[1:] + tar[:-1])).sum() / 2  # `@` would wake the threads of BLAS for each draw
        allowed = np.searchsorted(far, fars, side="right") - 1
        return np.array([area, _equal_error_rate(far, tar), *tar[allowed]])


def _equal_error_rate(far: np.ndarray, tar: np.ndarray) -> float:
    return float(np.interp(0, far + tar - 1, far))


def _highest_rejected(impostors: np.ndarray, far: float) -> float:
    """The highest impostor score that must be rejected so that at most the share `far` of them is accepted."""
    accepted = np.arange(1, len(impostors) + 1) / len(impostors)
    first_over = np.searchsorted(accepted, far, side="right")
    return -np.sort(-impostors)[first_over] if first_over < len(impostors) else -np.inf


def rate(hits: int, total: int) -> dict:
    """hits of total as a rate with its Wilson interval; every number None where total is 0."""
    low, high = wilson(hits, total) if total else (None, None)
    return {"value": hits / total if total else None, "hits": hits, "total": total, "low": low, "high": high}


def interval_of(rate: dict) -> tuple[float, float]:
    """The interval to show of a rate: over people where there is one, else Wilson's."""
    low, high = rate.get("bootstrap") or (rate["low"], rate["high"])
    return low, high


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion (JASA 1927). It takes the trials for independent."""
    if not 0 <= hits <= total or total == 0:
        raise ValueError(f"{hits} of {total} is not a proportion")
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share, scale = hits / total, 1 + z * z / total
    center = (share + z * z / (2 * total)) / scale
    half = z / scale * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, float(center - half)), min(1.0, float(center + half))


def identity_bootstrap(
    statistic: Callable[[np.ndarray], float],
    first: Sequence[str],
    second: Sequence[str],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[float, float] | None:
    """95 % percentile interval of a statistic over pairs when *people* are drawn again with replacement.

    Args:
        statistic: weights (n,) -> number; NaN where the draw holds no pair it speaks of, such draws are left out.
        first, second: identities (n,) of the two photographs, equal in genuine pairs.

    Returns:
        (low, high), or None where no draw held a pair.
    """
    return interval([statistic(weights) for weights in identity_weights(first, second, seed=seed, resamples=resamples)])


def identity_weights(
    first: Sequence[str], second: Sequence[str], *, seed: int, resamples: int = RESAMPLES
) -> Iterator[np.ndarray]:
    """How often each pair counts, (n,) integers, in each of the draws of `identity_bootstrap`.

    Pairs that share a person are not independent, so people are resampled, not pairs: a person drawn c times gives
    weight c to genuine pairs, and c times the other's count to impostor pairs. Several statistics of the same pairs
    can share these draws, which cost more than most statistics do.
    """
    people, index = np.unique(np.concatenate([np.asarray(first), np.asarray(second)]), return_inverse=True)
    one, other = index[: len(first)], index[len(first) :]
    strangers = np.flatnonzero(one != other)
    others = other[strangers]
    chances = np.full(len(people), 1 / len(people))
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        count = rng.multinomial(len(people), chances)
        weights = count[one]
        weights[strangers] *= count[others]
        yield weights


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % percentile interval of a statistic's bootstrap values; None where all of them are NaN."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def share_of_pairs(hits, among, first: Sequence[str], second: Sequence[str], *, seed: int) -> dict:
    """The rate of hits among the pairs where `among` (both (n,) bool), with "bootstrap", its interval over people.

    Single photographs are pairs of a person with themselves.

    The bootstrap is None where no pair or every pair is a hit: no draw of these people could show anything else, and
    only Wilson's interval says something.
    """
    result = rate(int((hits & among).sum()), int(among.sum()))
    interval = None
    if 0 < result["hits"] < result["total"]:
        interval = identity_bootstrap(weighted_share(hits, among), first, second, seed=seed)
    return result | {"bootstrap": interval}


def weighted_share(hits: np.ndarray, among: np.ndarray) -> Callable[[np.ndarray], float]:
    """The statistic "share of hits among the pairs where `among`" for `identity_bootstrap`; both (n,) bool."""

    judged, hit = np.flatnonzero(among), np.flatnonzero(hits & among)

    def share(weights: np.ndarray) -> float:
        total = weights[judged].sum()
        return float(weights[hit].sum() / total) if total else float("nan")

    return share


def classification(labels, predictions, classes: Sequence[str]) -> dict:
    """Accuracy, balanced accuracy, macro-F1, confusion matrix and recall per class.

    Args:
        labels, predictions: indices (n,) into classes.

    Balanced accuracy and macro-F1 average over the classes that occur among the labels.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if not len(labels):
        raise TooLittleError("no labelled picture to judge")
    matrix = confusion_matrix(labels, predictions, labels=range(len(classes)))
    recall = {name: rate(int(matrix[row, row]), int(matrix[row].sum())) for row, name in enumerate(classes)}
    present = np.unique(labels)
    return {
        "accuracy": rate(int(np.trace(matrix)), len(labels)),
        "balanced_accuracy": float(np.mean([recall[classes[row]]["value"] for row in present])),
        "macro_f1": float(f1_score(labels, predictions, labels=present, average="macro", zero_division=0)),
        "recall": recall,
        "classes": list(classes),
        "confusion_matrix": matrix.tolist(),
    }


def _checked(scores, same) -> tuple[np.ndarray, np.ndarray]:
    scores, same = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if scores.shape != same.shape or scores.ndim != 1 or not len(scores):
        raise ValueError(f"scores {scores.shape} and same {same.shape} must be two equally long, non-empty lists")
    if not np.isfinite(scores).all():
        raise ValueError(f"score {np.flatnonzero(~np.isfinite(scores))[0]} is not a number")
    return scores, same


def _both_kinds(scores, same) -> tuple[np.ndarray, np.ndarray]:
    scores, same = _checked(scores, same)
    if same.all() or not same.any():
        raise TooLittleError(
            f"{int(same.sum())} genuine and {int((~same).sum())} impostor pairs: both kinds are needed"
        )
    return scores, same


def weighted_classification(labels, predictions, classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """The statistic (accuracy, balanced accuracy, macro-F1) where every photograph counts weights (n,) times.

    Args:
        labels: (n,) indices below classes. predictions: the same, or `classes` for anything that no label says.

    Means are over the classes whose labels have weight, as in `classification`; NaN where no photograph has any.
    """
    cells = np.asarray(labels) * (classes + 1) + np.asarray(predictions)

    def shares(weights: np.ndarray) -> np.ndarray:
        matrix = np.bincount(cells, weights, minlength=classes * (classes + 1)).reshape(classes, classes + 1)
        right, labelled, predicted = matrix.diagonal(), matrix.sum(1), matrix[:, :classes].sum(0)
        present = labelled > 0
        if not present.any():
            return np.full(3, np.nan)
        recall, f1 = right[present] / labelled[present], 2 * right[present] / (labelled + predicted)[present]
        return np.array([right.sum() / labelled.sum(), recall.mean(), f1.mean()])

    return shares
