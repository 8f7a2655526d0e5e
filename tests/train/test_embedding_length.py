"""The length of the embeddings, fitted on people."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import train.embedding_length
from face_data.table import CorpusError, column, load_corpus
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel
from train.embedding_length import fit_embedding_length
from train.export import export


@pytest.fixture(scope="module")
def processor() -> FaceLiveNetImageProcessor:
    return FaceLiveNetImageProcessor(size=64)


def network() -> FaceLiveNetModel:
    torch.manual_seed(3)
    return FaceLiveNetModel(FaceLiveNetConfig(image_size=64, trunk="test_resnet", repeats=[1, 1, 0])).eval()


def embeddings_of(model, processor, corpus) -> torch.Tensor:
    faces = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in corpus["image"]]
    with torch.inference_mode():
        return model(processor.whiten(torch.stack(faces))).embedding


def test_faces_that_resemble_strangers_get_shorter_embeddings(drawn_corpus, processor, monkeypatch):
    monkeypatch.setattr(train.embedding_length, "NEAREST", 2)  # the corpus has few people
    monkeypatch.setattr(train.embedding_length, "RIDGE", 1e-6)
    corpus, model = load_corpus(drawn_corpus), network()
    before = embeddings_of(model, processor, corpus)
    record = fit_embedding_length(model, processor, [str(drawn_corpus)])
    after = embeddings_of(model, processor, corpus)
    lengths = after.norm(dim=1)
    assert torch.allclose(F.normalize(after, dim=1), before, atol=1e-5), "directions stay"
    assert lengths.max() <= 1 + 1e-6 and lengths.min() < lengths.max()

    people = np.array(column(corpus, "identity"))
    _, first = np.unique(people, return_index=True)
    similarities = before.double().numpy() @ before.double().numpy()[first].T
    similarities[people[:, None] == people[first][None]] = -1
    nearest = np.sort(similarities, axis=1)[:, -2:].mean(axis=1)
    assert record["people"] == len(first) and record["photographs"] == len(people)
    assert record["crowding"] == pytest.approx(nearest.mean(), abs=1e-3)
    assert np.corrcoef(1 / lengths.numpy() ** 2, nearest)[0, 1] == pytest.approx(record["correlation"], abs=0.02)
    assert record["correlation"] > 0.9, "of as many numbers as there are photographs"


def test_an_export_contains_the_length_and_a_mean_needs_a_new_fit(drawn_corpus, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(train.embedding_length, "NEAREST", 2)
    for name in ("one", "other"):
        network().save_pretrained(tmp_path / name)
        processor.save_pretrained(tmp_path / name)
        (tmp_path / name / "training.json").write_text("{}")
    export([tmp_path / "one"], tmp_path / "longer", ["happy"], people=[str(drawn_corpus)])
    assert json.loads((tmp_path / "longer" / "training.json").read_text())["embedding_length"]["people"] >= 4
    corpus = load_corpus(drawn_corpus)
    shipped = FaceLiveNetModel.from_pretrained(tmp_path / "longer", dtype=torch.float32).eval()
    assert shipped.config.embedding_length and embeddings_of(shipped, processor, corpus).norm(dim=1).min() < 0.999
    export([tmp_path / "longer", tmp_path / "other"], tmp_path / "both", ["happy"], people=[str(drawn_corpus)])
    assert FaceLiveNetModel.from_pretrained(tmp_path / "both").config.embedding_length
    with pytest.raises(ValueError, match="another network"):
        export([tmp_path / "longer", tmp_path / "other"], tmp_path / "mean", ["happy"])


def test_too_few_people_are_refused(drawn_corpus, processor):
    with pytest.raises(CorpusError, match="people are too few to fit a length on, 200 are needed"):
        fit_embedding_length(network(), processor, [str(drawn_corpus)])
