"""The input and output of a session: a `Frame` for each frame of the camera, then a `Progress`.

`attempt` makes frames; `demo.pictures` draws the progress. Read `machine` next.
"""

from dataclasses import dataclass

import numpy as np

from pipeline_facelivenet import Decision


@dataclass(frozen=True)
class Frame:
    """The evidence of one frame of the camera.

    decision: by `decide`, for the `required_expression`, `baseline` and `accepts_any_rest` of the session.
    embedding: (d,) of the face; None unless there is exactly one face.
    fingerprint: two frames have the same one if and only if their pixels are equal.
    landmarks: (5, 2) pixels: left and right eye, nose, left and right corner of the mouth, as seen in a frame that is
        not mirrored; None unless there is exactly one face. Without landmarks no turn counts.
    upper_face: from `movement.upper_face`; None unless there is exactly one face. Without it no expression counts.
    """

    decision: Decision
    embedding: np.ndarray | None
    fingerprint: bytes
    landmarks: np.ndarray | None = None
    upper_face: np.ndarray | None = None


@dataclass(frozen=True)
class Progress:
    """The state of a session, for display.

    challenge: the required actions, in order.
    passed: number of actions that are passed.
    step: "start" (no frame yet), "neutral", "action" or "decided".
    required_action: the action to show now: "neutral", an expression, or a turn.
    held: share of this step's holding time that is done, 0 to 1.
    seconds_left: until the time of this step is over.
    counted: whether the newest frame counted.
    hint: a key of the page's hints: the reason of the newest frame's decision, or "turn_back", "turn_more",
        "other_side", "too_sudden", "mouth_only"; None before the first frame.
    frame: the decision about the newest frame; None before the first.
    decision: the decision about the session; None while it is open.
    """

    challenge: tuple[str, ...]
    passed: int
    step: str
    required_action: str
    held: float
    seconds_left: float
    counted: bool
    hint: str | None
    frame: Decision | None
    decision: Decision | None
