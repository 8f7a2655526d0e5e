"""Calibration reaches the stated FAR on people outside the training, and the config stores its thresholds."""

import json

import numpy as np
import pytest

from evaluation.calibration import Configured, calibrate, choose_expression_threshold, store
from evaluation.protocols.pairs import generated_pairs
from evaluation.statistics.rates import to_json
from modeling_facelivenet import FaceLiveNetConfig

OPTIONS = {"required": ("happy",), "expression_threshold": 0.5, "trained_on": {"patterns": ["8"]}, "seed": 0}


@pytest.fixture
def crowd(make_embeddings):
    """60 people of fold 9 with four photographs each. Their embeddings overlap."""
    rng = np.random.default_rng(0)
    rows = []
    for person in range(60):
        centre = rng.normal(size=32)
        for number, label in enumerate(("happy", "happy", "neutral", "surprise")):
            vector = centre + rng.normal(size=32)
            rows.append((f"p{person}_{number}", f"p{person}", label, "9", vector, rng.dirichlet([1, 1, 1])))
    return make_embeddings(rows)


@pytest.mark.parametrize("far", [0.001, 0.01, 0.1])
def test_the_stated_far_holds_on_the_calibration_pairs(crowd, far):
    result = calibrate({"patterns": crowd}, far=far, **OPTIONS)
    record, threshold = result.calibration, result.similarity_threshold
    pairs = generated_pairs(crowd, seed=0)
    impostors, genuine = pairs.scores[~pairs.same], pairs.scores[pairs.same]
    assert np.mean(impostors >= threshold) == record.far <= far
    lower = pairs.scores[pairs.scores < threshold].max()
    assert np.mean(impostors >= lower) > far  # with any lower threshold, the FAR is too high
    assert np.mean(genuine < threshold) == record.frr
    assert (record.genuine_pairs, record.impostor_pairs) == (len(genuine), len(impostors)) == (360, 20_000)
    assert record.far_interval[0] <= record.far <= record.far_interval[1]
    assert (record.target_far, record.corpora) == (far, {"patterns": ["9"]})


def test_calibration_on_people_of_the_training_is_refused(crowd):
    with pytest.raises(ValueError, match="trained on patterns, split 9"):
        calibrate({"patterns": crowd}, far=0.01, **OPTIONS | {"trained_on": {"patterns": ["9"]}})


def test_a_far_that_needs_more_impostor_pairs_is_refused(crowd):
    with pytest.raises(ValueError, match="at least 1/FAR impostor pairs, there are 20000"):
        calibrate({"patterns": crowd}, far=1e-5, **OPTIONS)


def happy_faces(make_embeddings, right, wrong):
    """Photographs with given probabilities of happy: `right` for the label happy, `wrong` for the label neutral."""
    labelled = [("happy", p) for p in right] + [("neutral", p) for p in wrong]
    return make_embeddings([(f"k{i}", "p", label, "9", [1, 0], [1 - p, p, 0]) for i, (label, p) in enumerate(labelled)])


def test_the_expression_threshold_changes_if_the_accuracy_improves(make_embeddings):
    faces = happy_faces(make_embeddings, right=[0.9] * 10, wrong=[0.6] * 5 + [0.1] * 5)
    threshold, record = choose_expression_threshold({"patterns": faces}, ("happy", "surprise"), 0.5, seed=0)
    assert 0.6 < threshold <= 0.9
    assert record.balanced_accuracy == 1
    assert record.configured == Configured(threshold=0.5, balanced_accuracy=0.75)
    happy = record.required.pop("happy")
    assert (happy.seen.hits, happy.seen.total) == (10, 10)
    assert (happy.falsely_seen.hits, happy.falsely_seen.total) == (0, 10)
    assert list(record.required) == ["neutral"]  # sessions begin with neutral; no photograph has the label surprise


def test_the_expression_threshold_stays_if_the_accuracy_hardly_improves(make_embeddings):
    faces = happy_faces(make_embeddings, right=[0.9] * 100, wrong=[0.6] + [0.1] * 99)
    threshold, record = choose_expression_threshold({"patterns": faces}, ("happy",), 0.5, seed=0)
    assert threshold == 0.5
    assert record.balanced_accuracy == record.configured.balanced_accuracy == pytest.approx(0.995)
    assert record.required["happy"].falsely_seen.hits == 1


def test_the_expression_threshold_stays_without_labels(make_embeddings):
    faces = make_embeddings([("k", "p", None, "9", [1, 0], [1, 0, 0])])
    assert choose_expression_threshold({"patterns": faces}, ("happy",), 0.4, seed=0) == (0.4, None)


def test_store_changes_the_thresholds_only(checkpoint, crowd):
    before = json.loads((checkpoint / "config.json").read_text())
    result = calibrate({"patterns": crowd}, far=0.01, **OPTIONS)
    store(to_json(result), checkpoint)
    after = json.loads((checkpoint / "config.json").read_text())
    assert {name for name in after if after[name] != before.get(name)} <= set(to_json(result))
    config = FaceLiveNetConfig.from_pretrained(checkpoint)
    assert config.similarity_threshold == result.similarity_threshold
    assert config.calibration["far"] == result.calibration.far


def test_store_refuses_values_that_the_config_refuses(checkpoint):
    before = (checkpoint / "config.json").read_text()
    with pytest.raises(Exception, match="similarity_threshold must lie within"):
        store({"similarity_threshold": 7.0}, checkpoint)
    assert (checkpoint / "config.json").read_text() == before
