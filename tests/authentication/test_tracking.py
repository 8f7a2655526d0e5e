"""A tracked face agrees with a full detection. Doubtful and new faces cause a full detection."""

import numpy as np
import pytest
from PIL import Image

from authentication.authenticator import DEFAULT_MODEL, Authenticator
from authentication.tracking import FaceTracker, overlap
from demo.examples import WELL_KNOWN
from face_data.drawn import drawn_photograph
from image_processing_facelivenet import Face, FaceLiveNetImageProcessor
from pipeline_facelivenet import FRAMES_TO_HOLD

WIDTH, HEIGHT = 480, 320
BLANK = Image.new("RGB", (WIDTH, HEIGHT), (120, 130, 140))


class CountingProcessor(FaceLiveNetImageProcessor):
    """An image processor that counts its full detections."""

    detections = 0

    def detect(self, image):
        self.detections += 1
        return super().detect(image)


@pytest.fixture
def processor():
    return CountingProcessor(size=80)


@pytest.fixture
def tracker(processor):
    return FaceTracker(processor)


def scene(*people: tuple[Image.Image, tuple[int, int]]) -> Image.Image:
    """A frame with portraits of 250 x 250 pixels. A place is an upper left corner and may be outside the frame."""
    frame = BLANK.copy()
    for portrait, place in people:
        frame.paste(portrait, place)
    return frame


def test_a_moving_face_is_tracked(processor, tracker, portrait):
    frames = [scene((portrait, (round(100 + 60 * np.sin(n / 4)), 30 + n))) for n in range(15)]
    tracked = [tracker.find(frame) for frame in frames]
    assert processor.detections == 5  # every third frame: no frame is in doubt
    for frame, faces in zip(frames, tracked, strict=True):
        [face], [detected] = faces, processor.detect(frame)
        assert overlap(face.box, detected.box) > 0.85
        assert np.abs(face.landmarks - detected.landmarks).max() < 0.1 * (detected.box[2] - detected.box[0])
        assert face.probability >= processor.detection_threshold
        assert face.box.shape == (4,) and face.landmarks.shape == (5, 2) and face.box.dtype == np.float32


def test_every_hold_contains_a_full_detection(processor, tracker, portrait):
    assert tracker.detection_interval <= FRAMES_TO_HOLD
    detections = []
    for _ in range(9):
        before = processor.detections
        tracker.find(scene((portrait, (100, 30))))
        detections.append(processor.detections - before)
    assert all(sum(detections[start : start + FRAMES_TO_HOLD]) >= 1 for start in range(9 - FRAMES_TO_HOLD))


def test_an_interval_of_one_frame_equals_full_detection(processor, portrait):
    tracker = FaceTracker(processor, detection_interval=1)
    for left in (100, 104, 108):
        frame = scene((portrait, (left, 30)))
        [face], [detected] = tracker.find(frame), processor.detect(frame)
        assert np.array_equal(face.box, detected.box) and np.array_equal(face.landmarks, detected.landmarks)


@pytest.mark.parametrize("interval", [0, -1])
def test_the_detection_interval_is_at_least_one_frame(processor, interval):
    with pytest.raises(ValueError, match=f"detection_interval.*{interval}"):
        FaceTracker(processor, detection_interval=interval)


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_a_face_that_disappears_is_lost_at_once(tracker, portrait, phase):
    for _ in range(phase):
        assert len(tracker.find(scene((portrait, (100, 30))))) == 1
    assert tracker.find(BLANK) == []
    assert tracker.find(BLANK) == []
    assert len(tracker.find(scene((portrait, (200, 40))))) == 1


def test_a_face_that_leaves_the_frame_is_tracked_to_the_border(processor, tracker, portrait):
    counts = []
    for left in range(140, WIDTH, 20):
        frame = scene((portrait, (left, 30)))
        faces, detected = tracker.find(frame), processor.detect(frame)
        counts.append(len(faces))
        if detected and detected[0].box[2] < WIDTH:  # outside the frame the position is a guess
            assert overlap(faces[0].box, detected[0].box) > 0.7
    assert counts == sorted(counts, reverse=True) and counts[0] == 1 and counts[-1] == 0


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_a_face_at_another_place_is_found_in_the_same_frame(processor, tracker, portrait, group, phase):
    other = group.crop((250, 0, 500, 250))
    for _ in range(phase):
        tracker.find(scene((portrait, (-20, 0))))
    frame = scene((other, (240, 70)))
    [face], [detected] = tracker.find(frame), processor.detect(frame)
    assert np.array_equal(face.box, detected.box)


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_a_second_face_is_found_by_the_next_detection(processor, tracker, portrait, group, phase):
    for _ in range(phase):
        assert len(tracker.find(scene((portrait, (0, 30))))) == 1
    both = scene((portrait, (0, 30)), (group.crop((250, 0, 500, 250)), (230, 30)))
    counts = [len(tracker.find(both)) for _ in range(6)]
    assert 2 in counts[: tracker.detection_interval]
    assert set(counts[counts.index(2) :]) == {2}  # two faces are never tracked
    assert len(tracker.find(scene((portrait, (0, 30))))) == 1


def test_every_blank_frame_gets_a_full_detection(processor, tracker):
    assert [tracker.find(BLANK) for _ in range(5)] == [[]] * 5
    assert processor.detections == 5


def test_a_frame_of_another_size_gets_a_full_detection(processor, tracker, portrait):
    frame = scene((portrait, (100, 30)))
    tracker.find(frame)
    assert tracker.find(Image.new("RGB", (1, 1))) == []
    assert len(tracker.find(frame)) == 1
    large = frame.resize((2 * WIDTH, 2 * HEIGHT))
    [face], [detected] = tracker.find(large), processor.detect(large)
    assert np.array_equal(face.box, detected.box)


@pytest.mark.parametrize(
    "doubtful",
    [
        Face(np.full(4, np.nan, np.float32), np.zeros((5, 2), np.float32), 1.0),
        Face(np.array([0, 0, 40, 40], np.float32), np.zeros((5, 2), np.float32), 1.0),
        Face(np.array([150, 60, 300, 250], np.float32), np.zeros((5, 2), np.float32), 0.5),
        Face(np.array([150, 60, 300, 250], np.float32), np.zeros((5, 2), np.float32), float("nan")),
    ],
    ids=["nan_box", "another_place", "low_probability", "nan_probability"],
)
def test_a_doubtful_face_causes_a_full_detection(processor, tracker, portrait, monkeypatch, doubtful):
    frame = scene((portrait, (100, 30)))
    tracker.find(frame)
    monkeypatch.setattr(processor, "refine", lambda image, boxes: [doubtful] * len(boxes))
    [face], [detected] = tracker.find(frame), processor.detect(frame)
    assert np.array_equal(face.box, detected.box)


def test_a_failed_detection_ends_the_tracking(processor, tracker, portrait, monkeypatch):
    frame = scene((portrait, (100, 30)))
    for _ in range(tracker.detection_interval):
        tracker.find(frame)

    def fail(image):
        raise RuntimeError("the detector broke")

    with monkeypatch.context() as patch:
        patch.setattr(processor, "detect", fail)
        with pytest.raises(RuntimeError):
            tracker.find(frame)
        with pytest.raises(RuntimeError):
            tracker.find(frame)
    assert len(tracker.find(frame)) == 1


def test_overlap():
    box = np.array([0, 0, 10, 10])
    assert overlap(box, box) == 1
    assert overlap(box, np.array([5, 0, 15, 10])) == pytest.approx(50 / 150)
    assert overlap(box, box + 10) == overlap(box, box + 20) == 0
    assert overlap(np.zeros(4), np.zeros(4)) == 0


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_camera_is_reported(degrees):
    """Frames of a turned camera do not count. An upright camera is not reported."""
    authenticator = Authenticator.from_pretrained(DEFAULT_MODEL)
    frame = BLANK.copy()
    frame.paste(drawn_photograph(WELL_KNOWN[0], "neutral", 0, seed=0).resize((260, 260)), (100, 20))
    template, tracker = authenticator.template([frame]), FaceTracker(authenticator.processor)
    turned = frame.rotate(degrees, expand=True)
    decisions = [authenticator.judge(template, turned, "neutral", tracker) for _ in range(4)]
    assert {decision.reason == "turned" for decision in decisions} == {degrees != 0}
    assert not degrees or not any(decision.accepted for decision in decisions)
