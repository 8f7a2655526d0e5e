"""Readers of CK+ and Oulu-CASIA: first and last frames, folds by person, damaged files."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from face_data.__main__ import main
from face_data.protocol import person_folds
from face_data.readers.sequences import read_ckplus, read_oulucasia
from face_data.table import CorpusError

OULU_EXPRESSIONS = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")


def test_ckplus_has_the_numbers_of_table_1(ckplus):
    photographs = list(read_ckplus(ckplus))
    assert len({photograph.key for photograph in photographs}) == len(photographs) == 1_308
    assert Counter(photograph.expression for photograph in photographs) == {
        "neutral": 327,
        "anger": 135,
        "disgust": 177,
        "fear": 75,
        "happy": 207,
        "sad": 84,
        "surprise": 249,
        "contempt": 54,
    }
    people = {photograph.identity for photograph in photographs}
    assert len(people) == 118 and len(list((ckplus / "cohn-kanade-images").glob("S*"))) == 123
    assert {photograph.identity: photograph.split for photograph in photographs} == person_folds(people)
    assert photographs == list(read_ckplus(ckplus))


def test_ckplus_takes_the_first_frame_and_the_last_three(ckplus):
    sequence = list(read_ckplus(ckplus))[:4]
    assert [(photograph.key, photograph.expression) for photograph in sequence] == [
        ("S005/001/S005_001_00000001.png", "neutral"),
        ("S005/001/S005_001_00000003.png", "anger"),
        ("S005/001/S005_001_00000004.png", "anger"),
        ("S005/001/S005_001_00000005.png", "anger"),
    ]
    assert all(photograph.image.is_file() and photograph.split == "1" for photograph in sequence)


@pytest.fixture
def small_ckplus(ckplus, tmp_path) -> Path:
    """One labelled sequence, in the folders of the unpacked archives."""
    images = "cohn-kanade-images/S005/001"
    shutil.copytree(ckplus / images, tmp_path / "extended-cohn-kanade-images" / images)
    shutil.copytree(ckplus / "Emotion/S005/001", tmp_path / "Emotion_labels/Emotion/S005/001")
    return tmp_path


def test_ckplus_is_read_from_its_unpacked_archives(small_ckplus):
    assert len(list(read_ckplus(small_ckplus))) == 4


@pytest.mark.parametrize("code", ["8.0000000e+00", "-1.0", "1.5", "", "anger", "nan"])
def test_unknown_ckplus_emotions_are_skipped(small_ckplus, code):
    label = next(small_ckplus.rglob("*_emotion.txt"))
    label.write_text(f"   {code}\n")
    [skipped] = read_ckplus(small_ckplus)
    assert skipped.refused == f"expected an emotion code 0 to 7, found {code!r}"
    assert skipped.key.endswith(label.name) and skipped.identity == "S005"


def test_a_damaged_ckplus_is_reported(small_ckplus):
    label = next(small_ckplus.rglob("*_emotion.txt"))
    good = label.read_bytes()
    label.write_bytes(b"\x80\xff")
    [skipped] = read_ckplus(small_ckplus)
    assert "is not UTF-8 text" in skipped.refused
    label.write_bytes(good)

    frames = small_ckplus / "extended-cohn-kanade-images/cohn-kanade-images/S005/001"
    for number in (2, 3):
        (frames / f"S005_001_0000000{number}.png").unlink()
    for count in (3, 0):
        [skipped] = read_ckplus(small_ckplus)
        assert skipped.refused == f"a damaged sequence: {count} frames, and it should have 4 or more"
        assert (skipped.key, skipped.identity) == ("S005/001", "S005")
        shutil.rmtree(frames, ignore_errors=True)
    shutil.rmtree(small_ckplus / "Emotion_labels")
    with pytest.raises(CorpusError, match="Emotion is missing"):
        list(read_ckplus(small_ckplus))


def test_describe_compares_ckplus_with_table_1(ckplus, tmp_path, capsys):
    """The whole command, with all 1,308 photographs. Photographs without a face are skipped, but their labels count."""
    out = tmp_path / "ckplus"
    assert main(["prepare", "ckplus", str(ckplus), str(out), "--size", "64", "--workers", "1"]) == 0
    capsys.readouterr()
    assert main(["describe", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{out}: ckplus, 4 of 1,308 photographs prepared"
    assert lines[-5].split()[:6] == ["1", "4", "1", "1", "3", "0"]  # fold, faces, people, neutral, anger, disgust
    people, happy, others = lines[-3:]
    assert lines[-4] == "  compared with the published numbers, including skipped photographs:"
    assert people.strip().startswith("people: 118 here, 123 in the paper's Table 1 (CK+ has 123 people, 118 of whom")
    assert happy.strip().startswith("happy: 207 here, 147 in the paper's Table 1 (a misprint")
    assert others.strip() == (
        "as in the paper's Table 1: neutral 327, anger 135, disgust 177, fear 75, sad 84, surprise 249, contempt 54"
    )


def write_oulucasia(folder: Path, tiny_image: bytes, people: int = 80, expressions: tuple = OULU_EXPRESSIONS) -> None:
    for person in range(1, people + 1):
        for expression in expressions:
            frames = folder / f"P{person:03d}" / expression
            frames.mkdir(parents=True)
            for frame in range(5):
                (frames / f"{frame:03d}.jpeg").write_bytes(tiny_image)


def test_oulucasia_has_80_people_with_one_neutral_frame_for_each_of_six_expressions(tmp_path, tiny_image):
    write_oulucasia(tmp_path / "OriginalImg" / "VL" / "Strong", tiny_image)
    write_oulucasia(tmp_path / "OriginalImg" / "VL" / "Weak", tiny_image, people=1)
    write_oulucasia(tmp_path / "OriginalImg" / "NI" / "Strong", tiny_image, people=1)
    photographs = list(read_oulucasia(tmp_path))
    assert Counter(photograph.expression for photograph in photographs) == {
        "neutral": 480,
        "anger": 240,
        "disgust": 240,
        "fear": 240,
        "happy": 240,
        "sad": 240,
        "surprise": 240,
    }
    assert len({photograph.key for photograph in photographs}) == len(photographs)
    people = {photograph.identity for photograph in photographs}
    assert people == {f"P{number:03d}" for number in range(1, 81)}
    assert {photograph.identity: photograph.split for photograph in photographs} == person_folds(people)
    assert [(photograph.key, photograph.expression) for photograph in photographs[12:16]] == [
        ("P001/Happiness/000.jpeg", "neutral"),
        ("P001/Happiness/002.jpeg", "happy"),
        ("P001/Happiness/003.jpeg", "happy"),
        ("P001/Happiness/004.jpeg", "happy"),
    ]
    assert photographs == list(read_oulucasia(tmp_path)) == list(read_oulucasia(tmp_path / "OriginalImg"))


@pytest.mark.parametrize("folder", ["B_OriginalImg/OriginalImg/VL", "PreProcess Img/VL_Acquisition", "VL", "VL_Acc"])
def test_oulucasia_is_read_from_any_of_its_folders(tmp_path, tiny_image, folder):
    write_oulucasia(tmp_path / folder / "Strong", tiny_image, people=1, expressions=("anger", "Happy"))
    shown = Counter(photograph.expression for photograph in read_oulucasia(tmp_path))
    assert shown == {"neutral": 2, "anger": 3, "happy": 3}


def test_original_images_of_oulucasia_are_preferred_to_preprocessed_ones(tmp_path, tiny_image):
    for folder in ("A_PreProcess Img/VL_Acquisition", "B_OriginalImg/VL"):
        write_oulucasia(tmp_path / folder / "Strong", tiny_image, people=1, expressions=("Fear",))
    assert {photograph.image.parts[-6] for photograph in read_oulucasia(tmp_path)} == {"B_OriginalImg"}


def test_a_damaged_oulucasia_is_reported(tmp_path, tiny_image):
    with pytest.raises(CorpusError, match="contains no VL/Strong: give Oulu-CASIA's OriginalImg"):
        list(read_oulucasia(tmp_path))
    strong = tmp_path / "VL" / "Strong"
    write_oulucasia(strong, tiny_image, people=1, expressions=("Anger", "Bored"))
    for frame in (0, 1):
        (strong / "P001" / "Anger" / f"00{frame}.jpeg").unlink()
    assert [(photograph.key, photograph.refused) for photograph in read_oulucasia(tmp_path)] == [
        ("P001/Anger", "a damaged sequence: 3 frames, and it should have 4 or more"),
        ("P001/Bored", "unknown expression 'Bored'"),
    ]
