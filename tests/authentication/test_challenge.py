"""What a session may ask for, and how it is drawn."""

from collections import Counter
from random import Random

import pytest

from authentication.session import MAX_STEPS, TURNS, draw_challenge, number_of_orders, with_pauses
from authentication.session.challenge import PAUSE_SECONDS

ALL = ("neutral", "happy", "surprise", *TURNS)


def test_every_challenge_has_an_expression_and_a_turn_and_never_the_same_twice_in_a_row():
    drawn = [draw_challenge(ALL) for _ in range(600)]
    assert Counter(len(one.actions) for one in drawn).keys() == {3, 4} and MAX_STEPS == 4
    for one in drawn:
        assert all(a != b for a, b in zip(one.actions, one.actions[1:], strict=False))
        assert {action in TURNS for action in one.actions} == {True, False}
        assert all(PAUSE_SECONDS[0] <= pause <= PAUSE_SECONDS[1] for pause in one.pauses)
    assert Counter(one.actions[0] for one in drawn).keys() == set(ALL) - {"neutral"}
    assert len({pause for one in drawn for pause in one.pauses}) > 1000
    assert draw_challenge(ALL, 2, Random(1)) == draw_challenge(ALL, 2, Random(1))


def test_all_orders_are_equally_likely():
    random = Random(0)
    orders = Counter(draw_challenge(ALL, 3, random).actions for _ in range(6400))
    assert len(orders) == number_of_orders(ALL, 3) == 32
    assert min(orders.values()) > 120 and max(orders.values()) < 290  # 200 expected, deviation 14
    assert 1 / len(orders) <= 0.04, "a recorded session fits a new draw of as many steps by chance"


def test_with_fewer_actions_there_are_more_steps():
    three = ("happy", *TURNS)
    assert {len(draw_challenge(three).actions) for _ in range(50)} == {4}
    assert (number_of_orders(three, 3), number_of_orders(three, 4)) == (10, 22)


def test_a_list_of_one_kind_is_drawn_from_alone():
    assert {draw_challenge(["happy"]).actions for _ in range(99)} == {("happy",) * 2, ("happy",) * 3}
    assert {action for _ in range(99) for action in draw_challenge(TURNS).actions} == set(TURNS)
    assert {action for _ in range(99) for action in draw_challenge(["happy", "sad"]).actions} == {"happy", "sad"}


def test_what_cannot_be_asked_for():
    with pytest.raises(ValueError, match="no action to request"):
        draw_challenge(["neutral"])
    for wrong in (["neutral"], [""], []):
        with pytest.raises(ValueError, match="consists of turns and of expressions other than neutral"):
            with_pauses(wrong)
