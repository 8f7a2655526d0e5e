"""Hard impostor pairs on embeddings made by hand."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.protocols.hard_pairs import hard_kinds, hard_pairs
from evaluation.protocols.pairs import generated_pairs
from evaluation.protocols.verification import evaluate_verification

FLAT = [1 / 3] * 3


@pytest.fixture
def circle(by_hand):
    """40 people around a circle, two photographs of each on either side of the person's place, and a nameless one."""
    rows, genders, ages = [], [], []
    for person in range(40):
        for number, turn in enumerate((-0.01, 0.01)):
            angle = 2 * np.pi * person / 40 + turn
            rows.append((f"p{person:02d}_{number}", f"p{person:02d}", None, "10", [np.cos(angle), np.sin(angle)], FLAT))
            genders.append("female" if person % 2 else "male")
            ages.append(str(person))
    rows.append(("nobody", None, None, "10", [1, 0], FLAT))
    return replace(by_hand(rows), attributes={"gender": [*genders, "male"], "age": [*ages, None]})


def impostors(scored):
    return list(zip(scored.first[~scored.same], scored.second[~scored.same], strict=True))


def test_look_alikes_are_the_nearest_people(circle):
    pairs = hard_pairs(circle, "look-alike", seed=0)
    # 5 nearest: two neighbours on either side and, of the third ones, one or the other
    apart = {
        min((int(one[1:]) - int(two[1:])) % 40, (int(two[1:]) - int(one[1:])) % 40) for one, two in impostors(pairs)
    }
    assert apart == {1, 2, 3}
    assert pairs.scores[~pairs.same].min() > np.cos(2 * np.pi * 3 / 40 + 0.03)
    # all that there are: of each person four photographs with each of the four surely near, in two pairs' view
    near = {frozenset(pair) for pair in impostors(pairs)}
    assert near >= {
        frozenset((f"p{person:02d}", f"p{(person + step) % 40:02d}")) for person in range(40) for step in (1, 2)
    }


def test_a_mean_embedding_decides_and_not_a_single_photograph(by_hand):
    rows = [("a0", "a", None, "1", [1, 0, 0], FLAT), ("a1", "a", None, "1", [1, 0, 0], FLAT)]
    rows += [(f"b{number}", "b", None, "1", [1, 1, 0], FLAT) for number in range(2)]
    rows += [("c0", "c", None, "1", [1, 0, 0], FLAT), ("c1", "c", None, "1", [-1, 0, 1], FLAT)]  # one is a's double
    rows += [(f"{name}0", name, None, "1", [1, 0.5 + 0.01 * place, 0], FLAT) for place, name in enumerate("defg")]
    rows += [(f"{name}0", name, None, "1", [0.1 * place, 0, 1], FLAT) for place, name in enumerate("hijkl")]  # c's
    pairs = hard_pairs(by_hand(rows), "look-alike", seed=0)
    of_a = {frozenset(pair) - {"a"} for pair in impostors(pairs) if "a" in pair}
    assert of_a == {frozenset(name) for name in "bdefg"}


def test_the_same_attribute_pairs_no_others(circle):
    pairs = hard_pairs(circle, "gender", seed=0)
    assert {int(one[1:]) % 2 == int(two[1:]) % 2 for one, two in impostors(pairs)} == {True}
    # 2 groups x 20 x 19 / 2 pairs of people x 4 pairs of photographs: 20,000 draws miss next to none of them
    assert 2 * 190 * 4 * 0.99 < len(impostors(pairs)) <= 2 * 190 * 4
    assert "None" not in pairs.first and "nobody" not in pairs.first


def test_what_most_photographs_say_counts(by_hand):
    rows = [(f"{person}{number}", person, None, "1", [1, number], FLAT) for person in "abc" for number in range(3)]
    said = ["x", "x", "y", "y", "y", "x", None, "x", None]
    embeddings = replace(by_hand(rows), attributes={"side": said})
    assert {frozenset(pair) for pair in impostors(hard_pairs(embeddings, "side", seed=0))} == {frozenset("ac")}


def test_genuine_pairs_are_those_of_the_generated_ones(circle):
    plain = generated_pairs(circle, seed=3)
    for kind in ("look-alike", "gender"):
        hard = hard_pairs(circle, kind, seed=3)
        np.testing.assert_array_equal(hard.scores[hard.same], plain.scores[plain.same])
        np.testing.assert_array_equal(hard.first[hard.same], plain.first[plain.same])


def test_the_same_seed_draws_the_same_pairs_in_any_order_of_the_photographs(circle):
    again = circle.select(range(len(circle))[::-1])
    for kind in ("look-alike", "gender"):
        one, two = hard_pairs(circle, kind, seed=1), hard_pairs(again, kind, seed=1)
        assert impostors(one) == impostors(two)
        np.testing.assert_allclose(one.scores, two.scores)
        assert impostors(one) != impostors(hard_pairs(circle, kind, seed=2))


def test_hard_pairs_are_harder_and_reported_by_kind(circle):
    assert hard_kinds(circle) == ["look-alike", "gender"]  # nobody shares an age
    report = evaluate_verification(
        circle, circle, [], far=0.1, shipped_threshold=0.99, trained=None, seed=0, absent_photographs={}
    ).result.hard
    assert list(report) == ["look-alike", "gender"]
    alike, same = report["look-alike"], report["gender"]
    assert alike.shipped_threshold.far.value > same.shipped_threshold.far.value
    assert alike.auc <= same.auc
    assert alike.genuine_pairs == same.genuine_pairs == 40
    assert [tar.far for tar in alike.tar_at_far][:2] == [0.1, 0.01]


def test_people_who_are_not_alike_have_no_hard_pairs(circle, by_hand):
    with pytest.raises(ValueError, match="'hair' is not a kind of hard pairs; this corpus has look-alike, gender, age"):
        hard_pairs(circle, "hair", seed=0)
    with pytest.raises(ValueError, match="no two people share age"):
        hard_pairs(circle, "age", seed=0)
    alone = by_hand([("a0", "a", None, "1", [1, 0], FLAT), ("a1", "a", None, "1", [1, 0], FLAT)])
    assert hard_kinds(alone) == []
    with pytest.raises(ValueError, match="no two people share look-alike"):
        hard_pairs(alone, "look-alike", seed=0)
