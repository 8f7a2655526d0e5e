"""Reference photographs: which ones are usable, and which problems are reported for the others."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from authentication.authenticator import DEFAULT_MODEL, Authenticator
from authentication.reference import examine
from demo.examples import WELL_KNOWN
from face_data.drawn import drawn_photograph
from image_processing_facelivenet import sharpness
from pipeline_facelivenet import REASONS

PERSON, STRANGER = WELL_KNOWN[:2]


@pytest.fixture(scope="module")
def shipped() -> Authenticator:
    return Authenticator.from_pretrained(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return drawn_photograph(PERSON, "neutral", 0, seed=0)


def test_a_good_photograph_gets_no_advice(shipped, photograph):
    template, (reference,) = examine(shipped, [photograph])
    assert template.photographs == 1
    np.testing.assert_allclose(template.embedding, shipped.template([photograph]).embedding, atol=1e-5)
    assert (reference.problem, reference.advice) == (None, ())
    assert reference.face.shape == (shipped.processor.size, shipped.processor.size, 3)


@pytest.mark.parametrize(
    "name, change",
    [
        ("small", lambda picture: picture.resize((120, 120))),
        ("dark", lambda picture: ImageEnhance.Brightness(picture).enhance(0.3)),
        ("bright", lambda picture: Image.eval(picture, lambda value: 255 - (255 - value) // 3)),
        ("blurred", lambda picture: picture.filter(ImageFilter.GaussianBlur(5))),
    ],
)
def test_a_poor_photograph_gets_advice(shipped, photograph, name, change):
    template, (reference,) = examine(shipped, [change(photograph)])
    if reference.problem is None:
        assert template is not None and name in reference.advice
    else:  # too bad for the network
        assert template is None and reference.cause in (REASONS["blurred"], REASONS["unclear"])


def test_sharpness_falls_with_blur(photograph):
    sharp = [sharpness(np.asarray(photograph.filter(ImageFilter.GaussianBlur(radius)))) for radius in (0, 2, 6)]
    assert sharp[0] > sharp[1] > sharp[2]


def test_problems_are_reported_for_each_photograph(shipped, photograph, tmp_path):
    two = Image.new("RGB", (500, 250))
    for place, person in enumerate((PERSON, STRANGER)):
        two.paste(drawn_photograph(person, "neutral", 0, seed=0).resize((250, 250)), (250 * place, 0))
    text = tmp_path / "text.jpg"
    text.write_text("This is not a picture.")
    template, references = examine(shipped, [photograph, two, Image.new("RGB", (300, 300), "grey"), text])
    assert template is None
    assert [reference.problem for reference in references] == [None, "several_faces", "no_face", "unreadable"]
    assert references[3].cause == "not an image in any known format"
    assert examine(shipped, []) == (None, [])


def test_photographs_of_different_people_are_reported(shipped, photograph):
    again = drawn_photograph(PERSON, "neutral", 1, seed=0)
    stranger = drawn_photograph(STRANGER, "neutral", 0, seed=0)
    template, references = examine(shipped, [photograph, again])
    assert template.photographs == 2 and all("unlike" not in reference.advice for reference in references)
    template, references = examine(shipped, [photograph, again, stranger])
    assert "unlike" in references[2].advice
