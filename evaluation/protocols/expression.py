"""Facial expression recognition: the paper's accuracy and confusion matrix (section 5.1b), with counts.

`corpus` calls `expression_report`; `statistics.classification` and `statistics.probabilities` compute the parts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from evaluation.embeddings.table import Embeddings
from evaluation.statistics.classification import Classification, classification
from evaluation.statistics.intervals import rate_over_people
from evaluation.statistics.probabilities import (
    ProbabilityCalibration,
    VoteAgreement,
    calibration_error,
    vote_agreement,
)
from evaluation.statistics.rates import Count, InsufficientDataError, result
from face_data.table import CORPUS_EXPRESSIONS

CLASS_SETS = {  # the classes of published results
    "6": tuple(name for name in CORPUS_EXPRESSIONS if name not in ("neutral", "contempt")),  # Oulu-CASIA, Table 4b
    "7": tuple(name for name in CORPUS_EXPRESSIONS if name != "contempt"),
    "8": CORPUS_EXPRESSIONS,  # CK+, Figure 5; FERPlus
}


@result
class ExpressionReport(Classification):
    """The classification, with classes in the paper's order. Accuracy and recall have intervals over people if the
    corpus has identities, because half of the neutral images of LFW's fold 10 are of one person.

    unlabelled: number of images without a label. unknown_to_model: label that is not evaluated -> its count. mapping:
    expression -> the class as which it is evaluated. never_predicted: classes that the model does not have. votes:
    agreement with the annotators' votes, over all images with votes for these classes.
    """

    unlabelled: Count
    unknown_to_model: dict[str, Count]
    mapping: dict[str, str]
    never_predicted: list[str]
    calibration: ProbabilityCalibration
    votes: VoteAgreement | None = None


def paper_order(classes: Sequence[str]) -> list[str]:
    """Expressions in the order of the paper's tables, then names that the paper does not have."""
    return [name for name in CORPUS_EXPRESSIONS if name in classes] + [
        name for name in classes if name not in CORPUS_EXPRESSIONS
    ]


def class_mapping(classes: Sequence[str], model_classes: Sequence[str]) -> dict[str, str]:
    """Expression -> the class as which it is evaluated; other expressions are not evaluated.

    Args:
        classes: `6`, `7` or `8`, or names of classes, then `expression=class` for every expression that counts as
            another class, such as `7 contempt=disgust`.
        model_classes: the model's expressions; they may differ from the corpus's.

    Raises:
        ValueError: there is no such expression, or the class after `=` is not one of the classes.
    """
    names = [name for text in classes if "=" not in text for name in CLASS_SETS.get(text, (text,))]
    mapping = {name: name for name in names} | dict(text.split("=", 1) for text in classes if "=" in text)
    for name, target in mapping.items():
        for checked in (name, target):
            if checked not in CORPUS_EXPRESSIONS and checked not in model_classes:
                raise ValueError(
                    f"--classes: no expression {checked!r}; give 6, 7, 8 or names: {', '.join(CORPUS_EXPRESSIONS)}"
                )
        if target not in names:
            raise ValueError(f"--classes: {name}={target}, but {target} is not one of the classes {', '.join(names)}")
    return mapping


def expression_report(embeddings: Embeddings, seed: int, mapping: dict[str, str] | None = None) -> ExpressionReport:
    """Evaluate the most probable expression of every labelled image; classes are matched by name.

    Args:
        mapping: from `class_mapping`. Probabilities of expressions that count as one class are added. Those of
            expressions that are not evaluated are dropped, and the rest is scaled to sum 1. The images of a class that
            the model does not have are errors. None takes the model's classes; then images with other labels are left
            out and are not errors.

    Raises:
        InsufficientDataError: no image has a label that is evaluated.
    """
    mapping = {name: name for name in embeddings.classes} if mapping is None else mapping
    classes = paper_order(tuple(dict.fromkeys(mapping.values())))
    probabilities = _probabilities(embeddings, mapping, classes)
    rows = [row for row, name in enumerate(embeddings.expressions) if name in mapping]
    if not rows:
        raise InsufficientDataError(f"no labelled image to evaluate: no image is labelled {', '.join(mapping)}")
    labels = np.array([classes.index(mapping[embeddings.expressions[row]]) for row in rows])
    predictions = probabilities[rows].argmax(-1)
    counted = classification(labels, predictions, classes)
    people = [embeddings.identities[row] for row in rows]
    if None not in people:
        counted = _with_intervals(counted, labels, labels == predictions, people, seed)
    other_labels = Counter(name for name in embeddings.expressions if name is not None and name not in mapping)
    predictable = {mapping[name] for name in embeddings.classes if name in mapping}
    return ExpressionReport(
        **{name: getattr(counted, name) for name in Classification.__dataclass_fields__},
        unlabelled=sum(name is None for name in embeddings.expressions),
        unknown_to_model=dict(other_labels),
        mapping=mapping,
        never_predicted=[name for name in classes if name not in predictable],
        calibration=calibration_error(probabilities[rows], labels),
        votes=_votes(embeddings, probabilities, mapping, classes),
    )


def _with_intervals(counted: Classification, labels, correct, people: list[str], seed: int) -> Classification:
    accuracy = rate_over_people(correct, labels >= 0, people, people, seed=seed)
    recall = {
        name: rate_over_people(correct, labels == index, people, people, seed=seed)
        for index, name in enumerate(counted.classes)
    }
    return replace(counted, accuracy=accuracy, recall=recall)


def _votes(
    embeddings: Embeddings, probabilities: np.ndarray, mapping: dict[str, str], classes: list[str]
) -> VoteAgreement | None:
    rows = [row for row, votes in enumerate(embeddings.votes) if votes is not None]
    if not rows:
        return None
    votes = np.zeros((len(rows), len(classes)))
    for column, name in enumerate(CORPUS_EXPRESSIONS):
        if name in mapping:
            votes[:, classes.index(mapping[name])] += [embeddings.votes[row][column] for row in rows]
    return vote_agreement(probabilities[rows], votes)


def _probabilities(embeddings: Embeddings, mapping: dict[str, str], classes: list[str]) -> np.ndarray:
    """(n, classes) of the evaluated classes, rows of sum 1; uniform if all their probabilities are 0."""
    probabilities = np.zeros((len(embeddings), len(classes)))
    for column, name in enumerate(embeddings.classes):
        if name in mapping:
            probabilities[:, classes.index(mapping[name])] += embeddings.expression_probabilities[:, column]
    total = probabilities.sum(1, keepdims=True)
    return np.where(total > 0, probabilities / np.maximum(total, 1e-30), 1 / len(classes))
