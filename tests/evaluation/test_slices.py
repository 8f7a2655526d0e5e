"""Slices of a corpus: every number is that of the slice alone, and small slices have a warning."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from evaluation.protocols.expression import expression_report
from evaluation.protocols.pairs import generated_pairs
from evaluation.protocols.sections import SlicesSection
from evaluation.protocols.slices import evaluate_slices
from evaluation.report.format import span
from evaluation.report.text import section_text
from evaluation.statistics.curves import roc
from evaluation.statistics.rates import to_json

CLASSES = ("neutral", "happy", "surprise")


def slices_of(embeddings, by, threshold, required=("happy",)):
    return evaluate_slices(
        embeddings, by, similarity_threshold=threshold, expression_threshold=0.5, required=list(required), seed=0
    )


@pytest.fixture
def faces(make_embeddings):
    """24 women, and 6 men with similar embeddings. Each person has two neutral and two happy photographs."""
    rng, rows, gender = np.random.default_rng(0), [], []
    for person in range(30):
        centre = np.eye(30)[person] if person < 24 else np.eye(30)[29] + rng.normal(0, 0.05, 30)
        for number, label in enumerate(("neutral", "happy", "neutral", "happy")):
            recognised = label if person < 24 or number < 2 else "neutral"
            probabilities = [0.9 if name == recognised else 0.05 for name in CLASSES]
            vector = centre + rng.normal(0, 0.02, 30)
            rows.append((f"{person:02d}/{number}", f"p{person:02d}", label, "9", vector, probabilities))
            gender.append("female" if person < 24 else "male")
    gender[0] = None
    return replace(make_embeddings(rows, CLASSES), attributes={"gender": gender})


def test_each_slice_is_evaluated_alone(faces):
    report = slices_of(faces, "gender", 0.5, required=["happy"])
    assert (report.by, report.unlabelled, list(report.slices)) == ("gender", 1, ["female", "male"])
    female, male = report.slices.values()
    assert (female.photographs, female.people, male.photographs, male.people) == (95, 24, 24, 6)
    assert female.verification.far.hits == 0 and female.verification.frr.hits == 0
    assert male.verification.far.value == 1  # all men have nearly the same embedding
    men = faces.select([row for row, value in enumerate(faces.attributes["gender"]) if value == "male"])
    pairs = generated_pairs(men, 0)
    assert male.verification.auc == pytest.approx(roc(pairs.scores, pairs.same).auc)
    assert male.expression.accuracy == expression_report(men, 0).accuracy
    assert male.expression.recall["happy"].value == 0.5
    assert female.authentication.far.hits == 0 and female.authentication.acc_auth.value == 1
    # per man: 2 x 6 trials with a neutral face, 2 x 3 with the photograph of another man (of which 1 x 3 are accepted)
    assert male.authentication.far.value == pytest.approx(3 / 18)


def test_small_slices_have_a_warning(faces):
    report = slices_of(faces, "gender", 0.5, required=["happy"]).slices
    assert report["female"].warnings == []
    people, cases = report["male"].warnings
    assert people == "6 people are too few to represent a group"
    assert cases.startswith("too few cases for a conclusion: ") and "expressions over 24" in cases


def test_missing_results_of_a_slice_have_a_reason(faces):
    report = slices_of(faces, "expression", None, required=["happy"])
    happy = report.slices["happy"]
    assert happy.authentication is None and "no similarity_threshold" in happy.missing["authentication"]
    assert happy.verification.far is None and happy.verification.auc > 0.9
    by_person = replace(faces, attributes={"who": faces.identities})
    report = slices_of(by_person, "who", 0.5, required=["happy"])
    assert report.slices["p03"].verification is None and report.slices["p03"].expression is not None


def test_a_slice_without_genuine_pairs_has_a_far_but_no_frr(faces, make_section):
    """Only the second photograph of each of 30 people. Six of the people look alike."""
    happy = faces.select([row for row, key in enumerate(faces.keys) if key.endswith("/1")])
    report = slices_of(happy, "expression", 0.5, required=["happy"])
    part = report.slices["happy"]
    assert (part.verification.genuine_pairs, part.verification.impostor_pairs) == (0, 30 * 29 // 2)
    assert (part.verification.far.hits, part.verification.far.total) == (6 * 5 // 2, 30 * 29 // 2)
    assert (part.verification.frr.value, part.verification.frr.reason) == (None, "no genuine pair")
    assert part.verification.auc is None and part.missing["auc"] == "30 people, none of them with two images"
    assert part.warnings == []  # 435 pairs and 30 photographs are enough
    text = section_text(make_section(SlicesSection, report))
    assert "not reported, 0 genuine, 435 impostor pairs" in text
    assert re.search(r"FRR +– \(no genuine pair\)", text)


@pytest.mark.parametrize(
    ("identities", "expressions", "reasons"),
    [
        (["z"], ["happy"], {"verification": "no two people"}),
        ([None, None], ["happy", "neutral"], {"verification": "no two people"}),
        (["z", "z"], ["happy", None], {"verification": "no two people"}),
        (["y", "z"], ["contempt"] * 2, {"expression": "no labelled image", "auc": "2 people, none of them with two"}),
    ],
)
def test_very_small_slices_do_not_change_the_other_slices(faces, identities, expressions, reasons):
    few = len(identities)
    rows = [row for row, value in enumerate(faces.attributes["gender"]) if value == "male"]
    mixed = faces.select(rows + rows[:few])
    mixed = replace(
        mixed,
        keys=[*mixed.keys[:-few], *(f"few/{number}" for number in range(few))],
        identities=[*mixed.identities[:-few], *identities],
        expressions=[*mixed.expressions[:-few], *expressions],
        attributes={"gender": [*mixed.attributes["gender"][:-few], *["few"] * few]},
    )
    slices = slices_of(mixed, "gender", 0.5, required=["happy"]).slices
    expected = slices_of(faces.select(rows), "gender", 0.5).slices
    assert slices["male"] == expected["male"]
    for name, reason in (reasons | {"authentication": "cannot test authentication"}).items():
        assert reason in slices["few"].missing[name]
    json.dumps({name: to_json(part) for name, part in slices.items()}, allow_nan=False)


def test_an_auc_over_few_pairs_has_a_warning_without_a_threshold(faces):
    few = faces.select([row for row, key in enumerate(faces.keys) if key[:2] in ("01", "02", "24", "25")])
    report = slices_of(few, "split", None, required=["happy"]).slices["9"]
    assert report.verification.genuine_pairs == 4 * 6
    assert "too few cases for a conclusion: AUC over 24, expressions over 16" in report.warnings


def test_an_unknown_required_expression_is_refused(faces):
    with pytest.raises(ValueError, match="required expression 'happpy'"):
        slices_of(faces, "gender", 0.5, required=["happpy"])


def test_the_text_has_the_numbers_of_each_slice(faces, make_section):
    first, second = faces.keys.index("24/0"), faces.keys.index("25/0")  # to swap the names of two men
    faces.identities[first], faces.identities[second] = faces.identities[second], faces.identities[first]
    report = slices_of(faces, "gender", 0.5, required=["happy"])
    assert report == slices_of(faces, "gender", 0.5, required=["happy"])
    text = section_text(make_section(SlicesSection, report))
    assert "male: 24 images of 6 people" in text and "WARNING: 6 people are" in text
    low, high = report.slices["male"].verification.auc_interval
    assert f"(95 % over people {span((low, high))}), 36 genuine, 240 impostor pairs" in text
    men = text[text.index("  male:") :]
    assert re.search(r"\n      happy +0\.500 \(6 of 12; ", men) and "surprise" not in men  # no man has this label


def test_a_missing_or_empty_column_is_refused(faces):
    with pytest.raises(ValueError, match=r"no column 'shoes'.* has gender, expression, split"):
        slices_of(faces, "shoes", 0.5, required=["happy"])
    empty = replace(faces, attributes={"gender": [None] * len(faces)})
    with pytest.raises(ValueError, match="has no values"):
        slices_of(empty, "gender", 0.5, required=["happy"])
