"""Corpora of users: nested or renamed folders, files of operating systems, and changes after the preparation."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import addresses
from face_data.drawn import draw_face, drawn_photograph
from face_data.pairs import lfw_pairs
from face_data.prepare import prepare
from face_data.readers.expressions import read_fer2013, read_ferplus, read_london
from face_data.readers.generic import read_folder, read_unlabelled
from face_data.readers.lfw import lfw_folds, read_facial_expressions, read_lfw
from face_data.table import CorpusError, column, load_corpus
from image_processing_facelivenet import FaceLiveNetImageProcessor

PROCESSOR = FaceLiveNetImageProcessor(size=80)
SYSTEM_FILES = (
    "._0.jpg",
    "@eaDir/0.jpg",
    "@Recycle/0.jpg",
    "__MACOSX/0.jpg",
    "$Recycle.Bin/0.jpg",
    "System Volume Information/0.jpg",
    ".thumbnails/0.jpg",
    "LOST.DIR/0.jpg",
    "FOUND.000/0.jpg",
    "Thumbs.db",
)


def write_images(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path, "JPEG")


def read_people(source: Path) -> list[tuple]:
    return [
        (photograph.key, photograph.identity, photograph.split)
        for photograph in read_folder(source)
        if not photograph.refused
    ]


@pytest.mark.parametrize("outer", ["", "people", "people/people"])
def test_outer_folders_of_an_archive_are_not_people(tmp_path, outer):
    write_images(*(tmp_path / outer / name / "0.jpg" for name in ("anna", "ben")))
    assert read_people(tmp_path) == [("anna/0.jpg", "anna", "all"), ("ben/0.jpg", "ben", "all")]


def test_rotated_photographs_are_turned_upright(tmp_path):
    """The detector finds these drawn faces with a high probability. A photograph without a face is skipped."""
    for number, person in enumerate((1, 5)):
        photograph = drawn_photograph(person, "neutral", 0, seed=3)
        (tmp_path / f"people/{number}").mkdir(parents=True)
        for degrees in (0, 90, 180, 270):
            photograph.rotate(degrees, expand=True).save(tmp_path / f"people/{number}/{degrees:03d}.png")
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "people/0/nobody.png")
    photographs = list(read_folder(tmp_path / "people"))
    summary = prepare(photographs, tmp_path / "turned", layout="folder", processor=PROCESSOR, workers=1)
    assert summary["turned"] == 6 and summary["skipped_by_reason"] == {"no face found": 1}
    rows = load_corpus(tmp_path / "turned").to_list()
    for upright, *others in (rows[:4], rows[4:]):
        for row in others:
            np.testing.assert_allclose(row["landmarks"], upright["landmarks"], atol=3)
            crops = [
                np.asarray(Image.open(io.BytesIO(image["bytes"])), float) for image in (row["image"], upright["image"])
            ]
            assert np.abs(crops[0] - crops[1]).mean() < 5
    summary = prepare(photographs, tmp_path / "published", layout="lfw", processor=PROCESSOR, workers=1)
    assert summary["turned"] == 0  # photographs of published corpora are never turned


def test_folders_with_names_of_splits_are_splits(tmp_path):
    write_images(*(tmp_path / "data" / name for name in ("Train/anna/0.jpg", "Train/ben/0.jpg", "test/cem/0.jpg")))
    assert read_people(tmp_path) == [
        ("Train/anna/0.jpg", "anna", "train"),
        ("Train/ben/0.jpg", "ben", "train"),
        ("test/cem/0.jpg", "cem", "test"),
    ]


def test_splits_in_unusual_folders_are_found(tmp_path):
    """A split in a folder of the same name, a split with another name, an image beside the splits, an empty split."""
    names = ("train/train/anna/0.jpg", "train/train/ben/0.jpg", "test_set/cem/day/0.jpg", "test_set/loose.png")
    write_images(*(tmp_path / "data" / name for name in (*names, "cover.jpg")))
    (tmp_path / "data" / "valid").mkdir()
    assert read_people(tmp_path) == [
        ("test_set/cem/day/0.jpg", "cem", "test_set"),
        ("train/train/anna/0.jpg", "anna", "train"),
        ("train/train/ben/0.jpg", "ben", "train"),
    ]
    refused = {photograph.key: photograph.refused for photograph in read_folder(tmp_path) if photograph.refused}
    assert refused == dict.fromkeys(("cover.jpg", "test_set/loose.png"), "it lies in no person's folder")


@pytest.mark.parametrize("loose", ["cover.jpg", "people/cover.jpg"])
def test_an_image_beside_an_outer_folder_does_not_make_it_a_person(tmp_path, loose):
    write_images(*(tmp_path / name for name in (loose, "people/anna/0.jpg", "people/ben/0.jpg")))
    assert read_people(tmp_path) == [("anna/0.jpg", "anna", "all"), ("ben/0.jpg", "ben", "all")]
    assert [photograph.key for photograph in read_folder(tmp_path) if photograph.refused] == ["cover.jpg"]


@pytest.mark.parametrize(
    "names",
    [
        ("adults/anna/0.jpg", "adults/ben/0.jpg", "children/cem/0.jpg"),
        ("Faces/a/0.jpg", "Faces/b/0.jpg", "Faces/c/0.jpg", "Original/a/0.jpg", "Original/b/0.jpg"),
        ("anna/0.jpg", "more/ben/0.jpg", "more/cem/0.jpg"),
    ],
)
def test_folders_of_groups_of_people_are_refused(tmp_path, names):
    write_images(*(tmp_path / name for name in names))
    with pytest.raises(CorpusError, match=r"contains only folders .*, which may be people"):
        list(read_folder(tmp_path))


def test_folders_of_sessions_belong_to_their_person(tmp_path):
    write_images(*(tmp_path / name for name in ("anna/day/0.jpg", "anna/night/0.jpg", "ben/day/0.jpg")))
    write_images(tmp_path / "Val" / "day" / "0.jpg")  # this person has the name of a split
    assert [identity for _, identity, _ in read_people(tmp_path)] == ["Val", "anna", "anna", "ben"]


def test_split_folders_without_people_are_refused(tmp_path):
    write_images(*(tmp_path / name for name in ("test/0.jpg", "train/0.jpg")))
    with pytest.raises(CorpusError, match=r"test: contains no person's folder, but seems to be a split"):
        list(read_folder(tmp_path))


def test_a_folder_beside_folders_of_splits_is_a_split(tmp_path):
    write_images(*(tmp_path / name for name in ("TRAIN/anna/0.jpg", "Validation/ben/0.jpg", "holdout/cem/0.jpg")))
    assert [(identity, split) for _, identity, split in read_people(tmp_path)] == [
        ("anna", "train"),
        ("ben", "validation"),
        ("cem", "holdout"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_tables_saved_by_excel_are_read_if_they_are_unicode(tmp_path, encoding):
    text = "sep=;\r\npath;identity;expression\r\n0.jpg;Müller;happy\r\n"
    (tmp_path / "people.csv").write_bytes(text.encode(encoding))
    if encoding == "cp1252":
        with pytest.raises(CorpusError, match=r"people\.csv is not UTF-8 text .*: save it as UTF-8"):
            list(read_folder(tmp_path / "people.csv"))
    else:
        [row] = read_folder(tmp_path / "people.csv")
        assert (row.key, row.identity, row.expression) == ("0.jpg", "Müller", "happy")


SUFFIXES = (
    "JPG",
    "jpeg",
    "JPEG",
    "png",
    "PNG",
    "webp",
    "tif",
    "tiff",
    "bmp",
    "gif",
    "jfif",
    "heic",
    "HEIC",
    "avif",
    "jxl",
    "mpo",
    "DNG",
)


def test_every_reader_reads_images_with_every_suffix(tmp_path):
    write_images(*(tmp_path / "images" / f"anna_{number}.{suffix}" for number, suffix in enumerate(SUFFIXES)))
    assert len(list(read_folder(tmp_path))) == len(list(read_unlabelled(tmp_path))) == len(SUFFIXES)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "legend.csv").write_text("image,emotion\n")
    assert len(list(read_facial_expressions(tmp_path))) == len(SUFFIXES)
    (tmp_path / "images" / "info.csv").write_text("face_id,age,gender,ethnicity\nanna,NA,N/A,?\n")
    photographs = list(read_london(tmp_path / "images"))
    assert len(photographs) == len(SUFFIXES) and set(photographs[0].attributes.values()) == {None}


def test_files_of_operating_systems_are_ignored(tmp_path):
    for person in ("anna", "ben"):
        write_images(tmp_path / person / "0.jpg", *(tmp_path / person / name for name in SYSTEM_FILES))
    write_images(*(tmp_path / name for name in SYSTEM_FILES))
    assert [key for key, _, _ in read_people(tmp_path)] == ["anna/0.jpg", "ben/0.jpg"]
    assert len(list(read_unlabelled(tmp_path))) == 2


def test_linked_folders_are_read_and_broken_links_are_listed(tmp_path):
    write_images(tmp_path / "elsewhere" / "0.jpg", tmp_path / "people" / "anna" / "1.jpg")
    people = tmp_path / "people"
    (people / "anna" / "more").symlink_to(tmp_path / "elsewhere")
    (people / "anna" / "back").symlink_to(people)  # following this link would never end
    (people / "anna" / "gone.jpg").symlink_to("/nowhere/gone.jpg")
    assert sorted(photograph.key for photograph in read_unlabelled(people)) == [
        "anna/1.jpg",
        "anna/gone.jpg",
        "anna/more/0.jpg",
    ]


def test_a_link_to_the_folder_of_all_people_is_ignored(tmp_path):
    write_images(tmp_path / "anna" / "0.jpg", tmp_path / "ben" / "0.jpg")
    (tmp_path / "anna" / "all").symlink_to(tmp_path)
    assert read_people(tmp_path) == [("anna/0.jpg", "anna", "all"), ("ben/0.jpg", "ben", "all")]


def test_two_spellings_of_a_name_are_one_person_or_are_refused(tmp_path):
    write_images(*(tmp_path / "people" / name / "0.jpg" for name in ("Zo\u00eb", "Zoe\u0308", "ben")))
    assert {identity for _, identity, _ in read_people(tmp_path / "people")} == {"Zo\u00eb", "ben"}
    rows = "path,identity,expression\n1.jpg,Zo\u00eb,\n2.jpg,Zoe\u0308 ,\n"
    (tmp_path / "people.csv").write_text(rows, encoding="utf-8")
    assert [identity for _, identity, _ in read_people(tmp_path / "people.csv")] == ["Zo\u00eb", "Zo\u00eb"]
    write_images(tmp_path / "people" / "Ben" / "0.jpg")
    with pytest.raises(CorpusError, match=r"people/Ben and ben: if they are one person"):
        read_people(tmp_path / "people")


def test_images_with_unusual_suffixes_are_read(tmp_path, tiny_image):
    for name in ("1", "2.jpg_large", "3.bak", "4.part"):
        (tmp_path / "anna" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "anna" / name).write_bytes(tiny_image)
    for name in ("notes.txt", "5.thm", ".6", "7.xml"):
        (tmp_path / "anna" / name).write_bytes(tiny_image if name in ("5.thm", ".6") else b"P3 of a text")
    assert [key for key, _, _ in read_people(tmp_path)] == ["anna/1", "anna/2.jpg_large", "anna/3.bak", "anna/4.part"]


def test_a_folder_without_a_photograph_is_listed(tmp_path):
    write_images(tmp_path / "anna" / "0.jpg", tmp_path / "ben" / "0.jpg")
    (tmp_path / "cem").mkdir()
    (tmp_path / "dora").mkdir()
    (tmp_path / "dora" / "clip.mp4").write_bytes(b"")
    assert [(photograph.key, photograph.refused) for photograph in read_folder(tmp_path) if photograph.refused] == [
        ("cem", "a folder without a photograph"),
        ("dora", "a folder without a photograph"),
    ]


@pytest.mark.parametrize("cell", ['"Ben', 'Ben,"happy', '"Ben"" Berg'])
def test_a_table_with_an_unclosed_quotation_mark_is_refused(tmp_path, cell):
    rows = ["path,identity,expression", '1.jpg,"Anna ""A"" Berg",happy', '2.jpg,"Cem', 'Kaya",']
    (tmp_path / "people.csv").write_text("\n".join(rows) + "\n\n")
    assert [identity for _, identity, _ in read_people(tmp_path / "people.csv")] == ['Anna "A" Berg', "Cem\nKaya"]
    (tmp_path / "people.csv").write_text("\n".join([*rows, f"3.jpg,{cell}", "4.jpg,Dora,"]))
    with pytest.raises(CorpusError, match=r"people\.csv is damaged: a quotation mark in line 5 or after it is not"):
        read_people(tmp_path / "people.csv")


@pytest.mark.parametrize("start", [b"PK\3\4", b"\x1f\x8b\x08", b"\xd0\xcf\x11\xe0"])
def test_an_archive_or_spreadsheet_instead_of_a_table_is_refused(tmp_path, start):
    (tmp_path / "people.csv").write_bytes(start + bytes(90))
    with pytest.raises(CorpusError, match=r"people\.csv is an archive or a spreadsheet: unpack it"):
        read_people(tmp_path / "people.csv")


def test_a_repeated_column_name_is_refused(tmp_path):
    (tmp_path / "people.csv").write_text("path,identity,expression,identity\n1.jpg,a,,b\n")
    with pytest.raises(CorpusError, match="the column identity is there twice"):
        read_people(tmp_path / "people.csv")


def test_pairs_with_damaged_numbers_or_encoding_are_reported(tmp_path):
    (tmp_path / "pairs.txt").write_text("1\t1\nAnna\t1\tx\nAnna\t1\tBen\t1\n")
    with pytest.raises(CorpusError, match=r"pairs\.txt, pair 1: expected `name n1 n2`, found `Anna 1 x`"):
        lfw_pairs(tmp_path / "pairs.txt")
    (tmp_path / "pairs.txt").write_bytes(b"1\t1\nJos\xe9\t1\t2\nAnna\t1\tBen\t1\n")
    with pytest.raises(CorpusError, match=r"pairs\.txt is not UTF-8 text"):
        lfw_pairs(tmp_path / "pairs.txt")


def test_linked_members_of_an_archive_are_read(tmp_path):
    """If a file occurs twice, tar stores the second one as a link to the first."""
    write_images(tmp_path / "Anna_0001.jpg")
    (tmp_path / "people.txt").write_text("1\n1\nAnna\t3\n")
    with tarfile.open(tmp_path / "lfw-deepfunneled.tgz", "w:gz") as archive:
        archive.add(tmp_path / "Anna_0001.jpg", "lfw-deepfunneled/Anna/Anna_0001.jpg")
        for number, target in ((2, "lfw-deepfunneled/Anna/Anna_0001.jpg"), (3, "lfw-deepfunneled/gone.jpg")):
            member = tarfile.TarInfo(f"lfw-deepfunneled/Anna/Anna_000{number}.jpg")
            member.type, member.linkname = tarfile.LNKTYPE, target
            archive.addfile(member)
    first, again, gone = read_lfw(tmp_path)
    assert first.image == again.image and again.key == "Anna/Anna_0002.jpg"
    assert not gone.image.exists()  # so the preparation skips and lists it


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])
def test_damaged_archives_of_all_kinds_are_named(tmp_path, kind):
    (tmp_path / "people.txt").write_text("1\n1\nAnna\t1\n")
    for number in range(40):
        (tmp_path / f"Anna_{number:04d}.jpg").write_bytes(os.urandom(500) * 10)
    path = tmp_path / "lfw-deepfunneled.tgz"
    with tarfile.open(path, f"w:{kind}") as archive:
        for number in range(40):
            archive.add(tmp_path / f"Anna_{number:04d}.jpg", f"lfw-deepfunneled/Anna/Anna_{number:04d}.jpg")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 500] = bytes(500)
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=r"lfw-deepfunneled\.tgz is damaged or incomplete"):
        list(read_lfw(tmp_path))


@pytest.mark.parametrize("packed", [False, True])
def test_lfw_with_capitals_system_files_and_spaces_is_read(tmp_path, packed):
    inner = tmp_path / "lfw-deepfunneled"
    write_images(
        inner / "Anna_Berg" / "Anna_Berg_0001.JPG", inner / "._Anna_Berg_0001.jpg", inner / "Ben" / "Ben_0001.jpeg"
    )
    write_images(inner / "Anna_Berg" / "@eaDir" / "Anna_Berg_0001.jpg")
    (tmp_path / "people.txt").write_text("\ufeff1\n2\nAnna_Berg  1\nBen 1\n", encoding="utf-8")
    if packed:
        with tarfile.open(tmp_path / "lfw-deepfunneled.tgz", "w:gz") as archive:
            archive.add(inner, "./lfw-deepfunneled")
        inner.rename(tmp_path / "elsewhere")
    keys = [photograph.key for photograph in read_lfw(tmp_path)]  # the keys that pairs.txt uses
    assert sorted(keys) == ["Anna_Berg/Anna_Berg_0001.jpg", "Ben/Ben_0001.jpg"]
    assert lfw_folds(tmp_path / "people.txt") == {"Anna_Berg": "1", "Ben": "1"}
    (tmp_path / "pairs.txt").write_text("\ufeff1 1\nBen 1 2\nAnna_Berg 1 Ben 1\n", encoding="utf-8")
    assert len(lfw_pairs(tmp_path / "pairs.txt")) == 2


def test_fer2013_in_the_format_of_the_challenge_is_read(tmp_path):
    path = tmp_path / "icml_face_data.csv"
    path.write_text("emotion, Usage, pixels\n3,Training," + " ".join(["7"] * 2304) + "\n\n3,Training\n")
    first, short = read_fer2013(path)
    assert first.expression == "happy" and first.refused is None and "0 pixels" in short.refused
    pixels = " ".join(["7"] * 2304).encode()
    rows = [
        b'3,"7 7,Training',
        b"3,%s,Training\xff" % pixels,
        b"4,%s,Training" % pixels,
    ]  # unclosed; not UTF-8
    path.write_bytes(b"emotion,pixels,Usage\r\n" + b"\r\n".join(rows))
    unclosed, not_utf8, last = read_fer2013(path)
    assert "line 2, " in unclosed.refused and "line 3, " in not_utf8.refused
    assert last.expression == "sad" and not last.refused


def test_ferplus_photographs_without_votes_are_skipped_and_listed(tmp_path):
    for name in ("FER2013Train", "FER2013Valid"):
        write_images(tmp_path / name / "fer0000000.PNG", tmp_path / name / "fer0000001.PNG")
        (tmp_path / name / "label.csv").write_text('fer0000000.png,"(0, 0, 48, 48)",0,9,1,0,0,0,0,0,0,0\n')
    found = list(read_ferplus(tmp_path))
    assert [photograph.refused for photograph in found] == [None, "label.csv holds no ten votes for it"] * 2


# Preparing again


@pytest.fixture
def source(tmp_path) -> Path:
    for person in range(3):
        for number in range(2):
            path = tmp_path / "people" / f"p{person}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw_face(person, "neutral", np.random.default_rng(number)).save(path)
    draw_face(9, "neutral", np.random.default_rng(9)).save(tmp_path / "people" / "loose.png")
    return tmp_path / "people"


def prepare_folder(source: Path, out: Path) -> dict:
    settings = {"layout": "folder", "processor": PROCESSOR, "workers": 1, "shard_size": 3}
    return prepare(read_folder(source), out, **settings)


def test_a_changed_source_is_refused(source, tmp_path):
    out = tmp_path / "out"
    summary = prepare_folder(source, out)
    assert (summary["prepared"], summary["skipped_by_reason"]) == (6, {"it lies in no person's folder": 1})
    assert prepare_folder(source, out) == summary
    assert sorted(set(column(load_corpus(out), "identity"))) == ["p0", "p1", "p2"]
    (shard_note := out / "part-00001.json").stat()
    note_before = shard_note.read_bytes()

    def assert_refused(match: str) -> None:
        with pytest.raises(CorpusError, match=match):
            prepare_folder(source, out)

    replaced_image = source / "p1" / "0.png"
    content, times = replaced_image.read_bytes(), (replaced_image.stat().st_atime_ns, replaced_image.stat().st_mtime_ns)
    draw_face(7, "neutral", np.random.default_rng(7)).save(replaced_image)
    assert_refused("the source changed since .an image or a label was replaced.; remove")
    replaced_image.write_bytes(content)
    os.utime(replaced_image, ns=times)
    assert prepare_folder(source, out) == summary

    (source / "p1").rename(tmp_path / "withdrawn")
    assert_refused("p1/0.png was removed")
    (tmp_path / "withdrawn").rename(source / "p3")  # the same number of photographs, but of another person
    assert_refused("the source changed since")
    (source / "p3").rename(source / "p1")
    (source / "loose.png").unlink()
    assert_refused("the source changed since")
    assert shard_note.read_bytes() == note_before


def test_a_source_with_fewer_photographs_is_refused(source, tmp_path):
    out = tmp_path / "out"
    prepare_folder(source, out)
    (source / "p2" / "1.png").unlink()  # the only photograph of the last shard
    with pytest.raises(CorpusError, match="the source has fewer photographs than before"):
        prepare_folder(source, out)


def test_a_replaced_image_of_the_same_size_and_date_is_refused(source, tmp_path):
    """Copying with preserved dates creates such a file."""
    out = tmp_path / "out"
    summary = prepare_folder(source, out)
    path = source / "p1" / "0.png"
    content, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(content)
    os.utime(path, ns=times)
    assert prepare_folder(source, out) == summary  # the same content, written again
    path.write_bytes(content[:-20] + bytes(20))
    os.utime(path, ns=times)
    with pytest.raises(CorpusError, match="an image was replaced by one of the same size and date"):
        prepare_folder(source, out)


def test_incomplete_shards_of_a_killed_run_are_prepared_again(source, tmp_path):
    out = tmp_path / "out"
    summary = prepare_folder(source, out)
    (out / "part-00001.json").write_bytes((out / "part-00001.json").read_bytes()[:40])
    (out / "part-00002.parquet").unlink()
    with pytest.raises(CorpusError, match=r"part-00002\.parquet is missing: run the preparation again"):
        load_corpus(out)
    # from a time when the source had more photographs
    (out / "part-00007.parquet").write_bytes((out / "part-00000.parquet").read_bytes())
    with pytest.raises(CorpusError, match="run the preparation again to complete the corpus"):
        load_corpus(out)
    assert prepare_folder(source, out)["prepared"] == summary["prepared"]
    assert sorted(column(load_corpus(out), "key")) == sorted(key for key, _, _ in read_people(source))


def test_a_pipe_among_the_photographs_is_skipped(source, tmp_path):
    """Opening a pipe would wait until another process writes to it."""
    os.mkfifo(source / "p1" / "2.jpg")
    summary = prepare_folder(source, tmp_path / "out")
    assert {row["key"]: row["reason"] for row in summary["skipped"]}["p1/2.jpg"] == "a pipe, not a file"


@pytest.mark.parametrize("part", ["part-00000.parquet", "part-00002.parquet"])
@pytest.mark.parametrize("content", [b"", b"PAR1" + bytes(200)])
def test_a_damaged_shard_is_named(source, tmp_path, part, content):
    out = tmp_path / "out"
    prepare_folder(source, out)
    (out / part).write_bytes(content)
    with pytest.raises(CorpusError, match=rf"{part} is damaged \(.*\); remove it and run the preparation again"):
        load_corpus(out)


@pytest.mark.parametrize("content", ["[]", '"text"', "null", "7"])
def test_a_damaged_summary_is_named(tmp_path, content):
    (tmp_path / "corpus.json").write_text(content)
    with pytest.raises(CorpusError, match=r"corpus\.json is damaged \(it holds"):
        load_corpus(tmp_path.as_uri())


@pytest.mark.parametrize("columns", [None, ["key", "identity"]])
def test_a_corpus_at_an_address_without_a_shard_is_refused(source, tmp_path, monkeypatch, columns):
    monkeypatch.setenv("FACELIVENET_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    summary = prepare_folder(source, out)
    assert len(load_corpus(out.as_uri(), columns=columns)) == summary["prepared"]
    (out / "part-00001.parquet").unlink()
    addresses._copy.cache_clear()
    with pytest.raises(CorpusError, match=r"part-00001\.parquet is missing: run the preparation again"):
        load_corpus(out.as_uri(), columns=columns)


def test_a_full_disk_is_reported(source, tmp_path):
    resource = pytest.importorskip("resource")
    out = tmp_path / "out"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(CorpusError, match=r"part-00000\.parquet cannot be written: .*; the same command continues"):
            prepare_folder(source, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in out.iterdir()] == ["corpus.json"]
    assert prepare_folder(source, out)["prepared"] == 6


@pytest.mark.skipif(os.name != "posix", reason="file names are Unicode there")
def test_folder_names_that_are_not_utf8_are_read(source, tmp_path):
    """Unpacking an archive from Windows on another system creates such names."""
    person = os.fsencode(source) + b"/M\xfcller"
    os.mkdir(person)
    (source / "p0" / "0.png").rename(os.fsdecode(person + b"/0.png"))
    assert prepare_folder(source, tmp_path / "out")["prepared"] == 6
    corpus = load_corpus(tmp_path / "out")
    assert "M\\xfcller" in column(corpus, "identity") and "M\\xfcller/0.png" in column(corpus, "key")
    assert prepare_folder(source, tmp_path / "out")["prepared"] == 6


def test_a_replaced_image_in_memory_is_refused(tmp_path):
    from face_data.readers import Photograph

    def encoded(person: int) -> bytes:
        file = io.BytesIO()
        draw_face(person, "neutral", np.random.default_rng(0)).save(file, "PNG")
        return file.getvalue()

    settings = {"layout": "folder", "processor": PROCESSOR, "workers": 1}
    prepare([Photograph("a", encoded(0), "anna")], tmp_path / "out", **settings)
    for other in (Photograph("a", encoded(1), "anna"), Photograph("a", encoded(0), "ben")):
        with pytest.raises(CorpusError, match="an image or a label was replaced"):
            prepare([other], tmp_path / "out", **settings)


def test_empty_cells_are_missing_values(tmp_path):
    """`nan` is not the name of a person. An incomplete row does not stop the reader."""
    table = tmp_path / "people.csv"
    rows = ("0.jpg,nan,N/A,x", "1.jpg, anna ,happy,?", "2.jpg,NA,,", "3.jpg,,nan,y")
    table.write_text("path,identity,expression,site\n" + "\n".join(rows))
    read = [
        (photograph.identity, photograph.expression, photograph.attributes["site"]) for photograph in read_folder(table)
    ]
    assert read == [(None, None, "x"), ("anna", "happy", None), (None, None, None), (None, None, "y")]
    write_images(tmp_path / "images" / "anna_1.jpg", tmp_path / "images" / "anna_2.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "legend.csv").write_text("user.id,image,emotion\n1,anna_1.jpg,\n2,anna_2.jpg,Happiness\n3\n")
    assert [photograph.expression for photograph in read_facial_expressions(tmp_path)] == [None, "happy"]
    for name in ("FER2013Train", "FER2013Valid"):
        write_images(tmp_path / name / "fer0000000.png")
        (tmp_path / name / "label.csv").write_text('fer0000000.png,"(0, 0, 48, 48)",0,9,x,0,0,0,0,0,0,0\n')
    assert {photograph.refused for photograph in read_ferplus(tmp_path)} == {"label.csv holds no ten votes for it"}
