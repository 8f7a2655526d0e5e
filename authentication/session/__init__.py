"""The live session: the server draws a challenge, the user answers it in front of the camera, every frame is judged.

    start ──first frame──> neutral ──held──> action 1 ──shown──> neutral ── … ──> action n ──shown──> accepted
                              │                                                       └─turn─> neutral ──held──┘
                              └────────────── a guard, or the time limit ───────────────────────> rejected

An action is an expression or a turn of the head. The session uses no camera, no network and no clock: it is given one
`Frame` after the other, each with its time.

| module | what it is for |
| --- | --- |
| `challenge` | the requested actions, drawn at random |
| `frame` | input (`Frame`) and output (`Progress`) of a session |
| `machine` | `ChallengeSession`: the steps, and every way a session ends. Start reading here |
| `stream` | guard: the frames are from a camera |
| `person` | guard: one person only, the person of the reference, and not exchanged |
| `baseline` | the face at rest, with which expressions and turns are compared |
| `turn` | detects turned heads; flat photographs do not pass |
| `movement` | checks that an expression moves the whole face, and gradually |
"""

from authentication.session.challenge import (
    TURNS,
    Challenge,
    draw_challenge,
    with_pauses,
)
from authentication.session.frame import Frame, Progress
from authentication.session.machine import STEP_SECONDS, ChallengeSession
from authentication.session.movement import upper_face
from authentication.session.turn import is_face

__all__ = [
    "STEP_SECONDS",
    "TURNS",
    "Challenge",
    "ChallengeSession",
    "Frame",
    "Progress",
    "draw_challenge",
    "is_face",
    "upper_face",
    "with_pauses",
]
