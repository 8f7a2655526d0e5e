"""Facial expression recognition: the paper's accuracy and confusion matrix (section 5.1b), counts and intervals."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from evaluation.embeddings import Embeddings
from evaluation.metrics import TooLittleError, classification, share_of_pairs
from evaluation.probabilities import calibration_error, soft_label_report
from face_data.table import EXPRESSIONS

CLASS_SETS = {  # what corpora are judged on
    "6": tuple(name for name in EXPRESSIONS if name not in ("neutral", "contempt")),  # Oulu-CASIA, Table 4b
    "7": tuple(name for name in EXPRESSIONS if name != "contempt"),
    "8": EXPRESSIONS,  # CK+, Figure 5; FERPlus
}


def paper_order(classes: tuple[str, ...]) -> list[str]:
    """The model's expressions as the paper's tables order them; names the paper does not have come last."""
    return [name for name in EXPRESSIONS if name in classes] + [name for name in classes if name not in EXPRESSIONS]


def class_mapping(text: Sequence[str], known: tuple[str, ...]) -> dict[str, str]:
    """What `--classes` says -> expression: the class it counts as; expressions that are not in it are not judged.

    Args:
        text: `6`, `7` or `8`; or the names of the classes; either followed by `expression=class` for those that count
            as another, such as `7 contempt=disgust`.
        known: the model's expressions, which may have names of their own.

    Raises:
        ValueError: there is no such expression, or a class that was not named.
    """
    names = [name for one in text if "=" not in one for name in CLASS_SETS.get(one, (one,))]
    mapping = {name: name for name in names} | dict(one.split("=", 1) for one in text if "=" in one)
    for name, counted in mapping.items():
        for one in (name, counted):
            if one not in EXPRESSIONS and one not in known:
                raise ValueError(f"--classes: no expression {one!r}; there are 6, 7, 8 and {', '.join(EXPRESSIONS)}")
        if counted not in names:
            raise ValueError(f"--classes: {name}={counted}, but {counted} is none of the classes {', '.join(names)}")
    return mapping


def expression_report(embeddings: Embeddings, seed: int, mapping: dict[str, str] | None = None) -> dict:
    """Judge the most probable expression of every labelled photograph.

    Corpus and model name expressions alike, whatever the order of either.

    Args:
        mapping: expression -> the class it is judged as (`class_mapping`). Probabilities of expressions that count as
            one class are added, those that are not judged left out and the others scaled to 1. A class that the model
            does not know is never predicted: its photographs are errors. None: the model's own classes, and a label
            that it does not know is no error of the model.

    Returns:
        `metrics.classification` in the paper's order, with "unlabelled", "unknown_to_model" (name -> count of labels
        left out) and "mapping"; "calibration" (`probabilities.calibration_error`); where annotators voted, "votes"
        (`probabilities.soft_label_report`) over all photographs with votes for these classes, "photographs" their
        number and "dropped_votes" the mean share of votes for other classes. Where the corpus knows who is who,
        accuracy and recall also carry "bootstrap", their interval over people: one person of LFW's fold 10 gives half
        of its neutral faces.

    Raises:
        TooLittleError: no photograph carries a label that is judged.
    """
    mapping = {name: name for name in embeddings.classes} if mapping is None else mapping
    classes = paper_order(tuple(dict.fromkeys(mapping.values())))
    probabilities = _probabilities(embeddings, mapping, classes)
    known = [row for row, name in enumerate(embeddings.expressions) if name in mapping]
    if not known:
        raise TooLittleError(f"no labelled picture to judge: no photograph is labelled {', '.join(mapping)}")
    labels = [classes.index(mapping[embeddings.expressions[row]]) for row in known]
    predictions = probabilities[known].argmax(-1)
    unknown = Counter(name for name in embeddings.expressions if name is not None and name not in mapping)
    result = classification(labels, predictions, classes)
    people = [embeddings.identities[row] for row in known]
    if None not in people:
        labels, right = np.array(labels), np.equal(labels, predictions)
        result["accuracy"] = share_of_pairs(right, labels >= 0, people, people, seed=seed)
        for index, name in enumerate(classes):
            result["recall"][name] = share_of_pairs(right, labels == index, people, people, seed=seed)
    result |= {
        "unlabelled": sum(name is None for name in embeddings.expressions),
        "unknown_to_model": dict(unknown),
        "mapping": mapping,
        "never_predicted": [name for name in classes if not set(embeddings.classes) & _counted_as(mapping, name)],
        "calibration": calibration_error(probabilities[known], labels),
    }
    voted = [row for row, votes in enumerate(embeddings.votes) if votes is not None]
    if voted:
        votes = np.zeros((len(voted), len(classes)))
        for column, name in enumerate(EXPRESSIONS):
            if name in mapping:
                votes[:, classes.index(mapping[name])] += [embeddings.votes[row][column] for row in voted]
        kept = votes.sum(1) > 1e-6
        result["votes"] = soft_label_report(
            probabilities[voted][kept], votes[kept] / votes[kept].sum(1, keepdims=True)
        ) | {"photographs": int(kept.sum()), "dropped_votes": max(0.0, float(1 - votes.sum(1).mean()))}
    return result


def _counted_as(mapping: dict[str, str], name: str) -> set[str]:
    return {one for one, counted in mapping.items() if counted == name}


def _probabilities(embeddings: Embeddings, mapping: dict[str, str], classes: list[str]) -> np.ndarray:
    """(n, classes) of the classes judged, rows of sum 1; uniform where the model gives none of them anything."""
    result = np.zeros((len(embeddings), len(classes)))
    for column, name in enumerate(embeddings.classes):
        if name in mapping:
            result[:, classes.index(mapping[name])] += embeddings.expression_probabilities[:, column]
    total = result.sum(1, keepdims=True)
    return np.where(total > 0, result / np.maximum(total, 1e-30), 1 / len(classes))
