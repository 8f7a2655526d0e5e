"""The network made ready to answer one face at a time: the same numbers, to rounding, in about half the time.

Batch norms go into the convolutions before them. Most of a single face's time then is the reading of 50 MB of weights:
on a CPU they are laid out once as oneDNN wants them, instead of at every call.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from modeling_facelivenet import ConvBlock, FaceLiveNetModel


class PackedConv2d(nn.Module):
    """A convolution whose weights are laid out for inputs of one shape; other shapes give the same, only slower."""

    def __init__(self, conv: nn.Conv2d, input_shape: list[int]):
        super().__init__()
        self.geometry = conv.padding, conv.stride, conv.dilation, conv.groups
        weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight, *self.geometry, input_shape)
        self.register_buffer("weight", weight, persistent=False)
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        # no ReLU in here, which oneDNN would offer: it makes 0 of NaN, and broken weights would go unnoticed
        return torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *self.geometry, "none", [], "")


@torch.no_grad()
def fuse(model: FaceLiveNetModel) -> FaceLiveNetModel:
    """A copy of `model` for inference: embeddings and logits within 1e-4 of its own. The model itself is not changed.

    The copy can neither be trained nor saved.
    """
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    for block in fused.modules():
        if isinstance(block, ConvBlock):
            block.conv, block.bn = fuse_conv_bn_eval(block.conv, block.bn), nn.Identity()
    fused = fused.to(memory_format=torch.channels_last)
    return _pack(fused) if model.device.type == "cpu" and _can_pack() else fused


def _can_pack() -> bool:
    operators = torch.ops.mkldnn  # PyTorch's compiler uses them too, but they are not part of its public interface
    names = ("_reorder_convolution_weight", "_convolution_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(operators, name) for name in names)


def _pack(model: FaceLiveNetModel) -> FaceLiveNetModel:
    """Replace every convolution, once a trial run has told the shape of its input."""
    shapes, hooks = {}, []
    for name, conv in model.named_modules():
        if type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str):
            hooks.append(conv.register_forward_pre_hook(lambda _, inputs, name=name: shapes.update({name: inputs[0]})))
    side = model.config.image_size
    model(torch.zeros(1, 3, side, side).contiguous(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()
    for name, seen in shapes.items():
        model.set_submodule(name, PackedConv2d(model.get_submodule(name), list(seen.shape)))
    return model
