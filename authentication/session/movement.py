"""An expression moves the whole face, and it takes time: two questions that photographs answer wrongly.

**The upper face moves with the mouth.** Who covers the mouth of a photograph with a strip of paper, draws on it, warps
its corners, or holds its upper half over a mouth of their own, changes the mouth alone. A smile lifts the cheeks and
narrows the eyes, a surprise raises the brows. So the band from the brows to the cheeks is cut out, laid onto that of
the neutral face as well as an affine map and a change of light can, and what differs still is compared with what the
camera's noise leaves of the neutral face itself.

Measured, and nothing of it depends on the network: smiles differ from the neutral face by 0.06 to 0.19 of the band's
contrast (12 people of the London set, two photographs each; 0.07 at the 5th percentile), in a film of a man who begins
to smile by 0.15 to 0.20. Strips of paper, a sticker, a finger or a drawn mouth on the neutral photographs leave 0.013
to 0.047 there, and 0.047 at the 95th percentile of 20 people of LFW (120 pictures, 0.085 at most); warped corners of
the mouth 0.007 to 0.038 (96 pictures).

**It comes gradually.** Two photographs that are exchanged change everything from one frame to the next; a face takes
some frames. Nothing here depends on absolute sizes: the largest single step is compared with the whole way.

Next: `machine`, which asks both.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 40, 64  # pixels of the band
EYES = 2.0  # width of the band in distances between the eyes
ABOVE = 0.65  # of that distance lies above the eyes: the brows are in, the fringe of the hair mostly not
SMOOTHINGS = 3  # with weights 1 2 1 in both directions
LEAST_CHANGE = 0.055  # of the contrast
LEAST_CHANGE_OVER_NOISE = 2.0
MOST_PICTURES = 8  # of a face at rest, and of an expression, that are compared
SUDDEN = 0.8  # of the whole way, in one step

_Y, _X = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
_ACROSS, _DOWN = (_X - WIDTH / 2) / WIDTH, (_Y - HEIGHT / 2) / WIDTH
_INSIDE = np.zeros((HEIGHT, WIDTH), bool)
_INSIDE[5:31, 6:-6] = True  # what a small shift does not push out of the band, and no drawn mouth reaches


def upper_face(image: Image.Image, landmarks: np.ndarray) -> np.ndarray:
    """The band from brows to cheeks, upright by the eyes.

    Args:
        image: of any mode that has a grey version.
        landmarks: (5, 2) pixels, the eyes first.

    Returns:
        (HEIGHT, WIDTH) float32, grey, 0 to 255, smoothed: noise and resampling must not look like movement.
    """
    left, right = np.asarray(landmarks, np.float64)[:2]
    distance = max(float(np.linalg.norm(right - left)), 1.0)
    across = (right - left) / distance
    down = np.array([-across[1], across[0]])
    corner = (left + right) / 2 - across * distance * EYES / 2 - down * distance * ABOVE
    low = np.floor(corner - distance * EYES).astype(int)  # around the band: only this is made grey
    box = [*np.maximum(low, 0), *np.minimum(np.ceil(corner + 2 * distance * EYES).astype(int), image.size)]
    if box[0] >= box[2] or box[1] >= box[3]:
        return np.zeros((HEIGHT, WIDTH), np.float32)
    grey, corner, scale = image.crop(box).convert("L"), corner - box[:2], EYES * distance / WIDTH
    if scale >= 2:  # the warp below samples points: average first where it would skip pixels
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
    """The band moved by an affine motion (6,): bilinear samples, the border repeated."""
    x = np.clip(_X + (motion[0] + motion[1] * _ACROSS + motion[2] * _DOWN), 0, WIDTH - 1.001)
    y = np.clip(_Y + (motion[3] + motion[4] * _ACROSS + motion[5] * _DOWN), 0, HEIGHT - 1.001)
    column, row = x.astype(int), y.astype(int)
    right, lower = x - column, y - row
    return (band[row, column] * (1 - right) + band[row, column + 1] * right) * (1 - lower) + (
        band[row + 1, column] * (1 - right) + band[row + 1, column + 1] * right
    ) * lower


def laid_onto(band: np.ndarray, reference: np.ndarray, rounds: int = 6) -> np.ndarray:
    """The band moved (affine), brightened and stretched in contrast so that it fits the reference best: the method of
    Lucas and Kanade (1981). Both (HEIGHT, WIDTH)."""
    motion, ones = np.zeros(6), np.ones(int(_INSIDE.sum()))
    across, down, target = _ACROSS[_INSIDE], _DOWN[_INSIDE], reference[_INSIDE]
    for _ in range(rounds):
        moved = _warped(band, motion)
        by_y, by_x = np.gradient(moved)
        values, x, y = moved[_INSIDE], by_x[_INSIDE], by_y[_INSIDE]
        slopes = np.stack([x, x * across, x * down, y, y * across, y * down, values, ones], axis=1)
        motion += _least_squares(slopes, target - values)[:6]
        motion = np.clip(motion, -WIDTH / 4, WIDTH / 4)
    moved = _warped(band, motion)
    gain, offset = _least_squares(np.stack([moved[_INSIDE], ones], axis=1), target)
    return moved * gain + offset


def _least_squares(slopes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """By the normal equations, ten times as fast as a decomposition of (n, 8); slightly damped, so always solvable."""
    square = slopes.T @ slopes
    return np.linalg.solve(square + 1e-6 * np.trace(square) * np.eye(len(square)) / len(square), slopes.T @ values)


class RestingFace:
    """The upper half of a face that is held neutral.

    Args:
        bands: two or more of `upper_face`; the newest MOST_PICTURES count.
    """

    def __init__(self, bands: Sequence[np.ndarray]):
        bands = list(bands)[-MOST_PICTURES:]
        laid = [laid_onto(band, bands[-1]) for band in bands]
        self.mean = np.mean(laid, axis=0)
        self.contrast = max(float(self.mean[_INSIDE].std()), 1.0)
        self.noise = self._difference(np.mean(laid[::2], axis=0), np.mean(laid[1::2], axis=0))

    def moved(self, bands: Sequence[np.ndarray]) -> bool:
        """Whether the upper half of the face moved too, once the same face shows an expression."""
        return self.change(bands) >= max(LEAST_CHANGE, LEAST_CHANGE_OVER_NOISE * self.noise)

    def change(self, bands: Sequence[np.ndarray]) -> float:
        """The difference that no motion of the whole and no light explains, in units of the face's contrast.

        Args: bands of `upper_face`; the newest MOST_PICTURES are averaged. None: 0.
        """
        bands = list(bands)[-MOST_PICTURES:]
        if not bands:
            return 0.0
        return self._difference(np.mean([laid_onto(band, self.mean) for band in bands], axis=0), self.mean)

    def _difference(self, one: np.ndarray, other: np.ndarray) -> float:
        return float(np.sqrt(np.mean((one - other)[_INSIDE] ** 2))) / self.contrast


def was_sudden(amounts: Sequence[float], embeddings: Sequence[np.ndarray], rest: np.ndarray) -> bool:
    """Whether an action was there from one frame to the next.

    Args:
        amounts: of the action, frame by frame, from the last neutral frame to the one that passed the step.
        embeddings: (d,) of the same frames.
        rest: (d,) the neutral face.

    Returns:
        True where a single step makes up SUDDEN of the way in the amount and in the embedding at once.
    """
    if len(amounts) < 2:
        return True
    way = float(np.max(amounts) - amounts[0])
    distances = [_distance(embedding, following) for embedding, following in pairwise(embeddings)]
    far = max(_distance(rest, embedding) for embedding in embeddings)
    steps = np.diff(amounts)
    return any(
        step >= SUDDEN * way and distance >= SUDDEN * far for step, distance in zip(steps, distances, strict=True)
    )


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other))
