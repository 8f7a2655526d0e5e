"""Readers of synthetic people (DigiFace-1M, DCFace, HSFace) and of the verification files of InsightFace."""

import pickle
from pathlib import Path

import lmdb
import msgpack
import numpy as np
import pytest
from sklearn.model_selection import KFold

from evaluation.protocols.pairs import ScoredPairs
from evaluation.protocols.verification import ten_folds
from face_data.__main__ import main
from face_data.pairs import Pair, read_pairs
from face_data.readers.insightface_bins import bin_pairs, read_bin
from face_data.readers.synthetic import read_dcface, read_digiface, read_hsface
from face_data.table import CorpusError, column, load_corpus
from tests.face_data.test_reader_identities import encode_record, record_content, summaries, write_files


def test_digiface_is_read_from_its_parts(tmp_path):
    write_files(tmp_path, "subjects_0-1999_72_imgs/0/0.png", "subjects_0-1999_72_imgs/0/71.png")
    write_files(tmp_path, "subjects_100000-133332_5_imgs/100000/4.png", "subjects_0-1999_72_imgs/.DS_Store")
    assert summaries(read_digiface(tmp_path)) == [
        ("subjects_0-1999_72_imgs/0/0.png", "0", "train"),
        ("subjects_0-1999_72_imgs/0/71.png", "0", "train"),
        ("subjects_100000-133332_5_imgs/100000/4.png", "100000", "train"),
    ]
    part = tmp_path / "subjects_0-1999_72_imgs"
    assert [key for key, _, _ in summaries(read_digiface(part))] == ["0/0.png", "0/71.png"]
    write_files(tmp_path, "subjects_2000-3999_72_imgs/0/0.png")
    with pytest.raises(CorpusError, match="person 0 is also in subjects_0-1999_72_imgs"):
        list(read_digiface(tmp_path))
    other = write_files(tmp_path / "other", "anna/0.png")
    with pytest.raises(CorpusError, match="anna is not the number of a person"):
        list(read_digiface(other))
    write_files(other, "7/0.PNG", "loose.png")
    assert [(photograph.key, photograph.identity, photograph.refused) for photograph in read_digiface(other)] == [
        ("loose.png", None, "it lies in no person's folder"),
        ("7/0.PNG", "7", None),
        ("anna/0.png", None, "its folder anna is not the number of a person"),
    ]


def write_dcface(folder: Path, pictures: dict[str, bytes]) -> Path:
    """Write `file.rec`, `file.idx` and `list.txt`. All records have the label 0, so only the list names the people."""
    folder.mkdir(parents=True, exist_ok=True)
    written, index, names = b"", "", ""
    for number, (name, picture) in enumerate(pictures.items()):
        index += f"{number}\t{len(written)}\n"
        names += f"{number}\t{name}\n"
        written += encode_record(record_content(0.0, number, picture))
    (folder / "file.rec").write_bytes(written)
    (folder / "file.idx").write_text(index)
    (folder / "list.txt").write_text(names)
    return folder


def test_dcface_takes_people_from_its_list(tmp_path):
    pictures = {"0/0.jpg": b"one", "0/1.jpg": b"other", "12/0.jpg": b"third"}
    folder = write_dcface(tmp_path / "record", pictures)
    for source in (tmp_path, folder):
        read = list(read_dcface(source))
        assert summaries(read) == [("0/0.jpg", "0", "train"), ("0/1.jpg", "0", "train"), ("12/0.jpg", "12", "train")]
        assert [photograph.image for photograph in read] == list(pictures.values())
    complete_file = (folder / "file.rec").read_bytes()
    (folder / "file.rec").write_bytes(complete_file[: len(encode_record(record_content(0.0, 0, b"one")))])
    with pytest.raises(CorpusError, match=r"file\.rec ends after 1 of 3 images"):
        list(read_dcface(folder))
    (folder / "file.rec").write_bytes(complete_file)
    (folder / "list.txt").write_text("\ufeff0\t0/0.jpg\r\n1 0/1.jpg\r\n2\tno_folder.jpg\r\n", encoding="utf-8")
    assert [photograph.refused for photograph in read_dcface(folder)] == [
        None,
        *["list.txt names no person's image for it"] * 2,
    ]
    (folder / "list.txt").write_text("<html>")
    with pytest.raises(CorpusError, match=r"list\.txt: expected lines of a number, a tab and a text, found '<html>'"):
        list(read_dcface(folder))


def write_hsface(path: Path, values: list[tuple], subdir: bool) -> Path:
    with lmdb.open(str(path), subdir=subdir, map_size=2**20) as database, database.begin(write=True) as transaction:
        keys = [str(number).encode() for number in range(len(values))]
        for key, value in zip(keys, values, strict=True):
            transaction.put(key, msgpack.dumps(value))
        transaction.put(b"__keys__", msgpack.dumps(keys))
        transaction.put(b"__len__", msgpack.dumps(len(keys)))
        transaction.put(b"__classnum__", msgpack.dumps(2))
    return path


@pytest.mark.parametrize("subdir", [False, True])
@pytest.mark.parametrize("feature", [(), (b"a feature",)])
def test_hsface_is_read_from_a_file_or_a_folder(tmp_path, subdir, feature):
    values = [(b"one", *feature, 0), (b"other", *feature, 0), (b"third", *feature, 7)]
    path = write_hsface(tmp_path / "hsface10k.lmdb", values, subdir)
    before = sorted(tmp_path.rglob("*"))
    for source in (path, tmp_path):
        read = list(read_hsface(source))
        assert summaries(read) == [("0/0", "0", "train"), ("0/1", "0", "train"), ("7/2", "7", "train")]
        assert [photograph.image for photograph in read] == [b"one", b"other", b"third"]
    assert sorted(tmp_path.rglob("*")) == before  # reading adds no file to the folder of the publisher
    write_hsface(tmp_path / "odd.lmdb", [(b"one", "anna"), (), "text", (b"other", 3)], subdir)
    assert [photograph.refused for photograph in read_hsface(tmp_path / "odd.lmdb")] == [
        *["no image with the number of a person"] * 3,
        None,
    ]
    (tmp_path / "._hsface10k.lmdb").write_bytes(b"macOS")
    assert len(list(read_hsface(tmp_path))) == 3
    (tmp_path / "damaged.lmdb").write_bytes(b"no database" * 1000)
    with pytest.raises(CorpusError, match=r"damaged\.lmdb: not an LMDB of images"):
        list(read_hsface(tmp_path / "damaged.lmdb"))


# InsightFace's verification files


def python_2_pickle(pictures: list[bytes], same: list[bool]) -> bytes:
    """A pickle of protocol 2 of Python 2. Its texts are bytes, with the opcode T, which Python 3 does not write."""
    encoded = b"".join(b"T" + len(picture).to_bytes(4, "little") + picture for picture in pictures)
    booleans = b"".join(b"\x88" if is_same else b"\x89" for is_same in same)
    return b"\x80\x02](" + encoded + b"e](" + booleans + b"e\x86."


@pytest.mark.parametrize("protocol", ["Python 2", 0, 1, 2, 3, 4, 5])
def test_verification_files_of_python_2_and_3_are_read(tmp_path, protocol):
    pictures, same = [b"%d\xff" % number for number in range(24)], [True, False] * 6
    content = python_2_pickle(pictures, same) if protocol == "Python 2" else pickle.dumps((pictures, same), protocol)
    (tmp_path / "._lfw.bin").write_bytes(b"macOS")
    (tmp_path / "lfw.bin").write_bytes(content)
    for source in (tmp_path / "lfw.bin", tmp_path):
        read = list(read_bin(source))
        assert (
            [photograph.image for photograph in read] == pictures
            and read[3].key == "00003"
            and read[3].identity is None
        )
    pairs = bin_pairs(tmp_path / "lfw.bin")
    assert pairs[:2] == [Pair(1, "00000", "00001", True), Pair(1, "00002", "00003", False)]
    folds = [pair.fold for pair in pairs]
    assert folds == [1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [int(photograph.split) for photograph in read[::2]] == folds
    for number, (_, test) in enumerate(KFold(10).split(range(12)), start=1):  # the folds of InsightFace
        assert [place for place, fold in enumerate(folds) if fold == number] == test.tolist()


class CodeInPickle:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(([CodeInPickle()], [True])), "it asks for"),
        (pickle.dumps(([np.zeros(3)], [True])), "it asks for"),
        (pickle.dumps(([b"one", b"two"], [1])), "values that are neither images nor booleans"),
        (pickle.dumps(([b"one", "two"], [True])), "values that are neither images nor booleans"),
        (pickle.dumps(([b"one"], [True])), "1 images for 1 pairs"),
        (pickle.dumps([b"one"]), "expected a list of images"),
        (pickle.dumps(([b"one", b"two"], [True]))[:-5], "not a file of images and booleans"),
        (b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x", "not a file of images and booleans"),
        (b"PK a zip", "not a file of images and booleans"),
    ],
)
def test_verification_files_with_code_or_damage_are_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cfp_fp.bin").write_bytes(content)
    with pytest.raises(CorpusError, match=f"cfp_fp.bin: .*{message}"):
        list(read_bin(tmp_path))
    assert not Path("touched").exists()


def test_verification_files_are_prepared_with_their_pairs(tmp_path, faces, capsys):
    rng = np.random.default_rng(0)
    pictures = [faces[number] for number in rng.integers(0, 3, 40)]
    same = [pictures[2 * pair] == pictures[2 * pair + 1] for pair in range(20)]
    (tmp_path / "agedb_30.bin").write_bytes(pickle.dumps((pictures, same)))
    out = tmp_path / "corpus"
    arguments = ["--size", "64", "--workers", "1"]
    assert main(["prepare", "agedb_30_bin", str(tmp_path / "agedb_30.bin"), str(out), *arguments]) == 0
    assert "40 of 40 photographs prepared" in capsys.readouterr().out
    assert read_pairs(out) == bin_pairs(tmp_path) and set(column(load_corpus(out), "identity")) == {None}


def test_ten_fold_accuracy_equals_that_of_insightface():
    """InsightFace tries the squared distances 0, 0.01 … 3.99. Distances between these values give one threshold."""
    rng = np.random.default_rng(1)
    same = rng.random(600) < 0.5
    distance = np.clip(np.round(rng.normal(np.where(same, 1.2, 1.9), 0.4), 2), 0, 3.98) + 0.005
    folds = np.array([pair * 10 // 600 + 1 for pair in range(600)])
    names = np.array([f"p{pair}" for pair in range(600)])
    others = np.where(same, names, np.char.add(names, "b"))
    splits = np.full((600, 2), "")
    scored = ScoredPairs(folds, 1 - distance / 2, same, names, others, np.zeros(600, bool), splits)
    expected = []
    for train, test in KFold(10).split(same):
        accuracies = [((distance[train] < limit) == same[train]).mean() for limit in np.arange(0, 4, 0.01)]
        best = np.arange(0, 4, 0.01)[int(np.argmax(accuracies))]
        expected.append(((distance[test] < best) == same[test]).mean())
    assert ten_folds(scored, frozenset()).mean == pytest.approx(np.mean(expected), abs=0.01)
