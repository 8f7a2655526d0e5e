"""The live session: a challenge drawn by the server, answered before the camera, judged frame by frame.

    start ──first frame──> neutral ──held──> action 1 ──shown──> neutral ── … ──> action n ──shown──> accepted
                              │                                                       └─turn─> neutral ──held──┘
                              └────────────── whatever may not happen ──────────────────────────> rejected

An action is an expression or a turn of the head. The session knows neither camera, network nor clock: it is shown one
`Frame` after the other, each with its time.

| module | what it is for |
| --- | --- |
| `challenge` | what a session asks for, drawn at random |
| `frame` | what goes in (`Frame`) and what comes out (`Progress`) |
| `machine` | `ChallengeSession`: the steps, and every way a session ends. Start reading here |
| `stream` | guard: the frames are those of a camera |
| `person` | guard: one person, alone, the person of the reference, without exchange |
| `baseline` | what this face looks like at rest: expressions and turns are judged against it |
| `turn` | a turned head, and why a flat picture cannot make one |
| `movement` | an expression moves the whole face, gradually; a strip, a warp, an exchange of photographs do not |
"""

from authentication.session.challenge import (
    MAX_STEPS,
    TURNS,
    Challenge,
    draw_challenge,
    number_of_orders,
    with_pauses,
)
from authentication.session.frame import Frame, Progress
from authentication.session.machine import STEP_SECONDS, ChallengeSession
from authentication.session.movement import upper_face
from authentication.session.turn import is_face

__all__ = [
    "MAX_STEPS",
    "STEP_SECONDS",
    "TURNS",
    "Challenge",
    "ChallengeSession",
    "Frame",
    "Progress",
    "draw_challenge",
    "is_face",
    "number_of_orders",
    "upper_face",
    "with_pauses",
]
