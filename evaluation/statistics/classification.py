"""Accuracy, balanced accuracy, macro-F1 and the confusion matrix of a classifier, with counts.

`protocols.expression` uses `classification`; `compare.models` uses the weighted form for its bootstrap.
"""

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score

from evaluation.statistics.rates import Count, InsufficientDataError, Rate, Share, rate, result


@result
class Classification:
    """Balanced accuracy and macro-F1 average over the classes that occur among the labels.

    recall: class -> rate. confusion_matrix: rows are labels, columns predictions, in the order of `classes`.
    """

    accuracy: Rate
    balanced_accuracy: Share
    macro_f1: Share
    recall: dict[str, Rate]
    classes: list[str]
    confusion_matrix: list[list[Count]]


def classification(labels, predictions, classes: Sequence[str]) -> Classification:
    """Compare predictions with labels, both (n,) indices into `classes`.

    Raises:
        InsufficientDataError: there is no label.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if not len(labels):
        raise InsufficientDataError("no labelled image to evaluate")
    matrix = confusion_matrix(labels, predictions, labels=range(len(classes)))
    recall = {name: rate(int(matrix[row, row]), int(matrix[row].sum())) for row, name in enumerate(classes)}
    present = np.unique(labels)
    return Classification(
        accuracy=rate(int(np.trace(matrix)), len(labels)),
        balanced_accuracy=float(np.mean([recall[classes[row]].value for row in present])),
        macro_f1=float(f1_score(labels, predictions, labels=present, average="macro", zero_division=0)),
        recall=recall,
        classes=list(classes),
        confusion_matrix=matrix.tolist(),
    )


def weighted_classification(labels, predictions, classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """The statistic (accuracy, balanced accuracy, macro-F1) of images that count as often as their weights (n,) say.

    Args:
        labels: (n,) indices below `classes`. predictions: likewise, or `classes` for a prediction that is not a label.

    Means are over the classes whose labels have weight, as in `classification`; NaN if no image has weight.
    """
    cells = np.asarray(labels) * (classes + 1) + np.asarray(predictions)

    def shares(weights: np.ndarray) -> np.ndarray:
        matrix = np.bincount(cells, weights, minlength=classes * (classes + 1)).reshape(classes, classes + 1)
        correct, labelled, predicted = matrix.diagonal(), matrix.sum(1), matrix[:, :classes].sum(0)
        present = labelled > 0
        if not present.any():
            return np.full(3, np.nan)
        recall, f1 = correct[present] / labelled[present], 2 * correct[present] / (labelled + predicted)[present]
        return np.array([correct.sum() / labelled.sum(), recall.mean(), f1.mean()])

    return shares
