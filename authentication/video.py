"""Frames of a probe: a photograph is one frame, a clip is sampled four times a second through PyAV."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import av
from PIL import Image

from image_processing_facelivenet import MAX_PIXELS, UnreadableImageError, load_image

FRAMES_PER_SECOND = 4
MAX_SECONDS = 60  # of a clip; what comes later is not looked at
CLIP_SUFFIXES = {".mp4", ".m4v", ".webm", ".mov", ".avi", ".mkv", ".gif"}

logger = logging.getLogger(__name__)


def is_clip(path: Path) -> bool:
    """Whether a file is a video clip, by its suffix or, where that says nothing, by its first bytes."""
    if path.suffix.lower() in CLIP_SUFFIXES:
        return True
    with open(path, "rb") as file:
        head = file.read(16)
    kind, brand = head[4:8], head[8:12]
    mp4 = kind == b"ftyp" and brand not in (b"heic", b"heix", b"mif1", b"avif", b"avis")  # those are photographs
    avi = head[:4] == b"RIFF" and brand == b"AVI "
    matroska_or_gif = head[:4] in (b"\x1aE\xdf\xa3", b"GIF8")
    return mp4 or avi or matroska_or_gif


def read_frames(
    path: str | Path, rate: float = FRAMES_PER_SECOND, on_decoded: Callable[[int], None] = lambda pixels: None
) -> Iterator[tuple[float | None, Image.Image]]:
    """The frames to judge: (seconds from the clip's start, upright RGB picture); seconds is None for a photograph.

    At most `rate` frames a second are given; infinity gives all there are.

    Args:
        on_decoded: called with the pixels of every frame of a clip, given or not; what it raises ends the reading.

    Raises:
        UnreadableImageError: not a photograph or clip that can be decoded; the message names the file and the cause.
    """
    path = Path(path)
    if not path.is_file() or not is_clip(path):
        yield None, load_image(path)
        return
    seen = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UnreadableImageError(f"{path}: holds no video")
            codec = container.streams.video[0].codec_context
            if codec is None:
                raise UnreadableImageError(f"{path}: its codec is not known")
            if codec.width * codec.height > MAX_PIXELS:
                raise UnreadableImageError(f"{path}: frames of {codec.width}x{codec.height} are too large")
            codec.options = {"max_pixels": str(MAX_PIXELS)}  # for frames that are larger than the header says
            start, due = None, 0.0
            for index, frame in enumerate(container.decode(video=0)):
                on_decoded(frame.width * frame.height)
                time = frame.time if frame.time is not None else index / 25
                start = time if start is None else start
                seconds = time - start
                if seconds > MAX_SECONDS:
                    logger.warning("%s: only its first %d seconds are judged", path, MAX_SECONDS)
                    break
                if seconds >= due:
                    due = seconds + 1 / rate
                    seen += 1
                    # the container's display matrix: phones store an upright clip as a turned one
                    image = frame.to_image()
                    yield seconds, image.rotate(frame.rotation, expand=True) if frame.rotation else image
    except av.FFmpegError as error:
        if not seen:  # a clip that breaks off is judged as far as it goes
            raise UnreadableImageError(f"{path}: not a clip that can be decoded: {error.strerror}") from error
        logger.warning("%s: breaks off after %d sampled frames: %s", path, seen, error.strerror)
        return
    if not seen:
        raise UnreadableImageError(f"{path}: the clip holds no frame")
