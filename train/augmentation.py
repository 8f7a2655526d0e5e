"""Augmentation of whole batches on their device, with random parameters for each face.

Called by `run` for each batch. Its settings are in train/config.py. Next to read: modeling_facelivenet.py.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvF

from train.config import TrainingConfig

FEW = 8  # faces processed together on CPUs: their tensors fit into the cache


def prepare(faces: Tensor, config: TrainingConfig, whiten: Callable[[Tensor], Tensor]) -> Tensor:
    """Decoded faces (b, 3, h, w) uint8 -> the network's input (b, 3, size, size): augmented, whitened, some erased.

    whiten: `FaceLiveNetImageProcessor.whiten`.
    """
    few = FEW if faces.device.type == "cpu" else len(faces)
    ready = [erase(whiten(augment(part, config)), config) for part in faces.split(few)]
    return ready[0] if len(ready) == 1 else torch.cat(ready)


def augment(faces: Tensor, config: TrainingConfig, generator: torch.Generator | None = None) -> Tensor:
    """Aligned faces (b, 3, h, w) uint8 -> (b, 3, size, size) float32 in 0..1.

    Faces are mirrored, moved and lit differently, and some become grey. Depending on the config, their colours are
    changed, and some are blurred, or scaled down and up again.
    """
    size = config.image_size
    if faces.shape[-1] != size:
        faces = tvF.resize(faces, [size, size], InterpolationMode.BILINEAR, antialias=True)
    faces = faces.contiguous().float().div_(255)  # grid_sample takes twice as long on channels last

    def random(*shape: int) -> Tensor:  # uniform in −1..1
        return torch.rand(shape, generator=generator, device=faces.device) * 2 - 1

    def some(probability: float) -> Tensor:  # rows that are chosen, each with this probability
        return ((random(batch) + 1) / 2 < probability).nonzero().squeeze(1)

    batch = len(faces)
    angle = random(batch, 1, 1) * math.radians(config.rotation)
    scale = 1 + random(batch, 1, 1) * config.crop_scale
    mirror = random(batch, 1, 1, 1) < 0
    shift = random(batch, 2, 1, 1) * 2 * config.shift  # grid coordinates run from −1 to 1
    cos, sin = scale * angle.cos(), scale * angle.sin()
    across = (torch.arange(size, device=faces.device) * 2 + 1) / size - 1  # centres of the pixels
    down = across.unsqueeze(1)
    # affine_grid's matrix product takes several times as long as these products of rows and columns
    grid = torch.stack([cos * across - sin * down + shift[:, 0], sin * across + cos * down + shift[:, 1]], dim=3)
    faces = F.grid_sample(faces, grid, mode="bilinear", padding_mode="border", align_corners=False).clamp_(0, 1)
    faces = torch.where(mirror, faces.flip(3), faces)  # a mirrored grid takes five times as long to sample on CPUs

    gamma = torch.exp(random(batch, 1, 1, 1) * config.light)
    across = torch.linspace(-1, 1, size, device=faces.device)
    gradient = random(batch, 1, 1, 1) * across.view(1, 1, 1, size) + random(batch, 1, 1, 1) * across.view(1, 1, size, 1)
    faces = faces.log2_().mul_(gamma).exp2_()  # faces**gamma, in a third of the time
    faces = faces.mul_((1 + config.light * gradient).clamp_(min=0.1))
    if config.colour:
        grey = faces.mean(dim=1, keepdim=True)
        faces = grey + (faces - grey) * (1 + config.colour * random(batch, 1, 1, 1))
        faces = (faces * (1 + config.colour / 2 * random(batch, 3, 1, 1))).clamp(min=0)
    becomes_grey = (random(batch, 1, 1, 1) + 1) / 2 < config.gray
    faces = torch.where(becomes_grey, faces.mean(dim=1, keepdim=True), faces)

    if config.blur and len(rows := some(config.blur)):
        faces[rows] = tvF.gaussian_blur(faces[rows], [5, 5], [0.3 + 1.2 * (random(1).item() + 1) / 2])
    if config.downscale and len(rows := some(config.downscale)):
        small = round(size * (1 - (random(1).item() + 1) / 3))  # a third of the size to all of it
        coarse = F.interpolate(faces[rows], (small, small), mode="bilinear", antialias=True)
        faces[rows] = F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
    return faces


def erase(whitened: Tensor, config: TrainingConfig) -> Tensor:
    """Set a rectangle of some whitened faces to their mean, 0, in place. Random numbers come from Python's `random`."""
    if config.erase:
        RandomErasing(config.erase, max_area=0.2, device=whitened.device)(whitened)
    return whitened
