"""From photographs to files of aligned faces, compared with facenet-pytorch's MTCNN in a loop: photographs/s and core.

Time is processor time, which other load on the machine changes little. The loop uses the settings of this project's
detector: it opens each photograph, and MTCNN crops and saves the first face. Both detectors are also compared on the
photographs, on drawn faces and on images without a face, because they must find the same faces.
"""

import io
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from facenet_pytorch import MTCNN
from PIL import Image
from threadpoolctl import threadpool_limits

from benchmarks.plain import plain_processor
from benchmarks.report import medians, table, target_text
from face_data import prepare as face_data_prepare
from face_data.drawn import drawn_photograph
from face_data.readers import READERS, Photograph
from image_processing_facelivenet import Face, FaceLiveNetImageProcessor, load_image

SMALLEST_GAIN = 3.0  # target: photographs/s over the plain loop's
LARGEST_DIFFERENCE = 0.1  # target: of any box or landmark, in pixels
SIDES = ("MTCNN in a loop", "face_data prepare")
DRAWN, EMPTY = 24, 24


def run(arguments) -> dict:
    for name in ("photographs", "repeats"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name}: at least 1, not {getattr(arguments, name)}")
    if arguments.device != "cpu":
        raise ValueError("prepare: the detector runs on the CPU; use --device cpu")
    readable = (photograph for photograph in READERS[arguments.layout](*arguments.source) if not photograph.refused)
    shard = tuple(itertools.islice(readable, arguments.photographs))
    if not shard:
        raise ValueError(f"{arguments.source[0]}: no photographs found")
    processor = FaceLiveNetImageProcessor()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        face_data_prepare._processor = processor
        with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
            sides = {SIDES[0]: lambda: _plain_loop(shard, processor, folder), SIDES[1]: lambda: _ours(shard, folder)}
            _ours(shard[:8], folder)  # the first exports the networks
            seconds = medians(sides, arguments.repeats)
        return {
            "layout": arguments.layout,
            "photographs": len(shard),
            "rows": [
                {"side": side, "photographs_per_second": len(shard) / value, "ratio": seconds[SIDES[0]] / value}
                for side, value in seconds.items()
            ],
            "agreement": _agreement(shard, processor),
        }
    finally:
        torch.set_num_threads(threads)


def _plain_loop(shard: tuple[Photograph, ...], processor: FaceLiveNetImageProcessor, folder: str) -> float:
    """Processor time in seconds."""
    size = processor.size
    detector = MTCNN(
        image_size=size,
        margin=44,
        min_face_size=processor.min_face_size,
        thresholds=processor.thresholds,
        factor=processor.factor,
        post_process=False,
    )
    start = time.process_time()
    for number, photograph in enumerate(shard):
        detector(_opened(photograph), save_path=str(Path(folder) / f"{number}.jpg"))
    return time.process_time() - start


def _opened(photograph: Photograph) -> Image.Image:
    source = photograph.image
    if callable(source):
        return source()
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source).convert("RGB")


def _ours(shard: tuple[Photograph, ...], folder: str) -> float:
    """Processor time in seconds."""
    start = time.process_time()
    face_data_prepare._prepare_shard(shard, Path(folder) / "part", None, "benchmark", sorted(shard[0].attributes))
    return time.process_time() - start


def _agreement(shard: tuple[Photograph, ...], processor: FaceLiveNetImageProcessor) -> list[dict]:
    """Compare the detectors of this project and of facenet-pytorch on the same images."""
    noise = np.random.default_rng(0)
    kinds = {
        "photographs": (
            photograph.image() if callable(photograph.image) else load_image(photograph.image, photograph.key)
            for photograph in shard
        ),
        "drawn faces": (drawn_photograph(1 + number, "neutral", 0, seed=0) for number in range(DRAWN)),
        "without a face": (
            Image.fromarray(noise.integers(0, 256, (240, 320, 3), np.uint8)).resize((80 * (1 + number % 8), 240))
            for number in range(EMPTY)
        ),
    }
    plain = plain_processor(processor)
    return [{"images": kind} | _compared(processor, plain, images) for kind, images in kinds.items()]


def _compared(ours: FaceLiveNetImageProcessor, plain: FaceLiveNetImageProcessor, images) -> dict:
    count, same_number, faces, largest = 0, 0, 0, 0.0
    while batch := list(itertools.islice(images, face_data_prepare.IMAGES_AT_ONCE)):
        for faces_found, expected in zip(ours.detect_batch(batch), plain.detect_batch(batch), strict=True):
            count += 1
            faces += len(expected)
            same_number += len(faces_found) == len(expected)
            if len(faces_found) == len(expected):
                pairs = zip(sorted(faces_found, key=_position), sorted(expected, key=_position), strict=True)
                largest = max([largest, *(_difference(*pair) for pair in pairs)])
    return {"count": count, "faces": faces, "alike": same_number, "largest_difference": largest}


def _position(face: Face) -> tuple:
    return tuple(face.box)


def _difference(first: Face, second: Face) -> float:
    return float(max(np.abs(first.box - second.box).max(), np.abs(first.landmarks - second.landmarks).max()))


def text(result: dict) -> str:
    rows = [(row["side"], f"{row['photographs_per_second']:.1f}", f"{row['ratio']:.2f}") for row in result["rows"]]
    agreement = [
        (row["images"], str(row["faces"]), f"{row['alike']} of {row['count']}", f"{row['largest_difference']:.4f}")
        for row in result["agreement"]
    ]
    largest = max(row["largest_difference"] for row in result["agreement"])
    headers = ("compared with facenet-pytorch", "faces", "as many faces", "largest difference, pixels")
    return "\n".join(
        [
            f"{result['photographs']} photographs of {result['layout']}, one thread",
            table(("photographs to aligned faces", "photographs/s and core", "/ plain"), rows),
            target_text("against the plain loop", result["rows"][1]["ratio"], SMALLEST_GAIN, at_least=True),
            "",
            table(headers, agreement),
            target_text("pixels of any box or landmark", largest, LARGEST_DIFFERENCE, at_least=False),
        ]
    )
