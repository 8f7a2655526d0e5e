"""How ONNX Runtime, and tracking a face instead of detecting it in every frame, change boxes, similarities, decisions.

The former is compared with PyTorch and facenet-pytorch's own detector, on all frames. Detection itself moves its box
when the image is shifted by one pixel, and decisions close to a threshold change with it. That
is measured on the same frames: tracking cannot be expected to be closer than this.
"""

from dataclasses import replace

import numpy as np
from PIL import Image

from authentication.authenticator import Authenticator, Evidence
from authentication.template import Template
from authentication.tracking import FaceTracker, overlap
from benchmarks.report import table

Pair = tuple[Evidence | None, Evidence | None]


def agreement(ours: Authenticator, plain: Authenticator, template: Template, frames: list[Image.Image]) -> list[dict]:
    """Detection against that of `plain`, and, on the frames that were tracked, against tracking and against detection
    shifted by a pixel.

    "decided_alike" counts the frames whose decisions have the same reason for the neutral face and every challenge.
    """
    tracker = FaceTracker(ours.processor)
    pairs = [(ours.look(frame), ours.look(frame, tracker)) for frame in frames]
    # where a tracker detects, its box is equal: frames that differ were tracked
    followed = [number for number, (one, other) in enumerate(pairs) if not _same_box(one, other)]
    in_pytorch = [(one, plain.look(frame)) for (one, _), frame in zip(pairs, frames, strict=True)]
    aside = [(pairs[number][0], _a_pixel_aside(ours, frames[number])) for number in followed]
    return [
        {"faces": name} | _comparison(ours, template, compared)
        for name, compared in (
            ("detected by PyTorch", in_pytorch),
            ("followed", [pairs[number] for number in followed]),
            ("detected a pixel aside", aside),
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

    headers = ("against detection", "decided alike", "IoU, median", "lowest", "similarity off by, median")
    return table(headers, [cells(row) for row in rows])


def _same_box(one: Evidence | None, other: Evidence | None) -> bool:
    return one is other is None or (one is not None and other is not None and np.array_equal(one.box, other.box))


def _a_pixel_aside(ours: Authenticator, frame: Image.Image) -> Evidence | None:
    moved = frame.transform(frame.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 1))  # one to the left and one up
    evidence = ours.look(moved)
    return evidence and replace(evidence, box=evidence.box + 1)


def _comparison(ours: Authenticator, template: Template, pairs: list[Pair]) -> dict:
    def reasons(evidence: Evidence | None) -> list[str]:
        return [ours.decide(template, evidence, name).reason for name in ("neutral", *ours.challenges)]

    def similarity(evidence: Evidence) -> float:
        return template.similarity(evidence.embedding)

    both = [(one, other) for one, other in pairs if one and other]
    overlaps = [overlap(one.box, other.box) for one, other in both]
    differences = [abs(similarity(one) - similarity(other)) for one, other in both]
    return {
        "frames": len(pairs),
        "decided_alike": sum(reasons(one) == reasons(other) for one, other in pairs),
        "overlap_median": float(np.median(overlaps)) if both else None,
        "overlap_lowest": min(overlaps, default=None),
        "similarity_difference_median": float(np.median(differences)) if both else None,
    }
