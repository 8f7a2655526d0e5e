"""The usual detector, facenet-pytorch's MTCNN in PyTorch, with the settings of this project.

`inference` and `prepare` compare the project with it.
"""

from collections.abc import Sequence

import numpy as np
from facenet_pytorch import MTCNN
from PIL import Image

from authentication.authenticator import Authenticator
from checkpoints import load_checkpoint
from image_processing_facelivenet import FaceLiveNetImageProcessor


class PlainDetector:
    """Replaces `image_processing_facelivenet.CascadeDetector`: the same results, one image after the other."""

    def __init__(self, processor: FaceLiveNetImageProcessor):
        settings = {name: getattr(processor, name) for name in ("min_face_size", "thresholds", "factor")}
        self._mtcnn = MTCNN(keep_all=True, **settings).eval()

    def __call__(self, images: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if min(image.shape[:2]) < self._mtcnn.min_face_size:  # MTCNN raises an error for an empty pyramid
            detected = None, None, None
        else:
            detected = self._mtcnn.detect(Image.fromarray(image), landmarks=True)
        boxes, probabilities, landmarks = detected
        if boxes is None:
            return np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32)
        # with NumPy 2 they are arrays of objects
        return tuple(np.stack(list(values)).astype(np.float32) for values in (boxes, probabilities, landmarks))


def plain_processor(processor: FaceLiveNetImageProcessor) -> FaceLiveNetImageProcessor:
    """A processor with the same settings that finds faces with `PlainDetector`."""
    plain = FaceLiveNetImageProcessor.from_dict(processor.to_dict())
    plain._detector = PlainDetector(plain)
    return plain


def plain_authenticator(model: str, device: str) -> Authenticator:
    """An authenticator whose network and detector run in PyTorch."""
    checkpoint = load_checkpoint(model, device)
    authenticator = Authenticator.from_pretrained(model, device)
    authenticator.processor = plain_processor(checkpoint.processor)
    authenticator.model = checkpoint.network
    return authenticator
