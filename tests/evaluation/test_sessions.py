"""Simulated sessions through the real state machine: who passes is worked out by hand."""

import json
import re

import numpy as np
import pytest

from evaluation.protocols.corpus import SessionsSection
from evaluation.protocols.sessions import ATTACKS, KINDS, SESSIONS_PER_PERSON, ReplayGuess, session_report
from evaluation.report.text import section_text
from evaluation.statistics.rates import to_json

CLASSES = ("neutral", "happy", "surprise")
LABELS = ("neutral", "happy", "surprise", "neutral", "happy")


def faces(by_hand, seen=lambda label: label, people=4, vector=lambda person: np.eye(8)[person]):
    """Photographs of people who look like `vector` says and show, to the network, what `seen` says of the label."""
    rows = []
    for person in range(people):
        for number, label in enumerate(LABELS):
            probabilities = [0.9 if name == seen(label) else 0.05 for name in CLASSES]
            rows.append((f"{person}/{number}", f"p{person}", label, "9", vector(person), probabilities))
    return by_hand(rows, CLASSES)


def accepted(report, kind):
    return report.kinds[kind].accepted.value


def test_a_perfect_network_lets_the_genuine_in_and_nobody_else(by_hand):
    report = session_report(faces(by_hand), 0.5, 0.5, ["happy"], seed=0)
    assert report.bpcer.value == report.false_accept_rate.value == 0
    assert report.bpcer.total == 4 * min(SESSIONS_PER_PERSON, 3)
    # what it cannot see through: a video that matches, and one that shows everything in turn
    assert [accepted(report, kind) for kind in ATTACKS] == [0, 0, 0, 0, 1, 1]
    assert report.apcer_max == "replay_matching"
    assert report.replay_guess == ReplayGuess(probability=1, apcer=1)
    assert report.kinds["impostor"].reasons == {"different_person": 12}
    assert report.kinds["still_neutral"].reasons == {"timed_out": 12}
    assert (report.people, report.rejected_at) == (4, {})


def test_more_challenges_leave_a_replay_less_chance(by_hand):
    report = session_report(faces(by_hand), 0.5, 0.5, ["happy", "surprise"], seed=0)
    assert report.replay_guess == ReplayGuess(probability=0.5, apcer=0.5)
    assert accepted(report, "replay_all") == 0.5  # for too long the other expression, where that comes first
    assert accepted(report, "genuine") == 1
    some = faces(by_hand).select([row for row in range(20) if row != 2])  # the first person is never surprised
    report = session_report(some, 0.5, 0.5, ["happy", "surprise"], seed=0)
    assert report.bpcer.total == 2 + 3 * 3 + 3 * 3  # two of four photographs are the first one's frames
    assert report.kinds["replay_other"].accepted.total == 18


def test_a_network_that_takes_everybody_for_one(by_hand):
    report = session_report(faces(by_hand, vector=lambda person: [1, 0]), 0.5, 0.5, ["happy"], seed=0)
    assert report.false_accept_rate.value == 1 and report.bpcer.value == 0


def test_a_network_that_knows_nobody_hides_what_its_expressions_let_through(by_hand):
    strict = session_report(faces(by_hand), 1.1, 0.5, ["happy"], seed=0)
    assert strict.false_reject_rate.value == 1 and strict.iapar["replay_matching"].value == 0
    assert strict.bpcer.value == 0 and strict.apcer["replay_matching"].value == 1
    assert strict.apcer["still_asked"].value == 0


@pytest.mark.parametrize("always, step", [("happy", "neutral"), ("neutral", "expression")])
def test_a_network_that_sees_one_expression_lets_nobody_in(by_hand, always, step):
    report = session_report(faces(by_hand, seen=lambda label: always), 0.5, 0.5, ["happy"], seed=0)
    assert report.bpcer.value == 1
    assert report.rejected_at == {step: {"timed_out": 12}}
    assert all(accepted(report, kind) == 0 for kind in KINDS)


def test_second_tries_count(by_hand):
    """Half of the smiles are not seen; whoever has another goes on to it."""
    perfect = faces(by_hand)
    for row, key in enumerate(perfect.keys):
        if key.endswith("/4"):  # the second happy photograph of each person
            perfect.expression_probabilities[row] = [0.9, 0.05, 0.05]
    report = session_report(perfect, 0.5, 0.5, ["happy"], seed=0)
    with_both = report.bpcer.total - report.bpcer.hits
    assert 0 < with_both <= report.bpcer.total
    assert report.kinds["still_asked"].accepted.value == 0
    assert set(report.kinds["genuine"].reasons) <= {"accepted", "timed_out"}


def test_same_seed_same_report_and_it_is_json(by_hand, section_of):
    one, two = (session_report(faces(by_hand), 0.5, 0.5, ["happy"], seed=3) for _ in range(2))
    assert json.dumps(to_json(one), allow_nan=False) == json.dumps(to_json(two), allow_nan=False)
    text = section_text(section_of(SessionsSection, one, warnings=["OPTIMISTIC: so"]))
    assert re.search(r"genuine users rejected +0\.000 \(0 of 12", text)
    assert "OPTIMISTIC: so" in text and re.search(r"APCER replay_matching +1\.000", text)


def test_what_cannot_be_simulated_is_said(by_hand):
    with pytest.raises(ValueError, match="the model knows neutral, happy, surprise"):
        session_report(faces(by_hand), 0.5, 0.5, ["fear"], seed=0)
    lonely = by_hand([("a", "p", "neutral", "9", [1, 0], [1, 0, 0]), ("b", "p", "happy", "9", [1, 0], [0, 1, 0])])
    with pytest.raises(ValueError, match="labelled neutral, one labelled happy, and a third"):
        session_report(lonely, 0.5, 0.5, ["happy"], seed=0)
