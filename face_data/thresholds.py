"""The accuracy of verification pairs at a threshold, and the threshold at which it is highest.

The training chooses the threshold of a validation fold here, and so does the evaluation; FAR, ROC and intervals are in
`evaluation.statistics`. Everywhere: scores (n,) are similarities, same (n,) is true for genuine pairs, and a pair is
accepted where score >= threshold. Next: `pairs`.
"""

import numpy as np


def checked_scores(scores, same) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 and same as bool.

    Raises:
        ValueError: they are not equally long lists, are empty, or a score is NaN or infinite.
    """
    scores, same = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if scores.shape != same.shape or scores.ndim != 1 or not len(scores):
        raise ValueError(f"scores {scores.shape} and same {same.shape} must be two equally long, non-empty lists")
    if not np.isfinite(scores).all():
        raise ValueError(f"score {np.flatnonzero(~np.isfinite(scores))[0]} is not a number")
    return scores, same


def accuracy(scores, same, threshold: float) -> float:
    """Share of pairs decided correctly at a threshold."""
    scores, same = checked_scores(scores, same)
    return float(np.mean((scores >= threshold) == same))


def best_threshold(scores, same, genuine_share: float | None = None) -> float:
    """The threshold of the highest accuracy on these scores; of several equally good ones the middle.

    Args:
        genuine_share: weigh the two kinds as if this share of the pairs were genuine; by default the share of these.

    Candidates lie half-way between neighbouring scores, at the lowest score (accept all) and just above the highest
    (reject all).
    """
    scores, same = checked_scores(scores, same)
    genuine_share = same.mean() if genuine_share is None else genuine_share
    values = np.unique(scores)
    candidates = np.concatenate([values[:1], (values[:-1] + values[1:]) / 2, [np.nextafter(values[-1], np.inf)]])
    genuine, impostor = np.sort(scores[same]), np.sort(scores[~same])
    accepted = 1 - np.searchsorted(genuine, candidates) / max(len(genuine), 1)
    rejected = np.searchsorted(impostor, candidates) / max(len(impostor), 1)
    correct = genuine_share * accepted + (1 - genuine_share) * rejected
    best = np.flatnonzero(correct >= correct.max() - 1e-12)  # equal up to the rounding of the shares
    return float(candidates[best[(len(best) - 1) // 2]])
