"""Photographs decoded once come out as they would every time, whatever happens to the file they are kept in."""

import errno
import io
import multiprocessing
import os
import pickle
import shutil
import time
from types import SimpleNamespace

import PIL.Image
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from face_data.table import FEATURES, load_corpus
from modeling_facelivenet import EXPRESSIONS
from train.batches import TrainingFaces, no_collate
from train.config import TrainingConfig
from train.loop import _faces

BATCHES = [[0, 3, 4, 11], [11, 4, 7, 7], [2, 1, 9, 10], [5, 6, 8, 0]]
DAMAGED, SMALL = 4, 7


@pytest.fixture
def corpus(drawn_corpus, tmp_path):
    """Twelve photographs of two splits; one is cut in the middle, one smaller than the others."""
    table = load_corpus(drawn_corpus).select(range(12)).cast_column("image", FEATURES["image"]).to_list()
    for row, one in enumerate(table):
        one["split"] = "first" if row % 3 else "second"
    table[DAMAGED]["image"]["bytes"] = table[DAMAGED]["image"]["bytes"][:4000]
    with PIL.Image.open(io.BytesIO(table[SMALL]["image"]["bytes"])) as image:
        small = io.BytesIO()
        image.resize((100, 90)).save(small, "PNG")
    table[SMALL]["image"]["bytes"] = small.getvalue()
    return write(table, tmp_path / "corpus", drawn_corpus)


def write(table, folder, summary_of):
    folder.mkdir(exist_ok=True)
    Dataset.from_list(table, features=FEATURES).to_parquet(folder / "part-00000.parquet")
    shutil.copy(summary_of / "corpus.json", folder)
    return folder


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "kept"


def faces_of(corpus, kept=None, splits=""):
    return TrainingFaces([f"{corpus}{splits}"], EXPRESSIONS, decoded_folder=kept)


def same(one: TrainingFaces, other: TrainingFaces, batches=BATCHES) -> bool:
    for rows in batches:
        a, b = vars(one.__getitems__(rows)), vars(other.__getitems__(rows))
        if not all(torch.equal(a[name], b[name]) if torch.is_tensor(a[name]) else a[name] == b[name] for name in a):
            return False
    return True


@pytest.fixture
def decoding(monkeypatch):
    """How often something is decoded."""
    from train import batches

    decode, count = batches.decode, SimpleNamespace(calls=0)

    def counted(encoded):
        count.calls += 1
        return decode(encoded)

    monkeypatch.setattr(batches, "decode", counted)
    return count


def test_batches_are_the_same_and_nothing_is_decoded_twice(corpus, kept, decoding):
    plain, faces = faces_of(corpus), faces_of(corpus, kept)
    assert same(plain, faces) and plain.__getitems__([3, 4]).unreadable
    decoding.calls = 0
    whole = [rows for rows in ([0, 3, 11], [2, 1, 9], [10, 5, 6]) if not {DAMAGED, SMALL} & set(rows)]
    again = faces_of(corpus, kept)
    for rows in whole:
        again.__getitems__(rows)
    assert decoding.calls == 0
    assert again.__getitems__([DAMAGED]).unreadable and decoding.calls == 1  # asked anew, and reported as ever
    assert again.__getitems__([0, SMALL]).faces.shape == (2, 3, 160, 160) and decoding.calls == 2
    assert same(plain, again)


def test_a_batch_that_begins_with_a_smaller_photograph_has_its_size(corpus, kept):
    plain, faces = faces_of(corpus), faces_of(corpus, kept)
    for _ in range(2):
        assert faces.__getitems__([SMALL, 0, 1]).faces.shape == (3, 3, 90, 100)
        assert same(plain, faces, [[SMALL, 0, 1], [0, SMALL, 1]])


def test_splits_and_corpora_share_what_is_decoded(corpus, kept, decoding):
    faces = faces_of(corpus, kept)
    faces.__getitems__(list(range(12)))
    decoding.calls = 0
    assert faces_of(corpus, kept, ":second").__getitems__([0, 1, 2, 3]).keys == [
        faces.keys[row] for row in (0, 3, 6, 9)
    ]
    assert decoding.calls == 0 and len(list(kept.iterdir())) == 1
    both = TrainingFaces([f"{corpus}:first", f"{corpus}:second"], EXPRESSIONS, decoded_folder=kept)
    assert same(both, TrainingFaces([f"{corpus}:first", f"{corpus}:second"], EXPRESSIONS))


def test_workers_fill_what_everybody_reads(corpus, kept, decoding):
    faces = faces_of(corpus, kept)
    loader = DataLoader(faces, batch_sampler=BATCHES, num_workers=2, collate_fn=no_collate)
    filled = [batch.keys for batch in loader]
    assert filled == [faces_of(corpus).__getitems__(rows).keys for rows in BATCHES]
    decoding.calls = 0
    faces.__getitems__([0, 3, 11, 2, 1, 9, 10, 5, 6, 8])
    assert decoding.calls == 0


def test_a_corpus_that_changed_is_decoded_anew(corpus, kept, drawn_corpus):
    faces_of(corpus, kept).__getitems__([0, 1, 2])
    before = list(kept.iterdir())
    table = load_corpus(corpus).to_list()
    write([*reversed(table)], corpus, drawn_corpus)
    faces = faces_of(corpus, kept)
    assert same(faces, faces_of(corpus), [[0, 1, 2]])
    after = list(kept.iterdir())
    assert len(after) == 1 and after != before  # the stale file is gone


def test_what_is_half_written_is_decoded_again(corpus, kept, decoding):
    plain, faces = faces_of(corpus), faces_of(corpus, kept)
    [file] = kept.iterdir()
    rows = [0, 1, 2, 3]
    pixels = 12 * 8 + 160 * 160 * 3  # where row 1 begins

    def without_row_1():  # a checksum, and pixels that never reached the disk
        with file.open("r+b") as opened:
            opened.seek(pixels)
            opened.write(bytes(1000))

    for damage in (
        lambda: os.truncate(file, 0),
        lambda: os.truncate(file, 50),
        lambda: os.truncate(file, pixels + 5),
        without_row_1,
        file.unlink,
    ):
        faces.__getitems__(rows)
        damage()
        for one in (faces, faces_of(corpus, kept)):  # the one that has it open, and the next
            assert same(plain, one, [rows])
    decoding.calls = 0
    faces_of(corpus, kept).__getitems__(rows)
    assert decoding.calls == 0


def test_a_killed_process_leaves_it_usable(corpus, kept):
    faces = faces_of(corpus, kept)

    def fill():
        while True:
            os.truncate(faces.decoded[0].path, 0)
            faces.__getitems__([0, 1, 2, 3])

    for _ in range(5):
        process = multiprocessing.get_context("fork").Process(target=fill)
        process.start()
        time.sleep(0.05)
        process.kill()
        process.join()
        assert same(faces_of(corpus), faces_of(corpus, kept), [[0, 1, 2, 3]])


@pytest.mark.parametrize("refusal", [errno.ENOSPC, "short"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_costs_one_warning(corpus, kept, monkeypatch, capfd, workers, refusal):
    faces, write_all = faces_of(corpus, kept), os.pwrite

    def full(file, data, place):
        if refusal == "short":
            return write_all(file, memoryview(data).cast("B")[:5], place)
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "pwrite", full)
    loader = DataLoader(faces, batch_sampler=BATCHES, num_workers=workers, collate_fn=no_collate)
    for _ in range(2):
        for batch, rows in zip(loader, BATCHES, strict=True):
            assert torch.equal(batch.faces, faces_of(corpus).__getitems__(rows).faces)
    warnings = capfd.readouterr().err
    assert warnings.count("cannot be written") == 1 and str(kept) in warnings


def test_a_folder_that_cannot_be_made_costs_one_warning(corpus, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    faces = faces_of(corpus, tmp_path / "file")
    assert faces.decoded == [None] and same(faces, faces_of(corpus))
    warnings = capsys.readouterr().err
    assert warnings.count("decoded every time") == 1 and str(tmp_path / "file") in warnings


def test_a_small_disk_is_not_filled(corpus, kept, monkeypatch, capsys, decoding):
    needed = 12 * 160 * 160 * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2 * needed - 2))
    faces = faces_of(corpus, kept)
    assert same(faces, faces_of(corpus)) and "$FACELIVENET_CACHE" in capsys.readouterr().err
    decoding.calls = 0
    faces.__getitems__([0, 1])
    assert decoding.calls == 2 and sum(file.stat().st_blocks for file in kept.iterdir()) == 0

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2 * needed))
    faces_of(corpus, kept).__getitems__([0, 1])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    decoding.calls = 0
    faces_of(corpus, kept).__getitems__([0, 1])  # what is there is used
    assert decoding.calls == 0


def test_the_option_says_where(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIVENET_CACHE", str(tmp_path / "cache"))
    assert _faces(TrainingConfig(train=[str(corpus)]), EXPRESSIONS).decoded == [None]
    assert not (tmp_path / "cache").exists()
    faces = _faces(TrainingConfig(train=[str(corpus)], decoded_cache=True), EXPRESSIONS)
    [file] = (tmp_path / "cache" / "decoded").iterdir()
    assert faces.decoded[0].path == file and file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ValueError, match="decoded_cache: false with --streaming"):
        TrainingConfig(streaming=True, decoded_cache=True)


def test_it_can_be_handed_to_another_process(corpus, kept):
    faces = faces_of(corpus, kept)
    faces.__getitems__([0, 1])
    [decoded] = faces.decoded
    copy = pickle.loads(pickle.dumps(decoded))
    assert (copy.read(0) == decoded.read(0)).all() and copy.read(2) is None
