"""The network together with the image processor, and templates made of embeddings."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from authentication.authenticator import Authenticator, SeveralFacesError
from authentication.template import Template
from authentication.tracking import FaceTracker, overlap
from image_processing_facelivenet import NoFaceError, UnreadableImageError
from modeling_facelivenet import FaceLiveNetModel
from pipeline_facelivenet import reference_views


@pytest.fixture(scope="module")
def authenticator(happy_model):
    return Authenticator.from_pretrained(happy_model)


def test_a_template_is_the_mean_direction_at_the_mean_length():
    template = Template.from_embeddings([np.array([1.0, 0.0]), np.array([0.0, 1.0])])
    np.testing.assert_allclose(template.embedding, [0.5**0.5] * 2)
    assert template.photographs == 2
    assert template.similarity(np.array([1.0, 0.0], np.float32)) == pytest.approx(0.5**0.5)
    assert np.isnan(template.similarity([np.nan, 0.0]))
    shorter = Template.from_embeddings([np.array([0.6, 0.0]), np.array([0.0, 1.0])])
    assert np.linalg.norm(shorter.embedding) == pytest.approx(0.8)


@pytest.mark.parametrize("embeddings", [[], [[np.nan, 1.0]], [[1.0, 0.0], [-1.0, 0.0]], [[np.inf, 0.0]]])
def test_unusable_embeddings_give_no_template(embeddings):
    with pytest.raises(ValueError, match="template"):
        Template.from_embeddings(embeddings)


def test_evidence_of_a_portrait(authenticator, portrait):
    evidence = authenticator.evidence(portrait)
    assert evidence.embedding.shape == (1792,)
    assert np.linalg.norm(evidence.embedding) == pytest.approx(1, abs=1e-5)
    assert sum(evidence.expression_probabilities.values()) == pytest.approx(1)
    assert list(evidence.expression_probabilities) == list(authenticator.config.expressions)
    left, top, right, bottom = evidence.box
    assert left < evidence.landmarks[:, 0].min() < evidence.landmarks[:, 0].max() < right
    assert top < evidence.landmarks[:, 1].min() < evidence.landmarks[:, 1].max() < bottom
    assert evidence.face_count == 1


def test_decision_carries_the_evidence(authenticator, portrait):
    template = authenticator.template([portrait])
    decision = authenticator.judge(template, portrait, "happy")
    assert decision.accepted
    assert decision.similarity == pytest.approx(template.similarity(authenticator.evidence(portrait).embedding))
    assert len(decision.model_revision) == 12
    assert authenticator.judge(template, portrait, "sad").reason == "wrong_expression"


def test_a_template_is_the_mean_of_views_of_its_photograph(authenticator, portrait):
    face = authenticator.processor(portrait)["pixel_values"]
    views = torch.cat([authenticator.model(view[None]).embedding for view in reference_views(face)]).numpy()
    expected = views.mean(axis=0) / np.linalg.norm(views.mean(axis=0))  # these embeddings have a length of 1
    np.testing.assert_allclose(authenticator.template([portrait]).embedding, expected, atol=1e-5)
    np.testing.assert_allclose(authenticator.template([portrait, portrait]).embedding, expected, atol=1e-5)


def test_images_without_exactly_one_face_are_refused(authenticator, portrait, group):
    template = authenticator.template([portrait, portrait])
    blank = np.full((200, 200, 3), 127, np.uint8)
    assert authenticator.judge(template, blank, "happy").reason == "no_face"
    assert authenticator.judge(template, group, "happy").reason == "several_faces"
    with pytest.raises(SeveralFacesError, match="3 faces"):
        authenticator.template([portrait, group])
    with pytest.raises(NoFaceError):
        authenticator.template([blank])
    with pytest.raises(UnreadableImageError):
        authenticator.judge(template, b"not a picture", "happy")


def test_broken_weights_accept_nobody(authenticator, happy_model, portrait, tmp_path):
    template = authenticator.template([portrait])
    folder = shutil.copytree(happy_model, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["shared.conv2d_1a.conv.weight"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    broken = Authenticator.from_pretrained(folder)
    decision = broken.judge(template, portrait, "happy")
    assert not decision.accepted
    assert decision.reason == "invalid_evidence"
    with pytest.raises(ValueError, match="no template"):
        broken.template([portrait])


def test_the_results_equal_those_of_the_saved_network(authenticator, happy_model, portrait):
    evidence = authenticator.evidence(portrait)
    model = FaceLiveNetModel.from_pretrained(happy_model).eval()
    with torch.inference_mode():
        output = model(authenticator.processor(portrait)["pixel_values"])
    np.testing.assert_allclose(evidence.embedding, output.embedding[0], atol=1e-4)
    probabilities = output.expression_logits[0].softmax(dim=0)
    np.testing.assert_allclose(list(evidence.expression_probabilities.values()), probabilities, atol=1e-4)


def test_a_tracker_finds_the_faces(authenticator, portrait, group):
    template, tracker = authenticator.template([portrait]), FaceTracker(authenticator.processor)
    detected = authenticator.evidence(portrait)
    first, second = (authenticator.evidence(portrait, tracker) for _ in range(2))
    assert np.array_equal(first.box, detected.box) and not np.array_equal(second.box, detected.box)
    assert first.face_count == second.face_count == 1
    assert overlap(second.box, detected.box) > 0.85
    assert authenticator.judge(template, portrait, "happy", tracker).accepted
    assert authenticator.judge(template, group, "happy", tracker).reason == "several_faces"
    assert authenticator.judge(template, np.zeros((1, 1, 3), np.uint8), "happy", tracker).reason == "no_face"
    assert authenticator.judge(template, Image.new("RGB", portrait.size), "happy", tracker).reason == "no_face"


def test_threads_with_their_own_trackers_share_one_authenticator(authenticator, portrait):
    places = [(0, 0), (40, 10), (80, 20), (90, 0)]

    def watch(place) -> list:
        tracker, boxes = FaceTracker(authenticator.processor), []
        for step in range(6):
            frame = Image.new("RGB", (400, 300), (120, 130, 140))
            frame.paste(portrait, (place[0] + 4 * step, place[1]))
            boxes.append(authenticator.evidence(frame, tracker).box)
        return boxes

    alone = [watch(place) for place in places]
    with ThreadPoolExecutor(len(places)) as pool:
        np.testing.assert_allclose(list(pool.map(watch, places)), alone, atol=0.1)


def test_an_uncalibrated_model_accepts_nobody(happy_model, portrait, tmp_path):
    folder = shutil.copytree(happy_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"similarity_threshold": None}))
    authenticator = Authenticator.from_pretrained(folder)
    template = authenticator.template([portrait])
    assert authenticator.judge(template, portrait, "happy").reason == "uncalibrated"


def test_missing_models_are_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such model folder"):
        Authenticator.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        Authenticator.from_pretrained(tmp_path)


def test_damaged_models_are_reported(happy_model, tmp_path):
    folder = shutil.copytree(happy_model, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["shared.conv2d_1a.conv.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(OSError, match=r"model: lacks weights: shared\.conv2d_1a\.conv\.weight"):
        Authenticator.from_pretrained(folder)
    data = (happy_model / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:1000])
    with pytest.raises(OSError, match="model: cannot be loaded"):
        Authenticator.from_pretrained(folder)
    shutil.copy(happy_model / "model.safetensors", folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(OSError, match="model: cannot be loaded"):
        Authenticator.from_pretrained(folder)
