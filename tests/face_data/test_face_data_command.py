"""`python -m face_data`: output, errors, and resuming a killed run."""

import csv
import os
import signal
import time
from pathlib import Path

import pytest
from programs import Program

from face_data.__main__ import main
from face_data.drawn import drawn_photograph
from face_data.readers import READERS
from face_data.table import CorpusError, load_corpus, read_summary

SMALL = ["--identities", "3", "--per-expression", "1", "--size", "64", "--workers", "1", "--shard-size", "3"]


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("corpora") / "drawn"
    assert run("synthesize", out, *SMALL, "--alignment", "margin") == 0
    return out


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds: float = 150) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc to find the worker processes")
def test_a_killed_run_is_resumed(small_corpus, tmp_path, repository, capsys):
    """After kill -9, the workers end too and the corpus is refused. Then the same command prepares the same rows."""
    out = tmp_path / "killed"
    command = ["-m", "face_data", "synthesize", out, *SMALL, "--alignment", "margin", "--workers", "2"]
    process = Program(command, repository)
    try:
        wait_until(lambda: process.poll() is not None or len(list(out.glob("part-*.json"))) >= 2)
        assert process.poll() is None, "it ended before it could be killed"
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert workers
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    wait_until(lambda: not any(map(is_running, map(int, workers))), seconds=20)

    finished_shards = {
        path: path.stat().st_mtime_ns for note in out.glob("part-*.json") for path in [note.with_suffix(".parquet")]
    }
    assert 2 <= len(finished_shards) < 7 and not read_summary(out)["complete"]
    with pytest.raises(CorpusError, match="interrupted"):
        load_corpus(out)
    assert run("describe", out) == 2
    assert "interrupted; run the same command again" in capsys.readouterr().err
    for change in (["--seed", "1"], ["--identities", "4"], ["--alignment", "similarity"]):
        assert run("synthesize", out, *SMALL, "--alignment", "margin", *change) == 2
        assert "with other settings" in capsys.readouterr().err

    assert run("synthesize", out, *SMALL, "--alignment", "margin") == 0
    assert {path: path.stat().st_mtime_ns for path in finished_shards} == finished_shards
    assert load_corpus(out).to_list() == load_corpus(small_corpus).to_list()
    assert read_summary(out) == read_summary(small_corpus)


def test_describe_prints_the_counts(small_corpus, capsys):
    assert run("describe", small_corpus) == 0
    lines = capsys.readouterr().out.splitlines()
    count = len(load_corpus(small_corpus))
    assert count >= 20
    assert lines[0] == f"{small_corpus}: drawn, {count} of 21 photographs prepared"
    split, *columns = lines[-3].split()
    assert [split, *columns[:4]] == ["split", "faces", "people", "neutral", "anger"]
    (train, *train_counts), (valid, *valid_counts) = (line.split() for line in lines[-2:])
    assert (train, valid) == ("train", "valid")
    assert int(train_counts[0]) + int(valid_counts[0]) == count
    assert (train_counts[1], valid_counts[1]) == ("1", "2")  # people
    assert train_counts[-2:] == ["0", "0"]  # contempt is not drawn, and all photographs are labelled


def test_a_second_run_changes_nothing(small_corpus, capsys):
    before = {path.name: path.read_bytes() for path in small_corpus.iterdir()}
    assert run("synthesize", small_corpus, *SMALL, "--alignment", "margin") == 0
    assert {path.name: path.read_bytes() for path in small_corpus.iterdir()} == before


def test_prepare_lfw_with_labels_and_pairs(tmp_path, capsys):
    source, labels, out = tmp_path / "lfw", tmp_path / "facial_expressions", tmp_path / "out"
    for person, count in {"Anna_Berg": 2, "Cem_Kaya": 1}.items():
        folder = source / "lfw-deepfunneled" / person
        folder.mkdir(parents=True)
        for number in range(1, count + 1):
            picture = drawn_photograph(len(person), "neutral", number, seed=0)
            picture.save(folder / f"{person}_{number:04d}.jpg")
    (source / "people.txt").write_text("2\n1\nAnna_Berg\t2\n1\nCem_Kaya\t1\n")
    (source / "pairs.txt").write_text(
        "2\t1\n" + "Anna_Berg\t1\t2\nAnna_Berg\t1\tCem_Kaya\t1\n" + "Cem_Kaya\t1\t1\nCem_Kaya\t1\tAnna_Berg\t2\n"
    )
    (labels / "data").mkdir(parents=True)
    (labels / "data" / "legend.csv").write_text("user.id,image,emotion\n628,Cem_Kaya_0001.jpg,NEUTRAL\n")

    assert run("prepare", "lfw", source, labels, out, "--alignment", "similarity", "--size", "64", "--workers", 1) == 0
    report = capsys.readouterr().out
    assert report.splitlines()[0] == f"{out}: lfw, 3 of 3 photographs prepared"
    assert {(row["key"], row["split"], row["expression"]) for row in load_corpus(out)} == {
        ("Anna_Berg/Anna_Berg_0001.jpg", "1", None),
        ("Anna_Berg/Anna_Berg_0002.jpg", "1", None),
        ("Cem_Kaya/Cem_Kaya_0001.jpg", "2", 0),
    }
    with (out / "pairs.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert first == {
        "fold": "1",
        "first": "Anna_Berg/Anna_Berg_0001.jpg",
        "second": "Anna_Berg/Anna_Berg_0002.jpg",
        "same": "1",
    }
    assert run("describe", out) == 0
    assert capsys.readouterr().out == report

    # without the second source, the labels
    assert run("prepare", "lfw", source, out, "--alignment", "similarity", "--size", "64") == 2
    assert "sources ['lfw', 'facial_expressions'], now ['lfw']" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["prepare", "london", "{empty}"], "give at least one SOURCE and then OUT"),
        (["prepare", "london", "{missing}", "{out}"], "missing: no such folder"),
        (["prepare", "london", "{empty}", "{empty}", "{out}"], "london has one SOURCE"),
        (["prepare", "folder", "{empty}", "{out}"], "There are no photographs"),
        (["prepare", "london", "{empty}", "{out}"], "info.csv is missing: give the folder as its publisher ships it"),
        (["prepare", "lfw", "{empty}", "{out}"], "people.txt is missing"),
        (["prepare", "ferplus", "{empty}", "{out}"], "FER2013Train.tar is missing"),
        (["prepare", "facial_expressions", "{empty}", "{out}"], "legend.csv is missing"),
        (["prepare", "fer2013", "{empty}", "{out}"], "fer2013.csv is missing"),
        (["prepare", "ckplus", "{empty}", "{out}"], "cohn-kanade-images is missing"),
        (["prepare", "ckplus", "{empty}", "{empty}", "{out}"], "ckplus has one SOURCE"),
        (["prepare", "oulucasia", "{empty}", "{out}"], "contains no VL/Strong"),
        (["prepare", "ms1m", "{empty}", "{out}"], "is the source the ms1m folder?"),
        (["prepare", "casia_webface", "{empty}", "{out}"], "is the source the casia_webface folder?"),
        (["prepare", "vggface2", "{empty}", "{out}"], "train is missing"),
        (["prepare", "celeba", "{empty}", "{out}"], "img_celeba is missing"),
        (["prepare", "ytf", "{empty}", "{out}"], "frame_images_DB is missing"),
        (["prepare", "folder", "{empty}", "{out}"], "There are no photographs"),
        (["prepare", "folder", "{missing}.csv", "{out}"], "missing.csv: no such folder or file"),
        (["prepare", "folder", "{full}/holiday.jpg", "{out}"], "first line must be path,identity,expression"),
        (["prepare", "hub", "{empty}", "{out}"], "`datasets.load_dataset` cannot read it"),
        (["prepare", "london", "{empty}", "{out}", "--identity-column", "who"], "--identity-column is for hub"),
        (["prepare", "folder", "{empty}", "{full}"], "is not empty and not a corpus"),
        (["prepare", "london", "{empty}", "{out}", "--size", "8"], "size must be"),
        (["prepare", "london", "{empty}", "{out}", "--shard-size", "0"], "shard_size must be at least 1"),
        (["synthesize", "{out}", "--identities", "2"], "draw at least 3"),
        (["synthesize", "{out}", "--per-expression", "0"], "There are no photographs"),
        (["synthesize", "{full}"], "is not empty and not a corpus"),
        (["describe", "{empty}"], "corpus.json is missing"),
        (["describe", "{missing}"], "is missing"),
    ],
)
def test_errors_exit_with_2_and_print_the_reason(tmp_path, capsys, arguments, reason):
    folders = {name: tmp_path / name for name in ("empty", "missing", "out", "full")}
    folders["empty"].mkdir()
    folders["full"].mkdir()
    (folders["full"] / "holiday.jpg").write_bytes(b"precious")
    assert run(*(argument.format(**folders) for argument in arguments)) == 2
    printed = capsys.readouterr()
    last = printed.err.splitlines()[-1]
    assert last.startswith("face_data: ") and reason in last and printed.out == ""
    assert (folders["full"] / "holiday.jpg").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "arguments", [[], ["prepare", "casia", "in", "out"], ["synthesize", "out", "--alignment", "no"]]
)
def test_wrong_arguments_print_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2 and "usage: python -m face_data" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["prepare"], ["synthesize"], ["describe"]])
def test_help(capsys, command):
    with pytest.raises(SystemExit) as ended:
        run(*command, "--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "usage: python -m face_data" in text and "None" not in text
    if command == ["prepare"]:
        assert all(word in text for word in (*READERS, "SOURCE", "OUT", "--alignment", "--shard-size"))
        assert "path,identity,expression" in text and "--expression-column" in text


def test_a_damaged_source_is_reported(tmp_path, capsys):
    (tmp_path / "lfw").mkdir()
    (tmp_path / "lfw" / "people.txt").write_text("1\n1\nAnna_Berg\t1\n")
    (tmp_path / "lfw" / "lfw-deepfunneled.tgz").write_bytes(os.urandom(500))
    assert run("prepare", "lfw", tmp_path / "lfw", tmp_path / "out") == 2
    assert "lfw-deepfunneled.tgz is damaged or incomplete" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()  # the preparation did not start
