"""Calibrates the quality gate: bounds on measures of a face, outside which the face is refused.

The network confuses strangers whose eyes are covered or whose images are blurred. Each bound of
`pipeline_facelivenet.QUALITY` is chosen so that it refuses a small, known share of ordinary photographs. They are those
of the people on whom the similarity threshold is calibrated. `command` calls `calibrate_quality`;
`protocols.degradations` measures whether the gate works. Read `pipeline_facelivenet.unusable_reason` next.
"""

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset
from PIL import Image

from checkpoints import Checkpoint
from evaluation.embeddings.compute import BATCH_SIZE
from image_processing_facelivenet import LANDMARK_TEMPLATE, crop_measures, nose_offset
from pipeline_facelivenet import QUALITY, cover_evidence, unusable_reason

COLUMNS = ["image", "crop", "landmarks", "detection_probability"]
REFUSED_SHARE = 0.005  # share of ordinary photographs that each bound may refuse


def face_and_landmarks(row: dict) -> tuple[Image.Image, np.ndarray] | None:
    """The RGB face crop of a corpus's row, and its landmarks (5, 2) in pixels of the crop; None without landmarks."""
    if row["landmarks"] is None:
        return None
    face = row["image"].convert("RGB")
    if row["crop"] is None:  # aligned by the landmarks
        return face, LANDMARK_TEMPLATE * face.width
    left, top, right, bottom = row["crop"]
    return face, (np.array(row["landmarks"]) - [left, top]) * face.width / [right - left, bottom - top]


@torch.inference_mode()
def measure_faces(
    checkpoint: Checkpoint,
    faces: Sequence[tuple[Image.Image, np.ndarray]],
    probabilities: Sequence[float],
    batch_size: int = BATCH_SIZE,
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Run a checkpoint on face crops: embeddings (n, d), and for each face the measures that `unusable_reason` takes.

    Args:
        faces: crops, each with its landmarks (5, 2) in pixels of the crop. Crops are upright: their "roll" is 0.
        probabilities: the detector's, one for each face.
    """
    embeddings, cover_logits = [], []
    for start in range(0, len(faces), batch_size):
        crops = [face for face, _ in faces[start : start + batch_size]]
        pixels = checkpoint.processor(crops, detect=False)["pixel_values"].to(checkpoint.network.device)
        output = checkpoint.network(pixels)
        embeddings.append(output.embedding.float().cpu().numpy())
        cover_logits += cover_evidence(output.cover_logits, len(crops))
    return np.concatenate(embeddings), [
        {
            "roll": 0.0,
            "aside": abs(nose_offset(landmarks)),
            "detection_probability": probability,
        }
        | crop_measures(np.asarray(face))
        | face_covers
        for (face, landmarks), probability, face_covers in zip(faces, probabilities, cover_logits, strict=True)
    ]


def calibrate_quality(
    checkpoint: Checkpoint, corpora: Sequence[Dataset]
) -> tuple[dict[str, float] | None, dict | None]:
    """The config's `quality`, and a record of how many of these faces it refuses; None if no face can be measured."""
    rows = [
        (face, row["detection_probability"])
        for corpus in corpora
        for row in corpus.select_columns(COLUMNS)
        if (face := face_and_landmarks(row)) is not None
    ]
    if not rows:
        return None, None
    _, measures = measure_faces(checkpoint, *zip(*rows, strict=True))
    bounds = {}
    for bound in QUALITY:
        bound_kind, _, measure = bound.partition("_")
        if measure in measures[0]:
            values = [evidence[measure] for evidence in measures]
            share = REFUSED_SHARE if bound_kind == "least" else 1 - REFUSED_SHARE
            bounds[bound] = float(np.quantile(values, share))
    refused = sum(unusable_reason(evidence, bounds) is not None for evidence in measures)
    return bounds, {"share": REFUSED_SHARE, "refused": refused, "photographs": len(rows)}
