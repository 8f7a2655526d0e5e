"""Composite people: parts of one person in the face of another, made of the training photographs themselves.

A face with another person's eyes, nose or mouth is a further identity, with as many images as there are pairs of
photographs of the two people. They add identities to a corpus of few people, and make the network use every part of a
face (Hu et al., "Frankenstein: learning deep face representations using small data", IEEE TIP 2018, arXiv 1603.06470).
Called by `batches`. Next: `photographs`.
"""

from dataclasses import dataclass

import numpy as np
import PIL.Image

from train.photographs import Photographs

PARTS = ("eyes", "nose", "mouth")
PHOTOGRAPHS = 20  # of a person that are used at most
SOFT = 0.15  # width of a part's blended edge, as a fraction of its radius


@dataclass(frozen=True)
class Composite:
    """Who gives the parts, who the rest, who that is (a label of the identity), and their photographs' rows."""

    label: int
    donor: int
    base: int
    parts: tuple[str, ...]
    donor_rows: np.ndarray
    base_rows: np.ndarray

    def __len__(self) -> int:
        return len(self.donor_rows) * len(self.base_rows)

    def rows(self, photograph: int) -> tuple[int, int]:
        """The donor's and the base's photograph that make the composite's."""
        base, donor = divmod(photograph, len(self.donor_rows))
        return int(self.donor_rows[donor]), int(self.base_rows[base])


class Composites:
    """The pictures of all composite people as one list, person after person; a row is a place in this list.

    Args:
        photographs: with landmarks where there are to be composites.
        count: of people, 0 for none. seed: who is drawn is a function of it.

    Attributes:
        people: the composite people, labelled from `photographs.labels.num_identities` on.
        counts: (people,) pictures of each.
    """

    def __init__(self, photographs: Photographs, count: int, seed: int):
        self.photographs = photographs
        self.people = draw_composites(photographs.labels.identity, count, seed) if count else []
        self.counts = np.array([len(person) for person in self.people], dtype=int)
        self._ends = np.cumsum(self.counts)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def _made_of(self, row: int) -> tuple[Composite, int, int]:
        """The person of a row, and the rows of the donor's and the base's photograph."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        person = self.people[number]
        return person, *person.rows(row - int(self._ends[number] - self.counts[number]))

    def pictures(self, rows: list[int]) -> list[np.ndarray | Exception]:
        """The composed pictures, as `Photographs.pictures` gives them."""
        made_of = [self._made_of(row) for row in rows]
        sources = [source for _, donor, base in made_of for source in (donor, base)]
        pictures = iter(zip(sources, self.photographs.pictures(sources), strict=True))
        return [self._composed(person, next(pictures), next(pictures)) for person, _, _ in made_of]

    def _composed(self, person: Composite, donor: tuple, base: tuple) -> np.ndarray | Exception:
        """donor, base: the row of a photograph, and its picture or why it cannot be decoded."""
        for _, picture in (donor, base):
            if isinstance(picture, Exception):
                return picture
        (donor_picture, from_donor), (base_picture, from_base) = (
            (picture, self.photographs.landmarks[row] * [picture.shape[1], picture.shape[0]])
            for row, picture in (donor, base)
        )
        return compose(base_picture, from_base, donor_picture, from_donor, person.parts)

    def key(self, row: int) -> str:
        """The parts, and the names of the two photographs."""
        person, donor, base = self._made_of(row)
        return f"{self.photographs.keys[base]} with the {' and '.join(person.parts)} of {self.photographs.keys[donor]}"

    def identity(self, row: int) -> int:
        return self._made_of(row)[0].label

    def expression(self, row: int) -> np.ndarray:
        """(n,) zeros: the parts of two photographs show no expression that is known."""
        return np.zeros_like(self.photographs.labels.expression[0])

    def landmarks_of(self, row: int) -> np.ndarray:
        """(5, 2) of the base's photograph, as fractions of the side."""
        _, _, base = self._made_of(row)
        return self.photographs.landmarks[base]

    def target(self, row: int) -> np.ndarray:
        """(d,) NaN: the teacher has not seen the picture."""
        return np.full_like(self.photographs.targets[0], np.nan)


def draw_composites(identity: np.ndarray, count: int, seed: int) -> list[Composite]:
    """`count` composite people, no two of the same donor, base and parts, with the labels after those of the people.

    Args:
        identity: (rows,) labels of the photographs, negative where the person is unknown.
        count: how many; as many as there are where that is fewer.

    Raises:
        ValueError: fewer than two known people.
    """
    random = np.random.default_rng((seed, 0))
    photographs = _photographs(identity, random)
    people = np.array(list(photographs))
    # one part, or two: of three there would remain the base's hair and chin
    choices = [(part,) for part in PARTS] + [tuple(part for part in PARTS if part != left) for left in PARTS]
    count = min(count, len(people) * (len(people) - 1) * len(choices))
    drawn: dict[tuple, None] = {}  # in the order they were drawn
    while len(drawn) < count:
        donor, base = random.choice(people, 2, replace=False).tolist()
        drawn[donor, base, choices[random.integers(len(choices))]] = None
    return [
        Composite(label, donor, base, parts, photographs[donor], photographs[base])
        for label, (donor, base, parts) in enumerate(drawn, start=int(people.max()) + 1)
    ]


def _photographs(identity: np.ndarray, random: np.random.Generator) -> dict[int, np.ndarray]:
    """Person -> rows of their photographs, at most PHOTOGRAPHS of them."""
    people = np.unique(identity[identity >= 0]).tolist()
    if len(people) < 2:
        raise ValueError(f"composites need two known people or more, not {len(people)}")
    return {person: random.permutation(np.flatnonzero(identity == person))[:PHOTOGRAPHS] for person in people}


def compose(
    base: np.ndarray, base_landmarks: np.ndarray, donor: np.ndarray, donor_landmarks: np.ndarray, parts: tuple[str, ...]
) -> np.ndarray:
    """The base's face with the donor's parts, moved to where the base has them and brought to its brightness.

    Args:
        base, donor: (h, w, 3) uint8. base_landmarks, donor_landmarks: (5, 2) left eye, right eye, nose, left and right
            corner of the mouth, in pixels. parts: of PARTS.

    Returns:
        (h, w, 3) uint8, of the base's shape.
    """
    if (_yaw(base_landmarks) < 0) != (_yaw(donor_landmarks) < 0):  # they look to different sides
        donor = donor[:, ::-1]
        donor_landmarks = (donor_landmarks * [-1, 1] + [donor.shape[1] - 1, 0])[[1, 0, 2, 4, 3]]
    mixed, donor = base.copy(), PIL.Image.fromarray(donor)
    for part in parts:
        mask, left, top = part_mask(part, base_landmarks, *base.shape[:2])
        height, width = mask.shape[:2]
        if not mask.size:  # it lies outside the picture
            continue
        region = mixed[top : top + height, left : left + width]
        moved = donor.transform(
            (width, height),
            PIL.Image.Transform.AFFINE,
            affine_between(base_landmarks - [left, top], donor_landmarks),
            PIL.Image.Resampling.BILINEAR,
        )
        moved = np.asarray(moved, dtype=np.float32)
        light = ((region * mask).sum(axis=(0, 1)) + 1) / ((moved * mask).sum(axis=(0, 1)) + 1)
        region[:] = (region + mask * (moved * light.clip(0.5, 2) - region)).round().clip(0, 255)
    return mixed


def part_mask(part: str, landmarks: np.ndarray, height: int, width: int) -> tuple[np.ndarray, int, int]:
    """An ellipse around the part with a soft edge, turned as the face is.

    Returns:
        (h, w, 1) float32 in 0..1 of the rectangle that holds it within a picture of height and width, and where its
        left and upper side lie there.
    """
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    length = max(np.linalg.norm(mouth - eyes), 1.0)  # turning the head hardly changes it, unlike the eyes' distance
    down = (mouth - eyes) / length
    between_eyes, mouth_wide = np.linalg.norm(right_eye - left_eye), np.linalg.norm(right_mouth - left_mouth)
    center, across_radius, down_radius = {
        "eyes": (eyes - 0.1 * length * down, between_eyes / 2 + 0.45 * length, 0.38 * length),
        "nose": (0.35 * eyes + 0.65 * nose, 0.36 * length, 0.5 * length),
        "mouth": (mouth, mouth_wide / 2 + 0.25 * length, 0.33 * length),
    }[part]
    reach = (1 + SOFT) * max(across_radius, down_radius)
    (left, top), (right, bottom) = (np.clip(center + sign * reach, 0, [width, height]).astype(int) for sign in (-1, 1))
    x = np.arange(left, right, dtype=np.float32) - center[0]
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - center[1]
    along, over = x * down[0] + y * down[1], x * down[1] - y * down[0]
    radius = np.sqrt((over / across_radius) ** 2 + (along / down_radius) ** 2)
    mask = (0.5 + (1 - radius) / (2 * SOFT)).clip(0, 1).astype(np.float32)
    return mask[..., None], int(left), int(top)


def affine_between(points: np.ndarray, others: np.ndarray) -> tuple[float, ...]:
    """(a, b, c, d, e, f) of x' = a x + b y + c, y' = d x + e y + f, by least squares from points to others."""
    known = np.column_stack([points, np.ones(len(points))])
    solution, *_ = np.linalg.lstsq(known, others, rcond=None)
    return tuple(solution.T.ravel().tolist())


def _yaw(landmarks: np.ndarray) -> float:
    """Which side the nose lies on: negative for the picture's left."""
    return float(landmarks[2, 0] - landmarks[[0, 1, 3, 4], 0].mean())
