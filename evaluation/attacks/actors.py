"""What the rendered camera sees in each frame: an attacker with photographs, or a genuine person.

`simulation` asks an `Actor` for a function (`Show`), which it calls once a frame and which returns an observation. Read
`simulation` next.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from authentication.session import TURNS
from evaluation.attacks.observations import Observation, ObservationCache, interpolate
from evaluation.attacks.people import Person, mirrored
from evaluation.attacks.renderings import hold, with_other_mouth, with_strip, with_warped_mouth

CHANGE_SECONDS = 0.5  # duration of a whole change of a face, a strip or a warp
SWEEP_SECONDS = 3.0  # duration of turning a sheet from the front to the largest yaw
YAWS = (0, 10, 20, 30, 40, 50)  # degrees
BENDS = {"flat": 0, "bent": 90, "bent_far": 130}  # degrees
STRIPS = ("white", "black", "skin", "sticker", "finger", "pen")
WARPS = (1.0, 1.5, 2.0)
FADE_SHARES = (0.25, 0.5, 0.75)  # shares of the second photograph in the rendered frames of a fade
KINDS = {
    "still": "a neutral photograph, held still",
    "flat": "a flat print, waved and turned",
    "bent": "a print bent around a quarter of a cylinder, and turned",
    "bent_far": "a print bent further (130 degrees of a cylinder), and turned",
    **{f"strip_{kind}": f"a photograph, its mouth covered when an expression is requested: {kind}" for kind in STRIPS},
    **{f"warp_{strength:g}": f"a photograph whose mouth corners are pulled, {strength:g} times" for strength in WARPS},
    "other_mouth": "a photograph cut off below the nose, over another person's mouth with the expression",
    "swap": "two photographs, exchanged when an expression is requested",
    "fade_0.3": "two photographs that fade into one another in 0.3 seconds",
    "fade_1": "two photographs that fade into one another in a second",
    "swap_turned": "photographs of every action, turned heads too, exchanged",
    "fade_turned": "photographs of every action, turned heads too, faded into one another in half a second",
    "replay": "a recorded genuine session, replayed to another challenge",
    "replay_same": "a recorded genuine session, replayed to the same challenge",
    "stranger": "another person, who does what is requested",
    "half": "another person, who does what is requested and holds up the photograph in between",
}

Show = Callable[[str, float, int], Observation | None]
"""(required action, seconds since it was requested, number of the frame) -> what the camera sees."""


class Actor:
    """An attacker with photographs of a person, or that person. Frames are rendered at their first use.

    Args:
        person: the person on the photographs.
        mouth_donor: whose mouth is shown below a photograph that is cut off.
    """

    def __init__(self, person: Person, mouth_donor: Person, observations: ObservationCache):
        self.person, self.mouth_donor, self.observations = person, mouth_donor, observations
        self._observed: dict[tuple, Observation | None] = {}

    def _observe(self, *rendering) -> Observation | None:
        """The observation of a frame; the arguments are those of `_render`."""
        if rendering not in self._observed:
            self._observed[rendering] = self.observations.observe(self._render(*rendering))
        return self._observed[rendering]

    def _render(self, kind: str, *options) -> Image.Image:
        neutral = self.person.neutral
        if kind == "sheet":
            yaw, bend = options
            return hold(neutral.image, yaw, bend)
        if kind == "strip":
            return hold(with_strip(neutral.image, neutral.landmarks, options[0]))
        if kind == "warp":
            return hold(with_warped_mouth(neutral.image, neutral.landmarks, options[0]))
        if kind == "mouth":
            mouth_donor = self.mouth_donor.expressions[options[0]]
            return hold(with_other_mouth(neutral.image, neutral.landmarks, mouth_donor.image, mouth_donor.landmarks))
        if kind == "expression":
            return hold(self.person.expressions[options[0]].image)
        if kind == "blend":
            expression, share = options
            return Image.blend(hold(neutral.image), hold(self.person.expressions[expression].image), share)
        if kind == "turned":
            turned = self.person.turned
            return hold((turned if options[0] == "turn_left" else mirrored(turned)).image)
        raise ValueError(f"unknown rendering {kind!r}")

    @property
    def front(self) -> Observation | None:
        """The neutral photograph, flat and facing the camera."""
        return self._observe("sheet", 0, 0)

    def turn(self, action: str, seconds: float, bend: int) -> Observation | None:
        """The sheet while it is turned to one side and back, repeatedly."""
        share = abs((max(seconds, 0.0) / SWEEP_SECONDS + 1) % 2 - 1)
        position = share * (len(YAWS) - 1)
        side = 1 if action == "turn_left" else -1
        low = min(int(position), len(YAWS) - 2)
        at_smaller_yaw, at_larger_yaw = (self._observe("sheet", side * YAWS[low + step], bend) for step in (0, 1))
        if at_smaller_yaw is None or at_larger_yaw is None:
            return at_smaller_yaw or at_larger_yaw
        return interpolate(at_smaller_yaw, at_larger_yaw, position - low)

    def show(self, kind: str) -> Show | None:
        """What this kind of attack shows; None where the photographs for it are missing."""
        bend = BENDS.get(kind, 0)

        def show_sheet(action: str, seconds: float, number: int) -> Observation | None:
            if kind != "still" and action in TURNS and seconds > 0:
                return self.turn(action, seconds, bend)
            return self._observe("sheet", 0, bend)

        if kind in ("still", *BENDS):
            return show_sheet
        name, _, option = kind.partition("_")
        if name in ("strip", "warp"):
            parameter = float(option) if name == "warp" else option
            return self._with_expression(show_sheet, lambda action: self._observe(name, parameter), CHANGE_SECONDS)
        if kind == "other_mouth":
            return self._with_expression(
                show_sheet, lambda action: self._observe("mouth", action), CHANGE_SECONDS, self.mouth_donor
            )
        if kind in ("swap", "fade_0.3", "fade_1"):
            return self._with_expression(
                show_sheet, lambda action: self._observe("expression", action), float(option or 0), self.person
            )
        if kind in ("swap_turned", "fade_turned"):
            return self.genuine(0.0 if kind == "swap_turned" else 0.5)
        raise ValueError(f"unknown kind of attack {kind!r}")

    def _with_expression(
        self, show_sheet: Show, changed: Callable, seconds: float, owner: Person | None = None
    ) -> Show | None:
        """Shows the sheet, and something else while an expression is required.

        Args:
            changed: expression -> the observation that is shown then.
            seconds: duration of the change.
            owner: the person whose photographs of expressions this needs.
        """
        if owner is not None and not owner.expressions:
            return None

        def show(action: str, since: float, number: int) -> Observation | None:
            if action == "neutral" or action in TURNS or since <= 0 or (owner and action not in owner.expressions):
                return show_sheet(action, since, number)
            if owner is self.person and seconds:  # rendered: a blend of observations is something else
                blends = [self._observe("blend", action, share) for share in FADE_SHARES]
                stops = [self.front, *blends, changed(action)]
                position = float(np.clip(since / seconds, 0, 1)) * (len(stops) - 1)
                low = min(int(position), len(stops) - 2)
                return _gradually(stops[low], stops[low + 1], position - low, 1.0)
            return _gradually(self.front, changed(action), since, seconds)

        return show

    def possible_actions(self) -> list[str]:
        """The actions of which there are photographs."""
        return [*self.person.expressions, *(TURNS if self.person.turned else ())]

    def genuine(self, seconds: float = CHANGE_SECONDS) -> Show:
        """The person does what is required, where there is a photograph of it, and returns to neutral.

        Args:
            seconds: duration of each change.
        """
        last_action_shown: Observation | None = None

        def show(action: str, since: float, number: int) -> Observation | None:
            nonlocal last_action_shown
            if action == "neutral":
                return _gradually(last_action_shown or self.front, self.front, since, seconds)
            if action not in self.possible_actions():
                return self.front
            last_action_shown = self._observe("turned" if action in TURNS else "expression", action)
            return _gradually(self.front, last_action_shown, since, seconds)

        return show


def photograph_between_actions(actor: Actor, stranger: Actor) -> Show:
    """Shows the photograph while the neutral face is required, and the stranger's face while an action is."""
    photograph, face = actor.show("still"), stranger.genuine()
    return lambda action, since, number: (photograph if action == "neutral" else face)(action, since, number)


def _gradually(start: Observation | None, end: Observation | None, since: float, seconds: float) -> Observation | None:
    """The change from start to end, `since` seconds after it began; it takes `seconds`, and 0 means an exchange."""
    if start is None or end is None:
        return end if since > 0 else start
    return interpolate(start, end, float(np.clip(since / seconds, 0, 1)) if seconds else float(since > 0))
