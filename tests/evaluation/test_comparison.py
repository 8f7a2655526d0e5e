"""Comparisons of networks, on embeddings with a known quality: all networks have the same photographs."""

import json
from dataclasses import replace

import numpy as np
import pytest

from evaluation.compare.models import balanced_pairs, compare
from evaluation.compare.paired_tests import McNemar
from evaluation.compare.seeds import first_seed_of_each
from evaluation.compare.text import comparison_text
from evaluation.protocols.pairs import ScoredPairs, generated_pairs
from evaluation.protocols.verification import decide_out_of_fold
from evaluation.statistics.rates import to_json
from evaluation.training_record import TrainingSummary, summarise_training
from face_data.pairs import generate_pairs
from face_data.thresholds import best_threshold

PEOPLE, PHOTOGRAPHS = 24, 4
BOTH = TrainingSummary(
    tasks=["verification", "expression"],
    weighting="static",
    w1=1.0,
    w2=2.0,
    minutes=3.5,
    trained_on={"patterns": ["8"]},
)
REFERENCES = {"verification": "plain", "expression": "plain"}


@pytest.fixture
def noisy(make_embeddings):
    """Makes embeddings of 24 people, given the noise and the probability that an expression is recognised."""

    def make(noise, probability, seed=0):
        rng, people = np.random.default_rng(seed), np.random.default_rng(7).normal(size=(PEOPLE, 16))
        rows = []
        for number in range(PEOPLE * PHOTOGRAPHS):
            person, label = number // PHOTOGRAPHS, number % 3
            recognised = label if rng.random() < probability else int(rng.integers(3))
            vector = people[person] + noise * rng.normal(size=16)
            name = ("neutral", "happy", "surprise")[label]
            rows.append((f"k{number:03d}", f"p{person:02d}", name, "9", vector, np.eye(3)[recognised] * 0.7 + 0.1))
        return make_embeddings(rows)

    return make


def compared(models, **options):
    first = next(iter(models.values()))
    options = {"resamples": 200, "far": 0.05} | options
    pairs = balanced_pairs(first, seed=0)
    curve = generate_pairs(first.keys, first.identities, impostors=2000, seed=0)
    return compare(models, dict.fromkeys(models, BOTH), REFERENCES, pairs=pairs, curve_pairs=curve, **options)


def row_of(section, task, label):
    return next(row for row in getattr(section, task).rows if row.label == label)


def test_a_better_network_differs_significantly_and_an_equal_one_does_not(noisy):
    section = compared({"plain": noisy(1.3, 0.6), "better": noisy(0.2, 0.98, seed=1), "same": noisy(1.3, 0.6)})
    json.dumps(to_json(section), allow_nan=False)
    better, same, plain = (row_of(section, "verification", label) for label in ("better", "same", "plain"))
    assert better.cells["accuracy"].counts.hits > plain.cells["accuracy"].counts.hits
    assert better.cells["accuracy"].counts.total == 288
    assert better.cells["auc"].value > 0.99 > plain.cells["auc"].value
    for metric, sign in (("accuracy", 1), ("auc", 1), ("eer", -1), ("tar_at_far", 1)):
        test = better.difference[metric]
        assert test.difference == pytest.approx(better.cells[metric].value - plain.cells[metric].value)
        assert min(sign * test.low, sign * test.high) > 0
        assert test.p == pytest.approx(2 / 201) and test.p_holm == pytest.approx(4 / 201)  # Holm: two rows
        assert same.difference[metric].difference == 0 and same.difference[metric].p_holm == 1
    assert better.mcnemar.p_holm < 0.001
    assert same.mcnemar == McNemar(only_this=0, only_reference=0, p=1.0, p_holm=1.0)
    assert plain.difference is None and plain.mcnemar is None

    better = row_of(section, "expression", "better")
    assert section.expression.unit == "people"
    assert better.difference["macro_f1"].low > 0 and better.mcnemar.p < 0.001
    assert better.cells["accuracy"].counts.total == 96
    low, high = better.cells["accuracy"].bootstrap
    assert low <= better.cells["accuracy"].value <= high

    text = comparison_text(section)
    assert "less plain" in text and "assumes independent pairs" in text and "static" in text
    assert section == compared({"plain": noisy(1.3, 0.6), "better": noisy(0.2, 0.98, seed=1), "same": noisy(1.3, 0.6)})


def test_networks_that_differ_only_in_their_seed_are_averaged(noisy):
    models = {f"plain-{seed}": noisy(1.3, 0.6, seed) for seed in range(3)}
    models |= {f"better-{seed}": noisy(0.3, 0.95, 10 + seed) for seed in (0, 2, 5)}
    models["alone"] = noisy(1.3, 0.6, 20)
    trained, first = dict.fromkeys(models, BOTH), models["plain-0"]
    curve = generate_pairs(first.keys, first.identities, impostors=2000, seed=0)
    settings = {"pairs": balanced_pairs(first, seed=0), "curve_pairs": curve, "far": 0.05, "resamples": 200}
    references = {"verification": "plain-0", "expression": "plain-0"}
    section = compare(models, trained, references, **settings)
    json.dumps(to_json(section), allow_nan=False)
    for task, metric in (("verification", "auc"), ("verification", "accuracy"), ("expression", "macro_f1")):
        plain, better = getattr(section, task).seeds
        assert (plain.label, plain.seeds, better.label, better.seeds) == (
            "plain",
            [0, 1, 2],
            "better",
            [0, 2, 5],
        )
        single = {label: row_of(section, task, label).cells[metric].value for label in models}
        assert plain.cells[metric].by_seed == [single[f"plain-{seed}"] for seed in range(3)]
        assert better.cells[metric].value == pytest.approx(np.mean([single[f"better-{seed}"] for seed in (0, 2, 5)]))
        low, high = better.cells[metric].bootstrap
        assert low <= better.cells[metric].value <= high
        test = better.difference[metric]
        assert test.difference == pytest.approx(better.cells[metric].value - plain.cells[metric].value)
        assert test.by_seed[:2] == [single[f"better-{seed}"] - single[f"plain-{seed}"] for seed in (0, 2)]
        assert test.by_seed[2] is None and test.low > 0 and test.p_holm == pytest.approx(2 / 201)
        assert plain.difference is None
        # the mean of three networks has a narrower interval than one of them
        one_network = row_of(section, task, "plain-0").cells[metric].bootstrap
        assert np.ptp(plain.cells[metric].bootstrap) < np.ptp(one_network)
    text = comparison_text(section)
    assert "mean over seeds" in text and "seed by seed" in text and "less plain\n" not in text.splitlines()
    assert first_seed_of_each(models) == ["plain-0", "better-0", "alone"]  # the networks in the figures
    other = compare(models, trained, dict.fromkeys(references, "alone"), **settings)
    assert other.verification.seeds == [] and "mean over seeds" not in comparison_text(other)


def test_a_network_has_no_cell_for_a_task_it_was_not_trained_for(noisy):
    models = {"plain": noisy(1, 0.6), "faces": noisy(1, 0.6), "moods": noisy(1, 0.6)}
    trained = {
        "plain": BOTH,
        "faces": TrainingSummary(tasks=["verification"]),
        "moods": TrainingSummary(tasks=["expression"], trained_on={"patterns": ["8", "9"], "other": ["9"]}),
    }
    pairs = balanced_pairs(models["plain"], seed=0)
    section = compare(models, trained, REFERENCES, pairs=pairs, far=0.05, resamples=50)
    assert section.warnings == [
        "faces: UNKNOWN: it is not recorded on which people the network was trained; these may be among them",
        "moods: OPTIMISTIC: the network was trained on split 9",
    ]
    assert "  moods: OPTIMISTIC: the network was trained on split 9\n" in comparison_text(section)
    moods = row_of(section, "verification", "moods")
    assert (moods.cells, moods.difference, moods.mcnemar) == ({}, None, None)
    assert row_of(section, "verification", "faces").cells["accuracy"].counts.total == len(pairs)
    assert row_of(section, "expression", "faces").cells == {}
    assert row_of(section, "expression", "moods").difference["accuracy"].difference == 0
    with pytest.raises(ValueError, match="'faces' cannot be the reference for expression; trained for it are plain, m"):
        compare(models, trained, {"expression": "faces"})
    assert compare(models, trained, {"expression": "plain"}, resamples=50).verification is None


def test_networks_with_different_photographs_are_refused(noisy):
    plain = noisy(1, 0.6)
    shuffled = plain.select(np.random.default_rng(0).permutation(len(plain)))
    section = compared({"plain": plain, "shuffled": shuffled})  # the order does not matter
    assert row_of(section, "verification", "shuffled").mcnemar.only_this == 0
    with pytest.raises(ValueError, match="plain and few must have seen the same images: 1 are only in plain, suc"):
        compared({"plain": plain, "few": plain.select(range(1, len(plain)))})
    relabelled = replace(plain, expressions=["happy", *plain.expressions[1:]])
    with pytest.raises(ValueError, match="plain and other have different identities or expressions"):
        compared({"plain": plain, "other": relabelled})
    with pytest.raises(ValueError, match="no record of what plain was trained for"):
        compare({"plain": plain}, {}, {"verification": "plain"})


def test_photographs_are_resampled_without_identities_and_unknown_labels_are_left_out(noisy):
    plain = noisy(1, 0.6)
    plain = replace(plain, identities=[None] * len(plain))
    narrow = replace(plain, classes=("neutral", "happy", "contempt"))  # its third class is never the label
    trained = {"plain": BOTH, "narrow": BOTH}
    part = compare({"plain": plain, "narrow": narrow}, trained, {"expression": "plain"}, resamples=50).expression
    assert (part.unit, part.classes) == ("images", ["neutral", "happy"])
    assert (part.photographs, part.left_out) == (64, 32)
    assert part.rows[0].cells["accuracy"] == part.rows[1].cells["accuracy"]


def scored(folds, scores, same, first, second) -> ScoredPairs:
    parts = (np.array(folds), np.array(scores, float), np.array(same, bool), np.array(first), np.array(second))
    return ScoredPairs(*parts, np.zeros(len(folds), bool), np.full((len(folds), 2), ""))


def test_no_threshold_is_chosen_on_the_people_that_it_decides():
    """A threshold of 0.5 separates all pairs, except those of one person or one fold, which need 0.8."""
    people = [f"p{number:02d}" for number in range(40)]
    pairs = [(name, name) for name in people] + [(name, people[(n + 7) % 40]) for n, name in enumerate(people)]
    same = np.array([one == other for one, other in pairs])
    exceptional = np.array(["p03" in pair for pair in pairs])
    values = np.where(same, 0.6, 0.4) + 0.3 * exceptional
    first, second = zip(*pairs, strict=True)
    decided = decide_out_of_fold(scored([0] * 80, values, same, first, second))
    accepted = decided.accepted
    assert decided.method.startswith("pairs of the other people")
    assert (accepted == same)[~exceptional].all() and not (accepted == same)[exceptional & ~same].any()

    folds = [1] * 20 + [2] * 20 + [3] * 20
    values = [0.6, 0.4] * 20 + [0.9, 0.7] * 10
    same = [True, False] * 30
    names = [f"f{fold}n{number}" for number, fold in enumerate(folds)]
    others = [name if kind else name + "b" for name, kind in zip(names, same, strict=True)]
    decided = decide_out_of_fold(scored(folds, values, same, names, others))
    accepted = decided.accepted
    assert decided.method == "pairs of the other folds" and set(decided.thresholds) == {(1, 1), (2, 2), (3, 3)}
    assert (accepted == same)[:40].all() and accepted[40:].all()

    few = scored([0, 0], [0.9, 0.1], [True, False], ["a", "a"], ["a", "b"])
    with pytest.raises(ValueError, match="2 people are too few"):
        decide_out_of_fold(few)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_threshold_depends_on_the_share_of_genuine_pairs(noisy, seed):
    pairs = generated_pairs(noisy(1, 0.5, seed), seed=0)
    threshold = best_threshold(pairs.scores, pairs.same)
    assert threshold == best_threshold(pairs.scores, pairs.same, pairs.same.mean())
    assert best_threshold(pairs.scores, pairs.same, 0.999) < threshold  # lower, because there are few impostors


def test_a_far_that_needs_more_impostors_has_no_value(noisy):
    section = compared({"plain": noisy(1, 0.6), "other": noisy(1, 0.6, seed=1)}, far=1e-5)
    other = row_of(section, "verification", "other")
    assert other.cells["tar_at_far"].value is None and "tar_at_far" not in other.difference
    comparison_text(section)


def test_training_records_are_summarised():
    assert summarise_training({}).tasks == ["verification", "expression"]
    assert summarise_training({}).weighting is None
    first = {"minutes": 10.0, "started_from": None}
    second = {"minutes": 2.0, "started_from": 1}
    record = {"minutes": 3.0, "steps": 40, "device": "a GPU", "final": {"w1": 0.1, "w2": 0.9}}
    record |= {"started_from": 2, "earlier_stages": [first, second]}
    for weighting, tasks in (("expression", ["expression"]), ("dynamic", ["verification", "expression"])):
        result = summarise_training(record | {"network": {"weighting": weighting}})
        assert (result.tasks, result.weighting) == (tasks, weighting)
        assert (result.minutes, result.minutes_before, result.device) == (3.0, 12.0, "a GPU")
        assert (result.w1, result.w2, result.parameters) == (0.1, 0.9, None)
    frozen = {"network": {"weighting": "expression"}, "config": {"freeze_shared": True}}
    assert summarise_training(record | frozen).tasks == ["verification", "expression"]  # the tasks of the stage before
    second["network"] = {"weighting": "expression"}
    assert summarise_training(record | frozen).tasks == ["expression"]
