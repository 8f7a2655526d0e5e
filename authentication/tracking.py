"""Follows the face of a live stream: a full detection every few frames, a search around the last box in between.

Called by `attempt`, one tracker for each; the detector is in `image_processing_facelivenet`.
"""

import numpy as np
from PIL import Image

from image_processing_facelivenet import SURE, Face, FaceLiveNetImageProcessor
from pipeline_facelivenet import FRAMES_TO_HOLD

SEARCH_SCALES = (
    0.9,
    1.0,
    1.12,
)  # sides of the searched boxes, in units of the last box: the mean of several is steadier than one
CHECK_EVERY = 5  # one of so many detections that are not sure of a face looks the other ways up too
SMALLEST_OVERLAP = 0.5  # intersection over union with the last box; a face that moves further is looked for anew


class FaceTracker:
    """The faces of one stream's frames, shown in order. It keeps state: one per live session, one thread at a time.

    As long as a single face was detected, the frames up to the next detection are searched around its last box only.
    There a face that enters goes unseen, hence `every`: among as many frames as a session or a clip has to hold an
    expression, one always had a full detection, and a second face in it rejects.

    Args:
        processor: detects and refines.
        every: one frame of so many has a full detection, at the least; 1 gives every frame one.
    """

    def __init__(self, processor: FaceLiveNetImageProcessor, every: int = FRAMES_TO_HOLD):
        if every < 1:
            raise ValueError(f"every must be a whole number of frames, at least 1, not {every!r}")
        self.processor = processor
        self.every = every
        self._box: np.ndarray | None = None  # of the last frame's only face; None where there is nobody to follow
        self._size: tuple[int, int] | None = None
        self._frames = 0  # since the last full detection
        self._checked = 0  # detections since the camera was last suspected of lying on its side or upside down

    def find(self, image: Image.Image) -> list[Face]:
        """The faces of the next frame, an upright RGB picture, as the processor's `detect` gives them."""
        self._frames += 1
        follow = self._box is not None and self._frames < self.every and image.size == self._size
        face = self._search_around(image) if follow else None
        if face is None:  # in doubt, too, the same frame has its detection
            self._box, self._size, self._frames = None, image.size, 0
            faces = self._detect(image)
        else:
            faces = [face]
        self._box = faces[0].box if len(faces) == 1 and not faces[0].turn else None
        return faces

    def _detect(self, image: Image.Image) -> list[Face]:
        """A full detection; where it is not sure, at times one the other ways up too, for a camera that is turned."""
        faces = self.processor.detect(image)
        if max((face.probability for face in faces), default=0.0) >= SURE:
            self._checked = 0
            return faces
        self._checked -= 1
        if self._checked >= 0:
            return faces
        faces = self.processor.find(image) or faces
        self._checked = 0 if faces and faces[0].turn else CHECK_EVERY  # a turned one is told in every frame
        return faces

    def _search_around(self, image: Image.Image) -> Face | None:
        """The face close to where it was, or None where that is in doubt."""
        center, half = (self._box[:2] + self._box[2:]) / 2, (self._box[2:] - self._box[:2]) / 2
        boxes = [np.concatenate([center - scale * half, center + scale * half]) for scale in SEARCH_SCALES]
        smallest = self.processor.detection_threshold
        faces = [face for face in self.processor.refine(image, boxes) if face.probability >= smallest]
        if not faces:
            return None
        box, landmarks = (np.mean([getattr(face, name) for face in faces], axis=0) for name in ("box", "landmarks"))
        if not overlap(box, self._box) >= SMALLEST_OVERLAP:
            return None
        return Face(box, landmarks, max(face.probability for face in faces))


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two (4,) boxes, in [0, 1]."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    union = sum(float(np.prod(box[2:] - box[:2])) for box in (first, second)) - shared
    return shared / union if union > 0 else 0.0
