"""A turned head, seen in five landmarks, and why a flat picture cannot make one.

Every view of a flat picture is a homography of every other. Eyes and corners of the mouth, four points, determine it,
and with it where the nose of a *picture* would have to be. The nose of a head stands out of their plane: when the head
turns it moves further, to the side it is turned to. How far, in units of the distance from the eyes to the mouth, is
the **parallax** here.

Measured with the shipped detector, whatever the network's weights: flat photographs turned by 20, 30 and 40 degrees
leave 0.02 (median) and 0.08 at most (25 people of LFW, 150 views); heads of LFW folds 9-10 turned so that the nose lies
0.2 off the middle leave 0.16 at the 5th percentile and 0.24 in the median (375 pairs). Sheets bent around a cylinder
fake a nose that stands out a little; to get far enough they have to be turned further than a head, so their eyes come
closer together: hence LEAST_PARALLAX_PER_TURN, which 99.3 % of those heads satisfy.

Next: `movement`, the same question for expressions.
"""

import numpy as np

TURNED_PARALLAX = 0.20  # from which a head counts as turned: about 25 degrees
BEGUN_PARALLAX = 0.10  # a turn to the wrong side, or one that is not far enough yet
FRONT_PARALLAX = 0.12  # within which it looks straight ahead: 99 % of 766 pairs of frontal photographs of LFW
LEAST_PARALLAX_PER_TURN = 0.3  # parallax over the sine of the turn, as the eyes' distance tells it
LARGEST_NOSE_OFFSET = 0.2  # of a face whose own frontal view is not known yet

PLANE = [0, 1, 3, 4]  # eyes and corners of the mouth


def shape_of(landmarks: np.ndarray) -> np.ndarray:
    """(5, 2) landmarks without place, size and tilt: the eyes' middle at 0, x along the eyes, unit = eyes to mouth.

    Raises:
        ValueError: landmarks that are no face: not finite, or eyes and mouth in one place.
    """
    points = np.asarray(landmarks, np.float64)
    eyes = points[1] - points[0]
    width = np.linalg.norm(eyes)
    unit = np.linalg.norm(points[3:].mean(axis=0) - points[:2].mean(axis=0))
    if not (np.isfinite(points).all() and width > 1e-6 and unit > 1e-6):
        raise ValueError("the landmarks are no face")
    x = eyes / width
    axes = np.stack([x, (-x[1], x[0])], axis=1)  # (2, 2), columns: along the eyes, down
    return (points - points[:2].mean(axis=0)) @ axes / unit


def is_face(landmarks: np.ndarray) -> bool:
    """Whether landmarks have a shape at all."""
    try:
        shape_of(landmarks)
    except ValueError:
        return False
    return True


def nose_offset(shape: np.ndarray) -> float:
    """How far the nose lies beside the middle of eyes and mouth, positive to the right as seen."""
    return float(shape[2, 0] - shape[PLANE, 0].mean())


def parallax(front: np.ndarray, shape: np.ndarray) -> float:
    """How much further the nose has moved than a flat picture's, positive to the right as seen: the person's left.

    Args:
        front, shape: (5, 2) of `shape_of`, of the same face looking ahead and now.

    Returns:
        In units of the distance from eyes to mouth; 0 where the points determine no view.
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


def sine_of_turn(front: np.ndarray, shape: np.ndarray) -> float:
    """Sine of the angle by which the eyes have come closer together, in [0, 1]."""
    narrowed = (shape[1, 0] - shape[0, 0]) / max(front[1, 0] - front[0, 0], 1e-6)
    return float(np.sqrt(1 - min(max(narrowed, 0.0), 1.0) ** 2))


def turned_to(front: np.ndarray, shapes: list[np.ndarray]) -> str | None:
    """The turn that several frames show together, one of challenge.TURNS, or None.

    Args:
        shapes: of the frames; parallax and angle are averaged over them.
    """
    if not shapes:
        return None
    amount = float(np.mean([parallax(front, shape) for shape in shapes]))
    sine = float(np.mean([sine_of_turn(front, shape) for shape in shapes]))
    if abs(amount) < max(TURNED_PARALLAX, LEAST_PARALLAX_PER_TURN * sine):
        return None
    return "turn_left" if amount > 0 else "turn_right"
