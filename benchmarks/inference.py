"""From a camera frame of 640 x 480 to a decision, compared with the usual combination of packages: frames/s.

The usual combination is facenet-pytorch as in its README: MTCNN with default settings on the full frame,
InceptionResnetV1 on the face, and a second network (timm's ResNet-18) on the same face for the expression. All sides
get the same frames, one at a time, as from a live stream. The weights of the usual combination are random, which does
not change the time.

The table of `agreement` shows how ONNX Runtime and tracking change boxes and decisions. At the end, several streams are
judged at the same time, each in its own thread and with its own tracker.
"""

import io
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from facenet_pytorch import MTCNN, InceptionResnetV1
from PIL import Image

from authentication.authenticator import Authenticator
from authentication.tracking import FaceTracker
from authentication.video import read_frames
from benchmarks.agreement import agreement, agreement_table
from benchmarks.plain import plain_authenticator
from benchmarks.report import LIVE_FRAMES, medians, synchronize, table, target_text
from face_data.drawn import drawn_photograph
from image_processing_facelivenet import crop_measures, load_image

SMALLEST_GAINS = (6.0, 10.0)  # targets: frames/s divided by those of the plain stack, without and with a tracker
WIDTH, HEIGHT = 640, 480
SIDES = ("MTCNN, InceptionResnetV1, ResNet-18", "Authenticator.judge", "the same, with a tracker")
STREAMS = (1, 2, 4, 8)


def drawn_frames(count: int) -> list[Image.Image]:
    """Frames of a drawn person who sometimes smiles, and moves a little from frame to frame."""
    faces = [drawn_photograph(1, name, 0, seed=0).resize((360, 360)) for name in ("neutral", "happy")]
    frames = []
    for number in range(count):
        frame = Image.new("RGB", (WIDTH, HEIGHT), (96, 104, 112))
        sway = np.sin(number / 5)
        frame.paste(faces[number // 8 % 2], (round(140 + 30 * sway), round(60 + 15 * sway)))
        frames.append(frame)
    return frames


def clip_frames(path: Path, count: int) -> list[Image.Image]:
    """The first frames of a clip, scaled down to fit into 640 x 480."""
    frames = []
    for _, frame in read_frames(path, rate=math.inf):
        frame.thumbnail((WIDTH, HEIGHT))
        frames.append(frame)
        if len(frames) == count:
            break
    return frames


class PlainStack:
    """The usual implementation: three published networks, one after the other."""

    def __init__(self, device: str):
        self.device = device
        self.detector = MTCNN(device=device)
        self.identity = InceptionResnetV1().to(device).eval()
        self.expression = timm.create_model("resnet18", num_classes=7).to(device).eval()

    @torch.no_grad()
    def __call__(self, frame: Image.Image) -> tuple[torch.Tensor, torch.Tensor] | None:
        face = self.detector(frame)
        if face is None:
            return None
        batch = face.unsqueeze(0).to(self.device)
        return self.identity(batch).cpu(), self.expression(batch).softmax(1).cpu()


def run(arguments) -> dict:
    for name in ("frames", "repeats"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name}: at least 1, not {getattr(arguments, name)}")
    clip = arguments.clip
    frames = clip_frames(clip, arguments.frames) if clip else drawn_frames(arguments.frames)
    authenticator = Authenticator.from_pretrained(arguments.model, arguments.device)
    plain_stack = PlainStack(arguments.device)
    face_frame = next((frame for frame in frames if len(authenticator.processor.detect(frame)) == 1), None)
    if face_frame is None:
        raise ValueError("no frame shows exactly one face")
    template = authenticator.template([face_frame])

    judge = partial(authenticator.judge, template, required_expression="neutral")
    sides = {  # each value makes a function that judges the frames of one stream
        SIDES[0]: lambda: plain_stack,
        SIDES[1]: lambda: judge,
        SIDES[2]: lambda: partial(judge, tracker=FaceTracker(authenticator.processor)),
    }
    faces_found = {SIDES[0]: sum(plain_stack(frame) is not None for frame in frames)}
    for name in SIDES[1:]:
        side = sides[name]()
        faces_found[name] = sum(side(frame).similarity is not None for frame in frames)
    # the first frames, which take longer, are judged by now
    rates = medians(
        {name: lambda side=side: _pace([side], frames, arguments.device) for name, side in sides.items()},
        arguments.repeats,
    )
    streams = medians(
        {count: lambda count=count: _pace([sides[SIDES[2]]] * count, frames, arguments.device) for count in STREAMS},
        arguments.repeats,
    )
    return {
        "weights": authenticator.revision,
        "frames": len(frames),
        "of": str(clip) if clip else "a drawn person",
        "rows": [
            {"side": name, "frames_per_second": pace, "ratio": pace / rates[SIDES[0]], "faces_found": faces_found[name]}
            for name, pace in rates.items()
        ],
        "milliseconds_per_frame": _costs(authenticator, face_frame, arguments),
        "agreement": agreement(authenticator, plain_authenticator(arguments.model, arguments.device), template, frames),
        "streams": [{"streams": count, "frames_per_second": pace} for count, pace in streams.items()],
    }


def _pace(sides: list[Callable], frames: list[Image.Image], device: str) -> float:
    """Frames per second of all streams together. Each stream judges all frames in its own thread."""

    def judge_all(side: Callable) -> None:
        judge = side()
        for frame in frames:
            judge(frame)

    start = time.perf_counter()
    if len(sides) == 1:
        judge_all(sides[0])
    else:
        with ThreadPoolExecutor(len(sides)) as threads:
            list(threads.map(judge_all, sides))
    synchronize(device)
    return len(sides) * len(frames) / (time.perf_counter() - start)


def _costs(authenticator: Authenticator, image: Image.Image, arguments) -> dict[str, float]:
    """Time of each step of the authenticator for a frame, in milliseconds."""
    processor = authenticator.processor
    face = processor.detect(image)[0]
    pixels = processor([image])["pixel_values"].to(arguments.device)
    tracker = FaceTracker(processor, detection_interval=10**9)
    tracker.find(image)  # this call detects; later calls track

    @torch.inference_mode()
    def network() -> None:
        authenticator.model(pixels)

    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)  # as a browser sends it
    crop = processor.align(image, face)
    steps = {
        "decode": lambda: load_image(file.getvalue()),
        "detect": lambda: processor.detect(image),
        "follow": lambda: tracker.find(image),
        "align": lambda: processor.align(image, face),
        "quality": lambda: crop_measures(crop),
        "whiten": lambda: processor.whiten(torch.tensor(crop.copy()).permute(2, 0, 1)[None]),
        "network": network,
    }

    def milliseconds(function: Callable) -> float:
        start = time.perf_counter()
        function()
        synchronize(arguments.device)
        return 1000 * (time.perf_counter() - start)

    measure = {name: lambda function=function: milliseconds(function) for name, function in steps.items()}
    return medians(measure, max(arguments.repeats, 9))


def text(result: dict) -> str:
    rows = [
        (
            row["side"],
            f"{row['frames_per_second']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['faces_found']} of {result['frames']}",
        )
        for row in result["rows"]
    ]
    _, detected, tracked = result["rows"]
    costs = ", ".join(f"{name} {value:.1f}" for name, value in result["milliseconds_per_frame"].items())
    streams = [(str(row["streams"]), f"{row['frames_per_second']:.1f}") for row in result["streams"]]
    return "\n".join(
        [
            f"{result['frames']} frames of {result['of']}, {WIDTH} x {HEIGHT}, one at a time",
            table(("frame to decision", "frames/s", "/ plain", "faces found"), rows),
            target_text("compared with the plain stack", detected["ratio"], SMALLEST_GAINS[0], at_least=True),
            target_text("the same, with a tracker", tracked["ratio"], SMALLEST_GAINS[1], at_least=True),
            target_text("frames/s of one stream", tracked["frames_per_second"], LIVE_FRAMES, at_least=True),
            f"milliseconds of a frame: {costs}",
            "",
            agreement_table(result["agreement"]),
            "",
            table(("streams", "frames/s in all"), streams),
        ]
    )
