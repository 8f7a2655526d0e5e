"""Drawn faces: a person looks similar in all photographs, expressions change the face, the detector finds the face."""

import pickle

import numpy as np
import pytest
from facenet_pytorch import MTCNN
from PIL import Image

from face_data.drawn import draw_face, drawn_photograph, drawn_plan
from face_data.drawn.person import EXPRESSION_MUSCLES


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.reduce(5), float)


def pixels_of_face(identity: int, expression: str = "neutral", scene: int = 0) -> np.ndarray:
    """A person in a scene. In the same scene, all people have the same pose, light, background and noise."""
    return pixels(draw_face(identity, expression, np.random.default_rng(scene)))


def test_a_photograph_depends_only_on_person_expression_number_and_seed():
    drawn_from_plan = {row["key"]: row["image"]() for row in drawn_plan(3, 2, seed=5)}
    drawn_alone = drawn_photograph(2, "happy", 1, seed=5)
    assert drawn_alone.size == (250, 250) and drawn_alone.mode == "RGB"
    assert drawn_from_plan["person_0002/happy_01.png"].tobytes() == drawn_alone.tobytes()
    others = [(1, "happy", 1, 5), (2, "sad", 1, 5), (2, "happy", 0, 5), (2, "happy", 1, 6)]
    assert drawn_alone.tobytes() not in {drawn_photograph(*other).tobytes() for other in others}


def test_photographs_of_one_person_are_more_similar_than_of_two_people():
    """In the same scene, a smiling person is more similar to the same person than to any of 15 others."""
    people = [pixels_of_face(identity) for identity in range(16)]
    for identity in range(16):
        smiling = pixels_of_face(identity, "happy")
        distances = [np.abs(smiling - person).mean() for person in people]
        assert int(np.argmin(distances)) == identity


def test_an_expression_changes_the_face_but_not_hair_or_border():
    """Compared with the neutral face of the same scene, surprise changes the face, but not the hair or the border."""
    for identity in range(4):
        change = np.abs(pixels_of_face(identity, "surprise") - pixels_of_face(identity)).mean(axis=2)
        face, crown, border = change[15:42, 15:35], change[2:6, 15:35], change[:, :4]
        assert face.mean() > 4 * max(crown.mean(), border.mean())


def test_the_detector_finds_exactly_one_face():
    detector = MTCNN(keep_all=True, min_face_size=40)
    expressions, plausible = list(EXPRESSION_MUSCLES), 0
    for identity in range(63):
        picture = drawn_photograph(identity, expressions[identity % 7], 0, seed=11)
        boxes, _, landmarks = detector.detect(picture, landmarks=True)
        if boxes is None or len(boxes) != 1:
            continue
        left_eye, right_eye, nose, left_corner, right_corner = np.stack(landmarks).astype(float)[0]
        upright = max(left_eye[1], right_eye[1]) < nose[1] < min(left_corner[1], right_corner[1])
        plausible += upright and left_eye[0] < right_eye[0] and left_corner[0] < right_corner[0]
    assert plausible >= 0.95 * 63


def test_the_plan_splits_by_people():
    rows = list(drawn_plan(4, 1, seed=0))
    del rows[0]["image"]
    first = {"key": "person_0000/neutral_00.png", "identity": "person_0000", "expression": "neutral", "split": "train"}
    assert rows[0] == first
    assert len({row["key"] for row in rows}) == len(rows) == 4 * 7
    people = {split: {row["identity"] for row in rows if row["split"] == split} for split in ("train", "valid")}
    assert people == {"train": {"person_0000", "person_0001"}, "valid": {"person_0002", "person_0003"}}


def test_a_row_can_be_drawn_in_another_process():
    row = pickle.loads(pickle.dumps(list(drawn_plan(3, 1, seed=2))[-1]))
    assert row["image"]().tobytes() == drawn_photograph(2, "surprise", 0, seed=2).tobytes()


def test_too_few_people_to_split_are_refused():
    with pytest.raises(ValueError, match=r"2 drawn people.*at least 3"):
        next(drawn_plan(2, 1, seed=0))


@pytest.mark.parametrize("draw", [lambda: pixels_of_face(0, "bored"), lambda: drawn_photograph(0, "bored", 0, seed=0)])
def test_an_unknown_expression_is_refused(draw):
    with pytest.raises(ValueError, match=r"'bored'.*neutral, anger, disgust, fear, happy, sad, surprise"):
        draw()
