"""The labels of covered, warped, cut, turned and blurred faces, and the position of the covers."""

import pytest
import torch
import torch.nn.functional as F

from modeling_facelivenet import IGNORE
from train import deceptions
from train.deceptions import KINDS, below, blur, cover, deceive, mix, reshape, warp_mouth

SIDE = 80
LANDMARKS = torch.tensor([[0.34, 0.40], [0.66, 0.42], [0.50, 0.57], [0.38, 0.72], [0.64, 0.73]])


def batch(count: int = 12) -> tuple[torch.Tensor, ...]:
    """Faces, landmarks, identities, expressions and the targets of a teacher."""
    random = torch.Generator().manual_seed(0)
    faces = torch.randint(40, 200, (count, 3, 8, 8), generator=random).float()
    faces = torch.nn.functional.interpolate(faces, (SIDE, SIDE), mode="bilinear").byte()
    expression = torch.eye(7)[torch.arange(count) % 7]
    return faces, LANDMARKS.expand(count, 5, 2).clone(), torch.arange(count), expression, torch.randn(count, 4)


def use_only_kind(monkeypatch, kind: str) -> None:
    monkeypatch.setattr(deceptions, "WEIGHTS", torch.tensor([float(name == kind) for name in KINDS]))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_the_documented_labels(kind, monkeypatch):
    use_only_kind(monkeypatch, kind)
    torch.manual_seed(1)
    faces, landmarks, identity, expression, targets = batch()
    originals = [value.clone() for value in (faces, identity, expression, targets)]
    changed, new_identity, new_expression, new_targets = deceive(
        faces, landmarks, identity, expression, targets, share=1.0
    )
    assert all(torch.equal(a, b) for a, b in zip(originals, (faces, identity, expression, targets), strict=True))
    assert (changed != faces).flatten(1).any(dim=1).all()
    identity_unknown = kind in ("eyes", "half", "side")
    assert torch.equal(new_identity, torch.full_like(identity, IGNORE) if identity_unknown else identity)
    assert new_targets.isnan().all() if identity_unknown else torch.equal(new_targets, targets)
    expression_unknown = identity_unknown or kind == "mouth"
    torch.testing.assert_close(new_expression, torch.full_like(expression, 1 / 7) if expression_unknown else expression)


def test_a_share_of_the_batch_is_changed_and_the_rest_stays():
    torch.manual_seed(2)
    faces, landmarks, identity, expression, _ = batch(400)
    new_faces, new_identity, _, new_targets = deceive(faces, landmarks, identity, expression, None, share=0.25)
    changed = (new_faces != faces).flatten(1).any(dim=1)
    assert new_targets is None and 60 < changed.sum() < 140
    assert torch.equal(new_identity[~changed], identity[~changed])


@pytest.mark.parametrize(("part", "other"), [("mouth", "eyes"), ("eyes", "mouth")])
def test_a_strip_covers_one_part_and_not_the_other(part, other):
    torch.manual_seed(3)
    faces, landmarks, *_ = batch(200)
    covered = cover(faces.float(), landmarks, part)
    changed = ((covered - faces).abs() > 25).any(dim=1)  # (b, h, w)
    points = {"eyes": LANDMARKS[:2], "mouth": LANDMARKS[3:]}
    for point, (least, most) in [(p, (0.6, 1)) for p in points[part]] + [(p, (0, 0.05)) for p in points[other]]:
        x, y = (point * SIDE).long().tolist()
        assert least <= changed[:, y, x].float().mean() <= most  # a cover with the same skin changes few pixels


def test_covers_have_different_sizes_and_some_have_patterns():
    torch.manual_seed(6)
    faces = torch.full((300, 3, SIDE, SIDE), 120.0)
    for part in ("mouth", "eyes"):
        covered_faces = cover(faces, LANDMARKS.expand(300, 5, 2), part)
        covered = ((covered_faces - faces).abs() > 25).any(dim=1)
        size = covered.flatten(1).float().mean(dim=1)
        assert size.min() < 0.05 and size.max() > (0.25 if part == "mouth" else 0.12)
        colours = [
            face[:, mask].std(dim=1).mean() for face, mask in zip(covered_faces, covered, strict=True) if mask.any()
        ]
        patterned = torch.stack(colours) > 20
        assert 0.15 < patterned.float().mean() < 0.6


def test_warping_moves_the_corners_of_the_mouth_up_and_keeps_the_eyes():
    torch.manual_seed(4)
    faces = torch.zeros(50, 3, SIDE, SIDE)
    x, y = (LANDMARKS[3] * SIDE).long().tolist()
    faces[:, :, y - 1 : y + 2, x - 1 : x + 2] = 200.0
    warped = warp_mouth(faces, LANDMARKS.expand(50, 5, 2))
    rows = torch.arange(SIDE).view(1, -1, 1)
    mass = warped[:, 0]
    height = (mass * rows).sum(dim=(1, 2)) / mass.sum(dim=(1, 2)).clamp(min=1)
    assert (height < y - 1).float().mean() > 0.6  # four of five faces get raised corners
    faces = torch.rand(5, 3, SIDE, SIDE) * 255
    warped = warp_mouth(faces, LANDMARKS.expand(5, 5, 2))
    top = int(0.35 * SIDE)
    torch.testing.assert_close(warped[:, :, :top], faces[:, :, :top], atol=30, rtol=0)


def test_the_cut_runs_between_nose_and_mouth():
    below_cut = below(LANDMARKS[None], SIDE, SIDE)[0, 0]
    for point, expected in zip(LANDMARKS, (False, False, False, True, True), strict=True):
        x, y = (point * SIDE).long().tolist()
        assert below_cut[y, x].item() is expected


def test_a_blur_keeps_the_mean_and_removes_details():
    faces = torch.rand(3, 3, SIDE, SIDE) * 255
    blurred = blur(faces, 4.0)
    assert blurred.shape == faces.shape and blurred.std() < 0.2 * faces.std()
    torch.testing.assert_close(blurred.mean(), faces.mean(), atol=3, rtol=0)
    torch.testing.assert_close(blur(torch.full_like(faces, 90.0), 4.0), torch.full_like(faces, 90.0))


def test_mixed_faces_get_new_landmarks_and_no_expression():
    torch.manual_seed(5)
    faces, landmarks, _, expression, _ = batch(40)
    mixed, moved, new_expression, chosen = mix(faces, landmarks, expression, 0.5, new_shapes=True)
    assert 8 < chosen.sum() < 32
    assert torch.equal(moved[~chosen], landmarks[~chosen]) and (moved[chosen] != landmarks[chosen]).all()
    torch.testing.assert_close(moved, landmarks, atol=0.12, rtol=0)
    assert torch.equal(mixed[~chosen], faces[~chosen])
    assert (mixed[chosen] != faces[chosen]).flatten(1).any(dim=1).all()
    assert torch.equal(new_expression[~chosen], expression[~chosen]) and not new_expression[chosen].any()
    assert torch.equal(mix(faces, landmarks, expression, 0.0, new_shapes=True)[0], faces)


def test_blended_faces_have_the_blended_expressions():
    torch.manual_seed(7)
    faces, landmarks, *_ = batch(300)
    numbers = torch.randint(-1, 7, (300,))
    expression = F.one_hot(numbers.clamp(min=0), 7).float() * (numbers >= 0)[:, None]
    blended, new_landmarks, new_expression, chosen = mix(faces, landmarks, expression, 0.5, new_shapes=False)
    assert torch.equal(new_landmarks, landmarks) and torch.equal(new_expression[~chosen], expression[~chosen])
    assert torch.equal(blended[~chosen], faces[~chosen])
    known = new_expression.sum(dim=1) > 0
    torch.testing.assert_close(new_expression[known].sum(dim=1), torch.ones(int(known.sum())))
    assert not known[chosen & (numbers < 0)].any()  # unknown if one of the two is unknown
    assert not known[chosen & (numbers >= 0)].all()
    with_both = chosen & known & (new_expression.max(dim=1).values < 0.999)
    assert with_both.sum() > 30
    assert (new_expression[with_both] * expression[with_both]).sum(dim=1).min() >= 0.5  # the face has the larger share


def test_landmarks_follow_a_change_of_shape():
    """A dot that is drawn at each landmark must appear at the returned landmark."""
    torch.manual_seed(7)
    side, rows = 96, torch.arange(8)
    landmarks = torch.tensor([[0.3, 0.35], [0.7, 0.35], [0.5, 0.5], [0.35, 0.7], [0.65, 0.7]]).repeat(8, 1, 1)
    for point in range(5):
        x, y = ((torch.arange(side) + 0.5) / side - landmarks[0, point, :, None]).square()
        dots = (-(x[None, :] + y[:, None]) / (2 * 0.02**2)).exp().expand(8, 3, side, side)
        changed, moved = reshape(dots, landmarks)
        brightest = changed[:, 0].flatten(1).argmax(dim=1)
        found = torch.stack([brightest % side, brightest // side], dim=1) / side + 0.5 / side
        torch.testing.assert_close(moved[rows, point], found, atol=2 / side, rtol=0)
        assert (moved - landmarks).norm(dim=2).max() > 3 / side
