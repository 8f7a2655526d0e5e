"""Corpora and runs at S3 addresses, with a local S3 server, real processes, and a cache folder per machine."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from programs import Program

import addresses
from addresses import AddressError, Remote, join, local_copy
from evaluation.__main__ import main as evaluate
from face_data.__main__ import main as face_data
from face_data.corpus import split_corpus
from face_data.pairs import Pair, read_pairs, write_pairs
from face_data.table import CorpusError, column, load_corpus, read_summary
from train.__main__ import main as train
from train.lock import FILE, FolderInUseError, RunLock

moto_server = pytest.importorskip("moto.server")
pytest.importorskip("s3fs")
DRAW = ["synthesize", "--identities", "4", "--per-expression", "1", "--shard-size", "7", "--workers", "1"]
PATIENCE = 1200  # seconds, enough for a busy machine


@pytest.fixture(scope="module")
def store():
    """An S3 server with one bucket. The environment contains its address, where s3fs finds it."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        Remote("s3://bucket").file_system.mkdir("bucket")
        yield
    server.stop()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that simulates another machine: the cache folder changes to one with the given name."""

    def become(name: str) -> Path:
        monkeypatch.setenv("FACELIVENET_CACHE", str(tmp_path / name))
        addresses._copy.cache_clear()
        return tmp_path / name

    become("first")
    return become


@pytest.fixture(scope="module")
def corpus(store, common_folder) -> str:
    """28 photographs in four shards, prepared at an address: first by one of two processes, then resumed by one."""
    corpus = "s3://bucket/corpora/drawn"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", "1")
        patch.setenv("WORLD_SIZE", "2")
        assert face_data([*DRAW, corpus]) == 0
    with pytest.raises(CorpusError, match="interrupted"):
        load_corpus(corpus)
    remote = Remote(corpus)
    remote.remove(["part-00003.json"])  # as if killed before the upload of the shard's record
    before = remote.files()
    assert face_data([*DRAW, corpus]) == 0
    after = remote.files()
    assert after["part-00001.parquet"] == before["part-00001.parquet"]  # finished shards were kept
    assert {name.partition(".")[0] for name in after} == {"corpus", *(f"part-{number:05d}" for number in range(4))}
    return corpus


def test_other_settings_are_refused_at_an_address(corpus, capsys):
    assert face_data([*DRAW, "--size", "80", corpus]) == 2
    assert f"{corpus} holds the corpus drawn with other settings" in capsys.readouterr().err


def test_a_corpus_at_an_address_equals_one_in_a_folder(corpus, machine, tmp_path, capsys):
    assert face_data([*DRAW, str(tmp_path / "drawn")]) == 0
    assert read_summary(corpus) == read_summary(tmp_path / "drawn")
    assert column(load_corpus(corpus, columns=["key"]), "key") == column(load_corpus(tmp_path / "drawn"), "key")
    assert not (tmp_path / "first" / "copies").exists()  # labels are read without a download
    capsys.readouterr()
    assert face_data(["describe", corpus]) == 0
    assert "s3://bucket/corpora/drawn: drawn, 28 of 28 photographs prepared" in capsys.readouterr().out

    copy = local_copy(corpus)
    assert copy.is_relative_to(tmp_path / "first")
    for shard in (tmp_path / "drawn").glob("part-*.parquet"):
        assert shard.read_bytes() == (copy / shard.name).read_bytes()
    assert load_corpus(corpus, ["train"])[0]["image"].size == (160, 160)
    pairs = [Pair(1, "a", "b", True)]
    assert write_pairs(corpus, pairs) == "s3://bucket/corpora/drawn/pairs.csv"
    machine("second")
    assert read_pairs(corpus) == pairs
    Remote(corpus).remove(["pairs.csv"])


def test_a_damaged_download_is_refused(corpus, machine, tmp_path):
    damaged = "s3://bucket/corpora/damaged"
    copy = local_copy(corpus)
    Remote(damaged).upload(copy, [path.name for path in copy.iterdir()])
    shard = (copy / "part-00002.parquet").read_bytes()
    Remote(damaged).write("part-00002.parquet", shard[:99] + bytes([shard[99] ^ 1]) + shard[100:])
    with pytest.raises(CorpusError, match=r"part-00002\.parquet is damaged"):
        load_corpus(damaged)


def arguments(repository: Path, corpus: str, out: str, *overlays: Path) -> list[str]:
    presets = repository / "train" / "presets"
    options = {"config": [presets / "dynamic.yaml", presets / "drawn.yaml", *overlays], "out": [out], "train": [corpus]}
    options |= {} if overlays else {"validation": [corpus]}
    options |= {"network.trunk": ["test_resnet"], "image_size": [96], "batch_size": [4]}
    options |= {"steps": [12], "save_every": [3], "validate_every": [6], "workers": [0]}
    options |= {"tracker": ["none"], "mixed_precision": ["no"], "cpu": ["true"]}
    return [str(text) for name, values in options.items() for text in (f"--{name}", *values)]


def test_a_killed_run_is_resumed_from_its_address_on_another_machine(
    corpus, machine, repository, tmp_path, monkeypatch, capsys
):
    run, command = Remote("s3://bucket/runs/killed"), arguments(repository, corpus, "s3://bucket/runs/killed")
    complete = "checkpoints/step-00000003/manifest.json"
    killed = Program(["-m", "train", *command], repository)
    deadline = time.monotonic() + PATIENCE
    while complete not in run.files():
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGSTOP)
    capsys.readouterr()
    assert train(command) == 2  # a second run to the same address
    assert f"s3://bucket/runs/killed is in use by process {killed.pid}" in capsys.readouterr().err
    killed.kill()
    killed.wait()
    # as if killed during an upload: the newest checkpoint, but without its manifest
    run.write("checkpoints/step-00000099/model.safetensors", b"half")

    cache = machine("second")
    assert train(command) == 0
    printed = capsys.readouterr()
    assert "resumed from" in printed.out and str(cache) in printed.out
    files = run.files()
    assert "run.lock" not in files and "checkpoints/step-00000099/model.safetensors" not in files
    rows = [json.loads(row)["step"] for row in run.read("log.jsonl").decode().splitlines()]
    assert rows == list(range(1, 13))

    # the same as an uninterrupted run in a folder
    machine("third")
    assert train(arguments(repository, corpus, str(tmp_path / "run"))) == 0
    assert run.read("last/model.safetensors") == (tmp_path / "run" / "last" / "model.safetensors").read_bytes()
    assert json.loads(run.read("training.json"))["config"]["out"] == "s3://bucket/runs/killed"
    out = tmp_path / "results"
    command = ["expression", "--model", "s3://bucket/runs/killed/last", "--data", corpus, "--splits", "train"]
    assert evaluate([*command, "--out", str(out)]) == 0
    assert (out / "results.json").is_file()


def test_a_checkpoint_that_was_not_uploaded_is_not_lost(corpus, machine, repository, monkeypatch, capsys):
    command = arguments(repository, corpus, "s3://bucket/runs/offline")
    uploads = []

    def upload(self, folder, names):
        uploads.append(names)
        if len(uploads) > 1:
            raise AddressError("s3://bucket/runs/offline: no connection")
        return original(self, folder, names)

    original = Remote.upload
    with monkeypatch.context() as patch:
        patch.setattr(Remote, "upload", upload)
        assert train(command) == 2
    printed = capsys.readouterr().err
    assert "the upload failed (s3://bucket/runs/offline: no connection); the files are in" in printed
    assert train(command) == 0
    printed = capsys.readouterr()
    assert "because its last checkpoint was not uploaded" in printed.err and "finished already" in printed.out
    assert "checkpoints/step-00000012/manifest.json" in Remote("s3://bucket/runs/offline").files()


def test_a_stream_from_an_address_is_not_downloaded(corpus, machine, repository, tmp_path):
    (tmp_path / "alone.yaml").write_text("validation: []\n")  # validation would download the corpus
    command = arguments(repository, corpus, "s3://bucket/runs/streamed", tmp_path / "alone.yaml")
    assert train([*command, "--streaming", "true", "--steps", "2"]) == 0
    assert not (machine("first") / "copies").exists()


def test_a_lock_of_another_machine_at_an_address_is_respected_until_it_is_stale(store, monkeypatch):
    remote = Remote("s3://bucket/runs/locked")
    remote.write(FILE, json.dumps({"machine": "elsewhere", "process": 1, "started": "1"}).encode())
    with pytest.raises(FolderInUseError, match=r"in use by process 1 on elsewhere"), RunLock(remote.address):
        pass
    monkeypatch.setattr("train.lock.SILENCE", -1.0)
    with RunLock(remote.address):
        assert json.loads(remote.read(FILE))["process"] == os.getpid()
    assert not remote.files()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://bucket/nothing", "corpus.json is missing"),
        ("nobody://knows/this", "Protocol not known: nobody"),
        ("gs://bucket/corpus", "needs a package that is not installed: Please install gcsfs"),
    ],
)
def test_unreachable_addresses_are_named(store, repository, capsys, monkeypatch, address, message):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    assert train(["--train", address]) == 2
    assert address in (err := capsys.readouterr().err) and message in err


def test_addresses_are_split_and_joined():
    assert split_corpus("s3://bucket/lfw:1,2") == ("s3://bucket/lfw", ["1", "2"])
    assert split_corpus("s3://bucket/lfw") == ("s3://bucket/lfw", None)
    assert split_corpus("corpora/lfw:1") == ("corpora/lfw", ["1"])
    assert join("s3://bucket/run/", "fold-01") == "s3://bucket/run/fold-01"
    assert join("runs/one", "fold-01") == str(Path("runs/one/fold-01"))
