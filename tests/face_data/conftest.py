"""Fixtures: images of drawn faces, and a complete CK+ in the layout of its publisher."""

import io
import itertools
import os
from pathlib import Path

import pytest
from PIL import Image

from face_data.drawn import drawn_photograph

# Labelled sequences of each emotion in CK+, by the publisher's codes 1 to 7: anger, contempt, disgust, fear, happy,
# sadness, surprise
CKPLUS_SEQUENCES = (45, 18, 59, 25, 69, 28, 83)


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def faces() -> list[bytes]:
    """JPEG files of three drawn people."""
    return [encoded(drawn_photograph(identity, "neutral", 0, seed=3)) for identity in range(3)]


@pytest.fixture(scope="session")
def tiny_image() -> bytes:
    """An image without a face. It is small, so that the detection is fast."""
    return encoded(Image.new("L", (4, 4)), "PNG")


@pytest.fixture(scope="session")
def ckplus(tmp_path_factory, faces, tiny_image) -> Path:
    """593 sequences of 123 people. 327 sequences of 118 people are labelled.

    The first sequence shows a face. The other sequences show `tiny_image`, so that the detection is fast.
    """
    source = tmp_path_factory.mktemp("published") / "CK+"
    source.mkdir()
    (source / "dot.png").write_bytes(tiny_image)
    (source / "face.png").write_bytes(faces[0])
    people = [f"S{number:03d}" for number in range(5, 505, 4)][:123]
    labelled = itertools.cycle(people[:100] + people[105:])  # the five people between have no labelled sequence
    emotions = [code for code, count in enumerate(CKPLUS_SEQUENCES, start=1) for _ in range(count)]
    sequences = [(next(labelled), code) for code in emotions]
    sequences += zip(itertools.cycle(people), [None] * (593 - len(sequences)), strict=False)
    sequence_count = dict.fromkeys(people, 0)
    for place, (person, code) in enumerate(sequences):
        sequence_count[person] += 1
        number = f"{sequence_count[person]:03d}"
        name = f"{person}_{number}"
        frames = source / "cohn-kanade-images" / person / number
        label = source / "Emotion" / person / number
        frames.mkdir(parents=True)
        label.mkdir(parents=True)  # empty for the sequences without a label
        for frame in range(1, 6):
            os.link(source / ("dot.png" if place else "face.png"), frames / f"{name}_{frame:08d}.png")
        if code is not None:
            (label / f"{name}_00000005_emotion.txt").write_text(f"   {code:.7e}\n")
    (source / "cohn-kanade-images" / ".DS_Store").write_bytes(b"\0")
    (source / "cohn-kanade-images" / people[0] / "001" / ".DS_Store").write_bytes(b"\0")
    return source
