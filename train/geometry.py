"""Moves the faces of a batch so that their landmarks come to given places, on any device.

Called by `teacher`, for the crops that a teacher expects, and by `deceptions`, to join parts of two faces.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def move_landmarks(faces: Tensor, landmarks: Tensor, target: Tensor, size: int) -> Tensor:
    """Rotate, scale and shift each face so that its landmarks are as close as possible to the target (least squares).

    Args:
        faces: (b, 3, h, w) floats. landmarks: (b, 5, 2) x and y as fractions of the sides of the image.
        target: (5, 2) or (b, 5, 2), as fractions of the side of the result. size: of this side in pixels.

    Returns:
        (b, 3, size, size); beyond the border of an image its last pixels are repeated.
    """
    # in complex numbers a similarity is z -> a z + b, and the least-squares solutions for a and b are one line each
    source = torch.view_as_complex(landmarks.double().contiguous())
    goal = torch.view_as_complex(target.to(landmarks).double().contiguous()).expand_as(source)
    centered = goal - goal.mean(dim=1, keepdim=True)
    a = (centered.conj() * (source - source.mean(dim=1, keepdim=True))).sum(dim=1) / centered.abs().square().sum(dim=1)
    b = source.mean(dim=1) - a * goal.mean(dim=1)
    # grid_sample's coordinates run from -1 to 1 on both sides
    rows = (a.real, -a.imag, 2 * b.real + a.real - a.imag - 1), (a.imag, a.real, 2 * b.imag + a.imag + a.real - 1)
    theta = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1).to(faces.dtype)
    grid = F.affine_grid(theta, [len(faces), 3, size, size], align_corners=False)
    return F.grid_sample(faces, grid, mode="bilinear", padding_mode="border", align_corners=False)
