"""From a photograph or a camera frame to the face the network sees: read, find, align, whiten.

    processor = FaceLiveNetImageProcessor()
    batch = processor(["anna.jpg", "ben.png"])         # pixel_values (2, 3, 160, 160), box, landmarks, …
    batch = processor(aligned_faces, detect=False)      # faces that are aligned already: resized and whitened only

Finding faces needs `facenet-pytorch` (its wheel carries the MTCNN weights); aligned faces work without it. Where
`onnxruntime` and `onnx` are installed, the detector's networks run there, in half the time and with the same results.
This file imports nothing of the rest of the project, so that the Hub can ship it as it is.
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
except ImportError:  # PyTorch runs the detector's networks then
    onnxruntime = None

try:
    import pillow_heif
except ImportError:  # only HEIC needs it
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

# Decoded, such a picture takes 260 MB, turned upright twice that. A phone of 64 megapixels stays below (9248 x 6944); a
# larger JPEG is decoded at half, a quarter or an eighth of its size, anything else is refused.
MAX_PIXELS = 64_500_000
MOST_SCANS = 200  # of a JPEG; a progressive one has about ten. Each takes 34 bytes and goes over the whole picture
SCAN, END = b"\xff\xda", b"\xff\xd9"  # markers in a JPEG
LAST_ROWS = 18  # of a JPEG that may be missing: its blocks are 16 high, and colours reach two rows further
MAX_PIPE_BYTES = 2**28  # read from a pipe, which does not say how much it holds

ROWS = 64  # of a picture that are scaled at once: in floats all of it would take eight times its memory

# Pillow warns of damage in a picture's notes, which do not change what it shows. A filter around each call
# (`warnings.catch_warnings`) would not be safe among threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
PngImagePlugin.MAX_TEXT_CHUNK = 2**24  # Pillow refuses pictures with more than a MiB of profile or of Photoshop's notes

# Pillow knows more, and of some (icons, say) decodes all before it tells how large they are.
Image.init()
# grey TIFF of 16 bits in which zeros are white, of which Pillow knows the other order of bytes alone
TiffImagePlugin.OPEN_INFO.setdefault((b"MM", 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))
FORMATS = [
    name
    for name in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")
    if name in Image.OPEN  # not every build of Pillow has all
]

CLIP = "a video clip; one photograph is needed here"
RAW = "a camera's raw picture; export it as JPEG or PNG"

HEIC_START = re.compile(rb".{4}ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", re.DOTALL)
AVIF_START = re.compile(rb".{4}ftyp(avif|avis)", re.DOTALL)
OTHER_KIND = "damaged or of a kind that is not read here; save it as JPEG or PNG"
ALONE = "damaged: its first bytes alone are right"
HEAD = 1024  # bytes of a file by which it is known

# First bytes of what is no picture here -> what to tell whoever gave it.
FOREIGN = {
    HEIC_START: "a HEIC photograph; pip install pillow-heif to read it, or save it as JPEG",
    AVIF_START: "an AVIF picture, which this build of Pillow cannot read",
    re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "): "a JPEG XL picture, which is not read here; save it as JPEG or PNG",
    re.compile(rb"II\xbc"): "a JPEG XR picture, which is not read here; save it as JPEG or PNG",
    re.compile(rb".{4}ftypcrx |FUJIFILMCCD-RAW|IIR[OS]|IIU\0|MMOR|FOVb|\0MRM|II\*\0.{4}CR", re.DOTALL): RAW,
    re.compile(rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI |FLV|\0\0\x01\xba|0&\xb2u", re.DOTALL): CLIP,
    re.compile(rb"ID3|fLaC|OggS|RIFF.{4}WAVE|\xff[\xf1-\xf3\xf9-\xfb]", re.DOTALL): "a recording of sound, no picture",
    re.compile(rb"\0\0\x01\0|icns|DDS |qoif|\n[\0\x02-\x05]\x01|\x01\xda|P7\n|v/1\x01|#\?RADIANCE"): (
        "an icon, texture or drawing, which is not read here; save it as JPEG or PNG"
    ),
    re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"): "a PostScript drawing; export its picture as JPEG or PNG",
    re.compile(rb"%PDF"): "a PDF document; export its picture as JPEG or PNG",
    re.compile(rb"8BPS"): "a Photoshop document; export it as JPEG or PNG",
    re.compile(rb"gimp xcf"): "a GIMP document; export it as JPEG or PNG",
    re.compile(rb".{128}DICM", re.DOTALL): "a DICOM file; export its picture as JPEG or PNG",
    re.compile(rb"PK[\3\5]|Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ|\(\xb5/\xfd|.{257}ustar", re.DOTALL): (
        "an archive or a document, no picture; unpack or export it"
    ),
    re.compile(rb"(\xef\xbb\xbf)?\s*((<\?xml|<!doctype svg)[^>]*>\s*|<!--.*?-->\s*)*<svg", re.DOTALL | re.IGNORECASE): (
        "an SVG drawing, no photograph"
    ),
    re.compile(rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)*<(!doctype )?html", re.DOTALL | re.IGNORECASE): (
        "a web page, no picture"
    ),
    re.compile(
        rb"(\xef\xbb\xbf)?(#EXTM3U|ffconcat|v=0\r?\n|\[playlist\])"
    ): "a playlist, which names clips and holds none",
    re.compile(rb"version https://git-lfs"): "a Git LFS pointer; run `git lfs pull`",
    re.compile(rb"II[*+]\0|MM\0[*+]"): f"a TIFF that is {OTHER_KIND}",
    re.compile(rb"\xff\xd8\xff"): f"{ALONE}; or a JPEG of more than 8 bits, or JPEG-LS, which are not read here",
    re.compile(rb"\x89PNG\r\n|GIF8[79]a|RIFF.{4}WEBP", re.DOTALL): ALONE,
}

SRGB_CORNERS = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # x and y of white, red, green, blue
D50 = np.array([0.9642, 1.0, 0.8249])  # white of ICC profiles
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
PRIMARIES = {  # numbers of ITU-T H.273 -> x and y as in SRGB_CORNERS; others are treated as sRGB's
    9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),  # BT.2020
    12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),  # Display P3
}
WHITE_NITS = 203  # of a high dynamic range, by ITU-R BT.2408: what is brighter is white on a screen
SRGB = re.compile(r"sRGB( IEC61966.*| built-in| Profile)?\s*$")  # others, such as linear sRGB, are no sRGB
BASE64 = re.compile(r"[\w+/\s-]{64,}={0,2}\s*")  # no name of a file is so long without a dot
LINE_ENDS = re.compile(r"[\n\r\x0b\x0c\x1b\x85\u2028\u2029]")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
LONGEST_NAME = 1000  # characters of a source that an error message repeats

_NEW_SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 254, 330, 50706  # tags of a TIFF

SURE = 0.999  # of 122 upright photographs 96 % have it, the best wrong way up of any has 0.9983
# Half sides of what is looked at, as shares of the eyes' distance. Of an eye it is the middle: the edges of a bar over
# the eyes have more texture than an eye has.
EYE_REACH, MOUTH_REACH = 0.1, 0.25
SECOND_LOOK = 2.5  # how much larger a picture is looked at once more where no face was found
MOST_PARTS = 8  # of a wide picture; a part is at least twice as wide as it is high
PARTS_FROM = 1.5  # a picture is divided if it is this many times as wide as a part

# Where eyes, nose and corners of the mouth come to lie, as fractions of the crop: the proportions of the widely used
# 112-pixel five-point template, raised so that a dropped jaw stays inside.
LANDMARK_TEMPLATE = np.array([[0.334, 0.380], [0.664, 0.380], [0.500, 0.569], [0.365, 0.761], [0.638, 0.761]])


GRAPH_TOLERANCE = 1e-4  # between what a network says in PyTorch and in ONNX Runtime
GRAPHS_KEPT = 16  # graphs in the cache folder, of which the network's take 52 MB each
WINDOWS_AT_ONCE = 128  # through the detector's second and third network: more at once take memory and no less time

logger = logging.getLogger(__name__)


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

    @property
    def aside(self) -> float:
        """The size of `nose_offset`, whichever side the head is turned to."""
        return abs(nose_offset(self.landmarks))


def nose_offset(landmarks: np.ndarray) -> float:
    """Offset of the nose from the middle of eyes and mouth, along the line of the eyes; positive to the right as seen.

    In units of the distance from the eyes to the mouth: 0 for a frontal face, about 0.4 for a head turned by 40
    degrees. landmarks: (5, 2), as in `Face`.
    """
    points = landmarks.astype(np.float64)
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    across = points[1] - points[0]
    width = max(float(np.linalg.norm(across) * np.linalg.norm(mouth - eyes)), 1e-9)
    return float((points[2] - (eyes + mouth) / 2) @ across) / width


def load_image(
    source, name: str | None = None, max_pixels: int = MAX_PIXELS, formats: Sequence[str] = FORMATS
) -> Image.Image:
    """Decode anything that holds one picture into an upright 8-bit sRGB image.

    Args:
        source: a path (also of a pipe), bytes, an array of bytes, an open binary file, a data URI or base64 text, a
            dictionary of "bytes" or "path" as datasets has for a picture that is not decoded, a PIL image, a numpy
            array, a torch tensor or what else becomes an array ((h, w), (h, w, 1|3|4) or (1|3|4, h, w); uint8, uint16
            or finite floats within 0..1 or 0..255). Arrays are RGB: OpenCV's are BGR, give `array[..., ::-1]`. EXIF
            orientation and colour profile are applied, transparency is laid over white; of an animation it is the
            first frame.
        name: what error messages call it; by default what `name_of` says.
        max_pixels: width x height above which a JPEG is decoded at a smaller scale and anything else refused, before it
            is decoded.
        formats: of files and bytes, by Pillow's names; others are no pictures.

    Raises:
        UnreadableImageError: not a picture, truncated, empty, non-finite, or larger than max_pixels.
    """
    name = name or name_of(source)
    with _naming(name):
        if isinstance(source, Mapping) and (source.get("bytes") or source.get("path")):
            source = source.get("bytes") or source["path"]
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
            try:
                source = source.detach().cpu()
                source = (source.float() if source.dtype == torch.bfloat16 else source).numpy()
            except (TypeError, RuntimeError) as error:  # sparse, quantised, on the device "meta", …
                raise UnreadableImageError(f"{name}: a tensor that holds no array of pixels: {error}") from error
        elif hasattr(source, "__array__") or hasattr(source, "__array_interface__"):  # of JAX, TensorFlow, …
            source = np.asarray(source)
        if isinstance(source, np.ndarray):
            if (
                source.dtype == np.uint8 and source.ndim == 1
            ):  # as torchvision's read_file and OpenCV's imencode give it
                return _decode(io.BytesIO(source.tobytes()), name, max_pixels, formats)
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
    text = text.encode(errors="surrogateescape").decode(errors="backslashreplace")  # names that are not in UTF-8
    text = LINE_ENDS.sub(lambda end: repr(end[0])[1:-1], text)  # a message is one line
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
    known = begins_like_a_picture(content) or any(pattern.match(content) for pattern in FOREIGN)
    return content if known else None


def begins_like_a_picture(content: bytes) -> bool:
    """Whether the first bytes are those of a picture in one of FORMATS."""
    return any(accept and accept(content[:16]) is True for _, accept in map(Image.OPEN.get, FORMATS))


def _read(file, name: str) -> bytes:
    """All of an open file, from its beginning where it can be wound back, as Pillow does."""
    if getattr(file, "seekable", lambda: False)():
        file.seek(0)
    content = file.read()
    if not isinstance(content, bytes):
        raise UnreadableImageError(f'{name}: a file opened as text; open it with "rb"')
    return content


def _decode(file, name: str, max_pixels: int, formats: Sequence[str]) -> Image.Image:
    head = file.read(HEAD)
    file.seek(0)
    try:
        image = Image.open(file, formats=formats)
    except UnidentifiedImageError as error:
        about = about_head(head, formats) or "not a picture in any known format"
        raise UnreadableImageError(f"{name}: {about}") from error
    if image.format in ("JPEG", "MPO"):
        file.seek(0)
        content = file.read()
        file.seek(0)
        scans = content.count(SCAN)  # the marker before each, which does not occur within one
        if scans > MOST_SCANS:
            raise UnreadableImageError(f"{name}: {scans} scans of the picture, over the limit of {MOST_SCANS}")
        if content.rfind(END) < content.rfind(SCAN) and math.prod(image.size) <= max_pixels:
            image = _with_end(content, len(image.getbands())) or image
    with image:
        if image.format == "TIFF":
            if _is_raw(image):
                raise UnreadableImageError(f"{name}: {RAW}")
            _mend_planes(image)
        if profile := _profile(image, file):
            image.info["icc_profile"] = profile
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


def about_head(head: bytes, formats: Sequence[str] = FORMATS) -> str | None:
    """What a file is that cannot be read as a picture, by its first bytes (HEAD of them); None where nobody knows."""
    for start, format in ((HEIC_START, "HEIF"), (AVIF_START, "AVIF")):
        if start.match(head) and format in formats:
            return f"{'a HEIC photograph' if format == 'HEIF' else 'an AVIF picture'} that is {OTHER_KIND}"
    if not head:
        return "an empty file, not a picture"
    return next((about for start, about in FOREIGN.items() if start.match(head)), None)


def _with_end(content: bytes, colours: int) -> Image.Image | None:
    """The picture of a JPEG that lacks its end marker, and perhaps its last bytes; None if it lacks more than that.

    The content is completed in two different ways. The first row in which both results differ is where it ends.
    """
    frame = max(content.rfind(marker) for marker in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2"))
    refined = set()  # colours whose last scan has begun; a progressive JPEG that ends earlier is complete but coarse
    for scan in content[frame:].split(SCAN)[1:]:
        head = 3 + 2 * scan[2] if len(scan) > 2 else len(scan)
        if len(scan) > head + 2 and scan[head + 1] == 63 and not scan[head + 2] & 15:
            refined.update(scan[3:head:2])
    if len(refined) < colours:
        return None
    ended = [content.rstrip(b"\xff") + filler + END for filler in (b"", b"\x55" * 2048)]
    pictures = [np.asarray(Image.open(io.BytesIO(one), formats=["JPEG"])) for one in ended]
    differ = np.flatnonzero((pictures[0] != pictures[1]).reshape(len(pictures[0]), -1).any(axis=1))
    if len(differ) and differ[0] < len(pictures[0]) - LAST_ROWS:
        return None
    return Image.open(io.BytesIO(ended[0]), formats=["JPEG"])


def _is_raw(image: Image.Image) -> bool:
    """Whether a TIFF is a camera's raw picture, of which Pillow would show the thumbnail."""
    tags = image.tag_v2
    is_thumbnail_of_others = bool(tags.get(_NEW_SUBFILE_TYPE, 0) & 1) and _SUB_IFDS in tags
    return is_thumbnail_of_others or _DNG_VERSION in tags


def _mend_planes(image: Image.Image) -> None:
    """Let Pillow read both bytes of 16 where each colour of a TIFF lies in a plane of its own, uncompressed."""
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
def _naming(name: str) -> Iterator[None]:
    """Turn what Pillow raises on a picture into an UnreadableImageError that names it."""
    try:
        yield
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"{name}: refused before decoding: {error}") from error
    except Exception as error:  # decoders raise exceptions of all kinds, some with lines of their own
        raise UnreadableImageError(f"{name}: damaged or incomplete: {' '.join(str(error).split())}") from error


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
    try:
        image.load()
    except OSError as error:
        if image.format == "TIFF" and "decoder error" in str(error):  # libtiff's, for a compression it does not have
            raise UnreadableImageError(f"{name}: a TIFF that is {OTHER_KIND}") from error
        raise
    tags = getattr(image, "tag_v2", {})  # of a TIFF; an image that was turned has none
    inverted = tags.get(262) == 0 and (image.mode == "F" or image.mode.startswith("I;16"))  # Pillow's 8 bits are right
    image = _upright(image)
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":  # its A is a colour
        profile = profile or ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        image, profile = _to_srgb(image, profile), None
    if image.mode == "F" or image.mode.startswith("I"):  # 16 and 32 bits: Pillow's own conversion would clip at 255
        levels = np.asarray(image)
        sample = tags.get(ExifTags.Base.SampleFormat), tags.get(ExifTags.Base.BitsPerSample)
        if sample == ((2,), (16,)):
            levels = levels.astype(np.int16)  # signed
        elif tags and image.mode == "I" and sample[0] != (2,):
            levels = levels.view(np.uint32)
        levels = _to_bytes(levels, name)
        image = Image.fromarray(255 - levels if inverted else levels)
    transparent = "A" in image.getbands() or "transparency" in image.info
    if image.mode == "LA" and profile:  # a profile of grey pictures knows nothing of transparency
        alpha, image = image.getchannel("A"), _to_srgb(image.getchannel("L"), profile).convert("RGBA")
        image.putalpha(alpha)
        profile = None
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


UPRIGHT = {  # EXIF's orientation -> what shows the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image) -> Image.Image:
    """The picture as its EXIF says; as it lies where that is damaged, as programs that show it do.

    Pillow's `exif_transpose` fails on an EXIF in which another field than the orientation is damaged.
    """
    try:
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow raises exceptions of many kinds
        return image
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.info = {name: image.info[name] for name in ("icc_profile", "transparency") if name in image.info}
    return turned  # which says nothing of how it lies: it may come here again


def _profile(image: Image.Image, file) -> bytes | None:
    """The colour profile of a picture that was opened, where Pillow does not read it; None where there is none."""
    grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    if codes := _colour_codes(image, file):
        return _coded_profile(*codes, grey)
    if image.format == "PNG" and not image.info.keys() & {"icc_profile", "srgb"}:
        gamma, corners = image.info.get("gamma"), image.info.get("chromaticity")
        if gamma or corners:  # one of them is enough for browsers
            return _gamma_profile(gamma or 1 / 2.2, corners or SRGB_CORNERS, grey)
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
    """Kind and content of the boxes that a JPEG 2000 file, or one of its boxes, is made of."""
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
    """The numbers of ITU-T H.273 for primaries and transfer that a PNG's cICP has, or an AVIF or HEIC without a
    profile; None where there are none."""
    if image.format not in ("PNG", "AVIF", "HEIF") or (image.format != "PNG" and "icc_profile" in image.info):
        return None
    start = file.tell()  # where Pillow reads on
    file.seek(0)
    content = file.read()
    file.seek(start)
    if image.format == "PNG":
        before, found, after = content.partition(b"cICP")
        return (after[0], after[1]) if found and b"IDAT" not in before and len(after) > 1 else None
    for kind in (b"meta", b"iprp", b"ipco"):
        content = next((box[4 * (kind == b"meta") :] for name, box in _boxes(content) if name == kind), b"")
    coded = (box for name, box in _boxes(content) if name == b"colr" and box[:4] == b"nclx")
    return next((struct.unpack(">HH", box[4:8]) for box in coded if len(box) >= 8), None)


def _coded_profile(primaries: int, transfer: int, grey: bool) -> bytes | None:
    """The ICC profile that numbers of ITU-T H.273 stand for; None where that is sRGB, or about so.

    Of a high dynamic range (PQ, HLG) it is what a screen shows of it.
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
    return _simple_profile(curve, PRIMARIES.get(primaries, SRGB_CORNERS), grey)


def _gamma_profile(gamma: float, corners: Sequence[float], grey: bool) -> bytes | None:
    """The ICC profile that a PNG's gAMA and cHRM stand for: levels are light to the power of gamma. None where that is
    about sRGB, or impossible."""
    if abs(gamma - 1 / 2.2) < 0.005 and (grey or np.allclose(corners, SRGB_CORNERS, atol=0.005)):
        return None
    if not 0.05 <= gamma <= 5:
        return None
    return _simple_profile(b"para" + bytes(8) + struct.pack(">i", round(65536 / gamma)), corners, grey)


def _simple_profile(curve: bytes, corners: Sequence[float], grey: bool) -> bytes | None:
    """An ICC profile of one curve, and of x and y of white, red, green and blue; None where these are impossible."""

    def fixed(values: Iterable[float]) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    tags = {b"wtpt": b"XYZ " + bytes(4) + fixed(D50)}
    if grey:
        tags[b"kTRC"] = curve
    else:
        x, y = np.array(corners, float).reshape(4, 2).T
        if not (y > 0).all():
            return None
        white, *primaries = np.stack([x / y, np.ones(4), (1 - x - y) / y], axis=1)  # XYZ, each of Y 1
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
    head = size + bytes(4) + b"\4\0\0\0mntr" + (b"GRAY" if grey else b"RGB ") + b"XYZ " + bytes(12) + b"acsp"
    head += bytes(28) + fixed(D50)
    return head.ljust(128, b"\0") + table + content


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The image in sRGB, by its ICC profile; as it is where that is damaged or of another kind of picture."""
    transform = _srgb_transform(profile, image.mode)
    return image if transform is None else ImageCms.applyTransform(image, transform)


@functools.lru_cache(maxsize=16)
def _srgb_transform(profile: bytes, mode: str) -> "ImageCms.ImageCmsTransform | None":
    """None where there is nothing to do, since it is sRGB already, or nothing can be done."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if SRGB.match(ImageCms.getProfileDescription(opened)):
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
        most = 32767.0 if array.dtype == np.int16 else 65535.0
        if array.dtype == np.uint32 and high > most:
            most = 2.0**32 - 1
        white = next((white for white in (1023.0, 4095.0, 16383.0) if high <= white), most)
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


def _most_prominent_first(faces: Sequence[Face], size: tuple[int, int]) -> list[Face]:
    """Faces of a picture of (width, height), by the rule of `FaceLiveNetImageProcessor.detect`."""
    center = np.array(size) / 2

    def prominence(face: Face) -> float:
        left, top, right, bottom = face.box
        offset = np.array([left + right, top + bottom]) / 2 - center
        return (right - left) * (bottom - top) - 2 * float(offset @ offset)

    return sorted(faces, key=prominence, reverse=True)


def sharpness(face: np.ndarray) -> float:
    """How sharp a (size, size, 3) uint8 face crop is, in grey levels.

    The mean absolute second difference of the luminance at 96 pixels, along the direction in which it is least: it
    falls with blur, also by motion, with darkness and with low resolution.
    """
    grey = _grey(face)
    along = [_second_difference(grey, *step) for step in ((0, 1), (1, 0))]
    along += [_second_difference(grey, *step) / 2 for step in ((1, 1), (1, -1))]  # of twice the squared distance
    return float(min(np.abs(difference).mean() for difference in along))


def _grey(face: np.ndarray) -> np.ndarray:
    """(96, 96) float32 luminance."""
    return np.asarray(Image.fromarray(face).convert("L").resize((96, 96), Image.Resampling.BILINEAR), np.float32)


def _second_difference(grey: np.ndarray, down: int, right: int) -> np.ndarray:
    """Of each inner pixel with its neighbours on both sides along a direction; (n, n) -> (n - 2, n - 2)."""
    size = len(grey)

    def shifted(steps: int) -> np.ndarray:
        top, left = 1 + steps * down, 1 + steps * right
        return grey[top : top + size - 2, left : left + size - 2]

    return shifted(1) + shifted(-1) - 2 * shifted(0)


# --------------------------------------------------------------------------------------------------------------------
# Networks in ONNX Runtime


def cache_folder() -> Path:
    """Where what can be computed again is kept: $FACELIVENET_CACHE, or facelivenet in the user's cache folder.

    The same as `addresses.cache_folder`, which imports no torch.
    """
    own = os.environ.get("FACELIVENET_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "facelivenet"


class OnnxGraph:
    """An exported network, called with an array (n, channels, h, w) float32; gives a list of arrays.

    Safe to share between threads. A process that was forked, or that a copy was sent to, opens it anew, since threads
    do not live on there.

    Args:
        source: the file, or its content where it could not be written.

    Raises:
        whatever ONNX Runtime raises where the graph is damaged: it has no exception of its own for that.
    """

    _left = []  # noqa: RUF012 – sessions of the parent process: to destroy one would wait for its threads for ever

    def __init__(self, source: Path | bytes):
        self.source = source
        self._opened = (None, None)  # process, session
        self._input = self.session().get_inputs()[0].name

    def __reduce__(self):
        return OnnxGraph, (self.source,)

    def session(self) -> "onnxruntime.InferenceSession":
        process, session = self._opened
        if process != os.getpid():
            if session is not None:
                self._left.append(session)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()  # OMP_NUM_THREADS, and 1 in a loader's worker
            options.inter_op_num_threads = 1
            # threads that wait for work in a loop take the time of those that have some: there are several sessions
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            session = onnxruntime.InferenceSession(self.source, options, providers=["CPUExecutionProvider"])
            self._opened = os.getpid(), session
        return session

    def __call__(self, values: np.ndarray) -> list[np.ndarray]:
        return self.session().run(None, {self._input: values})


def onnx_graph(network: torch.nn.Module, examples: Sequence[torch.Tensor], about: str = "") -> OnnxGraph | None:
    """A network in evaluation mode, exported for ONNX Runtime at its first use and kept in the cache folder.

    The file's name is a hash of the weights, of the code of all layers and of the versions that make and run it. It is
    trusted as long as it says what the network says; otherwise it is exported again.

    Args:
        network: on the CPU; takes one tensor (n, channels, h, w), gives a tuple of tensors.
        examples: inputs of several shapes; the dimensions in which they differ are free in the graph.
        about: what else decides what the network says, its configuration.

    Returns:
        None where PyTorch has to run the network: ONNX Runtime is not installed, the network cannot be exported, or
        its graph says something else (that of a network whose weights are NaN does).
    """
    if onnxruntime is None or any(value.device.type != "cpu" for value in network.state_dict().values()):
        return None
    name = type(network).__name__
    with _exporting, torch.inference_mode(False), torch.no_grad():
        path = cache_folder() / "graphs" / f"{name}-{_graph_key(network, about)}.onnx"
        if path.is_file():
            if graph := _opened(path, network, examples):
                return graph
            logger.warning("%s is damaged: exported again", path)
        logger.info("%s is exported for ONNX Runtime, once for these weights", name)
        try:
            content = export_onnx(network, examples)
        except Exception as error:  # PyTorch raises many unrelated types, ImportError where onnx is not installed
            logger.warning("%s runs in PyTorch, more slowly: it cannot be exported: %s", name, error)
            return None
        try:
            _keep(path, content)
        except OSError as error:
            logger.warning("%s will be exported again by the next process: %s", name, error)
            path = content
        graph = _opened(path, network, examples)
        if graph is None:
            logger.warning("%s runs in PyTorch, more slowly: its exported graph says something else", name)
            if path is not content:
                path.unlink(missing_ok=True)
        return graph


_exporting = threading.Lock()  # PyTorch's exporter has global state


def export_onnx(network: torch.nn.Module, examples: Sequence[torch.Tensor], outputs: Sequence[str] = ()) -> bytes:
    """The content of an .onnx file: see `onnx_graph`.

    Raises:
        ImportError, and whatever PyTorch raises where a layer has no counterpart in ONNX.
    """
    shapes = [tuple(example.shape) for example in examples]
    free = {axis: f"dim{axis}" for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1}
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about Python values that are the same for every input
        # The exporter without dynamo needs one second for 13 million parameters where the other needs eight
        torch.onnx.export(
            network,
            (examples[0],),
            file,
            dynamo=False,
            input_names=["pixel_values"],
            output_names=list(outputs),
            dynamic_axes={"pixel_values": free},
        )
    return file.getvalue()


def _graph_key(network: torch.nn.Module, about: str) -> str:
    """24 hexadecimal digits: weights, code and versions."""
    digest = hashlib.sha256(f"{torch.__version__} {onnxruntime.__version__} {about}\n{network}".encode())
    own = Path(torch.__file__).parent
    modules = {type(layer).__module__ for layer in network.modules()}
    files = {getattr(sys.modules.get(module), "__file__", None) for module in modules} | {__file__}
    for file in sorted(file for file in files if file and own not in Path(file).parents):
        digest.update(Path(file).read_bytes())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:24]


def _opened(source: Path | bytes, network: torch.nn.Module, examples: Sequence[torch.Tensor]) -> OnnxGraph | None:
    """The graph, where it says what the network says; else None."""
    try:
        graph = OnnxGraph(source)
        for example in examples:
            for found, expected in zip(graph(example.numpy()), network(example), strict=True):
                if not np.abs(found - expected.numpy()).max() <= GRAPH_TOLERANCE:  # NaN is not either
                    return None
    except Exception:  # ONNX Runtime raises many unrelated types
        return None
    return graph


def _keep(path: Path, content: bytes) -> None:
    """Write a file completely or not at all; those that were not used for the longest time go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(content)
            file.close()
            os.replace(file.name, path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise
    by_age = sorted(path.parent.glob("*.onnx"), key=lambda one: one.stat().st_atime)
    for old in by_age[:-GRAPHS_KEPT]:
        old.unlink(missing_ok=True)


# --------------------------------------------------------------------------------------------------------------------
# The detector


class CascadeDetector:
    """MTCNN (arXiv 1604.02878) with the weights, steps and results of facenet-pytorch, for several pictures at once.

    Two things make it fast. Its networks run in ONNX Runtime where that is installed. And a table of sums over each
    picture gives every scaled copy and every window of it without looking at each pixel again.

    Args:
        min_face_size, thresholds, factor: see `FaceLiveNetImageProcessor`.
        device: of its networks. On a GPU pictures of the same size go through the first network together; on a CPU each
            alone, since a batch leaves the cache.
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
        self.pnet = _WithSoftmax(_fastest(mtcnn.pnet, [(1, 3, 33, 46), (1, 3, 25, 12)]))
        self.rnet = _WithSoftmax(_fastest(mtcnn.rnet, [(2, 3, 24, 24), (1, 3, 24, 24)]))
        self.onet = _WithSoftmax(_fastest(mtcnn.onet, [(2, 3, 48, 48), (1, 3, 48, 48)]))

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(h, w, 3) uint8 pictures, of any sizes -> for each boxes (n, 4), probabilities (n,) and landmarks (n, 5, 2),
        float32, in pixels of the picture."""
        tables = [_sums(picture) for picture in pictures]
        groups = {}
        for number, table in enumerate(tables):
            groups.setdefault(table.shape if self.batched else number, []).append(number)
        boxes = [np.empty((0, 4), np.float32)] * len(tables)
        for group in groups.values():
            for number, proposals in zip(group, self._proposals([tables[number] for number in group]), strict=True):
                boxes[number] = _squares(proposals)

        refined = []
        for squares, (shifts, scores) in zip(boxes, self._see(self.rnet, 24, (4, 2), tables, boxes), strict=True):
            passed = scores[:, 1] > self.thresholds[1]
            squares, shifts, scores = squares[passed], shifts[passed], scores[passed, 1]
            kept = _overlapping_least(squares, scores, 0.7)
            refined.append(_squares(_shifted(squares[kept], shifts[kept])))

        found = []
        seen = self._see(self.onet, 48, (4, 10, 2), tables, refined)
        for squares, (shifts, points, scores) in zip(refined, seen, strict=True):
            passed = scores[:, 1] > self.thresholds[2]
            squares, shifts, points, scores = squares[passed], shifts[passed], points[passed], scores[passed, 1]
            sides = squares[:, 2:] - squares[:, :2] + 1
            landmarks = points.reshape(-1, 2, 5).transpose(0, 2, 1) * sides[:, None] + squares[:, None, :2] - 1
            faces = _shifted(squares, shifts)
            kept = _inside_least(faces, scores, 0.7)
            found.append((faces[kept], scores[kept], landmarks[kept]))
        return found

    def _proposals(self, tables: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the first network takes for faces in scaled copies of pictures of one size: (n, 4) boxes of each."""
        height, width = len(tables[0]) - 1, tables[0].shape[2]
        scale = 12 / self.min_face_size
        nothing = np.empty((0, 4), np.float32)
        found = [[(nothing, nothing[:, 0], nothing)] for _ in tables]
        while min(height, width) * scale >= 12:
            size = int(height * scale + 1), int(width * scale + 1)
            copies = np.stack([_averaged(table, (0, 0, width, height), size) for table in tables])
            for of_picture, shift, score in zip(found, *self.pnet(_normalised(copies)), strict=True):
                rows, columns = np.nonzero(score[1] >= self.thresholds[0])
                cells = np.stack([columns, rows], axis=1).astype(np.float32)
                windows = np.floor(np.concatenate([2 * cells + 1, 2 * cells + 12], axis=1) / np.float32(scale))
                scores = score[1, rows, columns]
                kept = _overlapping_least(windows, scores, 0.5)
                of_picture.append((windows[kept], scores[kept], shift[:, rows, columns].T[kept]))
            scale *= self.factor
        proposals = []
        for of_picture in found:
            boxes, scores, shifts = (np.concatenate(parts) for parts in zip(*of_picture, strict=True))
            kept = _overlapping_least(boxes, scores, 0.7)
            boxes, shifts = boxes[kept], shifts[kept]
            proposals.append(boxes + shifts * np.tile(boxes[:, 2:] - boxes[:, :2], 2))
        return proposals

    @staticmethod
    def _see(
        network: Callable, side: int, widths: Sequence[int], tables: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
    ) -> list[list[np.ndarray]]:
        """What a network says of the boxes of all pictures, which go through it together.

        Args:
            side: of the network's input. widths: of its outputs.

        Returns:
            for each picture the network's outputs, (n, width) each; 0 for boxes with no pixel inside the picture.
        """
        windows, inside = [], []
        for table, squares in zip(tables, boxes, strict=True):
            size = table.shape[2], len(table) - 1
            # facenet-pytorch counts pixels from 1 and takes the last one in
            corners = np.trunc(squares).astype(np.int64)
            corners = np.concatenate([np.maximum(corners[:, :2], 1) - 1, np.minimum(corners[:, 2:], size)], axis=1)
            inside.append((corners[:, 2:] > corners[:, :2]).all(axis=1))
            windows += [_averaged(table, corner, (side, side)) for corner in corners[inside[-1]].tolist()]
        parts = [
            network(_normalised(np.stack(windows[start : start + WINDOWS_AT_ONCE])))
            for start in range(0, len(windows), WINDOWS_AT_ONCE)
        ]
        said = [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
        answers, begin = [], 0
        for visible in inside:
            end = begin + int(visible.sum())
            answers.append([np.zeros((len(visible), width), np.float32) for width in widths])
            for number, own in enumerate(answers[-1]):
                if begin < end:
                    own[visible] = said[number][begin:end]
            begin = end
        return answers


class _PReLU(torch.nn.Module):
    """PReLU of operations that ONNX Runtime does several times as fast, in the layout of its convolutions."""

    def __init__(self, slopes: torch.Tensor):
        super().__init__()
        self.slopes = torch.nn.Parameter(slopes, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        slopes = self.slopes.view(-1, *[1] * (x.ndim - 2))
        return x * slopes + torch.relu(x) * (1 - slopes)


def _fastest(network: torch.nn.Module, shapes: Sequence[tuple[int, ...]]) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A network of arrays: in ONNX Runtime where that is possible, else in PyTorch."""
    generator = torch.Generator().manual_seed(0)
    graph = onnx_graph(network, [torch.randn(shape, generator=generator) for shape in shapes])
    return graph or functools.partial(_in_pytorch, network)


class _WithSoftmax:
    """A network whose last output, (n, 2, …), is made into probabilities by PyTorch.

    Of a face there are often several windows with a probability above 0.999999. ONNX Runtime's own softmax and sigmoid
    are not exact enough to tell which is the surest: on 3 of 500 photographs of LFW it was another one, and the box up
    to 11 pixels off.
    """

    def __init__(self, network: Callable[[np.ndarray], list[np.ndarray]]):
        self.network = network

    def __call__(self, values: np.ndarray) -> list[np.ndarray]:
        *others, scores = self.network(values)
        return [*others, torch.from_numpy(scores).softmax(dim=1).numpy()]


@torch.inference_mode()
def _in_pytorch(network: torch.nn.Module, values: np.ndarray) -> list[np.ndarray]:
    device = next(network.parameters()).device
    return [output.cpu().numpy() for output in network(torch.from_numpy(values).to(device))]


def _normalised(pixels: np.ndarray) -> np.ndarray:
    """Grey levels 0 to 255 as MTCNN's networks take them, about -1 to 1."""
    return np.ascontiguousarray((pixels - np.float32(127.5)) * np.float32(1 / 128))


def _sums(picture: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 -> (h + 1, 3, w) uint32: the sum of all pixels above."""
    height, width = picture.shape[:2]
    table = np.zeros((height + 1, 3, width), np.uint32)
    table[1:] = picture.transpose(0, 2, 1)
    # in one call: each one acquires the interpreter lock again, for which other threads make it wait
    return np.add.accumulate(table, axis=0, out=table)  # in place it takes half of np.cumsum's time


def _averaged(table: np.ndarray, box: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """A part of a picture, scaled to (rows, columns) by averaging: (3, rows, columns) float32.

    PyTorch's `interpolate(mode="area")`, from the table of `_sums`; box: left, top, right, bottom in whole pixels.
    """
    left, top, right, bottom = box
    begin, end = _cells(bottom - top, size[0])
    rows = table[top + end, :, left:right]
    rows -= table[top + begin, :, left:right]
    rows = rows.reshape(-1, right - left).astype(np.float32)
    cells = np.concatenate([rows[:, part] @ averages for part, averages in _averages(right - left, size[1])], axis=1)
    return cells.reshape(size[0], 3, size[1]).swapaxes(0, 1) / (end - begin).astype(np.float32)[:, None]


def _cells(length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each of `count` cells, which cover `length` pixels and may share one, begins and ends."""
    cell = np.arange(count + 1) * length
    return cell[:-1] // count, -(-cell[1:] // count)


@functools.lru_cache(maxsize=256)
def _averages(length: int, count: int) -> list[tuple[slice, np.ndarray]]:
    """Matrices (pixels, cells) float32 that average the pixels of each cell, for 48 cells each, and these pixels."""
    begin, end = _cells(length, count)
    matrices = []
    for first in range(0, count, 48):
        starts, ends = begin[first : first + 48], end[first : first + 48]
        pixels = np.arange(starts[0], ends[-1])[:, None]
        inside = (pixels >= starts) & (pixels < ends)
        matrices.append((slice(starts[0], ends[-1]), inside.astype(np.float32) / (ends - starts).astype(np.float32)))
    return matrices


def _squares(boxes: np.ndarray) -> np.ndarray:
    """Boxes as squares of their longer side, about the same centre."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(axis=1, keepdims=True, initial=-np.inf)
    corner = boxes[:, :2] + sides * np.float32(0.5) - longer * np.float32(0.5)
    return np.concatenate([corner, corner + longer], axis=1)


def _shifted(boxes: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Boxes with each border moved by a share of the side."""
    return boxes + shifts * np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)


def _overlapping_least(boxes: np.ndarray, scores: np.ndarray, most: float) -> np.ndarray:
    """Indices of the boxes whose intersection over union with no surer one is above `most`, the surest first."""
    return nms(torch.from_numpy(boxes), torch.from_numpy(scores), most).numpy()


def _inside_least(boxes: np.ndarray, scores: np.ndarray, most: float) -> np.ndarray:
    """Indices of the boxes that share no more than `most` of the smaller one with any surer one, the surest first."""
    area = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1)
    left, kept = np.argsort(scores)[::-1], []
    while len(left):
        surest, left = left[0], left[1:]
        kept.append(surest)
        sides = np.minimum(boxes[surest, 2:], boxes[left, 2:]) - np.maximum(boxes[surest, :2], boxes[left, :2]) + 1
        shared = np.prod(np.maximum(sides, 0), axis=1)
        left = left[shared / np.minimum(area[surest], area[left]) <= most]
    return np.array(kept, np.int64)


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
        self.detector_device = "cpu"  # no setting: a matter of the machine
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
        return (
            settings
            | {"image_processor_type": type(self).__name__}
            | ({"auto_map": self.auto_map} if hasattr(self, "auto_map") else {})
        )

    def __getstate__(self):
        return self.__dict__ | {"_detector": None, "_detector_lock": None}

    def __setstate__(self, state):
        self.__dict__.update(state, _detector_lock=threading.Lock())

    def find(self, image: Image.Image) -> list[Face]:
        """All faces of a photograph, an RGB picture, whichever way up it lies; the one to take first.

        The detector finds turned faces too, but is surer of upright ones: where it is not sure of any (`SURE`), the
        picture is looked at the other three ways up, and the surest way is taken. Where there is no face at all it is
        looked at once more, for small ones (`_in_parts`).
        """
        frame, scale = self._frame(image, self.detection_size)
        ways = self._faces_in([frame])
        if _surest(ways[0]) < SURE:
            ways += self._faces_in([frame.transpose(turn) for turn in _TURNS])
        degrees = 90 * max(range(len(ways)), key=lambda way: _surest(ways[way]))  # the first of equals
        faces = [_turned_back(face, degrees, frame.width, frame.height) for face in ways[degrees // 90]]
        if not faces and scale < 1:
            return self._in_parts(image)
        return [replace(face, box=face.box / scale, landmarks=face.landmarks / scale) for face in faces]

    def _in_parts(self, image: Image.Image) -> list[Face]:
        """`detect` for faces that are small in the picture: `SECOND_LOOK` times as large, a wide picture in parts.

        Each part overlaps half of the next one, so that a face is whole in one of them.
        """
        longer, shorter = max(image.size), min(image.size)
        part = max(2 * shorter, longer / MOST_PARTS)
        if part * PARTS_FROM > longer:
            starts, part, largest = [0], longer, self.detection_size * SECOND_LOOK
        else:
            starts, largest = np.linspace(0, longer - part, math.ceil(2 * longer / part) - 1), self.detection_size
        wide, found = image.width >= image.height, []
        for start in map(round, starts):
            end = min(start + round(part), longer)
            cut = image.crop((start, 0, end, image.height) if wide else (0, start, image.width, end))
            frame, scale = self._frame(cut, largest)
            corner = np.array([start, 0] if wide else [0, start], np.float32)
            [faces] = self._faces_in([frame])
            found += [
                replace(face, box=face.box / scale + np.tile(corner, 2), landmarks=face.landmarks / scale + corner)
                for face in faces
            ]
        boxes = np.array([face.box for face in found], np.float32).reshape(-1, 4)
        kept = _inside_least(boxes, np.array([face.probability for face in found]), 0.5)
        return _most_prominent_first([found[number] for number in kept], image.size)

    def detect(self, image: Image.Image) -> list[Face]:
        """All faces of an upright RGB picture, the one to take first.

        The rule: the largest and most central, that is the largest value of (box area − 2 · squared distance of the
        box's centre from the picture's centre), the weighting of the FaceNet alignment.
        """
        return self.detect_all([image])[0]

    def detect_all(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """`detect` for several pictures, of any sizes, in less time than one after the other."""
        frames = [self._frame(image, self.detection_size) for image in images]
        return [
            [replace(face, box=face.box / scale, landmarks=face.landmarks / scale) for face in faces]
            for faces, (_, scale) in zip(self._faces_in([frame for frame, _ in frames]), frames, strict=True)
        ]

    @staticmethod
    def _frame(image: Image.Image, longest: float) -> tuple[Image.Image, float]:
        """The picture as the detector sees it, at most `longest` pixels wide and high, and its scale."""
        scale = min(1.0, longest / max(image.size))
        if scale == 1:
            return image, scale
        return image.resize([max(1, round(side * scale)) for side in image.size], reducing_gap=2), scale

    def _faces_in(self, frames: Sequence[Image.Image]) -> list[list[Face]]:
        """`detect_all` in pixels of the frames that the detector sees."""
        found = self._loaded_detector()([np.asarray(frame) for frame in frames])
        return [self._sorted(frame, *of_frame) for frame, of_frame in zip(frames, found, strict=True)]

    def _sorted(
        self, frame: Image.Image, boxes: np.ndarray, probabilities: np.ndarray, landmarks: np.ndarray
    ) -> list[Face]:
        faces = [Face(*face) for face in zip(boxes, landmarks, map(float, probabilities), strict=True)]
        faces = [face for face in faces if face.probability >= self.detection_threshold and np.isfinite(face.box).all()]
        return _most_prominent_first(faces, frame.size)

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
        shifts, points, probabilities = detector.onet(_normalised(crops.transpose(0, 3, 1, 2)))
        found = squares + shifts * (side + 1)  # as in MTCNN, whose squares are a pixel wider
        points = points.reshape(-1, 2, 5).transpose(0, 2, 1)  # it gives all x, then all y
        landmarks = squares[:, None, :2] - 1 + points * (side + 1)[..., None]
        probabilities = np.where(visible, probabilities[:, 1], 0)
        return [
            Face(box.astype(np.float32), points.astype(np.float32), float(probability))
            for box, points, probability in zip(found, landmarks, probabilities, strict=True)
        ]

    def _loaded_detector(self) -> CascadeDetector:
        """The detector, made at its first use. It keeps nothing between calls, so threads may share it."""
        if MTCNN is None:
            raise ImportError(
                "Finding faces needs facenet-pytorch: pip install --no-deps facenet-pytorch==2.5.3. "
                "Faces that are aligned already need no detector: pass detect=False."
            )
        with self._detector_lock:
            if self._detector is None:
                self._detector = CascadeDetector(self.min_face_size, self.thresholds, self.factor, self.detector_device)
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

    def _align_by_landmarks(self, image: Image.Image, landmarks: np.ndarray) -> np.ndarray:
        # z -> a z + b from the crop to the picture: in complex numbers that is a similarity transform, and its
        # least-squares fit is one line for a and one for b
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

    @staticmethod
    def listed(images) -> list:
        """One picture, or any iterable of them (a list, a generator, a dataset's column, an array of paths)."""
        whole = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, Mapping)
        if isinstance(images, whole) or hasattr(images, "read"):
            return [images]
        if not isinstance(images, Iterable):
            return [images]
        dimensions = getattr(images, "ndim", 1)  # of pixels a picture has two or three; an array of paths has one
        if dimensions == 1 and getattr(images, "dtype", None) in (np.uint8, torch.uint8):
            return [images]  # an encoded picture
        return list(images) if dimensions in (1, 4) else [images]

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
            detection_probability (n,), face_count (n,), how many faces the picture shows, turn (n,), roll (n,) and
            aside (n,), as `Face` has them, and sharpness (n,), see `sharpness`; with on_error="skip" also index (n,),
            the positions used, and skipped, a list of {"index", "source", "reason"}.

        Raises:
            UnreadableImageError, NoFaceError: naming the picture ("image 3" where it has no path).
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", not {on_error!r}')
        if return_tensors not in (None, "pt"):
            raise ValueError(f'return_tensors must be "pt", not {return_tensors!r}')
        images = self.listed(images)
        crops, found, sharp, used, skipped = [], [], [], [], []
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
                    sharp.append(sharpness(crop))
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
            batch["sharpness"] = torch.tensor(sharp)
        if on_error == "skip":
            batch |= {"index": torch.tensor(used, dtype=torch.int64), "skipped": skipped}
        return BatchFeature(batch)


FaceLiveNetImageProcessor.register_for_auto_class("AutoImageProcessor")

__all__ = ["Face", "FaceLiveNetImageProcessor", "NoFaceError", "UnreadableImageError", "load_image"]
