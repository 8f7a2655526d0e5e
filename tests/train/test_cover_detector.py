"""The detector of covered eyes and mouths, which is fitted on faces."""

import json

import numpy as np
import pytest
import torch

import train.cover_detector
from face_data.table import load_corpus
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import FaceLiveNetModel
from train.batches import TrainingFaces
from train.cover_detector import fit_cover_detector
from train.deceptions import cover
from train.export import export
from train.photographs import Photographs


@pytest.fixture(scope="module")
def fitted(drawn_corpus, repository):
    """The shipped network with a detector that was fitted on drawn people of the training split, and the record."""
    model = FaceLiveNetModel.from_pretrained(repository / "pretrained", dtype=torch.float32)
    processor = FaceLiveNetImageProcessor.from_pretrained(repository / "pretrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.cover_detector, "MOST_FACES", 100)
        record = fit_cover_detector(model, processor, [f"{drawn_corpus}:train"])
        first = model.covers.covered.weight.clone()
        assert fit_cover_detector(model, processor, [f"{drawn_corpus}:train"]) == record
    torch.testing.assert_close(model.covers.covered.weight, first)
    return model, processor, record


def test_covers_of_unknown_people_are_detected(fitted, drawn_corpus):
    model, processor, record = fitted
    assert record["faces"] == 100 and record["mouth_covered"]["seen"] > 0.7 > record["mouth_covered"]["falsely_seen"]
    faces = TrainingFaces(Photographs([f"{drawn_corpus}:valid"], model.config.expressions, landmarks=True))
    batch = faces.__getitems__(list(range(0, len(faces), 4)))
    images, landmarks = batch.faces.float(), batch.landmarks.float()
    torch.manual_seed(5)
    variants = [images, cover(images, landmarks, "eyes"), cover(images, landmarks, "mouth")]
    with torch.inference_mode():
        detected = torch.stack([model(processor.whiten(variant)).cover_logits for variant in variants]) > 0  # (3, b, 2)
    rates = detected.float().mean(dim=1).numpy()
    assert rates[1, 0] > 0.6 and rates[2, 1] > 0.7
    assert max(rates[0].max(), rates[2, 0], rates[1, 1]) < 0.2


def test_an_export_contains_the_cover_detector(drawn_corpus, repository, tmp_path, monkeypatch):
    monkeypatch.setattr(train.cover_detector, "MOST_FACES", 20)
    model = FaceLiveNetModel.from_pretrained(repository / "pretrained", dtype=torch.float32)
    train.cover_detector.without_cover_detector(model)
    model.save_pretrained(tmp_path / "one")
    processor = FaceLiveNetImageProcessor.from_pretrained(repository / "pretrained")
    processor.save_pretrained(tmp_path / "one")
    (tmp_path / "one" / "training.json").write_text("{}")
    assert FaceLiveNetModel.from_pretrained(tmp_path / "one").covers is None
    export([tmp_path / "one"], tmp_path / "out", ["happy"], faces=[str(drawn_corpus)])
    assert json.loads((tmp_path / "out" / "training.json").read_text())["cover_detector"]["faces"] == 20
    shipped = FaceLiveNetModel.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    image = np.asarray(load_corpus(drawn_corpus)[0]["image"].convert("RGB"))
    with torch.inference_mode():
        output = shipped(
            FaceLiveNetImageProcessor.from_pretrained(tmp_path / "out")(image, detect=False)["pixel_values"]
        )
    assert output.cover_logits.shape == (1, 2) and output.cover_logits.abs().min() > 0
