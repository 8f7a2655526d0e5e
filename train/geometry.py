"""Moving faces by their landmarks, a batch at a time, on whatever device it lies.

`train.teacher` cuts a teacher's chips with it, `train.deceptions` puts half of one face on another.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def moved(faces: Tensor, landmarks: Tensor, wanted: Tensor, size: int) -> Tensor:
    """Turn, scale and shift each face so that its landmarks come to lie where they are wanted, by least squares.

    Args:
        faces: (b, 3, h, w) floats. landmarks: (b, 5, 2) x and y as fractions of the picture's sides.
        wanted: (5, 2) or (b, 5, 2), fractions of the result's side. size: of that side, in pixels.

    Returns:
        (b, 3, size, size); beyond a picture's border its last pixels are repeated.
    """
    # in complex numbers a similarity is z -> a z + b, and its least-squares fit is one line each for a and b
    source = torch.view_as_complex(landmarks.double().contiguous())
    target = torch.view_as_complex(wanted.to(landmarks).double().contiguous()).expand_as(source)
    centered = target - target.mean(dim=1, keepdim=True)
    a = (centered.conj() * (source - source.mean(dim=1, keepdim=True))).sum(dim=1) / centered.abs().square().sum(dim=1)
    b = source.mean(dim=1) - a * target.mean(dim=1)
    # grid_sample's coordinates run from -1 to 1 on both sides
    rows = (a.real, -a.imag, 2 * b.real + a.real - a.imag - 1), (a.imag, a.real, 2 * b.imag + a.imag + a.real - 1)
    theta = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1).to(faces.dtype)
    grid = F.affine_grid(theta, [len(faces), 3, size, size], align_corners=False)
    return F.grid_sample(faces, grid, mode="bilinear", padding_mode="border", align_corners=False)
