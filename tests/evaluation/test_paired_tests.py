"""Paired tests are compared with values by hand, by enumeration and by simulation."""

from math import comb

import numpy as np
import pytest

from evaluation.compare.paired_tests import bootstrap_difference, holm, mcnemar, paired_bootstrap
from evaluation.statistics.classification import classification, weighted_classification
from evaluation.statistics.intervals import identity_bootstrap, interval, weighted_share


def decisions(both, only_this, only_reference, neither):
    right = [True] * (both + only_this) + [False] * (only_reference + neither)
    reference = [True] * both + [False] * only_this + [True] * only_reference + [False] * neither
    return np.array(right), np.array(reference)


@pytest.mark.parametrize(
    ("this", "other", "p"),
    [
        (1, 5, 14 / 64),  # 2 * (1 + 6) / 2^6
        (0, 6, 2 / 64),
        (3, 3, 1.0),
        (0, 0, 1.0),
        (121, 59, 2 * sum(comb(180, k) for k in range(60)) / 2**180),
    ],
)
def test_mcnemar_against_known_values(this, other, p):
    result = mcnemar(*decisions(20, this, other, 7))
    assert (result.only_this, result.only_reference) == (this, other)
    assert result.p == pytest.approx(p, rel=1e-9)
    assert mcnemar(*decisions(20, other, this, 7)).p == pytest.approx(result.p)


def test_mcnemar_refuses_different_numbers_of_cases():
    with pytest.raises(ValueError, match="not the same number of cases"):
        mcnemar([True], [True, False])


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5: multiplied by 4, 3, 2, 1, and never less than the value before.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def pairs_of(seed, people=30, n=400):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, people, (2, n))
    return first, np.where(rng.random(n) < 0.5, first, second), rng


def test_all_statistics_have_the_same_draws():
    first, second, rng = pairs_of(0)
    hits, everything = rng.random(400) < 0.7, np.ones(400, bool)
    statistics = [weighted_share(hits, everything), weighted_share(~hits, everything), np.sum]
    draws = paired_bootstrap(statistics, first, second, seed=3, resamples=50)
    assert draws.shape == (50, 3)
    np.testing.assert_allclose(draws[:, 0] + draws[:, 1], 1)
    assert len(np.unique(draws[:, 2])) > 20
    settings = {"seed": 3, "resamples": 50}
    assert interval(draws[:, 0]) == identity_bootstrap(statistics[0], first, second, **settings)


def test_a_difference_has_the_right_sign_and_a_small_p():
    first, second, rng = pairs_of(1)
    better, worse = rng.random(400) < 0.9, rng.random(400) < 0.7
    statistics = [weighted_share(hits, np.ones(400, bool)) for hits in (better, worse)]
    draws = paired_bootstrap(statistics, first, second, seed=0, resamples=400)
    up = bootstrap_difference(better.mean(), worse.mean(), draws[:, 0], draws[:, 1])
    down = bootstrap_difference(worse.mean(), better.mean(), draws[:, 1], draws[:, 0])
    assert 0 < up.low < up.difference < up.high
    assert up.p == pytest.approx(2 / 401)  # none of the 400 draws has the opposite sign
    assert down.p == up.p and down.high == pytest.approx(-up.low)


def test_equal_models_have_a_difference_of_zero():
    draws = np.random.default_rng(0).random(100)
    result = bootstrap_difference(0.5, 0.5, draws, draws)
    assert (result.difference, result.low, result.high, result.p) == (0, 0, 0, 1)
    nothing = bootstrap_difference(0.5, 0.5, np.full(9, np.nan), draws[:9])
    assert (nothing.low, nothing.p, nothing.resamples) == (None, 1.0, 0)


def test_p_is_rarely_small_without_a_difference():
    """Two models with random hits, on several cases per person: p is below 0.1 in about one of ten seeds."""
    small = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        people = np.repeat(np.arange(40), 5)
        chance = np.repeat(rng.beta(2, 2, (2, 40)), 5, axis=1)  # the models differ in the people that are easy
        hits = rng.random((2, 200)) < chance
        statistics = [weighted_share(model_hits, np.ones(200, bool)) for model_hits in hits]
        draws = paired_bootstrap(statistics, people, people, seed=seed, resamples=200)
        small += bootstrap_difference(hits[0].mean(), hits[1].mean(), draws[:, 0], draws[:, 1]).p < 0.1
    assert 3 <= small <= 20


def test_weighted_classification_equals_that_of_repeated_photographs():
    rng = np.random.default_rng(0)
    labels, predictions, weights = rng.integers(0, 3, 80), rng.integers(0, 4, 80), rng.integers(0, 3, 80)
    report = classification(np.repeat(labels, weights), np.repeat(predictions, weights), list("abcd"))
    expected = [report.accuracy.value, report.balanced_accuracy, report.macro_f1]
    shares = weighted_classification(labels, predictions, 3)(weights)
    np.testing.assert_allclose(shares, expected)
    assert np.isnan(weighted_classification(labels, predictions, 3)(weights * 0)).all()
