"""Renders the frame in which a camera sees a photograph that somebody holds up: turned, bent, covered or warped.

Everything here is geometry on a single photograph, drawn or real. The photograph is a sheet whose vertical lines stay
straight. It is flat or bent around a vertical axis, turned about that axis, and seen by a pinhole camera. Lengths on
the sheet are in units of its width. `actors` calls these functions; read `observations` next.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

FRAME = (320, 240)  # width and height in pixels; the face is as large as at arm's length from a 640 x 480 webcam
PRINT_HEIGHT = 200  # height of the sheet in pixels when it faces the camera
BACKGROUND = (112, 118, 124)
CAMERA_DISTANCE = 4.0  # from the camera to the axis of the sheet, in widths of the sheet


def restore_proportions(face: Image.Image, crop: Sequence[float]) -> Image.Image:
    """A face of a prepared corpus in its original proportions, PRINT_HEIGHT pixels high.

    Args:
        face: stretched to a square, as corpora store faces.
        crop: left, top, right, bottom in pixels of the original photograph.
    """
    left, top, right, bottom = crop
    width = round(PRINT_HEIGHT * (right - left) / (bottom - top))
    return face.resize((width, PRINT_HEIGHT), Image.Resampling.BICUBIC)


def hold(photograph: Image.Image, yaw: float = 0.0, bend: float = 0.0) -> Image.Image:
    """The frame of a camera that sees the sheet.

    Args:
        yaw: degrees by which the sheet is turned about its vertical axis; positive moves its right edge, in the frame,
            away from the camera.
        bend: degrees of a circle that the sheet's width covers, with its middle nearest to the camera; 0 is flat.

    Returns:
        An RGB image of size FRAME.
    """
    source = np.asarray(photograph.convert("RGB"), np.float32)
    height, width = source.shape[:2]
    position = np.linspace(-0.5, 0.5, width)  # along the sheet
    if bend:
        radius = 1 / np.radians(bend)
        x, z = radius * np.sin(position / radius), radius * (np.cos(position / radius) - 1)
    else:
        x, z = position, np.zeros(width)
    angle = np.radians(yaw)
    across, depth = x * np.cos(angle) + z * np.sin(angle), z * np.cos(angle) - x * np.sin(angle)
    scale = CAMERA_DISTANCE / (CAMERA_DISTANCE - depth)  # of each vertical line
    columns = across * scale * width  # its horizontal position in the frame, in pixels from the middle
    visible = np.maximum.accumulate(columns)  # lines behind the edge of a bent sheet are hidden
    out_x = np.arange(FRAME[0]) - FRAME[0] / 2
    source_x = np.interp(out_x, visible + np.arange(width) * 1e-6, np.arange(width), left=-1, right=-1)
    line_scale = np.interp(source_x, np.arange(width), scale)
    source_y = (np.arange(FRAME[1])[:, None] - FRAME[1] / 2) / line_scale + height / 2
    return Image.fromarray(_sampled(source, np.broadcast_to(source_x, source_y.shape), source_y))


def _sampled(source: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear samples of (h, w, 3) at (n, m) places; the background outside."""
    height, width = source.shape[:2]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = np.clip(x, 0, width - 1.001), np.clip(y, 0, height - 1.001)
    column, row = x.astype(int), y.astype(int)
    right, down = (x - column)[..., None], (y - row)[..., None]
    upper = source[row, column] * (1 - right) + source[row, column + 1] * right
    lower = source[row + 1, column] * (1 - right) + source[row + 1, column + 1] * right
    pixels = np.where(inside[..., None], upper * (1 - down) + lower * down, BACKGROUND)
    return pixels.clip(0, 255).astype(np.uint8)


def with_strip(photograph: Image.Image, landmarks: np.ndarray, kind: str) -> Image.Image:
    """The photograph with its mouth covered.

    Args:
        landmarks: (5, 2) eyes, nose, corners of the mouth, in pixels of the photograph.
        kind: "white", "black" or "skin": a strip of paper of this colour across the whole width; "sticker": a white
            strip as wide as the mouth; "finger": an upright strip of skin colour; "pen": a drawn broad smile.
    """
    image = photograph.copy()
    pen = ImageDraw.Draw(image)
    mouth, eyes = landmarks[3:].mean(axis=0), landmarks[:2].mean(axis=0)
    unit = float(np.linalg.norm(mouth - eyes))  # from the eyes to the mouth
    x, y = map(float, mouth)
    cheek = np.asarray(photograph)[int((y + eyes[1]) / 2), int(landmarks[3:, 0].min() * 0.9)]
    colours = {"white": (235, 235, 232), "black": (22, 22, 24), "sticker": (235, 235, 232)}
    colour = colours.get(kind, tuple(int(value) for value in cheek))
    if kind in ("white", "black", "skin"):
        pen.rectangle((0, y - 0.22 * unit, image.width, y + 0.26 * unit), fill=colour)
    elif kind == "sticker":
        pen.rectangle((x - 0.45 * unit, y - 0.18 * unit, x + 0.45 * unit, y + 0.22 * unit), fill=colour)
    elif kind == "finger":
        pen.rounded_rectangle((x - 0.14 * unit, y - 0.3 * unit, x + 0.14 * unit, image.height), 12, fill=colour)
    elif kind == "pen":
        corners = (x - 0.5 * unit, y - 0.45 * unit, x + 0.5 * unit, y + 0.28 * unit)
        pen.chord(corners, 10, 170, fill=(245, 245, 245), outline=(120, 40, 40), width=3)
    else:
        raise ValueError(f"unknown kind of strip {kind!r}")
    return image


def with_warped_mouth(photograph: Image.Image, landmarks: np.ndarray, strength: float = 1.0) -> Image.Image:
    """The photograph with the corners of its mouth pulled outwards and up by `strength` times 0.16 of the distance
    from the eyes to the mouth, and the skin around them with them."""
    source = np.asarray(photograph.convert("RGB"), np.float32)
    unit = float(np.linalg.norm(landmarks[3:].mean(axis=0) - landmarks[:2].mean(axis=0)))
    y, x = np.mgrid[: source.shape[0], : source.shape[1]].astype(np.float32)
    moved_x, moved_y = x.copy(), y.copy()
    for corner, side in zip(landmarks[3:], (-1, 1), strict=True):
        weight = np.exp(-((x - corner[0]) ** 2 + (y - corner[1]) ** 2) / (2 * (0.28 * unit) ** 2))
        moved_x -= weight * side * 0.10 * unit * strength
        moved_y += weight * 0.16 * unit * strength
    return Image.fromarray(_sampled(source, moved_x, moved_y))


def with_other_mouth(
    photograph: Image.Image, landmarks: np.ndarray, donor: Image.Image, donor_landmarks: np.ndarray
) -> Image.Image:
    """The photograph cut off below the nose and held over another face, whose mouth and chin are visible below it.

    Args:
        donor: a photograph of the other face.
        landmarks, donor_landmarks: (5, 2) of the two faces, in pixels of their photographs.
    """
    scale = np.linalg.norm(landmarks[0] - landmarks[1]) / np.linalg.norm(donor_landmarks[0] - donor_landmarks[1])
    donor = donor.resize((max(1, round(donor.width * scale)), max(1, round(donor.height * scale))))
    shift = landmarks[3:].mean(axis=0) - donor_landmarks[3:].mean(axis=0) * scale
    image = Image.new("RGB", photograph.size, BACKGROUND)
    image.paste(donor, (round(float(shift[0])), round(float(shift[1]))))
    cut = round(float(landmarks[2, 1] + 0.35 * (landmarks[3:, 1].mean() - landmarks[2, 1])))
    image.paste(photograph.crop((0, 0, photograph.width, cut)), (0, 0))
    return image
