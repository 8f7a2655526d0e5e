"""Expression reports: names are matched, whatever the order of the model's classes."""

import pytest

from evaluation.expression import expression_report

ORDER = ("surprise", "happy", "neutral")


def rows(labelled, known=True):
    """(label, predicted) by names -> rows of embeddings for a model that orders its classes as ORDER."""
    for number, (label, predicted) in enumerate(labelled):
        probabilities = [0.8 if name == predicted else 0.1 for name in ORDER]
        yield (f"k{number}", f"p{number % 2}" if known else None, label, "9", [1, 0], probabilities)


def test_the_paper_s_order_and_the_right_names(by_hand):
    labelled = [("happy", "happy"), ("happy", "surprise"), ("neutral", "neutral"), ("surprise", "surprise")]
    report = expression_report(by_hand(rows(labelled), ORDER), seed=0)
    assert report["classes"] == ["neutral", "happy", "surprise"]
    assert report["confusion_matrix"] == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert report["accuracy"]["value"] == 0.75
    assert report["recall"]["happy"]["value"] == 0.5


def test_labels_the_model_does_not_know_are_counted_not_judged(by_hand):
    labelled = [("happy", "happy"), ("contempt", "happy"), ("contempt", "neutral"), (None, "happy"), ("fear", "happy")]
    report = expression_report(by_hand(rows(labelled), ORDER), seed=0)
    assert (report["accuracy"]["hits"], report["accuracy"]["total"]) == (1, 1)
    assert report["unknown_to_model"] == {"contempt": 2, "fear": 1}
    assert report["unlabelled"] == 1


def test_nothing_to_judge_raises(by_hand):
    with pytest.raises(ValueError, match="no labelled picture"):
        expression_report(by_hand(rows([(None, "happy"), ("contempt", "happy")]), ORDER), seed=0)


def test_people_are_resampled_where_they_are_known(by_hand):
    labelled = [("happy", "happy"), ("happy", "surprise")] * 5  # one person is always right, the other never
    report = expression_report(by_hand(rows(labelled), ORDER), seed=0)
    assert report["accuracy"]["bootstrap"] == report["recall"]["happy"]["bootstrap"] == (0, 1)
    assert report["accuracy"]["low"] == report["recall"]["happy"]["low"] > 0.2
    assert "bootstrap" not in expression_report(by_hand(rows(labelled, known=False), ORDER), seed=0)["accuracy"]
