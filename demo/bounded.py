"""Reads uploaded photographs and clips within limits on their pixels and frames.

A clip's frames are counted before any is decoded. Called by the handlers of `live` and `offline`; the limits on the
uploaded bytes are in `uploads` and `gate`.
"""

from collections.abc import Callable
from pathlib import Path
from threading import Event
from time import monotonic

import av
from PIL import Image

from demo.priorities import LiveFrames
from image_processing_facelivenet import UnreadableImageError, load_image

MOST_PHOTOGRAPH_PIXELS = 13_000_000  # 4032 x 3024 is what most phones give
MOST_FRAME_PIXELS = 3840 * 2160  # of a clip
MOST_CLIP_PIXELS = 4_000_000_000  # of all its frames together: 64 seconds of 1920 x 1080 at 30 a second, 16 of 4K
MOST_CLIP_FRAMES = 4000


def photograph_reader(left: Event, frames: LiveFrames) -> Callable[[Path], Image.Image]:
    """`load_image` for uploaded photographs, with a limit on their pixels.

    Args:
        left: set when the visitor has left; from then on every photograph raises UnreadableImageError.
        frames: those of live attempts, which go first.
    """

    last = None

    def read(path: Path) -> Image.Image:
        nonlocal last
        _check(path, left)
        if last is not None:  # who gives one photograph waits before the camera too
            frames.let_pass(monotonic() - last)
        last = monotonic()
        return load_image(path, max_pixels=MOST_PHOTOGRAPH_PIXELS)

    return read


def check_clip(path: Path) -> None:
    """Count the frames of a clip without decoding any.

    Raises:
        UnreadableImageError: it would be too much work, or is no clip.
    """
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if stream is None or stream.codec_context is None:
                return  # the reader says what is wrong with it
            pixels = stream.codec_context.width * stream.codec_context.height
            frames = 0
            for packet in container.demux(stream):
                frames += packet.size > 0
                if pixels > MOST_FRAME_PIXELS or frames > MOST_CLIP_FRAMES or frames * pixels > MOST_CLIP_PIXELS:
                    raise UnreadableImageError(f"{path}: too long or too large a clip; a few seconds are enough")
    except av.FFmpegError:
        return  # broken off: judged as far as it goes, or refused by the reader


def clip_budget(path: Path, left: Event, frames: LiveFrames) -> Callable[[int], None]:
    """A function to call with the pixels of every decoded frame, which may be more than the clip's header says.

    It raises UnreadableImageError over the limits, or when the visitor has left.

    Args:
        left, frames: see `photograph_reader`.
    """
    spent, last = 0, monotonic()

    def count(pixels: int) -> None:
        nonlocal spent, last
        _check(path, left)
        frames.let_pass(monotonic() - last)
        last = monotonic()
        spent += pixels
        if pixels > MOST_FRAME_PIXELS or spent > MOST_CLIP_PIXELS:
            raise UnreadableImageError(f"{path}: too long or too large a clip; a few seconds are enough")

    return count


def _check(path: Path, left: Event) -> None:
    if left.is_set():
        raise UnreadableImageError(f"{path}: the visitor has left")
