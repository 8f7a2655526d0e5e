"""From a photograph or frame to the face that the network gets: open the image, detect, align and whiten the face.

    processor = FaceLiveNetImageProcessor()
    batch = processor(["anna.jpg", "ben.png"])         # pixel_values (2, 3, 160, 160), box, landmarks, …
    batch = processor(aligned_faces, detect=False)      # faces that are already aligned: only resized and whitened

The authenticator, the pipeline, `face_data.prepare`, the training and the evaluation use the processor. This file
imports nothing of the project, because the Hub serves it as a single file. The sections, in reading order:

    Faces                      Face, nose_offset, crop_measures
    Open a photograph          load_image, name_of, open_file, and the decoders
    Colour profiles            conversion to sRGB
    Networks in ONNX Runtime   onnx_graph, export_onnx, OnnxGraph
    The face detector          CascadeDetector
    The image processor        FaceLiveNetImageProcessor: detect, align, whiten, preprocess

Detection needs `facenet-pytorch`, which contains the weights of MTCNN. Aligned faces work without it. If `onnxruntime`
and `onnx` are installed, the networks of the detector run there, in half the time and with the same results.
"""

import base64
import binascii
import errno
import functools
import hashlib
import io
import logging
import math
import os
import re
import stat
import struct
import sys
import tempfile
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
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError
from torchvision.io import ImageReadMode, decode_image
from torchvision.ops import nms
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvF
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature

try:
    from facenet_pytorch import MTCNN
except ImportError:  # only detection needs it
    MTCNN = None

try:
    import onnxruntime
except ImportError:  # then the networks of the detector run in PyTorch
    onnxruntime = None

try:
    import pillow_heif
except ImportError:  # only HEIC needs it
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

logger = logging.getLogger(__name__)


class UnreadableImageError(ValueError):
    """The source cannot be decoded as an image; the message names the source and the cause."""


class NoFaceError(ValueError):
    """The image was decoded, but no face was found in it; the message names the source."""


# --------------------------------------------------------------------------------------------------------------------
# Faces


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the upright image.

    box: (4,) float32: left, top, right, bottom. It may extend beyond the border of the image.
    landmarks: (5, 2) float32: x and y of the left eye, right eye, nose, left and right corner of the mouth. Left and
        right are as in the image.
    probability: the probability of the detector, 0 to 1.
    turn: 0, 90, 180 or 270: rotating the image by so many degrees counterclockwise makes the face upright. Box and
        landmarks are in pixels of the image before this rotation.
    """

    box: np.ndarray
    landmarks: np.ndarray
    probability: float
    turn: int = 0

    @property
    def roll(self) -> float:
        """Angle between the line of the eyes and the horizontal after the rotation by `turn`, -180 to 180 degrees."""
        right, down = (self.landmarks[1] - self.landmarks[0]).astype(np.float64)
        return (math.degrees(math.atan2(down, right)) - self.turn + 180) % 360 - 180

    @property
    def aside(self) -> float:
        """The absolute value of `nose_offset`: how far the head is turned, to either side."""
        return abs(nose_offset(self.landmarks))


def nose_offset(landmarks: np.ndarray) -> float:
    """Offset of the nose from the middle of eyes and mouth, along the line of the eyes; positive to the image's right.

    In units of the distance from the eyes to the mouth: 0 for a frontal face, about 0.4 for a head turned by 40
    degrees. landmarks: (5, 2), as in `Face`.
    """
    points = landmarks.astype(np.float64)
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    across = points[1] - points[0]
    width = max(float(np.linalg.norm(across) * np.linalg.norm(mouth - eyes)), 1e-9)
    return float((points[2] - (eyes + mouth) / 2) @ across) / width


CROP_MEASURES = ("sharpness", "noise", "flat_colour")


def crop_measures(face: np.ndarray) -> dict[str, float]:
    """The CROP_MEASURES of a (size, size, 3) uint8 face crop, each by the function of its name."""
    return dict(zip(CROP_MEASURES, (sharpness(face), noise(face), flat_colour(face)), strict=True))


def sharpness(face: np.ndarray) -> float:
    """How sharp a (size, size, 3) uint8 face crop is, in grey levels.

    It is the mean absolute second difference of the luminance at 96 pixels, in the direction in which it is smallest.
    Blur, also by motion, darkness and low resolution reduce it.
    """
    luminance = _pixels(face, "L")
    differences = [_second_difference(luminance, *step) for step in ((0, 1), (1, 0))]
    # the distance between diagonal neighbours is √2 pixels, and a second difference grows with its square
    differences += [_second_difference(luminance, *step) / 2 for step in ((1, 1), (1, -1))]
    return float(min(np.abs(difference).mean() for difference in differences))


def noise(face: np.ndarray) -> float:
    """Noise of a (size, size, 3) uint8 face crop: about its standard deviation in grey levels, at 96 pixels.

    Measured by a mask for which straight edges are zero (J. Immerkær, "Fast noise variance estimation", 1996), in the
    blocks of 8 x 8 pixels with the smallest values: skin and background have little texture, but as much noise as the
    rest.
    """
    luminance = _pixels(face, "L")
    across = luminance[:, 2:] + luminance[:, :-2] - 2 * luminance[:, 1:-1]
    values = np.abs(across[2:] + across[:-2] - 2 * across[1:-1])[:88, :88]
    block_means = values.reshape(11, 8, 11, 8).mean(axis=(1, 3))
    return float(np.quantile(block_means, 0.1) * math.sqrt(math.pi / 2) / 6)


FLAT_SHARE = 0.1  # of the mean difference between neighbours: a smaller difference is flat
LEAST_COLOUR = 7.0  # standard deviation of both chroma channels together; paler faces are flat because of rounding


def flat_colour(face: np.ndarray) -> float:
    """Share of a (size, size, 3) uint8 face crop in which the colour does not change, in [0, 1].

    JPEG of a low quality stores a single colour for each block of pixels, so neighbours in a block have the same one.
    In a photograph only a few have. Measured on the chroma at 96 pixels; 0 for faces with little colour, such as grey
    ones.
    """
    red, green, blue = np.moveaxis(_pixels(face, "RGB"), -1, 0)
    # Cb and Cr as JPEG defines them, but not rounded
    chroma = np.stack([0.5 * blue - 0.3313 * green - 0.1687 * red, 0.5 * red - 0.4187 * green - 0.0813 * blue])
    if math.sqrt(chroma.var(axis=(1, 2)).sum()) < LEAST_COLOUR:
        return 0.0
    right, down = chroma[:, :-1, 1:] - chroma[:, :-1, :-1], chroma[:, 1:, :-1] - chroma[:, :-1, :-1]
    differences = (np.abs(right) + np.abs(down)).sum(axis=0)
    return float((differences < FLAT_SHARE * differences.mean()).mean())


def _pixels(face: np.ndarray, mode: str) -> np.ndarray:
    """A face crop at 96 pixels, float32; mode: "L" (luminance) or "RGB"."""
    return np.asarray(Image.fromarray(face).convert(mode).resize((96, 96), Image.Resampling.BILINEAR), np.float32)


def _second_difference(luminance: np.ndarray, down: int, right: int) -> np.ndarray:
    """Second difference of each inner pixel and its two neighbours in a direction; (n, n) -> (n - 2, n - 2)."""
    size = len(luminance)

    def shifted(steps: int) -> np.ndarray:
        top, left = 1 + steps * down, 1 + steps * right
        return luminance[top : top + size - 2, left : left + size - 2]

    return shifted(1) + shifted(-1) - 2 * shifted(0)


# --------------------------------------------------------------------------------------------------------------------
# Open a photograph

# An image of this size takes 260 MB when it is decoded, and twice as much while it is rotated. The photographs of a
# phone with 64 megapixels (9248 x 6944) are smaller. A larger JPEG is decoded at a half, a quarter or an eighth of its
# size, and any other larger image is refused.
MAX_PIXELS = 64_500_000
MAX_SCANS = 200  # of a JPEG: a progressive one has about ten. A scan can have 34 bytes, and is applied to all pixels
SCAN_MARKER, END_MARKER = b"\xff\xda", b"\xff\xd9"  # of a JPEG
MAX_MISSING_ROWS = 18  # at the end of a JPEG: its blocks have 16 rows, and colours reach two rows further
MAX_PIPE_BYTES = 2**28  # of a pipe, whose length is not known before it is read
ROWS_AT_ONCE = 64  # of an image that is scaled: as float64 the complete image would take eight times its memory

# Pillow warns of damaged metadata, which does not change the image. A filter around each call
# (`warnings.catch_warnings`) would not be safe with several threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
PngImagePlugin.MAX_TEXT_CHUNK = 2**24  # Pillow refuses a PNG with more than a MiB of profile, or of notes of Photoshop

Image.init()
# Pillow reads grey 16-bit TIFFs in which zero is white in only one of the two byte orders
TiffImagePlugin.OPEN_INFO.setdefault((b"MM", 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))
# Pillow reads other formats too, but decodes some of them, such as icons, completely before their size is known.
FORMATS = [
    name
    for name in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")
    if name in Image.OPEN  # not every build of Pillow has all of them
]

CLIP_CAUSE = "a video clip; a photograph is needed"
RAW_CAUSE = "a raw image of a camera; export it as JPEG or PNG"
OTHER_KIND = "damaged or of a kind that cannot be read; save it as JPEG or PNG"
DAMAGED_CAUSE = "damaged: only its first bytes are correct"

HEAD_BYTES = 1024  # of a file, to recognise its kind
HEIC_HEAD = re.compile(rb".{4}ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", re.DOTALL)
AVIF_HEAD = re.compile(rb".{4}ftyp(avif|avis)", re.DOTALL)

# Pattern of the first bytes of a file that cannot be read -> the cause for the error message.
UNSUPPORTED = {
    HEIC_HEAD: "a HEIC photograph; pip install pillow-heif to read it, or save it as JPEG",
    AVIF_HEAD: "an AVIF image, which this build of Pillow cannot read",
    re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "): "a JPEG XL image, which cannot be read; save it as JPEG or PNG",
    re.compile(rb"II\xbc"): "a JPEG XR image, which cannot be read; save it as JPEG or PNG",
    re.compile(rb".{4}ftypcrx |FUJIFILMCCD-RAW|IIR[OS]|IIU\0|MMOR|FOVb|\0MRM|II\*\0.{4}CR", re.DOTALL): RAW_CAUSE,
    re.compile(rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI |FLV|\0\0\x01\xba|0&\xb2u", re.DOTALL): CLIP_CAUSE,
    re.compile(rb"ID3|fLaC|OggS|RIFF.{4}WAVE|\xff[\xf1-\xf3\xf9-\xfb]", re.DOTALL): "a sound recording, not an image",
    re.compile(rb"\0\0\x01\0|icns|DDS |qoif|\n[\0\x02-\x05]\x01|\x01\xda|P7\n|v/1\x01|#\?RADIANCE"): (
        "an icon, texture or drawing, which cannot be read; save it as JPEG or PNG"
    ),
    re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"): "a PostScript drawing; export it as JPEG or PNG",
    re.compile(rb"%PDF"): "a PDF document; export the photograph as JPEG or PNG",
    re.compile(rb"8BPS"): "a Photoshop document; export it as JPEG or PNG",
    re.compile(rb"gimp xcf"): "a GIMP document; export it as JPEG or PNG",
    re.compile(rb".{128}DICM", re.DOTALL): "a DICOM file; export its image as JPEG or PNG",
    re.compile(rb"PK[\3\5]|Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ|\(\xb5/\xfd|.{257}ustar", re.DOTALL): (
        "an archive or a document, not an image; unpack or export it"
    ),
    re.compile(rb"(\xef\xbb\xbf)?\s*((<\?xml|<!doctype svg)[^>]*>\s*|<!--.*?-->\s*)*<svg", re.DOTALL | re.IGNORECASE): (
        "an SVG drawing, not a photograph"
    ),
    re.compile(rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)*<(!doctype )?html", re.DOTALL | re.IGNORECASE): (
        "a web page, not an image"
    ),
    re.compile(rb"(\xef\xbb\xbf)?(#EXTM3U|ffconcat|v=0\r?\n|\[playlist\])"): (
        "a playlist, which names clips but contains none"
    ),
    re.compile(rb"version https://git-lfs"): "a Git LFS pointer; run `git lfs pull`",
    re.compile(rb"II[*+]\0|MM\0[*+]"): f"a TIFF that is {OTHER_KIND}",
    re.compile(rb"\xff\xd8\xff"): f"{DAMAGED_CAUSE}; or JPEG-LS or a JPEG of more than 8 bits, which cannot be read",
    re.compile(rb"\x89PNG\r\n|GIF8[79]a|RIFF.{4}WEBP", re.DOTALL): DAMAGED_CAUSE,
}
UNKNOWN_CAUSE = "not an image in any known format"

BASE64 = re.compile(r"[\w+/\s-]{64,}={0,2}\s*")  # a file name of this length contains a dot
LINE_BREAK = re.compile(r"[\n\r\x0b\x0c\x1b\x85\u2028\u2029]")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
MAX_NAME_LENGTH = 1000  # characters of a source in an error message

_NEW_SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 254, 330, 50706  # tags of a TIFF


def load_image(
    source, name: str | None = None, max_pixels: int = MAX_PIXELS, formats: Sequence[str] = FORMATS
) -> Image.Image:
    """Decode any kind of source into an upright 8-bit sRGB image.

    EXIF orientation and colour profile are applied, and transparent pixels become white. Of an animation, the first
    frame is returned.

    Args:
        source: a path (also of a pipe), bytes, a 1-D uint8 array of bytes, an open binary file, a data URI or base64
            text, a dictionary with "bytes" or "path" as `datasets` returns for an undecoded image, a PIL image, a NumPy
            array, a PyTorch tensor or any other array: (h, w), (h, w, 1|3|4) or (1|3|4, h, w), of uint8, uint16 or
            finite floats in 0..1 or 0..255. Arrays are RGB; those of OpenCV are BGR, so pass `array[..., ::-1]`.
        name: the name of the source in error messages; by default `name_of(source)`.
        max_pixels: largest width x height. A larger JPEG is decoded at a smaller scale; any other larger image is
            refused before it is decoded.
        formats: the accepted formats of files and bytes, by Pillow's names.

    Raises:
        UnreadableImageError: not an image, truncated, empty, non-finite, or larger than max_pixels.
    """
    name = name or name_of(source)
    with _named_errors(name):
        if isinstance(source, Mapping) and (source.get("bytes") or source.get("path")):
            source = source.get("bytes") or source["path"]
        if isinstance(source, str):
            source = _path_or_content(source, name)
        if isinstance(source, os.PathLike):
            with open_file(source, name) as file:
                return _decode(file, name, max_pixels, formats)
        if hasattr(source, "read"):
            source = _read(source, name)
        if isinstance(source, (bytes, bytearray, memoryview)):
            return _decode(io.BytesIO(source), name, max_pixels, formats)
        if isinstance(source, Image.Image):  # it may be opened but not decoded yet
            return _to_rgb(source, name, max_pixels)
        if isinstance(source, torch.Tensor):
            try:
                source = source.detach().cpu()
                source = (source.float() if source.dtype == torch.bfloat16 else source).numpy()
            except (TypeError, RuntimeError) as error:  # sparse, quantised, on the device "meta", …
                raise UnreadableImageError(f"{name}: a tensor without an array of pixels: {error}") from error
        elif hasattr(source, "__array__") or hasattr(source, "__array_interface__"):  # of JAX, TensorFlow, …
            source = np.asarray(source)
        if isinstance(source, np.ndarray):
            if source.dtype == np.uint8 and source.ndim == 1:  # torchvision's read_file and OpenCV's imencode return it
                return _decode(io.BytesIO(source.tobytes()), name, max_pixels, formats)
            return _from_array(source, name, max_pixels)
        raise UnreadableImageError(
            f"{name}: cannot read an image from {type(source).__name__}; give a path, bytes, a PIL image or an array"
        )


def name_of(source, default: str = "image") -> str:
    """The name of a source in messages: its path or URL, but never the image content that a text may contain."""
    if not isinstance(source, (str, os.PathLike)):
        return default
    text = os.fspath(source)
    text = printable_name(text if isinstance(text, str) else os.fsdecode(text))
    text = LINE_BREAK.sub(lambda found: repr(found[0])[1:-1], text)  # a message is one line
    if text[:5].lower() == "data:":
        return "a data URI"
    if URL.match(text):
        text = text.partition("?")[0]  # the query is often a secret
    elif BASE64.fullmatch(text) and not os.path.exists(text):
        return "a base64 text" if len(text) > MAX_NAME_LENGTH or _decoded_base64(text) else text
    return text if len(text) <= MAX_NAME_LENGTH else f"{text[: MAX_NAME_LENGTH - 1]}…"


def printable_name(name: str) -> str:
    """A file name in which bytes that are not UTF-8 are written as `\\xfc`; archives of other systems contain them."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def open_file(path: str | os.PathLike, name: str | None = None) -> io.BufferedIOBase:
    """Open a regular file for reading, or read a pipe to its end (at most MAX_PIPE_BYTES), because it is read once.

    Raises:
        UnreadableImageError: the file does not exist, may not be read, or is a folder or a device.
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
    except UnreadableImageError:
        raise
    except OSError as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) or error.errno == errno.ENAMETOOLONG:
            raise UnreadableImageError(f"{name}: no such file") from error
        raise UnreadableImageError(f"{name}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # the name contains NUL
        raise UnreadableImageError(f"{name}: no such file") from error
    if len(content) > MAX_PIPE_BYTES:
        raise UnreadableImageError(f"{name}: more than {MAX_PIPE_BYTES // 2**20} MiB; save it to a file first")
    return io.BytesIO(content)


def _path_or_content(text: str, name: str) -> "os.PathLike | bytes":
    """The path that a text names, or the content of a data URI or base64 text."""
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
        if content := _decoded_base64(text):
            return content
        if len(text) > MAX_NAME_LENGTH:
            raise UnreadableImageError(f"{name}: {UNKNOWN_CAUSE}")
    return Path(text)


def _decoded_base64(text: str) -> bytes | None:
    """The content of a base64 text if its first bytes are those of a known kind of file; otherwise it is a path."""
    try:
        content = base64.b64decode(text.translate(str.maketrans("-_", "+/")))  # also the alphabet of URLs
    except binascii.Error:
        return None
    is_known = has_image_signature(content) or any(pattern.match(content) for pattern in UNSUPPORTED)
    return content if is_known else None


def has_image_signature(content: bytes) -> bool:
    """Whether the first bytes are those of an image in one of FORMATS."""
    return any(accept and accept(content[:16]) is True for _, accept in map(Image.OPEN.get, FORMATS))


def _read(file, name: str) -> bytes:
    """The complete content of an open file. As in Pillow, the file is read from its start if it is seekable."""
    if getattr(file, "seekable", lambda: False)():
        file.seek(0)
    content = file.read()
    if not isinstance(content, bytes):
        raise UnreadableImageError(f'{name}: a file opened as text; open it with "rb"')
    return content


def _decode(file, name: str, max_pixels: int, formats: Sequence[str]) -> Image.Image:
    head = file.read(HEAD_BYTES)
    file.seek(0)
    try:
        image = Image.open(file, formats=formats)
    except UnidentifiedImageError as error:
        cause = cause_of_head(head, formats) or UNKNOWN_CAUSE
        raise UnreadableImageError(f"{name}: {cause}") from error
    if image.format in ("JPEG", "MPO"):
        file.seek(0)
        content = file.read()
        file.seek(0)
        scans = content.count(SCAN_MARKER)  # the marker does not occur inside a scan
        if scans > MAX_SCANS:
            raise UnreadableImageError(f"{name}: {scans} scans, over the limit of {MAX_SCANS}")
        if content.rfind(END_MARKER) < content.rfind(SCAN_MARKER) and math.prod(image.size) <= max_pixels:
            image = _completed_jpeg(content, len(image.getbands())) or image
    with image:
        if image.format == "TIFF":
            if _is_camera_raw(image):
                raise UnreadableImageError(f"{name}: {RAW_CAUSE}")
            _fix_separate_planes(image)
        if profile := _profile_that_pillow_ignores(image, file):
            image.info["icc_profile"] = profile
        has_16_bits = image.mode in ("RGB", "RGBA") and any(";16" in str(tile) for tile in image.tile)
        decoded = _to_rgb(image, name, max_pixels)
        if not has_16_bits or max(high for _, high in decoded.getextrema()) >= 64:
            return decoded
        # Pillow keeps the upper 8 of 16 bits, which are nearly black if a camera uses only the lower 10, 12 or 14 bits
        if image.format == "PNG":
            file.seek(0)
            content = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
            pixels = decode_image(content, ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
            scaled = Image.fromarray(_to_uint8(pixels[..., :3], name))
            scaled.info = image.info  # orientation and colour profile
            return _to_rgb(scaled, name, max_pixels)
        white = next(white for white in (3, 15, 63) if max(high for _, high in decoded.getextrema()) <= white)
        return decoded.point([min(255, round(level * 255 / white)) for level in range(256)] * 3)


def cause_of_head(head: bytes, formats: Sequence[str] = FORMATS) -> str | None:
    """Why a file cannot be read as an image, from its first HEAD_BYTES bytes; None if its kind is not known."""
    for pattern, format, kind in ((HEIC_HEAD, "HEIF", "a HEIC photograph"), (AVIF_HEAD, "AVIF", "an AVIF image")):
        if pattern.match(head) and format in formats:
            return f"{kind} that is {OTHER_KIND}"
    if not head:
        return "an empty file, not an image"
    return next((cause for pattern, cause in UNSUPPORTED.items() if pattern.match(head)), None)


def _completed_jpeg(content: bytes, channels: int) -> Image.Image | None:
    """The image of a JPEG without its end marker, and perhaps without its last bytes; None if more of it is missing.

    The content is completed in two different ways. The first row in which the two results differ is where it ends.
    """
    start_of_frame = max(content.rfind(marker) for marker in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2"))
    # A progressive JPEG that ends early is complete but coarse. So find the channels whose last scan has begun.
    refined = set()
    for scan in content[start_of_frame:].split(SCAN_MARKER)[1:]:
        head = 3 + 2 * scan[2] if len(scan) > 2 else len(scan)
        if len(scan) > head + 2 and scan[head + 1] == 63 and not scan[head + 2] & 15:
            refined.update(scan[3:head:2])
    if len(refined) < channels:
        return None
    completed = [content.rstrip(b"\xff") + filler + END_MARKER for filler in (b"", b"\x55" * 2048)]
    first, second = (np.asarray(Image.open(io.BytesIO(jpeg), formats=["JPEG"])) for jpeg in completed)
    different_rows = np.flatnonzero((first != second).reshape(len(first), -1).any(axis=1))
    if len(different_rows) and different_rows[0] < len(first) - MAX_MISSING_ROWS:
        return None
    return Image.open(io.BytesIO(completed[0]), formats=["JPEG"])


def _is_camera_raw(image: Image.Image) -> bool:
    """Whether a TIFF is a raw image of a camera, of which Pillow would decode only the thumbnail."""
    tags = image.tag_v2
    is_thumbnail = bool(tags.get(_NEW_SUBFILE_TYPE, 0) & 1) and _SUB_IFDS in tags
    return is_thumbnail or _DNG_VERSION in tags


def _fix_separate_planes(image: Image.Image) -> None:
    """Make Pillow read both bytes of 16-bit pixels if an uncompressed TIFF has a separate plane for each channel."""
    if image.mode not in ("RGB", "RGBA") or set(image.tag_v2.get(ExifTags.Base.BitsPerSample, ())) != {16}:
        return
    order = ";16B" if image.tag_v2.prefix == b"MM" else ";16L"
    image.tile = [
        tile._replace(args=(tile.args[0] + order, *tile.args[1:]))
        if tile.codec_name == "raw" and len(tile.args[0]) == 1
        else tile
        for tile in image.tile
    ]


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Convert any error of Pillow into an UnreadableImageError that names the source."""
    try:
        yield
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"{name}: refused before decoding: {error}") from error
    except Exception as error:  # decoders raise many types of errors, some with several lines
        raise UnreadableImageError(f"{name}: damaged or incomplete: {' '.join(str(error).split())}") from error


def _to_rgb(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    """An opened image, decoded, upright and in sRGB; transparent pixels are white."""
    width, height = image.size
    # A JPEG with up to four times the limit is decoded at half its size. A larger one would take seconds, and a
    # progressive one would first be decoded completely.
    if width * height > max_pixels and image.format in ("JPEG", "MPO") and "progressive" not in image.info:
        image.draft(None, (width // 2, height // 2))
        width, height = image.size
    if width * height > max_pixels:
        raise UnreadableImageError(
            f"{name}: {width}x{height} is {width * height / 1e6:.0f} megapixels, over the limit of "
            f"{max_pixels / 1e6:.0f}; scale it down first"
        )
    if not width or not height:
        raise UnreadableImageError(f"{name}: an empty image ({width}x{height})")
    try:
        image.load()
    except OSError as error:
        if image.format == "TIFF" and "decoder error" in str(error):  # libtiff was built without this compression
            raise UnreadableImageError(f"{name}: a TIFF that is {OTHER_KIND}") from error
        raise
    tags = getattr(image, "tag_v2", {})  # of a TIFF; a rotated image has none
    # with 8 bits, Pillow handles TIFFs in which zero is white
    is_inverted = tags.get(262) == 0 and (image.mode == "F" or image.mode.startswith("I;16"))
    image = _upright(image)
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":  # its band "A" is a colour, not transparency
        profile = profile or ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        image, profile = _to_srgb(image, profile), None
    if image.mode == "F" or image.mode.startswith("I"):  # 16 and 32 bits: Pillow's conversion would clip at 255
        levels = np.asarray(image)
        sample = tags.get(ExifTags.Base.SampleFormat), tags.get(ExifTags.Base.BitsPerSample)
        if sample == ((2,), (16,)):
            levels = levels.astype(np.int16)  # signed
        elif tags and image.mode == "I" and sample[0] != (2,):
            levels = levels.view(np.uint32)
        levels = _to_uint8(levels, name)
        image = Image.fromarray(255 - levels if is_inverted else levels)
    is_transparent = "A" in image.getbands() or "transparency" in image.info
    if image.mode == "LA" and profile:  # the profile of a grey image does not allow a transparency channel
        alpha, image = image.getchannel("A"), _to_srgb(image.getchannel("L"), profile).convert("RGBA")
        image.putalpha(alpha)
        profile = None
    if is_transparent:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    if profile:
        image = _to_srgb(image, profile)
    if is_transparent:
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


UPRIGHT = {  # orientation in EXIF -> the transposition that makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image) -> Image.Image:
    """The image, upright according to its EXIF; unchanged if the EXIF is damaged, as in other programs.

    `ImageOps.exif_transpose` fails if any field of the EXIF is damaged, not only the orientation.
    """
    try:
        transposition = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow raises many types of errors
        return image
    if transposition is None:
        return image
    upright = image.transpose(transposition)
    # without the orientation, because the result may be passed to this function again
    upright.info = {name: image.info[name] for name in ("icc_profile", "transparency") if name in image.info}
    return upright


def _from_array(array: np.ndarray, name: str, max_pixels: int) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise UnreadableImageError(f"{name}: an array of shape {array.shape} is not one grey, RGB or RGBA image")
    if array.dtype.kind not in "buif":
        raise UnreadableImageError(f"{name}: an array of {array.dtype} holds no pixels")
    if array.shape[0] * array.shape[1] <= max_pixels and array.dtype != np.uint8:  # _to_rgb refuses larger ones
        array = _to_uint8(array, name)
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array)), name, max_pixels)


def _to_uint8(array: np.ndarray, name: str) -> np.ndarray:
    """Pixels of another type, scaled to 0..255."""
    low, high = float(array.min()), float(array.max())  # NaN if any pixel is NaN
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UnreadableImageError(f"{name}: holds NaN or infinite pixels")
    white = 255.0
    if array.dtype.kind in "ui" and high > 255:  # cameras store 10, 12 or 14 significant bits in 16
        largest = 32767.0 if array.dtype == np.int16 else 65535.0
        if array.dtype == np.uint32 and high > largest:
            largest = 2.0**32 - 1
        white = next((white for white in (1023.0, 4095.0, 16383.0) if high <= white), largest)
    elif array.dtype.kind in "fb" and high <= 1:
        white = 1.0
    # Floats with a maximum just above 1 are values in 0..1 that exceed it, not a nearly black image in 0..255
    if low < 0 or high > white or (array.dtype.kind == "f" and 1 < high < 2):
        raise UnreadableImageError(f"{name}: pixels from {low:g} to {high:g}; expected 0..1, 0..255 or 16 bits")
    scaled = np.empty(array.shape, np.uint8)
    for top in range(0, len(array), ROWS_AT_ONCE):
        rows = slice(top, top + ROWS_AT_ONCE)
        scaled[rows] = np.rint(array[rows].astype(np.float64) * 255 / white)
    return scaled


# --------------------------------------------------------------------------------------------------------------------
# Colour profiles

SRGB_CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # x and y of white, red, green, blue
D50 = np.array([0.9642, 1.0, 0.8249])  # the white of ICC profiles, in XYZ
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
PRIMARIES = {  # code of ITU-T H.273 -> x and y as in SRGB_CHROMATICITIES; other codes are treated as sRGB
    9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),  # BT.2020
    12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),  # Display P3
}
WHITE_NITS = 203  # of white paper in high dynamic range, by ITU-R BT.2408: brighter light is white on a screen
SRGB_NAME = re.compile(r"sRGB( IEC61966.*| built-in| Profile)?\s*$")  # other names, such as linear sRGB, are not sRGB


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The image in sRGB, converted by its ICC profile; unchanged if the profile is damaged or does not fit the mode."""
    transform = _srgb_transform(profile, image.mode)
    return image if transform is None else ImageCms.applyTransform(image, transform)


@functools.lru_cache(maxsize=16)
def _srgb_transform(profile: bytes, mode: str) -> "ImageCms.ImageCmsTransform | None":
    """The conversion to sRGB; None if the profile is sRGB, or cannot be used."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if SRGB_NAME.match(ImageCms.getProfileDescription(opened)):
            return None
        out = "RGBA" if mode == "RGBA" else "RGB"
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, out, intent)
    except (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError):  # ImportError: built without littlecms
        return None


def _profile_that_pillow_ignores(image: Image.Image, file) -> bytes | None:
    """The colour profile of an opened image in a form that Pillow does not read; None if there is none."""
    is_grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    if codes := _colour_codes(image, file):
        return _profile_from_codes(*codes, is_grey)
    if image.format == "PNG" and not image.info.keys() & {"icc_profile", "srgb"}:
        gamma, chromaticities = image.info.get("gamma"), image.info.get("chromaticity")
        if gamma or chromaticities:  # one of them is enough for browsers
            return _profile_from_gamma(gamma or 1 / 2.2, chromaticities or SRGB_CHROMATICITIES, is_grey)
    if image.format not in ("BMP", "JPEG2000"):
        return None
    file.seek(0)
    content = file.read()
    file.seek(0)
    if image.format == "BMP":
        if content[14:18] != b"\x7c\0\0\0" or content[70:74] != b"DEBM":  # a header of version 5 with a profile
            return None
        start, size = struct.unpack_from("<II", content, 126)
        return content[14 + start : 14 + start + size]
    header = next((box for kind, box in _boxes(content) if kind == b"jp2h"), b"")
    return next((box[3:] for kind, box in _boxes(header) if kind == b"colr" and box[:1] in (b"\2", b"\3")), None)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes in a JPEG 2000, HEIC or AVIF file, or in one of its boxes."""
    start = 0
    while len(content) - start >= 16:
        size, kind = struct.unpack_from(">I4s", content, start)
        head = 8
        if size == 1:
            [size], head = struct.unpack_from(">Q", content, start + 8), 16
        end = start + size if size else len(content)
        if end < start + head:
            return
        yield kind, content[start + head : end]
        start = end


def _colour_codes(image: Image.Image, file) -> tuple[int, int] | None:
    """The codes of ITU-T H.273 for primaries and transfer function; None if there are none.

    They are in the cICP chunk of a PNG, and in an AVIF or HEIC without an ICC profile.
    """
    if image.format not in ("PNG", "AVIF", "HEIF") or (image.format != "PNG" and "icc_profile" in image.info):
        return None
    position = file.tell()  # where Pillow continues to read
    file.seek(0)
    content = file.read()
    file.seek(position)
    if image.format == "PNG":
        before, found, after = content.partition(b"cICP")
        return (after[0], after[1]) if found and b"IDAT" not in before and len(after) > 1 else None
    for kind in (b"meta", b"iprp", b"ipco"):
        content = next((box[4 * (kind == b"meta") :] for name, box in _boxes(content) if name == kind), b"")
    codes = (box for name, box in _boxes(content) if name == b"colr" and box[:4] == b"nclx")
    return next((struct.unpack(">HH", box[4:8]) for box in codes if len(box) >= 8), None)


def _profile_from_codes(primaries: int, transfer: int, is_grey: bool) -> bytes | None:
    """The ICC profile that is equivalent to codes of ITU-T H.273; None if this is nearly sRGB.

    An image of high dynamic range (PQ, HLG) is converted to what a screen shows.
    """
    levels = np.linspace(0, 1, 1024)
    if transfer == 16:  # PQ
        root = levels ** (1 / 78.84375)
        light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        light *= 10_000 / WHITE_NITS
    elif transfer == 18:  # HLG, on a display of 1000 nits
        light = np.where(levels <= 0.5, levels**2 / 3, (np.exp((levels - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        light = light**1.2 * 1000 / WHITE_NITS
    elif transfer in (4, 5, 8):
        light = levels ** {4: 2.2, 5: 2.8, 8: 1.0}[transfer]
    elif primaries in PRIMARIES:
        light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    else:
        return None
    table = np.rint(65535 * np.clip(light, 0, 1)).astype(">u2").tobytes()
    curve = b"curv" + struct.pack(">II", 0, len(levels)) + table
    return _profile_from_curve(curve, PRIMARIES.get(primaries, SRGB_CHROMATICITIES), is_grey)


def _profile_from_gamma(gamma: float, chromaticities: Sequence[float], is_grey: bool) -> bytes | None:
    """The ICC profile that is equivalent to gAMA and cHRM of a PNG; None if this is nearly sRGB, or impossible.

    Args:
        gamma: a level is light to the power of gamma.
        chromaticities: x and y of white, red, green and blue.
    """
    if abs(gamma - 1 / 2.2) < 0.005 and (is_grey or np.allclose(chromaticities, SRGB_CHROMATICITIES, atol=0.005)):
        return None
    if not 0.05 <= gamma <= 5:
        return None
    curve = b"para" + bytes(8) + struct.pack(">i", round(65536 / gamma))
    return _profile_from_curve(curve, chromaticities, is_grey)


def _profile_from_curve(curve: bytes, chromaticities: Sequence[float], is_grey: bool) -> bytes | None:
    """An ICC profile with one tone curve for all channels; None if the chromaticities are impossible."""

    def fixed(values: Iterable[float]) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    tags = {b"wtpt": b"XYZ " + bytes(4) + fixed(D50)}
    if is_grey:
        tags[b"kTRC"] = curve
    else:
        x, y = np.array(chromaticities, float).reshape(4, 2).T
        if not (y > 0).all():
            return None
        white, *primaries = np.stack([x / y, np.ones(4), (1 - x - y) / y], axis=1)  # XYZ with Y = 1
        primaries = np.array(primaries).T
        if abs(np.linalg.det(primaries)) < 1e-6:
            return None
        primaries = primaries * np.linalg.solve(primaries, white)
        to_d50 = np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD
        for colour, column in zip(b"rgb", (to_d50 @ primaries).T, strict=True):
            tags |= {b"%cXYZ" % colour: b"XYZ " + bytes(4) + fixed(column), b"%cTRC" % colour: curve}
    table, content = struct.pack(">I", len(tags)), b""
    for tag, values in tags.items():
        table += tag + struct.pack(">II", 132 + 12 * len(tags) + len(content), len(values))
        content += values
    size = struct.pack(">I", 128 + len(table) + len(content))
    head = size + bytes(4) + b"\4\0\0\0mntr" + (b"GRAY" if is_grey else b"RGB ") + b"XYZ " + bytes(12) + b"acsp"
    head += bytes(28) + fixed(D50)
    return head.ljust(128, b"\0") + table + content


# --------------------------------------------------------------------------------------------------------------------
# Networks in ONNX Runtime

GRAPH_TOLERANCE = 1e-4  # largest difference between the outputs of a network in PyTorch and in ONNX Runtime
GRAPHS_KEPT = 16  # in the cache folder; a graph of the recognition network has 52 MB


def cache_folder() -> Path:
    """The folder for files that can be computed again: $FACELIVENET_CACHE, or facelivenet in the user's cache folder.

    The same as `addresses.cache_folder`, which imports no PyTorch.
    """
    folder = os.environ.get("FACELIVENET_CACHE")
    return Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "facelivenet"


class OnnxGraph:
    """An exported network: a function of an array (n, channels, h, w) float32 that returns a list of arrays.

    Several threads may share it. The threads of a session do not exist in a forked process or in a process that
    received a copy. Therefore every process opens its own session.

    Args:
        source: the file, or its content if no file could be written.

    Raises:
        any exception of ONNX Runtime if the graph is damaged: it has no exception type of its own for this.
    """

    _sessions_of_parent = []  # noqa: RUF012 – not destroyed, because that would wait for their threads for ever

    def __init__(self, source: Path | bytes):
        self.source = source
        self._opened = (None, None)  # process id, session
        self._input = self.session().get_inputs()[0].name

    def __reduce__(self):
        return OnnxGraph, (self.source,)

    def session(self) -> "onnxruntime.InferenceSession":
        process, session = self._opened
        if process != os.getpid():
            if session is not None:
                self._sessions_of_parent.append(session)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()  # OMP_NUM_THREADS, or 1 in a worker of a loader
            options.inter_op_num_threads = 1
            # There are several sessions: threads that wait in a loop would take time from the threads that work
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            session = onnxruntime.InferenceSession(self.source, options, providers=["CPUExecutionProvider"])
            self._opened = os.getpid(), session
        return session

    def __call__(self, values: np.ndarray) -> list[np.ndarray]:
        return self.session().run(None, {self._input: values})


def onnx_graph(network: torch.nn.Module, examples: Sequence[torch.Tensor], configuration: str = "") -> OnnxGraph | None:
    """Export a network in evaluation mode for ONNX Runtime at its first use, and keep the graph in the cache folder.

    The name of the file is a hash of the weights, of the code of all layers, and of the versions of PyTorch and ONNX
    Runtime. The file is used if its outputs are those of the network. Otherwise the network is exported again.

    Args:
        network: on the CPU; its input is one tensor (n, channels, h, w), its output a tuple of tensors.
        examples: inputs of several shapes; the dimensions in which they differ are dynamic in the graph.
        configuration: everything else that the outputs of the network depend on.

    Returns:
        None if the network must run in PyTorch: ONNX Runtime is not installed, the network cannot be exported, or the
        outputs of its graph differ, as for a network with NaN weights.
    """
    if onnxruntime is None or any(value.device.type != "cpu" for value in network.state_dict().values()):
        return None
    name = type(network).__name__
    with _export_lock, torch.inference_mode(False), torch.no_grad():
        path = cache_folder() / "graphs" / f"{name}-{_graph_key(network, configuration)}.onnx"
        if path.is_file():
            if graph := _checked_graph(path, network, examples):
                return graph
            logger.warning("%s is damaged: exported again", path)
        logger.info("%s is exported for ONNX Runtime, once for these weights", name)
        try:
            content = export_onnx(network, examples)
        except Exception as error:  # PyTorch raises many unrelated types; ImportError if onnx is not installed
            logger.warning("%s runs in PyTorch, more slowly: it cannot be exported: %s", name, error)
            return None
        try:
            _write_to_cache(path, content)
        except OSError as error:
            logger.warning("%s will be exported again by the next process: %s", name, error)
            path = content
        graph = _checked_graph(path, network, examples)
        if graph is None:
            logger.warning("%s runs in PyTorch, more slowly: its exported graph has different outputs", name)
            if path is not content:
                path.unlink(missing_ok=True)
        return graph


_export_lock = threading.Lock()  # PyTorch's exporter has global state


def export_onnx(network: torch.nn.Module, examples: Sequence[torch.Tensor], outputs: Sequence[str] = ()) -> bytes:
    """The content of an .onnx file; network and examples as for `onnx_graph`, outputs are the names of the outputs.

    Raises:
        ImportError if onnx is not installed, and any exception of PyTorch if a layer does not exist in ONNX.
    """
    shapes = [tuple(example.shape) for example in examples]
    dynamic = {axis: f"dim{axis}" for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1}
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns about Python values that are the same for every input
        # Without dynamo, the export of 13 million parameters needs one second; with dynamo it needs eight
        torch.onnx.export(
            network,
            (examples[0],),
            file,
            dynamo=False,
            input_names=["pixel_values"],
            output_names=list(outputs),
            dynamic_axes={"pixel_values": dynamic},
        )
    return file.getvalue()


def _graph_key(network: torch.nn.Module, configuration: str) -> str:
    """24 hexadecimal digits that depend on weights, code, configuration and versions."""
    digest = hashlib.sha256(f"{torch.__version__} {onnxruntime.__version__} {configuration}\n{network}".encode())
    pytorch_folder = Path(torch.__file__).parent
    modules = {type(layer).__module__ for layer in network.modules()}
    files = {getattr(sys.modules.get(module), "__file__", None) for module in modules} | {__file__}
    for file in sorted(file for file in files if file and pytorch_folder not in Path(file).parents):
        digest.update(Path(file).read_bytes())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:24]


def _checked_graph(
    source: Path | bytes, network: torch.nn.Module, examples: Sequence[torch.Tensor]
) -> OnnxGraph | None:
    """The graph if its outputs are those of the network; otherwise None."""
    try:
        graph = OnnxGraph(source)
        for example in examples:
            for output, expected in zip(graph(example.numpy()), network(example), strict=True):
                if not np.abs(output - expected.numpy()).max() <= GRAPH_TOLERANCE:  # also true for NaN
                    return None
    except Exception:  # ONNX Runtime raises many unrelated types
        return None
    return graph


def _write_to_cache(path: Path, content: bytes) -> None:
    """Write a graph completely or not at all, and remove the graphs that were not used for the longest time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(content)
            file.close()
            os.replace(file.name, path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise
    by_last_use = sorted(path.parent.glob("*.onnx"), key=lambda graph: graph.stat().st_atime)
    for graph in by_last_use[:-GRAPHS_KEPT]:
        graph.unlink(missing_ok=True)


# --------------------------------------------------------------------------------------------------------------------
# The face detector

WINDOWS_AT_ONCE = 128  # in the second and third network: more take more memory and no less time


class CascadeDetector:
    """MTCNN (arXiv 1604.02878) with the weights, steps and results of facenet-pytorch, for several images at once.

    It is faster for two reasons. Its networks run in ONNX Runtime if this is installed. And a table of sums for each
    image is enough to compute every scaled copy and every window of the image, without reading each pixel again.

    Args:
        min_face_size, thresholds, factor: see `FaceLiveNetImageProcessor`.
        device: of the networks. On a GPU, the first network gets all images of the same size together. On a CPU it gets
            each one alone, because a batch does not fit into the processor's cache.
    """

    def __init__(self, min_face_size: int, thresholds: Sequence[float], factor: float, device: str = "cpu"):
        self.min_face_size = min_face_size
        self.thresholds = thresholds
        self.factor = factor
        self.batched = device != "cpu"
        with torch.inference_mode(False):
            mtcnn = MTCNN().eval().requires_grad_(False)
        for name, layer in list(mtcnn.named_modules()):
            if isinstance(layer, torch.nn.PReLU):
                mtcnn.set_submodule(name, _PReLU(layer.weight.detach()))
            elif isinstance(layer, torch.nn.Softmax):
                mtcnn.set_submodule(name, torch.nn.Identity())
        mtcnn.to(device)
        self.pnet = _WithSoftmax(_array_function(mtcnn.pnet, [(1, 3, 33, 46), (1, 3, 25, 12)]))
        self.rnet = _WithSoftmax(_array_function(mtcnn.rnet, [(2, 3, 24, 24), (1, 3, 24, 24)]))
        self.onet = _WithSoftmax(_array_function(mtcnn.onet, [(2, 3, 48, 48), (1, 3, 48, 48)]))

    def __call__(self, images: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Detect the faces in (h, w, 3) uint8 images of any sizes.

        Returns:
            for each image boxes (n, 4), probabilities (n,) and landmarks (n, 5, 2), float32, in pixels of the image.
        """
        tables = [_row_sums(image) for image in images]
        groups = {}
        for number, table in enumerate(tables):
            groups.setdefault(table.shape if self.batched else number, []).append(number)
        boxes = [np.empty((0, 4), np.float32)] * len(tables)
        for group in groups.values():
            for number, proposals in zip(group, self._proposals([tables[number] for number in group]), strict=True):
                boxes[number] = _squares(proposals)

        refined = []
        for squares, (shifts, scores) in zip(boxes, self._outputs(self.rnet, 24, (4, 2), tables, boxes), strict=True):
            passed = scores[:, 1] > self.thresholds[1]
            squares, shifts, scores = squares[passed], shifts[passed], scores[passed, 1]
            kept = _suppressed_by_union(squares, scores, 0.7)
            refined.append(_squares(_shifted(squares[kept], shifts[kept])))

        detections = []
        outputs = self._outputs(self.onet, 48, (4, 10, 2), tables, refined)
        for squares, (shifts, points, scores) in zip(refined, outputs, strict=True):
            passed = scores[:, 1] > self.thresholds[2]
            squares, shifts, points, scores = squares[passed], shifts[passed], points[passed], scores[passed, 1]
            sides = squares[:, 2:] - squares[:, :2] + 1
            landmarks = points.reshape(-1, 2, 5).transpose(0, 2, 1) * sides[:, None] + squares[:, None, :2] - 1
            faces = _shifted(squares, shifts)
            kept = _suppressed_by_minimum(faces, scores, 0.7)
            detections.append((faces[kept], scores[kept], landmarks[kept]))
        return detections

    def _proposals(self, tables: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The first network on scaled copies of images of one size: for each image boxes (n, 4)."""
        height, width = len(tables[0]) - 1, tables[0].shape[2]
        scale = 12 / self.min_face_size
        no_boxes = np.empty((0, 4), np.float32)
        found = [[(no_boxes, no_boxes[:, 0], no_boxes)] for _ in tables]  # image -> boxes, scores, shifts at each scale
        while min(height, width) * scale >= 12:
            size = int(height * scale + 1), int(width * scale + 1)
            copies = np.stack([_scaled(table, (0, 0, width, height), size) for table in tables])
            for found_in_image, shift, score in zip(found, *self.pnet(_normalised(copies)), strict=True):
                rows, columns = np.nonzero(score[1] >= self.thresholds[0])
                cells = np.stack([columns, rows], axis=1).astype(np.float32)
                windows = np.floor(np.concatenate([2 * cells + 1, 2 * cells + 12], axis=1) / np.float32(scale))
                scores = score[1, rows, columns]
                kept = _suppressed_by_union(windows, scores, 0.5)
                found_in_image.append((windows[kept], scores[kept], shift[:, rows, columns].T[kept]))
            scale *= self.factor
        proposals = []
        for found_in_image in found:
            boxes, scores, shifts = (np.concatenate(parts) for parts in zip(*found_in_image, strict=True))
            kept = _suppressed_by_union(boxes, scores, 0.7)
            boxes, shifts = boxes[kept], shifts[kept]
            proposals.append(boxes + shifts * np.tile(boxes[:, 2:] - boxes[:, :2], 2))
        return proposals

    @staticmethod
    def _outputs(
        network: Callable, side: int, widths: Sequence[int], tables: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
    ) -> list[list[np.ndarray]]:
        """The outputs of a network for the boxes of all images, which go through it together.

        Args:
            side: of the network's input, in pixels.
            widths: of its outputs.

        Returns:
            for each image the network's outputs, (n, width) each; 0 for boxes without a pixel inside the image.
        """
        windows, inside = [], []
        for table, squares in zip(tables, boxes, strict=True):
            size = table.shape[2], len(table) - 1
            # facenet-pytorch counts pixels from 1, and a box includes its last pixel
            corners = np.trunc(squares).astype(np.int64)
            corners = np.concatenate([np.maximum(corners[:, :2], 1) - 1, np.minimum(corners[:, 2:], size)], axis=1)
            inside.append((corners[:, 2:] > corners[:, :2]).all(axis=1))
            windows += [_scaled(table, corner, (side, side)) for corner in corners[inside[-1]].tolist()]
        parts = [
            network(_normalised(np.stack(windows[start : start + WINDOWS_AT_ONCE])))
            for start in range(0, len(windows), WINDOWS_AT_ONCE)
        ]
        outputs = [np.concatenate(part) for part in zip(*parts, strict=True)]
        by_image, start = [], 0
        for visible in inside:
            end = start + int(visible.sum())
            by_image.append([np.zeros((len(visible), width), np.float32) for width in widths])
            if start < end:
                for of_image, of_all in zip(by_image[-1], outputs, strict=True):
                    of_image[visible] = of_all[start:end]
            start = end
        return by_image


class _PReLU(torch.nn.Module):
    """PReLU from operations that are several times faster in ONNX Runtime, in the layout of its convolutions."""

    def __init__(self, slopes: torch.Tensor):
        super().__init__()
        self.slopes = torch.nn.Parameter(slopes, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        slopes = self.slopes.view(-1, *[1] * (x.ndim - 2))
        return x * slopes + torch.relu(x) * (1 - slopes)


def _array_function(
    network: torch.nn.Module, shapes: Sequence[tuple[int, ...]]
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A network as a function of arrays: in ONNX Runtime if possible, otherwise in PyTorch."""
    generator = torch.Generator().manual_seed(0)
    graph = onnx_graph(network, [torch.randn(shape, generator=generator) for shape in shapes])
    return graph or functools.partial(_run_in_pytorch, network)


class _WithSoftmax:
    """A network whose last output, (n, 2, …), is converted to probabilities by PyTorch.

    Several windows of one face often have a probability above 0.999999. Softmax and sigmoid of ONNX Runtime are not
    exact enough to find the most probable one: in 3 of 500 photographs of LFW it was another window, and the box was up
    to 11 pixels away.
    """

    def __init__(self, network: Callable[[np.ndarray], list[np.ndarray]]):
        self.network = network

    def __call__(self, values: np.ndarray) -> list[np.ndarray]:
        *others, scores = self.network(values)
        return [*others, torch.from_numpy(scores).softmax(dim=1).numpy()]


@torch.inference_mode()
def _run_in_pytorch(network: torch.nn.Module, values: np.ndarray) -> list[np.ndarray]:
    device = next(network.parameters()).device
    return [output.cpu().numpy() for output in network(torch.from_numpy(values).to(device))]


def _normalised(pixels: np.ndarray) -> np.ndarray:
    """Grey levels 0 to 255 as the input of MTCNN's networks, about -1 to 1."""
    return np.ascontiguousarray((pixels - np.float32(127.5)) * np.float32(1 / 128))


def _row_sums(image: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 -> (h + 1, 3, w) uint32: for each column the sum of all pixels above."""
    height, width = image.shape[:2]
    table = np.zeros((height + 1, 3, width), np.uint32)
    table[1:] = image.transpose(0, 2, 1)
    # One call, because each call acquires the interpreter lock again and may have to wait for other threads.
    return np.add.accumulate(table, axis=0, out=table)  # in place it needs half of the time of np.cumsum


def _scaled(table: np.ndarray, box: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """A box of an image, scaled to (rows, columns) by averaging: (3, rows, columns) float32.

    The result is that of PyTorch's `interpolate(mode="area")`.

    Args:
        table: of `_row_sums`.
        box: left, top, right, bottom in whole pixels.
        size: rows and columns of the result.
    """
    left, top, right, bottom = box
    begin, end = _cells(bottom - top, size[0])
    rows = table[top + end, :, left:right]
    rows -= table[top + begin, :, left:right]
    rows = rows.reshape(-1, right - left).astype(np.float32)
    matrices = _averaging_matrices(right - left, size[1])
    cells = np.concatenate([rows[:, pixels] @ matrix for pixels, matrix in matrices], axis=1)
    return cells.reshape(size[0], 3, size[1]).swapaxes(0, 1) / (end - begin).astype(np.float32)[:, None]


def _cells(length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last position of each of `count` cells that cover `length` pixels; neighbours may share a pixel."""
    cell = np.arange(count + 1) * length
    return cell[:-1] // count, -(-cell[1:] // count)


@functools.lru_cache(maxsize=256)
def _averaging_matrices(length: int, count: int) -> list[tuple[slice, np.ndarray]]:
    """For each 48 cells their pixels, and the matrix (pixels, cells) float32 that averages the pixels of each cell."""
    begin, end = _cells(length, count)
    matrices = []
    for first in range(0, count, 48):
        starts, ends = begin[first : first + 48], end[first : first + 48]
        pixels = np.arange(starts[0], ends[-1])[:, None]
        inside = (pixels >= starts) & (pixels < ends)
        matrices.append((slice(starts[0], ends[-1]), inside.astype(np.float32) / (ends - starts).astype(np.float32)))
    return matrices


def _squares(boxes: np.ndarray) -> np.ndarray:
    """Boxes as squares of their longer side, with the same centre."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(axis=1, keepdims=True, initial=-np.inf)
    corner = boxes[:, :2] + sides * np.float32(0.5) - longer * np.float32(0.5)
    return np.concatenate([corner, corner + longer], axis=1)


def _shifted(boxes: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Boxes with each border shifted by a fraction of the side."""
    return boxes + shifts * np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)


def _suppressed_by_union(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Non-maximum suppression: indices of the boxes to keep, the highest score first.

    A box is removed if its intersection over union with a box of a higher score is above the threshold.
    """
    return nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold).numpy()


def _suppressed_by_minimum(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """As `_suppressed_by_union`, but the intersection is divided by the area of the smaller box."""
    area = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1)
    remaining, kept = np.argsort(scores)[::-1], []
    while len(remaining):
        best, remaining = remaining[0], remaining[1:]
        kept.append(best)
        first_corner = np.maximum(boxes[best, :2], boxes[remaining, :2])
        sides = np.minimum(boxes[best, 2:], boxes[remaining, 2:]) - first_corner + 1
        intersection = np.prod(np.maximum(sides, 0), axis=1)
        remaining = remaining[intersection / np.minimum(area[best], area[remaining]) <= threshold]
    return np.array(kept, np.int64)


# --------------------------------------------------------------------------------------------------------------------
# The image processor

# A face with this probability is upright: 96 % of 122 upright photographs reach it, and the same photographs rotated by
# 90, 180 or 270 degrees have at most 0.9983.
UPRIGHT_PROBABILITY = 0.999
SECOND_SEARCH_SCALE = 2.5  # relative size of the image in the second search, after no face was found
MAX_PARTS = 8  # of a wide image in the second search; a part is at least twice as wide as it is high
MIN_PARTS = 1.5  # an image is divided only if its longer side is at least this many times that of a part

# Positions of eyes, nose and corners of the mouth, as fractions of the crop: the proportions of the widely used
# five-point template for 112 pixels, shifted up so that the chin stays inside when the mouth is open.
LANDMARK_TEMPLATE = np.array([[0.334, 0.380], [0.664, 0.380], [0.500, 0.569], [0.365, 0.761], [0.638, 0.761]])

_ROTATIONS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)  # counterclockwise


class FaceLiveNetImageProcessor(BaseImageProcessor):
    """Detects, aligns and whitens faces (section 5.1 of the paper: MTCNN, then crops of one size).

    Args:
        size: side of the square face crop, in pixels.
        alignment: "margin" crops the detector's box enlarged by `margin`, as in the paper. "similarity" rotates, scales
            and shifts the face so that its five landmarks lie as in LANDMARK_TEMPLATE. "margin" verifies better: on
            1,873 genuine and 20,000 impostor pairs of LFW fold 9, after the same short training, its AUC is 0.703
            (similarity: 0.683) with a margin softmax, and 0.656 (0.598) with the loss of the paper.
        margin: how much the box is enlarged in each direction, as a fraction of its side ("margin" only). The authors'
            44 of 182 pixels are 44 / 138.
        min_face_size: smallest face that is detected, in pixels of the image that the detector gets.
        detection_size: an image with a longer side than this is scaled down for detection, but never for the crop.
        detection_threshold: smallest probability of a face.
        thresholds: of MTCNN's three stages.
        factor: ratio of two neighbouring scales in MTCNN's pyramid.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 – the base class's convention

    _settings = (
        "size",
        "alignment",
        "margin",
        "min_face_size",
        "detection_size",
        "detection_threshold",
        "thresholds",
        "factor",
    )

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
        unknown = kwargs.keys() - {"auto_map", "image_processor_type", "processor_class"}  # transformers saves these
        if unknown:
            raise ValueError(
                f"unknown setting {', '.join(sorted(unknown))}; the settings are {', '.join(self._settings)}"
            )
        if not isinstance(size, int) or size < 32:
            raise ValueError(f"size must be an integer number of pixels, at least 32, not {size!r}")
        if alignment not in ("similarity", "margin"):
            raise ValueError(f'alignment must be "similarity" or "margin", not {alignment!r}')
        if not 0 <= margin <= 2:
            raise ValueError(f"margin must be a fraction of the box, 0 to 2, not {margin!r}")
        if not 12 <= min_face_size <= detection_size:
            raise ValueError(f"min_face_size must be 12 to detection_size ({detection_size}), not {min_face_size!r}")
        if not 0 <= detection_threshold <= 1:
            raise ValueError(f"detection_threshold must be a probability, 0 to 1, not {detection_threshold!r}")
        if len(thresholds) != 3 or not all(0 <= threshold <= 1 for threshold in thresholds):
            raise ValueError(f"thresholds must be three probabilities, 0 to 1, not {thresholds!r}")
        if not 0 < factor < 1:
            raise ValueError(f"factor must be between 0 and 1, not {factor!r}")
        self.size = size
        self.alignment = alignment
        self.margin = margin
        self.min_face_size = min_face_size
        self.detection_size = detection_size
        self.detection_threshold = detection_threshold
        self.thresholds = list(thresholds)
        self.factor = factor
        self.detector_device = "cpu"  # not a setting: it depends on the machine
        self._detector = None
        self._detector_lock = threading.Lock()

    @classmethod
    def from_dict(cls, image_processor_dict: dict, **kwargs):
        """Keyword arguments replace the saved settings, and are checked as in the constructor."""
        changed = {name: kwargs.pop(name) for name in cls._settings if name in kwargs}
        return super().from_dict(image_processor_dict | changed, **kwargs)

    def to_dict(self) -> dict:
        """The settings for `preprocessor_config.json`, without the detector and its lock."""
        settings = {name: getattr(self, name) for name in self._settings}
        settings["image_processor_type"] = type(self).__name__
        return settings | ({"auto_map": self.auto_map} if hasattr(self, "auto_map") else {})

    def __getstate__(self):
        return self.__dict__ | {"_detector": None, "_detector_lock": None}

    def __setstate__(self, state):
        self.__dict__.update(state, _detector_lock=threading.Lock())

    # Detect

    def detect(self, image: Image.Image) -> list[Face]:
        """All faces of an upright RGB image, the most prominent one first.

        That is the largest and most central one: the one with the largest (box area − 2 · squared distance of the box's
        centre from the image's centre). This is the weighting of the FaceNet alignment.
        """
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """`detect` for several images of any sizes, in less time than one after the other."""
        scaled = [self._scaled_down(image, self.detection_size) for image in images]
        faces_of_images = self._detect_scaled([image for image, _ in scaled])
        return [
            [_in_original_pixels(face, scale) for face in faces]
            for faces, (_, scale) in zip(faces_of_images, scaled, strict=True)
        ]

    def detect_in_any_orientation(self, image: Image.Image) -> list[Face]:
        """All faces of an RGB photograph that may be rotated by 90, 180 or 270 degrees, the most prominent one first.

        The detector also finds rotated faces, but with a lower probability than upright ones. Therefore, if no face
        reaches UPRIGHT_PROBABILITY, the other three orientations are searched too, and the one with the highest
        probability is used. If no face is found at all, a second search looks for small faces (`_detect_in_parts`).
        """
        scaled, scale = self._scaled_down(image, self.detection_size)
        orientations = self._detect_scaled([scaled])
        if _highest_probability(orientations[0]) < UPRIGHT_PROBABILITY:
            orientations += self._detect_scaled([scaled.transpose(rotation) for rotation in _ROTATIONS])
        probabilities = [_highest_probability(faces) for faces in orientations]
        quarter_turns = probabilities.index(max(probabilities))  # the first of several equal ones
        faces = [_rotated_back(face, 90 * quarter_turns, *scaled.size) for face in orientations[quarter_turns]]
        if not faces and scale < 1:
            return self._detect_in_parts(image)
        return [_in_original_pixels(face, scale) for face in faces]

    def turn_upright(self, image: Image.Image, faces: Sequence[Face]) -> tuple[Image.Image, list[Face]]:
        """An image and its faces from `detect`, turned upright if its face is certainly upright in another orientation.

        For corpora, most of whose photographs are upright: of 661 photographs of LFW in which no face reaches
        UPRIGHT_PROBABILITY, `detect_in_any_orientation` turns two by mistake, and this function none.
        """
        if _highest_probability(faces) >= UPRIGHT_PROBABILITY:
            return image, list(faces)
        turned = [image.transpose(rotation) for rotation in _ROTATIONS]
        orientations = self.detect_batch(turned)
        best = max(range(len(turned)), key=lambda number: _highest_probability(orientations[number]))
        if _highest_probability(orientations[best]) < UPRIGHT_PROBABILITY:
            return image, list(faces)
        return turned[best], orientations[best]

    def _detect_in_parts(self, image: Image.Image) -> list[Face]:
        """`detect` for small faces: the image is scaled up by SECOND_SEARCH_SCALE, or searched in parts if it is wide.

        Each part overlaps half of the next one, so that every face is completely inside of one of them.
        """
        longer, shorter = max(image.size), min(image.size)
        part = max(2 * shorter, longer / MAX_PARTS)
        if part * MIN_PARTS > longer:
            starts, part, largest = [0], longer, self.detection_size * SECOND_SEARCH_SCALE
        else:
            starts, largest = np.linspace(0, longer - part, math.ceil(2 * longer / part) - 1), self.detection_size
        is_wide, found = image.width >= image.height, []
        for start in map(round, starts):
            end = min(start + round(part), longer)
            crop = image.crop((start, 0, end, image.height) if is_wide else (0, start, image.width, end))
            scaled, scale = self._scaled_down(crop, largest)
            [faces] = self._detect_scaled([scaled])
            found += [_in_original_pixels(face, scale, (start, 0) if is_wide else (0, start)) for face in faces]
        boxes = np.array([face.box for face in found], np.float32).reshape(-1, 4)
        kept = _suppressed_by_minimum(boxes, np.array([face.probability for face in found]), 0.5)
        return _most_prominent_first([found[number] for number in kept], image.size)

    @staticmethod
    def _scaled_down(image: Image.Image, longest: float) -> tuple[Image.Image, float]:
        """The image with sides of at most `longest` pixels, and its scale."""
        scale = min(1.0, longest / max(image.size))
        if scale == 1:
            return image, scale
        return image.resize([max(1, round(side * scale)) for side in image.size], reducing_gap=2), scale

    def _detect_scaled(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """`detect_batch` for images that are already scaled down."""
        detections = self._loaded_detector()([np.asarray(image) for image in images])
        faces_of_images = []
        for image, (boxes, probabilities, landmarks) in zip(images, detections, strict=True):
            faces = map(Face, boxes, landmarks, map(float, probabilities))
            faces = [face for face in faces if face.probability >= self.detection_threshold]
            faces = [face for face in faces if np.isfinite(face.box).all()]
            faces_of_images.append(_most_prominent_first(faces, image.size))
        return faces_of_images

    def refine(self, image: Image.Image, boxes: np.ndarray) -> list[Face]:
        """Only the last stage of the detector, for (n, 4) boxes that lie roughly on a face: n faces, in order.

        This takes a tenth of the time of a detection. Boxes are in pixels of the image. The probability says whether
        there is a face; it is 0 if the box has no pixel inside the image.
        """
        detector = self._loaded_detector()
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        if not len(boxes):
            return []
        center, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
        squares = np.hstack([center - side / 2, center + side / 2])
        inside = np.clip(squares, 0, [*image.size] * 2)
        visible = (inside[:, 2:] - inside[:, :2] >= 1).all(axis=1)  # False for NaN
        crops = np.zeros((len(boxes), 48, 48, 3), np.uint8)
        for number in np.flatnonzero(visible):
            crops[number] = image.resize((48, 48), Image.Resampling.BOX, box=tuple(inside[number]))
        shifts, points, probabilities = detector.onet(_normalised(crops.transpose(0, 3, 1, 2)))
        found = squares + shifts * (side + 1)  # as in MTCNN, whose squares are a pixel wider
        points = points.reshape(-1, 2, 5).transpose(0, 2, 1)  # the output has all x, then all y
        landmarks = squares[:, None, :2] - 1 + points * (side + 1)[..., None]
        probabilities = np.where(visible, probabilities[:, 1], 0)
        return [
            Face(box.astype(np.float32), points.astype(np.float32), float(probability))
            for box, points, probability in zip(found, landmarks, probabilities, strict=True)
        ]

    def _loaded_detector(self) -> CascadeDetector:
        """The detector, created at its first use. Threads may share it, because it stores nothing between calls."""
        if MTCNN is None:
            raise ImportError(
                "Finding faces needs facenet-pytorch: pip install --no-deps facenet-pytorch==2.5.3. "
                "Faces that are already aligned need no detector: pass detect=False."
            )
        with self._detector_lock:
            if self._detector is None:
                self._detector = CascadeDetector(self.min_face_size, self.thresholds, self.factor, self.detector_device)
        return self._detector

    # Align and whiten

    def align(self, image: Image.Image, face: Face) -> np.ndarray:
        """The face as an upright (size, size, 3) uint8 crop, made as `alignment` says."""
        if self.alignment == "margin":
            box = self.margin_box(image, face)
            crop = np.asarray(image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box))
            return np.rot90(crop, face.turn // 90)
        return self._align_by_landmarks(image, face.landmarks)

    def margin_box(self, image: Image.Image, face: Face) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the "margin" crop in pixels of the image, clipped at its border."""
        left, top, right, bottom = map(float, face.box)
        grow_x, grow_y = (right - left) * self.margin / 2, (bottom - top) * self.margin / 2
        left, top, right, bottom = left - grow_x, top - grow_y, right + grow_x, bottom + grow_y
        return max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)

    def _align_by_landmarks(self, image: Image.Image, landmarks: np.ndarray) -> np.ndarray:
        # z -> a z + b from the crop to the image: in complex numbers this is a similarity transform, and its
        # least-squares fit is one line for a and one for b
        crop_points = (LANDMARK_TEMPLATE * self.size) @ [1, 1j]
        source_points = landmarks.astype(np.float64) @ [1, 1j]
        centered = crop_points - crop_points.mean()
        a = np.vdot(centered, source_points - source_points.mean()) / np.vdot(centered, centered)
        b = source_points.mean() - a * crop_points.mean()

        # Cut out the patch of the image that the crop covers. Beyond the border of the image, its last pixels repeat.
        corners = a * np.array([0, self.size, self.size * 1j, self.size * (1 + 1j)]) + b
        left, right = math.floor(corners.real.min()) - 2, math.ceil(corners.real.max()) + 2
        top, bottom = math.floor(corners.imag.min()) - 2, math.ceil(corners.imag.max()) + 2
        columns = np.clip(np.arange(left, right), 0, image.width - 1)
        rows = np.clip(np.arange(top, bottom), 0, image.height - 1)
        patch = Image.fromarray(np.asarray(image)[rows[:, None], columns[None, :]])
        b -= left + 1j * top

        shrink = max(1, int(abs(a)))  # the transform below samples points: first average pixels that it would skip
        if shrink > 1:
            patch, a, b = patch.reduce(shrink), a / shrink, b / shrink
        warp = (a.real, -a.imag, b.real, a.imag, a.real, b.imag)
        return np.asarray(
            patch.transform((self.size, self.size), Image.Transform.AFFINE, warp, Image.Resampling.BICUBIC)
        )

    def whiten(self, faces: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) faces of any real dtype -> (n, 3, size, size) float32, each with mean 0 and deviation 1.

        The standard deviation is taken as at least 1/√(number of values), so that a crop of one colour becomes zeros,
        not noise or NaN.
        """
        faces = faces.float()
        if faces.shape[-2:] != (self.size, self.size):
            faces = tvF.resize(faces, [self.size, self.size], InterpolationMode.BICUBIC, antialias=True)
        root = math.sqrt(max(1, math.prod(faces.shape[1:])))
        centered = faces - faces.mean(dim=(1, 2, 3), keepdim=True)
        # std over three dimensions takes ten times as long
        deviation = torch.linalg.vector_norm(centered, dim=(1, 2, 3), keepdim=True) / root
        return centered / deviation.clamp(min=1 / root)

    # All steps together

    def __call__(self, images, detect: bool = True, on_error: str = "raise", **kwargs) -> BatchFeature:
        return self.preprocess(images, detect=detect, on_error=on_error, **kwargs)

    def preprocess(
        self,
        images,
        detect: bool = True,
        on_error: str = "raise",
        return_tensors: str | None = "pt",
        detector: Callable[[Image.Image], list[Face]] | None = None,
    ) -> BatchFeature:
        """One image or several (see `load_image` and `as_list`) -> the network's input.

        Args:
            detect: detect and align the face; with False, every image is used as an aligned face.
            on_error: "raise" stops at the first image that cannot be used; "skip" continues and reports it.
            return_tensors: as in transformers; only PyTorch tensors are supported.
            detector: replaces `detect_in_any_orientation`. It returns the faces of an RGB image, and the first one is
                used.

        Returns (n = number of images used):
            pixel_values (n, 3, size, size) float32. With detect also box (n, 4), landmarks (n, 5, 2),
            detection_probability (n,), face_count (n,), which is the number of faces in the image, turn (n,), roll (n,)
            and aside (n,) as in `Face`, and sharpness, noise and flat_colour (n,), see `crop_measures`. With
            on_error="skip" also index (n,), the positions of the images used, and skipped, a list of
            {"index", "source", "reason"}.

        Raises:
            UnreadableImageError, NoFaceError: the message names the image ("image 3" if it has no path).
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", not {on_error!r}')
        if return_tensors not in (None, "pt"):
            raise ValueError(f'return_tensors must be "pt", not {return_tensors!r}')
        crops, found, measures, used, skipped = [], [], [], [], []
        for index, source in enumerate(self.as_list(images)):
            name = name_of(source, f"image {index}")
            try:
                image = load_image(source, name)
                if detect:
                    faces = (detector or self.detect_in_any_orientation)(image)
                    if not faces:
                        raise NoFaceError(f"{name}: no face found")
                    found.append((faces[0], len(faces)))
                    crop = self.align(image, faces[0])
                    measures.append(crop_measures(crop))
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
            batch["aside"] = torch.tensor([face.aside for face, _ in found])
            for name in CROP_MEASURES:
                batch[name] = torch.tensor([measured[name] for measured in measures])
        if on_error == "skip":
            batch |= {"index": torch.tensor(used, dtype=torch.int64), "skipped": skipped}
        return BatchFeature(batch)

    @staticmethod
    def as_list(images) -> list:
        """The images as a list: one image, or any iterable (generator, column of a dataset, array of paths)."""
        single = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, Mapping)
        if isinstance(images, single) or hasattr(images, "read") or not isinstance(images, Iterable):
            return [images]
        dimensions = getattr(images, "ndim", 1)  # the pixels of an image have two or three; an array of paths has one
        if dimensions == 1 and getattr(images, "dtype", None) in (np.uint8, torch.uint8):
            return [images]  # an encoded image
        return list(images) if dimensions in (1, 4) else [images]


def _highest_probability(faces: Sequence[Face]) -> float:
    return max((face.probability for face in faces), default=0.0)


def _in_original_pixels(face: Face, scale: float, corner: tuple[int, int] = (0, 0)) -> Face:
    """A face in a scaled crop of an image, in pixels of the image; corner: left and top of the crop."""
    offset = np.array(corner, np.float32)
    return replace(face, box=face.box / scale + np.tile(offset, 2), landmarks=face.landmarks / scale + offset)


def _rotated_back(face: Face, degrees: int, width: int, height: int) -> Face:
    """A face found after an image of width x height was rotated, in pixels of the image before the rotation."""
    corners = np.concatenate([face.box.reshape(2, 2), face.landmarks])  # (7, 2)
    x, y = corners[:, 0], corners[:, 1]
    corners = {0: (x, y), 90: (width - y, x), 180: (width - x, height - y), 270: (y, height - x)}[degrees]
    corners = np.stack(corners, axis=1).astype(np.float32)
    box = np.concatenate([corners[:2].min(axis=0), corners[:2].max(axis=0)])
    return Face(box, corners[2:], face.probability, degrees)


def _most_prominent_first(faces: Sequence[Face], size: tuple[int, int]) -> list[Face]:
    """Faces of an image of (width, height), in the order of `FaceLiveNetImageProcessor.detect`."""
    center = np.array(size) / 2

    def prominence(face: Face) -> float:
        left, top, right, bottom = face.box
        offset = np.array([left + right, top + bottom]) / 2 - center
        return (right - left) * (bottom - top) - 2 * float(offset @ offset)

    return sorted(faces, key=prominence, reverse=True)


FaceLiveNetImageProcessor.register_for_auto_class("AutoImageProcessor")

__all__ = ["Face", "FaceLiveNetImageProcessor", "NoFaceError", "UnreadableImageError", "load_image"]
