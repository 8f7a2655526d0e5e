"""Simulated sessions with the real state machine. The expected numbers were calculated by hand."""

import json
import re

import numpy as np
import pytest

from evaluation.protocols.sections import SessionsSection
from evaluation.protocols.sessions import ATTACKS, KINDS, SESSIONS_PER_PERSON, ReplayGuess, session_report
from evaluation.report.text import section_text
from evaluation.statistics.rates import to_json

CLASSES = ("neutral", "happy", "surprise")
LABELS = ("neutral", "happy", "surprise", "neutral", "happy")


def faces(make_embeddings, recognised=lambda label: label, people=4, vector=lambda person: np.eye(8)[person]):
    """Photographs: `vector` gives the embedding of a person, `recognised` the expression that the network finds."""
    rows = []
    for person in range(people):
        for number, label in enumerate(LABELS):
            probabilities = [0.9 if name == recognised(label) else 0.05 for name in CLASSES]
            rows.append((f"{person}/{number}", f"p{person}", label, "9", vector(person), probabilities))
    return make_embeddings(rows, CLASSES)


def accepted(report, kind):
    return report.kinds[kind].accepted.value


def test_a_perfect_network_accepts_only_genuine_users_and_matching_replays(make_embeddings):
    report = session_report(faces(make_embeddings), 0.5, 0.5, ["happy"], seed=0)
    assert report.bpcer.value == report.false_accept_rate.value == 0
    assert report.bpcer.total == 4 * min(SESSIONS_PER_PERSON, 3)
    # it cannot detect a video that matches the challenge, or one that shows all expressions in turn
    assert [accepted(report, kind) for kind in ATTACKS] == [0, 0, 0, 0, 1, 1]
    assert report.apcer_max == "replay_matching"
    assert report.replay_guess == ReplayGuess(probability=1, apcer=1)
    assert report.kinds["impostor"].reasons == {"different_person": 12}
    assert report.kinds["still_neutral"].reasons == {"timed_out": 12}
    assert (report.people, report.rejected_at) == (4, {})


def test_a_replay_passes_less_often_with_more_challenges(make_embeddings):
    report = session_report(faces(make_embeddings), 0.5, 0.5, ["happy", "surprise"], seed=0)
    assert report.replay_guess == ReplayGuess(probability=0.5, apcer=0.5)
    assert accepted(report, "replay_all") == 0.5  # if the other expression comes first, it lasts too long
    assert accepted(report, "genuine") == 1
    # without surprise of the first person
    some = faces(make_embeddings).select([row for row in range(20) if row != 2])
    report = session_report(some, 0.5, 0.5, ["happy", "surprise"], seed=0)
    assert report.bpcer.total == 2 + 3 * 3 + 3 * 3  # the first person has four photographs; two of them are frames
    assert report.kinds["replay_other"].accepted.total == 18


def test_a_network_with_equal_embeddings_accepts_impostors(make_embeddings):
    report = session_report(faces(make_embeddings, vector=lambda person: [1, 0]), 0.5, 0.5, ["happy"], seed=0)
    assert report.false_accept_rate.value == 1 and report.bpcer.value == 0


def test_apcer_and_bpcer_do_not_depend_on_the_identity(make_embeddings):
    strict = session_report(faces(make_embeddings), 1.1, 0.5, ["happy"], seed=0)
    assert strict.false_reject_rate.value == 1 and strict.iapar["replay_matching"].value == 0
    assert strict.bpcer.value == 0 and strict.apcer["replay_matching"].value == 1
    assert strict.apcer["still_asked"].value == 0


@pytest.mark.parametrize("always, step", [("happy", "neutral"), ("neutral", "action")])
def test_a_network_that_finds_one_expression_accepts_nobody(make_embeddings, always, step):
    report = session_report(faces(make_embeddings, recognised=lambda label: always), 0.5, 0.5, ["happy"], seed=0)
    assert report.bpcer.value == 1
    assert report.rejected_at == {step: {"timed_out": 12}}
    assert all(accepted(report, kind) == 0 for kind in KINDS)


def test_a_session_tries_a_second_photograph_of_the_expression(make_embeddings):
    """The network misses half of the smiles. A session continues with the other smile of the person, if it has one."""
    photographs = faces(make_embeddings)
    for row, key in enumerate(photographs.keys):
        if key.endswith("/4"):  # the second happy photograph of each person
            photographs.expression_probabilities[row] = [0.9, 0.05, 0.05]
    report = session_report(photographs, 0.5, 0.5, ["happy"], seed=0)
    accepted_sessions = report.bpcer.total - report.bpcer.hits
    assert 0 < accepted_sessions <= report.bpcer.total
    assert report.kinds["still_asked"].accepted.value == 0
    assert set(report.kinds["genuine"].reasons) <= {"accepted", "timed_out"}


def test_the_same_seed_gives_the_same_report_which_is_valid_json(make_embeddings, make_section):
    first, second = (session_report(faces(make_embeddings), 0.5, 0.5, ["happy"], seed=3) for _ in range(2))
    assert json.dumps(to_json(first), allow_nan=False) == json.dumps(to_json(second), allow_nan=False)
    text = section_text(make_section(SessionsSection, first, warnings=["OPTIMISTIC: so"]))
    assert re.search(r"genuine users rejected +0\.000 \(0 of 12", text)
    assert "OPTIMISTIC: so" in text and re.search(r"APCER replay_matching +1\.000", text)


def test_challenges_that_cannot_be_simulated_are_refused(make_embeddings):
    with pytest.raises(ValueError, match="the model knows neutral, happy, surprise"):
        session_report(faces(make_embeddings), 0.5, 0.5, ["fear"], seed=0)
    one_person = make_embeddings(
        [("a", "p", "neutral", "9", [1, 0], [1, 0, 0]), ("b", "p", "happy", "9", [1, 0], [0, 1, 0])]
    )
    with pytest.raises(ValueError, match="labelled neutral, one labelled happy, and a third"):
        session_report(one_person, 0.5, 0.5, ["happy"], seed=0)
