"""Readers of folders of people, of tables, and of datasets for `datasets.load_dataset`, also with mistakes."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from face_data.__main__ import main
from face_data.readers.generic import read_folder, read_hub, read_unlabelled
from face_data.table import CORPUS_EXPRESSIONS, CorpusError, load_corpus, read_summary

SMALL = ["--size", "64", "--workers", "1"]

TABLE = "path,identity,expression,split\nphotos/1.jpg,Anna,Happiness,test\nphotos/2.jpg,,ANGRY,\nphotos/3.jpg,Cem,,\n"


def row(photograph) -> tuple:
    return (photograph.key, photograph.identity, photograph.expression, photograph.split)


def test_each_folder_is_a_person(tmp_path):
    pictures = ("Cem/b.PNG", "Cem/a.jpeg", "Anna Berg/2019/x.webp")
    for name in (*pictures, ".hidden/a.jpg", "Cem/._a.jpg", "Cem/a.txt", "a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    loose, *photographs = read_folder(tmp_path)
    assert (loose.key, loose.refused) == ("a.jpg", "it lies in no person's folder")
    assert [row(photograph) for photograph in photographs] == [
        ("Anna Berg/2019/x.webp", "Anna Berg", None, "all"),
        ("Cem/a.jpeg", "Cem", None, "all"),
        ("Cem/b.PNG", "Cem", None, "all"),
    ]


def test_a_folder_of_faces_without_labels_is_a_separate_split(tmp_path):
    for name in ("friends/b.PNG", "friends/2019/a.jpeg", "friends/notes.txt", "friends/.a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [row(photograph) for photograph in read_unlabelled(tmp_path / "friends")] == [
        ("2019/a.jpeg", None, None, "friends"),
        ("b.PNG", None, None, "friends"),
    ]
    with pytest.raises(CorpusError, match="is missing"):
        next(read_unlabelled(tmp_path / "nobody"))


@pytest.mark.parametrize("byte_order_mark", ["", "\ufeff"])
def test_a_table_is_read(tmp_path, byte_order_mark):
    (tmp_path / "people.csv").write_text(byte_order_mark + TABLE, encoding="utf-8")
    photographs = list(read_folder(tmp_path / "people.csv"))
    assert [row(photograph) for photograph in photographs] == [
        ("photos/1.jpg", "Anna", "happy", "test"),
        ("photos/2.jpg", None, "anger", "all"),
        ("photos/3.jpg", "Cem", None, "all"),
    ]
    assert photographs[0].image == tmp_path / "photos/1.jpg"


def test_a_table_without_splits_is_read(tmp_path):
    (tmp_path / "people.csv").write_text("expression,path,identity,age\nsadness,1.jpg,Anna,30\n")
    assert [row(photograph) for photograph in read_folder(tmp_path / "people.csv")] == [("1.jpg", "Anna", "sad", "all")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "first line must be path,identity,expression"),
        (b"photos/1.jpg,Anna,happy\n", "first line must be path,identity,expression.*found 'photos/1.jpg,Anna,happy'"),
        (TABLE.encode() + "photos/4.jpg,Jürgen,happy,\n".encode("latin-1"), "people.csv is not UTF-8 text"),
        (TABLE.encode() + b'"' + b"x" * 200_000 + b'"\n', "people.csv is damaged: field larger than"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, content, message):
    (tmp_path / "people.csv").write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        list(read_folder(tmp_path / "people.csv"))


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ("photos/4.jpg,Cem,bored,", "photos/4.jpg", "unknown expression 'bored'"),
        ("photos/4.jpg", "photos/4.jpg", "a damaged row: line 5, expected 4 fields, the path not empty"),
        ("photos/4.jpg,Cem,happy,train,more", "photos/4.jpg", "a damaged row: line 5, expected 4 fields"),
        (",Cem,happy,train", "people.csv, line 5", "a damaged row: line 5, expected 4 fields"),
        ("photos/1.jpg,Cem,happy,train", "people.csv, line 5", "named twice: line 5"),
    ],
)
def test_only_the_damaged_row_of_a_table_is_skipped(tmp_path, line, key, message):
    (tmp_path / "people.csv").write_text(f"{TABLE}{line}\nphotos/9.jpg,Cem,happy,train\n")
    *before, damaged, last = read_folder(tmp_path / "people.csv")
    assert damaged.key == key and damaged.refused.startswith(message)
    assert not any(photograph.refused for photograph in (*before, last)) and last.key == "photos/9.jpg"


def test_a_table_saved_by_a_spreadsheet_on_windows_is_read(tmp_path, tiny_image):
    for name in ("Anna.JPG", "Zoë.jpeg"):
        (tmp_path / name).write_bytes(tiny_image)
    rows = "\ufeffpath; identity; expression\r\n.\\anna.jpg; Anna; Happy\r\nZoe\u0308.jpg;Zo\u00eb;\r\n"
    (tmp_path / "people.csv").write_text(rows, encoding="utf-8", newline="")
    anna, zoe = read_folder(tmp_path / "people.csv")
    assert (anna.identity, anna.expression, anna.image.name) == ("Anna", "happy", "Anna.JPG")
    assert zoe.image.read_bytes() == tiny_image and not zoe.refused


# Datasets of the Hub. Here they are in folders, which the same function opens.


@pytest.fixture
def hub(tmp_path, tiny_image) -> Path:
    """Two splits in Parquet files, in the format of `push_to_hub`."""
    features = Features(
        {"face": Image(), "name": ClassLabel(names=["Anna", "Cem"]), "emotion": Value("string"), "age": Value("int32")}
    )
    rows = {
        "face": [{"bytes": tiny_image, "path": "x.png"}] * 3,
        "name": [1, 0, -1],
        "emotion": ["Happiness", None, ""],
    }
    for split, count in {"train": 3, "test": 1}.items():
        part = {name: values[:count] for name, values in rows.items()} | {"age": [30] * count}
        Dataset.from_dict(part, features=features).to_parquet(tmp_path / "hub" / f"{split}-00000-of-00001.parquet")
    return tmp_path / "hub"


COLUMNS = {"image_column": "face", "identity_column": "name", "expression_column": "emotion"}


def test_a_hub_dataset_keeps_its_splits_and_class_names(hub, tiny_image):
    photographs = list(read_hub(hub, **COLUMNS))
    assert [row(photograph) for photograph in photographs] == [
        ("test/00000000", "Cem", "happy", "test"),
        ("train/00000000", "Cem", "happy", "train"),
        ("train/00000001", "Anna", None, "train"),
        ("train/00000002", None, None, "train"),
    ]
    assert all(photograph.image == tiny_image for photograph in photographs)


def test_identity_column_or_expression_column_is_enough(hub):
    assert [photograph.identity for photograph in read_hub(hub, "face", "name")] == ["Cem", "Cem", "Anna", None]
    shown = [photograph.expression for photograph in read_hub(hub, "face", expression_column="emotion")]
    assert shown == ["happy", "happy", None, None]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "no column image; it has face, name, emotion, age; name them with --image-column"),
        (COLUMNS | {"split": "validation"}, "no split validation; it has test, train"),
        (COLUMNS | {"expression_map": "joy"}, "--expression-map 'joy': expected label=expression"),
        (COLUMNS | {"expression_map": "joy=glad"}, "unknown expression 'glad'"),
        ({"identity_column": "name"}, "no column image; it has face, name, emotion, age"),
        (COLUMNS | {"expression_column": "feeling"}, "split test: no column feeling"),
        (COLUMNS | {"image_column": "age"}, "split test, row 0: no image in its image column, but int"),
    ],
)
def test_wrong_columns_splits_and_maps_are_refused(hub, columns, message):
    with pytest.raises(CorpusError, match=message):
        list(read_hub(hub, **columns))


def test_a_hub_dataset_without_label_columns_is_unlabelled(hub):
    found = [(photograph.identity, photograph.expression, photograph.split) for photograph in read_hub(hub, "face")]
    assert found == [(None, None, "test")] + [(None, None, "train")] * 3
    assert [photograph.split for photograph in read_hub(hub, "face", split="train")] == ["train"] * 3


def test_labels_are_mapped_and_unknown_labels_are_skipped(tmp_path, tiny_image):
    labels = ["Joy", "awe", None, "sadness"]
    features = Features({"image": Image(), "expression": Value("string")})
    rows = {"image": [{"bytes": tiny_image, "path": "x.png"}] * 4, "expression": labels}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "hub" / "train-00000-of-00001.parquet")
    found = list(read_hub(tmp_path / "hub", expression_map="joy=happy"))
    assert [photograph.expression for photograph in found] == ["happy", None, None, "sad"]
    assert [photograph.refused for photograph in found] == [None, "unknown expression 'awe'", None, None]
    found = list(read_hub(tmp_path / "hub"))
    assert [photograph.refused for photograph in found] == [
        "unknown expression 'Joy'",
        "unknown expression 'awe'",
        None,
        None,
    ]


def test_only_damaged_rows_of_a_dataset_are_skipped(tmp_path, tiny_image):
    features = Features({"image": Image(), "json": Value("string")})
    cells = ['{"identity": "anna"}', "{damaged", '{"age": 3}', None, '{"identity": "ben"}']
    pictures = [{"bytes": tiny_image, "path": None}] * 4 + [None]
    Dataset.from_dict({"image": pictures, "json": cells}, features=features).to_parquet(
        tmp_path / "hub" / "train-00000-of-00001.parquet"
    )
    found = list(read_hub(tmp_path / "hub", identity_column="json.identity"))
    assert [photograph.identity for photograph in found] == ["anna", None, None, None, "ben"]
    assert [(photograph.refused or "").split(" (")[0] for photograph in found] == [
        "",
        "a damaged row: json is no JSON",
        "",
        "",
        "a damaged row: no image in its image column",
    ]


def test_a_json_field_of_a_webdataset_is_the_identity(tmp_path, tiny_image):
    """The usual layout of WebDataset: an image and a JSON file of the same name in a tar archive."""
    with tarfile.open(tmp_path / "train-000000.tar", "w") as archive:
        for number, person in enumerate(("anna", "ben")):
            about = json.dumps({"identity": person, "emotion": {"name": "happy"}}).encode()
            for suffix, content in (("png", tiny_image), ("json", about)):
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    columns = {"image_column": "png", "identity_column": "json.identity", "expression_column": "json.emotion.name"}
    found = [(photograph.identity, photograph.expression) for photograph in read_hub(tmp_path, **columns)]
    assert found == [("anna", "happy"), ("ben", "happy")]
    with pytest.raises(CorpusError, match=r"json holds several values: name one of them \(json\.identity"):
        list(read_hub(tmp_path, "png", "json"))
    with pytest.raises(CorpusError, match="json has no field name"):
        list(read_hub(tmp_path, "png", "json.name"))


def test_labels_out_of_range_are_skipped_and_lists_with_one_label_are_read(tmp_path, tiny_image):
    """The table is written by pyarrow, because `datasets` refuses labels out of range."""
    names = ClassLabel(names=["happy", "sad"])
    features = Features({"image": Image(), "identity": Value("string"), "expression": names, "labels": List(names)})
    rows = {"image": [{"bytes": tiny_image, "path": None}] * 4, "identity": ["a", "b", "c", "d"]}
    plain = Features(features | {"expression": Value("int64"), "labels": List(Value("int64"))})
    path = tmp_path / "hub" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    table = Dataset.from_dict(
        rows | {"expression": [0, 7, -1, 1], "labels": [[1], [9], [], [0, 1]]}, features=plain
    ).data.table
    pq.write_table(table.replace_schema_metadata(features.arrow_schema.metadata), path)
    found = list(read_hub(path.parent))
    assert [photograph.expression for photograph in found] == ["happy", None, None, "sad"]
    assert [photograph.refused for photograph in found] == [
        None,
        "a damaged row: label 7 of expression, which has 2",
        None,
        None,
    ]
    found = list(read_hub(path.parent, expression_column="labels"))
    assert [photograph.expression for photograph in found] == ["sad", None, None, None]
    refused = "a damaged row: label 9 of labels, which has 2", None, "a damaged row: labels holds 2 values"
    assert [photograph.refused for photograph in found] == [None, *refused]


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\3\4 cut off"])
@pytest.mark.parametrize("name", ["train.parquet", "train.tar", "train.json", "train.zip", "train.arrow"])
def test_a_damaged_dataset_is_reported_in_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError) as error:
        list(read_hub(tmp_path))
    assert str(error.value).startswith(str(tmp_path)) and "\n" not in str(error.value) and len(str(error.value)) < 600


def test_an_image_inside_another_column_is_refused(tmp_path, tiny_image):
    cells = {"data": [{"image": tiny_image, "name": "anna"}]}
    Dataset.from_dict(cells).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(CorpusError, match=r"data\.image: an image inside another column cannot be read; name"):
        list(read_hub(tmp_path, "data.image"))


def test_an_image_folder_with_metadata_is_read(tmp_path, tiny_image):
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "1.png").write_bytes(tiny_image)
        (tmp_path / split / "metadata.csv").write_text("file_name,identity,expression\n1.png,Anna,surprise\n")
    photographs = list(read_hub(tmp_path))
    assert [row(photograph) for photograph in photographs] == [
        ("train/00000000", "Anna", "surprise", "train"),
        ("validation/00000000", "Anna", "surprise", "validation"),
    ]
    assert photographs[0].image == tiny_image


def test_the_folders_of_an_image_folder_are_people(tmp_path, tiny_image):
    for name in ("Anna/1.png", "Cem/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(tiny_image)
    assert [photograph.identity for photograph in read_hub(tmp_path, identity_column="label")] == ["Anna", "Cem"]


def test_a_table_and_a_hub_dataset_are_prepared(tmp_path, faces, capsys):
    """The whole command, with the detector."""
    for number, face in enumerate(faces):
        (tmp_path / f"{number}.jpg").write_bytes(face)
    (tmp_path / "people.csv").write_text(
        "path,identity,expression,camera\n0.jpg,Anna,happiness,front\n1.jpg,Cem,,\n9.jpg,Cem,sad,back\n"
    )
    out = tmp_path / "from_table"
    assert main(["prepare", "folder", str(tmp_path / "people.csv"), str(out), *SMALL]) == 0
    report = capsys.readouterr().out
    assert "2 of 3 photographs prepared" in report
    assert "\n  camera: front 1, not known 1\n" in report
    assert read_summary(out)["skipped"] == [
        {"key": "9.jpg", "reason": "no such file", "identity": "Cem", "expression": "sad"}
    ]
    rows = [(row["key"], row["identity"], row["expression"], row["split"]) for row in load_corpus(out)]
    assert rows == [("0.jpg", "Anna", CORPUS_EXPRESSIONS.index("happy"), "all"), ("1.jpg", "Cem", None, "all")]

    shown = ClassLabel(names=["sad", "Surprised"])
    features = Features({"image": Image(), "who": Value("string"), "expression": shown})
    rows = {"image": [{"bytes": face, "path": None} for face in faces], "who": list("abc"), "expression": [1, 0, -1]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "hub" / "train-00000-of-00001.parquet")
    source, out = str(tmp_path / "hub"), tmp_path / "from_hub"
    assert main(["prepare", "hub", source, str(out), "--identity-column", "who", *SMALL]) == 0
    rows = [(row["key"], row["identity"], row["expression"], row["split"]) for row in load_corpus(out)]
    assert rows == [
        ("train/00000000", "a", CORPUS_EXPRESSIONS.index("surprise"), "train"),
        ("train/00000001", "b", CORPUS_EXPRESSIONS.index("sad"), "train"),
        ("train/00000002", "c", None, "train"),
    ]
    # another corpus, without identities
    assert main(["prepare", "hub", source, str(out), *SMALL]) == 2
    assert "identity_column who, now None" in capsys.readouterr().err


def test_folders_without_a_dataset_are_refused(tmp_path, hub):
    with pytest.raises(CorpusError, match=r"empty: `datasets\.load_dataset` cannot read it"):
        (tmp_path / "empty").mkdir()
        list(read_hub(tmp_path / "empty"))
    (hub / "train-00000-of-00001.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(CorpusError, match=r"hub: `datasets\.load_dataset` cannot read it"):
        list(read_hub(hub, **COLUMNS))


def test_further_columns_of_a_table_are_attributes(tmp_path):
    table = tmp_path / "people.csv"
    table.write_text("path,identity,expression,gender,lens\na.jpg,anna,happy,female,\nb.jpg,,,,35\n")
    first, second = read_folder(table)
    assert first.attributes == {"gender": "female", "lens": None}
    assert second.attributes == {"gender": None, "lens": "35"}
    table.write_text("path,identity,expression,box\na.jpg,anna,happy,1\n")
    with pytest.raises(CorpusError, match="'box' cannot be the name of a further column"):
        list(read_folder(table))
