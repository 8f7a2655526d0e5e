"""The baseline: the face at rest, with which actions are compared.

A session measures it on the neutral frames before each action: median and spread of each expression's margin over
neutral, the landmarks, and the upper half of the face. It is fixed before the action is requested. It is measured again
after the face was out of sight. `machine` makes it. Read `turn` and `movement` next, which compare frames with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from authentication.session.frame import Frame
from authentication.session.movement import RestingFace
from authentication.session.turn import face_shape
from pipeline_facelivenet import margins, mean_embedding

NEWEST_FRAMES = 12  # of the neutral frames, just before the action is requested


@dataclass(frozen=True)
class Baseline:
    """A face at rest.

    margins: expression -> median and spread of `pipeline_facelivenet.margins`.
    embedding: (d,), `mean_embedding` of the frames.
    front: (5, 2), mean of `turn.face_shape`; None without landmarks.
    resting: the upper half of the face; None if the frames have none.
    """

    margins: dict[str, tuple[float, float]]
    embedding: np.ndarray
    front: np.ndarray | None
    resting: RestingFace | None

    @classmethod
    def from_frames(cls, frames: Sequence[Frame]) -> "Baseline":
        """The baseline of one or more frames that counted as neutral, all with a face."""
        frames = list(frames)[-NEWEST_FRAMES:]
        rows = [margins(frame.decision.expression_probabilities) for frame in frames]
        margins_by_name = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        shapes = [face_shape(frame.landmarks) for frame in frames if frame.landmarks is not None]
        upper_faces = [frame.upper_face for frame in frames if frame.upper_face is not None]
        return cls(
            margins={
                name: (float(np.median(frame_margins)), _spread(frame_margins))
                for name, frame_margins in margins_by_name.items()
            },
            embedding=mean_embedding([frame.embedding for frame in frames]),
            front=np.mean(shapes, axis=0) if shapes else None,
            resting=RestingFace(upper_faces) if len(upper_faces) > 1 else None,
        )


def _spread(values: np.ndarray) -> float:
    """The standard deviation, estimated by the median absolute deviation, which ignores single outliers."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
