"""The exported graph has the outputs of the network, contains all settings, and is used like a checkpoint."""

import onnx
import pytest
import torch

from authentication.__main__ import main as authenticate
from authentication.authenticator import Authenticator
from checkpoints import file_sha256
from face_data.drawn import drawn_photograph
from hub_card.__main__ import main
from hub_card.onnx_export import TOLERANCE, quantise
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel
from onnx_network import OnnxNetwork


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small network with random weights. It sees all faces as happy and similar."""
    folder = tmp_path_factory.mktemp("onnx") / "checkpoint"
    torch.manual_seed(0)
    config = FaceLiveNetConfig(image_size=75, repeats=[0, 0, 0], similarity_threshold=0.5)
    model = FaceLiveNetModel(config)
    with torch.no_grad():
        model.expression_head.classifier.bias[config.expressions.index("happy")] = 20
    config.calibrated_weights = model.fingerprint()
    model.save_pretrained(folder)
    FaceLiveNetImageProcessor(size=75, detection_threshold=0.8).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def graph(checkpoint):
    path = checkpoint.parent / "graph.onnx"
    assert main(["onnx", "--model", str(checkpoint), "--out", str(path)]) == 0
    return path


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_graph_has_the_outputs_of_the_network(checkpoint, graph, count):
    faces = torch.randn(count, 3, 75, 75)
    with torch.no_grad():
        expected = FaceLiveNetModel.from_pretrained(checkpoint)(faces)
    found = OnnxNetwork(graph)(faces)
    for name in ("embedding", "expression_logits"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=TOLERANCE)


def test_the_graph_and_the_checkpoint_make_the_same_decision(checkpoint, graph):
    original, exported = Authenticator.from_pretrained(checkpoint), Authenticator.from_pretrained(graph)
    assert exported.config.to_diff_dict() | {"_name_or_path": ""} == original.config.to_diff_dict() | {
        "_name_or_path": ""
    }
    assert exported.processor.to_dict() == original.processor.to_dict()
    assert exported.revision == original.revision == file_sha256(checkpoint / "model.safetensors")[:12]
    assert exported.challenges == original.challenges
    assert exported.parameters == original.parameters > 1e6
    photographs = [drawn_photograph(1, name, 0, seed=0) for name in ("neutral", "happy")]
    decisions = [
        authenticator.judge(authenticator.template(photographs[:1]), photographs[1], "happy")
        for authenticator in (original, exported)
    ]
    assert [decision.reason for decision in decisions] == ["accepted"] * 2
    assert decisions[0].similarity == pytest.approx(decisions[1].similarity, abs=TOLERANCE)


def test_the_command_line_accepts_the_file_or_its_folder(graph, tmp_path, capsys):
    photograph = tmp_path / "anna.png"
    drawn_photograph(1, "neutral", 0, seed=0).save(photograph)
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "any.onnx").write_bytes(graph.read_bytes())
    for model in (graph, tmp_path / "exported"):
        assert authenticate([str(photograph), str(photograph), "--expression", "happy", "--model", str(model)]) == 0
        assert "ACCEPTED" in capsys.readouterr().out


def test_the_8_bit_graph_has_a_quarter_of_the_size_and_another_revision(checkpoint, graph):
    path = checkpoint.parent / "int8.onnx"
    quantise(graph, path)
    assert path.stat().st_size < 0.3 * graph.stat().st_size
    exact, quantised = OnnxNetwork(graph), OnnxNetwork(path)
    assert quantised.revision == f"{exact.revision}-int8"
    faces = torch.randn(2, 3, 75, 75)
    assert ((exact(faces).embedding * quantised(faces).embedding).sum(dim=1) > 0.99).all()


def test_a_network_with_nan_outputs_is_not_exported(checkpoint, tmp_path, capsys):
    broken = tmp_path / "broken"
    network = FaceLiveNetModel.from_pretrained(checkpoint)
    with torch.no_grad():
        network.expression_head.classifier.bias[0] = torch.nan
    network.save_pretrained(broken)
    FaceLiveNetImageProcessor.from_pretrained(checkpoint).save_pretrained(broken)
    assert main(["onnx", "--model", str(broken), "--out", str(tmp_path / "broken.onnx")]) == 2
    assert "differs from the network by nan" in capsys.readouterr().err
    assert not (tmp_path / "broken.onnx").exists()


def test_unusable_graphs_and_paths_are_refused(checkpoint, graph, tmp_path, monkeypatch, capsys):
    foreign = tmp_path / "foreign.onnx"
    proto = onnx.load(graph)
    del proto.metadata_props[:]
    onnx.save(proto, foreign)
    with pytest.raises(OSError, match=r"foreign\.onnx: not written by `python -m hub_card onnx`: it has no 'config'"):
        Authenticator.from_pretrained(foreign)
    foreign.write_bytes(graph.read_bytes()[:1000])
    with pytest.raises(OSError, match=r"foreign\.onnx: cannot be loaded"):
        Authenticator.from_pretrained(foreign)
    with pytest.raises(ValueError, match="runs on the CPU, not on cuda"):
        Authenticator.from_pretrained(graph, device="cuda")
    monkeypatch.setattr("onnx_network.onnxruntime", None)
    with pytest.raises(OSError, match="pip install onnxruntime"):
        Authenticator.from_pretrained(graph)
    assert main(["onnx", "--model", str(checkpoint), "--out", str(tmp_path / "graph.bin")]) == 2
    assert "must end in .onnx" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["onnx", "--model", str(tmp_path / "empty"), "--out", str(tmp_path / "x.onnx")]) == 2
    assert "config.json is missing" in capsys.readouterr().err
