"""How a challenge is drawn, and which challenges are refused."""

from collections import Counter
from random import Random

import pytest

from authentication.session import TURNS, draw_challenge, with_pauses
from authentication.session.challenge import PAUSE_SECONDS

ACTIONS = ("neutral", "happy", "surprise", *TURNS)


def test_every_challenge_has_an_expression_and_a_turn_and_no_immediate_repetition():
    drawn = [draw_challenge(ACTIONS) for _ in range(600)]
    assert Counter(len(challenge.actions) for challenge in drawn).keys() == {3, 4}
    for challenge in drawn:
        assert all(a != b for a, b in zip(challenge.actions, challenge.actions[1:], strict=False))
        assert {action in TURNS for action in challenge.actions} == {True, False}
        assert all(PAUSE_SECONDS[0] <= pause <= PAUSE_SECONDS[1] for pause in challenge.pauses)
    assert Counter(challenge.actions[0] for challenge in drawn).keys() == set(ACTIONS) - {"neutral"}
    assert len({pause for challenge in drawn for pause in challenge.pauses}) > 1000
    assert draw_challenge(ACTIONS, 2, Random(1)) == draw_challenge(ACTIONS, 2, Random(1))


def test_all_orders_are_equally_likely():
    random = Random(0)
    orders = Counter(draw_challenge(ACTIONS, 3, random).actions for _ in range(6400))
    assert len(orders) == 32
    assert min(orders.values()) > 120 and max(orders.values()) < 290  # 200 expected, deviation 14
    assert 1 / len(orders) <= 0.04, "the probability that a recorded session fits a new challenge of the same length"


def test_with_fewer_actions_there_are_more_steps():
    three = ("happy", *TURNS)
    assert {len(draw_challenge(three).actions) for _ in range(50)} == {4}
    assert len({draw_challenge(three, 3).actions for _ in range(999)}) == 10
    assert len({draw_challenge(three, 4).actions for _ in range(999)}) == 22


def test_a_list_of_one_kind_gives_challenges_of_that_kind():
    assert {draw_challenge(["happy"]).actions for _ in range(99)} == {("happy",) * 2, ("happy",) * 3}
    assert {action for _ in range(99) for action in draw_challenge(TURNS).actions} == set(TURNS)
    assert {action for _ in range(99) for action in draw_challenge(["happy", "sad"]).actions} == {"happy", "sad"}


def test_invalid_challenges_are_refused():
    with pytest.raises(ValueError, match="no action to request"):
        draw_challenge(["neutral"])
    for wrong in (["neutral"], [""], []):
        with pytest.raises(ValueError, match="consists of turns and of expressions other than neutral"):
            with_pauses(wrong)
