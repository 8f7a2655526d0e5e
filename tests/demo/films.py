"""Videos for Chromium to play as its webcam, made of pictures: never quite still.

The page's own noise makes each frame differ from all others (NOISE in test_live_browser.py), so a scene is made of a
few noisy frames that are repeated: making them takes longer than everything else in a test.

A film is a list of scenes, (pictures side by side, seconds), one after the other; none at all is an empty room.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from face_data.drawn import drawn_frame, drawn_photograph

FRAMES_PER_SECOND = 30  # at which Chromium plays the file, in a loop
SIZE = (640, 480)
DIFFERENT_FRAMES = 120  # of a scene, which are repeated: more than any session is shown of one

CHANGE_SECONDS = 1.5  # from one expression or pose to the next: some frames on the busiest machine
CHANGES = 12  # pictures it is made of


def drawn(person: int, expression: str) -> Image.Image:
    return drawn_photograph(person, expression, 1, seed=0)


def acting(person: int, *acts: tuple[str, float, float]) -> list:
    """Scenes of a drawn person who goes from one act to the next: (expression, yaw in degrees, seconds).

    Each act but the first begins with CHANGE_SECONDS of change, and the film ends with the change back to the first, so
    that it can be played in a loop.
    """
    scenes = [([drawn_frame(person, acts[0][0], 1.0, acts[0][1], seed=1)], acts[0][2])]
    for (before, start, _), (after, end, seconds) in zip(acts, [*acts[1:], (*acts[0][:2], 0.0)], strict=True):
        for share in np.linspace(0, 1, CHANGES + 1)[1:]:
            # through the neutral face, or along with it
            name, strength = (after, share) if before == "neutral" else (before, 1 - share)
            yaw = (1 - share) * start + share * end
            scenes.append(([drawn_frame(person, name, strength, yaw, seed=1)], CHANGE_SECONDS / CHANGES))
        scenes.append(([drawn_frame(person, after, 1.0, end, seed=1)], seconds))
    return scenes


def fading(one: Image.Image, other: Image.Image, seconds: float) -> list:
    """Scenes of two photographs that turn into one another and back."""
    there = [([Image.blend(one, other, share)], CHANGE_SECONDS / CHANGES) for share in np.linspace(0, 1, CHANGES + 1)]
    return [([one], seconds), *there, ([other], seconds), *there[::-1]]


def film(path: Path, scenes: Sequence[tuple[Sequence[Image.Image], float]], still: bool = False) -> Path:
    """Motion JPEG, 640x480.

    Args:
        still: every frame of a scene is the same, bit for bit.
    """
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 3, (600, 760)).astype(np.float32)  # a piece of it for every frame
    with open(path, "wb") as video:
        for photographs, seconds in scenes:
            side = min(SIZE[1], SIZE[0] // max(len(photographs), 1)) - 40
            faces = [face.convert("RGB").resize((side, side), Image.Resampling.LANCZOS) for face in photographs]
            encoded = []
            count = round(seconds * FRAMES_PER_SECOND)
            for _ in range(min(count, 1 if still else DIFFERENT_FRAMES)):
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
