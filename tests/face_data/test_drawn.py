"""Drawn faces: a person looks the same in all photographs, expressions change the face, and a detector finds it."""

import pickle

import numpy as np
import pytest
from facenet_pytorch import MTCNN
from PIL import Image

from face_data.drawn import draw_face, drawn_photograph, drawn_plan
from face_data.drawn.person import EXPRESSION_MUSCLES


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.reduce(5), float)


def shot(identity: int, expression: str = "neutral", scene: int = 0) -> np.ndarray:
    """A person in a scene, which determines pose, light, background and noise for every person."""
    return pixels(draw_face(identity, expression, np.random.default_rng(scene)))


def test_a_photograph_depends_on_nothing_but_its_four_numbers():
    whole = {row["key"]: row["image"]() for row in drawn_plan(3, 2, seed=5)}
    alone = drawn_photograph(2, "happy", 1, seed=5)
    assert alone.size == (250, 250) and alone.mode == "RGB"
    assert whole["person_0002/happy_01.png"].tobytes() == alone.tobytes()
    others = [(1, "happy", 1, 5), (2, "sad", 1, 5), (2, "happy", 0, 5), (2, "happy", 1, 6)]
    assert alone.tobytes() not in {drawn_photograph(*other).tobytes() for other in others}


def test_one_person_is_more_alike_than_two():
    """In the same scene, a smiling person is more similar to the same person than to any of 15 others."""
    people = [shot(identity) for identity in range(16)]
    for identity in range(16):
        smiling = shot(identity, "happy")
        distances = [np.abs(smiling - person).mean() for person in people]
        assert int(np.argmin(distances)) == identity


def test_an_expression_moves_what_it_should():
    """Compared with the neutral face of the same scene, surprise changes the face, but not the hair or the border."""
    for identity in range(4):
        change = np.abs(shot(identity, "surprise") - shot(identity)).mean(axis=2)
        face, crown, rim = change[15:42, 15:35], change[2:6, 15:35], change[:, :4]
        assert face.mean() > 4 * max(crown.mean(), rim.mean())


def test_the_detector_finds_exactly_one_face():
    detector = MTCNN(keep_all=True, min_face_size=40)
    expressions, sensible = list(EXPRESSION_MUSCLES), 0
    for identity in range(63):
        picture = drawn_photograph(identity, expressions[identity % 7], 0, seed=11)
        boxes, _, landmarks = detector.detect(picture, landmarks=True)
        if boxes is None or len(boxes) != 1:
            continue
        left_eye, right_eye, nose, left_corner, right_corner = np.stack(landmarks).astype(float)[0]
        upright = max(left_eye[1], right_eye[1]) < nose[1] < min(left_corner[1], right_corner[1])
        sensible += upright and left_eye[0] < right_eye[0] and left_corner[0] < right_corner[0]
    assert sensible >= 0.95 * 63


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


def test_too_few_people_to_split():
    with pytest.raises(ValueError, match=r"2 drawn people.*at least 3"):
        next(drawn_plan(2, 1, seed=0))


@pytest.mark.parametrize("draw", [lambda: shot(0, "bored"), lambda: drawn_photograph(0, "bored", 0, seed=0)])
def test_unknown_expression(draw):
    with pytest.raises(ValueError, match=r"'bored'.*neutral, anger, disgust, fear, happy, sad, surprise"):
        draw()
