"""People to render attacks from: their photographs, as a prepared corpus keeps them, by what each is needed for."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset
from PIL import Image, ImageOps

from authentication.session.turn import is_face, nose_offset, shape_of
from evaluation.renderings import photograph_of
from face_data.table import column

TURNED_OFFSET = 0.25  # from which a photograph shows a turned head, in units of `turn.nose_offset`
MOST_PHOTOGRAPHS = 60  # of one person that are looked through


@dataclass(frozen=True)
class Photograph:
    """landmarks: (5, 2) in pixels of the image."""

    image: Image.Image
    landmarks: np.ndarray


@dataclass
class Person:
    """Photographs of one person, by what they are needed for.

    expressions: name -> photograph. turned: of the head turned to its left, mirrored where it was the other side.
    reference: another photograph than these; None where there is none.
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
    own = defaultdict(list)
    for name, expression, photograph in photographs:
        own[name].append((expression, photograph, nose_offset(shape_of(photograph.landmarks))))
    people = []
    for name, rows in sorted(own.items()):
        rows.sort(key=lambda row: abs(row[2]))  # the most frontal one of each expression is taken
        ahead = [(expression, one) for expression, one, offset in rows if abs(offset) < TURNED_OFFSET / 2]
        neutral = next((one for expression, one in ahead if expression == "neutral"), None)
        if neutral is None:
            continue
        person = Person(name, neutral)
        for expression, one in ahead:
            if expression not in (None, "neutral"):
                person.expressions.setdefault(expression, one)
        side = max(rows, key=lambda row: abs(row[2]))
        if abs(side[2]) >= TURNED_OFFSET:
            person.turned = side[1] if side[2] > 0 else mirrored(side[1])
        used = [neutral, person.turned, side[1], *person.expressions.values()]
        person.reference = next((one for _, one, _ in rows if not any(one is other for other in used)), None)
        people.append(person)
    return people


def mirrored(photograph: Photograph) -> Photograph:
    points = photograph.landmarks * (-1, 1) + (photograph.image.width - 1, 0)
    return Photograph(ImageOps.mirror(photograph.image), points[[1, 0, 2, 4, 3]])


def photographs_of(corpus: Dataset, margin: float, wanted: set[str]) -> Iterator[tuple[str, str | None, Photograph]]:
    """What `people_of` asks for, from a prepared corpus.

    Args:
        margin: with which its faces were cut out (`corpus.json`'s options).
        wanted: identities.
    """
    names, seen = corpus.features["expression"].names, defaultdict(int)
    for row, identity in enumerate(column(corpus, "identity")):
        if identity not in wanted or seen[identity] >= MOST_PHOTOGRAPHS:
            continue
        seen[identity] += 1
        one = corpus[row]
        crop, box = np.asarray(one["image"].convert("RGB")), np.array(one["box"])
        image, matrix = photograph_of(crop, box, margin)
        landmarks = np.hstack([np.array(one["landmarks"]), np.ones((5, 1))]) @ matrix.T
        if is_face(landmarks):
            yield (
                identity,
                None if one["expression"] is None else names[one["expression"]],
                Photograph(image, landmarks),
            )


def people_in(corpus: Dataset, margin: float, most: int) -> list[Person]:
    """At most so many people of a prepared corpus: those with the most kinds of photographs first, then by name."""
    names = corpus.features["expression"].names
    labels = defaultdict(set)
    for identity, label in zip(column(corpus, "identity"), column(corpus, "expression"), strict=True):
        if identity is not None and label is not None:
            labels[identity].add(names[label])
    able = sorted((one for one, seen in labels.items() if "neutral" in seen), key=lambda one: (-len(labels[one]), one))
    people = people_of(photographs_of(corpus, margin, set(able)))
    people.sort(key=lambda one: (not one.expressions, one.turned is None, one.reference is None, one.name))
    return people[:most]
