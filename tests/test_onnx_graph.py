"""Networks in ONNX Runtime have the outputs of PyTorch and are exported once. Without export, PyTorch is used."""

import logging
import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import image_processing_facelivenet
from image_processing_facelivenet import GRAPHS_KEPT, OnnxGraph, onnx_graph
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel
from onnx_network import GraphNetwork, for_inference


@pytest.fixture(autouse=True)
def graphs(tmp_path, monkeypatch):
    """The folder of the exported graphs, which is empty at the start."""
    monkeypatch.setenv("FACELIVENET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


def random_model(**settings) -> FaceLiveNetModel:
    """A model with random weights and random statistics of batch norm."""
    torch.manual_seed(0)
    model = FaceLiveNetModel(FaceLiveNetConfig(**{"image_size": 75, "repeats": [0, 1, 0]} | settings)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for parameter in filter(lambda parameter: parameter is not None, (module.weight, module.bias)):
                nn.init.normal_(parameter, 1 if parameter is module.weight else 0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    if model.length is not None:
        nn.init.normal_(model.length.crowding.weight, 0, 5)
    if model.covers is not None:
        nn.init.normal_(model.covers.covered.weight, 0, 5)
    return model


@torch.inference_mode()
def difference(one, other, pixels) -> float:
    one, other = one(pixels), other(pixels)
    return max(
        (one.embedding - other.embedding).abs().max().item(),
        (one.expression_logits - other.expression_logits).abs().max().item(),
        0.0 if one.cover_logits is None else (one.cover_logits - other.cover_logits).abs().max().item(),
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"repeats": [1, 1, 1]},
        {"batch_norm_scale": True},
        {"embedding_length": True},
        {"cover_detector": True},
        {"trunk": "resnet18", "image_size": 96},
    ],
)
def test_the_graph_has_the_outputs_of_the_network(settings):
    model = random_model(**settings)
    side = model.config.image_size
    ready = for_inference(model, side)
    assert isinstance(ready, GraphNetwork)
    for count in (1, 2, 5):
        assert difference(model, ready, torch.randn(count, 3, side, side)) < 1e-4


def test_the_export_does_not_change_the_network():
    model = random_model().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for_inference(model, 75)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert model.training and model.shared.conv2d_1a.conv.weight.requires_grad


@pytest.mark.parametrize("layer", ["shared.conv2d_1a", "shared.mixed_7a.branch2.1", "verification.block8.branch0"])
def test_nan_weights_give_nan_outputs(layer, graphs, caplog):
    """ReLU of ONNX Runtime returns 0 for NaN, so a graph would hide the damage."""
    model = random_model()
    with torch.no_grad():
        model.get_submodule(layer).conv.weight[0] = float("nan")
    assert for_inference(model, 75)(torch.randn(1, 3, 75, 75)).embedding.isnan().any()
    assert "has different outputs" in caplog.text and not list(graphs.glob("*"))


def test_a_network_is_exported_once_for_its_weights_and_settings(graphs, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    model, pixels = random_model(), torch.randn(1, 3, 75, 75)
    for_inference(model, 75)
    assert "exported for ONNX Runtime, once" in caplog.text
    [file] = graphs.glob("*")
    with monkeypatch.context() as patch:
        patch.setattr(image_processing_facelivenet, "export_onnx", None)
        assert difference(model, for_inference(model, 75), pixels) < 1e-4
    with torch.no_grad():
        model.expression_head.classifier.bias[0] += 1
    assert difference(model, for_inference(model, 75), pixels) < 1e-4
    assert len(list(graphs.glob("*"))) == 2 and file.exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "of other weights"])
def test_a_damaged_graph_is_exported_again(damage, graphs, tmp_path, caplog):
    model, pixels = random_model(), torch.randn(1, 3, 75, 75)
    for_inference(model, 75)
    [file] = graphs.glob("*")
    if damage == "of other weights":
        other = random_model()
        with torch.no_grad():
            other.expression_head.classifier.bias[0] += 1
        for_inference(other, 75)
        [foreign] = set(graphs.glob("*")) - {file}
        file.write_bytes(foreign.read_bytes())
    else:
        file.write_bytes(file.read_bytes()[: 1000 if damage == "truncated" else 0])
    assert difference(model, for_inference(model, 75), pixels) < 1e-4
    assert f"{file} is damaged" in caplog.text and difference(model, GraphNetwork(OnnxGraph(file)), pixels) < 1e-4


def test_a_graph_is_used_if_its_folder_cannot_be_written(graphs, caplog):
    graphs.parent.write_text("a file where the folder should be", encoding="utf-8")
    model = random_model()
    ready = for_inference(model, 75)
    assert isinstance(ready, GraphNetwork) and "exported again by the next process" in caplog.text
    assert difference(model, ready, torch.randn(1, 3, 75, 75)) < 1e-4


def test_pytorch_is_used_without_onnx(monkeypatch, graphs, caplog):
    model, pixels = random_model(), torch.randn(1, 3, 75, 75)
    monkeypatch.setattr(image_processing_facelivenet, "onnxruntime", None)
    assert difference(model, for_inference(model, 75), pixels) == 0 and not caplog.text
    monkeypatch.undo()
    monkeypatch.setenv("FACELIVENET_CACHE", str(graphs.parent))
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert difference(model, for_inference(model, 75), pixels) == 0
    assert "runs in PyTorch, more slowly: it cannot be exported" in caplog.text


def test_the_oldest_graphs_are_deleted(graphs):
    graphs.mkdir(parents=True)
    for number in range(GRAPHS_KEPT + 3):
        (graphs / f"{number}.onnx").write_bytes(b"")
    for_inference(random_model(), 75)
    assert len(list(graphs.glob("*.onnx"))) == GRAPHS_KEPT


def test_threads_share_one_network():
    model = random_model()
    ready, pixels = for_inference(model, 75), torch.randn(6, 1, 3, 75, 75)
    expected = [ready(face).embedding for face in pixels]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda face: ready(face).embedding, pixels.repeat(4, 1, 1, 1, 1)))
    for got, wanted in zip(found, expected * 4, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


class Doubling(nn.Module):
    def forward(self, x):
        return (nn.functional.conv2d(x, torch.full((3, 3, 1, 1), 2.0)),)


def _answer(graph: OnnxGraph, values: np.ndarray, answers) -> None:
    answers.put(graph(values)[0])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_another_process_opens_its_own_session(start):
    """The threads of a session do not exist in a forked process, so a call with this session would never return."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        graph = onnx_graph(Doubling().eval(), [torch.ones(1, 3, 64, 64), torch.ones(2, 3, 32, 32)])
        values = np.random.default_rng(0).random((2, 3, 128, 128), np.float32)
        expected = graph(values)[0]
        context = multiprocessing.get_context(start)
        answers = context.Queue()
        process = context.Process(target=_answer, args=(graph, values, answers))
        process.start()
        try:
            assert np.array_equal(answers.get(timeout=300), expected)
            process.join(timeout=60)
            assert process.exitcode == 0
        finally:
            process.kill()
    finally:
        torch.set_num_threads(threads)
