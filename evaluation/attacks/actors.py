"""What stands before the rendered camera at each moment: an attacker with photographs, or a genuine person.

`simulation` asks an `Actor` for a function that is called once a frame and returns an observation. Next: `simulation`.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from authentication.session import TURNS
from evaluation.attacks.observations import Observation, ObservationCache, interpolate
from evaluation.attacks.people import Person, mirrored
from evaluation.attacks.renderings import hold, with_other_mouth, with_strip, with_warped_mouth

CHANGE_SECONDS = 0.5  # in which a face, a strip or a warp goes all the way
SWEEP_SECONDS = 3.0  # in which a sheet is turned as far as it goes
YAWS = (0, 10, 20, 30, 40, 50)  # degrees
BENDS = {"flat": 0, "bent": 90, "bent_far": 130}  # degrees
STRIPS = ("white", "black", "skin", "sticker", "finger", "pen")
WARPS = (1.0, 1.5, 2.0)
FADE_SHARES = (0.25, 0.5, 0.75)  # of a fade, rendered
KINDS = {
    "still": "a neutral photograph, whatever is asked",
    "flat": "a flat print, waved and turned",
    "bent": "a print bent around a cylinder, a quarter of it, and turned",
    "bent_far": "a print bent further than that, and turned",
    **{f"strip_{kind}": f"a photograph, its mouth covered when an expression is asked for: {kind}" for kind in STRIPS},
    **{f"warp_{strength:g}": f"a photograph whose mouth corners are pulled, {strength:g} times" for strength in WARPS},
    "other_mouth": "a photograph cut off below the nose, over another mouth that shows what is asked",
    "swap": "two photographs, exchanged when an expression is asked for",
    "fade_0.3": "two photographs that fade into one another in 0.3 seconds",
    "fade_1": "two photographs that fade into one another in a second",
    "swap_turned": "photographs of every action, turned heads too, exchanged",
    "fade_turned": "photographs of every action, turned heads too, faded into one another in half a second",
    "replay": "a recorded genuine session, played into another draw",
    "replay_same": "a recorded genuine session, played into the same draw",
    "stranger": "somebody else, doing what is asked",
    "half": "somebody else, doing what is asked, with the photograph before the face in between",
}

Show = Callable[[str, float, int], Observation | None]
"""(required action, seconds since it was requested, number of the frame) -> what stands before the camera."""


class Actor:
    """Somebody with photographs of a person: what each kind of attack shows. Pictures are rendered at their first use.

    Args:
        person: whose photographs are held before the camera.
        other: whose mouth is shown below a photograph that is cut off.
    """

    def __init__(self, person: Person, other: Person, observations: ObservationCache):
        self.person, self.other, self.observations = person, other, observations
        self._observed: dict[tuple, Observation | None] = {}

    def _observe(self, *picture) -> Observation | None:
        """The observation of a picture of `_render`."""
        if picture not in self._observed:
            self._observed[picture] = self.observations.observe(self._render(*picture))
        return self._observed[picture]

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
            other = self.other.expressions[options[0]]
            return hold(with_other_mouth(neutral.image, neutral.landmarks, other.image, other.landmarks))
        if kind == "expression":
            return hold(self.person.expressions[options[0]].image)
        if kind == "blend":
            expression, share = options
            return Image.blend(hold(neutral.image), hold(self.person.expressions[expression].image), share)
        if kind == "turned":
            turned = self.person.turned
            return hold((turned if options[0] == "turn_left" else mirrored(turned)).image)
        raise ValueError(f"unknown picture {kind!r}")

    @property
    def front(self) -> Observation | None:
        """The neutral photograph, flat, straight before the camera."""
        return self._observe("sheet", 0, 0)

    def turn(self, action: str, seconds: float, bend: int) -> Observation | None:
        """The sheet on its way to one side and back, over and over."""
        share = abs((max(seconds, 0.0) / SWEEP_SECONDS + 1) % 2 - 1)
        place = share * (len(YAWS) - 1)
        side = 1 if action == "turn_left" else -1
        low = min(int(place), len(YAWS) - 2)
        before, after = (self._observe("sheet", side * YAWS[low + step], bend) for step in (0, 1))
        return after if before is None else before if after is None else interpolate(before, after, place - low)

    def show(self, kind: str) -> Show | None:
        """What this kind of attack shows; None where the photographs for it are missing."""
        bend = BENDS.get(kind, 0)

        def sheet(action: str, seconds: float, number: int) -> Observation | None:
            if kind != "still" and action in TURNS and seconds > 0:
                return self.turn(action, seconds, bend)
            return self._observe("sheet", 0, bend)

        if kind in ("still", *BENDS):
            return sheet
        name, _, option = kind.partition("_")
        if name in ("strip", "warp"):
            value = float(option) if name == "warp" else option
            return self._with_expression(sheet, lambda action: self._observe(name, value), CHANGE_SECONDS)
        if kind == "other_mouth":
            return self._with_expression(
                sheet, lambda action: self._observe("mouth", action), CHANGE_SECONDS, self.other
            )
        if kind in ("swap", "fade_0.3", "fade_1"):
            return self._with_expression(
                sheet, lambda action: self._observe("expression", action), float(option or 0), self.person
            )
        if kind in ("swap_turned", "fade_turned"):
            return self.genuine(0.0 if kind == "swap_turned" else 0.5)
        raise ValueError(f"unknown kind of attack {kind!r}")

    def _with_expression(
        self, sheet: Show, changed: Callable, seconds: float, owner: Person | None = None
    ) -> Show | None:
        """The sheet, and something else while an expression is required.

        Args:
            changed: expression -> what is shown then.
            seconds: of the change.
            owner: whose photographs of expressions it needs.
        """
        if owner is not None and not owner.expressions:
            return None

        def show(action: str, since: float, number: int) -> Observation | None:
            if action == "neutral" or action in TURNS or since <= 0 or (owner and action not in owner.expressions):
                return sheet(action, since, number)
            if owner is self.person and seconds:  # a fade is rendered: blended pictures are not blended observations
                blends = [self._observe("blend", action, share) for share in FADE_SHARES]
                stops = [self.front, *blends, changed(action)]
                place = float(np.clip(since / seconds, 0, 1)) * (len(stops) - 1)
                low = min(int(place), len(stops) - 2)
                return _gradually(stops[low], stops[low + 1], place - low, 1.0)
            return _gradually(self.front, changed(action), since, seconds)

        return show

    def possible_actions(self) -> list[str]:
        """The actions there are photographs of."""
        return [*self.person.expressions, *(TURNS if self.person.turned else ())]

    def genuine(self, seconds: float = CHANGE_SECONDS) -> Show:
        """The person does what is required, as far as there are photographs, and goes back to neutral.

        Args:
            seconds: of each change.
        """
        last: Observation | None = None

        def show(action: str, since: float, number: int) -> Observation | None:
            nonlocal last
            if action == "neutral":
                return _gradually(last or self.front, self.front, since, seconds)
            if action not in self.possible_actions():
                return self.front
            last = self._observe("turned" if action in TURNS else "expression", action)
            return _gradually(self.front, last, since, seconds)

        return show


def photograph_between_actions(actor: Actor, stranger: Actor) -> Show:
    """The photograph while the neutral face is required, the stranger's own face while an action is."""
    photograph, face = actor.show("still"), stranger.genuine()
    return lambda action, since, number: (photograph if action == "neutral" else face)(action, since, number)


def _gradually(start: Observation | None, end: Observation | None, since: float, seconds: float) -> Observation | None:
    """The change from start to end, `since` seconds after it began, of `seconds`; 0 is an exchange."""
    if start is None or end is None:
        return end if since > 0 else start
    return interpolate(start, end, float(np.clip(since / seconds, 0, 1)) if seconds else float(since > 0))
