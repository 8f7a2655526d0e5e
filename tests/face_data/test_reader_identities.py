"""Readers of corpora of people: MS-Celeb-1M in three layouts, CASIA-WebFace, VGGFace2, CelebA, YouTube Faces."""

import base64
import io
import struct
from pathlib import Path

import PIL.Image
import pytest

from face_data.__main__ import main
from face_data.pairs import Pair, read_pairs, ytf_pairs
from face_data.readers.identities import read_casia_webface, read_celeba, read_ms1m, read_vggface2, read_ytf
from face_data.readers.recordio import MAGIC, read_recordio, read_records
from face_data.table import CorpusError, load_corpus
from image_processing_facelivenet import FaceLiveNetImageProcessor


def summaries(photographs) -> list[tuple]:
    return [(photograph.key, photograph.identity, photograph.split) for photograph in photographs]


def write_files(source: Path, *names: str) -> Path:
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"picture")
    return source


# RecordIO


def encode_record(content: bytes) -> bytes:
    """A record in the format of MXNet.

    MXNet splits the content where MAGIC is at a multiple of 4, and pads each part to a multiple of 4.
    """
    cuts = [place for place in range(0, len(content) // 4 * 4, 4) if content[place : place + 4] == MAGIC]
    parts = [content[start:end] for start, end in zip([0, *(cut + 4 for cut in cuts)], [*cuts, None], strict=True)]
    kinds = [1, *[2] * (len(parts) - 2), 3] if cuts else [0]
    return b"".join(
        MAGIC + struct.pack("<I", kind << 29 | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )


def record_content(label: float | tuple[float, ...], number: int, picture: bytes = b"") -> bytes:
    several = label if isinstance(label, tuple) else ()
    head = struct.pack("<IfQQ", len(several), 0 if several else label, number, 0)
    return head + struct.pack(f"<{len(several)}f", *several) + picture


def write_recordio(folder: Path, people: list[tuple[float, bytes]]) -> Path:
    """Write `train.rec`, `train.idx` and `property` in the format of InsightFace."""
    folder.mkdir(parents=True, exist_ok=True)
    first = len(people) + 1
    contents = [record_content((float(first), float(first + 1)), 0)]
    contents += [record_content(label, number, picture) for number, (label, picture) in enumerate(people, start=1)]
    contents += [record_content((1.0, float(first)), first)]
    (folder / "property").write_text("2,112,112\n")
    written, lines = b"", []
    for number, content in enumerate(contents):
        lines.append(f"{number}\t{len(written)}\n")
        written += encode_record(content)
    (folder / "train.idx").write_text("".join(lines))
    (folder / "train.rec").write_bytes(written)
    return folder / "train.rec"


@pytest.mark.parametrize(
    "content",
    [b"", b"a", b"abcd", MAGIC, MAGIC * 3, b"ab" + MAGIC + b"c", b"abcd" + MAGIC, b"abcd" + MAGIC + b"e" + MAGIC * 2],
)
def test_written_records_are_read_unchanged(tmp_path, content):
    path = tmp_path / "train.rec"
    path.write_bytes(encode_record(b"first") + encode_record(content) + encode_record(b"last"))
    assert [read for _, read in read_records(path)] == [b"first", content, b"last"]
    assert [position for position, _ in read_records(path)][:2] == [0, 16]


def test_recordio_yields_images_but_not_tables(tmp_path):
    pictures = [b"\xff\xd8 one", b"\xff\xd8two" + bytes(3) + MAGIC + b"end", b"\xff\xd8three"]
    path = write_recordio(tmp_path, [(0, pictures[0]), ((1.0, 0.5), pictures[1]), (85_741, pictures[2])])
    photographs = list(read_recordio(path))
    assert summaries(photographs) == [
        ("0/00000001", "0", "train"),
        ("1/00000002", "1", "train"),
        ("85741/00000003", "85741", "train"),
    ]
    assert [photograph.image for photograph in photographs] == pictures
    for reader in (read_ms1m, read_casia_webface):
        assert list(reader(tmp_path)) == photographs


def test_a_truncated_recordio_is_reported_with_its_position(tmp_path):
    path = write_recordio(tmp_path, [(0, b"\xff\xd8 one"), (1, b"\xff\xd8" + MAGIC + b"two")])
    complete_file = path.read_bytes()
    starts = [position for position, _ in read_records(path)]  # of the header, two images and the table of people
    for length in range(1, len(complete_file)):
        path.write_bytes(complete_file[:length])
        if length == starts[3]:  # only the table is missing
            assert len(list(read_recordio(path))) == 2
            continue
        records = starts.index(length) if length in starts else None
        message = "byte .*: the file ends within" if records is None else f" ends after {records} of at least 3"
        with pytest.raises(CorpusError, match=rf"train\.rec.*{message}"):
            list(read_recordio(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1f\x8b\x08\x00 a gzip file", r"train\.rec, byte 0: no record begins here"),
        (encode_record(record_content(0, 1, b"one")) + b"rubbish", r"byte 36: no record begins here"),
        (encode_record(b"short"), "byte 0: this record has no label"),
        (encode_record(record_content(float("nan"), 1, b"one")), "byte 0: this record has no label"),
        (encode_record(struct.pack("<IfQQ", 900, 0, 0, 0)), "byte 0: this record has no label"),
        (MAGIC + struct.pack("<I", 2 << 29), "byte 0: a part of a record at a wrong place"),
        (MAGIC + struct.pack("<I", 1 << 29) + encode_record(b"whole"), "byte 8: a part of a record at a wrong place"),
        (MAGIC + struct.pack("<I", 5 << 29), "byte 0: a part of a record at a wrong place"),
        (MAGIC + struct.pack("<I", 1 << 29), "byte 0: the file ends within this record"),
    ],
)
def test_a_damaged_recordio_is_reported_with_its_position(tmp_path, content, message):
    (tmp_path / "train.rec").write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        list(read_recordio(tmp_path / "train.rec"))


def test_a_recordio_of_aligned_faces_is_prepared(tmp_path, faces, tiny_image, capsys):
    """The whole command, with the detector. The images have 112 pixels, as in InsightFace; one has no face."""
    crops = []
    for face in faces:
        picture = PIL.Image.open(io.BytesIO(face))
        left, top, right, bottom = FaceLiveNetImageProcessor().detect(picture)[0].box.tolist()
        side, file = (bottom - top) * 0.55, io.BytesIO()
        x, y = (left + right) / 2, (top + bottom) / 2
        picture.crop((x - side, y - side, x + side, y + side)).resize((112, 112)).save(file, "JPEG")
        crops.append(file.getvalue())
    write_recordio(tmp_path / "faces_ms1m_112x112", [(7, crops[0]), (8, tiny_image), (8, crops[1]), (9, crops[2])])
    out = tmp_path / "out"
    command = ["prepare", "ms1m", str(tmp_path / "faces_ms1m_112x112"), str(out), "--size", "64", "--workers", "1"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "3 of 4 photographs prepared\n  skipped 1: no face found" in printed
    assert "published" not in printed  # each release of MS-Celeb-1M has other numbers
    rows = [(row["key"], row["identity"], row["split"]) for row in load_corpus(out)]
    assert rows == [("7/00000001", "7", "train"), ("8/00000003", "8", "train"), ("9/00000004", "9", "train")]
    assert main(command) == 0  # all shards exist already


# MS-Celeb-1M as published by Microsoft


def ms1m_row(mid: str = "m.0107_f", rank: int = 1, face: str = "FaceId-0", picture: bytes = b"picture") -> bytes:
    rectangle = base64.b64encode(struct.pack("<4f", 0, 0, 1, 1))
    fields = [mid, str(rank), "http://example.org/a.jpg", "http://example.org/", face]
    return b"\t".join([*(field.encode() for field in fields), rectangle, base64.b64encode(picture)])


@pytest.fixture
def tsv(tmp_path) -> Path:
    path = tmp_path / "data" / "aligned_face_images" / "FaceImageCroppedWithAlignment.tsv"
    path.parent.mkdir(parents=True)
    path.write_bytes(
        ms1m_row(picture=b"one") + b"\n" + ms1m_row(rank=2, picture=b"two") + b"\r\n" + ms1m_row("m.02", 1, "FaceId-3")
    )
    return path


def test_ms1m_rows_are_read(tsv, tmp_path):
    photographs = list(read_ms1m(tsv))
    assert summaries(photographs) == [
        ("m.0107_f/1-FaceId-0.jpg", "m.0107_f", "train"),
        ("m.0107_f/2-FaceId-0.jpg", "m.0107_f", "train"),
        ("m.02/1-FaceId-3.jpg", "m.02", "train"),
    ]
    assert [photograph.image for photograph in photographs] == [b"one", b"two", b"picture"]
    assert list(read_ms1m(tsv.parent)) == list(read_ms1m(tmp_path)) == photographs


MALFORMED = pytest.mark.parametrize(
    "line",
    [
        ms1m_row()[:-2],
        ms1m_row().rsplit(b"\t", 1)[0],
        ms1m_row() + b"\textra",
        b"",
        b"<html>",
        ms1m_row()[:-4] + b"!!!!",
        b"\xff" + ms1m_row(),
    ],
)


@MALFORMED
def test_malformed_ms1m_rows_are_skipped(tsv, line):
    tsv.write_bytes(b"\xef\xbb\xbf" + ms1m_row() + b"\n" + line + b"\n" + ms1m_row())
    first, skipped, last = read_ms1m(tsv)
    assert skipped.refused.startswith("a damaged row: line 2, expected 7 columns, from a Freebase MID")
    assert first == last and not first.refused


@MALFORMED
def test_another_or_truncated_file_instead_of_ms1m_is_refused(tsv, line):
    for number, content in ((1, line + b"\n" + ms1m_row()), (2, ms1m_row() + b"\n" + line)):
        if number == 2 and not line:
            continue  # the file ends with a complete row
        tsv.write_bytes(content)
        with pytest.raises(CorpusError, match=rf"Alignment\.tsv, line {number}: expected 7 columns"):
            list(read_ms1m(tsv))


def test_ms1m_with_one_folder_for_each_person_is_read(tmp_path):
    write_files(
        tmp_path, "m.02/1-FaceId-3.jpg", "m.0107_f/2-FaceId-0.jpg", "m.0107_f/10-FaceId-0.jpg", "m.02/notes.txt"
    )
    assert summaries(read_ms1m(tmp_path)) == [
        ("m.0107_f/10-FaceId-0.jpg", "m.0107_f", "train"),
        ("m.0107_f/2-FaceId-0.jpg", "m.0107_f", "train"),
        ("m.02/1-FaceId-3.jpg", "m.02", "train"),
    ]
    write_files(tmp_path, "Anna_Berg/1.jpg", "loose.JPG")
    assert {photograph.key: photograph.refused for photograph in read_ms1m(tmp_path) if photograph.refused} == {
        "loose.JPG": "it lies in no person's folder",
        "Anna_Berg/1.jpg": "its folder Anna_Berg is not a Freebase MID",
    }
    with pytest.raises(CorpusError, match=r"Anna_Berg is not a Freebase MID; .* use the layout `folder`"):
        list(read_ms1m(write_files(tmp_path / "others", "Anna_Berg/1.jpg")))


# Folders


@pytest.mark.parametrize("outer", ["", "CASIA-WebFace"])
def test_casia_webface(tmp_path, outer):
    write_files(tmp_path / outer, "0000045/001.jpg", "0000045/002.jpg", "0000099/001.jpg")
    write_files(tmp_path, ".cache/x.jpg", "0000045/Thumbs.db")
    photographs = list(read_casia_webface(tmp_path))
    assert summaries(photographs) == [
        ("0000045/001.jpg", "0000045", "train"),
        ("0000045/002.jpg", "0000045", "train"),
        ("0000099/001.jpg", "0000099", "train"),
    ]
    assert all(photograph.image.read_bytes() == b"picture" for photograph in photographs)
    write_files(tmp_path / outer, "m.02/1.jpg")
    [refused] = [photograph.refused for photograph in read_casia_webface(tmp_path) if photograph.refused]
    assert refused == "its folder m.02 is not the number of a person"


@pytest.mark.parametrize("outer", ["", "data", "VGG-Face2/data"])
def test_vggface2(tmp_path, outer):
    write_files(tmp_path / outer, "train/n000002/0001_01.jpg", "train/n000003/0001_01.jpg", "test/n000001/0002_01.jpg")
    assert summaries(read_vggface2(tmp_path)) == [
        ("n000002/0001_01.jpg", "n000002", "train"),
        ("n000003/0001_01.jpg", "n000003", "train"),
        ("n000001/0002_01.jpg", "n000001", "test"),
    ]


def test_one_part_of_vggface2_is_read_and_other_folders_are_refused(tmp_path):
    write_files(tmp_path / "one", "test/n000001/0002_01.jpg")
    assert summaries(read_vggface2(tmp_path / "one")) == [("n000001/0002_01.jpg", "n000001", "test")]
    with pytest.raises(CorpusError, match="train is missing"):
        list(read_vggface2(write_files(tmp_path / "other", "n000001/0002_01.jpg")))
    with pytest.raises(CorpusError, match="data contains neither train nor test"):
        list(read_vggface2(write_files(tmp_path / "third", "data/n000001/0002_01.jpg")))
    with pytest.raises(CorpusError, match="Anna is not the number of a person such as n000002"):
        list(read_vggface2(write_files(tmp_path / "fourth", "train/Anna/1.jpg")))


@pytest.fixture(params=[("img_celeba", "", ""), ("Img/img_align_celeba", "Anno", "Eval")])
def celeba(request, tmp_path) -> Path:
    images, anno, evaluation = request.param
    write_files(tmp_path / images, "000001.jpg", "000002.jpg", "000003.jpg")
    (tmp_path / anno).mkdir(exist_ok=True)
    (tmp_path / evaluation).mkdir(exist_ok=True)
    (tmp_path / anno / "identity_CelebA.txt").write_text("000001.jpg 2880\n000002.jpg 2937\n000003.jpg 2880\n")
    (tmp_path / evaluation / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n")
    return tmp_path


def test_celeba(celeba):
    photographs = list(read_celeba(celeba))
    assert summaries(photographs) == [
        ("000001.jpg", "2880", "train"),
        ("000002.jpg", "2937", "valid"),
        ("000003.jpg", "2880", "test"),
    ]
    assert all(photograph.image.is_file() for photograph in photographs)


def test_a_damaged_celeba_is_reported(celeba):
    identities, partition = next(celeba.rglob("identity*")), next(celeba.rglob("list*"))
    partition.write_text("000001.jpg 0\n000002.jpg 7\n")
    assert [photograph.refused for photograph in read_celeba(celeba)] == [
        None,
        *["list_eval_partition.txt has no 0, 1 or 2 for it"] * 2,
    ]
    identities.write_text("202599\n000001.jpg 2880\n")
    damaged, good = read_celeba(celeba)
    assert damaged.refused == "a damaged row: line 1, expected an image and a number, found '202599'"
    assert good.identity == "2880" and not good.refused
    identities.write_bytes(b"000001.jpg \xff\n")
    with pytest.raises(CorpusError, match=r"identity_CelebA\.txt is not UTF-8 text"):
        list(read_celeba(celeba))
    for path in (partition, identities):
        path.unlink()
        with pytest.raises(CorpusError, match=f"{path.name} is missing"):
            list(read_celeba(celeba))


# YouTube Faces

YTF_SPLITS = """split number, pair number, first name, second name, is same
1, 1, Anna_Berg/0, Anna_Berg/1, 1
1, 2, Anna_Berg/1, Cem_Kaya/0, 0
2, 1, Dana_Li/2, Eve_Roy/0, 0
"""


@pytest.fixture(params=["frame_images_DB", "aligned_images_DB"])
def ytf(request, tmp_path) -> Path:
    prefix = "aligned_detect_" if request.param.startswith("aligned") else ""
    videos = ("Anna_Berg/0", "Anna_Berg/1", "Cem_Kaya/0", "Dana_Li/2", "Eve_Roy/0", "Fay_Wu/0")
    write_files(tmp_path / request.param, *(f"{video}/{prefix}0.{frame}.jpg" for video in videos for frame in (1, 2)))
    (tmp_path / request.param / "Anna_Berg.labeled_faces.txt").write_text("0\\0.1.jpg,0,1,2\n")
    (tmp_path / "splits.txt").write_text(YTF_SPLITS)
    return tmp_path


def test_ytf_frames_are_in_the_folds_of_their_people(ytf):
    photographs = list(read_ytf(ytf))
    assert len(photographs) == 12
    name = "aligned_detect_0.1.jpg" if (ytf / "aligned_images_DB").exists() else "0.1.jpg"
    assert summaries(photographs)[2] == (f"Anna_Berg/1/{name}", "Anna_Berg", "1")
    assert {photograph.identity: photograph.split for photograph in photographs} == {
        "Anna_Berg": "1",
        "Cem_Kaya": "1",
        "Dana_Li": "2",
        "Eve_Roy": "2",
        "Fay_Wu": "unpaired",
    }


@pytest.mark.parametrize("splits", [None, YTF_SPLITS + "2, 2, Anna_Berg/0, Eve_Roy/0, 0\n"])
def test_ytf_without_person_disjoint_folds_has_one_split(ytf, splits):
    (ytf / "splits.txt").unlink() if splits is None else (ytf / "splits.txt").write_text(splits)
    assert {photograph.split for photograph in read_ytf(ytf)} == {"all"}


@pytest.mark.parametrize("text", [YTF_SPLITS, YTF_SPLITS.replace(", 1, ", ", ").replace("1, 2, Anna", "1, Anna")])
def test_ytf_pairs_compare_videos(tmp_path, text):
    (tmp_path / "splits.txt").write_text(text)
    assert ytf_pairs(tmp_path / "splits.txt") == [
        Pair(1, "Anna_Berg/0", "Anna_Berg/1", True),
        Pair(1, "Anna_Berg/1", "Cem_Kaya/0", False),
        Pair(2, "Dana_Li/2", "Eve_Roy/0", False),
    ]


@pytest.mark.parametrize(
    "line",
    ["1, Anna_Berg/0, 1", "x, 1, Anna_Berg/0, Cem_Kaya/0, 0", "1, 1, Anna_Berg, Cem_Kaya/0, 0", "1, 1, A/0, B/1, 2"],
)
def test_damaged_ytf_splits_are_refused(ytf, line):
    (ytf / "splits.txt").write_text(YTF_SPLITS + line + "\n")
    with pytest.raises(CorpusError, match=r"splits\.txt, line 5: expected `split, pair, Name/0, Name/1, 0 or 1`"):
        list(read_ytf(ytf))


def test_ytf_is_prepared_with_its_pairs(tmp_path, faces, capsys):
    """The whole command, with the detector, for three videos with one frame each. One frame is damaged."""
    for video, picture in zip(("Anna_Berg/0", "Anna_Berg/1", "Cem_Kaya/0"), (*faces[:2], b"damaged"), strict=True):
        path = tmp_path / "YouTubeFaces" / "frame_images_DB" / video / "0.1.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(picture)
    (tmp_path / "YouTubeFaces" / "splits.txt").write_text("\n".join(YTF_SPLITS.splitlines()[:3]))
    out = tmp_path / "out"
    assert main(["prepare", "ytf", str(tmp_path / "YouTubeFaces"), str(out), "--size", "64", "--workers", "1"]) == 0
    assert [(row["key"], row["split"]) for row in load_corpus(out)] == [
        ("Anna_Berg/0/0.1.jpg", "1"),
        ("Anna_Berg/1/0.1.jpg", "1"),
    ]
    assert read_pairs(out) == [Pair(1, "Anna_Berg/0", "Anna_Berg/1", True), Pair(1, "Anna_Berg/1", "Cem_Kaya/0", False)]
    printed = capsys.readouterr().out
    assert "videos: 3 here, 3,425 in the publisher's description: 3,422 missing, so the source is not" in printed
    assert "people: 2 here, 1,595 in the publisher's description: 1,593 missing" in printed


@pytest.mark.parametrize(
    ("reader", "missing"), [(read_celeba, "img_celeba"), (read_vggface2, "train"), (read_ytf, "frame_images_DB")]
)
def test_empty_folders_are_refused(tmp_path, reader, missing):
    with pytest.raises(CorpusError, match=f"{missing} is missing: give the folder as its publisher ships it"):
        list(reader(tmp_path))
    assert list(read_ms1m(tmp_path)) == list(read_casia_webface(tmp_path)) == []  # `prepare` refuses them
