"""Draws the examples of the offline tabs when the app starts: photographs and a clip of drawn people.

`command` calls it; `offline` shows the examples. Benchmarks and tests use the same people.
"""

from pathlib import Path

import av

from face_data.drawn import drawn_photograph

# Drawn people (seed 0) that the shipped network tells apart and whose neutral and happy faces it recognises; the first
# two are a person and an impostor. They depend on the weights: tests/demo/test_well_known.py checks them.
WELL_KNOWN = (656, 606, 729, 613, 648, 632)
SIZE = 320
FRAMES_PER_SECOND = 8
PERSON, STRANGER = WELL_KNOWN[:2]
REFERENCE = "person.png"


def draw_examples(folder: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Write examples to a folder.

    Returns:
        Rows of (reference, clip, expression), and rows of (reference, photograph, expression).
    """
    files = {}
    for name, person, expression, number in (
        (REFERENCE, PERSON, "neutral", 0),
        ("smiling.png", PERSON, "happy", 1),
        ("neutral.png", PERSON, "neutral", 1),
        ("stranger.png", STRANGER, "happy", 1),
    ):
        files[name] = str(folder / name)
        _photograph(person, expression, number).save(files[name])
    clip = folder / "neutral_then_smiling.mp4"
    _film(clip, [("neutral", 1.5), ("happy", 2.0)])
    clips = [[files[name], str(clip), "happy"] for name in (REFERENCE, "stranger.png")]
    pairs = [[files[REFERENCE], files[name], "happy"] for name in ("smiling.png", "neutral.png", "stranger.png")]
    return clips, pairs


def _photograph(person: int, expression: str, number: int):
    return drawn_photograph(person, expression, number, seed=0).resize((SIZE, SIZE))


def _film(path: Path, scenes: list[tuple[str, float]]) -> None:
    """Write a clip in H.264, which every browser can play."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for expression, seconds in scenes:
            frame = av.VideoFrame.from_image(_photograph(PERSON, expression, 1))
            for _ in range(int(seconds * FRAMES_PER_SECOND)):
                frame.pts = None
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
