"""From a photograph or a camera frame to the face the network sees: read, find, align, whiten.

    processor = FaceLiveNetImageProcessor()
    batch = processor(["anna.jpg", "ben.png"])         # pixel_values (2, 3, 160, 160), box, landmarks, …
    batch = processor(aligned_faces, detect=False)      # faces that are aligned already: resized and whitened only

Finding faces needs `facenet-pytorch` (its wheel carries the MTCNN weights); aligned faces work without it.
This file imports nothing of the rest of the project, so that the Hub can ship it as it is.
"""

import base64
import binascii
import errno
import functools
import io
import math
import os
import re
import stat
import threading
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, ImageFilter, ImageOps, UnidentifiedImageError
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvF
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature

try:
    from facenet_pytorch import MTCNN
except ImportError:  # only detection needs it
    MTCNN = None

try:
    import pillow_heif
except ImportError:  # only HEIC needs it
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

# Decoded, such a picture takes 260 MB, turned upright twice that. A phone of 64 megapixels stays below (9248 x 6944); a
# larger JPEG is decoded at half, a quarter or an eighth of its size, anything else is refused.
MAX_PIXELS = 64_500_000
MAX_PIPE_BYTES = 2**28  # read from a pipe, which does not say how much it holds

ROWS = 64  # of a picture that are scaled at once: in floats all of it would take eight times its memory

# Pillow knows more, and of some (icons, say) decodes all before it tells how large they are.
Image.init()
FORMATS = [
    name
    for name in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")
    if name in Image.OPEN  # not every build of Pillow has all
]

# First bytes of what is no picture here -> what to tell whoever gave it.
FOREIGN = {
    re.compile(rb".{4}ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", re.DOTALL): (
        "a HEIC photograph; pip install pillow-heif to read it, or save it as JPEG"
    ),
    re.compile(rb".{4}ftyp(avif|avis)", re.DOTALL): "an AVIF picture, which this build of Pillow cannot read",
    re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "): "a JPEG XL picture, which is not read here; save it as JPEG or PNG",
    re.compile(rb".{4}ftypcrx |FUJIFILMCCD-RAW|IIR[OS]|IIU\0|MMOR", re.DOTALL): (
        "a camera's raw picture; export it as JPEG or PNG"
    ),
    re.compile(rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI |FLV|\0\0\x01\xba|0&\xb2u", re.DOTALL): (
        "a video clip; one photograph is needed here"
    ),
    re.compile(rb"\0\0\x01\0|icns|DDS |qoif|\n[\0\x02-\x05]\x01|\x01\xda|P7\n|v/1\x01|#\?RADIANCE"): (
        "an icon, texture or drawing, which is not read here; save it as JPEG or PNG"
    ),
    re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"): "a PostScript drawing; export its picture as JPEG or PNG",
    re.compile(rb"%PDF"): "a PDF document; export its picture as JPEG or PNG",
    re.compile(rb"8BPS"): "a Photoshop document; export it as JPEG or PNG",
    re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<svg", re.DOTALL): "an SVG drawing, no photograph",
    re.compile(rb"\s*<(!doctype )?html", re.IGNORECASE): "a web page, no picture",
    re.compile(rb"version https://git-lfs"): "a Git LFS pointer; run `git lfs pull`",
}

BASE64 = re.compile(r"[\w+/\s-]{64,}={0,2}\s*")  # no name of a file is so long without a dot
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
LONGEST_NAME = 1000  # characters of a source that an error message repeats

SURE = 0.999  # of 122 upright photographs 96 % have it, the best wrong way up of any has 0.9983
EYE_REACH, MOUTH_REACH = 0.2, 0.25  # half sides of what is around an eye and a mouth, as shares of the eyes' distance
SECOND_LOOK = 2.5  # how much larger a picture is looked at once more where no face was found

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
    turn: by how many degrees counterclockwise the picture is turned to set the face upright: 0, 90, 180 or 270. Box and
        landmarks are in pixels of the picture as it is.
    """

    box: np.ndarray
    landmarks: np.ndarray
    probability: float
    turn: int = 0

    @property
    def roll(self) -> float:
        """By how many degrees the line of the eyes is off the horizontal once the picture is turned, -180 to 180."""
        right, down = (self.landmarks[1] - self.landmarks[0]).astype(np.float64)
        return (math.degrees(math.atan2(down, right)) - self.turn + 180) % 360 - 180


def load_image(
    source, name: str | None = None, max_pixels: int = MAX_PIXELS, formats: Sequence[str] = FORMATS
) -> Image.Image:
    """Decode anything that holds one picture into an upright 8-bit sRGB image.

    Args:
        source: a path (also of a pipe), bytes, an open binary file, a data URI or base64 text, a PIL image, a numpy
            array or torch tensor ((h, w), (h, w, 1|3|4) or (1|3|4, h, w); uint8, uint16 or finite floats within 0..1 or
            0..255). Arrays are RGB: OpenCV's are BGR, give `array[..., ::-1]`. EXIF orientation and colour profile are
            applied, transparency is laid over white; of an animation it is the first frame.
        name: what error messages call it; by default what `name_of` says.
        max_pixels: width x height above which a JPEG is decoded at a smaller scale and anything else refused, before it
            is decoded.
        formats: of files and bytes, by Pillow's names; others are no pictures.

    Raises:
        UnreadableImageError: not a picture, truncated, empty, non-finite, or larger than max_pixels.
    """
    name = name or name_of(source)
    with _naming(name):
        if isinstance(source, str):
            source = _from_text(source, name)
        if isinstance(source, os.PathLike):
            with open_file(source, name) as file:
                return _decode(file, name, max_pixels, formats)
        if hasattr(source, "read"):
            source = _read(source, name)
        if isinstance(source, (bytes, bytearray, memoryview)):
            return _decode(io.BytesIO(source), name, max_pixels, formats)
        if isinstance(source, Image.Image):  # perhaps one that was opened but not decoded yet
            return _to_rgb(source, name, max_pixels)
        if isinstance(source, torch.Tensor):
            source = source.detach().cpu()
            source = (source.float() if source.dtype == torch.bfloat16 else source).numpy()
        if isinstance(source, np.ndarray):
            return _from_array(source, name, max_pixels)
        raise UnreadableImageError(
            f"{name}: cannot read a picture from {type(source).__name__}; give a path, bytes, a PIL image or an array"
        )


def name_of(source, default: str = "image") -> str:
    """What a message calls a source: its path or URL, never the picture itself that a text may hold."""
    if not isinstance(source, (str, os.PathLike)):
        return default
    text = os.fspath(source)
    text = text if isinstance(text, str) else os.fsdecode(text)
    if text[:5].lower() == "data:":
        return "a data URI"
    if URL.match(text):
        text = text.partition("?")[0]  # what follows is often a secret
    elif BASE64.fullmatch(text) and not os.path.exists(text):
        return "a base64 text" if len(text) > LONGEST_NAME or _from_base64(text) else text
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def open_file(path: str | os.PathLike, name: str | None = None) -> io.BufferedIOBase:
    """A regular file, opened for reading; a pipe, read to its end (at most MAX_PIPE_BYTES), since it gives all once.

    Raises:
        UnreadableImageError: there is none, it may not be read, or it is a folder or a device.
    """
    name = name or name_of(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableImageError(f"{name}: a folder, not a file")
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise UnreadableImageError(f"{name}: a device, not a file")
        file = open(path, "rb")  # noqa: SIM115 – the caller closes it
        if stat.S_ISREG(mode):
            return file
        with file:
            content = file.read(MAX_PIPE_BYTES + 1)
    except ValueError as error:
        if isinstance(error, UnreadableImageError):
            raise
        raise UnreadableImageError(f"{name}: no such file") from error  # a name with a NUL
    except OSError as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) or error.errno == errno.ENAMETOOLONG:
            raise UnreadableImageError(f"{name}: no such file") from error
        raise UnreadableImageError(f"{name}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_PIPE_BYTES:
        raise UnreadableImageError(f"{name}: gives more than {MAX_PIPE_BYTES // 2**20} MiB; save it to a file first")
    return io.BytesIO(content)


def _from_text(text: str, name: str) -> "os.PathLike | bytes":
    """The path or the content that a text stands for."""
    if text[:5].lower() == "data:":
        head, comma, content = text.partition(",")
        if not comma:
            raise UnreadableImageError(f"{name}: has no comma before its content")
        if not head.lower().endswith(";base64"):
            return urllib.parse.unquote_to_bytes(content)
        try:
            return base64.b64decode(urllib.parse.unquote(content))
        except binascii.Error as error:
            raise UnreadableImageError(f"{name}: damaged base64: {error}") from None
    if text[:7].lower() == "file://":
        return Path(urllib.request.url2pathname(urllib.parse.urlsplit(text).path))
    if URL.match(text):
        raise UnreadableImageError(f"{name}: a URL, not a file; download it first")
    if not text:
        raise UnreadableImageError("an empty text instead of a path")
    if BASE64.fullmatch(text) and not os.path.exists(text):
        if content := _from_base64(text):
            return content
        if len(text) > LONGEST_NAME:
            raise UnreadableImageError(f"{name}: holds no picture in any known format")
    return Path(text)


def _from_base64(text: str) -> bytes | None:
    """Its content where that is a picture or another known kind of file, else None: it is a path."""
    try:
        content = base64.b64decode(text.translate(str.maketrans("-_", "+/")))  # also as it stands in URLs
    except binascii.Error:
        return None
    known = any(pattern.match(content) for pattern in FOREIGN)
    known = known or any(accept and accept(content[:16]) for _, accept in map(Image.OPEN.get, FORMATS))
    return content if known else None


def _read(file, name: str) -> bytes:
    """All of an open file, from its beginning where it can be wound back, as Pillow does."""
    if getattr(file, "seekable", lambda: False)():
        file.seek(0)
    content = file.read()
    if not isinstance(content, bytes):
        raise UnreadableImageError(f'{name}: a file opened as text; open it with "rb"')
    return content


def _decode(file, name: str, max_pixels: int, formats: Sequence[str]) -> Image.Image:
    head = file.read(256)
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
        try:
            image = Image.open(file, formats=formats)
        except UnidentifiedImageError as error:
            about = next((about for pattern, about in FOREIGN.items() if pattern.match(head)), None)
            if about is None and not head:
                about = "an empty file, not a picture"
            raise UnreadableImageError(f"{name}: {about or 'not a picture in any known format'}") from error
    with image:
        deep = image.mode in ("RGB", "RGBA") and any(";16" in str(tile) for tile in image.tile)
        decoded = _to_rgb(image, name, max_pixels)
        if not deep or max(high for _, high in decoded.getextrema()) >= 64:
            return decoded
        # Pillow keeps the upper 8 of 16 bits, which are nearly black where a camera has 10, 12 or 14 significant ones
        if image.format == "PNG":
            file.seek(0)
            content = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
            pixels = decode_image(content, ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
            scaled = Image.fromarray(_to_bytes(pixels[..., :3], name))
            scaled.info = image.info  # orientation and colour profile
            return _to_rgb(scaled, name, max_pixels)
        white = next(white for white in (3, 15, 63) if max(high for _, high in decoded.getextrema()) <= white)
        return decoded.point([min(255, round(level * 255 / white)) for level in range(256)] * 3)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn what Pillow raises on a picture into an UnreadableImageError that names it."""
    try:
        yield
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"{name}: refused before decoding: {error}") from error
    except Exception as error:  # decoders raise whatever comes to them: struct.error on a mistyped EXIF field, say
        raise UnreadableImageError(f"{name}: damaged or incomplete: {error}") from error


def _to_rgb(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    width, height = image.size
    # Decoded at half its size, up to four times the limit: more would take seconds. A progressive JPEG would first
    # be unfolded in full.
    if width * height > max_pixels and image.format in ("JPEG", "MPO") and "progressive" not in image.info:
        image.draft(None, (width // 2, height // 2))
        width, height = image.size
    if width * height > max_pixels:
        raise UnreadableImageError(
            f"{name}: {width}x{height} is {width * height / 1e6:.0f} megapixels, over the limit of "
            f"{max_pixels / 1e6:.0f}; scale it down first"
        )
    if not width or not height:
        raise UnreadableImageError(f"{name}: an empty picture ({width}x{height})")
    image.load()
    inverted = getattr(image, "tag_v2", {}).get(262) == 0 and image.mode.startswith("I;16")  # Pillow's 8 bits are right
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # Pillow copies an upright one too
        image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):  # 16 and 32 bits: Pillow's own conversion would clip at 255
        return _from_array(65535 - np.asarray(image) if inverted else np.asarray(image), name, max_pixels)
    transparent = "A" in image.getbands() or "transparency" in image.info
    profile = image.info.get("icc_profile")
    if transparent:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    if profile:
        image = _to_srgb(image, profile)
    if transparent:
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The image in sRGB, by its ICC profile; as it is where that is damaged or of another kind of picture."""
    transform = _srgb_transform(profile, image.mode)
    return image if transform is None else ImageCms.applyTransform(image, transform)


@functools.lru_cache(maxsize=16)
def _srgb_transform(profile: bytes, mode: str) -> "ImageCms.ImageCmsTransform | None":
    """None where there is nothing to do, since it is sRGB already, or nothing can be done."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(opened).startswith("sRGB"):
            return None
        out = "RGBA" if mode == "RGBA" else "RGB"
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, out, intent)
    except (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError):  # ImportError: built without littlecms
        return None


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
    if array.dtype.kind in "ui" and high > 255:  # cameras put 10, 12 or 14 significant bits into 16
        white = next((white for white in (1023.0, 4095.0, 16383.0) if high <= white), 65535.0)
    elif array.dtype.kind in "fb" and high <= 1:
        white = 1.0
    # Floats that end just above 1 are an overshot 0..1, not a black 0..255
    if low < 0 or high > white or (array.dtype.kind == "f" and 1 < high < 2):
        raise UnreadableImageError(f"{name}: pixels from {low:g} to {high:g}; 0..1, 0..255 or 16 bits are understood")
    scaled = np.empty(array.shape, np.uint8)
    for top in range(0, len(array), ROWS):
        scaled[top : top + ROWS] = np.rint(array[top : top + ROWS].astype(np.float64) * 255 / white)
    return scaled


_TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)  # counterclockwise


def _surest(faces: Sequence[Face]) -> float:
    return max((face.probability for face in faces), default=0.0)


def _turned_back(face: Face, degrees: int, width: int, height: int) -> Face:
    """A face found in a picture of width x height after it was turned, in pixels of the picture as it was."""
    corners = np.concatenate([face.box.reshape(2, 2), face.landmarks])  # (7, 2)
    x, y = corners[:, 0], corners[:, 1]
    corners = {0: (x, y), 90: (width - y, x), 180: (width - x, height - y), 270: (y, height - x)}[degrees]
    corners = np.stack(corners, axis=1).astype(np.float32)
    box = np.concatenate([corners[:2].min(axis=0), corners[:2].max(axis=0)])
    return Face(box, corners[2:], face.probability, degrees)


@dataclass(frozen=True)
class Visibility:
    """How well a face can be seen in its crop.

    sharpness: mean absolute Laplacian of the luminance at 96 pixels, in grey levels: it falls with blur, darkness and
        low resolution.
    eyes, mouth: the same around both eyes and around the mouth, as a multiple of `sharpness`: near 0 where something
        smooth covers them, such as dark glasses or a mask.
    """

    sharpness: float
    eyes: float
    mouth: float


def visibility(face: np.ndarray, landmarks: np.ndarray) -> Visibility:
    """
    Args:
        face: (size, size, 3) uint8, an aligned face.
        landmarks: (5, 2) in pixels of it.
    """
    texture = _texture(face)
    points = np.asarray(landmarks, np.float64) * (len(texture) / len(face))
    reach = float(np.linalg.norm(points[1] - points[0]))  # between the eyes
    whole = max(float(texture.mean()), 1e-6)

    def around(center: np.ndarray, half: float) -> float:
        low, high = np.clip([center - half, center + half], 1, len(texture) - 1).round().astype(int)
        window = texture[min(low[1], len(texture) - 2) : high[1] + 1, min(low[0], len(texture) - 2) : high[0] + 1]
        return float(window.mean()) / whole

    eyes = (around(points[0], EYE_REACH * reach) + around(points[1], EYE_REACH * reach)) / 2
    return Visibility(float(texture.mean()), eyes, around(points[3:].mean(axis=0), MOUTH_REACH * reach))


def sharpness(face: np.ndarray) -> float:
    """`Visibility.sharpness` of a (size, size, 3) uint8 face crop."""
    return float(_texture(face).mean())


def _texture(face: np.ndarray) -> np.ndarray:
    """(94, 94) absolute Laplacian of the luminance at 96 pixels."""
    grey = Image.fromarray(face).convert("L").resize((96, 96), Image.Resampling.BILINEAR)
    laplacian = grey.filter(ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=128))
    return np.abs(np.asarray(laplacian, np.float32)[1:-1, 1:-1] - 128)


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

    def find(self, image: Image.Image) -> list[Face]:
        """All faces of a photograph, an RGB picture, whichever way up it lies; the one to take first.

        The detector finds turned faces too, but is surer of upright ones: where it is not sure of any (`SURE`), the
        picture is looked at the other three ways up, and the surest way is taken. Where there is no face at all it is
        looked at once more, `SECOND_LOOK` times as large, for faces that are small in a wide picture.
        """
        frame, scale = self._frame(image, self.detection_size)
        ways = [self._faces_in(frame)]
        if _surest(ways[0]) < SURE:
            ways += [self._faces_in(frame.transpose(turn)) for turn in _TURNS]
        degrees = 90 * max(range(len(ways)), key=lambda way: _surest(ways[way]))  # the first of equals
        faces = [_turned_back(face, degrees, frame.width, frame.height) for face in ways[degrees // 90]]
        if not faces and scale < 1:
            frame, scale = self._frame(image, self.detection_size * SECOND_LOOK)
            faces = self._faces_in(frame)
        return [replace(face, box=face.box / scale, landmarks=face.landmarks / scale) for face in faces]

    def detect(self, image: Image.Image) -> list[Face]:
        """All faces of an upright RGB picture, the one to take first.

        The rule: the largest and most central, that is the largest value of (box area − 2 · squared distance of the
        box's centre from the picture's centre), the weighting of the FaceNet alignment.
        """
        frame, scale = self._frame(image, self.detection_size)
        return [replace(face, box=face.box / scale, landmarks=face.landmarks / scale) for face in self._faces_in(frame)]

    @staticmethod
    def _frame(image: Image.Image, longest: float) -> tuple[Image.Image, float]:
        """The picture as the detector sees it, at most `longest` pixels wide and high, and its scale."""
        scale = min(1.0, longest / max(image.size))
        if scale == 1:
            return image, scale
        return image.resize([max(1, round(side * scale)) for side in image.size], reducing_gap=2), scale

    def _faces_in(self, frame: Image.Image) -> list[Face]:
        """`detect` in pixels of the frame that the detector sees."""
        detector = self._loaded_detector()
        if min(frame.size) * (12 / self.min_face_size) < 12:  # MTCNN's pyramid would be empty, on which it raises
            return []
        boxes, probabilities, landmarks = detector.detect(frame, landmarks=True)
        if boxes is None:
            return []
        # With numpy 2 these are arrays of objects; stacking makes them numbers again.
        boxes = np.stack(list(boxes)).astype(np.float32)
        landmarks = np.stack(list(landmarks)).astype(np.float32)
        faces = [Face(*face) for face in zip(boxes, landmarks, map(float, probabilities), strict=True)]
        faces = [face for face in faces if face.probability >= self.detection_threshold and np.isfinite(face.box).all()]
        center = np.array(frame.size) / 2

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
        """The face as a (size, size, 3) uint8 crop, upright by its landmarks or boxed with a margin and turned."""
        if self.alignment == "margin":
            box = self.margin_box(image, face)
            crop = np.asarray(image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box))
            return np.rot90(crop, face.turn // 90)
        return self._align_by_landmarks(image, face.landmarks)

    def margin_box(self, image: Image.Image, face: Face) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the "margin" crop, in pixels of the picture, cut off at its border."""
        left, top, right, bottom = map(float, face.box)
        grow_x, grow_y = (right - left) * self.margin / 2, (bottom - top) * self.margin / 2
        left, top, right, bottom = left - grow_x, top - grow_y, right + grow_x, bottom + grow_y
        return max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)

    def landmarks_in_crop(self, image: Image.Image, face: Face) -> np.ndarray:
        """Where `align` puts the face's landmarks: (5, 2) pixels of the crop."""
        if self.alignment == "similarity":
            a, b = self._similarity(face.landmarks)
            points = (face.landmarks.astype(np.float64) @ [1, 1j] - b) / a
            return np.stack([points.real, points.imag], axis=1)
        left, top, right, bottom = self.margin_box(image, face)
        points = (face.landmarks - [left, top]) * self.size / [max(right - left, 1e-6), max(bottom - top, 1e-6)]
        for _ in range(face.turn // 90):
            points = np.stack([points[:, 1], self.size - points[:, 0]], axis=1)
        return points

    def _similarity(self, landmarks: np.ndarray) -> tuple[complex, complex]:
        """a and b of z -> a z + b, from the crop to the picture: in complex numbers that is a similarity, and its
        least-squares fit is one line each."""
        crop_points = (LANDMARK_TEMPLATE * self.size) @ [1, 1j]
        source_points = landmarks.astype(np.float64) @ [1, 1j]
        centered = crop_points - crop_points.mean()
        a = np.vdot(centered, source_points - source_points.mean()) / np.vdot(centered, centered)
        return a, source_points.mean() - a * crop_points.mean()

    def _align_by_landmarks(self, image: Image.Image, landmarks: np.ndarray) -> np.ndarray:
        a, b = self._similarity(landmarks)

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

    @staticmethod
    def listed(images) -> list:
        """One picture, or any iterable of them (a list, a generator, a dataset's column, an array of 4 dimensions)."""
        if getattr(images, "ndim", None) == 4:
            return list(images)
        whole = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, np.ndarray, torch.Tensor, Mapping)
        one = isinstance(images, whole) or hasattr(images, "read") or not isinstance(images, Iterable)
        return [images] if one else list(images)

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
            find: gives the faces of an RGB picture, the one to take first, in place of the method `find`.

        Returns (n = pictures used):
            pixel_values (n, 3, size, size) float32; with detect also box (n, 4), landmarks (n, 5, 2),
            detection_probability (n,), face_count (n,), how many faces the picture shows, turn (n,) and roll (n,), as
            `Face` has them, sharpness (n,), eyes (n,) and mouth (n,), as `Visibility` has them; with on_error="skip"
            also index (n,), the positions used, and skipped, a list of {"index", "source", "reason"}.

        Raises:
            UnreadableImageError, NoFaceError: naming the picture ("image 3" where it has no path).
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", not {on_error!r}')
        if return_tensors not in (None, "pt"):
            raise ValueError(f'return_tensors must be "pt", not {return_tensors!r}')
        images = self.listed(images)
        crops, found, seen, used, skipped = [], [], [], [], []
        for index, source in enumerate(images):
            name = name_of(source, f"image {index}")
            try:
                image = load_image(source, name)
                if detect:
                    faces = (find or self.find)(image)
                    if not faces:
                        raise NoFaceError(f"{name}: no face found")
                    found.append((faces[0], len(faces)))
                    crop = self.align(image, faces[0])
                    seen.append(visibility(crop, self.landmarks_in_crop(image, faces[0])))
                else:
                    crop = np.asarray(image)
            except (UnreadableImageError, NoFaceError) as error:
                if on_error == "raise":
                    raise
                skipped.append({"index": index, "source": name, "reason": str(error).removeprefix(f"{name}: ")})
                continue
            crops.append(self.whiten(torch.tensor(crop.copy()).permute(2, 0, 1)[None]))
            used.append(index)

        batch = {"pixel_values": torch.cat(crops) if crops else torch.empty(0, 3, self.size, self.size)}
        if detect:
            batch["box"] = torch.tensor(np.array([face.box for face, _ in found], np.float32)).reshape(-1, 4)
            landmarks = np.array([face.landmarks for face, _ in found], np.float32)
            batch["landmarks"] = torch.tensor(landmarks).reshape(-1, 5, 2)
            batch["detection_probability"] = torch.tensor([face.probability for face, _ in found])
            batch["face_count"] = torch.tensor([count for _, count in found], dtype=torch.int64)
            batch["turn"] = torch.tensor([face.turn for face, _ in found], dtype=torch.int64)
            batch["roll"] = torch.tensor([face.roll for face, _ in found])
            for name in ("sharpness", "eyes", "mouth"):
                batch[name] = torch.tensor([getattr(one, name) for one in seen])
        if on_error == "skip":
            batch |= {"index": torch.tensor(used, dtype=torch.int64), "skipped": skipped}
        return BatchFeature(batch)


FaceLiveNetImageProcessor.register_for_auto_class("AutoImageProcessor")

__all__ = ["Face", "FaceLiveNetImageProcessor", "NoFaceError", "UnreadableImageError", "load_image"]
