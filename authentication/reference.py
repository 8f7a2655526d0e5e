"""What is told about reference photographs: whether each can be used, and what would make it better."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from authentication.authenticator import Authenticator, Evidence
from authentication.template import Template
from image_processing_facelivenet import UnreadableImageError, load_image

SMALL = 64  # pixels of the box's shorter side; the network sees 96
DARK, BRIGHT = 55, 185  # mean luminance of the face, 0 to 255
BLURRED = 4.0  # see `sharpness`: of 500 photographs of LFW 1 % lie below 5.4, blurred by two pixels 99 % below 3.5
TURNED = 0.35  # how far the nose stands off the middle between the eyes, as a fraction of their distance
UNLIKE = 0.5  # of the threshold: below it a photograph is probably of somebody else than the others


@dataclass(frozen=True)
class Reference:
    """One photograph a template may be made of.

    face: (size, size, 3) uint8, the aligned face as the network sees it; None where there is no single face.
    problem: why it cannot be used: "unreadable", "no_face", "several_faces", or None.
    cause: of an unreadable one, in words.
    advice: what would make it better: "small", "dark", "bright", "blurred", "turned", "unlike".
    """

    face: np.ndarray | None = None
    problem: str | None = None
    cause: str = ""
    advice: tuple[str, ...] = ()


def examine(
    authenticator: Authenticator, photographs: Sequence, load: Callable[..., Image.Image] = load_image
) -> tuple[Template | None, list[Reference]]:
    """The template of a person's photographs (anything that `load` reads), and what there is to say about each.

    None is the template where any photograph cannot be used, or there is none: a template is made of all or not at all.
    """
    references, embeddings = [], []
    for photograph in photographs:
        try:
            image = load(photograph)
            evidence = authenticator.look(image)
        except UnreadableImageError as error:
            references.append(Reference(problem="unreadable", cause=str(error).removeprefix(f"{photograph}: ")))
            continue
        if evidence is None or evidence.face_count > 1:
            references.append(Reference(problem="several_faces" if evidence else "no_face"))
            continue
        face = authenticator.crop(image, evidence)
        embeddings.append(evidence.embedding)
        references.append(Reference(face=face, advice=_advice(face, evidence)))
    if not references or len(embeddings) < len(references):
        return None, references
    try:
        template = Template.from_embeddings(embeddings)
    except ValueError:  # NaN, or faces that cancel each other out
        return None, [Reference(problem="unreadable", cause="the network gives no usable numbers for it")]
    least = UNLIKE * (authenticator.config.similarity_threshold or 0.0)
    for number, embedding in enumerate(embeddings if len(embeddings) > 1 else []):
        others = Template.from_embeddings(embeddings[:number] + embeddings[number + 1 :])
        if others.similarity(embedding) < least:
            found = references[number]
            references[number] = Reference(found.face, advice=(*found.advice, "unlike"))
    return template, references


def sharpness(face: np.ndarray) -> float:
    """Mean absolute Laplacian of a face's luminance at 96 pixels, in grey levels."""
    grey = Image.fromarray(face).convert("L").resize((96, 96), Image.Resampling.BILINEAR)
    laplacian = grey.filter(ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=128))
    return float(np.abs(np.asarray(laplacian, np.float32)[1:-1, 1:-1] - 128).mean())


def turn(landmarks: np.ndarray) -> float:
    """How far the nose stands off the middle between the eyes, along their line and as a fraction of their distance.

    0 is a frontal face. landmarks: (5, 2), eyes first, then the nose.
    """
    left, right, nose = landmarks[:3].astype(np.float64)
    across = right - left
    return abs(float((nose - (left + right) / 2) @ across / max(across @ across, 1e-9)))


def _advice(face: np.ndarray, evidence: Evidence) -> tuple[str, ...]:
    left, top, right, bottom = evidence.box
    light = float(np.asarray(Image.fromarray(face).convert("L"), np.float32).mean())
    found = {
        "small": min(right - left, bottom - top) < SMALL,
        "dark": light < DARK,
        "bright": light > BRIGHT,
        "blurred": sharpness(face) < BLURRED,
        "turned": turn(evidence.landmarks) > TURNED,
    }
    return tuple(name for name, holds in found.items() if holds)
