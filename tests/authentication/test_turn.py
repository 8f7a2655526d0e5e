"""The geometry of turned heads and of turned flat images."""

import numpy as np
import pytest
from actor import Scene, landmarks_of

from authentication.session.turn import (
    FRONT_PARALLAX,
    TURNED_PARALLAX,
    face_shape,
    is_face,
    parallax,
    turned_to,
)
from image_processing_facelivenet import nose_offset

FRONT = np.mean([face_shape(landmarks_of(Scene())) for _ in range(20)], axis=0)


@pytest.mark.parametrize("yaw", [-60, -40, -20, 20, 40, 60])
def test_a_head_has_parallax_and_a_flat_image_has_none(yaw):
    flat = parallax(FRONT, face_shape(landmarks_of(Scene(yaw=yaw, flat=True))))
    front = np.mean([face_shape(landmarks_of(Scene(flat=True))) for _ in range(20)], axis=0)
    assert abs(parallax(front, face_shape(landmarks_of(Scene(yaw=yaw, flat=True))))) < 0.05
    head = parallax(FRONT, face_shape(landmarks_of(Scene(yaw=yaw))))
    assert np.sign(head) == np.sign(yaw) and abs(head) > abs(flat)
    assert abs(head) > (TURNED_PARALLAX if abs(yaw) > 30 else FRONT_PARALLAX)


def test_the_face_shape_is_independent_of_place_size_and_tilt():
    points = landmarks_of(Scene(yaw=30))
    angle = np.radians(25)
    tilted = points @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * 2.5 + (40, -7)
    assert face_shape(tilted) == pytest.approx(face_shape(points))


def test_frames_are_averaged_and_a_bent_sheet_is_not_a_turn():
    shapes = [face_shape(landmarks_of(Scene(yaw=yaw))) for yaw in (28, 30, 34)]
    assert turned_to(FRONT, shapes) == "turn_left"
    assert turned_to(FRONT, [face_shape(landmarks_of(Scene(yaw=-30)))]) == "turn_right"
    assert turned_to(FRONT, [FRONT, FRONT, shapes[0]]) is None and turned_to(FRONT, []) is None
    narrow = shapes[0] * (0.3, 1)  # the same parallax, but the eyes are much closer together
    narrow[2, 0] = 0.25 + narrow[[0, 1, 3, 4], 0].mean()
    assert parallax(FRONT, narrow) > TURNED_PARALLAX and turned_to(FRONT, [narrow]) is None


def test_impossible_landmarks_are_refused():
    for wrong in (np.zeros((5, 2)), np.full((5, 2), np.nan), np.array([[0, 0], [1, 0], [0, 0], [0, 0], [1, 0.0]])):
        with pytest.raises(ValueError, match="not those of a face"):
            face_shape(wrong)
        assert not is_face(wrong)
    assert nose_offset(FRONT) == pytest.approx(0, abs=0.02)
