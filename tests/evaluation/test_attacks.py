"""Attacks are rendered from drawn people; the shipped network and session decide on them."""

import json
import os
import stat
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from skimage.measure import label, regionprops

from authentication.authenticator import DEFAULT_MODEL, Authenticator
from authentication.session import TURNS
from authentication.session.turn import TURNED_PARALLAX, face_shape, parallax
from demo.examples import WELL_KNOWN
from evaluation.attacks.actors import KINDS, Actor
from evaluation.attacks.command import report_to_json
from evaluation.attacks.observations import FIELDS, Observation, ObservationCache, interpolate
from evaluation.attacks.people import Person, Photograph, group_by_person
from evaluation.attacks.renderings import FRAME, PRINT_HEIGHT, hold, restore_proportions, with_strip, with_warped_mouth
from evaluation.attacks.simulation import DRAWN, EXPRESSION, PLAYED, TURN, Stage, attack_report, attacks_text
from evaluation.statistics.rates import InsufficientDataError
from face_data.drawn import drawn_frame

ACTIONS = ("happy", *TURNS)
DETECTED = ["strip_skin", "warp_1.5", "flat", "bent", "swap", "stranger", "half"]


@pytest.fixture(scope="module")
def observations(tmp_path_factory) -> ObservationCache:
    authenticator = Authenticator.from_pretrained(DEFAULT_MODEL)
    return ObservationCache(authenticator, "shipped", tmp_path_factory.mktemp("observations"))


def photograph(observations, number: int, expression: str, yaw: float) -> Photograph:
    picture = drawn_frame(number, expression, 1.0, yaw, seed=1).resize((PRINT_HEIGHT, PRINT_HEIGHT))
    return Photograph(picture, observations.authenticator.evidence(picture).landmarks.astype(np.float64))


@pytest.fixture(scope="module")
def people(observations) -> list[Person]:
    poses = [("neutral", 0), ("happy", 0), ("neutral", 32), ("neutral", 1)]
    rows = [
        (f"drawn {number}", expression, photograph(observations, number, expression, yaw))
        for number in WELL_KNOWN[:2]
        for expression, yaw in poses
    ]
    return group_by_person(rows)


def test_each_person_has_the_photographs_that_attacks_need(people):
    assert [person.name for person in people] == sorted(f"drawn {number}" for number in WELL_KNOWN[:2])
    for person in people:
        assert list(person.expressions) == ["happy"] and person.turned is not None and person.reference is not None
        assert face_shape(person.turned.landmarks)[2, 0] > face_shape(person.neutral.landmarks)[2, 0], "to its left"


def test_attacks_are_rejected_and_genuine_users_accepted(observations, people):
    config = observations.authenticator.config
    thresholds = config.similarity_threshold, config.expression_threshold
    report = attack_report(
        people, observations, ACTIONS, *thresholds, kinds=[*DETECTED, "replay", "replay_same", "fade_turned"]
    )
    for kind in DETECTED:
        for mode, part in report["kinds"][kind]["challenges"].items():
            assert part["accepted"].total == 2 and part["accepted"].hits == 0, (kind, mode, part["reasons"])
    for mode in (EXPRESSION, TURN, DRAWN):
        assert report["bpcer"][mode].hits == 0 and report["bpcer"][mode].total == 2, report["bpcer_reasons"]
    replay = report["kinds"]["replay"]["challenges"][DRAWN]["accepted"]
    assert replay.total == 20 and replay.value < 0.3, "one of 22 orders"
    assert report["kinds"]["replay_same"]["challenges"][DRAWN]["accepted"].total == 2
    json.dumps(report_to_json(report), allow_nan=False)
    text = attacks_text(report)
    assert f"APCER {DETECTED[0]}" in text and "BPCER" in text


def test_observations_are_cached(observations, people, tmp_path):
    first = ObservationCache(observations.authenticator, "again", tmp_path)
    picture, empty = hold(people[0].neutral.image), Image.new("RGB", FRAME)
    observation = first.observe(picture)
    assert first.observe(empty) is None
    first.save()
    reloaded = ObservationCache(observations.authenticator, "again", tmp_path)
    reloaded.authenticator = None  # so that a second evaluation fails
    assert reloaded.observe(empty) is None
    for field in FIELDS:
        assert np.allclose(getattr(reloaded.observe(picture), field), getattr(observation, field), atol=1e-3)
    assert reloaded.observe(picture).unusable == observation.unusable
    [path] = tmp_path.iterdir()
    assert os.name == "nt" or stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(path.read_bytes()[:-100])  # as if a disk had been full
    damaged = ObservationCache(observations.authenticator, "again", tmp_path)
    damaged.observe(picture)
    damaged.save()
    assert np.load(path)["keys"].shape == (1,)


def test_observations_are_interpolated(observations, people):
    start, end = (observations.observe(hold(people[0].neutral.image, yaw)) for yaw in (0, 20))
    middle = interpolate(start, end, 0.5)
    lengths = [np.linalg.norm(observation.embedding) for observation in (start, end)]
    assert isinstance(middle, Observation) and np.linalg.norm(middle.embedding) == pytest.approx(np.mean(lengths))
    assert interpolate(start, end, 0) is start and interpolate(start, end, 1) is end
    assert sum(middle.probabilities(observations.expressions).values()) == pytest.approx(1)


def test_frames_that_the_quality_gate_refuses_do_not_count(observations, people):
    config = observations.authenticator.config
    stage = Stage(observations, ("happy",), (config.similarity_threshold, config.expression_threshold), seed=0)
    actor = Actor(people[0], people[1], observations)
    genuine = actor.genuine()

    def refused(action: str, seconds: float, number: int) -> Observation:
        return replace(genuine(action, seconds, number), unusable="blurred")

    challenge = stage.challenge(EXPRESSION, ["happy"])
    assert stage.play(challenge, genuine, actor.front.embedding)[0] == "accepted"
    assert stage.play(challenge, refused, actor.front.embedding)[0] == "timed_out"


@pytest.mark.parametrize("bend", [0, 90])
def test_a_sheet_is_rendered_as_a_pinhole_camera_sees_it(bend):
    """Dots mark the landmarks of a face. A flat sheet has no parallax, a bent sheet some, a head much more."""
    points = np.array([[70, 80], [130, 80], [100, 110], [75, 140], [125, 140]])
    sheet = np.full((200, 200, 3), 255, np.uint8)
    for x, y in points:
        sheet[y - 2 : y + 3, x - 2 : x + 3] = 0

    def dots(yaw: float) -> np.ndarray:
        dark = np.asarray(hold(Image.fromarray(sheet), yaw, bend).convert("L")) < 90
        centres = [part.centroid[::-1] for part in regionprops(label(dark)) if part.area > 4]
        rows = (
            sorted(sorted(centres, key=lambda centre: centre[1])[:2]),
            sorted(centres, key=lambda centre: centre[1])[2:3],
        )
        return np.array([*rows[0], *rows[1], *sorted(sorted(centres, key=lambda centre: centre[1])[3:])])

    amount = parallax(face_shape(dots(0)), face_shape(dots(30)))
    assert abs(amount) < 0.02 if bend == 0 else 0.02 < amount < TURNED_PARALLAX, amount
    assert hold(Image.fromarray(sheet)).size == FRAME


def test_renderings_change_the_mouth_and_nothing_above_it(people):
    neutral = people[0].neutral
    before = np.asarray(neutral.image).astype(int)
    changed = [with_strip(neutral.image, neutral.landmarks, kind) for kind in ("white", "black", "skin", "sticker")]
    for picture in [*changed, with_warped_mouth(neutral.image, neutral.landmarks)]:
        difference = np.abs(np.asarray(picture).astype(int) - before).max(axis=2)
        nose, mouth = int(neutral.landmarks[2, 1]), int(neutral.landmarks[3:, 1].mean())
        assert difference[: nose - 30].max() <= 12 and difference[mouth - 10 : mouth + 10].max() > 30
    with pytest.raises(ValueError, match="unknown kind of strip 'gold'"):
        with_strip(neutral.image, neutral.landmarks, "gold")


def test_the_proportions_of_a_corpus_face_are_restored():
    image = restore_proportions(Image.new("RGB", (160, 160)), (85, 27.5, 215, 222.5))
    assert image.height == PRINT_HEIGHT and image.width / image.height == pytest.approx(130 / 195, abs=0.01)


def test_attacks_that_cannot_be_rendered_are_refused(observations, people):
    with pytest.raises(InsufficientDataError, match="two people"):
        attack_report(people[:1], observations, ACTIONS, 0.5, 0.5)
    assert set(PLAYED) == set(KINDS)
    assert Stage(observations, ACTIONS, (0.5, 0.5), 0).challenge(TURN, ["happy"]) is None
