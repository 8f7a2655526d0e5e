"""From a photograph or a camera frame to the face the network sees: read, find, align, whiten.

    processor = FaceLiveNetImageProcessor()
    batch = processor(["anna.jpg", "ben.png"])         # pixel_values (2, 3, 160, 160), box, landmarks, …
    batch = processor(aligned_faces, detect=False)      # faces that are aligned already: resized and whitened only

Finding faces needs `facenet-pytorch` (its wheel carries the MTCNN weights); aligned faces work without it.
This file imports nothing of the rest of the project, so that the Hub can ship it as it is.
"""

import io
import math
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvF
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature

try:
    from facenet_pytorch import MTCNN
except ImportError:  # only detection needs it
    MTCNN = None

MAX_PIXELS = 64_000_000  # decoded, such a picture takes 256 MB, turned upright twice that; above it the header decides

ROWS = 64  # of a picture that are scaled at once: in floats all of it would take eight times its memory

# Pillow knows more, and of some (icons, say) decodes all before it tells how large they are.
Image.init()
FORMATS = [
    name
    for name in ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")
    if name in Image.OPEN  # not every build of Pillow has all
]

# Where eyes, nose and corners of the mouth come to lie, as fractions of the crop: the proportions of the widely used
# 112-pixel five-point template, raised so that a dropped jaw stays inside.
LANDMARK_TEMPLATE = np.array([[0.334, 0.380], [0.664, 0.380], [0.500, 0.569], [0.365, 0.761], [0.638, 0.761]])


class UnreadableImageError(ValueError):
    """The source is not a picture that can be decoded; the message names the source and the cause."""


class NoFaceError(ValueError):
    """The picture was decoded, but no face was found in it; the message names the source."""


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the upright picture.

    box: (4,) float32, left, top, right, bottom; may reach beyond the picture's border.
    landmarks: (5, 2) float32, x and y of the left eye, right eye, nose, left and right corner of the mouth, as seen.
    probability: the detector's own, 0 to 1.
    """

    box: np.ndarray
    landmarks: np.ndarray
    probability: float


def load_image(
    source, name: str | None = None, max_pixels: int = MAX_PIXELS, formats: Sequence[str] = FORMATS
) -> Image.Image:
    """Decode anything that holds one picture into an upright 8-bit RGB image.

    Args:
        source: path, bytes, PIL image, numpy array or torch tensor ((h, w), (h, w, 1|3|4) or (1|3|4, h, w); uint8,
            uint16 or finite floats within 0..1 or 0..255). EXIF orientation is applied, transparency laid over white.
        name: what error messages call it; by default the path, or "image".
        max_pixels: width x height above which the picture is refused, before it is decoded.
        formats: of files and bytes, by Pillow's names; others are no pictures.

    Raises:
        UnreadableImageError: not a picture, truncated, empty, non-finite, or larger than max_pixels.
    """
    if isinstance(source, (str, os.PathLike)):
        name = name or str(source)
        if not os.path.isfile(source):
            raise UnreadableImageError(f"{name}: {'a folder, not a file' if os.path.isdir(source) else 'no such file'}")
        return _decode(source, name, max_pixels, formats)
    name = name or "image"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(source), name, max_pixels, formats)
    if isinstance(source, Image.Image):
        with _naming(name):  # one that was opened but not decoded yet
            return _to_rgb(source, name, max_pixels)
    if isinstance(source, torch.Tensor):
        source = source.detach().cpu().numpy()
    if isinstance(source, np.ndarray):
        return _from_array(source, name, max_pixels)
    raise UnreadableImageError(
        f"{name}: cannot read a picture from {type(source).__name__}; give a path, bytes, a PIL image or an array"
    )


def _decode(file, name: str, max_pixels: int, formats: Sequence[str]) -> Image.Image:
    with _naming(name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
            image = Image.open(file, formats=formats)
        with image:
            return _to_rgb(image, name, max_pixels)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn what Pillow raises on a picture into an UnreadableImageError that names it."""
    try:
        yield
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"{name}: not a picture in any known format") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"{name}: refused before decoding: {error}") from error
    except Exception as error:  # decoders raise whatever comes to them: struct.error on a mistyped EXIF field, say
        raise UnreadableImageError(f"{name}: damaged or incomplete: {error}") from error


def _to_rgb(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise UnreadableImageError(
            f"{name}: {width}x{height} is {width * height / 1e6:.0f} megapixels, over the limit of "
            f"{max_pixels / 1e6:.0f}; scale it down first"
        )
    if not width or not height:
        raise UnreadableImageError(f"{name}: an empty picture ({width}x{height})")
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # Pillow copies an upright one too
        image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):  # 16 and 32 bits: Pillow's own conversion would clip at 255
        return _from_array(np.asarray(image), name, max_pixels)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_array(array: np.ndarray, name: str, max_pixels: int) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise UnreadableImageError(f"{name}: an array of shape {array.shape} is not one grey, RGB or RGBA picture")
    if array.dtype.kind not in "buif":
        raise UnreadableImageError(f"{name}: an array of {array.dtype} holds no pixels")
    if array.shape[0] * array.shape[1] <= max_pixels and array.dtype != np.uint8:  # above it _to_rgb says so
        array = _to_bytes(array, name)
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array)), name, max_pixels)


def _to_bytes(array: np.ndarray, name: str) -> np.ndarray:
    """Pixels of any other type as uint8."""
    low, high = float(array.min()), float(array.max())  # NaN where there is one
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UnreadableImageError(f"{name}: holds NaN or infinite pixels")
    white = 255.0
    if array.dtype.kind in "ui" and high > 255:
        white = 65535.0
    elif array.dtype.kind in "fb" and high <= 1:
        white = 1.0
    # Floats that end just above 1 are an overshot 0..1, not a black 0..255
    if low < 0 or high > white or (array.dtype.kind == "f" and 1 < high < 2):
        raise UnreadableImageError(f"{name}: pixels from {low:g} to {high:g}; 0..1, 0..255 or 16 bits are understood")
    scaled = np.empty(array.shape, np.uint8)
    for top in range(0, len(array), ROWS):
        scaled[top : top + ROWS] = np.rint(array[top : top + ROWS].astype(np.float64) * 255 / white)
    return scaled


class FaceLiveNetImageProcessor(BaseImageProcessor):
    """Detects, aligns and whitens faces (section 5.1 of the paper: MTCNN, then crops of one size).

    Args:
        size: side of the square face crop, in pixels.
        alignment: "margin" crops the detector's box enlarged by `margin`, as the paper does; "similarity" turns, scales
            and shifts the face so that its five landmarks lie as in LANDMARK_TEMPLATE. The former verifies better: on
            1,873 genuine and 20,000 impostor pairs of LFW fold 9, after the same short training, AUC 0.703 against
            0.683 with a margin softmax and 0.656 against 0.598 with the paper's.
        margin: how much the box grows in each direction, as a fraction of its side ("margin" only). The authors' 44 of
            182 pixels are 44 / 138.
        min_face_size: smallest face looked for, in pixels of the frame the detector sees.
        detection_size: pictures with a longer side than this are scaled down for detection, never for the crop.
        detection_threshold: faces below this probability are not faces.
        thresholds, factor: MTCNN's three stage thresholds and the step of its scale pyramid.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 – the base class's convention

    _settings = (
        "size", "alignment", "margin", "min_face_size", "detection_size", "detection_threshold", "thresholds", "factor",
    )  # fmt: skip

    def __init__(
        self,
        size: int = 160,
        alignment: str = "margin",
        margin: float = 44 / 138,
        min_face_size: int = 48,
        detection_size: int = 640,
        detection_threshold: float = 0.9,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        factor: float = 0.709,
        **kwargs,
    ):
        super().__init__(**kwargs)
        unknown = kwargs.keys() - {"auto_map", "image_processor_type", "processor_class"}  # the saved file's own
        if unknown:
            raise ValueError(f"unknown setting {', '.join(sorted(unknown))}; there are {', '.join(self._settings)}")
        if not isinstance(size, int) or size < 32:
            raise ValueError(f"size must be a whole number of pixels, at least 32, not {size!r}")
        if alignment not in ("similarity", "margin"):
            raise ValueError(f'alignment must be "similarity" or "margin", not {alignment!r}')
        if not 0 <= margin <= 2:
            raise ValueError(f"margin is a fraction of the box, 0 to 2, not {margin!r}")
        if not 12 <= min_face_size <= detection_size:
            raise ValueError(
                f"min_face_size must lie within 12..detection_size ({detection_size}), not {min_face_size!r}"
            )
        if not 0 <= detection_threshold <= 1:
            raise ValueError(f"detection_threshold is a probability, 0 to 1, not {detection_threshold!r}")
        if len(thresholds) != 3 or not all(0 <= threshold <= 1 for threshold in thresholds):
            raise ValueError(f"thresholds are three probabilities, 0 to 1, not {thresholds!r}")
        if not 0 < factor < 1:
            raise ValueError(f"factor must lie between 0 and 1, not {factor!r}")
        self.size = size
        self.alignment = alignment
        self.margin = margin
        self.min_face_size = min_face_size
        self.detection_size = detection_size
        self.detection_threshold = detection_threshold
        self.thresholds = list(thresholds)
        self.factor = factor
        self._detector = None
        self._detector_lock = threading.Lock()

    @classmethod
    def from_dict(cls, image_processor_dict: dict, **kwargs):
        """Settings given by name replace the saved ones, and are checked as in the constructor."""
        given = {name: kwargs.pop(name) for name in cls._settings if name in kwargs}
        return super().from_dict(image_processor_dict | given, **kwargs)

    def to_dict(self) -> dict:
        """The settings only: neither the detector nor its lock belongs into `preprocessor_config.json`."""
        settings = {name: getattr(self, name) for name in self._settings}
        return settings | {"image_processor_type": type(self).__name__} | (
            {"auto_map": self.auto_map} if hasattr(self, "auto_map") else {}
        )  # fmt: skip

    def __getstate__(self):
        return self.__dict__ | {"_detector": None, "_detector_lock": None}

    def __setstate__(self, state):
        self.__dict__.update(state, _detector_lock=threading.Lock())

    def detect(self, image: Image.Image) -> list[Face]:
        """All faces of an upright RGB picture, the one to take first.

        The rule: the largest and most central, that is the largest value of (box area − 2 · squared distance of the
        box's centre from the picture's centre), the weighting of the FaceNet alignment.
        """
        detector = self._loaded_detector()
        scale = min(1.0, self.detection_size / max(image.size))
        frame = (
            image if scale == 1 else image.resize([max(1, round(side * scale)) for side in image.size], reducing_gap=2)
        )
        if min(frame.size) * (12 / self.min_face_size) < 12:  # MTCNN's pyramid would be empty, on which it raises
            return []
        boxes, probabilities, landmarks = detector.detect(frame, landmarks=True)
        if boxes is None:
            return []
        # With numpy 2 these are arrays of objects; stacking makes them numbers again.
        boxes = np.stack(list(boxes)).astype(np.float32) / scale
        landmarks = np.stack(list(landmarks)).astype(np.float32) / scale
        faces = [Face(*face) for face in zip(boxes, landmarks, map(float, probabilities), strict=True)]
        faces = [face for face in faces if face.probability >= self.detection_threshold and np.isfinite(face.box).all()]
        center = np.array(image.size) / 2

        def prominence(face: Face) -> float:
            left, top, right, bottom = face.box
            offset = np.array([left + right, top + bottom]) / 2 - center
            return (right - left) * (bottom - top) - 2 * float(offset @ offset)

        return sorted(faces, key=prominence, reverse=True)

    @torch.inference_mode()
    def refine(self, image: Image.Image, boxes: np.ndarray) -> list[Face]:
        """What the detector's last stage makes of (n, 4) boxes that already lie roughly on a face: n faces, in order.

        This takes a tenth of a detection's time, and finds nothing that the boxes do not cover. The probability says
        whether a face is there, 0 where the box has not one pixel in the picture. Boxes are in pixels of the picture.
        """
        detector = self._loaded_detector()
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        if not len(boxes):
            return []
        center, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
        squares = np.hstack([center - side / 2, center + side / 2])
        inside = np.clip(squares, 0, [*image.size] * 2)
        visible = (inside[:, 2:] - inside[:, :2] >= 1).all(axis=1)  # NaN is not
        crops = np.zeros((len(boxes), 48, 48, 3), np.uint8)
        for number in np.flatnonzero(visible):
            crops[number] = image.resize((48, 48), Image.Resampling.BOX, box=tuple(inside[number]))
        shifts, points, probabilities = detector.onet((torch.tensor(crops).permute(0, 3, 1, 2) - 127.5) / 128)
        found = squares + shifts.numpy() * (side + 1)  # as in MTCNN, whose squares are a pixel wider
        points = points.numpy().reshape(-1, 2, 5).transpose(0, 2, 1)  # it gives all x, then all y
        landmarks = squares[:, None, :2] - 1 + points * (side + 1)[..., None]
        probabilities = np.where(visible, probabilities[:, 1].numpy(), 0)
        return [
            Face(box.astype(np.float32), points.astype(np.float32), float(probability))
            for box, points, probability in zip(found, landmarks, probabilities, strict=True)
        ]

    def _loaded_detector(self) -> "MTCNN":
        """MTCNN, made at its first use. In evaluation mode it keeps nothing between calls, so threads may share it."""
        if MTCNN is None:
            raise ImportError(
                "Finding faces needs facenet-pytorch: pip install --no-deps facenet-pytorch==2.5.3. "
                "Faces that are aligned already need no detector: pass detect=False."
            )
        with self._detector_lock:
            if self._detector is None:
                self._detector = MTCNN(
                    keep_all=True, min_face_size=self.min_face_size, thresholds=self.thresholds, factor=self.factor
                ).eval()
        return self._detector

    def align(self, image: Image.Image, face: Face) -> np.ndarray:
        """The face as a (size, size, 3) uint8 crop, upright by its landmarks or boxed with a margin."""
        if self.alignment == "margin":
            box = self.margin_box(image, face)
            return np.asarray(image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box))
        return self._align_by_landmarks(image, face.landmarks)

    def margin_box(self, image: Image.Image, face: Face) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the "margin" crop, in pixels of the picture, cut off at its border."""
        left, top, right, bottom = map(float, face.box)
        grow_x, grow_y = (right - left) * self.margin / 2, (bottom - top) * self.margin / 2
        left, top, right, bottom = left - grow_x, top - grow_y, right + grow_x, bottom + grow_y
        return max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)

    def _align_by_landmarks(self, image: Image.Image, landmarks: np.ndarray) -> np.ndarray:
        # In complex numbers a similarity is z -> a z + b, and its least-squares fit is one line each for a and b.
        crop_points = (LANDMARK_TEMPLATE * self.size) @ [1, 1j]
        source_points = landmarks.astype(np.float64) @ [1, 1j]
        centered = crop_points - crop_points.mean()
        a = np.vdot(centered, source_points - source_points.mean()) / np.vdot(centered, centered)
        b = source_points.mean() - a * crop_points.mean()

        # Cut out the part of the picture the crop covers, repeating the border where it reaches beyond.
        corners = a * np.array([0, self.size, self.size * 1j, self.size * (1 + 1j)]) + b
        left, right = math.floor(corners.real.min()) - 2, math.ceil(corners.real.max()) + 2
        top, bottom = math.floor(corners.imag.min()) - 2, math.ceil(corners.imag.max()) + 2
        columns = np.clip(np.arange(left, right), 0, image.width - 1)
        rows = np.clip(np.arange(top, bottom), 0, image.height - 1)
        patch = Image.fromarray(np.asarray(image)[rows[:, None], columns[None, :]])
        b -= left + 1j * top

        shrink = max(1, int(abs(a)))  # the warp below samples points: average first where it would skip pixels
        if shrink > 1:
            patch, a, b = patch.reduce(shrink), a / shrink, b / shrink
        warp = (a.real, -a.imag, b.real, a.imag, a.real, b.imag)
        return np.asarray(
            patch.transform((self.size, self.size), Image.Transform.AFFINE, warp, Image.Resampling.BICUBIC)
        )

    def whiten(self, faces: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) faces of any real dtype -> (n, 3, size, size) float32, each with mean 0 and deviation 1.

        The deviation is kept above 1/√(number of values), so that a blank crop gives zeros instead of noise or NaN.
        """
        faces = faces.float()
        if faces.shape[-2:] != (self.size, self.size):
            faces = tvF.resize(faces, [self.size, self.size], InterpolationMode.BICUBIC, antialias=True)
        root = math.sqrt(max(1, math.prod(faces.shape[1:])))
        centered = faces - faces.mean(dim=(1, 2, 3), keepdim=True)
        # std over three dimensions takes ten times as long
        deviation = torch.linalg.vector_norm(centered, dim=(1, 2, 3), keepdim=True) / root
        return centered / deviation.clamp(min=1 / root)

    def __call__(self, images, detect: bool = True, on_error: str = "raise", **kwargs) -> BatchFeature:
        return self.preprocess(images, detect=detect, on_error=on_error, **kwargs)

    def preprocess(
        self,
        images,
        detect: bool = True,
        on_error: str = "raise",
        return_tensors: str | None = "pt",
        find: Callable[[Image.Image], list[Face]] | None = None,
    ) -> BatchFeature:
        """One picture or a list of them (see `load_image`) -> the network's input.

        Args:
            detect: find and align the face; False takes every picture for an aligned face.
            on_error: "raise" stops at the first picture that cannot be used; "skip" goes on and reports it.
            return_tensors: as everywhere in transformers; only PyTorch tensors are made.
            find: gives the faces of an upright RGB picture, the one to take first, in place of the method `detect`.

        Returns (n = pictures used):
            pixel_values (n, 3, size, size) float32; with detect also box (n, 4), landmarks (n, 5, 2),
            detection_probability (n,) and face_count (n,), how many faces the picture shows; with on_error="skip" also
            index (n,), the positions used, and skipped, a list of {"index", "source", "reason"}.

        Raises:
            UnreadableImageError, NoFaceError: naming the picture ("image 3" where it has no path).
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", not {on_error!r}')
        if return_tensors not in (None, "pt"):
            raise ValueError(f'return_tensors must be "pt", not {return_tensors!r}')
        if not isinstance(images, (list, tuple)):
            images = list(images) if getattr(images, "ndim", 0) == 4 else [images]
        crops, found, used, skipped = [], [], [], []
        for index, source in enumerate(images):
            name = str(source) if isinstance(source, (str, os.PathLike)) else f"image {index}"
            try:
                image = load_image(source, name)
                if detect:
                    faces = (find or self.detect)(image)
                    if not faces:
                        raise NoFaceError(f"{name}: no face found")
                    found.append((faces[0], len(faces)))
                    crop = self.align(image, faces[0])
                else:
                    crop = np.asarray(image)
            except (UnreadableImageError, NoFaceError) as error:
                if on_error == "raise":
                    raise
                skipped.append({"index": index, "source": name, "reason": str(error).removeprefix(f"{name}: ")})
                continue
            crops.append(self.whiten(torch.tensor(crop).permute(2, 0, 1)[None]))
            used.append(index)

        batch = {"pixel_values": torch.cat(crops) if crops else torch.empty(0, 3, self.size, self.size)}
        if detect:
            batch["box"] = torch.tensor(np.array([face.box for face, _ in found], np.float32)).reshape(-1, 4)
            landmarks = np.array([face.landmarks for face, _ in found], np.float32)
            batch["landmarks"] = torch.tensor(landmarks).reshape(-1, 5, 2)
            batch["detection_probability"] = torch.tensor([face.probability for face, _ in found])
            batch["face_count"] = torch.tensor([count for _, count in found], dtype=torch.int64)
        if on_error == "skip":
            batch |= {"index": torch.tensor(used, dtype=torch.int64), "skipped": skipped}
        return BatchFeature(batch)


FaceLiveNetImageProcessor.register_for_auto_class("AutoImageProcessor")

__all__ = ["Face", "FaceLiveNetImageProcessor", "NoFaceError", "UnreadableImageError", "load_image"]
