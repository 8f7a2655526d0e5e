"""Checks that an expression moves the whole face, and that it takes time. Changed photographs fail these checks.

**The upper face moves with the mouth.** An attacker may cover the mouth of a photograph with a strip of paper, draw on
it, warp its corners, or hold the upper half of a photograph over a living mouth. Each of these changes only the mouth.
A smile also lifts the cheeks and narrows the eyes, and surprise raises the brows. So the band from the brows to the
cheeks is cut out. It is aligned to the band of the neutral face by an affine map and a change of light. The remaining
difference is compared with the noise between neutral frames.

Measurements, which do not depend on the network: smiles differ from the neutral face by 0.06 to 0.19 of the band's
contrast (12 people of the London set, two photographs each; 5th percentile 0.07), and by 0.15 to 0.20 in a film of a
man who begins to smile. Neutral photographs with a strip of paper, a sticker, a finger or a drawn mouth differ by 0.013
to 0.047 there; for 20 people of LFW the 95th percentile is 0.047 (120 images, at most 0.085). Warped corners of the
mouth give 0.007 to 0.038 (96 images).

**It appears gradually.** When two photographs are exchanged, everything changes from one frame to the next. A face
needs several frames. The largest single step is compared with the total change, so absolute sizes do not matter.

`machine` calls both checks. Read it next.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 40, 64  # size of the band in pixels
BAND_WIDTH = 2.0  # in units of the distance between the eyes
ABOVE_EYES = 0.65  # part above the eyes, in the same unit: with the brows and mostly without hair
SMOOTHINGS = 3  # each with weights 1 2 1 in both directions
MIN_CHANGE = 0.055  # in units of the contrast
MIN_CHANGE_OVER_NOISE = 2.0
MAX_BANDS = 8  # number of newest bands that are averaged
SUDDEN_SHARE = 0.8  # an action is sudden if one step makes up this share of the total change

_Y, _X = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
_ACROSS, _DOWN = (_X - WIDTH / 2) / WIDTH, (_Y - HEIGHT / 2) / WIDTH
_INSIDE = np.zeros((HEIGHT, WIDTH), bool)
_INSIDE[5:31, 6:-6] = True  # stays inside the band after a small shift, and is not reached by a drawn mouth


def upper_face(image: Image.Image, landmarks: np.ndarray) -> np.ndarray:
    """The band from the brows to the cheeks, rotated so that the eyes are horizontal.

    Args:
        image: of any mode that converts to grey.
        landmarks: (5, 2) pixels, the eyes first.

    Returns:
        (HEIGHT, WIDTH) float32 grey levels, 0 to 255, smoothed so that noise and resampling do not look like movement.
    """
    left_eye, right_eye = np.asarray(landmarks, np.float64)[:2]
    distance = max(float(np.linalg.norm(right_eye - left_eye)), 1.0)
    across = (right_eye - left_eye) / distance
    down = np.array([-across[1], across[0]])
    corner = (left_eye + right_eye) / 2 - across * distance * BAND_WIDTH / 2 - down * distance * ABOVE_EYES
    low = np.floor(corner - distance * BAND_WIDTH).astype(
        int
    )  # a box around the band; only this part is converted to grey
    box = [*np.maximum(low, 0), *np.minimum(np.ceil(corner + 2 * distance * BAND_WIDTH).astype(int), image.size)]
    if box[0] >= box[2] or box[1] >= box[3]:
        return np.zeros((HEIGHT, WIDTH), np.float32)
    grey, corner, scale = image.crop(box).convert("L"), corner - box[:2], BAND_WIDTH * distance / WIDTH
    if scale >= 2:  # the warp below samples single pixels, so average first if it would skip some
        grey, corner, scale, factor = grey.reduce(int(scale)), corner / int(scale), scale / int(scale), int(scale)
        corner = corner + 0.5 / factor - 0.5
    warp = (across[0] * scale, down[0] * scale, corner[0], across[1] * scale, down[1] * scale, corner[1])
    band = grey.transform((WIDTH, HEIGHT), Image.Transform.AFFINE, warp, Image.Resampling.BILINEAR)
    band = np.asarray(band, np.float32)
    for _ in range(SMOOTHINGS):
        padded = np.pad(band, 1, mode="edge")
        padded = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
        band = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return band


def _warped(band: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """The band moved by an affine motion (6,), with bilinear samples and repeated borders."""
    x = np.clip(_X + (motion[0] + motion[1] * _ACROSS + motion[2] * _DOWN), 0, WIDTH - 1.001)
    y = np.clip(_Y + (motion[3] + motion[4] * _ACROSS + motion[5] * _DOWN), 0, HEIGHT - 1.001)
    column, row = x.astype(int), y.astype(int)
    right, lower = x - column, y - row
    return (band[row, column] * (1 - right) + band[row, column + 1] * right) * (1 - lower) + (
        band[row + 1, column] * (1 - right) + band[row + 1, column + 1] * right
    ) * lower


def align_band(band: np.ndarray, reference: np.ndarray, rounds: int = 6) -> np.ndarray:
    """The band with the affine motion, brightness and contrast that fit the reference best (Lucas and Kanade, 1981).

    Args: both (HEIGHT, WIDTH).
    """
    motion, ones = np.zeros(6), np.ones(int(_INSIDE.sum()))
    across, down, target = _ACROSS[_INSIDE], _DOWN[_INSIDE], reference[_INSIDE]
    for _ in range(rounds):
        moved = _warped(band, motion)
        difference = target - moved[_INSIDE]
        if not difference.any():  # the reference itself
            break
        by_y, by_x = np.gradient(moved)
        values, x, y = moved[_INSIDE], by_x[_INSIDE], by_y[_INSIDE]
        slopes = np.stack([x, x * across, x * down, y, y * across, y * down, values, ones], axis=1)
        motion += _least_squares(slopes, difference)[:6]
        motion = np.clip(motion, -WIDTH / 4, WIDTH / 4)
    moved = _warped(band, motion)
    gain, offset = _least_squares(np.stack([moved[_INSIDE], ones], axis=1), target)
    return moved * gain + offset


def _least_squares(slopes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Normal equations: ten times as fast as a decomposition of (n, 8). Slight damping makes them always solvable."""
    square = slopes.T @ slopes
    return np.linalg.solve(square + 1e-6 * np.trace(square) * np.eye(len(square)) / len(square), slopes.T @ values)


class RestingFace:
    """The upper half of a neutral face.

    Args:
        bands: two or more results of `upper_face`; the newest MAX_BANDS are used.
    """

    def __init__(self, bands: Sequence[np.ndarray]):
        bands = list(bands)[-MAX_BANDS:]
        aligned = [align_band(band, bands[-1]) for band in bands]
        self.mean = np.mean(aligned, axis=0)
        self.contrast = max(float(self.mean[_INSIDE].std()), 1.0)
        self.noise = self._difference(np.mean(aligned[::2], axis=0), np.mean(aligned[1::2], axis=0))

    def moved(self, bands: Sequence[np.ndarray]) -> bool:
        """Whether the upper half moved, given bands of the same face with an expression."""
        return self.change(bands) >= max(MIN_CHANGE, MIN_CHANGE_OVER_NOISE * self.noise)

    def change(self, bands: Sequence[np.ndarray]) -> float:
        """The difference that an affine motion and light cannot explain, in units of the face's contrast.

        Args: results of `upper_face`; the newest MAX_BANDS are averaged. Without any the difference is 0.
        """
        bands = list(bands)[-MAX_BANDS:]
        if not bands:
            return 0.0
        return self._difference(np.mean([align_band(band, self.mean) for band in bands], axis=0), self.mean)

    def _difference(self, band: np.ndarray, reference: np.ndarray) -> float:
        return float(np.sqrt(np.mean((band - reference)[_INSIDE] ** 2))) / self.contrast


def was_sudden(amounts: Sequence[float], embeddings: Sequence[np.ndarray], resting_embedding: np.ndarray) -> bool:
    """Whether an action appeared from one frame to the next.

    Args:
        amounts: of the action in each frame, from the last neutral frame to the one that passed the step.
        embeddings: (d,) of the same frames.
        resting_embedding: (d,) of the neutral face.

    Returns:
        True if one step makes up SUDDEN_SHARE of the total change, in the amount and in the embedding at once.
    """
    if len(amounts) < 2:
        return True
    total_change = float(np.max(amounts) - amounts[0])
    distances = [_distance(embedding, following) for embedding, following in pairwise(embeddings)]
    largest_distance = max(_distance(resting_embedding, embedding) for embedding in embeddings)
    steps = np.diff(amounts)
    return any(
        step >= SUDDEN_SHARE * total_change and distance >= SUDDEN_SHARE * largest_distance
        for step, distance in zip(steps, distances, strict=True)
    )


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.linalg.norm(first - second))
