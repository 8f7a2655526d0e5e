"""Detects a turned head from five landmarks, such that a turned flat photograph does not pass.

Two views of a flat photograph are related by a homography. Four points, the eyes and the corners of the mouth,
determine it, and it predicts the position of the nose of a *photograph*. The nose of a head is in front of the plane of
these points: when the head turns, the nose moves further than predicted. The difference, in units of the distance from
the eyes to the mouth, is called **parallax** here.

Measurements with the shipped detector, which do not depend on the network's weights: flat photographs turned by 20, 30
and 40 degrees have a median of 0.02 and at most 0.08 (25 people of LFW, 150 views). Heads in LFW's folds 9 and 10 whose
nose is 0.2 off the middle have a 5th percentile of 0.16 and a median of 0.24 (375 pairs). Photographs bent around a
cylinder have some parallax. To reach the threshold they must be turned further than a head, which brings their eyes
closer together. Therefore MIN_PARALLAX_PER_TURN is required as well; 99.3 % of those heads satisfy it.

`machine` calls `parallax` and `turned_to`. Read `movement` next, the checks of expressions.
"""

import numpy as np

TURNED_PARALLAX = 0.20  # a head counts as turned from here on; about 25 degrees
STARTED_PARALLAX = 0.10  # a turn that has started but is not far enough, or is to the wrong side
FRONT_PARALLAX = 0.12  # a head is frontal below it; so are 99 % of 766 pairs of frontal photographs of LFW
MIN_PARALLAX_PER_TURN = 0.3  # parallax over the sine of the turn, which is estimated from the eyes' distance
LARGEST_NOSE_OFFSET = 0.2  # of a frontal face before there is a baseline

PLANE = [0, 1, 3, 4]  # eyes and corners of the mouth


def face_shape(landmarks: np.ndarray) -> np.ndarray:
    """(5, 2) landmarks normalised for position, size and tilt.

    The origin is between the eyes, x is along the eyes, and the unit is the distance from the eyes to the mouth.

    Raises:
        ValueError: the landmarks are not finite, or eyes or mouth coincide.
    """
    points = np.asarray(landmarks, np.float64)
    eyes = points[1] - points[0]
    width = np.linalg.norm(eyes)
    unit = np.linalg.norm(points[3:].mean(axis=0) - points[:2].mean(axis=0))
    if not (np.isfinite(points).all() and width > 1e-6 and unit > 1e-6):
        raise ValueError("the landmarks are not those of a face")
    x = eyes / width
    axes = np.stack([x, (-x[1], x[0])], axis=1)  # (2, 2), columns: along the eyes, down
    return (points - points[:2].mean(axis=0)) @ axes / unit


def is_face(landmarks: np.ndarray) -> bool:
    """Whether `face_shape` can normalise the landmarks."""
    try:
        face_shape(landmarks)
    except ValueError:
        return False
    return True


def parallax(front: np.ndarray, shape: np.ndarray) -> float:
    """How much further the nose has moved than that of a flat photograph; positive to the person's left.

    Args:
        front, shape: (5, 2) from `face_shape`, of the frontal face and of the same face now.

    Returns:
        In units of the distance from the eyes to the mouth; 0 if the points determine no homography.
    """
    rows, values = [], []
    for (x, y), (u, v) in zip(front[PLANE], shape[PLANE], strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    try:
        homography = np.append(np.linalg.solve(np.array(rows), np.array(values)), 1).reshape(3, 3)
    except np.linalg.LinAlgError:
        return 0.0
    x, _, depth = homography @ np.append(front[2], 1)
    return float(shape[2, 0] - x / depth) if depth > 1e-6 else 0.0


def turn_sine(front: np.ndarray, shape: np.ndarray) -> float:
    """Sine of the turn, in [0, 1], estimated from how much closer together the eyes appear."""
    narrowed = (shape[1, 0] - shape[0, 0]) / max(front[1, 0] - front[0, 0], 1e-6)
    return float(np.sqrt(1 - min(max(narrowed, 0.0), 1.0) ** 2))


def turned_to(front: np.ndarray, shapes: list[np.ndarray]) -> str | None:
    """The turn that several frames show, one of `challenge.TURNS`, or None.

    Args:
        shapes: of the frames; parallax and sine are averaged over them.
    """
    if not shapes:
        return None
    amount = float(np.mean([parallax(front, shape) for shape in shapes]))
    sine = float(np.mean([turn_sine(front, shape) for shape in shapes]))
    if abs(amount) < max(TURNED_PARALLAX, MIN_PARALLAX_PER_TURN * sine):
        return None
    return "turn_left" if amount > 0 else "turn_right"
