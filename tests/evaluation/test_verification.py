"""Verification protocols, on given scores."""

import numpy as np
import pytest

from evaluation.protocols.operating_points import FARS, at_threshold, curve
from evaluation.protocols.pairs import ScoredPairs, score_pairs
from evaluation.protocols.sections import VerificationSection
from evaluation.protocols.verification import single_fold, ten_folds
from evaluation.report.text import section_text
from evaluation.statistics.rates import wilson
from face_data.pairs import Pair, lfw_pairs
from face_data.thresholds import best_threshold


def scored(folds, scores, same, first=None, second=None) -> ScoredPairs:
    count = len(scores)
    first = np.array([f"p{number}" for number in range(count)] if first is None else first)
    second = np.where(same, first, [f"q{number}" for number in range(count)]) if second is None else np.array(second)
    splits = np.array([[str(fold)] * 2 for fold in folds])
    lost = np.zeros(count, bool)
    return ScoredPairs(np.array(folds), np.array(scores), np.array(same, bool), first, second, lost, splits)


def folds_with_one_exception() -> ScoredPairs:
    """A threshold of 0.5 separates the pairs of nine folds. Only the pairs of fold 10 need a threshold of 0.8."""
    folds, scores, same = [], [], []
    for fold in range(1, 11):
        genuine, impostor = (0.9, 0.7) if fold == 10 else (0.6, 0.4)
        folds += [fold] * 20
        scores += [genuine] * 10 + [impostor] * 10
        same += [True] * 10 + [False] * 10
    return scored(folds, scores, same)


def test_the_threshold_is_not_chosen_on_the_fold_that_it_decides():
    result = ten_folds(folds_with_one_exception(), frozenset())
    last = result.folds[-1]
    assert 0.4 < last.threshold < 0.6
    assert last.accuracy.value == 0.5  # with the best threshold of this fold it would be 1
    assert [fold.accuracy.value for fold in result.folds[:-1]] == [1.0] * 9
    assert result.mean == pytest.approx(0.95)
    assert result.standard_error == pytest.approx(np.std([1.0] * 9 + [0.5], ddof=1) / np.sqrt(10))


def test_the_threshold_is_not_chosen_on_all_folds_together():
    """Fold 3 is so large that the best threshold of all pairs together is that of fold 3."""
    folds, scores = [1] * 20 + [2] * 20 + [3] * 100, [0.6, 0.4] * 20 + [0.9, 0.7] * 50
    same = [True, False] * 70
    assert best_threshold(scores, same) > 0.7
    last = ten_folds(scored(folds, scores, same), frozenset()).folds[-1]
    assert last.threshold == pytest.approx(0.5)
    assert (last.accuracy.hits, last.accuracy.total) == (50, 100)


def pairs_like_view_2() -> list[Pair]:
    """10 x (300 + 300) pairs, as in LFW. Each fold has 60 people with three photographs; nobody is in two folds."""
    rng, pairs = np.random.default_rng(0), []
    for fold in range(1, 11):
        for number in range(300):
            one, other = rng.choice(60, 2, replace=False)
            first, second = rng.choice(3, 2, replace=False)
            genuine = number // 5  # each person is in five of them
            pairs.append(Pair(fold, f"p{fold}_{genuine}/{first}", f"p{fold}_{genuine}/{second}", True))
            pairs.append(Pair(fold, f"p{fold}_{one}/{first}", f"p{fold}_{other}/{second}", False))
    return pairs


def network(pairs: list[Pair], make_embeddings, vector):
    """Embeddings of all photographs of the pairs; vector: person -> (d,)."""
    keys = sorted({key for pair in pairs for key in (pair.first, pair.second)})
    return make_embeddings([(key, key.split("/")[0], None, "10", vector(key.split("/")[0]), [1, 0, 0]) for key in keys])


@pytest.fixture(params=["made", pytest.param("lfw", marks=pytest.mark.real_data)])
def pairs_of_ten_folds(request):
    """Made pairs in the form of View 2, and the real pairs of LFW."""
    if request.param == "made":
        return pairs_like_view_2()
    return lfw_pairs(request.getfixturevalue("real_data") / "lfw" / "pairs.txt")


def test_an_untrained_network_has_an_accuracy_of_half(pairs_of_ten_folds, make_embeddings):
    """Nine folds of random embeddings contain no information about the tenth; a higher accuracy would be a leak."""
    inside, means = 0, []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        random = network(pairs_of_ten_folds, make_embeddings, lambda _, rng=rng: rng.normal(size=32))
        result = ten_folds(score_pairs(pairs_of_ten_folds, random), frozenset())
        assert result.pairs == 6000 and len(result.folds) == 10 and result.missing_pairs == 0
        assert all(fold.accuracy.total == 600 for fold in result.folds)
        means.append(result.mean)
        inside += abs(result.mean - 0.5) <= wilson(3000, 6000)[1] - 0.5
    assert inside >= 17  # of 20; 19 are expected of a 95 % interval
    assert np.mean(means) == pytest.approx(0.5, abs=0.006)  # four standard errors of 20 x 6,000 coins


def test_a_perfect_network_has_an_accuracy_of_one(pairs_of_ten_folds, make_embeddings):
    """Each person has a random direction. Two people are further apart than two photographs of one person."""
    people = {key.split("/")[0] for pair in pairs_of_ten_folds for key in (pair.first, pair.second)}
    rng = np.random.default_rng(0)
    direction = {person: rng.normal(size=256) for person in sorted(people)}
    perfect = network(pairs_of_ten_folds, make_embeddings, lambda person: direction[person] + rng.normal(0, 0.05, 256))
    result = ten_folds(score_pairs(pairs_of_ten_folds, perfect), frozenset())
    assert (result.mean, result.standard_error) == (1, 0)
    assert [fold.accuracy.hits for fold in result.folds] == [600] * 10


def test_single_fold_takes_its_thresholds_from_fold_9():
    pairs = folds_with_one_exception()
    result = single_fold(pairs, far=0.1, shipped_threshold=0.8, seed=0)
    assert 0.4 < result.best_accuracy_threshold.threshold < 0.6
    assert result.best_accuracy_threshold.accuracy.hits == 10
    assert result.far_threshold.threshold == pytest.approx(0.6)
    assert (result.far_threshold.far.hits, result.far_threshold.far.total) == (10, 10)
    assert result.shipped_threshold.accuracy.value == 1
    assert result.tar_at_far[0].value == 1  # on the curve of fold 10
    # The scores of fold 10 do not change the thresholds that were chosen on fold 9.
    pairs.scores[pairs.folds == 10] = 0.0
    after = single_fold(pairs, far=0.1, shipped_threshold=0.8, seed=0)
    for name in ("best_accuracy_threshold", "far_threshold"):
        assert getattr(after, name).threshold == getattr(result, name).threshold


def test_folds_of_the_training_are_marked(make_section):
    pairs = folds_with_one_exception()
    result = ten_folds(pairs, frozenset({"1", "2", "train"}))
    assert result.optimistic is True
    assert [fold.fold for fold in result.folds if fold.trained_on] == [1, 2]
    assert result.unseen_mean == pytest.approx((7 + 0.5) / 8)
    text = section_text(
        make_section(VerificationSection, ten_folds=result, single_fold=single_fold(pairs, 0.1, None, 0))
    )
    assert "OPTIMISTIC: the network was trained on the people of folds 1, 2" in text
    assert ten_folds(pairs, frozenset({"train"})).optimistic is False
    unknown = ten_folds(pairs, None)
    assert unknown.optimistic is None
    assert unknown.unseen_mean is None


def test_pairs_without_a_face_are_counted_and_decided_as_different(make_embeddings):
    flat = [1 / 3] * 3
    embeddings = make_embeddings([("a1", "a", None, "10", [1, 0], flat), ("a2", "a", None, "10", [1, 1], flat)])
    pairs = [
        Pair(10, "a1", "a2", True),
        Pair(10, "a1", "lost", True),
        Pair(10, "lost", "a2", False),
        Pair(10, "lost", "gone", True),
    ]
    result = score_pairs(pairs, embeddings)
    np.testing.assert_allclose(result.scores, [np.sqrt(0.5), -1, -1, -1], atol=1e-6)
    assert result.missing.tolist() == [False, True, True, True]
    assert result.first.tolist() == ["a", "a", "lost", "lost"]
    assert result.second.tolist() == ["a", "a", "a", "lost"]
    point = at_threshold(result, 0.5, seed=0)
    assert (point.frr.hits, point.frr.total, point.far.hits) == (2, 3, 0)
    assert curve(result, (0.01,), seed=0).missing_pairs == 3


def test_scores_are_cosines_of_the_named_photographs(make_embeddings):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 8))
    embeddings = make_embeddings([(f"k{i}", f"p{i // 2}", None, "1", vectors[i], [1, 0, 0]) for i in range(6)])
    pairs = [Pair(1, f"k{i}", f"k{j}", i // 2 == j // 2) for i in range(6) for j in range(i)]
    expected = [
        vectors[int(pair.first[1])]
        @ vectors[int(pair.second[1])]
        / np.linalg.norm(vectors[int(pair.first[1])])
        / np.linalg.norm(vectors[int(pair.second[1])])
        for pair in pairs
    ]
    np.testing.assert_allclose(score_pairs(pairs, embeddings).scores, expected, atol=1e-6)


FLAT = [1 / 3] * 3


def test_a_video_is_the_mean_of_its_frames(make_embeddings):
    embeddings = make_embeddings(
        [
            ("Anna/0/0.1.jpg", "Anna", None, "1", [1, 0, 0], FLAT),
            ("Anna/0/0.2.jpg", "Anna", None, "1", [0, 2, 0], FLAT),
            ("Anna/1/1.1.jpg", "Anna", None, "1", [0, 1, 0], FLAT),
            ("Anna/10/10.1.jpg", "Anna", None, "1", [0, 0, 1], FLAT),
            ("Cem/0/0.7.jpg", "Cem", None, "1", [1, 0, 1], FLAT),
            ("Cem/1/1.7.jpg", "Cem", None, "1", [0, 1, 1], FLAT),
            ("Cem/2/2.7.jpg", "Cem", None, "1", [1, 0, 0], FLAT),
            ("Cem/2/2.8.jpg", "Cem", None, "1", [-1, 0, 0], FLAT),
        ]
    )
    pairs = [
        Pair(1, "Anna/0", "Anna/1", True),
        Pair(1, "Anna/0", "Cem/0", False),
        Pair(1, "Cem/1", "Cem/7", True),
        Pair(1, "Anna/1", "Anna/10", True),
        Pair(1, "Anna/0", "Anna/1/1.1.jpg", True),
        Pair(1, "Cem/2", "Cem/0", True),
    ]
    result = score_pairs(pairs, embeddings)
    # all frames have the same weight: the mean of Anna's first video points between its frames
    np.testing.assert_allclose(result.scores, [np.sqrt(0.5), 0.5, -1, 0, np.sqrt(0.5), 0], atol=1e-6)
    assert result.missing.tolist() == [False, False, True, False, False, False]
    assert (result.first[1], result.second[1]) == ("Anna", "Cem")
    assert result.first[2] == result.second[2] == "Cem"  # also if one of the videos is missing


def test_ten_splits_of_videos_are_evaluated(make_embeddings):
    rows, pairs = [], []
    for split in range(1, 11):
        for person, vector in ((f"a{split}", [1, 0]), (f"b{split}", [0, 1])):
            for video in (0, 1):
                rows += [(f"{person}/{video}/{frame}.jpg", person, None, str(split), vector, FLAT) for frame in (1, 2)]
            pairs.append(Pair(split, f"{person}/0", f"{person}/1", True))
        pairs += [Pair(split, f"a{split}/{video}", f"b{split}/0", False) for video in (0, 1)]
    result = ten_folds(score_pairs(pairs, make_embeddings(rows)), frozenset({"1"}))
    assert (result.mean, result.pairs, result.missing_pairs) == (1, 40, 0)
    assert [fold.fold for fold in result.folds] == list(range(1, 11))
    assert result.bootstrap is None  # without errors, all draws have the same accuracy


def test_the_interval_of_the_mean_over_folds_is_over_people():
    # 20 folds of four people; in each fold, one genuine pair is wrong at the best threshold of the others
    folds = np.repeat(np.arange(20), 4)
    scores, same = np.tile([0.9, 0.9, 0.9, 0.1], 20), np.ones(80, bool)
    same[::4], scores[::4] = False, 0.2
    pairs = scored(folds, scores, same, first=[f"p{number}" for number in range(80)])
    result = ten_folds(pairs, None)
    low, high = result.bootstrap
    assert result.mean == pytest.approx(0.75)
    assert low < 0.75 < high
    assert ten_folds(pairs, None).bootstrap == (low, high)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.75 * 0.25 / 80), rel=0.4)


def test_a_single_fold_has_no_threshold():
    with pytest.raises(ValueError, match="one fold only, 3"):
        ten_folds(scored([3, 3], [0.1, 0.9], [False, True]), None)


def test_a_fold_with_few_impostors_is_evaluated_without_a_far_threshold(make_section):
    result = single_fold(folds_with_one_exception(), far=0.01, shipped_threshold=None, seed=0)
    assert result.far_threshold is None
    assert result.far_threshold_reason.startswith("fold 9: a FAR of 0.01 needs at least 1/FAR impostor pairs")
    assert result.best_accuracy_threshold.accuracy.total == 20
    assert "TAR at FAR" in section_text(
        make_section(VerificationSection, ten_folds=ten_folds(folds_with_one_exception(), None), single_fold=result)
    )


def test_a_curve_reports_its_pairs_and_intervals():
    rng = np.random.default_rng(0)
    same = np.arange(3000) < 1000
    first = rng.integers(0, 100, 3000)
    people = np.array([f"p{number:02d}" for number in range(100)])
    second = np.where(same, first, (first + rng.integers(1, 100, 3000)) % 100)
    pairs = scored([0] * 3000, rng.normal(same * 0.5, 0.3), same, people[first], people[second])
    result = curve(pairs, (0.02, 0.01), seed=0)
    assert [tar.far for tar in result.tar_at_far] == [0.02, 0.01, 0.1, 0.001, 0.0001]
    assert {tar.impostors for tar in result.tar_at_far} == {2000}
    assert result.tar_at_far[-1].value is None  # 2,000 impostor pairs cannot show one in 10,000
    assert "2000 impostor pairs" in result.tar_at_far[-1].reason
    assert result.tar_at_far[-1].bootstrap is None
    for value, (low, high) in (
        (result.auc, result.auc_interval),
        (result.eer, result.eer_interval),
        *((tar.value, tar.bootstrap) for tar in result.tar_at_far[:-1]),
    ):
        assert 0 < low < value < high < 1
    assert curve(pairs, FARS, seed=0).auc_interval == result.auc_interval
    assert [tar.far for tar in curve(pairs, FARS, seed=0).tar_at_far] == list(FARS)


def test_a_curve_without_errors_has_no_interval():
    result = curve(folds_with_one_exception().select(np.arange(200) < 20), (0.1,), seed=0)
    assert (result.auc, result.eer) == (1, 0)
    assert result.auc_interval is None and result.eer_interval is None


def test_folds_are_marked_by_the_splits_of_their_photographs(make_embeddings):
    rows = [
        (f"{person}{number}", person, None, split, [1, number], FLAT)
        for person, split in (("a", "7"), ("b", "8"), ("c", "9"))
        for number in (1, 2)
    ]
    pairs = [
        Pair(1, "a1", "a2", True),
        Pair(1, "a1", "b1", False),
        Pair(2, "b1", "b2", True),
        Pair(2, "b1", "c1", False),
        Pair(2, "c1", "lost", True),
    ]
    result = score_pairs(pairs, make_embeddings(rows))
    assert result.splits.tolist() == [["7", "7"], ["7", "8"], ["8", "8"], ["8", "9"], ["9", ""]]
    marked = {train: ten_folds(result, frozenset(train)) for train in ("1", "7", "8")}
    assert [fold.trained_on for fold in marked["1"].folds] == [False, False]  # there is no split 1
    assert [fold.trained_on for fold in marked["7"].folds] == [True, False]
    assert [fold.trained_on for fold in marked["8"].folds] == [True, True]
    assert marked["8"].unseen_mean is None
