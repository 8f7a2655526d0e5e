"""The preparation of a corpus, with the real detector and real worker processes."""

import io
import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, load_dataset
from PIL import Image

from face_data.drawn import draw_face, drawn_photograph
from face_data.prepare import prepare
from face_data.readers import Photograph
from face_data.table import (
    CORPUS_EXPRESSIONS,
    FEATURES,
    CorpusError,
    attributes_of,
    column,
    features_with,
    load_corpus,
    read_summary,
    shards_of,
)
from image_processing_facelivenet import FaceLiveNetImageProcessor

PROCESSOR = FaceLiveNetImageProcessor(size=96, alignment="margin")


def draw_person(identity: int) -> Image.Image:
    return draw_face(identity, "neutral", np.random.default_rng(identity))


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def draw_two_people() -> Image.Image:
    canvas = Image.new("RGB", (520, 260), (120, 130, 140))
    canvas.paste(draw_person(1).resize((180, 180)), (10, 40))
    canvas.paste(draw_person(2), (240, 5))
    return canvas


def draw_tight_crop() -> Image.Image:
    """A grey image of 48 pixels. Its border cuts the chin, as in FERPlus."""
    left, top, right, bottom = PROCESSOR.detect(draw_person(0))[0].box.tolist()
    return draw_person(0).convert("L").resize((48, 48), box=(left, top, right, bottom))


def photographs(folder) -> list[Photograph]:
    votes = (0.75, 0, 0, 0, 0.25, 0, 0, 0)
    return [
        Photograph("a/path.png", folder / "path.png", "a", "neutral", split="1"),
        Photograph("b/truncated.jpg", encoded(draw_person(1), "JPEG")[:4000], "b", split="1"),
        Photograph("b/bytes.png", encoded(draw_person(1)), "b", split="2"),
        Photograph("c/drawn.png", partial(drawn_photograph, 2, "happy", 0, 0), "c", "happy", votes, "2"),
        Photograph("d/nobody.png", encoded(Image.new("RGB", (200, 200), "gray")), "d", split="2"),
        Photograph("e/missing.png", folder / "missing.png", "e", split="2"),
        Photograph("f/group.png", encoded(draw_two_people()), split="2"),
        Photograph("g/tight.png", encoded(draw_tight_crop()), None, None, votes, "3", enlarge=4, border=0.3),
        Photograph("h/cut.png", encoded(Image.new("L", (48, 48))), None, None, votes, "3", enlarge=4, border=0.3),
    ]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    draw_person(0).save(folder / "path.png")
    return folder


@pytest.fixture(scope="module")
def corpus(source, tmp_path_factory):
    """A prepared corpus of three shards, and the summary that `prepare` returned."""
    out = tmp_path_factory.mktemp("corpora") / "small"
    settings = {"sources": ["source"]}
    rows = iter(photographs(source))  # an iterator, like that of the readers
    return out, prepare(rows, out, layout="small", processor=PROCESSOR, workers=2, shard_size=3, settings=settings)


def test_rows_have_the_documented_values(corpus, source):
    dataset = load_corpus(corpus[0])
    assert dataset.features == FEATURES
    rows = {row["key"]: row for row in dataset}
    assert list(rows) == ["a/path.png", "b/bytes.png", "c/drawn.png", "f/group.png", "g/tight.png", "h/cut.png"]
    cut = rows.pop("h/cut.png")  # the publisher cropped the face, so the whole image is the crop
    assert (cut["landmarks"], cut["detection_probability"]) == (None, 0)
    assert cut["box"] == cut["crop"] == [0, 0, 48, 48] and cut["image"].size == (96, 96)
    for row in rows.values():
        assert row["image"].size == (96, 96) and row["image"].mode == "RGB" and row["source"] == "small"
        assert np.shape(row["landmarks"]) == (5, 2) and 0.9 <= row["detection_probability"] <= 1
    a, c, f = rows["a/path.png"], rows["c/drawn.png"], rows["f/group.png"]
    assert (a["identity"], CORPUS_EXPRESSIONS[a["expression"]], a["expression_votes"], a["split"]) == (
        "a",
        "neutral",
        None,
        "1",
    )
    assert (c["identity"], CORPUS_EXPRESSIONS[c["expression"]], c["split"]) == ("c", "happy", "2")
    assert c["expression_votes"] == [0.75, 0, 0, 0, 0.25, 0, 0, 0]
    assert (f["identity"], f["expression"]) == (None, None)

    face = PROCESSOR.detect(draw_person(0))[0]
    np.testing.assert_allclose(a["box"], face.box, atol=0.01)
    np.testing.assert_allclose(a["landmarks"], face.landmarks, atol=0.01)
    crop = PROCESSOR.align(draw_person(0), face).astype(float)
    # the crop of the processor, except for the JPEG compression
    assert np.abs(np.asarray(a["image"], float) - crop).mean() < 3
    assert f["box"][0] > 240  # the larger of two faces


def test_boxes_of_enlarged_images_are_in_pixels_of_the_published_image(corpus):
    row = load_corpus(corpus[0], ["3"])[0]
    face = PROCESSOR.detect(draw_person(0))[0]
    left, top, right, bottom = face.box
    expected = (face.landmarks - [left, top]) * 48 / [right - left, bottom - top]
    np.testing.assert_allclose(row["landmarks"], expected, atol=3)
    np.testing.assert_allclose(row["box"], [0, 0, 48, 48], atol=8)
    left, top, right, bottom = row["crop"]  # includes a part of the border that was added for the detector
    grow = PROCESSOR.margin / 2 * np.subtract(row["box"][2:], row["box"][:2])
    expected = np.clip([*np.subtract(row["box"][:2], grow), *np.add(row["box"][2:], grow)], -14.5, 62.5)
    np.testing.assert_allclose([left, top, right, bottom], expected, atol=0.1)


def test_skipped_photographs_are_counted_with_their_reasons(corpus, source):
    out, summary = corpus
    assert summary == read_summary(out)
    assert (summary["photographs"], summary["prepared"], summary["several_faces"]) == (9, 6, 1)
    assert summary["whole_images"] == 1
    assert summary["complete"] and summary["layout"] == "small"
    assert summary["skipped_by_reason"] == {"damaged or incomplete": 1, "no face found": 1, "no such file": 1}
    skipped = {row["key"]: row["reason"] for row in summary["skipped"]}
    assert skipped.pop("b/truncated.jpg").startswith("damaged or incomplete: ")
    assert skipped == {"d/nobody.png": "no face found", "e/missing.png": "no such file"}
    options = {"size": 96, "alignment": "margin", "shard_size": 3, "sources": ["source"]}
    assert options.items() <= summary["options"].items()


def test_splits_are_selected_by_name(corpus):
    assert [row["key"] for row in load_corpus(corpus[0], ["1", "3"])] == ["a/path.png", "g/tight.png", "h/cut.png"]
    with pytest.raises(CorpusError, match=r"no split 4; it has 1, 2, 3"):
        load_corpus(corpus[0], ["1", "4"])


def test_only_a_missing_shard_is_prepared_again(corpus, source, tmp_path):
    """An interrupted run leaves complete shards, a partly written shard, and a summary that is not complete."""
    complete_corpus, summary = corpus
    out = tmp_path / "small"
    shutil.copytree(complete_corpus, out)
    (out / "part-00001.json").unlink()
    (out / "part-00001.parquet").rename(out / "part-00001.parquet.tmp")
    (out / "part-00001.parquet.tmp").write_bytes(b"PAR1 half a shard")
    (out / "corpus.json").write_text(json.dumps(read_summary(complete_corpus) | {"complete": False}))
    with pytest.raises(CorpusError, match="interrupted; run the same command again"):
        load_corpus(out)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}
    second_summary = prepare(
        photographs(source),
        out,
        layout="small",
        processor=PROCESSOR,
        workers=1,
        shard_size=3,
        settings={"sources": ["source"]},
    )
    assert second_summary == summary
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}
    assert {name: after[name] for name in before} == before and len(after) == 3
    assert load_corpus(out).to_list() == load_corpus(complete_corpus).to_list()
    assert not list(out.glob("*.tmp"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"processor": FaceLiveNetImageProcessor(size=96, alignment="similarity")}, "alignment margin, now similarity"),
        ({"processor": FaceLiveNetImageProcessor(size=80, alignment="margin")}, "size 96, now 80"),
        ({"shard_size": 4}, "shard_size 3, now 4"),
        ({"settings": {"sources": ["source", "labels"]}}, r"sources \['source'\], now \['source', 'labels'\]"),
        ({"settings": None}, r"sources \['source'\], now None"),
        ({"layout": "large"}, "holds the corpus small"),
        ({"photographs": "reversed"}, "belongs to other photographs"),
    ],
)
def test_another_corpus_in_the_same_folder_is_refused(corpus, source, tmp_path, change, message):
    out = tmp_path / "small"
    shutil.copytree(corpus[0], out)
    arguments = {"layout": "small", "processor": PROCESSOR, "shard_size": 3, "settings": {"sources": ["source"]}}
    rows = photographs(source)
    if "photographs" in change:
        rows, change = rows[::-1], {}
    with pytest.raises(CorpusError, match=message):
        prepare(rows, out, **(arguments | change))
    assert bytes_of_shards(out) == bytes_of_shards(corpus[0])


def bytes_of_shards(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("part-*")}


def test_folders_without_a_corpus_are_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(CorpusError, match="is not empty and not a corpus"):
        prepare([], tmp_path, layout="small", processor=PROCESSOR)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
    with pytest.raises(CorpusError, match=r"no part-\*\.parquet here"):
        load_corpus(tmp_path)
    with pytest.raises(CorpusError, match=r"corpus\.json is missing"):
        read_summary(tmp_path)
    (tmp_path / "corpus.json").write_text('{"layout": ')
    with pytest.raises(CorpusError, match=r"corpus\.json is damaged"):
        read_summary(tmp_path)
    with pytest.raises(CorpusError, match="no such folder"):
        load_corpus(tmp_path / "nothing")


def test_a_corpus_without_faces_is_counted_and_refused(tmp_path):
    without_faces = [Photograph(f"{number}.png", b"no picture", "a", "sad", split="1") for number in range(3)]
    summary = prepare(without_faces, tmp_path / "none", layout="small", processor=PROCESSOR, workers=1)
    assert (summary["photographs"], summary["prepared"]) == (3, 0)
    labels = [(row["identity"], row["expression"]) for row in summary["skipped"]]
    assert labels == [("a", "sad")] * 3  # `describe` counts the labels of skipped photographs too
    with pytest.raises(
        CorpusError, match=r"none: it is empty, because no face was found; .*corpus\.json has the reasons"
    ):
        load_corpus(tmp_path / "none")


def test_a_source_without_photographs_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="There are no photographs"):
        prepare([], tmp_path / "out", layout="london", processor=PROCESSOR)
    with pytest.raises(ValueError, match="shard_size must be at least 1, not 0"):
        prepare([], tmp_path / "out", layout="london", processor=PROCESSOR, shard_size=0)


def test_attributes_become_columns_of_every_shard(tmp_path):
    people = [
        Photograph(
            f"{number}.png", encoded(draw_person(number)), str(number), attributes={"gender": gender, "lens": None}
        )
        for number, gender in enumerate(("female", None, "male"))
    ]
    out = tmp_path / "corpus"
    prepare(people, out, layout="here", processor=PROCESSOR, workers=1, shard_size=1)
    assert read_summary(out)["attributes"] == ["gender", "lens"]
    corpus = load_corpus(out)
    assert corpus["gender"][:] == ["female", None, "male"] and corpus["lens"][:] == [None] * 3
    assert load_corpus(out, columns=["key"]).column_names == ["key"]
    for shard in shards_of(out):  # streaming opens each shard alone
        assert Features.from_arrow_schema(pq.read_schema(shard)) == corpus.features == features_with(["gender", "lens"])
    assert attributes_of(load_corpus(out, columns=["lens", "key", "gender"])) == ["gender", "lens"]
    with pytest.raises(CorpusError, match=r"corpus: no column weather; it has image, key, .*, gender, lens"):
        load_corpus(out, columns=["key", "weather"])
    different_attributes = [people[0], Photograph("b.png", encoded(draw_person(1)), attributes={"gender": "male"})]
    with pytest.raises(CorpusError, match="all photographs need the same names"):
        prepare(different_attributes, tmp_path / "other", layout="here", processor=PROCESSOR, workers=1)


def test_shards_without_attributes_are_not_mixed_with_shards_with_attributes(tmp_path):
    """If a table of attributes is added later, new shards would have other columns than the existing shards."""
    before = [Photograph(f"{number}.png", encoded(draw_person(0)), "a") for number in range(2)]
    after = [replace(photograph, attributes={"gender": "female"}) for photograph in before]
    out = tmp_path / "corpus"
    arguments = {"layout": "here", "processor": PROCESSOR, "workers": 1, "shard_size": 1}
    prepare(before, out, **arguments)
    with pytest.raises(CorpusError, match=r"attributes None, now \['gender'\]\); choose another folder"):
        prepare(after, out, **arguments)
    assert attributes_of(load_corpus(out)) == []


@pytest.mark.parametrize("name", ["box", "", " "])
def test_attributes_with_unusable_names_are_refused(tmp_path, name):
    photograph = Photograph("a.png", encoded(draw_person(0)), attributes={name: "x"})
    with pytest.raises(CorpusError, match=f"attribute '{name}': its name must not be empty"):
        prepare([photograph], tmp_path / "out", layout="here", processor=PROCESSOR)
    assert not (tmp_path / "out").exists()


def replace_hub_dataset(monkeypatch, files: list[str], cache, summary=None) -> None:
    """Replace `load_dataset`: the dataset user/faces has these Parquet files. summary: its corpus.json."""

    def from_hub(name, **options):
        assert name == "user/faces"
        return load_dataset("parquet", data_files=files, cache_dir=str(cache), **options)

    monkeypatch.setattr("face_data.table.load_dataset", from_hub)
    monkeypatch.setattr("face_data.table.hub_file", lambda dataset, name: summary)


@pytest.mark.parametrize("written_by", ["prepare", "another tool"])
def test_attributes_are_read_from_the_hub(corpus, tmp_path, monkeypatch, written_by):
    """Files of other tools have no names of labels, and ages that are numbers."""
    files = []
    for number, shard in enumerate(shards_of(corpus[0])):
        rows = Dataset.from_parquet(shard)
        rows = rows.add_column("age", [str(30 + row) for row in range(len(rows))])
        files.append(str(tmp_path / f"{number}.parquet"))
        if written_by == "prepare":
            rows.to_parquet(files[-1])
            continue
        table = rows.data.table.replace_schema_metadata(None)
        table = table.set_column(table.schema.get_field_index("age"), "age", table["age"].cast("int64"))
        pq.write_table(table, files[-1])
    replace_hub_dataset(monkeypatch, files, tmp_path / "cache")
    local, remote = load_corpus(corpus[0]), load_corpus("user/faces")
    assert remote.features == features_with(["age"])
    assert column(remote, "age")[:2] == ["30", "31"]
    assert remote.remove_columns("age").to_list() == local.to_list()
    chosen = load_corpus("user/faces", ["3"], columns=["split", "age", "expression"])
    assert chosen.to_list() == [{"expression": None, "split": "3", "age": age} for age in ("31", "32")]


def test_a_hub_dataset_without_a_shard_is_refused(corpus, tmp_path, monkeypatch):
    shards, summary = shards_of(corpus[0]), corpus[0] / "corpus.json"
    replace_hub_dataset(monkeypatch, shards, tmp_path / "cache", summary)
    assert len(load_corpus("user/faces")) == len(load_corpus(corpus[0])) == 6
    replace_hub_dataset(monkeypatch, shards[1:], tmp_path / "cache", summary)
    with pytest.raises(CorpusError, match=r"^user/faces: it has \d photographs, but corpus\.json counts 6: upload all"):
        load_corpus("user/faces")


def test_a_corpus_of_an_earlier_version_without_crops_is_refused(corpus, tmp_path):
    shutil.copytree(corpus[0], tmp_path / "earlier")
    for shard in shards_of(tmp_path / "earlier"):
        pq.write_table(pq.read_table(shard).drop_columns(["crop"]), shard)
    with pytest.raises(CorpusError, match=r"no column crop: .* prepare it again"):
        load_corpus(tmp_path / "earlier")


def test_a_hub_dataset_that_is_not_a_corpus_is_refused(tmp_path, monkeypatch):
    Dataset.from_dict({"picture": ["x"]}).to_parquet(tmp_path / "0.parquet")
    replace_hub_dataset(monkeypatch, [str(tmp_path / "0.parquet")], tmp_path / "cache")
    with pytest.raises(CorpusError, match=r"user/faces: no column image, key, .*: it is not a prepared corpus"):
        load_corpus("user/faces")
