"""Videos for the webcam of Chromium, made from images with noise.

A scene repeats a small number of noisy frames, because making them takes most of the time of a test. In the tests noise
on the page makes each frame different from all others (NOISE in test_live_browser.py).

A film is a list of scenes: (images side by side, seconds). A scene without images is an empty room.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from face_data.drawn import drawn_frame, drawn_photograph

FRAMES_PER_SECOND = 30  # of the file, which Chromium plays in a loop
SIZE = (640, 480)
DIFFERENT_FRAMES = 30  # per scene, then repeated

CHANGE_SECONDS = 1.5  # between two expressions or poses; enough for some frames on a busy machine
CHANGES = 12  # images of a change


def drawn(person: int, expression: str) -> Image.Image:
    return drawn_photograph(person, expression, 1, seed=0)


def acting(person: int, *acts: tuple[str, float, float]) -> list:
    """Scenes of a drawn person. An act is (expression, yaw in degrees, seconds).

    A change of CHANGE_SECONDS is between two acts. The film ends with the change back to the first act, so that it can
    be played in a loop.
    """
    scenes = [([drawn_frame(person, acts[0][0], 1.0, acts[0][1], seed=1)], acts[0][2])]
    for (before, start, _), (after, end, seconds) in zip(acts, [*acts[1:], (*acts[0][:2], 0.0)], strict=True):
        for share in np.linspace(0, 1, CHANGES + 1)[1:]:
            # from the neutral face, or back to it
            name, strength = (after, share) if before == "neutral" else (before, 1 - share)
            yaw = (1 - share) * start + share * end
            scenes.append(([drawn_frame(person, name, strength, yaw, seed=1)], CHANGE_SECONDS / CHANGES))
        scenes.append(([drawn_frame(person, after, 1.0, end, seed=1)], seconds))
    return scenes


def fading(first: Image.Image, second: Image.Image, seconds: float) -> list:
    """Scenes that fade from one photograph to another and back."""
    change = [
        ([Image.blend(first, second, share)], CHANGE_SECONDS / CHANGES) for share in np.linspace(0, 1, CHANGES + 1)
    ]
    return [([first], seconds), *change, ([second], seconds), *change[::-1]]


def film(
    path: Path,
    scenes: Sequence[tuple[Sequence[Image.Image], float]],
    still: bool = False,
    different_frames: int = DIFFERENT_FRAMES,
) -> Path:
    """Motion JPEG, 640x480.

    Args:
        still: every frame of a scene is the same, bit for bit.
        different_frames: of each scene; they are repeated. More are needed on a page without noise.
    """
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 3, (600, 760)).astype(np.float32)  # each frame gets a part of it
    with open(path, "wb") as video:
        for photographs, seconds in scenes:
            side = min(SIZE[1], SIZE[0] // max(len(photographs), 1)) - 40
            faces = [face.convert("RGB").resize((side, side), Image.Resampling.LANCZOS) for face in photographs]
            encoded = []
            count = round(seconds * FRAMES_PER_SECOND)
            for _ in range(min(count, 1 if still else different_frames)):
                frame = Image.new("RGB", SIZE, (150, 155, 160))
                for place, face in enumerate(faces):
                    left = (SIZE[0] - side * len(faces)) // 2 + place * side
                    frame.paste(face, (left + int(rng.integers(-3, 4)), 20 + int(rng.integers(-3, 4))))
                y, x = rng.integers(0, 120, 2)
                noisy = np.asarray(frame, np.float32) + noise[y : y + SIZE[1], x : x + SIZE[0], None]
                data = io.BytesIO()
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=80)
                encoded.append(data.getvalue())
            for number in range(count):
                video.write(encoded[number % len(encoded)])
    return path
