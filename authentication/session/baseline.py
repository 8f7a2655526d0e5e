"""The baseline of a face at rest, with which actions are compared.

A session takes it from the neutral frames before each action: median and spread of each expression's margin over
neutral, the landmarks, and the upper half of the face. It is fixed before the action is requested, and taken again
after the face was out of sight. Called by `machine`; next: `turn` and `movement`, which compare.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from authentication.session.frame import Frame
from authentication.session.movement import RestingFace
from authentication.session.turn import shape_of
from pipeline_facelivenet import margins, mean_embedding

NEWEST_FRAMES = 12  # of the neutral run: the moment before the action is asked for


@dataclass(frozen=True)
class Baseline:
    """A face at rest.

    margins: expression -> median and spread of `pipeline_facelivenet.margins`.
    embedding: (d,), `mean_embedding` of the frames'.
    front: (5, 2), the mean of `turn.shape_of`; None where the frames came without landmarks.
    resting: the upper half of the face; None where the frames came without.
    """

    margins: dict[str, tuple[float, float]]
    embedding: np.ndarray
    front: np.ndarray | None
    resting: RestingFace | None

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> "Baseline":
        """Args: frames that counted as neutral, at least one, all with a face."""
        frames = list(frames)[-NEWEST_FRAMES:]
        rows = [margins(frame.decision.expression_probabilities) for frame in frames]
        values = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        shapes = [shape_of(frame.landmarks) for frame in frames if frame.landmarks is not None]
        pictures = [frame.upper_face for frame in frames if frame.upper_face is not None]
        return cls(
            margins={name: (float(np.median(value)), _spread(value)) for name, value in values.items()},
            embedding=mean_embedding([frame.embedding for frame in frames]),
            front=np.mean(shapes, axis=0) if shapes else None,
            resting=RestingFace(pictures) if len(pictures) > 1 else None,
        )


def _spread(values: np.ndarray) -> float:
    """The standard deviation as the median absolute deviation estimates it: one odd frame does not count."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
