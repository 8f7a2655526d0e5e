"""Composites of two people: the position of the parts, the choice of the people, and the batches."""

import itertools
import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from test_batches import damaged_copy
from torch.utils.data import DataLoader

from face_data.table import load_corpus, read_summary
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


def mask_of(parts) -> np.ndarray:
    """(160, 160): the share of the donor in each pixel."""
    combined = np.zeros((160, 160))
    for part in parts:
        mask, left, top = part_mask(part, LANDMARKS, 160, 160)
        target = combined[top : top + mask.shape[0], left : left + mask.shape[1]]
        target[:] = np.maximum(target, mask[..., 0])
    return combined


def test_composites_are_distinct_and_depend_only_on_the_seed():
    drawn = draw_composites(IDENTITY, 30, seed=1)
    triples = [(one.donor, one.base, one.parts) for one in drawn]
    assert len(drawn) == 30 and len(set(triples)) == 30
    for person in drawn:
        assert person.donor != person.base and set(person.parts) < set(PARTS)
        assert set(IDENTITY[person.donor_rows]) == {person.donor} and set(IDENTITY[person.base_rows]) == {person.base}
        assert max(len(person.donor_rows), len(person.base_rows)) <= PHOTOGRAPHS
        photographs = [person.rows(number) for number in range(len(person))]
        assert len(set(photographs)) == len(person.donor_rows) * len(person.base_rows)
    assert [(one.donor, one.base, one.parts) for one in draw_composites(IDENTITY, 30, seed=1)] == triples
    assert [(one.donor, one.base, one.parts) for one in draw_composites(IDENTITY, 30, seed=2)] != triples
    assert len(draw_composites(IDENTITY, 10_000, seed=0)) == 3 * 2 * 6  # all composites that are possible
    with pytest.raises(ValueError, match="two known people or more, not 1"):
        draw_composites(np.array([4, 4, -100]), 1, seed=0)


@pytest.mark.parametrize("parts", [("eyes",), ("nose",), ("mouth",), ("eyes", "mouth")])
def test_the_parts_come_from_the_donor_and_the_rest_from_the_base(parts):
    random = np.random.default_rng(0)
    base, donor = random.integers(90, 110, (2, 160, 160, 3), dtype=np.uint8)
    mixed = compose(base, LANDMARKS, donor, LANDMARKS, parts)
    mask = mask_of(parts)
    assert np.array_equal(mixed[mask == 0], base[mask == 0])
    # both faces have the same mean brightness, so only the rounding of the gain can differ
    assert np.abs(mixed[mask == 1].astype(int) - donor[mask == 1]).max() <= 2
    assert (mask == 1).sum() > 200 and (mask == 0).sum() > 10_000
    unchanged = compose(base, LANDMARKS, base, LANDMARKS, parts)
    assert np.abs(unchanged.astype(int) - base).max() <= 1  # interpolation rounds down


def test_each_mask_covers_only_its_part():
    landmarks_of = {"eyes": LANDMARKS[:2], "nose": LANDMARKS[2:3], "mouth": LANDMARKS[3:]}
    for part in PARTS:
        mask = mask_of([part])
        for name, points in landmarks_of.items():
            inside = [mask[round(y), round(x)] for x, y in points]
            assert min(inside) == 1 if name == part else max(inside) < 0.5, (part, name)


def test_the_part_of_the_donor_is_moved_to_its_position_in_the_base():
    turn = np.array([[0.9, -0.2], [0.15, 1.1]])
    moved = LANDMARKS @ turn.T + [7, -5]
    a, b, c, d, e, f = affine_between(LANDMARKS, moved)
    assert np.allclose([[a, b], [d, e]], turn) and np.allclose([c, f], [7, -5])
    dark = np.full((160, 160, 3), 100, np.uint8)
    donor = dark.copy()
    x, y = (moved[3] + moved[4]) / 2
    donor[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3] = 220  # a spot in the middle of the donor's mouth
    mixed = compose(dark, LANDMARKS, donor, moved, ("mouth",))
    rows, columns = np.nonzero(mixed[..., 0] > 150)
    assert np.allclose([columns.mean(), rows.mean()], (LANDMARKS[3] + LANDMARKS[4]) / 2, atol=1)


def test_a_donor_that_faces_the_other_side_is_mirrored():
    turn = np.array([[0, 0], [0, 0], [14, 0], [0, 0], [0, 0]])
    left, right = LANDMARKS - turn, LANDMARKS + turn
    dark = np.full((160, 160, 3), 100, np.uint8)
    donor = dark.copy()
    donor[60:70, 50:60] = 220  # around the left eye of the donor
    for base, eye in ((right, LANDMARKS[0]), (left, LANDMARKS[1])):
        bright = np.argwhere(compose(dark, base, donor, right, ("eyes",))[..., 0] > 150)
        assert np.allclose(bright.mean(axis=0)[::-1], eye, atol=5)


def test_landmarks_in_the_crop_match_the_detector(drawn_corpus):
    table = load_corpus(drawn_corpus, ["valid"])
    expected = landmarks_in_crops(table, str(drawn_corpus)) * 160
    processor = FaceLiveNetImageProcessor()
    for row in range(0, len(table), max(1, len(table) // 6)):
        [face] = processor.detect(table[row]["image"])
        assert np.abs(face.landmarks - expected[row]).max() < 8, table[row]["key"]


def test_landmarks_default_to_the_mean_without_a_face(drawn_corpus, tmp_path):
    table = load_corpus(drawn_corpus, ["valid"])
    without_face = table.select([0]).to_list()[0] | {"landmarks": None}
    without_face = Dataset.from_dict({name: [value] for name, value in without_face.items()}, features=table.features)
    np.testing.assert_array_equal(landmarks_in_crops(without_face, str(drawn_corpus))[0], MEAN_LANDMARKS)
    summary = read_summary(drawn_corpus)
    summary["options"]["alignment"] = "similarity"
    (tmp_path / "corpus.json").write_text(json.dumps(summary))
    assert np.ptp(landmarks_in_crops(table, str(tmp_path)), axis=0).max() == 0  # aligned by landmarks: all are equal


def test_composites_are_additional_identities_in_a_batch(drawn_corpus):
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
    originals = plain.__getitems__([0, base])
    assert torch.equal(batch.faces[0], originals.faces[0]) and batch.keys[0] == originals.keys[0]
    assert (batch.faces[2] == originals.faces[1]).all(dim=0).float().mean() > 0.5  # all other pixels come from the base
    assert not torch.equal(batch.faces[2], originals.faces[1])


def test_composites_have_the_configured_share_of_the_batches(drawn_corpus):
    faces = TrainingFaces(Photographs([str(drawn_corpus)], EXPRESSIONS, landmarks=True), composites=20)
    weights = row_weights(faces, [1.0], composite_share=0.4)
    assert weights.sum() == pytest.approx(1) and weights[len(faces.photographs) :].sum() == pytest.approx(0.4)
    ends = len(faces.photographs) + np.cumsum([0, *faces.composites.counts])
    person_weights = [weights[first:last].sum() for first, last in itertools.pairwise(ends)]
    assert np.allclose(person_weights, 0.02)
    sampler = DrawnBatches(weights, 0, 0, 6, (1, 1, 32), 0)
    settings = {"batch_sampler": sampler, "collate_fn": no_collate}
    drawn = [list(DataLoader(faces, num_workers=workers, **settings)) for workers in (0, 2)]
    share = np.mean([identity >= faces.labels.num_identities for batch in drawn[0] for identity in batch.identity])
    assert 0.25 < share < 0.55
    for expected, got in zip(*drawn, strict=True):
        assert torch.equal(expected.faces, got.faces) and expected.keys == got.keys


def test_a_composite_of_a_damaged_photograph_is_replaced_and_reported(drawn_corpus, tmp_path):
    faces = TrainingFaces(Photographs([str(drawn_corpus)], EXPRESSIONS, landmarks=True), composites=5)
    row = len(faces.photographs)
    donor, _ = faces.composites.people[0].rows(0)
    corpus = tmp_path / "damaged"
    [damaged] = damaged_copy(drawn_corpus, corpus, [donor])
    batch = TrainingFaces(Photographs([str(corpus)], EXPRESSIONS, landmarks=True), composites=5).__getitems__([row])
    assert list(batch.unreadable) == [faces.key(row)] and damaged in faces.key(row)
    assert batch.keys == [faces.key(row + 1)] and batch.identity.tolist() == [faces.labels.num_identities]
