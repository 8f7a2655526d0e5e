"""The challenge of a session: two to four actions, in an order and at moments that are drawn at random.

`demo.live` and the examples draw one for each attempt. Next: `machine`, which goes through it.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from random import Random

from modeling_facelivenet import HEAD_TURNS

SYSTEM_RANDOM = secrets.SystemRandom()  # cryptographic: its numbers cannot be predicted

TURNS = HEAD_TURNS  # the person's own left and right
MIN_STEPS, MAX_STEPS = 2, 4
PAUSE_SECONDS = (0.0, 1.2)  # range of an action's pause: how much longer the neutral face before it is held
MAX_PAUSE_SECONDS = 10.0
LEAST_ORDERS = 20  # of the drawn number of steps, if the actions allow it: a guess is right once in so many


@dataclass(frozen=True)
class Challenge:
    """The required actions.

    actions: in order, each after a neutral face: names of expressions, or of TURNS; never neutral.
    pauses: seconds for each action by which the neutral face before it has to be held longer than usual.
    """

    actions: tuple[str, ...]
    pauses: tuple[float, ...]

    def __post_init__(self):
        if not self.actions or any(not name or name == "neutral" for name in self.actions):
            raise ValueError(f"a challenge is made of turns and expressions other than neutral, not {self.actions!r}")
        if len(self.pauses) != len(self.actions) or not all(0 <= pause < MAX_PAUSE_SECONDS for pause in self.pauses):
            raise ValueError(f"one pause of 0 to {MAX_PAUSE_SECONDS:g} seconds for each action, not {self.pauses!r}")


def draw_challenge(actions: Sequence[str], count: int | None = None, random: Random = SYSTEM_RANDOM) -> Challenge:
    """Draw a challenge: every possible order is equally likely.

    Args:
        actions: to draw from; neutral is left out. No action follows itself where there is another one. Where there are
            expressions and turns, at least one of each is asked for.
        count: how many steps; by default drawn: three or four, so that there are LEAST_ORDERS at least; two or three
            where there are too few actions for that.
        random: cryptographic by default; another only for simulations.

    Raises:
        ValueError: nothing to draw from, or no order of `count` steps.
    """
    choices = [name for name in dict.fromkeys(actions) if name != "neutral"]
    if not choices:
        raise ValueError(f"no action to ask for among {tuple(actions)}; neutral is how every session starts")
    if count is None:
        enough = [steps for steps in (3, MAX_STEPS) if len(_orders(choices, steps)) >= LEAST_ORDERS]
        count = random.choice(enough or [MIN_STEPS, 3])
    return with_pauses(random.choice(_orders(choices, count)), random)


def number_of_orders(actions: Sequence[str], count: int) -> int:
    """How many challenges of `count` steps there are, pauses apart: somebody who guesses is right in one of these."""
    return len(_orders([name for name in dict.fromkeys(actions) if name != "neutral"], count))


def _orders(choices: Sequence[str], count: int) -> list[tuple[str, ...]]:
    mixed = {name in TURNS for name in choices} == {True, False} and count > 1
    orders = [
        order
        for order in product(choices, repeat=count)
        if (len(choices) == 1 or all(action != following for action, following in pairwise(order)))
        and (not mixed or {name in TURNS for name in order} == {True, False})
    ]
    if not orders:
        raise ValueError(f"no challenge of {count} steps can be made of {', '.join(choices)}")
    return orders


def with_pauses(actions: Sequence[str], random: Random = SYSTEM_RANDOM) -> Challenge:
    """These actions, in this order, at moments drawn at random."""
    return Challenge(tuple(actions), tuple(random.uniform(*PAUSE_SECONDS) for _ in actions))
