"""The accuracy of verification pairs at a threshold, and the threshold at which it is highest.

The training and the evaluation choose thresholds on a validation fold with it; FAR, ROC and intervals are in
`evaluation.statistics`. In all functions, scores (n,) are similarities, same (n,) is true for genuine pairs, and a pair
is accepted if score >= threshold. Read `pairs` next.
"""

import numpy as np


def checked_scores(scores, same) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 and same as bool.

    Raises:
        ValueError: they are empty or not of the same length, or a score is NaN or infinite.
    """
    scores, same = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if scores.shape != same.shape or scores.ndim != 1 or not len(scores):
        raise ValueError(f"scores {scores.shape} and same {same.shape} must be two equally long, non-empty lists")
    if not np.isfinite(scores).all():
        raise ValueError(f"score {np.flatnonzero(~np.isfinite(scores))[0]} is not a number")
    return scores, same


def accuracy(scores, same, threshold: float) -> float:
    """Fraction of pairs that are decided correctly at a threshold."""
    scores, same = checked_scores(scores, same)
    return float(np.mean((scores >= threshold) == same))


def best_threshold(scores, same, genuine_share: float | None = None) -> float:
    """The threshold with the highest accuracy on these scores; the middle one if several are equally good.

    Candidates lie half-way between neighbouring scores, at the lowest score (accept all) and just above the highest
    (reject all).

    Args:
        genuine_share: weight genuine and impostor pairs as if this fraction of the pairs were genuine; by default their
            fraction in `same`.
    """
    scores, same = checked_scores(scores, same)
    genuine_share = same.mean() if genuine_share is None else genuine_share
    values = np.unique(scores)
    candidates = np.concatenate([values[:1], (values[:-1] + values[1:]) / 2, [np.nextafter(values[-1], np.inf)]])
    genuine, impostor = np.sort(scores[same]), np.sort(scores[~same])
    accepted = 1 - np.searchsorted(genuine, candidates) / max(len(genuine), 1)
    rejected = np.searchsorted(impostor, candidates) / max(len(impostor), 1)
    correct = genuine_share * accepted + (1 - genuine_share) * rejected
    best = np.flatnonzero(correct >= correct.max() - 1e-12)  # equal up to rounding
    return float(candidates[best[(len(best) - 1) // 2]])
