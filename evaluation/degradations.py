"""How many strangers pass where both photographs are degraded alike, with and without the quality gate.

    python -m evaluation.degradations --model pretrained --data corpora/london corpora/portraits

Each photograph of the corpora is compared with each of another person (and of the same person), both as they are and
both degraded. The gate is the config's `quality`, calibrated on other people; a pair that it refuses is not accepted.
The faces are degraded in their crops, where the detector had found them: its probability stays that of the bare
photograph, so on a camera's picture the gate refuses more than it does here.
"""

import argparse
import io
import sys
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

from checkpoints import Checkpoint, load_checkpoint
from evaluation.quality import face_of
from face_data.table import load_corpus, split_corpus
from image_processing_facelivenet import visibility
from pipeline_facelivenet import unusable_reason

MARGIN = 138 / 182  # of a crop that is the face's box


def _lines_over_eyes(face: Image.Image, landmarks: np.ndarray, colour, height: float) -> Image.Image:
    left, right = landmarks[:2]
    reach, width = (right - left) * 0.55, face.width * MARGIN
    ImageDraw.Draw(face).line([*(left - reach), *(right + reach)], fill=colour, width=round(height * width))
    return face


def _glasses(face: Image.Image, landmarks: np.ndarray) -> Image.Image:
    width, draw = face.width * MARGIN, ImageDraw.Draw(face)
    for x, y in landmarks[:2]:
        draw.ellipse([x - 0.19 * width, y - 0.13 * width, x + 0.19 * width, y + 0.15 * width], fill=(25, 20, 20))
    return face


def _mask(face: Image.Image, landmarks: np.ndarray) -> Image.Image:
    top = float(landmarks[2, 1]) - 0.02 * face.height
    low, chin = 0.8 * face.height, 0.95 * face.height
    corners = [(0.12, top), (0.88, top), (0.88, low), (0.5, chin), (0.12, low)]
    ImageDraw.Draw(face).polygon([(x * face.width, y) for x, y in corners], fill=(120, 170, 200))
    return face


def _blurred(share: float) -> Callable:
    return lambda face, _: face.filter(ImageFilter.GaussianBlur(share * face.width * MARGIN))


def _dark(face: Image.Image, _) -> Image.Image:
    pixels = np.asarray(face, np.float32) * 0.12
    pixels += np.random.default_rng(0).normal(0, 2, pixels.shape)  # the sensor's noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _small(face: Image.Image, _) -> Image.Image:
    side = round(30 / MARGIN)
    return face.resize((side, side), Image.Resampling.BILINEAR).resize(face.size, Image.Resampling.BICUBIC)


def _jpeg(face: Image.Image, _) -> Image.Image:
    file = io.BytesIO()
    face.save(file, "JPEG", quality=8)
    return Image.open(file).convert("RGB")


DEGRADATIONS: dict[str, Callable[[Image.Image, np.ndarray], Image.Image]] = {
    "bare": lambda face, _: face,
    "black bar over the eyes": lambda face, landmarks: _lines_over_eyes(face, landmarks, "black", 0.22),
    "grey bar over the eyes": lambda face, landmarks: _lines_over_eyes(face, landmarks, (150, 140, 130), 0.3),
    "dark glasses": _glasses,
    "mask": _mask,
    "blurred by 4 % of its width": _blurred(0.04),
    "blurred by 7 % of its width": _blurred(0.07),
    "dark": _dark,
    "30 pixels wide": _small,
    "JPEG of quality 8": _jpeg,
}


@torch.inference_mode()
def judge(checkpoint: Checkpoint, corpus, name: str) -> dict:
    """Pairs of degraded photographs over the threshold.

    Returns:
        "faces", "refused" (of single faces by the gate), "impostors" and "genuine" (pairs), and "false_accepts",
        "false_accepts_gated", "genuine_accepts", "genuine_accepts_gated".
    """
    config, processor, people, embeddings, usable = checkpoint.network.config, checkpoint.processor, [], [], []
    for row in corpus:
        if row["identity"] is None or (found := face_of(row)) is None:
            continue
        face, landmarks = found
        face = np.asarray(DEGRADATIONS[name](face.copy(), landmarks))
        pixels = processor([face], detect=False)["pixel_values"].to(checkpoint.network.device)
        embeddings.append(checkpoint.network(pixels).embedding[0].float().cpu().numpy())
        evidence = {"roll": 0.0, "detection_probability": row["detection_probability"]}
        evidence |= vars(visibility(face, landmarks))
        usable.append(unusable_reason(evidence, config.quality) is None)
        people.append(row["identity"])
    if len(people) < 2:
        raise ValueError("there are no two faces with an identity and landmarks: nothing can be compared")
    first, second = np.triu_indices(len(people), 1)
    matrix, usable, people = np.stack(embeddings), np.array(usable), np.array(people)
    over = (matrix[first] * matrix[second]).sum(axis=1) >= config.similarity_threshold
    same, both = people[first] == people[second], usable[first] & usable[second]
    counts = {"faces": len(people), "refused": int((~usable).sum()), "impostors": int((~same).sum())}
    counts |= {"genuine": int(same.sum())}
    counts |= {"false_accepts": int((over & ~same).sum()), "false_accepts_gated": int((over & both & ~same).sum())}
    counts |= {"genuine_accepts": int((over & same).sum())}
    return counts | {"genuine_accepts_gated": int((over & both & same).sum())}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.degradations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="folder or Hub id of a calibrated model")
    parser.add_argument("--data", nargs="+", required=True, metavar="CORPUS", help="FOLDER or FOLDER:SPLIT,SPLIT")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args(argv)
    try:
        checkpoint = load_checkpoint(arguments.model, arguments.device)
        if checkpoint.network.config.similarity_threshold is None:
            raise ValueError(f"{arguments.model} has no threshold: run `python -m evaluation calibrate` first")
        for data in arguments.data:
            corpus = load_corpus(*split_corpus(data))
            print(f"{data}: impostor pairs accepted without and with the gate, genuine pairs likewise, faces refused")
            for name in DEGRADATIONS:
                found = judge(checkpoint, corpus, name)
                print(
                    f"  {name:<28} {found['false_accepts']:>6,} {found['false_accepts_gated']:>6,} of "
                    f"{found['impostors']:,}   {found['genuine_accepts']:>5,} {found['genuine_accepts_gated']:>5,} of "
                    f"{found['genuine']:,}   {found['refused']:>4,} of {found['faces']:,}"
                )
    except (OSError, ValueError) as error:
        print(f"evaluation.degradations: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
