"""A stream returns every photograph once in a pass, for any number of processes and workers, and resumes exactly."""

import json
import shutil
from collections import Counter

import pytest
import torch
from datasets import Dataset
from small_runs import copy_summary
from torch.utils.data import DataLoader

from face_data.table import FEATURES, CorpusError, load_corpus
from modeling_facelivenet import EXPRESSIONS
from train.batches import TrainingFaces
from train.photographs import Photographs
from train.streaming import StreamedFaces, open_stream

SHARDS, PER_SHARD = 8, 12


@pytest.fixture(scope="module")
def sharded(drawn_corpus, tmp_path_factory):
    """96 drawn photographs in eight shards."""
    out = tmp_path_factory.mktemp("sharded") / "drawn"
    out.mkdir()
    rows = load_corpus(drawn_corpus, ["train"]).select(range(SHARDS * PER_SHARD)).to_list()
    for shard in range(SHARDS):
        part = rows[shard * PER_SHARD : (shard + 1) * PER_SHARD]
        Dataset.from_list(part, features=FEATURES).to_parquet(out / f"part-{shard:05d}.parquet")
    copy_summary(drawn_corpus, out)
    return out


def stream(
    sharded, process=0, processes=1, workers=0, first_batch=0, batch_size=6, corpora=None, weights=(1.0,), seed=3
):
    corpora = corpora or [str(sharded)]
    faces = StreamedFaces(
        corpora,
        list(weights),
        Photographs(corpora, EXPRESSIONS).labels,
        batch_size=batch_size,
        seed=seed,
        buffer=20,
        process=process,
        processes=processes,
        first_batch=first_batch,
        workers=workers,
    )
    batches = iter(DataLoader(faces, batch_size=None, num_workers=workers))
    for _ in range(faces.left_over):
        next(batches)
    return batches


def keys(batches, count):
    return [next(batches).keys for _ in range(count)]


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 2), (2, 0), (2, 2), (3, 0)])
def test_one_pass_returns_every_photograph_once(sharded, processes, workers):
    batch = 2 if processes == 3 else 6
    batches_each = SHARDS * PER_SHARD // processes // batch
    seen = Counter(
        key
        for process in range(processes)
        for batch_keys in keys(stream(sharded, process, processes, workers, batch_size=batch), batches_each)
        for key in batch_keys
    )
    assert set(seen.values()) == {1} and len(seen) == SHARDS * PER_SHARD


def test_every_pass_and_every_seed_has_a_different_order(sharded):
    batches = stream(sharded)
    passes = [[key for batch in keys(batches, 16) for key in batch] for _ in range(2)]
    other = [key for batch in keys(stream(sharded, seed=4), 16) for key in batch]
    assert sorted(passes[0]) == sorted(passes[1]) == sorted(other)
    assert passes[0] != passes[1] and passes[0] != other and passes[0] != sorted(passes[0])
    assert passes[0] == [key for batch in keys(stream(sharded), 16) for key in batch]
    first_shards = {key for key in passes[0][:24]}
    in_order = [row["key"] for row in open_stream(str(sharded))]
    assert len({in_order.index(key) // PER_SHARD for key in first_shards}) > 2  # several shards are mixed


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_resumes_at_the_same_position(sharded, workers):
    expected = keys(stream(sharded, workers=workers), 25)  # extends into the second pass
    for done in (1, 7, 20):
        assert keys(stream(sharded, workers=workers, first_batch=done), 25 - done) == expected[done:]


def test_labels_and_images_equal_the_table(sharded):
    batch = next(stream(sharded))
    faces = TrainingFaces(Photographs([str(sharded)], EXPRESSIONS))
    rows = [faces.photographs.keys.index(key) for key in batch.keys]
    expected = faces.__getitems__(rows)
    for name in ("faces", "identity", "expression"):
        assert torch.equal(getattr(batch, name), getattr(expected, name))


def test_corpora_are_mixed_by_weight_and_splits_are_respected(sharded, drawn_corpus, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(sharded, other)
    rows = load_corpus(drawn_corpus, ["valid"]).to_list()
    Dataset.from_list(rows, features=FEATURES).to_parquet(other / "part-00008.parquet")
    batches = stream(sharded, corpora=[str(sharded), f"{other}:valid"], weights=(1.0, 3.0))
    seen = [key for batch in keys(batches, 100) for key in batch]
    valid = {row["key"] for row in rows}
    assert sum(key in valid for key in seen) / len(seen) == pytest.approx(0.75, abs=0.06)


def test_unreadable_photographs_are_skipped_and_reported(sharded, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(sharded, damaged)
    table = Dataset.from_parquet(str(damaged / "part-00000.parquet")).to_list()
    table[0]["image"]["bytes"] = b"no picture"
    Dataset.from_list(table, features=FEATURES).to_parquet(damaged / "part-00000.parquet")
    batches = stream(damaged)
    seen = [next(batches) for _ in range(16)]
    reported = {key for batch in seen for key in batch.unreadable}
    assert reported == {table[0]["key"]} and reported.isdisjoint(key for batch in seen for key in batch.keys)
    [incomplete] = [batch for batch in seen if batch.unreadable]
    assert incomplete.identity[-1] == -100 and not incomplete.expression[-1].any() and len(incomplete.keys) == 6
    assert keys(stream(damaged, first_batch=9), 7) == [batch.keys for batch in seen[9:]]


def test_too_few_shards_are_refused(sharded):
    with pytest.raises(CorpusError, match=r"8 shards cannot be split among 5 processes with 2 workers"):
        stream(sharded, processes=5, workers=2)


def test_a_folder_without_shards_is_refused(tmp_path):
    (tmp_path / "corpus.json").write_text(json.dumps({"complete": True}))
    with pytest.raises(CorpusError, match="no part-"):
        open_stream(str(tmp_path))
