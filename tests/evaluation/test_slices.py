"""Slices of a corpus: every number is that of the slice alone, and a small slice is said to be small."""

import json
from dataclasses import replace

import numpy as np
import pytest

from evaluation.expression import expression_report
from evaluation.metrics import roc
from evaluation.slices import slice_report, slices_text
from evaluation.verification import generated_pairs

CLASSES = ("neutral", "happy", "surprise")


@pytest.fixture
def faces(by_hand):
    """24 women whom the network tells apart, 6 men whom it does not; two neutral and two happy photographs of each."""
    rng, rows, gender = np.random.default_rng(0), [], []
    for person in range(30):
        own = np.eye(30)[person] if person < 24 else np.eye(30)[29] + rng.normal(0, 0.05, 30)
        for number, label in enumerate(("neutral", "happy", "neutral", "happy")):
            seen = label if person < 24 or number < 2 else "neutral"
            probabilities = [0.9 if name == seen else 0.05 for name in CLASSES]
            vector = own + rng.normal(0, 0.02, 30)
            rows.append((f"{person:02d}/{number}", f"p{person:02d}", label, "9", vector, probabilities))
            gender.append("female" if person < 24 else "male")
    gender[0] = None
    return replace(by_hand(rows, CLASSES), attributes={"gender": gender})


def test_each_slice_is_judged_alone(faces):
    report = slice_report(faces, "gender", 0.5, 0.5, ["happy"], seed=0)
    assert (report["by"], report["unlabelled"], list(report["slices"])) == ("gender", 1, ["female", "male"])
    female, male = report["slices"].values()
    assert (female["photographs"], female["people"], male["photographs"], male["people"]) == (95, 24, 24, 6)
    assert female["verification"]["far"]["hits"] == 0 and female["verification"]["frr"]["hits"] == 0
    assert male["verification"]["far"]["value"] == 1  # every man is taken for any other
    own = faces.select([row for row, value in enumerate(faces.attributes["gender"]) if value == "male"])
    pairs = generated_pairs(own, 0)
    assert male["verification"]["auc"] == pytest.approx(roc(pairs.scores, pairs.same).auc)
    assert male["expression"]["accuracy"] == expression_report(own, 0)["accuracy"]
    assert male["expression"]["recall"]["happy"]["value"] == 0.5
    assert female["authentication"]["far"]["hits"] == 0 and female["authentication"]["acc_auth"]["value"] == 1
    # of each man 2 x 6 trials with his neutral face and 2 x 3 with another's photograph; 1 x 3 of the last are accepted
    assert male["authentication"]["far"]["value"] == pytest.approx(3 / 18)


def test_small_slices_are_said_to_be_small(faces):
    report = slice_report(faces, "gender", 0.5, 0.5, ["happy"], seed=0)["slices"]
    assert report["female"]["warnings"] == []
    people, cases = report["male"]["warnings"]
    assert people == "6 people are too few to speak for others"
    assert cases.startswith("too few cases to say anything: ") and "expressions over 24" in cases


def test_what_a_slice_cannot_show_is_missing_with_its_reason(faces):
    report = slice_report(faces, "expression", None, 0.5, ["happy"], seed=0)
    happy = report["slices"]["happy"]
    assert happy["authentication"] is None and "no similarity_threshold" in happy["missing"]["authentication"]
    assert "far" not in happy["verification"] and happy["verification"]["auc"] > 0.9
    alone = replace(faces, attributes={"who": faces.identities})
    report = slice_report(alone, "who", 0.5, 0.5, ["happy"], seed=0)
    assert report["slices"]["p03"]["verification"] is None and report["slices"]["p03"]["expression"] is not None


def test_text_and_json(faces):
    report = slice_report(faces, "gender", 0.5, 0.5, ["happy"], seed=0)
    assert json.dumps(report, allow_nan=False) == json.dumps(
        slice_report(faces, "gender", 0.5, 0.5, ["happy"], seed=0), allow_nan=False
    )
    text = slices_text({"splits": ["9"], "warnings": [], "report": report})
    assert "male: 24 photographs of 6 people" in text and "WARNING: 6 people are" in text


def test_a_column_that_is_not_there_is_named(faces):
    with pytest.raises(ValueError, match=r"no column 'shoes'.* has gender, expression, split"):
        slice_report(faces, "shoes", 0.5, 0.5, ["happy"], seed=0)
    empty = replace(faces, attributes={"gender": [None] * len(faces)})
    with pytest.raises(ValueError, match="holds nothing"):
        slice_report(empty, "gender", 0.5, 0.5, ["happy"], seed=0)
