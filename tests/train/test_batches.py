"""What a batch holds, on drawn faces prepared for real."""

from collections import Counter

import numpy as np
import pytest
import torch

from face_data.table import EXPRESSIONS, CorpusError, load_corpus
from modeling_facelivenet import EXPRESSIONS as SEVEN
from train.augmentation import augment
from train.batches import TrainingFaces, _target
from train.config import TrainingConfig


def test_labels_are_those_of_the_table(drawn_corpus):
    faces = TrainingFaces([f"{drawn_corpus}:train"], SEVEN)
    table = load_corpus(drawn_corpus, ["train"])
    assert len(faces) == len(table) and faces.splits == {str(drawn_corpus): ["train"]}
    people = sorted(set(table["identity"][:]))
    assert faces.num_identities == len(people)
    for row in (0, len(table) // 2, len(table) - 1):
        pixels, identity, target = faces[row]
        assert pixels.shape == (3, 160, 160) and pixels.dtype == torch.uint8
        assert people[identity] == table[row]["identity"]
        assert SEVEN[target.argmax()] == EXPRESSIONS[table[row]["expression"]] and target.sum() == 1
        assert np.abs(np.asarray(table[row]["image"], int) - pixels.permute(1, 2, 0).numpy()).max() <= 3


def test_splits_keep_people_apart(drawn_corpus):
    train, valid = (load_corpus(drawn_corpus, [split]) for split in ("train", "valid"))
    assert not set(train["identity"][:]) & set(valid["identity"][:])
    with pytest.raises(CorpusError, match="no split 11"):
        TrainingFaces([f"{drawn_corpus}:11"], SEVEN)


def test_people_with_few_photographs_train_expression_only(drawn_corpus):
    everyone = TrainingFaces([str(drawn_corpus)], SEVEN)
    nobody = TrainingFaces([str(drawn_corpus)], SEVEN, minimum_photographs=1000)
    assert nobody.num_identities == 0 and set(nobody.identity) == {-100}
    assert np.array_equal(nobody.expression, everyone.expression)


def test_votes_for_unknown_expressions_are_dropped():
    votes = [0.5, 0, 0, 0, 0.25, 0, 0, 0.25]  # neutral, happy, contempt
    target = _target({"expression": 0, "expression_votes": votes}, SEVEN)
    np.testing.assert_allclose(target, [2 / 3, 0, 0, 0, 1 / 3, 0, 0], rtol=1e-6)
    contempt = EXPRESSIONS.index("contempt")
    assert not _target({"expression": contempt, "expression_votes": None}, SEVEN).any()
    assert not _target({"expression": None, "expression_votes": None}, SEVEN).any()


def test_sampler_follows_weights_and_the_seed(drawn_corpus):
    faces = TrainingFaces([f"{drawn_corpus}:train", f"{drawn_corpus}:valid"], SEVEN)

    def draw(seed):
        return list(faces.sampler([3.0, 1.0], 4000, torch.Generator().manual_seed(seed)))

    first = sum(row < faces.start[1] for row in draw(0)) / 4000
    assert first == pytest.approx(0.75, abs=0.03)
    assert draw(1) == draw(1) != draw(2)


def test_sampler_balances_people_by_the_square_root(drawn_corpus):
    faces = TrainingFaces([f"{drawn_corpus}:train"], SEVEN)
    faces.identity = np.where(np.arange(len(faces)) < len(faces) - 4, 0, 1)  # one person nearly everywhere
    faces.num_identities = 2
    drawn = Counter(faces.identity[list(faces.sampler([1.0], 20_000, torch.Generator().manual_seed(0)))])
    expected = ((len(faces) - 4) / 4) ** 0.5
    assert drawn[0] / drawn[1] == pytest.approx(expected, rel=0.1)


def test_augmentation_keeps_shape_range_and_seed():
    faces = torch.randint(0, 256, (6, 3, 160, 160), dtype=torch.uint8)
    config = TrainingConfig(image_size=96, gray=0.5)

    def run(seed):
        return augment(faces, config, torch.Generator().manual_seed(seed))

    assert run(0).shape == (6, 3, 96, 96) and run(0).dtype == torch.float32
    assert torch.isfinite(run(0)).all() and run(0).min() >= 0
    assert torch.equal(run(0), run(0)) and not torch.equal(run(0), run(1))
    assert not torch.equal(augment(faces[:1].repeat(2, 1, 1, 1), config)[0], augment(faces[:1], config)[0])


def test_augmentation_without_strength_is_the_face_or_its_mirror_image():
    config = TrainingConfig(image_size=32, crop_scale=0, shift=0, rotation=0, gray=0, light=0)
    faces = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8)
    plain = faces.float() / 255
    mirrored = 0
    for face, original in zip(augment(faces, config, torch.Generator().manual_seed(0)), plain, strict=True):
        same, mirror = ((face - one).abs().max() < 1e-4 for one in (original, original.flip(-1)))
        assert same != mirror
        mirrored += int(mirror)
    assert 3 <= mirrored <= 17
