"""The contents of batches of prepared drawn faces."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset, Image
from small_runs import copy_summary
from torch.nn import functional
from torch.utils.data import DataLoader

from face_data.table import CORPUS_EXPRESSIONS, FEATURES, CorpusError, features_with, load_corpus
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import EXPRESSIONS
from train.augmentation import FEW, augment, erase, prepare
from train.batches import DrawnBatches, TrainingFaces, row_weights
from train.config import TrainingConfig
from train.labels import Labels
from train.photographs import Photographs
from train.streaming import StreamedFaces


def test_labels_equal_the_table(drawn_corpus):
    faces = TrainingFaces(Photographs([f"{drawn_corpus}:train"], EXPRESSIONS))
    table = load_corpus(drawn_corpus, ["train"])
    assert len(faces) == len(table) and faces.labels.splits == {"drawn": ["train"]}
    people = sorted(set(table["identity"][:]))
    assert faces.labels.num_identities == len(people)
    rows = [0, len(table) // 2, len(table) - 1]
    batch = faces.__getitems__(rows)
    assert batch.faces.shape == (3, 3, 160, 160) and batch.faces.dtype == torch.uint8 and not batch.unreadable
    for position, row in enumerate(rows):
        assert batch.keys[position] == table[row]["key"]
        assert people[batch.identity[position]] == table[row]["identity"]
        target = batch.expression[position]
        assert EXPRESSIONS[target.argmax()] == CORPUS_EXPRESSIONS[table[row]["expression"]] and target.sum() == 1
        pixels = batch.faces[position].permute(1, 2, 0).numpy()
        assert np.array_equal(np.asarray(table[row]["image"]), pixels)


def test_images_of_several_corpora_are_read_together(drawn_corpus):
    photographs = Photographs([f"{drawn_corpus}:valid", str(drawn_corpus)], EXPRESSIONS)
    table = load_corpus(drawn_corpus).cast_column("image", Image(decode=False))
    stored = dict(zip(table["key"][:], table["image"][:], strict=True))
    rows = [len(photographs) - 1, 0, photographs.counts[0], 5, photographs.counts[0] - 1, 0]
    assert photographs.encoded(rows) == [stored[photographs.keys[row]]["bytes"] for row in rows]
    assert photographs.keys[0] == load_corpus(drawn_corpus, ["valid"])[0]["key"]
    assert photographs.counts[1] == len(table) and photographs.encoded([]) == []


def test_splits_share_no_people(drawn_corpus):
    train, valid = (load_corpus(drawn_corpus, [split]) for split in ("train", "valid"))
    assert not set(train["identity"][:]) & set(valid["identity"][:])
    with pytest.raises(CorpusError, match="no split 11"):
        Photographs([f"{drawn_corpus}:11"], EXPRESSIONS)


def test_corpora_with_and_without_attributes_are_mixed(drawn_corpus, tmp_path):
    """A column that only one corpus has is not in a batch, in both orders of the corpora, and also in a stream."""
    out = tmp_path / "told"
    out.mkdir()
    rows = load_corpus(drawn_corpus, ["valid"]).select(range(8)).to_list()
    rows = [row | {"key": f"told/{row['key']}", "gender": "female" if row["key"] < "m" else None} for row in rows]
    Dataset.from_list(rows, features=features_with(["gender"])).to_parquet(out / "part-00000.parquet")
    (out / "corpus.json").write_text('{"layout": "told", "complete": true, "attributes": ["gender"]}')
    corpora = [str(out), f"{drawn_corpus}:train"]
    labelled_keys = load_corpus(out)["key"][:]
    for order in (corpora, corpora[::-1]):
        faces = TrainingFaces(Photographs(order, EXPRESSIONS))
        keys = faces.photographs.keys
        indices = [keys.index(labelled_keys[0]), keys.index(load_corpus(drawn_corpus, ["train"])["key"][3])]
        batch = faces.__getitems__(indices)
        assert batch.keys == [keys[row] for row in indices] and batch.faces.shape == (2, 3, 160, 160)
        assert (batch.identity >= 0).all() and (batch.expression.sum(1) == 1).all()
        assert EXPRESSIONS[batch.expression[0].argmax()] == CORPUS_EXPRESSIONS[rows[0]["expression"]]
    stream = StreamedFaces(
        corpora,
        [0.5, 0.5],
        faces.labels,
        batch_size=16,
        seed=0,
        buffer=4,
        process=0,
        processes=1,
        first_batch=0,
        workers=0,
    )
    mixed = {key.startswith("told/") for key in next(iter(stream)).keys}
    assert mixed == {True, False}


def test_the_same_name_in_two_sources_means_two_people(drawn_corpus, tmp_path):
    out = tmp_path / "namesakes"
    out.mkdir()
    rows = load_corpus(drawn_corpus, ["train"]).select(range(30)).to_list()
    renamed = [row | {"key": f"other/{row['key']}", "source": "other"} for row in rows]
    Dataset.from_list(renamed, features=FEATURES).to_parquet(out / "part-00000.parquet")
    (out / "corpus.json").write_text('{"layout": "other", "complete": true}')
    people = len({row["identity"] for row in rows})
    single, both, twice = (
        Photographs(corpora, EXPRESSIONS).labels.num_identities
        for corpora in ([f"{drawn_corpus}:train"], [f"{drawn_corpus}:train", str(out)], [f"{drawn_corpus}:train"] * 2)
    )
    assert both == single + people and twice == single


def test_people_with_a_single_photograph_train_expressions_only(drawn_corpus):
    corpus = load_corpus(drawn_corpus, ["train"])
    people = corpus["identity"][:]
    rows = [people.index(name) for name in sorted(set(people))]  # one photograph of each person
    twice = people.index(people[rows[0]], rows[0] + 1)
    labels = Labels([corpus.select([*rows, twice])], EXPRESSIONS)
    assert labels.num_identities == 1 and labels.identity.tolist() == [0] + [-100] * (len(rows) - 1) + [0]
    assert (labels.expression.sum(axis=1) == 1).all()


def test_votes_for_unknown_expressions_are_dropped(drawn_corpus):
    labels = Photographs([str(drawn_corpus)], EXPRESSIONS).labels
    neutral, contempt = (CORPUS_EXPRESSIONS.index(name) for name in ("neutral", "contempt"))
    votes = [0.5, 0, 0, 0, 0.25, 0, 0, 0.25]  # neutral, happy, contempt
    target = labels.target({"expression": neutral, "expression_votes": votes})
    np.testing.assert_allclose(target, [2 / 3, 0, 0, 0, 1 / 3, 0, 0], rtol=1e-6)
    target = labels.target({"expression": neutral, "expression_votes": None})
    np.testing.assert_allclose(target, [1, 0, 0, 0, 0, 0, 0])
    assert not labels.target({"expression": contempt, "expression_votes": None}).any()
    assert not labels.target({"expression": None, "expression_votes": None}).any()


def test_corpora_are_sampled_by_weight(drawn_corpus):
    faces = TrainingFaces(Photographs([f"{drawn_corpus}:train", f"{drawn_corpus}:valid"], EXPRESSIONS))
    weights = row_weights(faces, [3.0, 1.0])
    first_corpus = faces.photographs.counts[0]
    assert len(set(weights[:first_corpus])) == 1
    rows = [row for batch in DrawnBatches(weights, 0, 0, 100, (1, 1, 40), 0) for row in batch]
    assert np.mean(np.array(rows) < first_corpus) == pytest.approx(0.75, abs=0.03)


def test_splitting_a_step_keeps_its_photographs():
    weights = np.random.default_rng(0).random(500)

    def step(shape, process):
        return list(DrawnBatches(weights, 7, 3, 4, shape, process))

    single = step((1, 1, 24), 0)[0]
    shared = [step((1, 3, 8), process)[0] for process in range(3)]
    accumulated = step((3, 1, 8), 0)
    assert single == [row for rows in shared for row in rows] == [row for rows in accumulated for row in rows]
    assert list(DrawnBatches(weights, 7, 0, 9, (2, 2, 4), 1))[6:] == list(DrawnBatches(weights, 7, 3, 9, (2, 2, 4), 1))
    assert step((1, 1, 24), 0) != list(DrawnBatches(weights, 8, 3, 4, (1, 1, 24), 0))
    assert len(DrawnBatches(weights, 0, 3, 9, (2, 1, 4), 0)) == 12


def test_the_loader_returns_the_batches_of_the_sampler(drawn_corpus):
    faces = TrainingFaces(Photographs([str(drawn_corpus)], EXPRESSIONS))
    sampler = DrawnBatches(row_weights(faces, [1.0]), 0, 0, 6, (1, 1, 5), 0)
    for workers in (0, 2):
        loader = DataLoader(faces, batch_sampler=sampler, num_workers=workers, collate_fn=lambda batch: batch)
        assert [batch.keys for batch in loader] == [[faces.photographs.keys[row] for row in rows] for rows in sampler]


def damaged_copy(corpus, out, rows):
    """Write a copy of the corpus with truncated photographs in these rows. Return their keys."""
    table = load_corpus(corpus).to_list()
    for row in rows:
        table[row]["image"]["bytes"] = table[row]["image"]["bytes"][:4000]
    out.mkdir()
    Dataset.from_list(table, features=FEATURES).to_parquet(out / "part-00000.parquet")
    copy_summary(corpus, out)
    return [table[row]["key"] for row in rows]


def test_unreadable_photographs_are_replaced_and_reported(drawn_corpus, tmp_path):
    damaged = damaged_copy(drawn_corpus, tmp_path / "damaged", [4, 5])
    faces = TrainingFaces(Photographs([str(tmp_path / "damaged")], EXPRESSIONS))
    batch = faces.__getitems__([3, 4, 5])
    assert batch.keys == [faces.photographs.keys[row] for row in (3, 6, 6)]
    assert set(batch.unreadable) == set(damaged) and "truncated" in str(batch.unreadable)
    assert torch.equal(batch.faces[1], batch.faces[2]) and batch.identity[1] == faces.labels.identity[6]


def test_a_corpus_without_a_readable_photograph_is_refused(drawn_corpus, tmp_path):
    damaged_copy(drawn_corpus, tmp_path / "damaged", range(len(load_corpus(drawn_corpus))))
    with pytest.raises(CorpusError, match="none of the training photographs"):
        TrainingFaces(Photographs([str(tmp_path / "damaged")], EXPRESSIONS)).__getitems__([0])


def test_augmentation_sets_shape_and_range_and_follows_the_seed():
    faces = torch.randint(0, 256, (6, 3, 160, 160), dtype=torch.uint8)
    config = TrainingConfig(image_size=96, gray=0.5)

    def run(seed):
        return augment(faces, config, torch.Generator().manual_seed(seed))

    assert run(0).shape == (6, 3, 96, 96) and run(0).dtype == torch.float32
    assert torch.isfinite(run(0)).all() and run(0).min() >= 0
    assert torch.equal(run(0), run(0)) and not torch.equal(run(0), run(1))
    assert not torch.equal(augment(faces[:1].repeat(2, 1, 1, 1), config)[0], augment(faces[:1], config)[0])


def test_augmentation_equals_a_reference_computed_for_each_face():
    config = TrainingConfig(image_size=80, gray=0.3)
    faces = torch.randint(0, 256, (5, 3, 80, 80), dtype=torch.uint8)
    faces[0, :, :40] = 0  # black stays black for every gamma
    got = augment(faces, config, torch.Generator().manual_seed(3))

    generator = torch.Generator().manual_seed(3)
    angle, scale, mirror = (torch.rand(5, generator=generator) * 2 - 1 for _ in range(3))
    shift = torch.rand(5, 2, generator=generator) * 2 - 1
    gamma, right, down, gray = (torch.rand(5, generator=generator) * 2 - 1 for _ in range(4))
    axis = torch.linspace(-1, 1, 80)
    for index in range(5):
        turn, size = math.radians(config.rotation) * angle[index], 1 + config.crop_scale * scale[index]
        cos, sin = size * math.cos(turn), size * math.sin(turn)
        sign = -1 if mirror[index] < 0 else 1
        x, y = shift[index] * 2 * config.shift
        warp = torch.tensor([[[cos * sign, -sin, x], [sin * sign, cos, y]]])
        grid = functional.affine_grid(warp, [1, 3, 80, 80], align_corners=False)
        face = functional.grid_sample(faces[index, None] / 255, grid, padding_mode="border", align_corners=False)
        face = face.clamp(0, 1) ** math.exp(config.light * gamma[index])
        face = face * (1 + config.light * (right[index] * axis + down[index] * axis[:, None])).clamp(min=0.1)
        if (gray[index] + 1) / 2 < config.gray:
            face = face.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        torch.testing.assert_close(got[index], face[0], rtol=0, atol=1e-4)


def test_prepared_faces_are_augmented_whitened_and_erased():
    faces = torch.randint(0, 256, (1, 3, 80, 80), dtype=torch.uint8).repeat(3 * FEW + 1, 1, 1, 1)
    whiten = FaceLiveNetImageProcessor(size=80).whiten
    ready = prepare(faces, TrainingConfig(image_size=80), whiten)
    assert ready.shape == faces.shape and len(ready.flatten(1).unique(dim=0)) == len(faces)  # each in a different way
    torch.testing.assert_close(ready.mean(dim=(1, 2, 3)), torch.zeros(len(faces)), rtol=0, atol=1e-5)
    torch.testing.assert_close(ready.std(dim=(1, 2, 3)), torch.ones(len(faces)), rtol=0, atol=1e-3)
    erased = prepare(faces, TrainingConfig(image_size=80, erase=1.0), whiten)
    assert ((erased == 0).flatten(1).sum(dim=1) > 10).all()


def test_augmentation_of_zero_strength_returns_the_face_or_its_mirror_image():
    config = TrainingConfig(image_size=80, crop_scale=0, shift=0, rotation=0, gray=0, light=0)
    faces = torch.randint(0, 256, (20, 3, 80, 80), dtype=torch.uint8)
    plain = faces.float() / 255
    mirrored = 0
    for face, original in zip(augment(faces, config, torch.Generator().manual_seed(0)), plain, strict=True):
        same, mirror = ((face - candidate).abs().max() < 1e-4 for candidate in (original, original.flip(-1)))
        assert same != mirror
        mirrored += int(mirror)
    assert 3 <= mirrored <= 17


@pytest.mark.parametrize("option", ["colour", "blur", "downscale"])
def test_each_optional_augmentation_changes_faces_and_keeps_their_brightness(option):
    switched_off = {"crop_scale": 0, "shift": 0, "rotation": 0, "gray": 0, "light": 0, "image_size": 80}
    faces = torch.randint(0, 256, (16, 3, 80, 80), dtype=torch.uint8)
    plain, changed = (
        augment(faces, TrainingConfig(**switched_off, **setting), torch.Generator().manual_seed(1))
        for setting in ({}, {option: 0.999 if option == "colour" else 1.0})
    )
    assert changed.shape == plain.shape and torch.isfinite(changed).all() and changed.min() >= 0
    assert ((plain - changed).abs().amax(dim=(1, 2, 3)) > 1e-3).all()
    assert changed.mean().item() == pytest.approx(plain.mean().item(), rel=0.1)
    if option != "colour":  # blur and downscale smooth
        assert (changed.std(dim=(2, 3)) < plain.std(dim=(2, 3))).all()


def test_erasing_sets_rectangles_to_the_mean():
    faces = torch.randn(50, 3, 32, 32)
    erased = erase(faces.clone(), TrainingConfig(erase=0.5))
    touched = (erased != faces).flatten(1).any(dim=1)
    assert 10 <= touched.sum() <= 40 and (erased[erased != faces] == 0).all()
    assert torch.equal(erase(faces.clone(), TrainingConfig()), faces)
