"""People to render attacks from: each person's photographs in a prepared corpus, by what they are needed for.

`command` calls `people_in` for each corpus. Next: `renderings`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset
from PIL import Image, ImageOps

from authentication.session.turn import is_face, nose_offset, shape_of
from evaluation.attacks.renderings import photograph_of
from face_data.table import column

TURNED_OFFSET = 0.25  # least `turn.nose_offset` of a photograph that shows a turned head
MOST_PHOTOGRAPHS = 60  # of a person that are read


@dataclass(frozen=True)
class Photograph:
    """landmarks: (5, 2) in pixels of the image."""

    image: Image.Image
    landmarks: np.ndarray


@dataclass
class Person:
    """Photographs of a person, by what they are needed for.

    expressions: name -> photograph. turned: of the head turned to its left, mirrored if it was turned to its right.
    reference: a photograph beside these; None without one.
    """

    name: str
    neutral: Photograph
    expressions: dict[str, Photograph] = field(default_factory=dict)
    turned: Photograph | None = None
    reference: Photograph | None = None


def people_of(photographs: Iterable[tuple[str, str | None, Photograph]]) -> list[Person]:
    """Everybody who has a neutral photograph that looks ahead.

    Args:
        photographs: (identity, expression or None, photograph).
    """
    by_person = defaultdict(list)
    for name, expression, photograph in photographs:
        by_person[name].append((expression, photograph, nose_offset(shape_of(photograph.landmarks))))
    people = []
    for name, rows in sorted(by_person.items()):
        rows.sort(key=lambda row: abs(row[2]))  # the most frontal photograph of each expression is taken
        ahead = [(expression, photograph) for expression, photograph, offset in rows if abs(offset) < TURNED_OFFSET / 2]
        neutral = next((photograph for expression, photograph in ahead if expression == "neutral"), None)
        if neutral is None:
            continue
        person = Person(name, neutral)
        for expression, photograph in ahead:
            if expression not in (None, "neutral"):
                person.expressions.setdefault(expression, photograph)
        _, most_turned, offset = max(rows, key=lambda row: abs(row[2]))
        if abs(offset) >= TURNED_OFFSET:
            person.turned = most_turned if offset > 0 else mirrored(most_turned)
        used = {id(photograph) for photograph in (neutral, most_turned, *person.expressions.values())}
        person.reference = next((photograph for _, photograph, _ in rows if id(photograph) not in used), None)
        people.append(person)
    return people


def mirrored(photograph: Photograph) -> Photograph:
    """The mirror image, with the landmarks of the person's left and right exchanged."""
    points = photograph.landmarks * (-1, 1) + (photograph.image.width - 1, 0)
    return Photograph(ImageOps.mirror(photograph.image), points[[1, 0, 2, 4, 3]])


def photographs_of(corpus: Dataset, margin: float, wanted: set[str]) -> Iterator[tuple[str, str | None, Photograph]]:
    """The argument of `people_of`, from a prepared corpus.

    Args:
        margin: with which its faces were cut out (`corpus.json`'s options).
        wanted: identities.
    """
    names, read = corpus.features["expression"].names, defaultdict(int)
    for number, identity in enumerate(column(corpus, "identity")):
        if identity not in wanted or read[identity] >= MOST_PHOTOGRAPHS:
            continue
        read[identity] += 1
        row = corpus[number]
        crop, box = np.asarray(row["image"].convert("RGB")), np.array(row["box"])
        image, matrix = photograph_of(crop, box, margin)
        landmarks = np.hstack([np.array(row["landmarks"]), np.ones((5, 1))]) @ matrix.T
        if is_face(landmarks):
            expression = None if row["expression"] is None else names[row["expression"]]
            yield identity, expression, Photograph(image, landmarks)


def people_in(corpus: Dataset, margin: float, most: int) -> list[Person]:
    """At most so many people of a prepared corpus: those with the most kinds of photographs first, then by name."""
    names = corpus.features["expression"].names
    labels = defaultdict(set)
    for identity, label in zip(column(corpus, "identity"), column(corpus, "expression"), strict=True):
        if identity is not None and label is not None:
            labels[identity].add(names[label])
    wanted = {identity for identity, expressions in labels.items() if "neutral" in expressions}
    people = people_of(photographs_of(corpus, margin, wanted))
    people.sort(
        key=lambda person: (not person.expressions, person.turned is None, person.reference is None, person.name)
    )
    return people[:most]
