"""Drawn photographs of people who do not exist, for tests and demonstrations without real photographs.

Tests, the demo and `python -m face_data synthesize` call it. `python -m face_data.drawn faces.png` draws an overview.
Read `person` next (identities and the muscles of expressions), then `sheet` (curves and pose) and `parts` (eyes, hair).
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


def muted_colour(rng: np.random.Generator, colourful: float) -> np.ndarray:
    """A random colour; it is grey if `colourful` is 0."""
    return (rng.uniform(50, 220) + colourful * rng.uniform(-1, 1, 3)).clip(0, 255)


def background(size: int, rng: np.random.Generator) -> Image.Image:
    """A blurred wall or room, in which a detector does not find a second face."""
    wall = muted_colour(rng, 30)
    small = Image.new("RGB", (32, 32), rgb(wall))
    for _ in range(rng.integers(0, 6)):
        x, y, width, height = rng.uniform((-8, -8, 4, 8), (32, 32, 20, 40))
        colour = (wall + rng.normal(0, 25) + rng.normal(0, 10, 3)).clip(0, 255)
        ImageDraw.Draw(small).rectangle((x, y, x + width, y + height), fill=rgb(colour))
    small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2)))
    return small.resize((size, size), Image.Resampling.BILINEAR)


def as_photograph(sheet: Sheet, rng: np.random.Generator) -> Image.Image:
    """Adds the effects of a camera to the drawing: light from one side, a colour cast, slight blur and noise."""
    image = sheet.image.reduce(SUPERSAMPLING).filter(ImageFilter.BoxBlur(rng.uniform(0.1, 1.2)))
    size, angle, strength = image.width, rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.4)
    x, y = (np.arange(size) * SUPERSAMPLING - sheet.middle[:, None]) / sheet.scale  # in half heads
    towards_light = np.cos(angle) * x + np.sin(angle) * y[:, None]
    light = rng.uniform(0.85, 1.1) * (1 + strength * np.tanh(towards_light))[..., None] * rng.uniform(0.94, 1.06, 3)
    pixels = np.asarray(image) * light.astype(np.float32)
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
    """A drawn photograph of one face.

    Args:
        identity: number of the person, not negative; the same number always has the same face.
        expression: one of `EXPRESSION_MUSCLES`.
        rng: determines the differences between photographs of one person: pose (yaw up to 16°, pitch 8°, roll 10°),
            strength of the expression, gaze, light, background, clothes, blur and noise.
        size: width and height in pixels.
        strength: of the expression, 0 to 1.
        yaw: of the head in degrees, positive to the person's left; None means random. With generators in the same
            state, images that differ only in strength and yaw are frames of one film.

    Returns:
        RGB image (size, size); the head takes about six tenths of its height.

    Raises:
        ValueError: unknown expression.
    """
    muscles, person = muscles_of(expression).scaled(strength).jittered(rng), Person.from_number(identity)
    mouth = mouth_line(person, muscles)
    sheet = Sheet(background(size * SUPERSAMPLING, rng), person, rng, yaw)
    draw_head(sheet, person, muscles, clothes=muted_colour(rng, 70))
    draw_beard(sheet, person, muscles, mouth)
    draw_wrinkles(sheet, person, muscles, mouth)
    draw_nose(sheet, person, muscles)
    draw_mouth(sheet, person, muscles, mouth)
    draw_eyes(sheet, person, muscles, gaze=rng.uniform((-0.025, -0.01), (0.025, 0.01)))
    draw_hair(sheet, person)
    draw_brows(sheet, person, muscles)
    draw_glasses(sheet, person)
    return as_photograph(sheet, rng)


def drawn_photograph(identity: int, expression: str, number: int, seed: int) -> Image.Image:
    """Photograph `number` of a person with an expression; it depends only on these four values."""
    muscles_of(expression)  # raises a readable error for an unknown expression
    expression_number = list(EXPRESSION_MUSCLES).index(expression)
    return draw_face(identity, expression, np.random.default_rng((seed, identity, expression_number, number)))


def drawn_frame(identity: int, expression: str, strength: float, yaw: float, seed: int) -> Image.Image:
    """A frame of a film of one person; frames with the same seed differ only in expression, strength and yaw."""
    return draw_face(identity, expression, np.random.default_rng((seed, identity)), strength=strength, yaw=yaw)


def drawn_plan(identities: int, per_expression: int, seed: int) -> Iterator[dict]:
    """The photographs of a drawn corpus, person by person, before they are drawn.

    Yields:
        the fields of a `Photograph`: key ("person_0007/happy_02.png"), image (a function that draws it, which can be
        pickled), identity ("person_0007"), expression, and split: "valid" for the last fifth of the people, at least
        two, and "train" for the others.

    Raises:
        ValueError: fewer than three people, so no person would be left for training.
    """
    if identities < 3:
        raise ValueError(f"cannot split {identities} drawn people; draw at least 3, of whom 2 are for validation")
    for identity in range(identities):
        name = f"person_{identity:04d}"
        split = "train" if identity < identities - max(2, identities // 5) else "valid"
        for expression in EXPRESSION_MUSCLES:
            for number in range(per_expression):
                key = f"{name}/{expression}_{number:02d}.png"
                image = partial(drawn_photograph, identity, expression, number, seed)
                yield {"key": key, "image": image, "identity": name, "expression": expression, "split": split}
