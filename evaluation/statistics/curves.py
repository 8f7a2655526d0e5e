"""ROC curves of verification scores, and thresholds chosen on them.

In all functions, scores (n,) are similarities, and same (n,) is true for genuine pairs. A pair is accepted if
score >= threshold. FAR is the share of impostor pairs accepted, FRR the share of genuine pairs rejected, TAR = 1 - FRR.
`protocols.operating_points` and `compare.models` call them. Read `intervals` next.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from sklearn.metrics import auc, roc_curve

from evaluation.statistics.rates import Count, InsufficientDataError, Rate, Share, rate, result
from face_data.thresholds import checked_scores


@dataclass(frozen=True)
class Roc:
    """ROC curve: far and tar (k,), ascending, at thresholds (k,); area under the curve and equal error rate."""

    far: np.ndarray
    tar: np.ndarray
    thresholds: np.ndarray
    auc: float
    eer: float


@result
class TarAtFar(Rate):
    """TAR over the genuine pairs at a requested FAR; `impostors` is the number of impostor pairs behind it.

    If far < 1 / impostors, not even one impostor pair may be accepted. Then value is None and reason says why.
    """

    hits: Count | None = None
    total: Count | None = None
    low: Share | None = None
    high: Share | None = None
    far: Share
    impostors: Count


def roc(scores, same) -> Roc:
    """The ROC curve, its area, and the equal error rate: FAR = FRR, interpolated between the curve's points."""
    scores, same = _checked_pairs(scores, same)
    far, tar, thresholds = roc_curve(same, scores, drop_intermediate=False)
    return Roc(far, tar, thresholds, float(auc(far, tar)), _equal_error_rate(far, tar))


def tar_at_far(scores, same, far: float) -> TarAtFar:
    """TAR at the lowest threshold with a FAR of at most `far`; without a value if there are too few impostor pairs."""
    if not 0 <= far <= 1:  # also refuses NaN
        raise ValueError(f"far must be a rate from 0 to 1, not {far!r}")
    scores, same = _checked_pairs(scores, same)
    impostors, genuine = int((~same).sum()), int(same.sum())
    if far * impostors < 1 - 1e-9:
        reason = f"{impostors} impostor pairs cannot show a FAR of {far:g}"
        return TarAtFar(value=None, reason=reason, far=far, impostors=impostors)
    accepted = same & (scores > _highest_rejected(scores[~same], far))
    return TarAtFar(**asdict(rate(int(accepted.sum()), genuine)), far=far, impostors=impostors)


def threshold_at_far(scores, same, far: float) -> float:
    """The lowest of these scores at which FAR on these pairs is not above `far`.

    Raises:
        ValueError: too few impostor pairs for this FAR, or no score lies above the impostors that must be rejected.
    """
    scores, same = _checked_pairs(scores, same)
    impostors = scores[~same]
    if not 0 < far < 1 or far * len(impostors) < 1 - 1e-9:
        raise ValueError(f"a FAR of {far:g} needs at least 1/FAR impostor pairs, there are {len(impostors)}")
    allowed_scores = scores[scores > _highest_rejected(impostors, far)]
    if not len(allowed_scores):
        raise ValueError(f"no threshold gives a FAR of {far:g}: the highest scores belong to impostor pairs")
    return float(allowed_scores.min())


class WeightedRoc:
    """The ROC of pairs that count as often as their weights say; the scores are sorted once for all weights."""

    def __init__(self, scores, same):
        scores, same = _checked_pairs(scores, same)
        self._order = np.argsort(-scores)
        self._genuine = same[self._order]
        # Pairs with the same score are accepted together: the curve has a point only after the last of them.
        self._curve_points = np.append(np.flatnonzero(np.diff(scores[self._order])), len(scores) - 1)

    def __call__(self, weights: np.ndarray, fars: Sequence[float] = ()) -> np.ndarray:
        """(2 + len(fars),): area, equal error rate and TAR at each FAR, as `roc` and `tar_at_far` define them.

        Args:
            weights: (n,) integers >= 0 in the order of the scores. If no genuine or no impostor pair has weight, all
                numbers are NaN.
        """
        weights = weights[self._order]
        genuine = np.cumsum(weights * self._genuine)[self._curve_points]
        impostor = np.cumsum(weights)[self._curve_points] - genuine
        if not genuine[-1] or not impostor[-1]:
            return np.full(2 + len(fars), np.nan)
        far, tar = (np.concatenate([[0.0], count / count[-1]]) for count in (impostor, genuine))
        area = (np.diff(far) * (tar[1:] + tar[:-1])).sum() / 2  # `@` would start BLAS threads for each draw
        points = np.searchsorted(far, fars, side="right") - 1
        return np.array([area, _equal_error_rate(far, tar), *tar[points]])


def _equal_error_rate(far: np.ndarray, tar: np.ndarray) -> float:
    return float(np.interp(0, far + tar - 1, far))


def _highest_rejected(impostors: np.ndarray, far: float) -> float:
    """The highest impostor score that must be rejected so that at most the share `far` of them is accepted."""
    accepted = np.arange(1, len(impostors) + 1) / len(impostors)
    first_over = np.searchsorted(accepted, far, side="right")
    return -np.sort(-impostors)[first_over] if first_over < len(impostors) else -np.inf


def _checked_pairs(scores, same) -> tuple[np.ndarray, np.ndarray]:
    scores, same = checked_scores(scores, same)
    if same.all() or not same.any():
        raise InsufficientDataError(
            f"{int(same.sum())} genuine and {int((~same).sum())} impostor pairs: both kinds are needed"
        )
    return scores, same
