"""The challenge of a session: two to four actions, with random order and random times.

`demo.live` and the examples draw one for each attempt. Read `machine` next, which requests the actions.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from random import Random

from modeling_facelivenet import HEAD_TURNS

SYSTEM_RANDOM = secrets.SystemRandom()  # cryptographic, so its numbers cannot be predicted

TURNS = HEAD_TURNS  # left and right as the person sees it
MIN_STEPS, MAX_STEPS = 2, 4
PAUSE_SECONDS = (0.0, 1.2)  # range of the pause before an action, by which its neutral face must be held longer
MAX_PAUSE_SECONDS = 10.0
MIN_ORDERS = 20  # possible challenges of the drawn length, if the actions allow it; one guess in so many is right


@dataclass(frozen=True)
class Challenge:
    """The required actions.

    actions: in order, each after a neutral face: expressions or TURNS, but not neutral.
    pauses: seconds for each action by which the neutral face before it must be held longer than usual.
    """

    actions: tuple[str, ...]
    pauses: tuple[float, ...]

    def __post_init__(self):
        if not self.actions or any(not name or name == "neutral" for name in self.actions):
            raise ValueError(
                f"a challenge consists of turns and of expressions other than neutral, not of {self.actions!r}"
            )
        if len(self.pauses) != len(self.actions) or not all(0 <= pause < MAX_PAUSE_SECONDS for pause in self.pauses):
            raise ValueError(f"each action needs one pause of 0 to {MAX_PAUSE_SECONDS:g} seconds, not {self.pauses!r}")


def draw_challenge(actions: Sequence[str], count: int | None = None, random: Random = SYSTEM_RANDOM) -> Challenge:
    """Draw a challenge. Every possible order is equally likely.

    Args:
        actions: from which to draw; neutral is ignored. An action never follows itself if there are several. If there
            are expressions and turns, the challenge has at least one of each.
        count: number of steps; by default three or four at random, so that there are at least MIN_ORDERS orders. With
            too few actions for that, two or three.
        random: cryptographic by default. Use another one only for simulations.

    Raises:
        ValueError: there is no action, or no order of `count` steps.
    """
    choices = [name for name in dict.fromkeys(actions) if name != "neutral"]
    if not choices:
        raise ValueError(f"no action to request among {tuple(actions)}; every session starts with neutral anyway")
    if count is None:
        long_enough = [steps for steps in (3, MAX_STEPS) if len(_orders(choices, steps)) >= MIN_ORDERS]
        count = random.choice(long_enough or [MIN_STEPS, 3])
    return with_pauses(random.choice(_orders(choices, count)), random)


def _orders(choices: Sequence[str], count: int) -> list[tuple[str, ...]]:
    mixed = {name in TURNS for name in choices} == {True, False} and count > 1
    orders = [
        order
        for order in product(choices, repeat=count)
        if (len(choices) == 1 or all(action != following for action, following in pairwise(order)))
        and (not mixed or {name in TURNS for name in order} == {True, False})
    ]
    if not orders:
        raise ValueError(f"a challenge of {count} steps cannot be made of {', '.join(choices)}")
    return orders


def with_pauses(actions: Sequence[str], random: Random = SYSTEM_RANDOM) -> Challenge:
    """A challenge of these actions in this order, with random pauses."""
    return Challenge(tuple(actions), tuple(random.uniform(*PAUSE_SECONDS) for _ in actions))
