"""Expression reports match classes by their names, in any order of the model's classes."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import log_loss

from evaluation.protocols.expression import class_mapping, expression_report
from evaluation.statistics.probabilities import calibration_error, vote_agreement
from face_data.table import CORPUS_EXPRESSIONS

ORDER = ("surprise", "happy", "neutral")


def rows(labelled, known=True):
    """Rows of embeddings from pairs (label, predicted), for a model with the classes of ORDER."""
    for number, (label, predicted) in enumerate(labelled):
        probabilities = [0.8 if name == predicted else 0.1 for name in ORDER]
        yield (f"k{number}", f"p{number % 2}" if known else None, label, "9", [1, 0], probabilities)


def test_classes_are_in_the_order_of_the_paper_and_matched_by_name(make_embeddings):
    labelled = [("happy", "happy"), ("happy", "surprise"), ("neutral", "neutral"), ("surprise", "surprise")]
    report = expression_report(make_embeddings(rows(labelled), ORDER), seed=0)
    assert report.classes == ["neutral", "happy", "surprise"]
    assert report.confusion_matrix == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert report.accuracy.value == 0.75
    assert report.recall["happy"].value == 0.5


def test_labels_that_the_model_lacks_are_counted_but_not_evaluated(make_embeddings):
    labelled = [("happy", "happy"), ("contempt", "happy"), ("contempt", "neutral"), (None, "happy"), ("fear", "happy")]
    report = expression_report(make_embeddings(rows(labelled), ORDER), seed=0)
    assert (report.accuracy.hits, report.accuracy.total) == (1, 1)
    assert report.unknown_to_model == {"contempt": 2, "fear": 1}
    assert report.unlabelled == 1


def test_a_corpus_without_known_labels_is_refused(make_embeddings):
    with pytest.raises(ValueError, match="no labelled image"):
        expression_report(make_embeddings(rows([(None, "happy"), ("contempt", "happy")]), ORDER), seed=0)


def test_people_are_resampled_if_identities_are_known(make_embeddings):
    labelled = [("happy", "happy"), ("happy", "surprise")] * 5  # always right for one person, never for the other
    report = expression_report(make_embeddings(rows(labelled), ORDER), seed=0)
    assert report.accuracy.bootstrap == report.recall["happy"].bootstrap == (0, 1)
    assert report.accuracy.low == report.recall["happy"].low > 0.2
    assert expression_report(make_embeddings(rows(labelled, known=False), ORDER), seed=0).accuracy.bootstrap is None


def test_reports_have_six_seven_or_eight_classes(make_embeddings):
    labelled = [("happy", "happy"), ("contempt", "neutral"), ("fear", "happy"), ("neutral", "neutral")]
    faces = make_embeddings(rows(labelled), ORDER)
    eight = expression_report(faces, 0, class_mapping(["8"], ORDER))
    assert (eight.accuracy.hits, eight.accuracy.total) == (2, 4)  # labels that the model lacks count as errors
    assert eight.never_predicted == ["anger", "disgust", "fear", "sad", "contempt"]
    assert eight.unknown_to_model == {}
    seven = expression_report(faces, 0, class_mapping(["7"], ORDER))
    assert (seven.accuracy.total, seven.unknown_to_model) == (3, {"contempt": 1})
    merged = expression_report(faces, 0, class_mapping(["7", "contempt=neutral"], ORDER))
    assert (merged.accuracy.hits, merged.accuracy.total) == (3, 4)
    assert merged.classes == list(CORPUS_EXPRESSIONS[:7])
    # both classes get a part of the probability of neutral
    two = expression_report(faces, 0, class_mapping(["happy", "surprise"], ORDER))
    assert two.classes == ["happy", "surprise"]
    assert two.calibration.bins[0].confidence == pytest.approx(0.8 / 0.9)
    six = expression_report(faces, 0, class_mapping(["6"], ORDER))
    assert (six.accuracy.hits, six.accuracy.total) == (1, 2) and "neutral" not in six.classes


@pytest.mark.parametrize(
    "classes, message", [(["9"], "no expression '9'"), (["6", "contempt=neutral"], "not one of the classes")]
)
def test_classes_that_do_not_exist_are_named(classes, message):
    with pytest.raises(ValueError, match=message):
        class_mapping(classes, ORDER)


def test_calibration_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.35, 0.65]])
    result = calibration_error(probabilities, [0, 0, 1, 0])
    # bins of 1/15: 0.65 is in the ninth, 0.7 in the tenth, 0.8 in the twelfth, 0.9 in the thirteenth
    assert [confidence_bin.count for confidence_bin in result.bins] == [1, 1, 1, 1]
    assert result.ece == pytest.approx((0.1 + 0.2 + 0.3 + 0.65) / 4)
    assert result.negative_log_likelihood == pytest.approx(log_loss([0, 0, 1, 0], probabilities))
    assert result.brier == pytest.approx((2 * 0.01 + 2 * 0.04 + 2 * 0.09 + 2 * 0.65**2) / 4)
    sure = calibration_error(np.array([[1.0, 0.0], [1.0, 0.0]]), [0, 1])
    assert (sure.ece, sure.bins[0].high, sure.bins[0].count) == (0.5, 1, 2)


def test_calibrated_probabilities_have_no_calibration_error():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 20_000)
    labels = [rng.choice(3, p=row) for row in probabilities]
    assert calibration_error(probabilities, labels).ece < 0.02
    overconfident = probabilities**3 / (probabilities**3).sum(1, keepdims=True)
    assert calibration_error(overconfident, labels).ece > 0.1


def test_votes_by_hand():
    votes = np.array([[0.6, 0.4, 0], [0.5, 0.5, 0], [0.2, 0.7, 0.1]])
    predicted = np.array([[0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.8, 0.1, 0.1]])
    result = vote_agreement(predicted, votes)
    assert result.most_votes.hits == 1  # the second face: two labels have the most votes
    assert result.multi_label.hits == 2  # labels with 0.4 and 0.5 of the votes count, with 0.2 not
    assert result.kullback_leibler == pytest.approx(entropy(votes, predicted, axis=1).mean())
    assert result.cross_entropy == pytest.approx(np.mean(-(votes * np.log(predicted)).sum(1)))
    assert vote_agreement(votes, votes).kullback_leibler == pytest.approx(0, abs=1e-9)


def test_votes_of_a_corpus_are_reported(make_embeddings):
    faces = make_embeddings(rows([("happy", "happy"), (None, "happy"), ("neutral", "happy"), (None, "neutral")]), ORDER)
    share = dict.fromkeys(CORPUS_EXPRESSIONS, 0.0)
    votes = [
        list((share | {"happy": 1}).values()),
        list((share | {"happy": 0.5, "contempt": 0.5}).values()),  # contempt is dropped: the model lacks it
        None,
        list((share | {"contempt": 1}).values()),
    ]
    report = expression_report(replace(faces, votes=votes), 0).votes
    assert (report.photographs, report.most_votes.hits) == (2, 2)
    assert report.dropped_votes == pytest.approx(0.5)
    assert report.cross_entropy == pytest.approx(-np.log(0.8))
    assert expression_report(faces, 0).votes is None
