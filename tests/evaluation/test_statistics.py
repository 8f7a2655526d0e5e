"""Metrics are compared with cases by hand and with loops that follow the definitions."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from evaluation.statistics.classification import classification
from evaluation.statistics.curves import WeightedRoc, roc, tar_at_far, threshold_at_far
from evaluation.statistics.intervals import (
    identity_bootstrap,
    identity_weights,
    interval,
    rate_over_people,
    weighted_share,
)
from evaluation.statistics.rates import Rate, rate, wilson
from face_data.thresholds import accuracy, best_threshold

SCORES = np.array([0.9, 0.8, 0.4, 0.7, 0.3, 0.2])
SAME = np.array([True, True, True, False, False, False])


def random_scores(seed, n=400, ties=True):
    """Overlapping scores of n pairs, by default rounded so that many are equal."""
    rng = np.random.default_rng(seed)
    same = rng.random(n) < 0.5
    scores = np.clip(rng.normal(0.3 + 0.25 * same, 0.2), -1, 1)
    return np.round(scores, 2) if ties else scores, same


def test_accuracy_by_hand():
    assert accuracy(SCORES, SAME, 0.5) == pytest.approx(4 / 6)
    assert accuracy(SCORES, SAME, 0.8) == pytest.approx(5 / 6)  # a score at the threshold is accepted


def test_best_threshold_by_hand():
    # 5 of 6 are right with a threshold in (0.3, 0.4] or in (0.7, 0.8]; the result is the middle of the lower interval
    assert best_threshold(SCORES, SAME) == pytest.approx(0.35)
    assert best_threshold([0.1, 0.2, 0.6, 0.7], [False, False, True, True]) == pytest.approx(0.4)


def test_the_best_threshold_can_accept_all_or_none():
    assert accuracy([0.1, 0.2], [True, True], best_threshold([0.1, 0.2], [True, True])) == 1
    assert accuracy([0.1, 0.2], [False, False], best_threshold([0.1, 0.2], [False, False])) == 1


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_is_better_than_the_best(seed):
    scores, same = random_scores(seed)
    best = accuracy(scores, same, best_threshold(scores, same))
    assert best == max(accuracy(scores, same, threshold) for threshold in [*np.unique(scores), 2])


@pytest.mark.parametrize("seed", range(5))
def test_roc_against_loops(seed):
    scores, same = random_scores(seed)
    curve = roc(scores, same)
    for far, tar, threshold in zip(curve.far[1:], curve.tar[1:], curve.thresholds[1:], strict=True):
        assert far == pytest.approx(np.mean([s >= threshold for s in scores[~same]]))
        assert tar == pytest.approx(np.mean([s >= threshold for s in scores[same]]))
    wins = [(g > i) + 0.5 * (g == i) for g in scores[same] for i in scores[~same]]
    assert curve.auc == pytest.approx(np.mean(wins))
    gaps = [(abs(f - (1 - t)), (f + 1 - t) / 2) for f, t in zip(curve.far, curve.tar, strict=True)]
    assert curve.eer == pytest.approx(min(gaps)[1], abs=min(gaps)[0])


def test_eer_by_hand():
    assert roc(SCORES, SAME).eer == pytest.approx(1 / 3)  # between 0.4 and 0.7, FAR and FRR are both 1/3


@pytest.mark.parametrize("far", [0.01, 0.05, 0.29])
@pytest.mark.parametrize("seed", range(3))
def test_tar_at_far_against_a_loop(seed, far):
    scores, same = random_scores(seed)
    best = 0.0
    for threshold in np.unique(scores):
        if np.mean(scores[~same] >= threshold) <= far:
            best = max(best, np.mean(scores[same] >= threshold))
    result = tar_at_far(scores, same, far)
    assert result.value == pytest.approx(best)
    assert (result.total, result.impostors) == (same.sum(), (~same).sum())
    assert WeightedRoc(scores, same)(np.ones(len(scores), int), [far])[2] == pytest.approx(best)


def test_exactly_the_allowed_share_of_impostors_may_be_accepted():
    scores = np.concatenate([np.arange(100) / 100, [0.695, 0.705]])  # impostors 0.00 .. 0.99, then two genuine
    same = np.arange(102) >= 100
    assert tar_at_far(scores, same, 0.29).hits == 1  # 0.71 .. 0.99 are the 29 accepted impostors
    assert threshold_at_far(scores, same, 0.29) == pytest.approx(0.705)


def test_a_far_that_needs_more_impostors_is_not_reported():
    scores, same = random_scores(0, n=60)
    result = tar_at_far(scores, same, 0.01)
    assert result.value is None
    assert str((~same).sum()) in result.reason
    with pytest.raises(ValueError, match="at least 1/FAR impostor pairs"):
        threshold_at_far(scores, same, 0.01)


def test_there_is_no_threshold_if_impostors_score_highest():
    with pytest.raises(ValueError, match="no threshold gives a FAR"):
        threshold_at_far([0.9, 0.9, 0.1], [False, False, True], 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_weights_count_like_repeated_pairs(seed):
    scores, same = random_scores(seed)
    weights = np.random.default_rng(seed).integers(0, 4, len(scores))
    repeated = np.repeat(scores, weights), np.repeat(same, weights)
    expected = [roc(*repeated).auc, roc(*repeated).eer, *(tar_at_far(*repeated, far).value for far in (0.05, 0.3))]
    assert WeightedRoc(scores, same)(weights, [0.05, 0.3]) == pytest.approx(expected)
    share = weighted_share(scores >= 0.4, same)(weights)
    assert share == pytest.approx(np.mean(np.repeat(scores, weights)[np.repeat(same, weights)] >= 0.4))


@pytest.mark.parametrize("ties", [True, False])
def test_weighted_roc_agrees_with_scikit_learn(ties):
    scores, same = random_scores(1, ties=ties)
    weights = np.random.default_rng(2).integers(0, 5, len(scores))
    area, eer, at_none, at_all = WeightedRoc(scores, same)(weights, [0, 1])
    assert area == pytest.approx(roc_auc_score(same, scores, sample_weight=weights))
    far, tar, _ = roc_curve(same, scores, sample_weight=weights, drop_intermediate=False)
    assert eer == pytest.approx(np.interp(0, far + tar - 1, far))
    assert at_none == pytest.approx(tar[far == 0].max())
    assert at_all == 1


def test_weighted_roc_by_hand():
    # weight 3 for the first genuine pair, 2 for the impostor at 0.7: 0.9 and 0.8 exceed all impostors, 0.4 two of four
    area, eer, tar = WeightedRoc(SCORES, SAME)(np.array([3, 1, 1, 2, 1, 1]), [0.5])
    assert area == pytest.approx((4 * 4 + 2) / 20)
    assert eer == pytest.approx(0.2)  # FRR is 1/5 between 0.8 and 0.4, where FAR rises from 0 to 2/4
    assert tar == 1  # the threshold may accept the impostor at 0.7 (2 of 4), so the genuine pair at 0.4 too
    # a pair of weight 0 does not count; without impostor pairs there is no curve
    assert WeightedRoc(SCORES, SAME)(np.array([1, 1, 0, 1, 1, 1]))[0] == 1
    assert np.isnan(WeightedRoc(SCORES, SAME)(np.array([1, 1, 1, 0, 0, 0]), [0.1])).all()


def test_the_weights_of_people_give_the_weights_of_their_pairs():
    first, second = ["a", "a", "b", "b"], ["a", "b", "b", "c"]
    draws = np.array(list(identity_weights(first, second, seed=0, resamples=300)))
    a, a_and_b, b, b_and_c = draws.T
    assert (a_and_b == a * b).all()
    assert (b_and_c == b * (3 - a - b)).all()  # each draw has three people
    assert set(a) == {0, 1, 2, 3}
    assert a.mean() == pytest.approx(1, abs=0.15)


def test_the_interval_ignores_draws_without_a_value():
    assert interval([*range(101), np.nan]) == pytest.approx((2.5, 97.5))
    assert interval([np.nan, np.nan]) is None


def test_wilson_against_published_values():
    # Newcombe (Statistics in Medicine 1998), table I, method 3
    for hits, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert wilson(hits, total) == pytest.approx((low, high), abs=5e-5)
    assert wilson(29, 29) == pytest.approx((0.8830, 1.0), abs=5e-5)
    assert rate(0, 0) == Rate(value=None, hits=0, total=0, low=None, high=None) and rate(0, 0).interval is None


def test_bootstrap_draws_people_not_pairs():
    """One person has half of the pairs, all wrong. The interval over people is much wider than one over pairs."""
    people = np.array(["many"] * 100 + [f"p{number}" for number in range(20) for _ in range(5)])
    wrong = people == "many"
    statistic = weighted_share(wrong, np.ones(200, bool))
    low, high = identity_bootstrap(statistic, people, people, seed=0)
    assert low == 0  # draws without that person
    assert high > 0.6  # Wilson on 200 pairs would end at 0.57
    assert (low, high) == identity_bootstrap(statistic, people, people, seed=0)


def test_the_bootstrap_interval_covers_the_true_value():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(60):
        chance = np.repeat(rng.beta(4, 4, 50), 4)  # people differ; the mean over all people is 0.5
        people = np.repeat(np.arange(50).astype(str), 4)
        hits = rng.random(200) < chance
        statistic = weighted_share(hits, np.ones(200, bool))
        low, high = identity_bootstrap(statistic, people, people, seed=seed, resamples=200)
        covered += low <= 0.5 <= high
    assert 50 <= covered <= 60  # 95 % of 60 is 57


def test_the_bootstrap_interval_is_none_without_variation():
    none, pairs = np.zeros(4, bool), (["a", "a", "b", "b"], ["a", "b", "c", "b"])
    assert rate_over_people(none, ~none, *pairs, seed=0) == rate(0, 4)
    assert rate_over_people(~none, ~none, *pairs, seed=0).bootstrap is None
    assert rate_over_people(np.arange(4) < 2, ~none, *pairs, seed=0).bootstrap is not None
    statistic = weighted_share(np.zeros(2, bool), np.zeros(2, bool))
    assert identity_bootstrap(statistic, ["a", "b"], ["a", "b"], seed=0) is None


def test_classification_by_hand():
    # happy: 2 of 3 right; sad: 1 of 1; fear never occurs but is predicted once
    report = classification([0, 0, 0, 1], [0, 0, 2, 1], ["happy", "sad", "fear"])
    assert report.confusion_matrix == [[2, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert (report.accuracy.hits, report.accuracy.total) == (3, 4)
    assert report.balanced_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert report.macro_f1 == pytest.approx((0.8 + 1) / 2)
    assert report.recall["fear"].value is None
    assert report.recall["happy"].total == 3


def test_classification_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 5, (2, 200))
    report = classification(labels, predictions, list("abcde"))
    assert report.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predictions))


@pytest.mark.parametrize("metric", [best_threshold, roc, lambda scores, same: accuracy(scores, same, 0.5)])
def test_nan_and_lists_of_different_lengths_raise(metric):
    with pytest.raises(ValueError, match="score 1 is not a number"):
        metric([0.1, np.nan, 0.3], [True, False, True])
    with pytest.raises(ValueError, match="equally long"):
        metric([0.1], [True, False])


def test_a_curve_needs_both_kinds_of_pairs():
    with pytest.raises(ValueError, match="2 genuine and 0 impostor"):
        roc([0.1, 0.2], [True, True])
