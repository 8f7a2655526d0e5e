"""The quality gate: what it measures of a face, and that it refuses what was covered, blurred or made noisy."""

import itertools

import numpy as np
import pytest

from checkpoints import load_checkpoint
from evaluation.protocols.degradations import DEGRADATIONS
from evaluation.quality import calibrate_quality, face_and_landmarks, measure_faces
from face_data.table import load_corpus
from image_processing_facelivenet import nose_offset
from pipeline_facelivenet import QUALITY, unusable_reason

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
    """Degradation -> why the shipped network cannot judge each face, None where it can."""

    def of(name: str) -> list[str | None]:
        faces = [DEGRADATIONS[name](face.copy(), landmarks) for face, landmarks in map(face_and_landmarks, rows)]
        _, measures = measure_faces(shipped, faces, [1.0] * len(faces))
        return [unusable_reason(evidence, shipped.network.config.quality) for evidence in measures]

    return of


def test_faces_as_they_are_can_be_judged(reasons):
    assert sum(reason is None for reason in reasons("bare")) >= 0.8 * FACES


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
    ],
)
def test_what_hides_a_face_is_refused_for_what_it_is(reasons, name, reason):
    found = reasons(name)
    assert sum(one is not None for one in found) >= 0.9 * len(found)
    assert sum(one == reason for one in found) >= 0.7 * len(found)


def test_noise_is_sharper_than_a_face(shipped, rows):
    face, landmarks = face_and_landmarks(rows[0])
    specks, _ = DEGRADATIONS["specks"](face.copy(), landmarks)
    _, (bare, noisy) = measure_faces(shipped, [(face, landmarks), (specks, landmarks)], [1.0, 1.0])
    assert noisy["sharpness"] > 2 * bare["sharpness"]
    assert unusable_reason(noisy, {"most_sharpness": 1.5 * bare["sharpness"]}) == "unclear"


def test_the_gate_refuses_as_many_as_it_says(shipped, drawn_corpus, rows):
    corpus = load_corpus(drawn_corpus).select(range(60))
    bounds, record = calibrate_quality(shipped, [corpus], share=0.1)
    assert bounds.keys() == QUALITY.keys()
    _, measures = measure_faces(
        shipped, [face_and_landmarks(row) for row in corpus], [row["detection_probability"] for row in corpus]
    )
    refused = sum(unusable_reason(evidence, bounds) is not None for evidence in measures)
    assert record == {"share": 0.1, "refused": refused, "photographs": 60}
    assert 0.08 * 60 < refused < 0.6 * 60


@pytest.mark.parametrize("degrees", [0, 25, 90])
def test_the_nose_beside_the_middle_tells_a_turned_head(degrees):
    """Of a head of five points that is turned, whichever way up the picture lies."""
    head = np.array([[-1, -1, 0], [1, -1, 0], [0, 0, 1.2], [-0.8, 1, 0], [0.8, 1, 0]])
    roll = np.radians(degrees)
    turned = []
    for yaw in np.radians([0, 10, 20, 30, 40]):
        seen = head[:, :2] * [np.cos(yaw), 1] + np.outer(head[:, 2] * np.sin(yaw), [1, 0])
        turned.append(abs(nose_offset(seen @ [[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]] * 30 + 100)))
    assert turned[0] == pytest.approx(0, abs=1e-9)
    assert all(later > earlier + 0.05 for earlier, later in itertools.pairwise(turned))
    assert nose_offset(np.zeros((5, 2))) == 0
