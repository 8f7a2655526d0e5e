"""Hard impostor pairs, on embeddings with known positions."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.protocols.hard_pairs import hard_kinds, hard_pairs
from evaluation.protocols.pairs import generated_pairs
from evaluation.protocols.verification import evaluate_verification

FLAT = [1 / 3] * 3


@pytest.fixture
def circle(make_embeddings):
    """40 people on a circle with two photographs each, and one photograph of a person without a name."""
    rows, genders, ages = [], [], []
    for person in range(40):
        for number, shift in enumerate((-0.01, 0.01)):
            angle = 2 * np.pi * person / 40 + shift
            rows.append((f"p{person:02d}_{number}", f"p{person:02d}", None, "10", [np.cos(angle), np.sin(angle)], FLAT))
            genders.append("female" if person % 2 else "male")
            ages.append(str(person))
    rows.append(("nobody", None, None, "10", [1, 0], FLAT))
    return replace(make_embeddings(rows), attributes={"gender": [*genders, "male"], "age": [*ages, None]})


def impostors(scored):
    return list(zip(scored.first[~scored.same], scored.second[~scored.same], strict=True))


def test_look_alikes_are_the_nearest_people(circle):
    pairs = hard_pairs(circle, "look-alike", seed=0)
    # the 5 nearest people: two on either side, and one of the two that follow
    distances = {
        min((int(first[1:]) - int(second[1:])) % 40, (int(second[1:]) - int(first[1:])) % 40)
        for first, second in impostors(pairs)
    }
    assert distances == {1, 2, 3}
    assert pairs.scores[~pairs.same].min() > np.cos(2 * np.pi * 3 / 40 + 0.03)
    # each person is paired with all four people at a distance of one or two
    near = {frozenset(pair) for pair in impostors(pairs)}
    assert near >= {
        frozenset((f"p{person:02d}", f"p{(person + step) % 40:02d}")) for person in range(40) for step in (1, 2)
    }


def test_look_alikes_are_chosen_by_mean_embeddings_and_not_by_single_photographs(make_embeddings):
    rows = [("a0", "a", None, "1", [1, 0, 0], FLAT), ("a1", "a", None, "1", [1, 0, 0], FLAT)]
    rows += [(f"b{number}", "b", None, "1", [1, 1, 0], FLAT) for number in range(2)]
    # one photograph of c is equal to those of a
    rows += [("c0", "c", None, "1", [1, 0, 0], FLAT), ("c1", "c", None, "1", [-1, 0, 1], FLAT)]
    rows += [(f"{name}0", name, None, "1", [1, 0.5 + 0.01 * place, 0], FLAT) for place, name in enumerate("defg")]
    # the people that are nearest to c
    rows += [(f"{name}0", name, None, "1", [0.1 * place, 0, 1], FLAT) for place, name in enumerate("hijkl")]
    pairs = hard_pairs(make_embeddings(rows), "look-alike", seed=0)
    of_a = {frozenset(pair) - {"a"} for pair in impostors(pairs) if "a" in pair}
    assert of_a == {frozenset(name) for name in "bdefg"}


def test_pairs_by_attribute_have_the_same_value(circle):
    pairs = hard_pairs(circle, "gender", seed=0)
    assert {int(first[1:]) % 2 == int(second[1:]) % 2 for first, second in impostors(pairs)} == {True}
    # 2 groups x 20 x 19 / 2 pairs of people x 4 pairs of photographs: 20,000 draws find nearly all of them
    assert 2 * 190 * 4 * 0.99 < len(impostors(pairs)) <= 2 * 190 * 4
    assert "None" not in pairs.first and "nobody" not in pairs.first


def test_a_person_has_the_value_of_most_photographs(make_embeddings):
    rows = [(f"{person}{number}", person, None, "1", [1, number], FLAT) for person in "abc" for number in range(3)]
    values = ["x", "x", "y", "y", "y", "x", None, "x", None]
    embeddings = replace(make_embeddings(rows), attributes={"side": values})
    assert {frozenset(pair) for pair in impostors(hard_pairs(embeddings, "side", seed=0))} == {frozenset("ac")}


def test_genuine_pairs_equal_the_generated_genuine_pairs(circle):
    plain = generated_pairs(circle, seed=3)
    for kind in ("look-alike", "gender"):
        hard = hard_pairs(circle, kind, seed=3)
        np.testing.assert_array_equal(hard.scores[hard.same], plain.scores[plain.same])
        np.testing.assert_array_equal(hard.first[hard.same], plain.first[plain.same])


def test_the_same_seed_draws_the_same_pairs_in_any_order_of_the_photographs(circle):
    reversed_circle = circle.select(range(len(circle))[::-1])
    for kind in ("look-alike", "gender"):
        pairs, reversed_pairs = hard_pairs(circle, kind, seed=1), hard_pairs(reversed_circle, kind, seed=1)
        assert impostors(pairs) == impostors(reversed_pairs)
        np.testing.assert_allclose(pairs.scores, reversed_pairs.scores)
        assert impostors(pairs) != impostors(hard_pairs(circle, kind, seed=2))


def test_hard_pairs_are_harder_and_are_reported_by_kind(circle):
    assert hard_kinds(circle) == ["look-alike", "gender"]  # no two people have the same age
    report = evaluate_verification(
        circle, circle, [], far=0.1, shipped_threshold=0.99, trained=None, seed=0, absent_photographs={}
    ).result.hard
    assert list(report) == ["look-alike", "gender"]
    look_alikes, same_gender = report["look-alike"], report["gender"]
    assert look_alikes.shipped_threshold.far.value > same_gender.shipped_threshold.far.value
    assert look_alikes.auc <= same_gender.auc
    assert look_alikes.genuine_pairs == same_gender.genuine_pairs == 40
    assert [tar.far for tar in look_alikes.tar_at_far][:2] == [0.1, 0.01]


def test_kinds_without_hard_pairs_are_refused(circle, make_embeddings):
    with pytest.raises(ValueError, match="'hair' is not a kind of hard pairs; this corpus has look-alike, gender, age"):
        hard_pairs(circle, "hair", seed=0)
    with pytest.raises(ValueError, match="no two people share age"):
        hard_pairs(circle, "age", seed=0)
    one_person = make_embeddings([("a0", "a", None, "1", [1, 0], FLAT), ("a1", "a", None, "1", [1, 0], FLAT)])
    assert hard_kinds(one_person) == []
    with pytest.raises(ValueError, match="no two people share look-alike"):
        hard_pairs(one_person, "look-alike", seed=0)
