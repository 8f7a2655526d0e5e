"""The joint decision accepts only if its rule holds, for any input; and the transformers pipeline that applies it."""

import copy
import itertools
import json
import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from PIL import Image

from authentication.authenticator import Authenticator
from face_data.drawn import draw_face
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetForImageClassification, FaceLiveNetModel
from pipeline_facelivenet import (
    QUALITY,
    REASONS,
    Decision,
    FaceAuthenticationPipeline,
    decide,
    decide_frames,
    decide_probes,
    decide_run,
    has_risen,
    margins,
    reference_embeddings,
    reference_views,
    reject,
    unlike_references,
    unusable_reason,
)

HAPPY = {"neutral": 0.2, "happy": 0.7, "sad": 0.1}
NEUTRAL = {"neutral": 0.8, "happy": 0.1, "sad": 0.1}


def decide_face(similarity=0.8, probabilities=HAPPY, required="happy", threshold=0.5, expression_threshold=0.5):
    return decide(
        similarity=similarity,
        threshold=threshold,
        expression_probabilities=probabilities,
        required_expression=required,
        expression_threshold=expression_threshold,
    )


@pytest.mark.parametrize(
    ("similarity", "probabilities", "reason"),
    [
        (0.8, HAPPY, "accepted"),
        (0.5, HAPPY, "accepted"),
        (np.float32(0.8), HAPPY, "accepted"),
        (1.00001, HAPPY, "accepted"),
        (np.nextafter(0.5, 0), HAPPY, "different_person"),
        (0.8, NEUTRAL, "wrong_expression"),
        (0.2, NEUTRAL, "different_person_and_wrong_expression"),
        (0.8, {"neutral": 0.3, "happy": 0.45, "sad": 0.25}, "wrong_expression"),
        (0.8, {"neutral": 0.5, "happy": 0.5, "sad": 0.0}, "wrong_expression"),
        (math.nan, HAPPY, "invalid_evidence"),
        (0.8, {"neutral": math.nan, "happy": 0.7, "sad": 0.3}, "invalid_evidence"),
        (0.8, {"neutral": 0.9, "happy": 0.95, "sad": 0.9}, "invalid_evidence"),
        (0.8, {}, "invalid_evidence"),
    ],
)
def test_a_face_is_accepted_or_rejected_with_a_reason(similarity, probabilities, reason):
    decision = decide_face(similarity, probabilities)
    assert decision.reason == reason
    assert decision.accepted is (reason == "accepted")
    assert decision.message == REASONS[reason]


RESTING = {"happy": (-7.0, 0.2), "sad": (-5.0, 0.2)}  # of a person with a very neutral face at rest


@pytest.mark.parametrize(
    ("probabilities", "baseline", "risen"),
    [
        ({"neutral": 0.55, "happy": 0.4, "sad": 0.05}, RESTING, True),  # a faint smile: from -7 to -0.3
        ({"neutral": 0.75, "happy": 0.2, "sad": 0.05}, RESTING, False),  # still far less likely than neutral
        ({"neutral": 0.4, "happy": 0.3, "sad": 0.3}, {**RESTING, "sad": (-7.5, 0.2)}, False),  # sad rose further
        ({"neutral": 0.55, "happy": 0.4, "sad": 0.05}, {**RESTING, "happy": (-4.0, 0.2)}, False),  # rose by 3.7 only
        ({"neutral": 0.55, "happy": 0.4, "sad": 0.05}, {**RESTING, "happy": (-7.0, 1.5)}, False),  # it varies too much
        ({"neutral": 0.55, "happy": 0.4, "sad": 0.05}, {**RESTING, "happy": (-7.0, math.nan)}, False),
        ({"neutral": 0.55, "happy": 0.4, "sad": 0.05}, {**RESTING, "happy": (math.nan, 0.2)}, False),
        ({"neutral": 0.55, "happy": 0.4, "sad": 0.05}, {"happy": (-7.0, 0.2)}, False),  # no margin of sad
        ({"neutral": 0.55, "happy": 0.4, "sad": 0.05}, None, False),
    ],
)
def test_an_expression_is_compared_with_the_neutral_face_of_the_person(probabilities, baseline, risen):
    def decide_again(similarity=0.8, **changed):
        rule = {"threshold": 0.5, "required_expression": "happy", "expression_threshold": 0.5} | changed
        return decide(similarity=similarity, expression_probabilities=probabilities, baseline=baseline, **rule)

    assert decide_again().expression_passed is risen and decide_again().accepted is risen
    assert not decide_again(similarity=0.2).accepted and not decide_again(threshold=None).accepted
    assert not decide_again(expression_threshold=None).expression_passed
    assert not decide_again(required_expression="neutral").expression_passed or probabilities["neutral"] >= 0.5
    assert not decide_again(required_expression="smug").expression_passed
    clear = decide(
        similarity=0.8,
        threshold=0.5,
        expression_probabilities=HAPPY,
        required_expression="happy",
        expression_threshold=0.5,
        baseline=baseline,
    )
    valid = not baseline or baseline["happy"][0] < 0  # NaN is not valid
    assert clear.accepted is valid, "what the rule sees without a baseline, it sees with one"


@pytest.mark.parametrize(
    ("probabilities", "passes"),
    [
        (HAPPY, False),  # as at rest
        ({"neutral": 0.02, "happy": 0.93, "sad": 0.05}, False),  # risen by 2.6
        ({"neutral": 0.004, "happy": 0.98, "sad": 0.016}, True),  # by 4.3
    ],
)
def test_a_person_who_seems_to_smile_at_rest_must_smile_more(probabilities, passes):
    baseline = {name: (margin, 0.1) for name, margin in margins(HAPPY).items()}
    rule = {"similarity": 0.8, "threshold": 0.5, "required_expression": "happy", "expression_threshold": 0.5}
    assert decide(expression_probabilities=probabilities, baseline=baseline, **rule).accepted is passes
    assert decide(expression_probabilities=probabilities, **rule).accepted


@pytest.mark.parametrize(("neutral", "passes"), [(0.6, True), (0.25, True), (0.2, True), (0.19, False), (0.0, False)])
def test_a_face_at_rest_need_not_look_neutral(neutral, passes):
    probabilities = {"neutral": neutral, "happy": 0.7 - neutral, "sad": 0.3}
    rule = {"similarity": 0.8, "threshold": 0.5, "expression_threshold": 0.5, "expression_probabilities": probabilities}
    assert decide(required_expression="neutral", at_rest=True, **rule).accepted is passes
    assert decide(required_expression="neutral", **rule).accepted is (neutral >= 0.5)
    assert not decide(required_expression="sad", at_rest=True, **rule).accepted


def test_an_expression_that_rises_less_than_another_counts_if_it_is_the_most_probable():
    baseline = {"happy": (-7.0, 0.2), "sad": (-9.0, 0.2)}
    # in all of these, sad has risen more than happy
    assert has_risen({"neutral": 0.3, "happy": 0.4, "sad": 0.3}, "happy", baseline)
    assert not has_risen({"neutral": 0.4, "happy": 0.35, "sad": 0.25}, "happy", baseline)  # neutral is more probable
    assert not has_risen({"neutral": 0.3, "happy": 0.3, "sad": 0.4}, "happy", baseline)


def test_margins_are_differences_of_logits():
    logits = torch.tensor([1.0, 4.0, -2.0]).double()
    probabilities = dict(zip(("neutral", "happy", "sad"), logits.softmax(0).tolist(), strict=True))
    assert margins(probabilities) == pytest.approx({"happy": 3.0, "sad": -3.0})
    assert margins({"happy": 1.0}) == {} and not has_risen({"happy": 1.0}, "happy", RESTING)
    assert all(map(math.isfinite, margins({"neutral": 0.0, "happy": 1.0, "sad": 0.0}).values()))


def test_a_run_is_decided_by_its_pooled_similarity_and_its_weakest_expression():
    frames = [decide_face(0.45), decide_face(0.7, {"neutral": 0.1, "happy": 0.85, "sad": 0.05})]
    decision = decide_run(frames, 0.6)
    assert decision.accepted and decision.similarity == 0.6 and decision.expression_probabilities == HAPPY
    assert decide_run(frames, 0.49).reason == "different_person"
    assert decide_run([*frames, decide_face(0.8, NEUTRAL)], 0.6).reason == "wrong_expression"
    assert not decide_run(frames, math.nan).accepted
    assert not decide_run([decide_face(threshold=None)], 0.9).accepted


def test_a_model_without_a_threshold_accepts_nobody():
    assert decide_face(threshold=None).reason == "uncalibrated"
    assert decide_face(expression_threshold=None).reason == "uncalibrated"


def test_an_unknown_expression_is_rejected():
    assert decide_face(required="smug").reason == "unknown_expression"


def test_only_inputs_that_satisfy_the_rule_are_accepted():
    """All combinations of unusual and usual values are compared with a second implementation of the rule."""
    unusual = [math.nan, math.inf, -math.inf, None, "0.9", True, [0.9], {}, 10**400, 1 + 0j, -5, 7]
    tables = [
        HAPPY,
        NEUTRAL,
        {},
        None,
        [0.2, 0.8],
        {"happy": None},
        {"happy": 1.0},
        {"happy": math.inf, "sad": -math.inf},
        {"happy": math.nan, "neutral": 0.1},
        {None: 1.0},
        {"neutral": 1.0},
        {"happy": "1"},
        {"happy": True},
        {"happy": 1.5, "neutral": -0.5},
    ]
    accepted = 0
    required_values = ["happy", "neutral", "smug", None, "", math.nan, ["happy"], "Happy"]
    for similarity, threshold, minimum, table, required in itertools.product(
        [*unusual, 0.8, 0.2], [*unusual, 0.5], [*unusual, 0.5], tables, required_values
    ):
        decision = decide_face(similarity, table, required, threshold, minimum)
        holds = (
            similarity == 0.8
            and threshold == 0.5
            and minimum == 0.5
            and required in ("happy", "neutral")
            and table in (HAPPY, NEUTRAL, {"happy": 1.0}, {"neutral": 1.0})
            and type(next(iter(table.values()))) is float
            and table.get(required, 0) >= 0.5
        )
        assert decision.accepted is holds, (similarity, threshold, minimum, table, required)
        accepted += decision.accepted
    assert accepted == 4, "the ordinary values must be accepted, or this test proves nothing"


def test_random_evidence_is_decided_by_the_rule():
    rng = np.random.default_rng(0)
    names = ["neutral", "anger", "happy", "sad"]
    accepted = 0
    for _ in range(2000):
        values = rng.dirichlet(np.full(4, 0.4))
        similarity, threshold, minimum = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0, 1)
        required = names[rng.integers(4)]
        decision = decide_face(similarity, dict(zip(names, values, strict=True)), required, threshold, minimum)
        expected = similarity >= threshold and names[values.argmax()] == required and values.max() >= minimum
        assert decision.accepted == expected
        accepted += expected
    assert 100 < accepted < 1000


def test_a_contradictory_decision_cannot_be_created():
    decision = decide_face()
    changes = {"reason": "no_face", "same_identity": False, "expression_passed": False, "accepted": False}
    for field, value in changes.items():
        with pytest.raises(ValueError, match="contradicts"):
            replace(decision, **{field: value})
    with pytest.raises(ValueError, match="unknown reason"):
        reject("bad_weather", "happy")
    with pytest.raises(ValueError, match="contradicts"):
        reject("accepted", "happy")
    with pytest.raises(FrozenInstanceError):
        decision.accepted = False


@pytest.mark.parametrize("decision", [decide_face(), decide_face(math.nan, None), reject("no_face", "happy")])
def test_json_is_strict_and_complete(decision):
    def refuse(constant):
        pytest.fail(f"{constant} is not JSON")

    record = json.loads(decision.to_json(), parse_constant=refuse)
    assert record["accepted"] is decision.accepted
    assert record["message"] == decision.message
    assert set(record) == set(Decision.__dataclass_fields__) | {"message"}


ACCEPTED, STRANGER, WRONG = decide_face(), decide_face(similarity=0.2), decide_face(probabilities=NEUTRAL)
DOUBTFUL = decide_face(similarity=0.4)  # an unclear frame of the same person, or a similar person
COVERED, COVERED_STRANGER = (
    decide(
        similarity=similarity,
        threshold=0.5,
        expression_probabilities=HAPPY,
        required_expression="happy",
        expression_threshold=0.5,
        unusable="eyes_covered",
    )
    for similarity in (0.8, 0.2)
)
NO_FACE, SEVERAL_FACES = reject("no_face", "happy"), reject("several_faces", "happy")


@pytest.mark.parametrize(
    ("frames", "hold", "reason"),
    [
        ([], 3, "no_frames"),
        ([ACCEPTED] * 3, 3, "accepted"),
        ([WRONG, ACCEPTED, ACCEPTED, ACCEPTED, STRANGER], 3, "accepted"),
        ([ACCEPTED, ACCEPTED, WRONG, ACCEPTED, ACCEPTED], 3, "not_held"),
        ([ACCEPTED, ACCEPTED, NO_FACE, ACCEPTED], 3, "not_held"),
        ([ACCEPTED] * 9 + [SEVERAL_FACES], 3, "several_faces"),
        ([STRANGER, WRONG, STRANGER], 3, "wrong_expression"),
        ([STRANGER] * 9, 3, "different_person"),
        ([NO_FACE, NO_FACE], 3, "no_face"),
        ([NO_FACE, STRANGER], 1, "different_person"),
        ([ACCEPTED], 1, "accepted"),
        ([decide_face(probabilities=NEUTRAL, required="neutral")] * 3, 3, "not_held"),
        ([STRANGER] * 32 + [ACCEPTED] * 6, 3, "different_person"),
        ([ACCEPTED] * 20 + [STRANGER] * 3, 3, "different_person"),
        ([ACCEPTED] * 20 + [STRANGER, NO_FACE, STRANGER, STRANGER], 3, "different_person"),
        ([ACCEPTED] * 20 + [STRANGER, STRANGER, WRONG, STRANGER], 3, "different_person"),
        ([ACCEPTED, ACCEPTED, ACCEPTED, STRANGER, STRANGER] * 3, 3, "different_person"),
        ([ACCEPTED] * 70 + [STRANGER, ACCEPTED] * 3, 3, "accepted"),  # a few frames of a long clip
        ([ACCEPTED] * 20 + [STRANGER] * 2, 3, "accepted"),
        ([ACCEPTED] * 20 + [COVERED_STRANGER] * 9, 3, "accepted"),  # a cover makes the identity uncertain
        ([ACCEPTED] * 20 + [COVERED_STRANGER] * 21, 3, "different_person"),
        ([ACCEPTED] * 4 + [NO_FACE] * 9, 3, "accepted"),
        ([ACCEPTED] * 4 + [DOUBTFUL] * 4, 3, "accepted"),
        ([ACCEPTED] * 4 + [DOUBTFUL] * 5, 3, "different_person"),
        ([COVERED] * 9, 3, "eyes_covered"),
        ([COVERED] * 9 + [ACCEPTED] * 3, 3, "accepted"),
    ],
)
def test_frames_are_decided_together(frames, hold, reason):
    decision = decide_frames(frames, "happy", hold)
    assert decision.reason == reason
    assert decision.accepted is (reason == "accepted")


@pytest.mark.parametrize(
    ("likeness", "count", "reason"), [(0.6, 8, "accepted"), (0.4, 2, "accepted"), (0.4, 3, "different_person")]
)
def test_faces_unlike_the_accepted_frames_are_those_of_another_person(likeness, count, reason):
    """Their similarity to the reference is not low enough to show another person."""
    accepted, other = np.array([0.8, 0.0]), 0.7 * np.array([likeness, math.sqrt(1 - likeness**2)])
    frames = [ACCEPTED] * 10 + [DOUBTFUL] * count
    assert decide_frames(frames, "happy", 3, [accepted] * 10 + [other] * count).reason == reason
    assert decide_frames(frames, "happy", 3).accepted


def test_a_clip_reports_the_similarity_of_its_weakest_accepted_frame():
    frames = [decide_face(similarity) for similarity in (0.9, 0.6, 0.8, 0.55)]
    assert decide_frames(frames, "happy", 3).similarity == 0.6


@pytest.mark.parametrize(
    ("probes", "reason"),
    [
        ([], "no_frames"),
        ([ACCEPTED], "accepted"),
        ([WRONG, ACCEPTED], "accepted"),
        ([ACCEPTED, NO_FACE], "accepted"),
        ([ACCEPTED, STRANGER], "different_person"),
        ([ACCEPTED, SEVERAL_FACES], "several_faces"),
        ([WRONG, WRONG], "wrong_expression"),
        ([NO_FACE, NO_FACE], "no_face"),
        ([ACCEPTED, decide_face(math.nan)], "invalid_evidence"),
    ],
)
def test_probes_are_decided_together(probes, reason):
    decision = decide_probes(probes, "happy")
    assert decision.reason == reason
    assert decision.accepted is (reason == "accepted")


def test_an_unusable_face_is_never_accepted():
    assert (COVERED.accepted, COVERED.reason) == (False, "eyes_covered")
    assert (COVERED.similarity, COVERED.same_identity) == (0.8, True)
    assert decide_probes([COVERED, ACCEPTED], "happy").accepted


GOOD = {
    "roll": 0.0,
    "aside": 0.1,
    "sharpness": 9.0,
    "noise": 0.5,
    "flat_colour": 0.05,
    "eyes_covered": -4.0,
    "mouth_covered": -3.0,
    "detection_probability": 0.9999,
}
BOUNDS = {
    "least_sharpness": 3.0,
    "most_eyes_covered": 1.0,
    "most_mouth_covered": 0.5,
    "least_detection_probability": 0.99,
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"roll": 34}, None),
        ({"roll": -36}, "turned"),
        ({"roll": 90, "sharpness": 0}, "turned"),
        ({"roll": math.nan}, "turned"),
        ({"aside": 0.35}, None),
        ({"aside": 0.37}, "turned_away"),
        ({"aside": math.nan}, "turned_away"),
        ({"sharpness": 2.9, "eyes_covered": 2}, "blurred"),
        ({"noise": 2.7, "flat_colour": 0.41}, None),
        ({"noise": 2.9, "flat_colour": 0.43}, "noisy"),
        ({"noise": math.nan}, "noisy"),
        ({"flat_colour": 0.43, "aside": 1}, "compressed"),
        ({"flat_colour": math.nan}, "compressed"),
        ({"eyes_covered": 1.1, "aside": 1}, "eyes_covered"),
        ({"mouth_covered": 0.6}, "mouth_covered"),
        ({"detection_probability": 0.98}, "unclear"),
        *(({name.partition("_")[2]: math.nan}, reason) for name, reason in QUALITY.items()),
    ],
)
def test_an_unusable_face_has_a_reason(change, reason):
    assert unusable_reason(GOOD | change, BOUNDS) == reason
    uncalibrated = {"turned", "turned_away", "noisy", "compressed"}
    without = unusable_reason(GOOD | change, None)
    assert without == (reason if reason in uncalibrated else "turned_away" if change.get("aside") == 1 else None)


def test_views_of_a_reference_are_shifted_and_every_second_one_is_mirrored():
    faces = torch.rand(2, 3, 100, 100)  # 3 % are three pixels
    down, up, right, left = reference_views(faces)[4:]  # of the second face
    face, mirrored = faces[1], faces[1].flip(-1)
    assert torch.equal(down[:, 3:], face[:, :-3]) and torch.equal(down[:, 2], face[:, 0])
    assert torch.equal(up[:, :-3], mirrored[:, 3:]) and torch.equal(up[:, -1], mirrored[:, -1])
    assert torch.equal(right[..., 3:], face[..., :-3]) and torch.equal(right[..., 2], face[..., 0])
    assert torch.equal(left[..., :-3], mirrored[..., 3:]) and torch.equal(left[..., -1], mirrored[..., -1])


def test_the_views_of_each_reference_are_averaged():
    first, second = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]]), np.array([[0, 0.5]] * 4)
    means = reference_embeddings(np.concatenate([first, second]))
    np.testing.assert_allclose(means, [[math.sqrt(0.5)] * 2, [0, 0.5]])


def test_references_of_different_people_are_detected():
    anna, anna_again, ben = np.array([1.0, 0, 0]), np.array([0.8, 0.6, 0]), np.array([0, 0, 1.0])
    assert unlike_references(np.stack([anna, anna_again]), 0.5) == []
    assert unlike_references(np.stack([anna, ben]), 0.5) == [0, 1]
    assert unlike_references(np.stack([anna, anna_again, ben]), 0.5) == [2]
    assert unlike_references(np.stack([anna]), 0.5) == unlike_references(np.stack([anna, ben]), None) == []


def test_a_similarity_above_one_by_rounding_is_reported_as_a_float():
    similarity = decide_face(1.00001).similarity
    assert isinstance(similarity, float) and similarity == 1


@pytest.fixture(scope="module")
def accepting_pipeline():
    """A pipeline for aligned faces with a random network, which finds all faces similar and happy."""
    torch.manual_seed(0)
    model = FaceLiveNetModel(FaceLiveNetConfig(image_size=75, similarity_threshold=0.5)).eval()
    with torch.no_grad():
        model.expression_head.classifier.bias[model.config.expressions.index("happy")] = 20
    model.config.calibrated_weights = model.fingerprint()
    return FaceAuthenticationPipeline(model, image_processor=FaceLiveNetImageProcessor(size=75), device="cpu")


@pytest.fixture
def faces():
    return [draw_face(person, "neutral", np.random.default_rng(person)) for person in range(3)]


def test_the_pipeline_has_the_decisions_of_the_authenticator(accepting_pipeline, faces):
    authenticator = Authenticator(accepting_pipeline.model, accepting_pipeline.image_processor)
    template = authenticator.template(faces[:2])
    for expression, reason in (("happy", "accepted"), ("sad", "wrong_expression")):
        decision = accepting_pipeline(faces[:2], faces[2], expression)
        expected = authenticator.judge(template, faces[2], expression).to_dict()
        assert decision["reason"] == reason
        assert decision["similarity"] == pytest.approx(expected.pop("similarity"), abs=1e-6)
        assert decision["expression_probabilities"] == pytest.approx(expected.pop("expression_probabilities"), abs=1e-6)
        assert {name: decision[name] for name in expected} == expected


def test_the_pipeline_uses_aligned_faces_without_detection(accepting_pipeline, faces):
    blank = np.zeros((75, 75, 3), np.uint8)
    assert accepting_pipeline(faces[0], faces[1], "happy", detect=False)["accepted"]
    assert accepting_pipeline(faces[0], blank, "happy", detect=False)["expression"] is not None
    assert accepting_pipeline(faces[0], blank, "happy")["reason"] == "no_face"


def test_the_pipeline_refuses_unusable_images_and_unknown_expressions(accepting_pipeline, faces):
    group = Image.new("RGB", (500, 250))
    for place in range(2):
        group.paste(faces[place], (250 * place, 0))
    assert accepting_pipeline(faces[0], group, "happy")["reason"] == "several_faces"
    assert accepting_pipeline(faces[0], [faces[1], group], "happy")["reason"] == "several_faces"
    assert accepting_pipeline(faces[0], [np.zeros((99, 99, 3), np.uint8), faces[1]], "happy")["accepted"]
    with pytest.raises(ValueError, match="reference 1 shows 2 faces"):
        accepting_pipeline([faces[0], group], faces[1], "happy")
    with pytest.raises(ValueError, match="no face found"):
        accepting_pipeline(np.zeros((99, 99, 3), np.uint8), faces[1], "happy")
    with pytest.raises(ValueError, match=r"nowhere\.png: no such file"):
        accepting_pipeline(faces[0], "nowhere.png", "happy")
    with pytest.raises(ValueError, match="expression 'smug': this model knows neutral, anger"):
        accepting_pipeline(faces[0], faces[1], "smug")


def test_the_pipeline_reads_references_and_probes_of_all_kinds(accepting_pipeline, faces):
    expected = accepting_pipeline(faces[:2], faces[2], "happy")
    assert accepting_pipeline((face for face in faces[:2]), iter([faces[2]]), "happy") == expected
    for empty in ([], (), iter(())):
        with pytest.raises(ValueError, match="no reference photograph"):
            accepting_pipeline(empty, faces[2], "happy")
    assert accepting_pipeline(faces[0], [], "happy")["reason"] == "no_frames"
    with pytest.raises(ValueError, match=r"probe 1: cannot read an image from int"):
        accepting_pipeline(faces[0], [faces[1], 7], "happy")


def test_a_model_in_training_mode_decides_as_usual_and_does_not_change(accepting_pipeline, faces):
    expected = accepting_pipeline(faces[0], faces[1], "happy")
    before = {name: value.clone() for name, value in accepting_pipeline.model.state_dict().items()}
    accepting_pipeline.model.train()
    accepting_pipeline.model.shared.eval()  # as if these were frozen
    assert accepting_pipeline(faces[0], faces[1], "happy") == expected
    assert accepting_pipeline.model.training and not accepting_pipeline.model.shared.training
    assert all(torch.equal(value, before[name]) for name, value in accepting_pipeline.model.state_dict().items())
    accepting_pipeline.model.eval()


def test_a_threshold_is_valid_only_for_the_weights_of_its_calibration(accepting_pipeline, faces, tmp_path):
    """Changed weights are those of another network, even if they were changed in memory only."""
    model = copy.deepcopy(accepting_pipeline.model)
    other = FaceAuthenticationPipeline(model, image_processor=accepting_pipeline.image_processor, device="cpu")
    assert other(faces[0], faces[1], "happy")["accepted"]
    for name in ("verification.block8.conv2d.weight", "expression_head.classifier.bias"):
        model = copy.deepcopy(accepting_pipeline.model)
        changed = dict(model.named_parameters()).get(name)
        with torch.no_grad():
            changed.mul_(1.01)
        other = FaceAuthenticationPipeline(model, image_processor=accepting_pipeline.image_processor, device="cpu")
        decision = other(faces[0], faces[1], "happy")
        assert (decision["reason"], decision["threshold"]) == ("uncalibrated", None)
        assert Authenticator(model, accepting_pipeline.image_processor).config.similarity_threshold is None
        model.save_pretrained(tmp_path)
        saved = json.loads((tmp_path / "config.json").read_text())
        assert saved.get("similarity_threshold") is None and model.config.similarity_threshold == 0.5


def test_a_saved_expression_head_accepts_nobody(accepting_pipeline, faces, tmp_path):
    """Loaded as the whole network, it has a random branch 1, which finds all faces similar."""
    accepting_pipeline.model.save_pretrained(tmp_path / "whole")
    head = FaceLiveNetForImageClassification.from_pretrained(tmp_path / "whole")
    head.save_pretrained(tmp_path / "head")
    saved = json.loads((tmp_path / "head" / "config.json").read_text())
    assert saved.get("similarity_threshold") is saved.get("calibration") is None
    threshold = {"similarity_threshold": 0.5, "calibrated_weights": accepting_pipeline.model.config.calibrated_weights}
    (tmp_path / "head" / "config.json").write_text(json.dumps(saved | threshold))  # as earlier versions saved it
    model = FaceLiveNetModel.from_pretrained(tmp_path / "head")
    pipeline = FaceAuthenticationPipeline(model, image_processor=accepting_pipeline.image_processor, device="cpu")
    assert pipeline(faces[0], faces[1], "happy")["reason"] == "uncalibrated"


def test_the_fingerprint_of_the_shipped_weights_is_equal_in_all_precisions(repository):
    found = set()
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        model = FaceLiveNetModel.from_pretrained(repository / "pretrained", dtype=dtype)
        found.add(model.fingerprint())
        assert model.calibrated_threshold == model.config.similarity_threshold is not None
    assert len(found) == 1


@pytest.mark.real_data
def test_rotated_photographs_of_strangers_do_not_match(repository, real_data):
    model = FaceLiveNetModel.from_pretrained(repository / "pretrained", dtype=torch.float32)
    processor = FaceLiveNetImageProcessor.from_pretrained(repository / "pretrained")
    pipeline = FaceAuthenticationPipeline(model, image_processor=processor, device="cpu")
    for one, other in (("180_male_13", "180_female_75"), ("270_female_4", "270_female_68")):
        folder = real_data / "odd_files"
        assert not pipeline(folder / f"turned{one}.jpg", folder / f"turned{other}.jpg", "neutral")["same_identity"]
        upright = folder / f"upright_{one[4:]}.jpg"
        own_similarity = pipeline(upright, upright, "neutral")["similarity"]  # its length squared
        assert pipeline(upright, folder / f"turned{one}.jpg", "neutral")["similarity"] > 0.95 * own_similarity
    references = [real_data / "london" / f"{name}.jpg" for name in ("004_neutral", "004_happy", "107_neutral")]
    with pytest.raises(ValueError, match="reference 2 of 3 seems to show another person"):
        pipeline(references, references[0], "neutral")
    assert pipeline(references, references[0], "neutral", allow_unlike=True)["similarity"] is not None
