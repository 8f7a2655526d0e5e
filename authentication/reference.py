"""Checks reference photographs: whether each can be used, what would make it better, and their template.

Called by the command line and by `demo.live`. Next: `template`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from authentication.authenticator import Authenticator, Evidence
from authentication.template import Template
from image_processing_facelivenet import UnreadableImageError, aside_of, load_image, name_of, sharpness
from pipeline_facelivenet import REASONS, unlike_references

SMALL = 64  # pixels of the box's shorter side; the network sees 96
DARK, BRIGHT = 55, 185  # mean luminance of the face, 0 to 255
BLURRED = 1.9  # see `sharpness`: of 1,207 photographs of LFW 1 % lie below 2.5, blurred by two pixels 99 % below 1.7
TURNED = 0.3  # see `aside_of`; photographs beyond MAX_ASIDE are refused


@dataclass(frozen=True)
class Reference:
    """One photograph a template may be made of.

    face: (size, size, 3) uint8, the aligned face as the network sees it; None where there is no single face.
    problem: why it cannot be used: "unreadable", "no_face", "several_faces", or None.
    cause: of an unreadable one, and of a face that cannot be judged, in words.
    advice: what would make it better: "small", "dark", "bright", "blurred", "turned", "unlike".
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
        None as the template if a photograph cannot be used or there is none: a template is made of all photographs.
    """
    references, embeddings = [], []
    for photograph in photographs:
        try:
            image = load(photograph)
            evidence = authenticator.look(image)
        except UnreadableImageError as error:
            cause = str(error).removeprefix(f"{name_of(photograph)}: ")
            references.append(Reference(problem="unreadable", cause=cause))
            continue
        if evidence is None or evidence.face_count > 1:
            references.append(Reference(problem="several_faces" if evidence else "no_face"))
            continue
        face = authenticator.crop(image, evidence)
        if evidence.unusable:  # also a kind of unreadable: the picture is there, the network cannot judge it
            references.append(Reference(face, problem="unreadable", cause=REASONS[evidence.unusable]))
            continue
        embeddings.append(evidence.embedding)
        references.append(Reference(face=face, advice=_advice(face, evidence)))
    if not references or len(embeddings) < len(references):
        return None, references
    try:
        template = Template.from_embeddings(embeddings)
    except ValueError:  # NaN, or faces that cancel each other out
        return None, [Reference(problem="unreadable", cause="the network gives no usable numbers for it")]
    for number in unlike_references(np.stack(embeddings), authenticator.config.similarity_threshold):
        found = references[number]
        references[number] = Reference(found.face, advice=(*found.advice, "unlike"))
    return template, references


def _advice(face: np.ndarray, evidence: Evidence) -> tuple[str, ...]:
    left, top, right, bottom = evidence.box
    light = float(np.asarray(Image.fromarray(face).convert("L"), np.float32).mean())
    found = {
        "small": min(right - left, bottom - top) < SMALL,
        "dark": light < DARK,
        "bright": light > BRIGHT,
        "blurred": sharpness(face) < BLURRED,
        "turned": aside_of(evidence.landmarks) > TURNED,
    }
    return tuple(name for name, holds in found.items() if holds)
