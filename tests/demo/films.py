"""Videos for Chromium to play as its webcam, made of photographs: never quite still, and no frame twice."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from face_data.drawn import drawn_photograph

FRAMES_PER_SECOND = 30  # at which Chromium plays the file, in a loop
SIZE = (640, 480)


def drawn(person: int, expression: str) -> Image.Image:
    return drawn_photograph(person, expression, 1, seed=0)


def film(path: Path, scenes: Sequence[tuple[Sequence[Image.Image], float]], still: bool = False) -> Path:
    """Motion JPEG, 640x480.

    Args:
        scenes: (photographs side by side, seconds), one after the other; none at all is an empty room.
        still: every frame of a scene is the same, bit for bit.
    """
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 3, (600, 760)).astype(np.float32)  # a piece of it for every frame
    with open(path, "wb") as video:
        for photographs, seconds in scenes:
            side = min(SIZE[1], SIZE[0] // max(len(photographs), 1)) - 40
            faces = [face.convert("RGB").resize((side, side), Image.Resampling.LANCZOS) for face in photographs]
            picture = b""
            for number in range(int(seconds * FRAMES_PER_SECOND)):
                if still and number:
                    video.write(picture)
                    continue
                frame = Image.new("RGB", SIZE, (150, 155, 160))
                for place, face in enumerate(faces):
                    left = (SIZE[0] - side * len(faces)) // 2 + place * side
                    frame.paste(face, (left + int(rng.integers(-3, 4)), 20 + int(rng.integers(-3, 4))))
                y, x = rng.integers(0, 120, 2)
                noisy = np.asarray(frame, np.float32) + noise[y : y + SIZE[1], x : x + SIZE[0], None]
                data = io.BytesIO()
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=80)
                picture = data.getvalue()
                video.write(picture)
    return path
