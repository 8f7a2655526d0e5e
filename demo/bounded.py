"""Reads uploaded photographs and clips, with limits on their pixels and frames.

The frames of a clip are counted before any of them is decoded. `live` and `offline` call these functions. The limits on
uploaded bytes are in `uploads` and `gate`.
"""

from collections.abc import Callable
from pathlib import Path
from threading import Event
from time import monotonic

import av
from PIL import Image

from authentication.video import open_clip
from demo.priorities import LiveFrames
from image_processing_facelivenet import UnreadableImageError, load_image

MAX_PHOTOGRAPH_PIXELS = 13_000_000  # most phones take 4032 x 3024
MAX_FRAME_PIXELS = 3840 * 2160  # of each frame of a clip
MAX_CLIP_PIXELS = 4_000_000_000  # of all frames: 64 seconds of 1920 x 1080 at 30 frames a second, or 16 of 4K
MAX_CLIP_FRAMES = 4000


def photograph_reader(has_left: Event, live_frames: LiveFrames) -> Callable[[Path], Image.Image]:
    """`load_image` for uploaded photographs, with a limit on their pixels.

    Args:
        has_left: set when the visitor has left; from then on every photograph raises UnreadableImageError.
        live_frames: of live attempts, which have priority.
    """

    end_of_last = None

    def read(path: Path) -> Image.Image:
        nonlocal end_of_last
        _check(path, has_left)
        if end_of_last is not None:  # not before the first photograph: its visitor waits in front of the camera, too
            live_frames.let_pass(monotonic() - end_of_last)
        end_of_last = monotonic()
        return load_image(path, max_pixels=MAX_PHOTOGRAPH_PIXELS)

    return read


def check_clip(path: Path) -> None:
    """Count the frames of a clip without decoding any.

    Raises:
        UnreadableImageError: the clip is too long or too large.
    """
    try:
        with path.open("rb") as file, open_clip(file) as container:
            stream = container.streams.best("video")
            if stream is None or stream.codec_context is None:
                return  # the reader reports the error
            pixels = stream.codec_context.width * stream.codec_context.height
            frames = 0
            for packet in container.demux(stream):
                frames += packet.size > 0
                if pixels > MAX_FRAME_PIXELS or frames > MAX_CLIP_FRAMES or frames * pixels > MAX_CLIP_PIXELS:
                    raise UnreadableImageError(f"{path}: too long or too large a clip; a few seconds are enough")
    except (av.FFmpegError, OSError):
        return  # a truncated clip is judged up to its end, or refused by the reader


def clip_budget(path: Path, has_left: Event, live_frames: LiveFrames) -> Callable[[int], None]:
    """A function to call with the number of pixels of every decoded frame, as the header of a clip may be wrong.

    The function raises UnreadableImageError above the limits, or when the visitor has left.

    Args:
        has_left, live_frames: see `photograph_reader`.
    """
    decoded_pixels, end_of_last = 0, monotonic()

    def count(pixels: int) -> None:
        nonlocal decoded_pixels, end_of_last
        _check(path, has_left)
        live_frames.let_pass(monotonic() - end_of_last)
        end_of_last = monotonic()
        decoded_pixels += pixels
        if pixels > MAX_FRAME_PIXELS or decoded_pixels > MAX_CLIP_PIXELS:
            raise UnreadableImageError(f"{path}: too long or too large a clip; a few seconds are enough")

    return count


def _check(path: Path, has_left: Event) -> None:
    if has_left.is_set():
        raise UnreadableImageError(f"{path}: the visitor has left")
