"""The image on which a face is drawn, with the pose of the head, and functions for curves.

`parts` and `drawn.draw_face` use it. The unit is half the height of the head; x grows to the viewer's right, y down, z
towards the viewer. (0, 0) is between the eyes, the crown is at y = -1, the chin near y = 1. Points on the skin are on
an ellipsoid, so they move as on a real head when the head turns. Read `parts` next.
"""

import numpy as np
from PIL import Image, ImageDraw

from face_data.drawn.person import Person

SUPERSAMPLING = 2
CIRCLE = np.stack([wave(np.linspace(0, 2 * np.pi, 24, endpoint=False)) for wave in (np.cos, np.sin)], axis=1)
T = np.linspace(0, 1, 6, endpoint=False)[:, None] ** np.arange(4)
CATMULL_ROM = T @ (np.array([(0, 2, 0, 0), (-1, 0, 1, 0), (2, -5, 4, -1), (-1, 3, -3, 1)]) / 2)  # (6 samples, 4 points)


def smooth(points: np.ndarray, closed: bool = False) -> np.ndarray:
    """A Catmull-Rom curve through points (n, 2), with six samples per segment: (m, 2)."""
    points = np.asarray(points, float)
    first, last = (points[-1:], points[:2]) if closed else (points[:1], points[-1:])
    padded = np.concatenate((first, points, last))
    windows = np.stack([padded[i : len(padded) - 3 + i] for i in range(4)], axis=1)  # (segments, 4, 2)
    curve = (CATMULL_ROM @ windows).reshape(-1, 2)
    return curve if closed else np.concatenate((curve, points[-1:]))


def symmetric_line(right_half: np.ndarray) -> np.ndarray:
    """A symmetric line from left to right; its right half is given from the middle outwards."""
    right_half = np.asarray(right_half, float)
    return np.concatenate((right_half[:0:-1] * (-1, 1), right_half))


def symmetric_outline(right_half: np.ndarray) -> np.ndarray:
    """A closed smooth outline; its right half is given from top to bottom, with both ends on the axis."""
    right_half = np.asarray(right_half, float)
    return smooth(np.concatenate((right_half, right_half[-2:0:-1] * (-1, 1))), closed=True)


def circle(x: float, y: float, rx: float, ry: float | None = None) -> np.ndarray:
    return CIRCLE * (rx, ry or rx) + (x, y)


def area_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The area between two lines with the same direction, as a polygon."""
    return np.concatenate((first, second[::-1]))


def moved_down(line: np.ndarray, down: np.ndarray) -> np.ndarray:
    """A line (n, 2) with each point moved down by the amounts (n,)."""
    return line + np.stack((np.zeros_like(down), down), axis=1)


def rgb(colour: np.ndarray) -> tuple[int, ...]:
    return tuple(min(int(channel), 255) for channel in colour)


class Sheet:
    """A square image with the position and pose of the head; `view` (2, 3) projects (x, y, z) of the face."""

    def __init__(self, image: Image.Image, person: Person, rng: np.random.Generator, yaw: float | None = None):
        self.image, self.size = image, image.width
        self.pen = ImageDraw.Draw(self.image, "RGBA")
        self.head_width = person.head_width
        self.scale = float(self.size * rng.uniform(0.27, 0.34))
        self.middle = self.size * (0.5 + rng.uniform(-0.03, 0.03, 2))
        random_yaw, pitch, roll = rng.uniform(-1, 1, 3) * np.radians((16, 8, 10))
        yaw = random_yaw if yaw is None else np.radians(yaw)
        turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        nod = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)]])
        tilt = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        self.view = tilt @ nod @ turn  # (2, 3)

    def project(self, points: np.ndarray, lift: float | None = 0.0) -> np.ndarray:
        """Pixels (n, 2) of points (n, 2) at the height `lift` above the skin; None means in the plane of the ears."""
        depth = np.zeros(len(points))
        if lift is not None:
            inside = 1 - (points[:, 0] / self.head_width) ** 2 - points[:, 1] ** 2
            depth = 0.75 * np.sqrt(inside.clip(0)) + lift
        return (points @ self.view[:, :2].T + depth[:, None] * self.view[:, 2]) * self.scale + self.middle

    def fill(self, points, colour, alpha: float = 1.0, lift: float | None = 0.0) -> None:
        """Draw a polygon (n, 2)."""
        if alpha > 0.02:
            pixels = self.project(np.asarray(points), lift)
            self.pen.polygon(pixels.ravel().tolist(), (*rgb(colour), round(255 * min(alpha, 1))))

    def stroke(self, points, width, colour, alpha: float = 1.0, lift: float = 0.0, ends: float = 0.2) -> None:
        """Draw a stroke along a smooth curve through points; its width at both ends is `ends` times `width`."""
        if alpha <= 0.02:
            return
        path = smooth(points)
        step = np.concatenate((path[1:2] - path[:1], path[2:] - path[:-2], path[-1:] - path[-2:-1]))
        normal = step[:, ::-1] * (1, -1) / np.hypot(step[:, :1], step[:, 1:])
        relative_width = ends + (1 - ends) * np.sqrt(np.sin(np.linspace(0, np.pi, len(path))))
        offset = normal * (width * relative_width / 2)[:, None]
        self.fill(area_between(path + offset, path - offset), colour, alpha, lift)
