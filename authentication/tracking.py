"""Tracks the face of a live stream: a full detection every few frames, and a search around the last box in between.

`attempt` has one tracker for each attempt. Read the detector in `image_processing_facelivenet` next.
"""

import numpy as np
from PIL import Image

from image_processing_facelivenet import UPRIGHT_PROBABILITY, Face, FaceLiveNetImageProcessor
from pipeline_facelivenet import FRAMES_TO_HOLD

# Sides of the searched boxes, in units of the last box. The mean of several is steadier than one result.
SEARCH_SCALES = (0.9, 1.0, 1.12)
CHECK_EVERY = 5  # one of so many detections without a sure face also searches the frame turned by 90, 180, 270 degrees
MIN_OVERLAP = 0.5  # intersection over union with the last box; below it the frame gets a full detection


class FaceTracker:
    """Finds the faces in the frames of one live session, in order. Only one thread may use it at a time.

    After a detection with a single face, the next frames are only searched around its last box. A second face is not
    seen there. Therefore at least one of `detection_interval` frames gets a full detection. A session holds an
    expression for as many frames, so one of them has a full detection, and a second face in it is rejected.

    Args:
        processor: has the detector.
        detection_interval: number of frames of which at least one gets a full detection; 1 means every frame.
    """

    def __init__(self, processor: FaceLiveNetImageProcessor, detection_interval: int = FRAMES_TO_HOLD):
        if detection_interval < 1:
            raise ValueError(f"detection_interval must be at least 1 frame, not {detection_interval!r}")
        self.processor = processor
        self.detection_interval = detection_interval
        self._box: np.ndarray | None = None  # of the only face in the last frame; None if there is no face to track
        self._size: tuple[int, int] | None = None
        self._frames = 0  # since the last full detection
        self._until_turned_check = 0  # unsure detections until the next search in turned frames

    def find(self, image: Image.Image) -> list[Face]:
        """The faces of the next frame, an RGB image, in the form of the processor's `detect`."""
        self._frames += 1
        follow = self._box is not None and self._frames < self.detection_interval and image.size == self._size
        face = self._search_around(image) if follow else None
        if face is None:  # not found, or in doubt
            self._box, self._size, self._frames = None, image.size, 0
            faces = self._detect(image)
        else:
            faces = [face]
        self._box = faces[0].box if len(faces) == 1 and not faces[0].turn else None
        return faces

    def _detect(self, image: Image.Image) -> list[Face]:
        """A full detection. If it finds no sure face, sometimes also in turned frames, as the camera may be turned."""
        faces = self.processor.detect(image)
        if max((face.probability for face in faces), default=0.0) >= UPRIGHT_PROBABILITY:
            self._until_turned_check = 0
            return faces
        self._until_turned_check -= 1
        if self._until_turned_check >= 0:
            return faces
        faces = self.processor.detect_in_any_orientation(image) or faces
        self._until_turned_check = (
            0 if faces and faces[0].turn else CHECK_EVERY
        )  # after a turned face, check every frame
        return faces

    def _search_around(self, image: Image.Image) -> Face | None:
        """The face near its last position; None if it is not found there for sure."""
        center, half = (self._box[:2] + self._box[2:]) / 2, (self._box[2:] - self._box[:2]) / 2
        boxes = [np.concatenate([center - scale * half, center + scale * half]) for scale in SEARCH_SCALES]
        smallest = self.processor.detection_threshold
        faces = [face for face in self.processor.refine(image, boxes) if face.probability >= smallest]
        if not faces:
            return None
        box, landmarks = (np.mean([getattr(face, name) for face in faces], axis=0) for name in ("box", "landmarks"))
        if not overlap(box, self._box) >= MIN_OVERLAP:
            return None
        return Face(box, landmarks, max(face.probability for face in faces))


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two (4,) boxes, in [0, 1]."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    union = sum(float(np.prod(box[2:] - box[:2])) for box in (first, second)) - shared
    return shared / union if union > 0 else 0.0
