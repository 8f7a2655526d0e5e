"""Measures whether expression probabilities are calibrated, and how much they differ from the annotators' votes.

`protocols.expression` reports both.
"""

from collections.abc import Sequence

import numpy as np

from evaluation.statistics.rates import Count, Rate, Share, rate, result

BINS = 15  # Guo et al. 2017
MULTI_LABEL_SHARE = 0.3  # Barsoum et al. 2016: an expression with at least this share of the votes is correct
SMALLEST = 1e-12  # smallest probability of which a logarithm is taken


@result
class ConfidenceBin:
    """The images whose confidence lies in [low, high): their number, mean confidence and accuracy."""

    low: Share
    high: Share
    count: Count
    confidence: Share
    accuracy: Share


@result
class ProbabilityCalibration:
    """ece: mean over images of |accuracy − confidence| of their bin. negative_log_likelihood (nats) and brier (sum over
    classes of the squared error, 0 to 2): means over images. bins: those with at least one image."""

    ece: Share
    negative_log_likelihood: float
    brier: float
    bins: list[ConfidenceBin]


@result
class VoteAgreement:
    """most_votes: rate of images whose most probable class has the most votes (or as many as another class).
    multi_label: rate of images whose most probable class has at least 30 % of the votes. cross_entropy of the votes and
    kullback_leibler from the votes to the prediction (nats): means over images. photographs: number of images
    with votes for the evaluated classes. dropped_votes: mean share of the votes for other classes."""

    most_votes: Rate
    multi_label: Rate
    cross_entropy: float
    kullback_leibler: float
    photographs: Count
    dropped_votes: Share


def calibration_error(probabilities: np.ndarray, labels: Sequence[int]) -> ProbabilityCalibration:
    """Expected calibration error of the most probable class, in 15 bins of equal width (Guo et al., ICML 2017).

    Args:
        probabilities: (n, classes), rows of sum 1. labels: (n,) the true classes.
    """
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    bin_numbers = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for bin_number in np.unique(bin_numbers):
        inside = bin_numbers == bin_number
        bins.append(
            ConfidenceBin(
                low=bin_number / BINS,
                high=(bin_number + 1) / BINS,
                count=int(inside.sum()),
                confidence=min(float(confidence[inside].mean()), 1.0),
                accuracy=float(correct[inside].mean()),
            )
        )
    label_probability = probabilities[np.arange(len(labels)), labels]
    truth = np.eye(probabilities.shape[1])[labels]
    return ProbabilityCalibration(
        ece=float(sum(bucket.count * abs(bucket.accuracy - bucket.confidence) for bucket in bins) / len(labels)),
        negative_log_likelihood=float(-np.log(np.maximum(label_probability, SMALLEST)).mean()),
        brier=float(((probabilities - truth) ** 2).sum(1).mean()),
        bins=bins,
    )


def vote_agreement(probabilities: np.ndarray, votes: np.ndarray) -> VoteAgreement:
    """Evaluation with all votes as the label, as by the authors of FERPlus (Barsoum et al., ICMI 2016).

    Args:
        probabilities: (n, classes), rows of sum 1. votes: (n, classes), shares of the votes for the same classes; rows
            sum to less than 1 if other classes have votes, and rows without a vote are left out.
    """
    probabilities, votes = np.asarray(probabilities, dtype=np.float64), np.asarray(votes, dtype=np.float64)
    dropped = max(0.0, float(1 - votes.sum(1).mean()))
    has_votes = votes.sum(1) > 1e-6
    probabilities, votes = probabilities[has_votes], votes[has_votes] / votes[has_votes].sum(1, keepdims=True)
    chosen = votes[np.arange(len(votes)), probabilities.argmax(1)]
    cross_entropy = -(votes * np.log(np.maximum(probabilities, SMALLEST))).sum(1)
    entropy = -(votes * np.log(np.maximum(votes, SMALLEST))).sum(1)
    return VoteAgreement(
        most_votes=rate(int((chosen >= votes.max(1) - 1e-6).sum()), len(votes)),
        multi_label=rate(int((chosen >= MULTI_LABEL_SHARE - 1e-6).sum()), len(votes)),
        cross_entropy=float(cross_entropy.mean()),
        kullback_leibler=float((cross_entropy - entropy).mean()),
        photographs=int(has_votes.sum()),
        dropped_votes=dropped,
    )
