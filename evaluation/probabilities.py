"""Whether probabilities mean what they say: calibration, and distance from the annotators' votes."""

from collections.abc import Sequence

import numpy as np

from evaluation.metrics import rate

BINS = 15  # Guo et al. 2017
MULTI_LABEL_SHARE = 0.3  # Barsoum et al. 2016: an expression with this share of the votes is a right answer
SMALLEST = 1e-12  # probability, so that a logarithm is finite


def calibration_error(probabilities: np.ndarray, labels: Sequence[int]) -> dict:
    """Expected calibration error of the most probable class, in 15 bins of equal width (Guo et al., ICML 2017).

    Args:
        probabilities: (n, classes), rows of sum 1. labels: (n,) the right classes.

    Returns:
        "ece": mean over photographs of |accuracy − confidence| of their bin, 0 to 1. "negative_log_likelihood" (nats)
        and "brier" (sum over classes of the squared error, 0 to 2), means over photographs; "bins" that hold any:
        "low", "high", "count", "confidence", "accuracy".
    """
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bin_of = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for number in np.unique(bin_of):
        own = bin_of == number
        bins.append({
            "low": number / BINS,
            "high": (number + 1) / BINS,
            "count": int(own.sum()),
            "confidence": float(confidence[own].mean()),
            "accuracy": float(right[own].mean()),
        })  # fmt: skip
    own = probabilities[np.arange(len(labels)), labels]
    truth = np.eye(probabilities.shape[1])[labels]
    return {
        "ece": float(sum(one["count"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / len(labels)),
        "negative_log_likelihood": float(-np.log(np.maximum(own, SMALLEST)).mean()),
        "brier": float(((probabilities - truth) ** 2).sum(1).mean()),
        "bins": bins,
    }


def soft_label_report(probabilities: np.ndarray, votes: np.ndarray) -> dict:
    """FERPlus as its authors judge soft labels (Barsoum et al., ICMI 2016): the votes are the label, all of them.

    Args:
        probabilities, votes: (n, classes), rows of sum 1, over the same classes.

    Returns:
        "most_votes": rate of photographs whose likeliest class has the most votes (one of them, where several have).
        "multi_label": rate of those whose likeliest class has at least 30 % of the votes. "cross_entropy" of the votes
        and "kullback_leibler" from the votes to the prediction (nats), means over photographs.
    """
    probabilities, votes = np.asarray(probabilities, dtype=np.float64), np.asarray(votes, dtype=np.float64)
    chosen = votes[np.arange(len(votes)), probabilities.argmax(1)]
    cross_entropy = -(votes * np.log(np.maximum(probabilities, SMALLEST))).sum(1)
    entropy = -(votes * np.log(np.maximum(votes, SMALLEST))).sum(1)
    return {
        "most_votes": rate(int((chosen >= votes.max(1) - 1e-6).sum()), len(votes)),
        "multi_label": rate(int((chosen >= MULTI_LABEL_SHARE - 1e-6).sum()), len(votes)),
        "cross_entropy": float(cross_entropy.mean()),
        "kullback_leibler": float((cross_entropy - entropy).mean()),
    }
