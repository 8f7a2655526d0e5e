"""Measures how ONNX Runtime, and tracking instead of detection, change boxes, similarities and decisions.

ONNX Runtime is compared with PyTorch and facenet-pytorch's detector on all frames. Tracking is compared with detection
on the tracked frames. Detection itself moves its box when the image is shifted by one pixel, and decisions close to a
threshold change with it. This is measured on the same frames as a lower limit for tracking. `inference` calls
`agreement`.
"""

from dataclasses import replace

import numpy as np
from PIL import Image

from authentication.authenticator import Authenticator, Evidence
from authentication.template import Template
from authentication.tracking import FaceTracker, overlap
from benchmarks.report import table

Pair = tuple[Evidence | None, Evidence | None]


def agreement(
    authenticator: Authenticator, plain_authenticator: Authenticator, template: Template, frames: list[Image.Image]
) -> list[dict]:
    """Compare detection with that of `plain_authenticator`, with tracking, and with detection in shifted frames.

    "decided_alike" counts the frames whose decisions have the same reason for neutral and for every challenge.
    """
    tracker = FaceTracker(authenticator.processor)
    pairs = [(authenticator.evidence(frame), authenticator.evidence(frame, tracker)) for frame in frames]
    # a tracker that detects has the same box, so frames whose boxes differ were tracked
    tracked = [number for number, (detection, tracking) in enumerate(pairs) if not _same_box(detection, tracking)]
    in_pytorch = [
        (detection, plain_authenticator.evidence(frame)) for (detection, _), frame in zip(pairs, frames, strict=True)
    ]
    shifted = [(pairs[number][0], _shifted_evidence(authenticator, frames[number])) for number in tracked]
    return [
        {"faces": name} | _comparison(authenticator, template, compared)
        for name, compared in (
            ("detected by PyTorch", in_pytorch),
            ("tracked", [pairs[number] for number in tracked]),
            ("detected in a frame shifted by a pixel", shifted),
        )
    ]


def agreement_table(rows: list[dict]) -> str:
    def cells(row: dict) -> tuple[str, ...]:
        numbers = (row[name] for name in ("overlap_median", "overlap_lowest", "similarity_difference_median"))
        return (
            row["faces"],
            f"{row['decided_alike']} of {row['frames']}",
            *("-" if number is None else f"{number:.3f}" for number in numbers),
        )

    headers = ("against detection", "same decision", "IoU, median", "lowest", "difference of similarity, median")
    return table(headers, [cells(row) for row in rows])


def _same_box(first: Evidence | None, second: Evidence | None) -> bool:
    if first is None or second is None:
        return first is second
    return np.array_equal(first.box, second.box)


def _shifted_evidence(authenticator: Authenticator, frame: Image.Image) -> Evidence | None:
    moved = frame.transform(frame.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 1))  # by one pixel to the left and up
    evidence = authenticator.evidence(moved)
    return evidence and replace(evidence, box=evidence.box + 1)


def _comparison(authenticator: Authenticator, template: Template, pairs: list[Pair]) -> dict:
    def reasons(evidence: Evidence | None) -> list[str]:
        return [
            authenticator.decide(template, evidence, name).reason for name in ("neutral", *authenticator.challenges)
        ]

    def similarity(evidence: Evidence) -> float:
        return template.similarity(evidence.embedding)

    both_found = [(first, second) for first, second in pairs if first and second]
    overlaps = [overlap(first.box, second.box) for first, second in both_found]
    differences = [abs(similarity(first) - similarity(second)) for first, second in both_found]
    return {
        "frames": len(pairs),
        "decided_alike": sum(reasons(first) == reasons(second) for first, second in pairs),
        "overlap_median": float(np.median(overlaps)) if both_found else None,
        "overlap_lowest": min(overlaps, default=None),
        "similarity_difference_median": float(np.median(differences)) if both_found else None,
    }
