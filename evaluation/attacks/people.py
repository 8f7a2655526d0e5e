"""Chooses the people of a prepared corpus from whose photographs attacks are rendered, and their photographs.

`command` calls `choose_people` for each corpus. Read `renderings` next.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset
from PIL import Image, ImageOps

from authentication.session.turn import is_face
from evaluation.attacks.renderings import restore_proportions
from evaluation.quality import face_and_landmarks
from face_data.table import column
from image_processing_facelivenet import nose_offset

TURNED_OFFSET = 0.25  # a photograph with a larger `nose_offset` than this, to either side, shows a turned head
MAX_PHOTOGRAPHS = 60  # photographs of one person that are read


@dataclass(frozen=True)
class Photograph:
    """landmarks: (5, 2) in pixels of the image."""

    image: Image.Image
    landmarks: np.ndarray


@dataclass
class Person:
    """One photograph of a person for each purpose.

    expressions: name -> photograph. turned: with the head turned to the person's left; mirrored if it was turned to the
    right. reference: a further photograph; None if there is no further one.
    """

    name: str
    neutral: Photograph
    expressions: dict[str, Photograph] = field(default_factory=dict)
    turned: Photograph | None = None
    reference: Photograph | None = None


def group_by_person(photographs: Iterable[tuple[str, str | None, Photograph]]) -> list[Person]:
    """All people who have a frontal neutral photograph.

    Args:
        photographs: (identity, expression or None, photograph).
    """
    by_person = defaultdict(list)
    for name, expression, photograph in photographs:
        by_person[name].append((expression, photograph, nose_offset(photograph.landmarks)))
    people = []
    for name, rows in sorted(by_person.items()):
        rows.sort(key=lambda row: abs(row[2]))  # the most frontal photograph of each expression is taken
        frontal = [
            (expression, photograph) for expression, photograph, offset in rows if abs(offset) < TURNED_OFFSET / 2
        ]
        neutral = next((photograph for expression, photograph in frontal if expression == "neutral"), None)
        if neutral is None:
            continue
        person = Person(name, neutral)
        for expression, photograph in frontal:
            if expression not in (None, "neutral"):
                person.expressions.setdefault(expression, photograph)
        _, most_turned, offset = max(rows, key=lambda row: abs(row[2]))
        if abs(offset) >= TURNED_OFFSET:
            person.turned = most_turned if offset > 0 else mirrored(most_turned)
        used_ids = {id(photograph) for photograph in (neutral, most_turned, *person.expressions.values())}
        person.reference = next((photograph for _, photograph, _ in rows if id(photograph) not in used_ids), None)
        people.append(person)
    return people


def mirrored(photograph: Photograph) -> Photograph:
    """The mirror image, with the landmarks of the person's left and right exchanged."""
    points = photograph.landmarks * (-1, 1) + (photograph.image.width - 1, 0)
    return Photograph(ImageOps.mirror(photograph.image), points[[1, 0, 2, 4, 3]])


def read_photographs(corpus: Dataset, identities: set[str]) -> Iterator[tuple[str, str | None, Photograph]]:
    """Read the photographs of these people from a prepared corpus, as `group_by_person` expects them."""
    expression_names, read_counts = corpus.features["expression"].names, defaultdict(int)
    for number, identity in enumerate(column(corpus, "identity")):
        if identity not in identities or read_counts[identity] >= MAX_PHOTOGRAPHS:
            continue
        read_counts[identity] += 1
        row = corpus[number]
        found = face_and_landmarks(row)
        if found is None:
            continue
        face, landmarks = found
        image = restore_proportions(face, row["crop"] or (0, 0, *face.size))  # no crop: aligned by the landmarks
        landmarks = landmarks * np.divide(image.size, face.size)
        if is_face(landmarks):
            expression = None if row["expression"] is None else expression_names[row["expression"]]
            yield identity, expression, Photograph(image, landmarks)


def choose_people(corpus: Dataset, limit: int) -> list[Person]:
    """At most `limit` people of a prepared corpus: those with the most kinds of photographs first, then by name."""
    expression_names = corpus.features["expression"].names
    labels = defaultdict(set)
    for identity, label in zip(column(corpus, "identity"), column(corpus, "expression"), strict=True):
        if identity is not None and label is not None:
            labels[identity].add(expression_names[label])
    identities = {identity for identity, expressions in labels.items() if "neutral" in expressions}
    people = group_by_person(read_photographs(corpus, identities))
    people.sort(
        key=lambda person: (not person.expressions, person.turned is None, person.reference is None, person.name)
    )
    return people[:limit]
