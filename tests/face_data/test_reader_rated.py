"""Readers of expression corpora: RAF-DB, AffectNet, KDEF, JAFFE, EmoNet-Face."""

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value

from face_data.__main__ import main
from face_data.readers import READERS
from face_data.readers.posed import read_jaffe, read_kdef
from face_data.readers.rated import AFFECTNET_COLUMNS, read_affectnet, read_emonet_face, read_raf_db
from face_data.table import CorpusError, column, load_corpus


def write_files(source: Path, *names: str) -> Path:
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"picture")
    return source


def labels_of(photographs) -> list[tuple]:
    return [
        (photograph.key, photograph.expression, photograph.split)
        for photograph in photographs
        if not photograph.refused
    ]


RAF = "".join(f"{split}_{number:05d}.jpg {number}\r\n" for split in ("train", "test") for number in range(1, 8))
RAF_EXPRESSIONS = ["surprise", "fear", "disgust", "happy", "sad", "anger", "neutral"]


@pytest.mark.parametrize("outer", ["", "basic/"])
@pytest.mark.parametrize(("kind", "suffix"), [("original", ""), ("aligned", "_aligned")])
def test_original_and_aligned_images_of_raf_db_are_read(tmp_path, outer, kind, suffix):
    names = [line.split()[0].replace(".jpg", f"{suffix}.jpg") for line in RAF.splitlines()]
    write_files(tmp_path, *(f"{outer}Image/{kind}/{name}" for name in names))
    (tmp_path / f"{outer}EmoLabel").mkdir()
    (tmp_path / f"{outer}EmoLabel/list_patition_label.txt").write_text(RAF + "\n")
    read = list(read_raf_db(tmp_path))
    splits = ["train"] * 7 + ["test"] * 7
    assert labels_of(read) == list(zip(names, RAF_EXPRESSIONS * 2, splits, strict=True))
    assert all(photograph.image.exists() and photograph.identity is None for photograph in read)
    assert {(photograph.enlarge, photograph.border > 0) for photograph in read} == {
        (2, True) if kind == "aligned" else (1, False)
    }


def test_raf_db_lists_damaged_lines_and_images_without_a_line(tmp_path):
    write_files(tmp_path, "Image/aligned/train_00002_aligned.JPG", "Image/aligned/test_0009_aligned.jpg")
    for damaged in ("train_00001.jpg 8", "train_00001.jpg", "valid_00001.jpg 3"):
        (tmp_path / "list_patition_label.txt").write_text(f"\ufefftrain_00002.jpg 5\n{damaged}\n", encoding="utf-8")
        good, skipped, unnamed = read_raf_db(tmp_path)
        assert good.image.exists() and good.expression == "sad"
        assert skipped.refused.startswith("a damaged row: line 2, expected `train_00001.jpg 5`")
        assert (unnamed.key, unnamed.refused) == (
            "test_0009_aligned.jpg",
            "list_patition_label.txt does not name it",
        )


AFFECTNET_SHOWN = ["neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt"]


def affectnet_rows(folder: str) -> list[str]:
    """One photograph for every label, and one without a label. The suffixes differ."""
    rows = [f'{folder}/{code}.JPG,1,1,9,9,"1;2;3;4",{code},-2,-2' for code in range(11)]
    return [*rows, f"{folder}/11.png,1,1,9,9,1;2,,-2,-2"]


@pytest.mark.parametrize("header", [True, False])
def test_affectnet_with_csv_files_is_read(tmp_path, header):
    """training.csv has a header. validation.csv has no header in some releases."""
    lists = tmp_path / "Manually_Annotated_file_lists"
    lists.mkdir()
    (lists / "training.csv").write_text("\n".join([",".join(AFFECTNET_COLUMNS), *affectnet_rows("17")]) + "\n")
    first = [",".join(AFFECTNET_COLUMNS)] if header else []
    (lists / "validation.csv").write_text("\n".join([*first, *affectnet_rows("2\\sub")]))
    write_files(tmp_path, "Manually_Annotated/Manually_Annotated_Images/17/0.JPG")
    read = list(read_affectnet(tmp_path))
    expected = [(f"17/{code}.JPG", name, "train") for code, name in enumerate(AFFECTNET_SHOWN)]
    expected += [(f"2/sub/{code}.JPG", name, "valid") for code, name in enumerate(AFFECTNET_SHOWN)]
    assert labels_of(read) == expected
    assert read[0].image.exists()
    assert [(photograph.key, photograph.refused.split(":")[0]) for photograph in read if photograph.refused] == [
        ("17/11.png", "a damaged label"),
        ("2/sub/11.png", "a damaged label"),
    ]
    (lists / "validation.csv").write_text("2/0.jpg,1\n")
    *_, short = read_affectnet(tmp_path)
    assert (short.key, short.refused) == (
        "validation.csv, photograph 1",
        "a damaged row: photograph 1, 2 columns instead of 9",
    )


def test_affectnet_with_arrays_is_read(tmp_path):
    for folder, codes in (("train_set", (0, 7, 3)), ("val_set", (1, 8))):
        for number, code in enumerate(codes):
            write_files(tmp_path, f"{folder}/images/{number * 5}.jpg", f"{folder}/annotations/{number * 5}_lnd.npy")
            # AffectNet stores the code as text
            np.save(tmp_path / folder / "annotations" / f"{number * 5}_exp.npy", np.array(str(code)))
    (tmp_path / "train_set/annotations/11_exp.npy").write_bytes(b"damaged")
    # reading it would need a pickle
    np.save(tmp_path / "train_set/annotations/12_exp.npy", np.array([{}], dtype=object))
    read = list(read_affectnet(tmp_path))
    assert labels_of(read) == [
        ("train_set/0.jpg", "neutral", "train"),
        ("train_set/5.jpg", "contempt", "train"),
        ("train_set/10.jpg", "surprise", "train"),
        ("val_set/0.jpg", "happy", "valid"),
    ]
    assert [photograph.key for photograph in read if photograph.refused] == ["train_set/11.jpg", "train_set/12.jpg"]
    write_files(tmp_path, "train_set/images/77.jpg", "train_set/annotations/._0_exp.npy", "train_set/images/15.PNG")
    np.save(tmp_path / "train_set/annotations/15_exp.npy", np.array("6"))
    more = {photograph.key: photograph for photograph in read_affectnet(tmp_path)}
    assert more["train_set/77.jpg"].refused == "it has no annotation of an expression"
    assert more["train_set/15.jpg"].image.name == "15.PNG" and len(more) == len(read) + 2
    assert read[0].image.exists() and read[0].border > 0
    with pytest.raises(CorpusError, match="neither training"):
        list(read_affectnet(tmp_path / "train_set"))


@pytest.mark.parametrize("outer", ["", "KDEF/", "KDEF_and_AKDEF/KDEF/"])
def test_file_names_of_kdef_are_parsed(tmp_path, outer):
    names = ("AF01/AF01AFS.JPG", "AF01/AF01HAFL.JPG", "AM31/AM31NEHR.jpg", "BF01/BF01SUS.JPG", "BM02/BM02DIFR.JPG")
    write_files(tmp_path, *(outer + name for name in (*names, "AM31/AM31H.JPG", "AF01/._AF01ANS.JPG")))
    if outer:
        write_files(tmp_path, "KDEF_and_AKDEF/AKDEF/AFAFS.JPG")  # not a person, but the average of many faces
    read = list(read_kdef(tmp_path))
    assert [
        (photograph.key, photograph.identity, photograph.expression, photograph.split)
        for photograph in read
        if not photograph.refused
    ] == [
        ("AF01/AF01AFS.JPG", "F01", "fear", "1"),
        ("AF01/AF01HAFL.JPG", "F01", "happy", "1"),
        ("AM31/AM31NEHR.jpg", "M31", "neutral", "3"),
        ("BF01/BF01SUS.JPG", "F01", "surprise", "1"),
        ("BM02/BM02DIFR.JPG", "M02", "disgust", "2"),
    ]
    assert read[1].attributes == {"gender": "female", "angle": "full left"}
    assert [(photograph.key, photograph.attributes) for photograph in read if photograph.refused] == [
        ("AM31/AM31H.JPG", {"gender": None, "angle": None})
    ]
    with pytest.raises(CorpusError, match=r"no photograph with a name such as AF01AFS\.JPG"):
        list(read_kdef(write_files(tmp_path / "other", "0.jpg")))


def test_file_names_of_jaffe_are_parsed(tmp_path):
    write_files(tmp_path, *(f"jaffe/{name}" for name in ("KA.AN1.39.tiff", "KA.NE2.27.tiff", "YM.SU3.60.tiff")))
    write_files(tmp_path, "jaffe/README", "jaffe/.DS_Store", "jaffe/KM.SA .tiff", "jaffe/NA.SU1.214 .tiff")
    read = list(read_jaffe(tmp_path))
    assert [
        (photograph.key, photograph.identity, photograph.expression, photograph.split)
        for photograph in read
        if not photograph.refused
    ] == [
        ("KA.AN1.39.tiff", "KA", "anger", "1"),
        ("KA.NE2.27.tiff", "KA", "neutral", "1"),
        ("NA.SU1.214 .tiff", "NA", "surprise", "2"),
        ("YM.SU3.60.tiff", "YM", "surprise", "3"),
    ]
    assert [photograph.key for photograph in read if photograph.refused] == ["KM.SA .tiff"]


RATINGS = (  # a dictionary, a list of emotions with intensities, and lists with one dictionary per annotator
    ({"positive|Elation": 6, "negative|Anger": 0}, "happy"),
    ([{"emotion": "Astonishment/Surprise", "intensity": 5}, {"emotion": "Fear", "intensity": 2}], "surprise"),
    ([{"Anger": 1, "Sadness": 6}, {"Anger": 6, "Sadness": 5}], "sad"),
    ([{"Anger": 7, "Awe": 7}], "ambiguous"),
    ({"Awe": 3, "Fear": 1}, "Awe"),
)


def test_emonet_face_has_the_expression_with_the_highest_rating(tmp_path, faces):
    rows = [{"image": {"bytes": faces[0], "path": None}, "annotations": json.dumps(rating)} for rating, _ in RATINGS]
    features = Features({"image": Image(), "annotations": Value("string")})
    Dataset.from_list(rows, features=features).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    read = list(read_emonet_face(tmp_path))
    assert [photograph.expression for photograph in read] == ["happy", "surprise", "sad", None, None]
    assert [photograph.refused for photograph in read][3:] == [
        "unknown expression 'ambiguous'",
        "unknown expression 'Awe'",
    ]
    assert "emonet_face" in READERS


def test_a_rated_set_is_prepared(tmp_path, faces, capsys):
    for number, code in enumerate((1, 0)):
        write_files(tmp_path / "affectnet", f"val_set/annotations/{number}_lnd.npy")
        np.save(tmp_path / "affectnet" / "val_set" / "annotations" / f"{number}_exp.npy", str(code))
        write_files(tmp_path / "affectnet", f"val_set/images/{number}.jpg")
        (tmp_path / "affectnet" / "val_set" / "images" / f"{number}.jpg").write_bytes(faces[number])
    out = tmp_path / "corpus"
    assert main(["prepare", "affectnet", str(tmp_path / "affectnet"), str(out), "--size", "64", "--workers", "1"]) == 0
    assert "2 of 2 photographs prepared" in capsys.readouterr().out
    assert column(load_corpus(out), "expression") == [4, 0]  # happy, neutral
    assert main(["prepare", "affectnet", str(tmp_path), str(out), "--split", "train"]) == 2
    assert "--split is for hub; affectnet has no such option" in capsys.readouterr().err
