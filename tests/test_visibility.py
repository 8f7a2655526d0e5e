"""How well a face can be seen: every measure falls with what it is about, and not with the rest."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from evaluation.protocols.degradations import DEGRADATIONS
from evaluation.quality import calibrate_quality, measure
from face_data.drawn import WELL_KNOWN, drawn_photograph
from face_data.table import load_corpus
from image_processing_facelivenet import FaceLiveNetImageProcessor, visibility
from pipeline_facelivenet import unusable_reason


@pytest.fixture(scope="module")
def seen():
    """An aligned drawn face, RGB, and its landmarks."""
    processor = FaceLiveNetImageProcessor(size=160)
    picture = drawn_photograph(WELL_KNOWN[0], "neutral", 0, seed=0)
    [face] = processor.find(picture)
    return Image.fromarray(processor.align(picture, face)), processor.landmarks_in_crop(picture, face)


def measured(seen, name):
    face, landmarks = seen
    degraded, landmarks = DEGRADATIONS[name](face.copy(), landmarks)
    return visibility(np.asarray(degraded), landmarks)


def test_covered_eyes_and_a_covered_mouth_have_no_texture(seen):
    bare = measured(seen, "bare")
    glasses, mask = measured(seen, "dark glasses"), measured(seen, "mask")
    assert glasses.eyes < 0.3 * bare.eyes and glasses.mouth > 0.6 * bare.mouth
    assert mask.mouth < 0.3 * bare.mouth and mask.eyes > 0.8 * bare.eyes


@pytest.mark.parametrize(
    "name", ["blurred by 4 % of its width", "blurred by 7 % of its width", "blurred by motion", "dark"]
)
def test_blur_and_darkness_take_the_sharpness(seen, name):
    assert measured(seen, name).sharpness < 0.5 * measured(seen, "bare").sharpness


@pytest.mark.parametrize("alignment", ["margin", "similarity"])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_landmarks_are_where_the_crop_has_them(alignment, degrees):
    """Dots on the landmarks of the picture, whichever way up it lies, come out where they are said to be."""
    processor = FaceLiveNetImageProcessor(size=160, alignment=alignment)
    picture = drawn_photograph(WELL_KNOWN[0], "neutral", 0, seed=0).rotate(degrees, expand=True)
    [face] = processor.find(picture)
    for point, target in zip(face.landmarks, processor.landmarks_in_crop(picture, face), strict=True):
        dots = Image.new("RGB", picture.size)
        reach = picture.width / 60
        ImageDraw.Draw(dots).ellipse([*(point - reach), *(point + reach)], fill="white")
        crop = processor.align(dots.filter(ImageFilter.GaussianBlur(1)), face)[..., 0].astype(float)
        rows, columns = np.mgrid[:160, :160] + 0.5
        found = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
        np.testing.assert_allclose(found, target, atol=2.5)


def test_landmarks_outside_the_crop_give_numbers():
    face = np.zeros((96, 96, 3), np.uint8)
    for landmarks in (np.full((5, 2), 1e4), np.full((5, 2), -1e4), np.zeros((5, 2))):
        assert np.isfinite(list(vars(visibility(face, landmarks)).values())).all()


def test_the_gate_refuses_as_many_as_it_says(drawn_corpus):
    corpus = load_corpus(drawn_corpus)
    bounds, record = calibrate_quality([corpus], share=0.1)
    values = measure([corpus])
    outside = [values[name] < bounds[name] for name in values]
    outside += [values[name] > bounds[f"most_{name}"] for name in ("sharpness", "eyes", "mouth")]
    refused = np.any(outside, axis=0)
    assert record == {"share": 0.1, "refused": int(refused.sum()), "photographs": len(refused)}
    assert 0.08 * len(refused) < refused.sum() < 0.72 * len(refused)


@pytest.mark.parametrize("name", ["specks", "checked scarf"])
def test_noise_and_patterned_covers_are_sharper_than_a_face(seen, name):
    bare = vars(measured(seen, "bare")) | {"roll": 0.0, "detection_probability": 1.0}
    quality = {"sharpness": 0, "eyes": 0, "mouth": 0, "detection_probability": 0}
    quality |= {f"most_{name}": 1.2 * bare[name] for name in ("sharpness", "eyes", "mouth")}
    assert unusable_reason(bare, quality) is None
    seen_so = bare | vars(measured(seen, name))
    assert unusable_reason(seen_so, quality) == "unclear"
    assert unusable_reason(seen_so, {name: 0 for name in quality if "most" not in name}) is None  # of before


def test_the_edges_of_a_cover_are_no_eyes(seen):
    """A slanted bar has edges that are sharper than any eye, in the middle of what is around the eyes."""
    face, landmarks = seen
    slanted = np.add(landmarks, [[0, -6], [0, 6], [0, 0], [0, 0], [0, 0]])
    covered, _ = DEGRADATIONS["black bar over the eyes"](face.copy(), slanted)
    assert visibility(np.asarray(covered), landmarks).eyes < 0.3 * measured(seen, "bare").eyes
