"""Augmentation with attacks and unusable faces (covered, warped, cut, turned, blurred), and mixtures of two faces.

Called by `data` for a share of each batch, and by `cover_detector`. Without this augmentation the network recognises a
strip of paper over the mouth as a smile, and a photograph with pulled corners of the mouth as another expression. Two
people with covered eyes, or two faces that lie on their side, become similar.

    kind      augmentation                                   identity target      expression target
    mouth     a strip or a mask over the mouth               kept                 uniform
    eyes      a strip or dark glasses over the eyes          none                 uniform
    warp      corners of the mouth moved                     kept                 kept
    half      the lower half of another person's face        none                 uniform
    side      turned by 90, 180 or 270 degrees               none                 uniform
    blur      blurred by up to 6 % of the image's side       kept                 kept

With a teacher, a face without an identity target should be as dissimilar to all other faces as two strangers are
(`TeacherHead`).

Mixtures of two faces have no identity label. With a teacher they also get a new shape, and have only the targets of
teachers ("A good teacher is patient and consistent", arXiv 2106.05237). A new shape may change the expression: a
network that recognised 0.86 of FERPlus valid recognised 0.80 of the same photographs with a new shape. Expression
teachers see this new shape. Without a teacher the target is the mixture of both expressions ("mixup", arXiv
1710.09412). Next to read: train/geometry.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling_facelivenet import IGNORE
from train.geometry import move_landmarks

KINDS = ("mouth", "eyes", "warp", "half", "side", "blur")
WEIGHTS = torch.tensor([2.0, 1.0, 2.0, 1.0, 1.0, 1.0])  # how often each kind is drawn
LOWER_HALF_BEGINS = 0.35  # as a fraction of the way from nose to mouth
OPAQUE_SHARE, LEAST_OPACITY = 0.6, 0.5  # share of opaque covers, and the smallest opacity of the others
UNBLENDED_SHARE = 0.3  # of the mixed faces: only their shape is changed
SHAPE_NODES, SHAPE_CHANGE = 5, 0.025  # nodes on each side of the image, and the standard deviation of their shifts
MAX_BLUR = 0.06  # standard deviation, as a fraction of the side


def mix(
    faces: Tensor, landmarks: Tensor, expression: Tensor, share: float, new_shapes: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Make faces of new people: blend some faces with other faces of the batch.

    Args:
        faces: (b, 3, h, w) uint8. landmarks: (b, 5, 2) fractions. expression: (b, n) probabilities, zeros if unknown.
        share: probability that a face is mixed.
        new_shapes: whether to change the shape of mixtures too. Their expressions are then unknown.

    Returns:
        faces, in which mixtures replace some faces; their landmarks; their expressions; and (b,) bool, true for
        mixtures.
    """
    chosen = torch.rand(len(faces), device=faces.device) < share
    rows = chosen.nonzero().squeeze(1)
    if not len(rows):
        return faces, landmarks, expression, chosen
    others = (rows + torch.randint(1, max(len(faces), 2), rows.shape, device=faces.device)) % len(faces)
    random = torch.rand(2, len(rows), 1, 1, 1, device=faces.device)
    part = torch.where(random[0] < UNBLENDED_SHARE, 1.0, random[1] * 0.4 + 0.3) if new_shapes else 1 - random[1] / 2
    donors = _aligned(faces[others], landmarks[others], landmarks[rows])
    blends = part * faces[rows].float() + (1 - part) * donors
    faces, landmarks, expression = faces.clone(), landmarks.clone(), expression.clone()
    if new_shapes:
        blends, landmarks[rows] = reshape(blends, landmarks[rows])
        expression[rows] = 0
    else:
        weight, first, second = part.view(-1, 1), expression[rows], expression[others]
        known = first.any(dim=1) & second.any(dim=1)
        expression[rows] = (weight * first + (1 - weight) * second) * known[:, None]
    faces[rows] = blends.round().clamp(0, 255).byte()
    return faces, landmarks, expression, chosen


def reshape(faces: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Move the parts of each face a little, smoothly and at random, so that it looks like another person.

    Args:
        faces: (b, 3, h, w). landmarks: (b, 5, 2) fractions.

    Returns:
        the changed faces, and their landmarks.
    """
    height, width = faces.shape[2:]
    nodes = torch.randn(len(faces), 2, SHAPE_NODES, SHAPE_NODES, device=faces.device) * SHAPE_CHANGE
    shifts = F.interpolate(nodes, (height, width), mode="bicubic", align_corners=True)  # (b, 2, h, w), in fractions
    positions = _positions(height, width, faces.device) + shifts.permute(0, 2, 3, 1)
    changed = F.grid_sample(faces, positions * 2 - 1, padding_mode="border", align_corners=False)
    shifts = F.grid_sample(shifts, landmarks[:, None] * 2 - 1, align_corners=False)  # (b, 2, 1, 5)
    return changed, landmarks - shifts[:, :, 0].transpose(1, 2)


def deceive(
    faces: Tensor, landmarks: Tensor, identity: Tensor, expression: Tensor, targets: Tensor | None, share: float
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Apply the augmentations of this module's table to a share of the batch.

    Args:
        faces: (b, 3, h, w) uint8. landmarks: (b, 5, 2) fractions. identity: (b,) labels. expression: (b, n)
            probabilities. targets: (b, d) vectors of a teacher, or None. share: probability that a face is changed.

    Returns:
        changed copies of faces, identity, expression and targets.
    """
    chosen = torch.rand(len(faces), device=faces.device) < share
    kinds = torch.multinomial(WEIGHTS.to(faces.device), len(faces), replacement=True)
    faces, identity, expression = faces.clone(), identity.clone(), expression.clone()
    targets = None if targets is None else targets.clone()
    originals = faces.clone()
    for number, kind in enumerate(KINDS):
        rows = (chosen & (kinds == number)).nonzero().squeeze(1)
        if not len(rows):
            continue
        changed, points = faces[rows].float(), landmarks[rows]
        if kind in ("mouth", "eyes"):
            changed = cover(changed, points, kind)
        elif kind == "warp":
            changed = warp_mouth(changed, points)
        elif kind == "half":
            others = (rows + torch.randint(1, max(len(faces), 2), rows.shape, device=faces.device)) % len(faces)
            donors = _aligned(originals[others], landmarks[others], points)
            changed = torch.where(below(points, *changed.shape[2:]), donors, changed)
        elif kind == "side":
            turns = torch.randint(1, 4, (len(rows),)).tolist()
            changed = torch.stack([face.rot90(turn, (1, 2)) for face, turn in zip(changed, turns, strict=True)])
        else:
            changed = blur(changed, changed.shape[3] * MAX_BLUR * float(torch.rand(()) * 0.8 + 0.2))
        faces[rows] = changed.round().clamp(0, 255).byte()
        if kind in ("mouth", "eyes", "half", "side"):
            expression[rows] = 1 / expression.shape[1]
        if kind in ("eyes", "half", "side"):
            identity[rows] = IGNORE
            if targets is not None:
                targets[rows] = float("nan")
    return faces, identity, expression, targets


def cover(faces: Tensor, landmarks: Tensor, part: str) -> Tensor:
    """Cover the mouth with a strip or a mask, or the eyes with a strip or glasses, plain or patterned.

    Some covers are half transparent.

    Args:
        faces: (b, 3, h, w), 0..255. landmarks: (b, 5, 2) fractions. part: "mouth" or "eyes".
    """
    batch, _, height, width = faces.shape
    first, second = (landmarks[:, 3], landmarks[:, 4]) if part == "mouth" else (landmarks[:, 0], landmarks[:, 1])
    across, down, length = _axes(landmarks)
    random = torch.rand(8, batch, 1, 1, device=faces.device)
    tilt = (random[0, :, 0] - 0.5) * 0.5
    along, over = across * tilt.cos() + down * tilt.sin(), down * tilt.cos() - across * tilt.sin()
    positions, length = _positions(height, width, faces.device), length[:, :, None]

    def offset(center: Tensor) -> tuple[Tensor, Tensor]:  # along and over, (b, h, w) each
        from_center = positions[None] - center[:, None, None]
        return tuple((from_center * axis[:, None, None]).sum(dim=3) for axis in (along, over))

    x, y = offset((first + second) / 2 + (random[1, :, 0] - 0.5) * 0.2 * length[:, 0] * down)
    half_width = (second - first).norm(dim=1)[:, None, None] * (0.6 + 0.9 * random[2])
    half_height = length * (0.16 + 0.24 * random[3])
    if part == "mouth":  # a mask
        shape = below(landmarks, height, width)[:, 0] & (x.abs() < 1.5 * half_width)
    else:
        lenses = [torch.stack(offset(eye)).square().sum(dim=0) < half_height**2 for eye in (first, second)]
        shape = lenses[0] | lenses[1]
    inside = torch.where(random[4] < 0.5, (x.abs() < half_width) & (y.abs() < half_height), shape)[:, None]

    kind = torch.randint(0, 4, (batch, 1, 1, 1), device=faces.device)  # black, white, random, mean of covered pixels
    any_colours = torch.rand(2, batch, 3, 1, 1, device=faces.device) * 255
    mean_colour = (faces * inside).sum(dim=(2, 3), keepdim=True) / inside.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    colour = torch.where(kind == 2, any_colours[0], mean_colour)
    colour = torch.where(kind == 0, 15.0, torch.where(kind == 1, 240.0, colour))
    colour = torch.where(_pattern(x / length, y / length)[:, None], any_colours[1], colour)
    light = 1 + 0.2 * (random[5, :, :, :, None] - 0.5) * torch.linspace(-1, 1, width, device=faces.device)
    noise = torch.randn(faces.shape, device=faces.device) * 4
    opacity = torch.where(random[6] < OPAQUE_SHARE, 1.0, LEAST_OPACITY + (1 - LEAST_OPACITY) * random[7])
    return torch.lerp(faces, colour * light + noise, inside * opacity[:, None]).clamp(0, 255)


def _pattern(x: Tensor, y: Tensor) -> Tensor:
    """(b, h, w) bool: pixels with the second colour of a cover: none (for half of them), stripes, checks or patches."""
    batch, height, width = x.shape
    kind = torch.randint(0, 6, (batch, 1, 1), device=x.device)
    period = 0.06 + 0.3 * torch.rand(batch, 1, 1, device=x.device)
    columns, rows = (x / period).floor().long(), (y / period).floor().long()
    patches = F.interpolate(torch.rand(batch, 1, 12, 12, device=x.device), (height, width))[:, 0] < 0.5
    checks = torch.where(kind == 3, rows, torch.where(kind == 4, columns + rows, patches.long())) % 2 == 1
    return checks & (kind >= 3)


def warp_mouth(faces: Tensor, landmarks: Tensor) -> Tensor:
    """Move the corners of the mouth as image editing software does, mostly up and outwards as in a smile.

    Args:
        faces: (b, 3, h, w). landmarks: (b, 5, 2) fractions.
    """
    batch, _, height, width = faces.shape
    across, down, length = _axes(landmarks)
    random = torch.rand(4, batch, 1, device=faces.device)
    up = length * (0.08 + 0.22 * random[0]) * torch.where(random[3] < 0.8, 1.0, -1.0)
    outwards = length * (0.2 * random[1] - 0.03)
    reach = length * (0.15 + 0.25 * random[2])
    positions = _positions(height, width, faces.device)[None]  # (1, h, w, 2)
    moved_by = torch.zeros(batch, height, width, 2, device=faces.device)
    for corner, side in ((3, -1.0), (4, 1.0)):
        pull = side * outwards * across - up * down  # (b, 2)
        near = (positions - landmarks[:, None, None, corner]).square().sum(dim=3) / (2 * reach[:, :, None] ** 2)
        moved_by += (-near).exp()[..., None] * pull[:, None, None]
    return F.grid_sample(faces, (positions - moved_by) * 2 - 1, padding_mode="border", align_corners=False)


def blur(faces: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (b, 3, h, w), sigma in pixels. Rows, then columns: a wide square kernel would be slow."""
    reach = max(round(2 * sigma), 1)
    kernel = (-(torch.arange(-reach, reach + 1, device=faces.device) ** 2) / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum()).expand(faces.shape[1], 1, 1, -1)
    wide = F.conv2d(F.pad(faces, (reach, reach, 0, 0), mode="replicate"), kernel, groups=faces.shape[1])
    tall = F.pad(wide, (0, 0, reach, reach), mode="replicate")
    return F.conv2d(tall, kernel.transpose(2, 3), groups=faces.shape[1])


def below(landmarks: Tensor, height: int, width: int) -> Tensor:
    """(b, 1, h, w) bool: the pixels below a line between nose and mouth."""
    _, down, _ = _axes(landmarks)
    mouth = (landmarks[:, 3] + landmarks[:, 4]) / 2
    line = landmarks[:, 2] + LOWER_HALF_BEGINS * (mouth - landmarks[:, 2])
    offset = _positions(height, width, landmarks.device)[None] - line[:, None, None]
    return ((offset * down[:, None, None]).sum(dim=3) > 0)[:, None]


def _aligned(faces: Tensor, landmarks: Tensor, target: Tensor) -> Tensor:
    return move_landmarks(faces.float(), landmarks, target, faces.shape[3])


def _axes(landmarks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each face the unit vectors across and down, (b, 2), and the distance of eyes and mouth, (b, 1)."""
    down = (landmarks[:, 3] + landmarks[:, 4] - landmarks[:, 0] - landmarks[:, 1]) / 2
    length = down.norm(dim=1, keepdim=True).clamp(min=1e-3)
    down = down / length
    return torch.stack([down[:, 1], -down[:, 0]], dim=1), down, length


def _positions(height: int, width: int, device: torch.device) -> Tensor:
    """(h, w, 2): x and y of the centre of each pixel, as fractions of the sides."""
    y, x = torch.meshgrid(
        (torch.arange(height, device=device) + 0.5) / height,
        (torch.arange(width, device=device) + 0.5) / width,
        indexing="ij",
    )
    return torch.stack([x, y], dim=2)
