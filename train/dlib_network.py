"""dlib's face recognition network in PyTorch, which reads the same file as dlib.

Called by `teacher`. The weights are dlib's `face_recognition_resnet_model_v1` (Davis King, 2017, public domain), which
computes 128 numbers for a face. It was trained on about 3 million photographs of 7,485 people, without the people of
LFW. The PyPI package `face-recognition-models` contains the file. Next to read: train/teacher.py.

    network = load_dlib_network(find_dlib_file())
    vectors = network(chips)                       # (n, 3, 150, 150), 0..255 -> (n, 128)

The network is a ResNet of 29 convolutions, as in dlib's `examples/dnn_face_recognition_ex.cpp`. In the published file
each batch norm is a scale and a shift ("affine"); here these are part of the convolution before them.
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

PACKAGE = "face_recognition_models"
FILE = "dlib_face_recognition_resnet_model_v1.dat"
CHIP_SIZE = 150
MEAN_COLOUR = (122.782, 117.001, 104.298)
# From the input to the output: channels and number of the residual blocks, and whether the first one halves the side.
LEVELS = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions and a shortcut, which averages 2 × 2 pixels if the block halves the side.

    If both have different sizes or numbers of channels, the smaller one is filled up with zeros, as in dlib.
    """

    def __init__(self, in_channels: int, channels: int, halve: bool):
        super().__init__()
        # dlib pads a convolution only where its stride is 1
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=2 if halve else 1, padding=0 if halve else 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.halve = halve

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv2(F.relu(self.conv1(x)))
        shortcut = F.avg_pool2d(x, 2) if self.halve else x
        shape = [max(sizes) for sizes in zip(residual.shape[1:], shortcut.shape[1:], strict=True)]
        return F.relu(_zero_padded(residual, shape) + _zero_padded(shortcut, shape))


def _zero_padded(x: Tensor, shape: list[int]) -> Tensor:
    """(n, c, h, w) -> (n, *shape), with zeros after the last channel, row and column."""
    channels, height, width = (new - old for new, old in zip(shape, x.shape[1:], strict=True))
    return F.pad(x, (0, width, 0, height, 0, channels)) if channels or height or width else x


class DlibNetwork(nn.Module):
    """RGB face chips (n, 3, 150, 150), 0..255 -> (n, 128) vectors, which are compared by Euclidean distances."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, LEVELS[0][0], 7, stride=2)
        blocks, channels = [], LEVELS[0][0]
        for width, count, halve in LEVELS:
            for number in range(count):
                blocks.append(ResidualBlock(channels, width, halve and number == 0))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.embedding = nn.Linear(channels, 128, bias=False)
        self.register_buffer("mean_colour", torch.tensor(MEAN_COLOUR).view(1, 3, 1, 1), persistent=False)

    def forward(self, chips: Tensor) -> Tensor:
        x = (chips - self.mean_colour) / 256
        x = F.max_pool2d(F.relu(self.stem(x)), 3, stride=2)
        return self.embedding(self.blocks(x).mean(dim=(2, 3)))


def find_dlib_file() -> Path:
    """The file of the weights in the installed package `face-recognition-models`.

    The package cannot be imported: it needs `pkg_resources`, which current versions of setuptools do not contain.

    Raises:
        FileNotFoundError: the package is not installed; the message says how to install it.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for folder in spec.submodule_search_locations if spec else ():
        if (path := Path(folder) / "models" / FILE).is_file():
            return path
    raise FileNotFoundError(
        f"--teacher dlib needs the file {FILE}: pip install face-recognition-models==0.3.0, "
        "or give the path of the file as --teacher"
    )


def load_dlib_network(path: str | Path) -> DlibNetwork:
    """The network in evaluation mode, with the weights of dlib's file.

    Raises:
        ValueError: the file is not dlib's `face_recognition_resnet_model_v1`, or is damaged.
    """
    network = DlibNetwork().eval()
    convolutions = [network.stem, *(conv for block in network.blocks for conv in (block.conv1, block.conv2))]
    reader = _Reader(Path(path))
    with torch.no_grad():
        for conv in convolutions:
            weight, bias = _split(reader.tensor(b"con_4"), conv.weight, conv.bias, path)
            scale, shift = reader.tensor(b"affine_").reshape(2, -1)
            if len(scale) != len(bias):
                raise ValueError(f"{path}: not dlib's face recognition network: its layers have other sizes")
            conv.weight.copy_(weight * scale.view(-1, 1, 1, 1))
            conv.bias.copy_(bias * scale + shift)
        weights = reader.tensor(b"fc_2", skipped=2)  # the numbers of its outputs and inputs
        if weights.numel() != network.embedding.weight.numel():
            raise ValueError(f"{path}: not dlib's face recognition network: its last layer has another size")
        network.embedding.weight.copy_(weights.view(network.embedding.weight.shape[::-1]).T)
    return network


def _split(values: Tensor, weight: Tensor, bias: Tensor, path: str | Path) -> tuple[Tensor, Tensor]:
    """The filters and the biases of a convolution, which are one tensor in the file."""
    if values.numel() != weight.numel() + bias.numel():
        raise ValueError(f"{path}: not dlib's face recognition network: its layers have other sizes")
    values = values.flatten()
    return values[: weight.numel()].view_as(weight), values[weight.numel() :]


class _Reader:
    """Reads the tensors of a file in dlib's format, in their order.

    A layer is written as its name and its parameters: a version, four sizes, and the values as little-endian float32.
    A whole number is written as one byte with the number of bytes that follow, and these bytes, the lowest one first.
    """

    def __init__(self, path: Path):
        self.path = path
        self.content = path.read_bytes()
        self.place = 0

    def tensor(self, layer: bytes, skipped: int = 0) -> Tensor:
        """The parameters of the next layer with this name. skipped: how many whole numbers precede them."""
        name = bytes([1, len(layer)]) + layer
        start = self.content.find(name, self.place)
        if start < 0:
            raise ValueError(f"{self.path}: not dlib's face recognition network, or damaged: a layer is missing")
        self.place = start + len(name)
        version, *sizes = [self._number() for _ in range(skipped + 5)][skipped:]
        count = int(np.prod(sizes))
        end = self.place + 4 * count
        if version != 2 or not 0 < count < 10**8 or end > len(self.content):
            raise ValueError(f"{self.path}: not dlib's face recognition network, or damaged: a layer is cut short")
        values = np.frombuffer(self.content, "<f4", count, self.place).copy()
        self.place = end
        return torch.from_numpy(values)

    def _number(self) -> int:
        length = self.content[self.place] & 0x0F if self.place < len(self.content) else 0
        self.place += 1 + length
        return int.from_bytes(self.content[self.place - length : self.place], "little")
