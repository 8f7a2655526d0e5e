"""The detector one would take: facenet-pytorch's own MTCNN in PyTorch, with our settings."""

from collections.abc import Sequence

import numpy as np
from facenet_pytorch import MTCNN
from PIL import Image

from authentication.authenticator import Authenticator
from checkpoints import load_checkpoint
from image_processing_facelivenet import FaceLiveNetImageProcessor


class PlainDetector:
    """In the place of `image_processing_facelivenet.CascadeDetector`: the same results, one picture after the other."""

    def __init__(self, processor: FaceLiveNetImageProcessor):
        settings = {name: getattr(processor, name) for name in ("min_face_size", "thresholds", "factor")}
        self._mtcnn = MTCNN(keep_all=True, **settings).eval()

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return [self._of(picture) for picture in pictures]

    def _of(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if min(picture.shape[:2]) < self._mtcnn.min_face_size:  # on an empty pyramid it raises
            found = None, None, None
        else:
            found = self._mtcnn.detect(Image.fromarray(picture), landmarks=True)
        boxes, probabilities, landmarks = found
        if boxes is None:
            return np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32)
        # with numpy 2 these are arrays of objects
        return tuple(np.stack(list(values)).astype(np.float32) for values in (boxes, probabilities, landmarks))


def plain_processor(processor: FaceLiveNetImageProcessor) -> FaceLiveNetImageProcessor:
    """One with the same settings that finds faces with `PlainDetector`."""
    plain = FaceLiveNetImageProcessor.from_dict(processor.to_dict())
    plain._detector = PlainDetector(plain)
    return plain


def plain_authenticator(model: str, device: str) -> Authenticator:
    """One whose network, as it is saved, and whose detector run in PyTorch."""
    checkpoint = load_checkpoint(model, device)
    authenticator = Authenticator.from_pretrained(model, device)
    authenticator.processor = plain_processor(checkpoint.processor)
    authenticator.model = checkpoint.network
    return authenticator
