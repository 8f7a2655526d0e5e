"""The network as it answers: its own numbers, folded and packed."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from authentication import fused
from authentication.fused import PackedConv2d, fuse
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel


def trained(**settings) -> FaceLiveNetModel:
    """Random weights, and batch norms that have seen something."""
    torch.manual_seed(0)
    model = FaceLiveNetModel(FaceLiveNetConfig(**{"image_size": 80} | settings)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for parameter in filter(lambda parameter: parameter is not None, (module.weight, module.bias)):
                nn.init.normal_(parameter, 1 if parameter is module.weight else 0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return model


@torch.inference_mode()
def difference(one, other, pixels) -> float:
    one, other = one(pixels), other(pixels)
    return max(
        (one.embedding - other.embedding).abs().max().item(),
        (one.expression_logits.softmax(1) - other.expression_logits.softmax(1)).abs().max().item(),
    )


@pytest.fixture(scope="module")
def model():
    return trained()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("shape", [(1, 3, 80, 80), (5, 3, 80, 80), (2, 3, 96, 96)])
def test_parity(model, shape, packed, monkeypatch):
    if not packed:
        monkeypatch.setattr(fused, "_can_pack", lambda: False)
    elif not fused._can_pack():
        pytest.skip("PyTorch without oneDNN")
    ready = fuse(model)
    assert any(isinstance(module, PackedConv2d) for module in ready.modules()) == packed
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
    assert difference(model, ready, torch.randn(shape)) < 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_norm_scale": True},
        {"test_time_flip": True},
        {"repeats": [0, 2, 0]},
        {"trunk": "resnet18", "image_size": 96},
    ],
)
def test_parity_of_other_networks(settings):
    model = trained(**settings)
    side = model.config.image_size
    assert difference(model, fuse(model), torch.randn(1, 3, side, side)) < 1e-4


def test_the_model_itself_stays_as_it_is(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pixels = torch.randn(1, 3, 80, 80)
    expected = model(pixels).embedding
    fuse(model)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(model(pixels).embedding, expected) and model.shared.conv2d_1a.conv.weight.requires_grad


@pytest.mark.parametrize("layer", ["shared.conv2d_1a", "shared.mixed_7a.branch2.1", "verification.block8.branch0"])
def test_broken_weights_stay_broken(layer):
    model = trained()
    with torch.no_grad():
        model.get_submodule(layer).conv.weight[0] = float("nan")
    assert fuse(model)(torch.randn(1, 3, 80, 80)).embedding.isnan().any()


def test_threads_share_one_network(model):
    ready, pixels = fuse(model), torch.randn(6, 1, 3, 80, 80)

    @torch.inference_mode()
    def embed(face):
        return ready(face).embedding

    expected = [embed(face) for face in pixels]
    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(embed, pixels.repeat(4, 1, 1, 1, 1)), expected * 4, strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)
