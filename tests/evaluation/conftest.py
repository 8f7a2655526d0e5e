"""Fixtures: a small prepared corpus, a small checkpoint, and embeddings with given values."""

import io
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

from evaluation.__main__ import main
from evaluation.embeddings.table import Embeddings
from evaluation.protocols.sections import CorpusRecord
from face_data.pairs import Pair, write_pairs
from face_data.table import FEATURES
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel

EXPRESSIONS = ("neutral", "happy", "surprise", "happy")
PEOPLE_PER_FOLD = 6
FOLDS = ("8", "9", "10")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """72 "faces" in three folds with all their pairs: a random pattern per person, with some noise per photograph.

    One pair of fold 10 names a photograph that the corpus lacks, as if the detector had found no face in it.
    """
    folder, rng, rows, pairs = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0), [], []
    for fold in FOLDS:
        keys = []
        for person in (f"person{fold}_{number}" for number in range(PEOPLE_PER_FOLD)):
            pattern = rng.integers(40, 215, (10, 10, 3)).repeat(8, 0).repeat(8, 1)
            for number, expression in enumerate(EXPRESSIONS):
                encoded = io.BytesIO()
                noisy = (pattern + rng.normal(0, 10, pattern.shape)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(encoded, "PNG")
                keys.append((f"{person}/{person}_{number + 1:04d}.jpg", person))
                rows.append(
                    {
                        "image": {"bytes": encoded.getvalue(), "path": None},
                        "key": keys[-1][0],
                        "identity": person,
                        "expression": expression if (fold, number) != ("10", 3) else None,
                        "expression_votes": None,
                        "split": fold,
                        "source": "patterns",
                        "box": [0.0, 0.0, 80.0, 80.0],
                        "crop": [0.0, 0.0, 80.0, 80.0],
                        "landmarks": [[20.0, 30.0], [60.0, 30.0], [40.0, 45.0], [25.0, 60.0], [55.0, 60.0]],
                        "detection_probability": 0.99,
                    }
                )
        pairs += [
            Pair(int(fold), first[0], second[0], first[1] == second[1]) for first, second in combinations(keys, 2)
        ]
    pairs.append(Pair(10, "person10_0/person10_0_0001.jpg", "person10_0/person10_0_0099.jpg", True))
    Dataset.from_list(rows, features=FEATURES).to_parquet(folder / "part-00000.parquet")
    write_pairs(folder, pairs)
    skipped = [{"key": "person10_0/person10_0_0099.jpg", "reason": "no face found"}]
    summary = {
        "layout": "patterns",
        "options": {},
        "complete": True,
        "photographs": 73,
        "prepared": 72,
        "several_faces": 0,
        "skipped_by_reason": {"no face found": 1},
        "skipped": skipped,
    }
    (folder / "corpus.json").write_text(json.dumps(summary))
    return folder


def _save_model(folder: Path, seed: int = 0) -> None:
    torch.manual_seed(seed)
    FaceLiveNetModel(FaceLiveNetConfig(trunk="test_resnet", repeats=[1, 1, 0], image_size=96)).save_pretrained(folder)
    FaceLiveNetImageProcessor(size=96).save_pretrained(folder)


def save_checkpoint(folder: Path) -> Path:
    """A saved model without thresholds. Its training record names fold 8."""
    _save_model(folder)
    (folder / "training.json").write_text(json.dumps({"trained_on": {"patterns": ["8"]}}))
    return folder


@pytest.fixture(scope="session")
def save_model() -> Callable:
    """A function that saves a small model with random weights and its image processor, given a folder and a seed."""
    return _save_model


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return save_checkpoint(tmp_path / "model")


@pytest.fixture(scope="session")
def evaluated(corpus, tmp_path_factory) -> tuple[Path, Path]:
    """A calibrated checkpoint, and the folder with the results of the command `all`."""
    folder = tmp_path_factory.mktemp("evaluated")
    model = ["--model", str(save_checkpoint(folder / "model")), "--data", str(corpus), "--far", "0.05", "--no-cache"]
    assert main(["calibrate", *model]) == 0
    assert main(["all", *model, "--out", str(folder / "out"), "--slices", "split"]) == 0
    return folder / "model", folder / "out"


@pytest.fixture
def make_embeddings():
    """A function that makes embeddings from rows of (key, identity, expression, split, vector, probabilities)."""

    def make(rows, classes=("neutral", "happy", "surprise")) -> Embeddings:
        keys, identities, expressions, splits, vectors, probabilities = zip(*rows, strict=True)
        vectors = np.array(vectors, dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(
            keys=list(keys),
            embeddings=vectors,
            references=vectors,
            expression_probabilities=np.array(probabilities, dtype=np.float32),
            identities=list(identities),
            expressions=list(expressions),
            sources=["patterns"] * len(keys),
            splits=list(splits),
            classes=classes,
        )

    return make


@pytest.fixture(autouse=True)
def empty_cache(tmp_path_factory, monkeypatch, common_folder):
    """Each test has an empty cache of embeddings. All tests share the exported networks."""
    cache, graphs = tmp_path_factory.mktemp("cache"), common_folder / "cache" / "graphs"
    graphs.mkdir(parents=True, exist_ok=True)
    (cache / "graphs").symlink_to(graphs)
    monkeypatch.setenv("FACELIVENET_CACHE", str(cache))


@pytest.fixture
def make_section():
    """A function that makes a section of results.json with a report; no test checks its other fields."""

    def make(section_type, report=None, *, warnings=(), **figures):
        figures |= {} if report is None else {"report": report}
        return section_type(
            corpus=CorpusRecord(name="patterns"),
            splits=["9"],
            seed=0,
            image_size=80,
            train_splits=[],
            warnings=list(warnings),
            figures={},
            date="2026-01-01",
            versions={},
            **figures,
        )

    return make
