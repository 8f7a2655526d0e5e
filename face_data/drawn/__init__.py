"""Images of drawn people, who do not exist, for tests and demonstrations without real photographs.

`person` says who they are and which muscles an expression moves, `parts` draws eyes, mouth and hair, on a `sheet`.
`python -m face_data.drawn faces.png` draws a contact sheet.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from face_data.drawn.parts import (
    draw_beard,
    draw_brows,
    draw_eyes,
    draw_glasses,
    draw_hair,
    draw_head,
    draw_mouth,
    draw_nose,
    draw_wrinkles,
    mouth_line,
)
from face_data.drawn.person import EXPRESSION_MUSCLES, Person, muscles_of
from face_data.drawn.sheet import SUPERSAMPLING, Sheet, rgb


def muted(rng: np.random.Generator, colourful: float) -> np.ndarray:
    """A random colour, grey where `colourful` is 0."""
    return (rng.uniform(50, 220) + colourful * rng.uniform(-1, 1, 3)).clip(0, 255)


def background(size: int, rng: np.random.Generator) -> Image.Image:
    """A wall or a room out of focus: nothing that a detector takes for a second face."""
    wall = muted(rng, 30)
    small = Image.new("RGB", (32, 32), rgb(wall))
    for _ in range(rng.integers(0, 6)):
        x, y, width, height = rng.uniform((-8, -8, 4, 8), (32, 32, 20, 40))
        colour = (wall + rng.normal(0, 25) + rng.normal(0, 10, 3)).clip(0, 255)
        ImageDraw.Draw(small).rectangle((x, y, x + width, y + height), fill=rgb(colour))
    small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2)))
    return small.resize((size, size), Image.Resampling.BILINEAR)


def photograph(sheet: Sheet, rng: np.random.Generator) -> Image.Image:
    """What a camera makes of the drawing: light from one side, colour cast, a lens not quite sharp, a noisy sensor."""
    picture = sheet.image.reduce(SUPERSAMPLING).filter(ImageFilter.BoxBlur(rng.uniform(0.1, 1.2)))
    size, angle, strength = picture.width, rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.4)
    place = (np.arange(size) * SUPERSAMPLING - sheet.middle[:, None]) / sheet.scale  # (x and y, size), in half heads
    across = np.cos(angle) * place[0] + np.sin(angle) * place[1][:, None]
    light = rng.uniform(0.85, 1.1) * (1 + strength * np.tanh(across))[..., None] * rng.uniform(0.94, 1.06, 3)
    pixels = np.asarray(picture) * light.astype(np.float32)
    pixels += rng.standard_normal((size, size, 1), dtype=np.float32) * np.float32(rng.uniform(1, 6))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw_face(
    identity: int,
    expression: str,
    rng: np.random.Generator,
    size: int = 250,
    strength: float = 1.0,
    yaw: float | None = None,
) -> Image.Image:
    """A drawing of one face as a photograph might show it.

    Args:
        identity: number of the person, not negative: the same number always has the same face.
        expression: one of `EXPRESSION_MUSCLES`.
        rng: decides what differs between photographs of one person: pose (yaw up to 16°, pitch 8°, roll 10°), strength
            of the expression, gaze, light, background, clothes, blur and noise.
        size: width and height in pixels.
        strength: how much of the expression is shown, 0 to 1.
        yaw: degrees the head is turned instead, positive to the person's own left. With generators in the same state,
            pictures that differ in strength and yaw alone are frames of one film.

    Returns:
        RGB picture (size, size); the head takes about six tenths of its height.

    Raises:
        ValueError: for an expression that is not known.
    """
    muscles, person = muscles_of(expression).scaled(strength).jittered(rng), Person.from_number(identity)
    mouth = mouth_line(person, muscles)
    sheet = Sheet(background(size * SUPERSAMPLING, rng), person, rng, yaw)
    draw_head(sheet, person, muscles, clothes=muted(rng, 70))
    draw_beard(sheet, person, muscles, mouth)
    draw_wrinkles(sheet, person, muscles, mouth)
    draw_nose(sheet, person, muscles)
    draw_mouth(sheet, person, muscles, mouth)
    draw_eyes(sheet, person, muscles, gaze=rng.uniform((-0.025, -0.01), (0.025, 0.01)))
    draw_hair(sheet, person)
    draw_brows(sheet, person, muscles)
    draw_glasses(sheet, person)
    return photograph(sheet, rng)


def drawn_photograph(identity: int, expression: str, number: int, seed: int) -> Image.Image:
    """Photograph `number` of a person with an expression: these four alone decide it, so any process can draw any."""
    muscles_of(expression)  # the readable error for an unknown expression
    place = list(EXPRESSION_MUSCLES).index(expression)
    return draw_face(identity, expression, np.random.default_rng((seed, identity, place, number)))


def drawn_frame(identity: int, expression: str, strength: float, yaw: float, seed: int) -> Image.Image:
    """A frame of a film of one person: with the same seed everything else stays as it is."""
    return draw_face(identity, expression, np.random.default_rng((seed, identity)), strength=strength, yaw=yaw)


def drawn_plan(identities: int, per_expression: int, seed: int) -> Iterator[dict]:
    """What a drawn corpus holds, person by person, with nothing drawn yet: any process can draw any row of it.

    Yields:
        key ("person_0007/happy_02.png"), image (call it for the picture; it can be pickled), identity ("person_0007"),
        expression, and split: "valid" for the last fifth of the people, at least two, and "train" for the others.

    Raises:
        ValueError: for fewer than three people, which leave nobody to train on.
    """
    if identities < 3:
        raise ValueError(f"Cannot split {identities} drawn people: draw at least 3, of whom 2 are for validation.")
    for identity in range(identities):
        name = f"person_{identity:04d}"
        split = "train" if identity < identities - max(2, identities // 5) else "valid"
        for expression in EXPRESSION_MUSCLES:
            for number in range(per_expression):
                key = f"{name}/{expression}_{number:02d}.png"
                image = partial(drawn_photograph, identity, expression, number, seed)
                yield {"key": key, "image": image, "identity": name, "expression": expression, "split": split}
