"""A stage starts from the weights of an earlier stage or from published weights."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from safetensors.torch import save_file

from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel
from train.start import load_inception_resnet_v1, start_from, transfer_branch


@pytest.fixture
def model() -> FaceLiveNetModel:
    torch.manual_seed(0)
    return FaceLiveNetModel(FaceLiveNetConfig(image_size=80, num_identities=5))


@pytest.fixture
def earlier_model(tmp_path):
    torch.manual_seed(1)
    earlier = FaceLiveNetModel(FaceLiveNetConfig(image_size=80, num_identities=9))
    earlier.save_pretrained(tmp_path / "earlier")
    return tmp_path / "earlier", earlier


def test_weights_of_an_earlier_model_are_loaded_and_other_heads_are_initialised(model, earlier_model):
    folder, earlier = earlier_model
    initialised = start_from(model, str(folder))
    assert initialised == ["identity_head.centers", "identity_head.classifier.weight", "identity_head.classifier.bias"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, earlier.state_dict()[name]) != (name in initialised), name


def test_weights_in_half_precision_are_loaded(model, earlier_model, tmp_path):
    _, earlier = earlier_model
    earlier.half().save_pretrained(tmp_path / "half")
    start_from(model, str(tmp_path / "half"))
    torch.testing.assert_close(
        model.shared.conv2d_1a.conv.weight, earlier.shared.conv2d_1a.conv.weight.float(), rtol=0, atol=0
    )


def test_branch_2_starts_with_the_weights_of_branch_1(model):
    transfer_branch(model)
    for name, value in model.verification.state_dict().items():
        assert torch.equal(model.expression.state_dict()[name], value)
    assert model.expression.block8.conv2d.weight is not model.verification.block8.conv2d.weight


def test_unusable_sources_are_reported(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no checkpoint there"):
        start_from(model, str(tmp_path / "nowhere"))
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is damaged"):
        start_from(model, str(tmp_path))
    save_file({"shared.other": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="none of its shared layers fit"):
        start_from(model, str(tmp_path))


class Hub(SimpleHTTPRequestHandler):
    """Answers requests for the files of one repository as the Hub does."""

    def translate_path(self, path):
        return super().translate_path(path.removeprefix("/maker/face/resolve/main"))

    def end_headers(self):
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"1"')
        super().end_headers()

    def log_message(self, *args):
        pass


def test_a_model_on_the_hub_is_loaded(model, earlier_model, tmp_path, monkeypatch):
    folder, earlier = earlier_model
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(
        "train.start.hf_hub_download",
        partial(huggingface_hub.hf_hub_download, endpoint=endpoint, cache_dir=tmp_path / "cache"),
    )
    start_from(model, "maker/face")
    assert torch.equal(model.shared.conv2d_1a.conv.weight, earlier.shared.conv2d_1a.conv.weight)
    with pytest.raises(FileNotFoundError, match="not on the Hub either"):
        start_from(model, "maker/other")
    server.shutdown()


def test_published_weights_initialise_the_shared_layers_and_both_branches(tmp_path):
    torch.manual_seed(1)
    source = InceptionResnetV1(pretrained=None).eval()
    for norm in source.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):  # as after training, so that exchanged layers are noticed
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
            norm.weight.data.uniform_(0.5, 2)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    feature_map = {}
    source.block8.register_forward_hook(lambda module, inputs, output: feature_map.update(last=output))
    model = FaceLiveNetModel(FaceLiveNetConfig(repeats=(5, 10, 5), batch_norm_scale=True, num_identities=3)).eval()
    initialised = start_from(model, str(tmp_path / "weights.pt"))
    assert {name.split(".")[0] for name in initialised} == {"expression_head", "dynamic_weight_unit", "identity_head"}
    faces = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        source(faces)
        shared = model.shared(faces)
        for branch in (model.verification, model.expression):
            torch.testing.assert_close(branch.block8(branch.repeat_3(shared)), feature_map["last"], atol=1e-4, rtol=0)


def test_published_weights_of_another_shape_are_refused(tmp_path, model):
    with pytest.raises(ValueError, match=r"repeats=\(5, 10, 5\)"):
        load_inception_resnet_v1(model, tmp_path / "weights.pt")
    full = FaceLiveNetModel(FaceLiveNetConfig(repeats=(5, 10, 5), batch_norm_scale=True))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        load_inception_resnet_v1(full, "nowhere.pt")
    torch.save({"conv2d_1a.conv.weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="does not hold an InceptionResnetV1"):
        load_inception_resnet_v1(full, tmp_path / "other.pt")
