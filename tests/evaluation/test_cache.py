"""The outputs of a network are cached and reused; two processes give the same results as one."""

import json
import os

import numpy as np
import pytest
import torch
from datasets import Dataset
from programs import Program, connected

import addresses
from checkpoints import load_checkpoint
from evaluation.__main__ import main
from evaluation.embeddings.cache import MAX_BYTES, EmbeddingCache
from evaluation.embeddings.compute import cache_for, embed
from face_data.table import load_corpus
from image_processing_facelivenet import cache_folder


@pytest.fixture
def loaded(checkpoint):
    return load_checkpoint(checkpoint, "cpu")


def test_the_network_computes_each_face_once(loaded, corpus, tmp_path, monkeypatch):
    dataset = load_corpus(corpus, ["9", "10"])
    cache = cache_for(loaded, tmp_path / "cache")
    first = embed(loaded.network, loaded.processor, dataset.select(range(0, 48, 3)), cache=cache)
    assert (cache.path.stat().st_mode & 0o777) == 0o600

    batch_sizes = []
    forward = type(loaded.network).forward
    monkeypatch.setattr(
        type(loaded.network),
        "forward",
        lambda self, pixels: (batch_sizes.append(len(pixels)), forward(self, pixels))[1],
    )
    cached = embed(loaded.network, loaded.processor, dataset.select(range(0, 48, 3)), cache=cache)
    assert batch_sizes == []
    np.testing.assert_array_equal(cached.embeddings, first.embeddings)
    np.testing.assert_array_equal(cached.expression_probabilities, first.expression_probabilities)

    complete = embed(loaded.network, loaded.processor, dataset, cache=cache)  # two thirds are not in the cache yet
    assert batch_sizes == [64]  # 32 faces, padded to the default batch size
    plain = embed(loaded.network, loaded.processor, dataset)
    np.testing.assert_array_equal(complete.embeddings, plain.embeddings)  # whichever other faces are in the batch
    np.testing.assert_array_equal(complete.expression_probabilities, plain.expression_probabilities)
    assert complete.keys == plain.keys and complete.identities == plain.identities


def test_another_image_size_has_a_separate_cache(loaded, tmp_path):
    names = {cache_for(loaded, tmp_path).path.name}
    loaded.processor.size = 128
    names.add(cache_for(loaded, tmp_path).path.name)
    assert len(names) == 2


def test_a_damaged_cache_is_empty_and_a_full_cache_deletes_old_files(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    digests, faces = [bytes([n] * 16) for n in range(4)], rng.normal(size=(4, 8)).astype(np.float32)
    cache = EmbeddingCache(tmp_path, "one")
    cache.write(digests[:2], faces[:2], faces[:2, :3])
    cache.write(digests, faces, faces[:, :3])
    known, embeddings, probabilities = cache.read([digests[3], b"?" * 16, digests[0], digests[3]])
    assert known.tolist() == [True, False, True, True]
    np.testing.assert_array_equal(embeddings, faces[[3, 0, 3]])
    np.testing.assert_array_equal(probabilities, faces[[3, 0, 3], :3])
    assert len(np.load(cache.path)["digests"]) == 4

    cache.path.write_bytes(cache.path.read_bytes()[:200])
    assert not cache.read(digests)[0].any()
    cache.write(digests[:1], faces[:1], faces[:1, :3])
    assert cache.read(digests)[0].tolist() == [True, False, False, False]

    os.utime(cache.path, (1, 1))
    monkeypatch.setattr("evaluation.embeddings.cache.MAX_BYTES", 100)
    EmbeddingCache(tmp_path, "two").write(digests, faces, faces[:, :3])
    assert [path.name for path in tmp_path.iterdir()] == ["two.npz"]  # the older file was deleted
    assert MAX_BYTES > 100


def test_the_cache_folder_depends_on_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIVENET_CACHE", str(tmp_path))
    assert addresses.cache_folder() == cache_folder() == tmp_path
    monkeypatch.delenv("FACELIVENET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert addresses.cache_folder() == cache_folder() == tmp_path / "facelivenet"


def test_a_changed_photograph_is_computed_again(loaded, corpus, tmp_path):
    dataset = load_corpus(corpus, ["9"])
    cache = cache_for(loaded, tmp_path)
    before = embed(loaded.network, loaded.processor, dataset, cache=cache)
    rows = dataset.to_list()
    rows[0]["image"], rows[1]["image"] = rows[5]["image"], rows[0]["image"]
    after = embed(loaded.network, loaded.processor, Dataset.from_list(rows, features=dataset.features), cache=cache)
    np.testing.assert_array_equal(after.embeddings[0], before.embeddings[5])
    np.testing.assert_array_equal(after.embeddings[1], before.embeddings[0])


@pytest.fixture
def one_thread():
    """One thread, as in launched processes: with more threads the last digits may differ."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_two_processes_give_the_results_of_one(checkpoint, corpus, tmp_path, repository, one_thread, capsys):
    """Two real processes, connected as by `accelerate launch -m evaluation`."""
    arguments = ["verification", "--model", str(checkpoint), "--data", str(corpus), "--device", "cpu"]
    arguments += ["--batch-size", "7", "--no-cache", "--out"]
    assert main([*arguments, str(tmp_path / "one")]) == 0
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = ["-m", "evaluation", *arguments, tmp_path / "two"]
    programs = [Program(command, repository, environment | variables) for variables in connected(2)]
    for program in programs:
        assert program.wait() == 0, program.stderr
    printed_by_two = "".join(program.stdout for program in programs)
    for printed in (capsys.readouterr().out, printed_by_two):
        assert printed.count("The 829 pairs of pairs.csv") == 1  # only one process prints
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two")]
    for section in results:
        assert section["verification"]["patterns"].pop("seconds") > 0
    assert results[0] == results[1]
