"""Facial expression recognition: the paper's accuracy and confusion matrix (section 5.1b), counts and intervals."""

from collections import Counter

import numpy as np

from evaluation.embeddings import Embeddings
from evaluation.metrics import classification, share_of_pairs
from face_data.table import EXPRESSIONS


def paper_order(classes: tuple[str, ...]) -> list[str]:
    """The model's expressions as the paper's tables order them; names the paper does not have come last."""
    return [name for name in EXPRESSIONS if name in classes] + [name for name in classes if name not in EXPRESSIONS]


def expression_report(embeddings: Embeddings, seed: int) -> dict:
    """Judge the most probable expression of every labelled photograph.

    Corpus and model name expressions alike, whatever the order of either; a label that the model does not know is no
    error of the model: such photographs are left out and counted.

    Returns:
        `metrics.classification` in the paper's order, with "unlabelled" and "unknown_to_model" (name -> count). Where
        the corpus knows who is who, accuracy and recall also carry "bootstrap", their interval over people: one person
        of LFW's fold 10 gives half of its neutral faces.

    Raises:
        ValueError: no photograph carries a label the model knows.
    """
    classes = paper_order(embeddings.classes)
    known = [row for row, name in enumerate(embeddings.expressions) if name in classes]
    labels = [classes.index(embeddings.expressions[row]) for row in known]
    likeliest = embeddings.expression_probabilities[known].argmax(-1)
    predictions = [classes.index(embeddings.classes[column]) for column in likeliest]
    unknown = Counter(name for name in embeddings.expressions if name is not None and name not in classes)
    result = classification(labels, predictions, classes)
    people = [embeddings.identities[row] for row in known]
    if None not in people:
        labels, right = np.array(labels), np.equal(labels, predictions)
        result["accuracy"] = share_of_pairs(right, labels >= 0, people, people, seed=seed)
        for index, name in enumerate(classes):
            result["recall"][name] = share_of_pairs(right, labels == index, people, people, seed=seed)
    return result | {
        "unlabelled": sum(name is None for name in embeddings.expressions),
        "unknown_to_model": dict(unknown),
    }
