"""The input and the output of a session: `Frame` for each frame of the camera, `Progress` after it.

`attempt` makes frames, `demo.pictures` draws the progress. Next: `machine`.
"""

from dataclasses import dataclass

import numpy as np

from pipeline_facelivenet import Decision


@dataclass(frozen=True)
class Frame:
    """The evidence of one frame of the camera.

    decision: of the fusion rule, made for the session's `required_expression` and with its `baseline`.
    embedding: (d,) of the face; None where the picture shows no single face.
    fingerprint: equal for two frames exactly where their pixels are.
    landmarks: (5, 2) pixels: left and right eye, nose, left and right corner of the mouth, as seen in a picture that is
        not mirrored; None without a single face. Without them no turn is ever seen.
    upper_face: what `movement.upper_face` cuts out; None without a single face. Without it no expression ever counts.
    """

    decision: Decision
    embedding: np.ndarray | None
    fingerprint: bytes
    landmarks: np.ndarray | None = None
    upper_face: np.ndarray | None = None


@dataclass(frozen=True)
class Progress:
    """The state of a session, to be displayed.

    challenge: the required actions, in order.
    passed: how many of them have been shown.
    step: "start" (no frame yet), "neutral", "action" or "decided".
    required_action: the action to show now: "neutral", an expression, or a turn.
    held: how much of this step's holding is done, 0 to 1.
    seconds_left: until this step is over.
    counted: the newest frame counted.
    hint: a key of the page's hints: the reason of the newest frame's decision, or
        "turn_back", "turn_more", "other_side", "too_sudden", "mouth_only"; None where nothing is.
    frame: the decision about the newest frame, None before the first.
    decision: the decision about the session, None while it is open.
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
