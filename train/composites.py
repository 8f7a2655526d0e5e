"""Composite people: faces of training photographs with the eyes, nose or mouth of another person.

Such a face is an additional identity, with as many images as there are pairs of photographs of the two people. They
help if a corpus has few people, and make the network use all parts of a face (Hu et al., "Frankenstein: learning deep
face representations using small data", IEEE TIP 2018, arXiv 1603.06470).

Called by `batches`. Next to read: train/photographs.py.
"""

from dataclasses import dataclass

import numpy as np
import PIL.Image

from train.photographs import Photographs

PARTS = ("eyes", "nose", "mouth")
PHOTOGRAPHS = 20  # largest number of photographs of a person that are used
EDGE_WIDTH = 0.15  # of the blended edge of a part, as a fraction of its radius


@dataclass(frozen=True)
class Composite:
    """One composite person.

    Attributes:
        label: its identity.
        donor: identity of the person who gives the parts. base: identity of the person who gives all the rest.
        parts: some of PARTS.
        donor_rows, base_rows: rows of the photographs of the two people.
    """

    label: int
    donor: int
    base: int
    parts: tuple[str, ...]
    donor_rows: np.ndarray
    base_rows: np.ndarray

    def __len__(self) -> int:
        return len(self.donor_rows) * len(self.base_rows)

    def rows(self, image: int) -> tuple[int, int]:
        """The rows of the donor's and the base's photograph for an image, counted from 0."""
        base, donor = divmod(image, len(self.donor_rows))
        return int(self.donor_rows[donor]), int(self.base_rows[base])


class Composites:
    """The images of all composite people as one list, person after person; a row is a place in this list.

    Args:
        photographs: with landmarks, unless count is 0.
        count: number of composite people. seed: the choice of people and parts depends only on it.

    Attributes:
        people: the composite people; their labels follow those of the people in `photographs`.
        counts: (people,) number of images of each.
    """

    def __init__(self, photographs: Photographs, count: int, seed: int):
        self.photographs = photographs
        self.people = draw_composites(photographs.labels.identity, count, seed) if count else []
        self.counts = np.array([len(person) for person in self.people], dtype=int)
        self._ends = np.cumsum(self.counts)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def _sources_of(self, row: int) -> tuple[Composite, int, int]:
        """The composite person of a row, and the rows of the donor's and the base's photograph."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        person = self.people[number]
        return person, *person.rows(row - int(self._ends[number] - self.counts[number]))

    def images(self, rows: list[int]) -> list[np.ndarray | Exception]:
        """The composed images, in the form of `Photographs.images`."""
        sources_of_rows = [self._sources_of(row) for row in rows]
        sources = [source for _, donor, base in sources_of_rows for source in (donor, base)]
        images = iter(zip(sources, self.photographs.images(sources), strict=True))
        return [self._composed(person, next(images), next(images)) for person, _, _ in sources_of_rows]

    def _composed(self, person: Composite, donor: tuple, base: tuple) -> np.ndarray | Exception:
        """donor, base: the row of a photograph, and its image, or the error if it cannot be decoded."""
        for _, image in (donor, base):
            if isinstance(image, Exception):
                return image
        (donor_image, from_donor), (base_image, from_base) = (
            (image, self.photographs.landmarks[row] * [image.shape[1], image.shape[0]]) for row, image in (donor, base)
        )
        return compose(base_image, from_base, donor_image, from_donor, person.parts)

    def key(self, row: int) -> str:
        """A name that contains the parts and the names of the two photographs."""
        person, donor, base = self._sources_of(row)
        return f"{self.photographs.keys[base]} with the {' and '.join(person.parts)} of {self.photographs.keys[donor]}"

    def identity(self, row: int) -> int:
        return self._sources_of(row)[0].label

    def expression(self, row: int) -> np.ndarray:
        """(n,) zeros, because the expression of a composed face is unknown."""
        return np.zeros_like(self.photographs.labels.expression[0])

    def landmarks_of(self, row: int) -> np.ndarray:
        """(5, 2) landmarks of the base's photograph, as fractions of the side."""
        _, _, base = self._sources_of(row)
        return self.photographs.landmarks[base]

    def target(self, row: int) -> np.ndarray:
        """(d,) NaN, because the vector of the teacher is not computed yet."""
        return np.full_like(self.photographs.targets[0], np.nan)


def draw_composites(identity: np.ndarray, count: int, seed: int) -> list[Composite]:
    """Draw composite people, all different in donor, base or parts. Their labels follow those of the people.

    Args:
        identity: (rows,) labels of the photographs, negative if the person is unknown.
        count: number of composite people; if fewer are possible, all of these.

    Raises:
        ValueError: fewer than two known people.
    """
    random = np.random.default_rng((seed, 0))
    photographs = _photographs(identity, random)
    people = np.array(list(photographs))
    # one or two parts: with three, only hair and chin of the base would remain
    choices = [(part,) for part in PARTS] + [tuple(part for part in PARTS if part != omitted) for omitted in PARTS]
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
    """Identity -> rows of the person's photographs, at most PHOTOGRAPHS."""
    people = np.unique(identity[identity >= 0]).tolist()
    if len(people) < 2:
        raise ValueError(f"composites need two known people or more, not {len(people)}")
    return {person: random.permutation(np.flatnonzero(identity == person))[:PHOTOGRAPHS] for person in people}


def compose(
    base: np.ndarray, base_landmarks: np.ndarray, donor: np.ndarray, donor_landmarks: np.ndarray, parts: tuple[str, ...]
) -> np.ndarray:
    """The face of the base with parts of the donor, which are moved to their place and adapted in brightness.

    Args:
        base, donor: (h, w, 3) uint8. base_landmarks, donor_landmarks: (5, 2) left eye, right eye, nose, left and right
            corner of the mouth, in pixels. parts: some of PARTS.

    Returns:
        (h, w, 3) uint8, in the shape of `base`.
    """
    if (_yaw(base_landmarks) < 0) != (_yaw(donor_landmarks) < 0):  # the faces are turned to different sides
        donor = donor[:, ::-1]
        donor_landmarks = (donor_landmarks * [-1, 1] + [donor.shape[1] - 1, 0])[[1, 0, 2, 4, 3]]
    mixed, donor = base.copy(), PIL.Image.fromarray(donor)
    for part in parts:
        mask, left, top = part_mask(part, base_landmarks, *base.shape[:2])
        height, width = mask.shape[:2]
        if not mask.size:  # the part lies outside of the image
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
    """An ellipse around a part, with a soft edge, rotated like the face.

    Returns:
        (h, w, 1) float32 in 0..1 of the rectangle that contains the ellipse in an image of this height and width, and
        the left and the upper side of the rectangle in pixels.
    """
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    # unlike the distance of the eyes, this one hardly changes if the head turns
    length = max(np.linalg.norm(mouth - eyes), 1.0)
    down = (mouth - eyes) / length
    between_eyes, mouth_wide = np.linalg.norm(right_eye - left_eye), np.linalg.norm(right_mouth - left_mouth)
    center, across_radius, down_radius = {
        "eyes": (eyes - 0.1 * length * down, between_eyes / 2 + 0.45 * length, 0.38 * length),
        "nose": (0.35 * eyes + 0.65 * nose, 0.36 * length, 0.5 * length),
        "mouth": (mouth, mouth_wide / 2 + 0.25 * length, 0.33 * length),
    }[part]
    reach = (1 + EDGE_WIDTH) * max(across_radius, down_radius)
    (left, top), (right, bottom) = (np.clip(center + sign * reach, 0, [width, height]).astype(int) for sign in (-1, 1))
    x = np.arange(left, right, dtype=np.float32) - center[0]
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - center[1]
    from_center_down, from_center_across = x * down[0] + y * down[1], x * down[1] - y * down[0]
    radius = np.sqrt((from_center_across / across_radius) ** 2 + (from_center_down / down_radius) ** 2)
    mask = (0.5 + (1 - radius) / (2 * EDGE_WIDTH)).clip(0, 1).astype(np.float32)
    return mask[..., None], int(left), int(top)


def affine_between(points: np.ndarray, others: np.ndarray) -> tuple[float, ...]:
    """(a, b, c, d, e, f) of the map x' = a x + b y + c, y' = d x + e y + f from points to others, by least squares."""
    homogeneous = np.column_stack([points, np.ones(len(points))])
    solution, *_ = np.linalg.lstsq(homogeneous, others, rcond=None)
    return tuple(solution.T.ravel().tolist())


def _yaw(landmarks: np.ndarray) -> float:
    """Horizontal distance of the nose from the middle of the face: negative to the left in the image."""
    return float(landmarks[2, 0] - landmarks[[0, 1, 3, 4], 0].mean())
