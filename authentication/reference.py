"""Checks reference photographs: says which can be used and how to improve them, and makes their template.

`demo.live` and `demo.offline` call `examine`. Read `template` next.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from authentication.authenticator import Authenticator, Evidence
from authentication.template import Template
from image_processing_facelivenet import UnreadableImageError, load_image, name_of, nose_offset, sharpness
from pipeline_facelivenet import REASONS, unlike_references

SMALL = 64  # pixels of the box's shorter side; the network gets 112
DARK, BRIGHT = 55, 185  # mean luminance of the face, 0 to 255
BLURRED = (
    1.9  # for `sharpness`; 1 % of 1,207 photographs of LFW are below 2.5, and 99 % below 1.7 if blurred by 2 pixels
)
TURNED = 0.3  # for the size of `nose_offset`; photographs with more than MAX_ASIDE are refused


@dataclass(frozen=True)
class Reference:
    """The check of one photograph for a template.

    face: (size, size, 3) uint8, the aligned face as the network gets it; None unless there is exactly one face.
    problem: why the photograph cannot be used: "unreadable", "no_face", "several_faces", or None.
    cause: a sentence about why the photograph is unreadable or its face cannot be judged.
    advice: what could be better: "small", "dark", "bright", "blurred", "turned", "unlike".
    """

    face: np.ndarray | None = None
    problem: str | None = None
    cause: str = ""
    advice: tuple[str, ...] = ()


def examine(
    authenticator: Authenticator, photographs: Sequence, load: Callable[..., Image.Image] = load_image
) -> tuple[Template | None, list[Reference]]:
    """The template of a person's photographs, and the check of each.

    Args:
        photographs: anything that `load` reads.

    Returns:
        The template is None if there is no photograph or if any of them cannot be used.
    """
    references, embeddings = [], []
    for photograph in photographs:
        try:
            image = load(photograph)
            evidence = authenticator.evidence(image)
        except UnreadableImageError as error:
            cause = str(error).removeprefix(f"{name_of(photograph)}: ")
            references.append(Reference(problem="unreadable", cause=cause))
            continue
        if evidence is None or evidence.face_count > 1:
            references.append(Reference(problem="several_faces" if evidence else "no_face"))
            continue
        face = authenticator.crop(image, evidence)
        if evidence.unusable:  # treated like an unreadable photograph
            references.append(Reference(face, problem="unreadable", cause=REASONS[evidence.unusable]))
            continue
        embeddings.append(authenticator.embed_reference(face))
        references.append(Reference(face=face, advice=_advice(face, evidence)))
    if not references or len(embeddings) < len(references):
        return None, references
    try:
        template = Template.from_embeddings(embeddings)
    except ValueError:  # NaN, or faces that cancel each other out
        return None, [Reference(problem="unreadable", cause="the network gives no usable numbers for it")]
    for number in unlike_references(np.stack(embeddings), authenticator.config.similarity_threshold):
        reference = references[number]
        references[number] = Reference(reference.face, advice=(*reference.advice, "unlike"))
    return template, references


def _advice(face: np.ndarray, evidence: Evidence) -> tuple[str, ...]:
    left, top, right, bottom = evidence.box
    light = float(np.asarray(Image.fromarray(face).convert("L"), np.float32).mean())
    advice = {
        "small": min(right - left, bottom - top) < SMALL,
        "dark": light < DARK,
        "bright": light > BRIGHT,
        "blurred": sharpness(face) < BLURRED,
        "turned": abs(nose_offset(evidence.landmarks)) > TURNED,
    }
    return tuple(name for name, holds in advice.items() if holds)
