"""Embeddings of a corpus: each row belongs to its photograph, and invalid outputs are refused."""

import numpy as np
import pytest
import torch
from datasets import concatenate_datasets

from checkpoints import load_checkpoint
from evaluation.embeddings.compute import embed
from face_data.table import load_corpus


@pytest.fixture
def loaded(checkpoint):
    return load_checkpoint(checkpoint, "cpu")


def test_rows_belong_to_their_photographs(loaded, corpus):
    dataset = load_corpus(corpus, ["9", "10"])
    result = embed(loaded.network, loaded.processor, dataset, batch_size=7)
    assert len(result) == 48
    assert result.keys == dataset["key"][:]
    assert (result.embeddings.shape, result.embeddings.dtype) == ((48, 1792), np.float32)
    assert result.expression_probabilities.shape == (48, 7)
    np.testing.assert_allclose(np.linalg.norm(result.embeddings, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(result.expression_probabilities.sum(1), 1, atol=1e-5)
    row = result.keys.index("person10_2/person10_2_0003.jpg")
    assert (result.identities[row], result.expressions[row], result.splits[row]) == ("person10_2", "surprise", "10")
    assert result.expressions[result.keys.index("person10_2/person10_2_0004.jpg")] is None
    with torch.inference_mode():
        single = loaded.network(loaded.processor(dataset[row]["image"], detect=False)["pixel_values"])
    np.testing.assert_allclose(result.embeddings[row], single.embedding[0], atol=1e-5)

    ten = result.in_splits(["10"])
    assert set(ten.splits) == {"10"}
    np.testing.assert_array_equal(ten.embeddings, result.embeddings[[split == "10" for split in result.splits]])
    assert ten.keys[5] == result.keys[24 + 5]


def test_the_processor_sets_the_image_size(loaded, corpus):
    loaded.processor.size = 96
    dataset = load_corpus(corpus, ["9"]).select(range(1))
    result = embed(loaded.network, loaded.processor, dataset)
    pixels = loaded.processor(dataset[0]["image"], detect=False)["pixel_values"]
    assert pixels.shape[-1] == 96
    with torch.inference_mode():
        np.testing.assert_allclose(result.embeddings[0], loaded.network(pixels).embedding[0], atol=1e-5)


def test_nan_raises_and_names_the_photographs(loaded, corpus):
    with torch.no_grad():
        next(loaded.network.verification.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match=r"NaN.* 2 images: person9_0/person9_0_0001\.jpg, person9_0/"):
        embed(loaded.network, loaded.processor, load_corpus(corpus, ["9"]).select(range(2)))


def test_a_duplicate_photograph_raises(loaded, corpus):
    dataset = load_corpus(corpus, ["9"]).select(range(2))
    with pytest.raises(ValueError, match=r"person9_0_0001\.jpg more than once"):
        embed(loaded.network, loaded.processor, concatenate_datasets([dataset, dataset]))


@pytest.mark.parametrize(
    ("record", "splits"),
    [
        ('{"trained_on": {"patterns": ["8"], "other": ["9"]}}', {"8"}),  # splits of another corpus do not count
        ('{"trained_on": {"other": ["8"]}}', set()),
        ('{"trained_on": null}', None),
        ('{"steps": 3}', None),
        (None, None),
    ],
)
def test_training_splits_are_read_from_the_training_record(checkpoint, corpus, record, splits):
    (checkpoint / "training.json").unlink()
    if record:
        (checkpoint / "training.json").write_text(record)
    checkpoint = load_checkpoint(checkpoint, "cpu")
    photographs = embed(checkpoint.network, checkpoint.processor, load_corpus(corpus, ["9"]).select(range(2)))
    assert photographs.trained_splits(checkpoint.trained_on) == splits


def test_a_damaged_training_record_is_named(checkpoint):
    (checkpoint / "training.json").write_text("{")
    with pytest.raises(ValueError, match=r"model/training\.json is damaged"):
        _ = load_checkpoint(checkpoint, "cpu").training
