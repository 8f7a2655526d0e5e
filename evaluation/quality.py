"""The image quality that a face needs, calibrated on the people the similarity threshold is calibrated on.

The network confuses strangers whose eyes are covered or whose pictures are blurred. Each bound of
`pipeline_facelivenet.QUALITY` is the value that all but a small share of ordinary photographs keep, so the share of
genuine users' photographs that it refuses is known. `command` calls `calibrate_quality`; `protocols.degradations`
measures whether the gate works.
"""

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset
from PIL import Image

from checkpoints import Checkpoint
from evaluation.embeddings.compute import BATCH_SIZE
from image_processing_facelivenet import aside_of, sharpness
from pipeline_facelivenet import QUALITY, cover_evidence, unusable_reason

COLUMNS = ("image", "box", "crop", "landmarks", "detection_probability")
MARGIN = 44 / 138  # of the box, by which the preparation enlarges it
SHARE = 0.005  # of ordinary photographs that each bound may refuse
# of the largest sharpness: a good camera's pictures are nearly twice as sharp as those of a corpus; specks are sharper
SHARPNESS_HEADROOM = 1.9


def face_of(row: dict) -> tuple[Image.Image, np.ndarray] | None:
    """The face crop of a corpus's row, RGB, and its landmarks (5, 2) in the crop's pixels; None without landmarks."""
    if row["landmarks"] is None:
        return None
    face, box = row["image"].convert("RGB"), np.array(row["box"])
    crop = row.get("crop")
    if crop is None:  # a corpus of an earlier version: the box with the margin of the paper
        grown = np.tile((box[2:] - box[:2]) * MARGIN / 2, 2) * [-1, -1, 1, 1]
        crop = np.maximum(box + grown, 0)
    left, top, right, bottom = crop
    return face, (np.array(row["landmarks"]) - [left, top]) * face.width / [right - left, bottom - top]


@torch.inference_mode()
def measures_of(
    checkpoint: Checkpoint,
    faces: Sequence[tuple[Image.Image, np.ndarray]],
    probabilities: Sequence[float],
    batch_size: int = BATCH_SIZE,
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """What a checkpoint says of face crops: embeddings (n, d), and n times the evidence of `unusable_reason`.

    Args:
        faces: each a crop and its landmarks (5, 2) in pixels of it. Crops are upright: their "roll" is 0.
        probabilities: of the detector, one for each face.
    """
    embeddings, covers = [], []
    for start in range(0, len(faces), batch_size):
        crops = [face for face, _ in faces[start : start + batch_size]]
        pixels = checkpoint.processor(crops, detect=False)["pixel_values"].to(checkpoint.network.device)
        output = checkpoint.network(pixels)
        embeddings.append(output.embedding.float().cpu().numpy())
        covers += cover_evidence(output.cover_logits, len(crops))
    return np.concatenate(embeddings), [
        {
            "roll": 0.0,
            "aside": aside_of(landmarks),
            "sharpness": sharpness(np.asarray(face)),
            "detection_probability": probability,
        }
        | covered
        for (face, landmarks), probability, covered in zip(faces, probabilities, covers, strict=True)
    ]


def calibrate_quality(
    checkpoint: Checkpoint, corpora: Sequence[Dataset], share: float = SHARE
) -> tuple[dict[str, float] | None, dict | None]:
    """The config's `quality`, and for the record how many of these faces it refuses; None if none can be measured."""
    rows = [
        (found, row["detection_probability"])
        for corpus in corpora
        for row in corpus.select_columns([name for name in COLUMNS if name in corpus.column_names])
        if (found := face_of(row)) is not None
    ]
    if not rows:
        return None, None
    _, measured = measures_of(checkpoint, *zip(*rows, strict=True))
    bounds = {}
    for bound in QUALITY:
        kind, _, measure = bound.partition("_")
        if measure in measured[0]:
            values = [evidence[measure] for evidence in measured]
            bounds[bound] = float(np.quantile(values, share if kind == "least" else 1 - share))
    bounds["most_sharpness"] *= SHARPNESS_HEADROOM
    refused = sum(unusable_reason(evidence, bounds) is not None for evidence in measured)
    return bounds, {"share": share, "refused": refused, "photographs": len(rows)}
