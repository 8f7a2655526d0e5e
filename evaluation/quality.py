"""The minimum image quality of a face, calibrated on the people the similarity threshold is calibrated on.

The network confuses strangers whose eyes are covered or whose pictures are blurred. For each measure in
`pipeline_facelivenet.QUALITY` the minimum is the value that all but a small share of ordinary photographs reach. For
each in QUALITY_MOST the maximum is the value that all but a small share stay below, times HEADROOM. So the share of
genuine users' photographs that the bounds refuse is known. `command` calls `calibrate_quality`.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from PIL import Image

from image_processing_facelivenet import visibility
from pipeline_facelivenet import QUALITY, QUALITY_MOST, unusable_reason

COLUMNS = ("image", "box", "crop", "landmarks", "detection_probability")
MARGIN = 44 / 138  # of the box, by which the preparation enlarges it
SHARE = 0.005  # of ordinary photographs that each measure may refuse
# Factors of the maxima: a good camera's pictures are sharper than a corpus's; specks are sharper than both.
HEADROOM = {"sharpness": 1.9, "eyes": 1.25, "mouth": 1.25}


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


def measure(corpora: Sequence[Dataset]) -> dict[str, np.ndarray]:
    """QUALITY's measures of prepared corpora's faces: (n,) each, of those whose landmarks lie in their crops."""
    measured: dict[str, list[float]] = {name: [] for name in QUALITY}
    columns = (corpus.select_columns([name for name in COLUMNS if name in corpus.column_names]) for corpus in corpora)
    for row in itertools.chain.from_iterable(columns):
        if (crop := face_of(row)) is None:
            continue
        face, landmarks = crop
        visible = visibility(np.asarray(face), landmarks)
        for name in ("sharpness", "eyes", "mouth"):
            measured[name].append(getattr(visible, name))
        measured["detection_probability"].append(row["detection_probability"])
    return {name: np.array(values) for name, values in measured.items()}


def calibrate_quality(corpora: Sequence[Dataset], share: float = SHARE) -> tuple[dict[str, float] | None, dict | None]:
    """The config's `quality`, and how many of these faces it refuses, for the record; None if no face has landmarks."""
    measured = measure(corpora)
    faces = len(measured["sharpness"])
    if not faces:
        return None, None
    bounds = {name: float(np.quantile(values, share)) for name, values in measured.items()}
    bounds |= {f"most_{name}": HEADROOM[name] * float(np.quantile(measured[name], 1 - share)) for name in QUALITY_MOST}
    rows = (dict(zip(measured, values, strict=True)) for values in zip(*measured.values(), strict=True))
    refused = sum(unusable_reason({"roll": 0.0} | row, bounds) is not None for row in rows)
    return bounds, {"share": share, "refused": refused, "photographs": faces}
