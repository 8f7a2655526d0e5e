"""People made of others' parts: where the parts land, who is drawn, and how they stand in a batch."""

import itertools
import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from test_batches import damaged_copy
from torch.utils.data import DataLoader

from face_data.table import CorpusError, load_corpus, read_summary
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import EXPRESSIONS
from train.batches import DrawnBatches, TrainingFaces, no_collate, row_weights
from train.composites import (
    PARTS,
    PHOTOGRAPHS,
    affine_between,
    compose,
    draw_composites,
    part_mask,
)
from train.photographs import MEAN_LANDMARKS, Photographs, landmarks_in_crops

LANDMARKS = np.array([[55.0, 65.0], [100.0, 62.0], [79.0, 90.0], [60.0, 112.0], [98.0, 110.0]])
IDENTITY = np.repeat([0, 1, 2, -100], [3, 40, 2, 9])


def whole_mask(parts) -> np.ndarray:
    """(160, 160): how much of each pixel is the donor's."""
    whole = np.zeros((160, 160))
    for part in parts:
        mask, left, top = part_mask(part, LANDMARKS, 160, 160)
        region = whole[top : top + mask.shape[0], left : left + mask.shape[1]]
        region[:] = np.maximum(region, mask[..., 0])
    return whole


def test_composites_are_distinct_and_a_function_of_the_seed():
    drawn = draw_composites(IDENTITY, 30, seed=1)
    named = [(one.donor, one.base, one.parts) for one in drawn]
    assert len(drawn) == 30 and len(set(named)) == 30
    for person in drawn:
        assert person.donor != person.base and set(person.parts) < set(PARTS)
        assert set(IDENTITY[person.donor_rows]) == {person.donor} and set(IDENTITY[person.base_rows]) == {person.base}
        assert max(len(person.donor_rows), len(person.base_rows)) <= PHOTOGRAPHS
        photographs = [person.rows(number) for number in range(len(person))]
        assert len(set(photographs)) == len(person.donor_rows) * len(person.base_rows)
    assert [(one.donor, one.base, one.parts) for one in draw_composites(IDENTITY, 30, seed=1)] == named
    assert [(one.donor, one.base, one.parts) for one in draw_composites(IDENTITY, 30, seed=2)] != named
    assert len(draw_composites(IDENTITY, 10_000, seed=0)) == 3 * 2 * 6  # no more than there are
    with pytest.raises(ValueError, match="two known people or more, not 1"):
        draw_composites(np.array([4, 4, -100]), 1, seed=0)


@pytest.mark.parametrize("parts", [("eyes",), ("nose",), ("mouth",), ("eyes", "mouth")])
def test_the_parts_are_the_donor_s_and_the_rest_is_the_base_s(parts):
    random = np.random.default_rng(0)
    base, donor = random.integers(90, 110, (2, 160, 160, 3), dtype=np.uint8)
    mixed = compose(base, LANDMARKS, donor, LANDMARKS, parts)
    mask = whole_mask(parts)
    assert np.array_equal(mixed[mask == 0], base[mask == 0])
    # as bright on average, and the same picture: what differs is the rounding of one gain
    assert np.abs(mixed[mask == 1].astype(int) - donor[mask == 1]).max() <= 2
    assert (mask == 1).sum() > 200 and (mask == 0).sum() > 10_000
    own = compose(base, LANDMARKS, base, LANDMARKS, parts)
    assert np.abs(own.astype(int) - base).max() <= 1  # interpolation rounds down


def test_each_part_lies_where_it_should():
    where = {"eyes": LANDMARKS[:2], "nose": LANDMARKS[2:3], "mouth": LANDMARKS[3:]}
    for part in PARTS:
        mask = whole_mask([part])
        for name, points in where.items():
            inside = [mask[round(y), round(x)] for x, y in points]
            assert min(inside) == 1 if name == part else max(inside) < 0.5, (part, name)


def test_the_donor_is_moved_to_where_the_base_has_the_part():
    turn = np.array([[0.9, -0.2], [0.15, 1.1]])
    moved = LANDMARKS @ turn.T + [7, -5]
    a, b, c, d, e, f = affine_between(LANDMARKS, moved)
    assert np.allclose([[a, b], [d, e]], turn) and np.allclose([c, f], [7, -5])
    dark = np.full((160, 160, 3), 100, np.uint8)
    donor = dark.copy()
    x, y = (moved[3] + moved[4]) / 2
    donor[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3] = 220  # in the middle of its mouth
    mixed = compose(dark, LANDMARKS, donor, moved, ("mouth",))
    rows, columns = np.nonzero(mixed[..., 0] > 150)
    assert np.allclose([columns.mean(), rows.mean()], (LANDMARKS[3] + LANDMARKS[4]) / 2, atol=1)


def test_a_donor_that_looks_to_the_other_side_is_mirrored():
    turn = np.array([[0, 0], [0, 0], [14, 0], [0, 0], [0, 0]])
    left, right = LANDMARKS - turn, LANDMARKS + turn
    dark = np.full((160, 160, 3), 100, np.uint8)
    donor = dark.copy()
    donor[60:70, 50:60] = 220  # around its left eye
    for base, where in ((right, LANDMARKS[0]), (left, LANDMARKS[1])):
        bright = np.argwhere(compose(dark, base, donor, right, ("eyes",))[..., 0] > 150)
        assert np.allclose(bright.mean(axis=0)[::-1], where, atol=5)


def test_landmarks_lie_in_the_crop_where_the_detector_finds_them(drawn_corpus):
    table = load_corpus(drawn_corpus, ["valid"])
    inside = landmarks_in_crops(table, str(drawn_corpus)) * 160
    processor = FaceLiveNetImageProcessor()
    for row in range(0, len(table), max(1, len(table) // 6)):
        [face] = processor.detect(table[row]["image"])
        assert np.abs(face.landmarks - inside[row]).max() < 8, table[row]["key"]


def test_landmarks_need_to_know_the_crop_and_stand_in_where_no_face_was_found(drawn_corpus, tmp_path):
    table = load_corpus(drawn_corpus, ["valid"])
    with pytest.raises(CorpusError, match="prepare it again"):
        landmarks_in_crops(table.remove_columns("crop"), str(drawn_corpus))
    whole = table.select([0]).to_list()[0] | {"landmarks": None}
    whole = Dataset.from_dict({name: [value] for name, value in whole.items()}, features=table.features)
    np.testing.assert_array_equal(landmarks_in_crops(whole, str(drawn_corpus))[0], MEAN_LANDMARKS)
    summary = read_summary(drawn_corpus)
    summary["options"]["alignment"] = "similarity"
    (tmp_path / "corpus.json").write_text(json.dumps(summary))
    assert np.ptp(landmarks_in_crops(table, str(tmp_path)), axis=0).max() == 0  # turned by landmarks: all alike


def test_composites_are_further_identities_of_a_batch(drawn_corpus):
    plain = TrainingFaces(Photographs([str(drawn_corpus)], EXPRESSIONS))
    faces = TrainingFaces(Photographs([str(drawn_corpus)], EXPRESSIONS, landmarks=True), composites=20, seed=3)
    assert faces.num_identities == plain.labels.num_identities + 20 and plain.num_identities < faces.num_identities
    assert len(plain) == len(faces.photographs) and len(faces) == len(plain) + sum(map(len, faces.composites.people))
    last = len(faces) - 1
    batch = faces.__getitems__([0, len(plain), last])
    assert batch.identity.tolist() == [plain.photographs.identity(0), plain.num_identities, faces.num_identities - 1]
    assert batch.identity.dtype == torch.int64
    assert batch.expression.sum(dim=1).tolist() == [1, 0, 0]
    last_person = faces.composites.people[-1]
    donor, base = last_person.rows(len(last_person) - 1)
    keys = faces.photographs.keys
    assert batch.keys[2].startswith(keys[base]) and batch.keys[2].endswith(keys[donor])
    alone = plain.__getitems__([0, base])
    assert torch.equal(batch.faces[0], alone.faces[0]) and batch.keys[0] == alone.keys[0]
    assert (batch.faces[2] == alone.faces[1]).all(dim=0).float().mean() > 0.5  # the rest is the base's
    assert not torch.equal(batch.faces[2], alone.faces[1])


def test_composites_take_their_share_of_the_batches(drawn_corpus):
    faces = TrainingFaces(Photographs([str(drawn_corpus)], EXPRESSIONS, landmarks=True), composites=20)
    weights = row_weights(faces, [1.0], 0.0, composite_share=0.4)
    assert weights.sum() == pytest.approx(1) and weights[len(faces.photographs) :].sum() == pytest.approx(0.4)
    ends = len(faces.photographs) + np.cumsum([0, *faces.composites.counts])
    each = [weights[first:last].sum() for first, last in itertools.pairwise(ends)]
    assert np.allclose(each, 0.02)
    sampler = DrawnBatches(weights, 0, 0, 6, (1, 1, 32), 0)
    settings = {"batch_sampler": sampler, "collate_fn": no_collate}
    drawn = [list(DataLoader(faces, num_workers=workers, **settings)) for workers in (0, 2)]
    share = np.mean([identity >= faces.labels.num_identities for batch in drawn[0] for identity in batch.identity])
    assert 0.25 < share < 0.55
    for one, other in zip(*drawn, strict=True):
        assert torch.equal(one.faces, other.faces) and one.keys == other.keys


def test_a_composite_of_a_damaged_photograph_is_replaced_and_named(drawn_corpus, tmp_path):
    faces = TrainingFaces(Photographs([str(drawn_corpus)], EXPRESSIONS, landmarks=True), composites=5)
    row = len(faces.photographs)
    donor, _ = faces.composites.people[0].rows(0)
    corpus = tmp_path / "damaged"
    [damaged] = damaged_copy(drawn_corpus, corpus, [donor])
    batch = TrainingFaces(Photographs([str(corpus)], EXPRESSIONS, landmarks=True), composites=5).__getitems__([row])
    assert list(batch.unreadable) == [faces.key(row)] and damaged in faces.key(row)
    assert batch.keys == [faces.key(row + 1)] and batch.identity.tolist() == [faces.labels.num_identities]
