"""Simulated frames of a person: landmarks, embeddings, expressions and images that agree with one another.

The landmarks are those of a head with a nose, or of a flat image of it, turned by any angle. The upper half of the face
is a random texture of the person. An expression changes it, and every frame has new noise.
"""

from dataclasses import dataclass, replace
from functools import cache
from itertools import count

import numpy as np

from authentication.session import Frame
from authentication.session.movement import HEIGHT, WIDTH
from pipeline_facelivenet import decide, reject

THRESHOLD = 0.5
EXPRESSIONS = ("neutral", "happy", "surprise")
HEAD = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.55, 0.5], [-0.4, 1, 0.05], [0.4, 1, 0.05]])  # nose towards the viewer
fresh = count()
rng = np.random.default_rng(0)


@dataclass(frozen=True)
class Scene:
    """The content of a frame.

    person: 0 is the person of the reference. likeness: similarity of the person's neutral face to the reference.
    expression, strength: strength is from 0 to 1. yaw: degrees, positive to the person's left.
    flat: a flat image instead of a head. eyes_move: the upper face also shows the expression.
    """

    person: int = 0
    likeness: float = 0.8
    expression: str = "neutral"
    strength: float = 0.0
    yaw: float = 0.0
    flat: bool = False
    eyes_move: bool = True


BLANK, CROWD, UNREADABLE = "no_face", "several_faces", "no_frames"


def landmarks_of(scene: Scene) -> np.ndarray:
    angle = np.radians(scene.yaw)
    x, y, z = (HEAD * (1, 1, 0) if scene.flat else HEAD).T
    turned_x, turned_z = x * np.cos(angle) + z * np.sin(angle), z * np.cos(angle) - x * np.sin(angle)
    scale = 60 * 8 / (8 - turned_z)
    return np.stack([160 + turned_x * scale, 90 + y * scale], axis=1) + rng.normal(0, 0.2, (5, 2))


def embedding_of(scene: Scene) -> np.ndarray:
    """12 dimensions: one for the reference, one for each person, one for each expression, one for the turn."""
    unlikeness = np.sqrt(1 - scene.likeness**2)
    vector = np.zeros(12)
    vector[0], vector[1 + scene.person] = scene.likeness, unlikeness
    vector[5 + EXPRESSIONS.index(scene.expression)] = 0.5 * scene.strength
    vector[9] = scene.yaw / 60
    return vector / np.linalg.norm(vector)


def probabilities_of(scene: Scene) -> dict[str, float]:
    logits = {name: 0.0 for name in EXPRESSIONS} | {"neutral": 3.0}
    logits[scene.expression] += 8.0 * scene.strength if scene.expression != "neutral" else 0
    whole = sum(np.exp(value) for value in logits.values())
    return {name: float(np.exp(value) / whole) for name, value in logits.items()}


@cache
def texture(seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).uniform(0, 255, (HEIGHT // 4, WIDTH // 4))
    return np.kron(small, np.ones((4, 4))).astype(np.float32)


def upper_face_of(scene: Scene) -> np.ndarray:
    share = 0.2 * scene.strength * scene.eyes_move
    band = (1 - share) * texture(scene.person) + share * texture(100 + EXPRESSIONS.index(scene.expression))
    return band + rng.normal(0, 2, band.shape).astype(np.float32)


def make_frame(scene: Scene | str, required: str, fingerprint=None, baseline=None, at_rest=False) -> Frame:
    """A frame of the scene, evaluated for the required expression. By default its fingerprint is new."""
    fingerprint = f"{next(fresh)}".encode() if fingerprint is None else fingerprint
    if isinstance(scene, str):
        return Frame(reject(scene, required), None, fingerprint)
    embedding = embedding_of(scene)
    decision = decide(
        similarity=float(embedding[0]),
        threshold=THRESHOLD,
        expression_probabilities=probabilities_of(scene),
        required_expression=required,
        expression_threshold=0.5,
        baseline=baseline,
        at_rest=at_rest,
    )
    return Frame(decision, embedding, fingerprint, landmarks_of(scene), upper_face_of(scene))


def frame_for_session(scene: Scene | str, session, fingerprint=None) -> Frame:
    """A frame of the scene, evaluated for the expression that the session requires now."""
    return make_frame(scene, session.required_expression, fingerprint, session.baseline, session.accepts_any_rest)


def moving(scene: Scene, expression: str = "neutral", yaw: float = 0.0, frames: int = 4) -> list[Scene]:
    """Frames from the neutral scene to the full expression or angle."""
    end = 0.0 if expression == "neutral" else 1.0
    return [
        replace(scene, expression=expression, strength=end * share, yaw=yaw * share)
        for share in np.linspace(0, 1, frames + 1)[1:]
    ]


def follow_challenge(
    session, scene: Scene = Scene(), now: float = 0.0, step: float = 0.1, hesitate: int = 3, max_frames: int = 600
):
    """Follow the challenge gradually, with a delay, until the session is decided.

    Returns:
        The duration in seconds.
    """
    current, target, waited = replace(scene), ("neutral", 0.0), 0
    for number in range(max_frames):
        required = session.required_action
        goal = {"turn_left": ("neutral", 32.0), "turn_right": ("neutral", -32.0)}.get(required, (required, 0.0))
        waited = waited + 1 if goal != target else 0
        if waited > hesitate:
            target, waited = goal, 0
        expression = target[0] if target[0] != "neutral" else current.expression
        full = 1.0 if target[0] != "neutral" else 0.0
        strength = current.strength + np.clip(full - current.strength, -0.25, 0.25)
        yaw = current.yaw + float(np.clip(target[1] - current.yaw, -8, 8))
        current = replace(current, expression=expression, strength=float(strength), yaw=yaw)
        frame = frame_for_session(current, session)
        if session.observe(frame, now + number * step).decision:
            return number * step
    raise AssertionError("the session never ends")
