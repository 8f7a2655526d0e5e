"""Reads the frames of a probe. A photograph is one frame; clips and animated images are sampled four times a second.

`probe` calls `read_frames`. Read `image_processing_facelivenet.load_image` next.
"""

import contextlib
import logging
import os
import struct
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageSequence

from image_processing_facelivenet import (
    CLIP_CAUSE,
    FORMATS,
    HEAD_BYTES,
    MAX_PIXELS,
    UnreadableImageError,
    cause_of_head,
    has_image_signature,
    load_image,
    name_of,
    open_file,
)

if TYPE_CHECKING:
    import av

FRAMES_PER_SECOND = 4
MAX_SECONDS = 60  # of a clip; later frames are ignored
CLIP_SUFFIXES = {
    ".mp4",
    ".m4v",
    ".mov",
    ".qt",
    ".3gp",
    ".3g2",
    ".webm",
    ".mkv",
    ".avi",
    ".mpg",
    ".mpeg",
    ".vob",
    ".ts",
    ".mts",
    ".m2ts",
    ".wmv",
    ".asf",
    ".flv",
    ".ogv",
    ".f4v",
    ".divx",
    ".dv",
    ".mxf",
    ".m2v",
    ".rm",
    ".rmvb",
    ".ivf",
    ".y4m",
    ".h264",
    ".264",
    ".h265",
    ".hevc",
    ".mjpeg",
    ".mjpg",
}
BARE_JPEGS = (".mjpeg", ".mjpg")  # a sequence of JPEG files: the first bytes are those of a photograph
STILLS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")  # MP4 brands of photographs
CLIP_STARTS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"OggS",
    b"0&\xb2u\x8ef\xcf\x11",  # Windows Media
    b"\0\0\x01\xba",  # MPEG program stream
    b"\0\0\x01\xb3",  # MPEG video
    b"\x06\x0e+4\x02\x05\x01\x01",  # MXF, of television cameras
    b".RMF",
    b"DKIF",
    b"YUV4MPEG2 ",
)
# FFmpeg's names of the containers that are read. Playlists, descriptions of streams (SDP) and lists of clips are not
# among them, because FFmpeg would open the files and network addresses that they name.
CONTAINERS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v,asf,asf_o,flv,live_flv,ogg,mxf,rm,ivf,dv,h264,hevc,av1,obu,vc1,"
    "yuv4mpegpipe,mjpeg,mpjpeg,gif,nut,wtv,swf,aac,ac3,eac3,mp3,wav,w64,flac,caf,amr,aiff"
)
ANIMATED = ("WEBP", "PNG", "AVIF", "GIF")  # formats with frames in time; the further images of TIFF and MPO are not

# (a, b, c, d) of a display matrix -> how to transpose the image. x' = a x + c y and y' = b x + d y, with y downwards.
TURNS = {
    (1, 0, 0, 1): None,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}

logger = logging.getLogger(__name__)


def is_clip(path: Path) -> bool:
    """Whether a file is a video clip, by its first bytes, or by its suffix if they do not say."""
    with open(path, "rb") as file:
        return _is_clip(file.read(HEAD_BYTES), str(path))


def _is_clip(head: bytes, name: str) -> bool:
    suffix = Path(name).suffix.lower()
    if suffix in CLIP_SUFFIXES:
        return suffix in BARE_JPEGS or not has_image_signature(head)
    mp4 = head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") and head[8:12] not in STILLS
    avi = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    # packets of 188 bytes; cameras and Blu-ray put 4 bytes with a time before each
    transport = len(head) > 196 and (head[0] == head[188] == 0x47 or head[4] == head[196] == 0x47)
    return mp4 or avi or transport or head.startswith(CLIP_STARTS)


def read_frames(
    path: str | Path, rate: float = FRAMES_PER_SECOND, on_decoded: Callable[[int], None] = lambda pixels: None
) -> Iterator[tuple[float | None, Image.Image]]:
    """Yield (seconds from the clip's start, RGB image as a player displays it); seconds is None for a photograph.

    At most `rate` frames a second; infinity yields all frames.

    Args:
        path: of a file or a pipe, or any other source of a photograph that `load_image` reads.
        on_decoded: called with the number of pixels of every decoded frame of a clip. It may raise an error to stop.

    Raises:
        UnreadableImageError: the file cannot be decoded; the message names the file and the cause.
    """
    if isinstance(path, str) and not os.path.exists(path):  # a data URI, base64, or a missing file
        yield None, load_image(path)
        return
    name = name_of(path)
    with open_file(path, name) as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        if _is_clip(head, name):
            yield from _sampled(_clip(file, name, on_decoded), rate, name)
        elif frames := _animation(file, on_decoded):
            yield from _sampled(frames, rate, name)
        else:
            file.seek(0)
            yield None, load_image(file, name)


def _sampled(frames: Iterator, rate: float, name: str) -> Iterator[tuple[float, Image.Image]]:
    """A part of (seconds, function that returns the image), at most `rate` a second; only these are converted."""
    next_time = 0.0
    for seconds, to_image in frames:
        if seconds > MAX_SECONDS:
            logger.warning("%s: only its first %d seconds are judged", name, MAX_SECONDS)
            break
        if seconds >= next_time:
            next_time = seconds + 1 / rate
            yield seconds, to_image()


def open_clip(file: BufferedIOBase) -> "av.container.InputContainer":
    """Open a clip. FFmpeg reads this file only, and opens no other file or address that it names.

    Raises:
        av.FFmpegError, OSError: the file is not a clip.
    """
    import av

    limits = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
    return av.open(file, metadata_errors="replace", options=limits)


def _clip(file: BufferedIOBase, name: str, on_decoded: Callable[[int], None]) -> Iterator[tuple]:
    """Every frame of a video clip: (seconds from its start, function that returns the image)."""
    import av  # photographs do not need it

    frame_count, damage = 0, None
    try:
        with open_clip(file) as container:
            stream = container.streams.best("video")  # the one that players choose; of a film with a cover, the film
            if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
                raise UnreadableImageError(f"{name}: holds no video")
            codec = stream.codec_context
            if codec is None:
                raise UnreadableImageError(f"{name}: its codec is not known")
            if codec.width * codec.height > MAX_PIXELS:
                raise UnreadableImageError(f"{name}: frames of {codec.width}x{codec.height} are too large")
            codec.options = {"max_pixels": str(MAX_PIXELS)}  # some frames are larger than the header says
            seconds, last_time = 0.0, None
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.InvalidDataError as error:  # players continue after a damaged frame, and so do we
                    damage = error
                    continue
                for frame in frames:
                    on_decoded(frame.width * frame.height)
                    seconds += _step(last_time, frame.time) if frame_count else 0
                    last_time = frame.time
                    yield seconds, lambda frame=frame: _displayed(frame, float(stream.sample_aspect_ratio or 1), name)
                    frame_count += 1
    except (av.FFmpegError, OSError) as error:  # OSError: an empty file
        damage = error
    if not frame_count:
        if damage is None:
            raise UnreadableImageError(f"{name}: the clip holds no frame")
        file.seek(0)
        head = file.read(HEAD_BYTES)
        if (cause := cause_of_head(head) if head else "an empty file") not in (None, CLIP_CAUSE):
            raise UnreadableImageError(f"{name}: not a clip, but {cause}") from damage
        raise UnreadableImageError(f"{name}: not a clip that can be decoded: {damage.strerror}") from damage
    if damage is not None:  # what could be decoded is judged
        logger.warning("%s: damaged or truncated: %d frames can be read: %s", name, frame_count, damage.strerror)


def _step(last_time: float | None, time: float | None) -> float:
    """Seconds from one frame to the next: 1 / 25 where the times are missing, equal, or jump back, as they do in a clip
    that was joined from several."""
    return time - last_time if last_time is not None and time is not None and time > last_time else 1 / 25


def _displayed(frame: "av.VideoFrame", pixel_aspect: float, name: str) -> Image.Image:
    """The frame as a player displays it: with square pixels, and transformed by the container's display matrix."""
    import av
    from av.sidedata.sidedata import Type

    try:
        image = _in_srgb(frame)
    except (av.FFmpegError, OSError) as error:
        raise UnreadableImageError(f"{name}: frames of the format {frame.format.name} are not read") from error
    if pixel_aspect > 1:
        image = image.resize((max(1, round(image.width * pixel_aspect)), image.height), Image.Resampling.LANCZOS)
    elif 0 < pixel_aspect < 1:
        image = image.resize((image.width, max(1, round(image.height / pixel_aspect))), Image.Resampling.LANCZOS)
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return image
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    if a * d == b * c:  # singular matrix: players ignore it
        return image
    largest = max(map(abs, (a, b, c, d))) or 1
    corners = tuple(round(value / largest) for value in (a, b, c, d))
    if corners in TURNS:
        turn = TURNS[corners]
        return image if turn is None else image.transpose(turn)
    return image.rotate(frame.rotation, expand=True)  # no camera writes such an angle


def _in_srgb(frame: "av.VideoFrame") -> Image.Image:
    """The frame in RGB; one of a high dynamic range, as phones film, in that of a screen."""
    import av
    from av.video.reformatter import ColorPrimaries, ColorTrc

    if frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67):
        with contextlib.suppress(av.FFmpegError, OSError):  # its primaries may be none that are known
            return frame.to_image(dst_color_trc=ColorTrc.IEC61966_2_1, dst_color_primaries=ColorPrimaries.BT709)
    return frame.to_image()


def _animation(file: BufferedIOBase, on_decoded: Callable[[int], None]) -> Iterator[tuple] | None:
    """The frames of an animated WebP, PNG, AVIF or GIF; None for other files."""
    try:
        image = Image.open(file, formats=[name for name in ANIMATED if name in FORMATS])
        if getattr(image, "n_frames", 1) < 2 or image.width * image.height > MAX_PIXELS:
            return None
    except Exception:  # `load_image` reports the error
        return None
    return _animated(image, name_of(getattr(file, "name", None), "the animation"), on_decoded)


def _animated(image: Image.Image, name: str, on_decoded: Callable[[int], None]) -> Iterator[tuple]:
    seconds, frame_count = 0.0, 0
    try:
        for number, frame in enumerate(ImageSequence.Iterator(image)):
            if number == 0 and getattr(image, "default_image", False):
                continue  # of a PNG: for programs that show no animations
            on_decoded(frame.width * frame.height)
            frame.load()
            still = frame.copy()
            yield seconds, lambda still=still: load_image(still, name)
            frame_count += 1
            seconds += (frame.info.get("duration") or 100) / 1000  # browsers use 100 ms if there is no duration
    except UnreadableImageError:  # raised by `on_decoded`; must not be treated as the ValueError that it is
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if not frame_count:
            raise UnreadableImageError(f"{name}: damaged or incomplete: {error}") from error
        logger.warning("%s: ends after %d frames: %s", name, frame_count, error)
