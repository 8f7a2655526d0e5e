"""The quality gate measures faces, and refuses those that are covered, blurred or noisy."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from checkpoints import load_checkpoint
from evaluation.protocols.degradations import DEGRADATIONS
from evaluation.quality import REFUSED_SHARE, calibrate_quality, face_and_landmarks, measure_faces
from face_data.table import load_corpus
from image_processing_facelivenet import flat_colour, noise, nose_offset
from pipeline_facelivenet import MAX_FLAT_COLOUR, QUALITY, unusable_reason

FACES = 24


@pytest.fixture(scope="module")
def shipped(repository):
    return load_checkpoint(repository / "pretrained")


@pytest.fixture(scope="module")
def rows(drawn_corpus):
    corpus = load_corpus(drawn_corpus)
    return [corpus[row] for row in range(0, len(corpus), len(corpus) // FACES)]


@pytest.fixture(scope="module")
def reasons(shipped, rows):
    """A function: name of a degradation -> for each face, the reason why the gate refuses it, or None."""

    def reasons_of(name: str) -> list[str | None]:
        undegraded = map(face_and_landmarks, rows)
        faces = [(DEGRADATIONS[name](face.copy(), landmarks), landmarks) for face, landmarks in undegraded]
        _, measures = measure_faces(shipped, faces, [1.0] * len(faces))
        return [unusable_reason(evidence, shipped.network.config.quality) for evidence in measures]

    return reasons_of


def test_most_faces_without_degradation_are_usable(reasons):
    assert sum(reason is None for reason in reasons("unchanged")) >= 0.8 * FACES


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("black bar over the eyes", "eyes_covered"),
        ("dark glasses", "eyes_covered"),
        ("coloured glasses", "eyes_covered"),
        ("mask", "mouth_covered"),
        ("checked scarf", "mouth_covered"),
        ("blurred by 4 % of its width", "blurred"),
        ("blurred by motion", "blurred"),
        ("dark", "blurred"),
        ("noise", "noisy"),
        ("specks", "noisy"),
        ("JPEG of quality 8", None),  # compressed; drawn faces also seem to have a covered mouth
    ],
)
def test_degraded_faces_are_refused_with_the_right_reason(reasons, name, reason):
    found = reasons(name)
    assert sum(refusal is not None for refusal in found) >= 0.9 * len(found)
    assert reason is None or sum(refusal == reason for refusal in found) >= 0.7 * len(found)


@pytest.mark.parametrize("deviation", [5, 10, 20])
def test_noise_is_measured_in_grey_levels(deviation):
    """A smooth image with a sharp edge, in the size of the measurement. The edge does not count as noise."""
    rows, columns = np.mgrid[:96, :96]
    smooth = 60 + 0.5 * rows + np.where(columns > 50, 70, 0)
    assert noise(np.repeat(smooth[..., None], 3, axis=2).astype(np.uint8)) < 0.3
    noisy = smooth + np.random.default_rng(0).normal(0, deviation, smooth.shape)
    measured = noise(np.repeat(noisy.clip(0, 255)[..., None], 3, axis=2).astype(np.uint8))
    assert measured == pytest.approx(deviation, rel=0.3)  # a bit low: only the blocks with the least noise count


def test_flat_colour_finds_strong_compression_in_colour_only(rows):
    """In faces of 250 pixels, it finds strong compression, but not usual compression or pale and grey faces."""

    faces = [face_and_landmarks(row)[0].resize((250, 250)) for row in rows]

    def median(change) -> float:
        return np.median([flat_colour(np.asarray(change(face))) for face in faces])

    def compressed(quality: int, colour: float = 1.0):
        def change(face: Image.Image) -> Image.Image:
            file = io.BytesIO()
            ImageEnhance.Color(face).enhance(colour).save(file, "JPEG", quality=quality)
            return Image.open(file).convert("RGB")

        return change

    assert median(compressed(5)) > MAX_FLAT_COLOUR
    assert median(compressed(80)) < 0.7 * MAX_FLAT_COLOUR
    assert median(compressed(80, colour=0.2)) == median(compressed(5, colour=0)) == 0


def test_the_record_has_the_number_of_refused_faces(shipped, drawn_corpus, rows):
    corpus = load_corpus(drawn_corpus).select(range(60))
    bounds, record = calibrate_quality(shipped, [corpus])
    assert bounds.keys() == QUALITY.keys()
    _, measures = measure_faces(
        shipped, [face_and_landmarks(row) for row in corpus], [row["detection_probability"] for row in corpus]
    )
    refused = sum(unusable_reason(evidence, bounds) is not None for evidence in measures)
    assert record == {"share": REFUSED_SHARE, "refused": refused, "photographs": 60}
    assert 0 < refused < 0.2 * 60


@pytest.mark.parametrize("degrees", [0, 25, 90])
def test_the_nose_offset_grows_with_the_turn_of_the_head(degrees):
    """A head of five points is turned, in images at three rotations."""
    head = np.array([[-1, -1, 0], [1, -1, 0], [0, 0, 1.2], [-0.8, 1, 0], [0.8, 1, 0]])
    roll = np.radians(degrees)
    turned = []
    for yaw in np.radians([0, 10, 20, 30, 40]):
        projected = head[:, :2] * [np.cos(yaw), 1] + np.outer(head[:, 2] * np.sin(yaw), [1, 0])
        turned.append(
            abs(nose_offset(projected @ [[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]] * 30 + 100))
        )
    assert turned[0] == pytest.approx(0, abs=1e-9)
    assert all(later > earlier + 0.05 for earlier, later in itertools.pairwise(turned))
    assert nose_offset(np.zeros((5, 2))) == 0
