"""Verification protocols on scores made by hand."""

import numpy as np
import pytest

from evaluation.metrics import best_threshold
from evaluation.report import verification_text
from evaluation.verification import ScoredPairs, at_threshold, curve, score_pairs, single_fold, ten_folds
from face_data.pairs import Pair


def scored(folds, scores, same, first=None, second=None) -> ScoredPairs:
    count = len(scores)
    first = np.array([f"p{number}" for number in range(count)] if first is None else first)
    second = np.where(same, first, [f"q{number}" for number in range(count)]) if second is None else np.array(second)
    return ScoredPairs(
        np.array(folds), np.array(scores), np.array(same, bool), first, second, np.zeros(count, bool)
    )


def leaking_folds() -> ScoredPairs:
    """Nine folds part at 0.5; fold 10 alone parts at 0.8, a threshold only it can know of."""
    folds, scores, same = [], [], []
    for fold in range(1, 11):
        genuine, impostor = (0.9, 0.7) if fold == 10 else (0.6, 0.4)
        folds += [fold] * 20
        scores += [genuine] * 10 + [impostor] * 10
        same += [True] * 10 + [False] * 10
    return scored(folds, scores, same)


def test_the_threshold_never_sees_the_fold_it_judges():
    result = ten_folds(leaking_folds(), frozenset())
    last = result["folds"][-1]
    assert 0.4 < last["threshold"] < 0.6
    assert last["accuracy"]["value"] == 0.5  # with the fold's own best threshold it would be 1
    assert [fold["accuracy"]["value"] for fold in result["folds"][:-1]] == [1.0] * 9
    assert result["mean"] == pytest.approx(0.95)
    assert result["standard_error"] == pytest.approx(np.std([1.0] * 9 + [0.5], ddof=1) / np.sqrt(10))


def test_not_even_as_one_among_all_folds():
    """Fold 3 is so large that a threshold chosen on all the pairs together would be its own."""
    folds, scores = [1] * 20 + [2] * 20 + [3] * 100, [0.6, 0.4] * 20 + [0.9, 0.7] * 50
    same = [True, False] * 70
    assert best_threshold(scores, same) > 0.7
    last = ten_folds(scored(folds, scores, same), frozenset())["folds"][-1]
    assert last["threshold"] == pytest.approx(0.5)
    assert (last["accuracy"]["hits"], last["accuracy"]["total"]) == (50, 100)


def test_single_fold_takes_its_thresholds_from_fold_9():
    pairs = leaking_folds()
    result = single_fold(pairs, far=0.1, shipped_threshold=0.8, seed=0)
    assert 0.4 < result["best_accuracy_threshold"]["threshold"] < 0.6
    assert result["best_accuracy_threshold"]["accuracy"]["hits"] == 10
    assert result["far_threshold"]["threshold"] == pytest.approx(0.6)
    assert (result["far_threshold"]["far"]["hits"], result["far_threshold"]["far"]["total"]) == (10, 10)
    assert result["shipped_threshold"]["accuracy"]["value"] == 1
    assert result["tar_at_far"][0]["value"] == 1  # on fold 10's own curve
    # Whatever fold 10 scores, what was chosen on fold 9 stays.
    pairs.scores[pairs.folds == 10] = 0.0
    again = single_fold(pairs, far=0.1, shipped_threshold=0.8, seed=0)
    for name in ("best_accuracy_threshold", "far_threshold"):
        assert again[name]["threshold"] == result[name]["threshold"]


def test_folds_the_network_learned_from_are_marked():
    pairs = leaking_folds()
    result = ten_folds(pairs, frozenset({"1", "2", "train"}))
    assert result["optimistic"] is True
    assert [fold["fold"] for fold in result["folds"] if fold["trained_on"]] == [1, 2]
    assert result["unseen_mean"] == pytest.approx((7 + 0.5) / 8)
    text = verification_text({"ten_folds": result, "single_fold": single_fold(pairs, 0.1, None, 0)})
    assert "OPTIMISTIC: the network was trained on the people of folds 1, 2" in text
    assert ten_folds(pairs, frozenset({"train"}))["optimistic"] is False
    unknown = ten_folds(pairs, None)
    assert unknown["optimistic"] is None
    assert unknown["unseen_mean"] is None


def test_pairs_without_a_face_are_counted_and_decided_as_different(by_hand):
    flat = [1 / 3] * 3
    embeddings = by_hand([("a1", "a", None, "10", [1, 0], flat), ("a2", "a", None, "10", [1, 1], flat)])
    pairs = [
        Pair(10, "a1", "a2", True), Pair(10, "a1", "lost", True), Pair(10, "lost", "a2", False),
        Pair(10, "lost", "gone", True),
    ]  # fmt: skip
    result = score_pairs(pairs, embeddings)
    np.testing.assert_allclose(result.scores, [np.sqrt(0.5), -1, -1, -1], atol=1e-6)
    assert result.missing.tolist() == [False, True, True, True]
    assert result.first.tolist() == ["a", "a", "lost", "lost"]
    assert result.second.tolist() == ["a", "a", "a", "lost"]
    point = at_threshold(result, 0.5, seed=0)
    assert (point["frr"]["hits"], point["frr"]["total"], point["far"]["hits"]) == (2, 3, 0)
    assert curve(result, (0.01,), seed=0)["missing_pairs"] == 3


def test_scores_are_cosines_of_the_named_photographs(by_hand):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 8))
    embeddings = by_hand([(f"k{i}", f"p{i // 2}", None, "1", vectors[i], [1, 0, 0]) for i in range(6)])
    pairs = [Pair(1, f"k{i}", f"k{j}", i // 2 == j // 2) for i in range(6) for j in range(i)]
    expected = [
        vectors[int(pair.first[1])] @ vectors[int(pair.second[1])]
        / np.linalg.norm(vectors[int(pair.first[1])]) / np.linalg.norm(vectors[int(pair.second[1])])
        for pair in pairs
    ]  # fmt: skip
    np.testing.assert_allclose(score_pairs(pairs, embeddings).scores, expected, atol=1e-6)
