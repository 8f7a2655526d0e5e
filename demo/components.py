"""Gradio's components without their decoding: pictures are read by the image processor, with its limits and errors.

Classes and no patched instances, because Gradio makes components anew whenever an event changes them. What a client
sends as the path of its upload may be any path; only one within the folder of uploads is opened.
"""

import base64
import binascii
from pathlib import Path

import gradio as gr
from gradio import processing_utils
from gradio.data_classes import ImageData
from gradio.utils import get_upload_folder

from demo import words

MOST_FRAME_BYTES = 3_000_000  # of one frame as the browser encodes it; 1280 x 720 takes 300,000


class UploadedImage(gr.Image):
    """Hands on the path of an uploaded file, whatever is in it."""

    is_template = True  # Gradio draws it as what it is derived from

    def preprocess(self, payload) -> str | None:
        return uploaded(payload.path) if payload else None


class UploadedPhotographs(gr.Gallery):
    """Hands on the paths of uploaded files, whatever is in them."""

    is_template = True

    def preprocess(self, payload) -> list[str]:
        images = [getattr(element, "image", None) for element in payload.root] if payload else []
        return [uploaded(image.path if image else None) for image in images]


class UploadedClip(gr.Video):
    """Hands on the path of an uploaded file, whatever is in it."""

    is_template = True

    def preprocess(self, payload) -> str | None:
        return uploaded(payload.path) if payload else None


class Frame(ImageData):
    """Gradio remembers the last value of every component for long after its page was closed: of a frame, nothing."""

    def model_dump(self, **_) -> dict:
        return {}


class CameraFrames(gr.Image):
    """Hands on the bytes of a frame."""

    is_template = True
    data_model = Frame

    def preprocess(self, payload) -> bytes | None:
        return decode_frame(payload.url or "") if payload else None


def refuse_downloads() -> None:
    """From now on Gradio fetches nothing for a client.

    It takes a file's path for a URL where it looks like one, in a value for any component, and fetches it into the
    folder of uploads, however large it is, before the component's `preprocess` is asked.
    """
    processing_utils.async_ssrf_protected_download = _refuse_download


async def _refuse_download(url: str, cache_dir: str) -> str:
    """With the arguments of Gradio's own."""
    raise gr.Error(words.NOT_UPLOADED, print_exception=False)


def uploaded(path: str | None) -> str:
    """A path within the folder of uploads.

    Raises:
        gr.Error: it is none, or does not lie there.
    """
    if not path or not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise gr.Error(words.NOT_UPLOADED, print_exception=False)
    return path


def decode_frame(url: str) -> bytes:
    """The bytes of the picture in a browser's data URL, still encoded.

    What is too large, or no data URL, gives no bytes: a frame that cannot be read.
    """
    head, _, data = url.partition(",")
    if not head.startswith("data:image/") or len(data) > MOST_FRAME_BYTES * 4 // 3:
        return b""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return b""
