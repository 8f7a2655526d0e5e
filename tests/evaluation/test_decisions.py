"""The accuracy of authentication is counted over trials. It is not a product of two accuracies."""

from collections import Counter

import numpy as np
import pytest

from evaluation.protocols.decisions import Trial, build_trials, decide_trials, evaluate_decisions
from pipeline_facelivenet import decide

CLASSES = ("neutral", "happy", "surprise")


def probabilities_of(expression, certainty=0.9):
    return [certainty if name == expression else (1 - certainty) / 2 for name in CLASSES]


@pytest.fixture
def people(make_embeddings):
    """Two people who look alike and a third person. The network finds happy in all faces, also in the neutral ones."""
    vectors = {"anna": [1, 0.0], "ben": [1, 0.01], "cem": [0, 1]}
    return make_embeddings(
        [
            (f"{person}_{label}", person, label, "10", vectors[person], probabilities_of("happy"))
            for person in vectors
            for label in ("happy", "neutral")
        ]
    )


def test_the_accuracy_is_that_of_the_trials_and_not_a_product(people):
    report = evaluate_decisions(people, 0.5, 0.5, ["happy"], seed=0)
    # Each of 6 inputs has one reference of the same person and one of each of two strangers.
    assert report.trials == {"ID-True Ex-True": 3, "ID-True Ex-False": 3, "ID-False Ex-True": 6, "ID-False Ex-False": 6}
    # Identity is wrong for Anna against Ben (4 of 18). The expression is wrong for every neutral input (9 of 18).
    assert report.acc_verif.value == pytest.approx(14 / 18)
    assert report.acc_live.value == pytest.approx(9 / 18)
    assert report.acc_expre.value == pytest.approx(9 / 18)
    # Accepted: 3 correctly, 3 neutral faces, 4 look-alikes. So 11 of 18 are right. The product would be 7 of 18.
    assert report.acc_auth.hits == 11
    assert report.acc_auth.value != pytest.approx(report.acc_verif.value * report.acc_live.value)
    assert (report.far.hits, report.far.total) == (7, 15)
    assert {kind: (accepts.hits, accepts.total) for kind, accepts in report.false_accepts.items()} == {
        "ID-True Ex-False": (3, 3),
        "ID-False Ex-True": (2, 6),
        "ID-False Ex-False": (2, 6),
    }
    assert (report.frr.hits, report.frr.total, report.false_rejects) == (0, 3, {})
    assert report.reject_all == pytest.approx(15 / 18)


def test_false_rejects_are_counted_by_reason(people):
    strict = evaluate_decisions(people, 0.5, 0.95, ["happy"], seed=0)
    assert strict.false_rejects == {"wrong_expression": 3}
    people.embeddings[people.keys.index("cem_happy")] = [0, -1]
    both = evaluate_decisions(people, 0.5, 0.95, ["happy"], seed=0)
    assert both.false_rejects == {"wrong_expression": 2, "different_person_and_wrong_expression": 1}


def test_a_trial_is_decided_by_the_shipped_rule(people):
    trial = Trial(input=0, reference=3, required="happy", same=False, expressed=True)
    decision = decide_trials([trial], people, 0.5, 0.5)[0]
    assert decision == decide(
        similarity=float(people.embeddings[0] @ people.embeddings[3]),
        threshold=0.5,
        expression_probabilities=dict(zip(CLASSES, people.expression_probabilities[0].tolist(), strict=True)),
        required_expression="happy",
        expression_threshold=0.5,
    )
    assert decision.accepted
    people.embeddings[3] = np.nan
    assert decide_trials([trial], people, 0.5, 0.5)[0].reason == "invalid_evidence"


@pytest.fixture
def crowd(make_embeddings):
    """30 people with five photographs each, one person with sixty."""
    rng = np.random.default_rng(0)
    labels = ("happy", "neutral", "surprise", "happy", None)
    rows = [(f"p{p:02d}_{n}", f"p{p:02d}", labels[n], "10") for p in range(30) for n in range(5)]
    rows += [(f"many_{n}", "many", labels[n % 2], "10") for n in range(60)] + [("odd", "p00", "contempt", "10")]
    return make_embeddings([(*row, rng.normal(size=4), probabilities_of("happy")) for row in rows])


def test_trials_are_deterministic_limited_and_correctly_labelled(crowd):
    trials, unknown = build_trials(crowd, ["happy", "surprise"], seed=0)
    assert trials == build_trials(crowd, ["happy", "surprise"], seed=0)[0]
    assert trials != build_trials(crowd, ["happy", "surprise"], seed=1)[0]
    assert unknown == {"contempt": 1}
    for trial in trials:
        assert trial.input != trial.reference
        assert trial.same is (crowd.identities[trial.input] == crowd.identities[trial.reference])
        assert trial.expressed is (crowd.expressions[trial.input] == trial.required)
    assert len({(t.input, t.reference, t.required) for t in trials}) == len(trials)
    per_input = Counter((t.input, t.same, t.required) for t in trials)
    assert set(per_input.values()) == {3}
    inputs = Counter((crowd.identities[row], crowd.expressions[row]) for row in {t.input for t in trials})
    assert inputs["many", "happy"] == inputs["many", "neutral"] == 10
    assert inputs["p07", "happy"] == 2


def test_unknown_expressions_and_missing_kinds_of_trials_are_refused(crowd, make_embeddings):
    with pytest.raises(ValueError, match="'angry': the model knows neutral, happy, surprise"):
        build_trials(crowd, ["angry"], seed=0)
    rows = [
        ("a", "a", "happy", "10", [1, 0], probabilities_of("happy")),
        ("b", "b", "neutral", "10", [0, 1], probabilities_of("happy")),
    ]
    two_people = make_embeddings(rows)
    with pytest.raises(ValueError, match="only 2 of the four kinds of trial occur"):
        evaluate_decisions(two_people, 0.5, 0.5, ["happy"], seed=0)
