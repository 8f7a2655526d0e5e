"""The temperature of the expression logits, fitted on labelled faces."""

import json

import pytest
import torch

from face_data.table import CorpusError
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel
from train.export import export
from train.temperature import _logits_and_labels, fit_temperature


def network() -> FaceLiveNetModel:
    torch.manual_seed(3)
    return FaceLiveNetModel(FaceLiveNetConfig(image_size=64, trunk="test_resnet", repeats=[1, 1, 0])).eval()


def test_the_temperature_is_folded_into_the_last_layer(drawn_corpus):
    model, processor, text = network(), FaceLiveNetImageProcessor(size=64), f"{drawn_corpus}:valid"
    logits, labels = _logits_and_labels(model, processor, text)
    with torch.no_grad():  # make the last layer informative, by least squares, and overconfident
        scores = torch.nn.functional.one_hot(labels, 7).double()
        solution = torch.linalg.lstsq(torch.nn.functional.pad(logits, (0, 1), value=1.0), scores).solution
        combined, last = solution[:-1].T.float(), model.expression_head.classifier
        last.bias.copy_(20 * (combined @ last.bias + solution[-1].float()))
        last.weight.copy_(20 * combined @ last.weight)
    before, _ = _logits_and_labels(model, processor, text)
    record = fit_temperature(model, processor, [text])
    after, _ = _logits_and_labels(model, processor, text)
    torch.testing.assert_close(after * record["temperature"], before, rtol=1e-3, atol=1e-3)
    assert record["faces"] == len(labels) and record["temperature"] > 1 and record["loss"] < record["loss_before"]
    again = fit_temperature(model, processor, [text])
    assert again["temperature"] == pytest.approx(1, abs=1e-2) and again["loss"] == pytest.approx(record["loss"])


def test_an_export_contains_the_temperature(drawn_corpus, tmp_path):
    network().save_pretrained(tmp_path / "model")
    FaceLiveNetImageProcessor(size=64).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "training.json").write_text('{"trained_on": {}}')
    export([tmp_path / "model"], tmp_path / "out", ["happy"], expressions=[f"{drawn_corpus}:valid"])
    record = json.loads((tmp_path / "out" / "training.json").read_text())["expression_temperature"]
    before, after = (
        FaceLiveNetModel.from_pretrained(tmp_path / name, dtype=torch.float32).expression_head.classifier.weight
        for name in ("model", "out")
    )
    torch.testing.assert_close(after * record["temperature"], before, rtol=2e-3, atol=1e-4)
    with pytest.raises(CorpusError, match="drawn:valid has no labels of calm"):
        other = network()
        other.config.id2label = {0: "calm"}
        fit_temperature(other, FaceLiveNetImageProcessor(size=64), [f"{drawn_corpus}:valid"])
