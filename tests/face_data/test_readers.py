"""Readers of published corpora, with small corpora that the tests write, and with real ones."""

import csv
import io
import re
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from face_data.readers import BINS, READERS
from face_data.readers.expressions import read_fer2013, read_ferplus, read_london
from face_data.readers.lfw import lfw_folds, read_facial_expressions, read_lfw
from face_data.table import CORPUS_EXPRESSIONS, CorpusError

PICTURES = ["Anna_Berg/Anna_Berg_0001.jpg", "Anna_Berg/Anna_Berg_0002.jpg", "Cem_Kaya/Cem_Kaya_0001.jpg"]
LEGEND = [
    ("Anna_Berg_0001.jpg", "HAPPINESS"),
    ("Anna_Berg_0001.jpg", "happiness"),
    ("Anna_Berg_0002.jpg", "anger"),
    ("Anna_Berg_0002.jpg", "Fear"),
    ("Roshan_12.jpg", "sadness"),
    ("stock-photo_99k.jpg", "contempt"),
]


def jpeg(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), level).save(file, "JPEG")
    return file.getvalue()


def pack(archive: Path, folder: Path, mode: str) -> None:
    with tarfile.open(archive, mode) as tar:
        tar.add(folder, folder.name)


@pytest.fixture
def lfw(tmp_path) -> Path:
    source = tmp_path / "lfw"
    for level, name in enumerate(PICTURES):
        path = source / "lfw-deepfunneled" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(level))
    (source / "lfw-deepfunneled" / "notes.txt").write_text("no photograph")
    (source / "people.txt").write_text("2\n1\nCem_Kaya\t1\n2\nAnna_Berg\t2\nDana_Li\t4\n")
    return source


@pytest.fixture
def labels(tmp_path) -> Path:
    source = tmp_path / "facial_expressions"
    (source / "data").mkdir(parents=True)
    (source / "images").mkdir()
    with (source / "data" / "legend.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("user.id", "image", "emotion"), *((628, *row) for row in LEGEND)])
    for name in ("Roshan_12.jpg", "Roshan_3.jpg", "stock-photo_99k.jpg", "Anna_Berg_0001.jpg"):
        (source / "images" / name).write_bytes(jpeg(50))
    return source


@pytest.fixture
def ferplus(tmp_path) -> Path:
    """Votes in the publisher's order: neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown,
    not a face."""
    votes = {
        "FER2013Train": {
            "fer0000000.png": (0, 9, 1, 0, 0, 0, 0, 0, 0, 0),  # the single vote is an outlier
            "fer0000001.png": (0, 0, 0, 5, 5, 0, 0, 0, 0, 0),  # no majority
            "fer0000002.png": (0, 0, 0, 0, 0, 0, 0, 4, 4, 0),  # "unknown" has as many votes as the best emotion
            "fer0000003.png": (2, 0, 0, 0, 0, 0, 0, 0, 0, 8),  # not a face
            "fer0000004.png": (1, 1, 1, 1, 1, 1, 1, 1, 1, 1),  # only outliers
            "fer0000005.png": (
                0,
                0,
                0,
                0,
                0,
                3,
                0,
                5,
                2,
                0,
            ),  # half of all votes, including unknown, is no majority
        },
        # one photograph of each class
        "FER2013Valid": {
            f"fer002000{place}.png": tuple(10 * (place == other) for other in range(10)) for place in range(8)
        },
    }
    source = tmp_path / "ferplus"
    for folder, rows in votes.items():
        (source / folder).mkdir(parents=True)
        with (source / folder / "label.csv").open("w", newline="") as file:
            csv.writer(file).writerows((name, "(0, 0, 48, 48)", *counts) for name, counts in rows.items())
        for name in rows:
            Image.new("L", (48, 48)).save(source / folder / name)
    return source


@pytest.mark.parametrize("archived", [False, True])
def test_lfw(lfw, labels, archived):
    pictures = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in lfw.rglob("*.jpg")}
    if archived:
        pack(lfw / "lfw-deepfunneled.tgz", lfw / "lfw-deepfunneled", "w:gz")
        (lfw / "lfw-deepfunneled").rename(lfw / "unpacked")
    photographs = {photograph.key: photograph for photograph in read_lfw(lfw, labels)}
    assert sorted(photographs) == PICTURES
    for key, photograph in photographs.items():
        assert photograph.identity == key.split("/")[0]
        content = photograph.image if archived else photograph.image.read_bytes()
        assert content == pictures[key]
    assert [photographs[key].split for key in PICTURES] == ["2", "2", "1"]
    assert [photographs[key].expression for key in PICTURES] == [
        "happy",
        None,
        None,
    ]  # two annotators disagree about the second
    assert all(photograph.expression is None for photograph in read_lfw(lfw))


@pytest.mark.parametrize("text", ["", "two\n1\nAnna\t1\n", "2\n1\nAnna\t1\n", "1\n3\nAnna\t1\nBen\t1\n"])
def test_a_damaged_people_file_of_lfw_is_refused(tmp_path, text):
    (tmp_path / "people.txt").write_text(text)
    with pytest.raises(CorpusError, match=r"people\.txt is damaged"):
        lfw_folds(tmp_path / "people.txt")


def test_an_incomplete_lfw_is_refused(lfw, labels):
    (lfw / "people.txt").write_text("1\n1\nCem_Kaya\t1\n")
    assert {photograph.refused for photograph in read_lfw(lfw) if photograph.key.startswith("Anna")} == {
        "people.txt names no such person"
    }
    with pytest.raises(CorpusError, match=r"legend\.csv is missing"):
        list(read_lfw(lfw, lfw))
    (lfw / "people.txt").unlink()
    with pytest.raises(CorpusError, match=r"people\.txt is missing"):
        list(read_lfw(lfw))


@pytest.mark.parametrize("damage", ["truncated", "text", "missing"])
def test_damaged_archives_are_named(lfw, damage):
    archive = lfw / "lfw-deepfunneled.tgz"
    pack(archive, lfw / "lfw-deepfunneled", "w:gz")
    (lfw / "lfw-deepfunneled").rename(lfw / "unpacked")
    if damage == "truncated":
        archive.write_bytes(archive.read_bytes()[:-60])
    elif damage == "text":
        archive.write_text("<html>Not found</html>")
    else:
        archive.unlink()
    with pytest.raises(CorpusError, match=r"lfw-deepfunneled\.tgz is (damaged or incomplete|missing)"):
        list(read_lfw(lfw))


def test_facial_expressions(labels):
    rows = [(row.key, row.identity, row.expression, row.split) for row in read_facial_expressions(labels)]
    assert rows == [  # without the LFW photograph, because its person may be in a test fold
        ("Roshan_12.jpg", "Roshan", "sad", "train"),
        ("Roshan_3.jpg", "Roshan", None, "train"),
        ("stock-photo_99k.jpg", None, "contempt", "train"),
    ]


def test_only_photographs_with_an_unknown_emotion_are_skipped(labels):
    with (labels / "data" / "legend.csv").open("a") as file:
        file.write("7,Roshan_3.jpg,bored\n")
    refused = {row.key: row.refused for row in read_facial_expressions(labels) if row.refused}
    assert refused == {"Roshan_3.jpg": "unknown expression 'bored'"}


@pytest.mark.parametrize("archived", [False, True])
def test_ferplus(ferplus, archived):
    if archived:
        for name in ("FER2013Train", "FER2013Valid"):
            pack(ferplus / f"{name}.tar", ferplus / name, "w")
            (ferplus / name).rename(ferplus / f"{name}_unpacked")
    rows = {row.key.split("/")[1]: row for row in read_ferplus(ferplus)}
    train = {name: (row.expression, row.votes) for name, row in rows.items() if row.split == "train"}
    assert train == {
        "fer0000000.png": ("happy", (0, 0, 0, 0, 1, 0, 0, 0)),
        "fer0000001.png": (None, (0, 0.5, 0, 0, 0, 0.5, 0, 0)),
        "fer0000005.png": (None, (0, 0, 3 / 8, 0, 0, 0, 0, 5 / 8)),
    }
    valid = [row for row in rows.values() if row.split == "valid"]
    assert [row.expression for row in sorted(valid, key=lambda row: row.key)] == [
        "neutral",
        "happy",
        "surprise",
        "sad",
        "anger",
        "disgust",
        "fear",
        "contempt",
    ]
    for row in valid:
        assert row.votes == tuple(float(name == row.expression) for name in CORPUS_EXPRESSIONS)
    assert rows["fer0000000.png"].key == "FER2013Train/fer0000000.png"
    assert all(row.identity is None for row in rows.values())


def test_an_incomplete_ferplus_is_refused(ferplus):
    label = ferplus / "FER2013Train" / "label.csv"
    label.write_text(label.read_text().replace("fer0000001.png", "other.png"))
    refused = {photograph.key: photograph.refused for photograph in read_ferplus(ferplus) if photograph.refused}
    assert refused == {
        "FER2013Train/fer0000001.png": "label.csv holds no ten votes for it",
        "FER2013Train/other.png": "label.csv names it: no such file",
    }
    label.unlink()
    with pytest.raises(CorpusError, match=r"FER2013Train/label\.csv is missing"):
        list(read_ferplus(ferplus))
    pack(ferplus / "FER2013Train.tar", ferplus / "FER2013Train", "w")
    (ferplus / "FER2013Train").rename(ferplus / "unpacked")
    with pytest.raises(CorpusError, match=r"FER2013Train\.tar contains no label\.csv"):
        list(read_ferplus(ferplus))


def pixels_of_level(level: int) -> str:
    return " ".join([str(level)] * 48 * 48)


@pytest.fixture
def fer2013(tmp_path) -> Path:
    """The publisher's csv with each emotion once, in the order of its codes."""
    usages = ["Training"] * 5 + ["PublicTest", "PrivateTest"]
    with (tmp_path / "fer2013.csv").open("w", newline="") as file:
        rows = [(code, pixels_of_level(30 * code), usage) for code, usage in enumerate(usages)]
        csv.writer(file).writerows([("emotion", "pixels", "Usage"), *rows])
    return tmp_path


def test_fer2013(fer2013):
    photographs = list(read_fer2013(fer2013))
    assert [(photograph.expression, photograph.split) for photograph in photographs] == [
        ("anger", "train"),
        ("disgust", "train"),
        ("fear", "train"),
        ("happy", "train"),
        ("sad", "train"),
        ("surprise", "valid"),
        ("neutral", "test"),
    ]
    assert photographs[1].key == "fer0000001.png" and photographs[1].identity is None
    assert (photographs[1].enlarge, photographs[1].border) == (4, 0.3)
    shown = Image.open(io.BytesIO(photographs[1].image))
    assert shown.size == (48, 48) and set(shown.tobytes()) == {30}
    assert list(read_fer2013(fer2013 / "fer2013.csv")) == photographs


@pytest.mark.parametrize(
    "row",
    [
        f"7,{pixels_of_level(1)},Training",
        f"-1,{pixels_of_level(1)},Training",
        f"3,{pixels_of_level(1)},Test",
        f"3,{pixels_of_level(1)} 1,Training",
        "3,1 2,Training",
        f"3,{pixels_of_level(256)},Training",
        f"3,{pixels_of_level(1)}",
        "happy,x,Training",
    ],
)
def test_damaged_fer2013_rows_are_skipped(fer2013, row):
    with (fer2013 / "fer2013.csv").open("a") as file:
        file.write(row + "\n")
        file.write(f"3,{pixels_of_level(1)},Training\n")
    *before, damaged, last = read_fer2013(fer2013)
    assert damaged.key == "fer0000007.png" and damaged.refused.startswith("a damaged row: line 9, ")
    assert [photograph.refused for photograph in (*before, last)] == [None] * 8 and last.expression == "happy"


def test_another_file_instead_of_fer2013_is_refused(fer2013):
    path = fer2013 / "fer2013.csv"
    for content in (b"", path.read_bytes().split(b"\n", 1)[1]):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match="its first line must name emotion, pixels and Usage"):
            list(read_fer2013(fer2013))
    path.unlink()
    with pytest.raises(CorpusError, match=r"fer2013\.csv is missing"):
        list(read_fer2013(fer2013))


def test_text_files_that_are_not_utf8_are_named(lfw, labels, ferplus):
    for path, reader in (
        (lfw / "people.txt", lambda: read_lfw(lfw)),
        (labels / "data" / "legend.csv", lambda: read_facial_expressions(labels)),
        (ferplus / "FER2013Train" / "label.csv", lambda: read_ferplus(ferplus)),
    ):
        path.write_bytes(b"\xe4\n" + path.read_bytes())
        with pytest.raises(CorpusError, match=f"{path.name} is not UTF-8 text"):
            list(reader())


def test_every_layout_has_a_reader_with_a_description():
    for layout, reader in READERS.items():
        assert reader.__doc__ and reader.__name__ == ("read_bin" if layout in BINS else f"read_{layout}")


def test_london(tmp_path):
    for name in ("036_happy.jpg", "036_neutral.jpg", "004_happy.jpg"):
        (tmp_path / name).write_bytes(jpeg(9))
    (tmp_path / "info.csv").write_text("face_id,age,gender,ethnicity\n004,30,male,white\n036,21.5,female,\n")
    rows = [(row.key, row.identity, row.expression, row.split) for row in read_london(tmp_path)]
    assert rows == [
        ("004_happy.jpg", "004", "happy", "test"),
        ("036_happy.jpg", "036", "happy", "test"),
        ("036_neutral.jpg", "036", "neutral", "test"),
    ]
    first, second, _ = [row.attributes for row in read_london(tmp_path)]
    assert first == {"gender": "male", "ethnicity": "white", "age_band": "30-39"}
    assert second == {"gender": "female", "ethnicity": None, "age_band": "18-29"}
    bands = {"18": "18-29", "29.5": "18-29", "30": "30-39", "39": "30-39", "": None}
    bands |= dict.fromkeys((" ", "NA", "N/A", "nan", "?"))
    for age, band in bands.items():
        (tmp_path / "info.csv").write_text(f"face_id,age,gender,ethnicity\n004,{age},,\n036,40,,\n")
        assert next(read_london(tmp_path)).attributes["age_band"] == band
    for age in ("17", "-1", "inf", "1980", "thirty"):
        (tmp_path / "info.csv").write_text(f"face_id,age,gender,ethnicity\n004,{age},,\n036,40,,\n")
        refused = {row.key: row.refused for row in read_london(tmp_path) if row.refused}
        assert list(refused) == ["004_happy.jpg"] and age in refused["004_happy.jpg"]
    (tmp_path / "info.csv").write_text("face_id,age,gender,ethnicity\n004,30,male,white\n")
    refused = {row.key: row.refused for row in read_london(tmp_path) if row.refused}
    assert refused == dict.fromkeys(("036_happy.jpg", "036_neutral.jpg"), "its name or info.csv is damaged: no '036'")
    (tmp_path / "info.csv").write_text("face_id,gender\n004,male\n")
    with pytest.raises(CorpusError, match=r"info\.csv: its first line must name face_id, age, gender and ethnicity"):
        list(read_london(tmp_path))


@pytest.mark.real_data
def test_real_lfw(real_data):
    photographs = list(read_lfw(real_data / "lfw", real_data / "facial_expressions"))
    assert len({photograph.key for photograph in photographs}) == len(photographs) == 13_233
    fold_of = lfw_folds(real_data / "lfw" / "people.txt")
    assert {photograph.identity for photograph in photographs} == set(fold_of) and len(fold_of) == 5_749
    # `people.txt` has the number of photographs of each person
    lines = (line.split("\t") for line in (real_data / "lfw" / "people.txt").read_text().splitlines())
    published = Counter()
    for name, *count in lines:
        if count:
            published[fold_of[name]] += int(count[0])
    assert Counter(photograph.split for photograph in photographs) == published
    labelled = Counter(photograph.expression for photograph in photographs if photograph.expression)
    assert labelled == {
        "neutral": 6713,
        "happy": 5306,
        "surprise": 355,
        "anger": 227,
        "sad": 124,
        "disgust": 12,
        "fear": 12,
        "contempt": 9,
    }


@pytest.mark.real_data
def test_real_ferplus(real_data):
    count = Counter()
    for photograph in read_ferplus(real_data / "ferplus"):
        assert sum(photograph.votes) == pytest.approx(1)
        count[photograph.split, photograph.expression is not None] += 1
    assert count == {("train", True): 25_045, ("train", False): 3_105, ("valid", True): 3_191, ("valid", False): 335}


@pytest.mark.real_data
def test_actors_of_facial_expressions_are_not_in_test_folds_of_lfw(real_data):
    """No actor of `facial_expressions` is in the folds 9 and 10 of LFW, even with another spelling of the name."""

    def letters_of(name: str) -> str:
        return re.sub("[^a-z]", "", name.lower())

    photographs = list(read_facial_expressions(real_data / "facial_expressions"))
    actors = {photograph.identity for photograph in photographs} - {None}
    assert len(photographs) == 924 and len(actors) == 8
    fold_of = lfw_folds(real_data / "lfw" / "people.txt")
    names = {}  # full names and their parts, because some actors use only one name
    for person, fold in fold_of.items():
        for name in (person, *person.split("_")):
            names.setdefault(letters_of(name), set()).add(fold)
    # this actor is in a training fold of LFW, so the spellings of both corpora can be compared
    assert names[letters_of("HrithikRoshan")] == {"3"}
    assert not [actor for actor in actors if names.get(letters_of(actor), set()) & {"9", "10"}]
    people = {path.name.rpartition("_")[0] for path in (real_data / "facial_expressions" / "images").glob("*_????.jpg")}
    assert people.isdisjoint(fold_of)


@pytest.mark.real_data
def test_real_london(real_data):
    count = Counter((photograph.identity, photograph.expression) for photograph in read_london(real_data / "london"))
    assert len(count) == 24 and set(count.values()) == {1}
    assert Counter(expression for _, expression in count) == {"neutral": 12, "happy": 12}
    attributes = [photograph.attributes for photograph in read_london(real_data / "london")]
    assert Counter(values["gender"] for values in attributes) == {"female": 10, "male": 14}
    assert Counter(values["ethnicity"] for values in attributes)["white"] == 16
    assert all(values["age_band"] for values in attributes)
