"""Every benchmark runs with tiny sizes and keeps its memory limits. Times are not tested: machines differ."""

import json
import math
import multiprocessing
import sys

import pytest
import torch
from PIL import Image

from benchmarks import hostile, start
from benchmarks.__main__ import main
from benchmarks.loading import SIDES, PhotographFolder, write_photographs
from benchmarks.loss import IMPLEMENTATIONS, LARGEST_SHARE, SMALLEST_GAIN, random_batch, step
from benchmarks.report import medians, table
from face_data.drawn import drawn_photograph
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import EXPRESSIONS, FaceLiveNetConfig, FaceLiveNetModel
from train.batches import TrainingFaces
from train.photographs import Photographs


def result_of(tmp_path, *arguments: str) -> dict:
    file = tmp_path / "numbers.json"
    assert main([*arguments, "--device", "cpu", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert result["machine"]["cpu"] and result["machine"]["threads"] == torch.get_num_threads()
    return result


def positive(*values: float) -> bool:
    return all(math.isfinite(value) and value > 0 for value in values)


def test_the_loss_needs_little_more_memory_than_its_centres(tmp_path, capsys):
    sizes = ("--batch", "64", "--identities", "20000", "--size", "1024", "--repeats", "1")
    result = result_of(tmp_path, "loss", *sizes, "--table-identities", "20000", "--sample", "5000")
    loss, cdist = result["rows"][:2]
    assert loss["implementation"] == "class_wise_triplet_loss" and loss["identities"] == cdist["identities"] == 20000
    assert 1 <= loss["peak_to_centers"] < LARGEST_SHARE and loss["peak_bytes"] < cdist["peak_bytes"]
    assert result["broadcast_to_ours"] > SMALLEST_GAIN
    assert result["largest_relative_difference"] < 1e-3
    for row in result["rows"]:
        assert positive(row["milliseconds"], row["time_to_cdist"], row["peak_to_centers"])
    half, full = result["sampled"]
    assert full["identities"] == 2 * half["identities"]
    # memory depends on the size of the sample and not of the table: twice the table needs no more (the tensors of a
    # smaller sample would come from the heap, where fragments make the resident memory inexact)
    assert full["peak_beside_tables_bytes"] < 1.25 * half["peak_beside_tables_bytes"]
    printed = capsys.readouterr().out
    assert "torch.cdist" in printed and "broadcast, computed" in printed and "reached" in printed


def test_the_implementations_of_the_loss_agree():
    results = {name: step(name, *random_batch(6, 20, 32, "cpu")) for name in IMPLEMENTATIONS}
    for loss, gradient in results.values():
        torch.testing.assert_close(loss, results["broadcast"][0], rtol=1e-4, atol=0)
        torch.testing.assert_close(gradient, results["broadcast"][1], rtol=1e-3, atol=1e-3)


def test_loading_is_measured_for_folder_and_corpus(tmp_path, drawn_corpus, capsys):
    sizes = ("--batch", "4", "--batches", "2", "--workers", "0,1", "--image-size", "80", "--repeats", "1")
    result = result_of(tmp_path, "loading", "--data", f"{drawn_corpus}:train", *sizes)
    assert [(row["up_to"], row["workers"]) for row in result["rows"]] == [
        (up_to, workers) for workers in (0, 1) for up_to in ("decoded", "augmented") for _ in SIDES
    ]
    assert [row["side"] for row in result["rows"]] == list(SIDES) * 4
    assert all(positive(row["images_per_second"], row["ratio"]) for row in result["rows"])
    assert positive(*result["microseconds_per_image"].values())
    assert "augmented, prepared corpus" in capsys.readouterr().out


def test_the_folder_contains_the_photographs_and_labels_of_the_corpus(tmp_path, drawn_corpus):
    faces = TrainingFaces(Photographs([f"{drawn_corpus}:train"], EXPRESSIONS))
    rows = [5, 100, 300]
    write_photographs(faces, rows, tmp_path)
    photographs = PhotographFolder(tmp_path, faces, lambda picture: picture)
    assert sorted(photographs.rows) == rows
    batch = faces.__getitems__(photographs.rows)
    for index in range(len(rows)):
        picture, identity, expression = photographs[index]
        assert picture.size == (160, 160) and picture.mode == "RGB"
        assert identity == batch.identity[index] and expression == batch.expression[index].argmax()


def test_training_is_measured_for_both_loops(tmp_path, drawn_corpus, capsys):
    sizes = ("--image-size", "80", "--batch", "4", "--steps", "2", "--workers", "0")
    result = result_of(tmp_path, "training", "--data", f"{drawn_corpus}:train", *sizes)
    assert [row["loop"] for row in result["rows"]] == ["plain loop", "python -m train"]
    for row in result["rows"]:
        assert positive(row["images_per_second"], row["ratio"], row["share_waiting_for_data"])
        assert row["share_waiting_for_data"] < 1
    assert "waiting for data" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["loss", "--batch", "0"], "--batch: at least 1, not 0"),
        (["loss", "--sample", "10", "--batch", "20"], "--sample: from --batch (20)"),
        (["loss", "--json", "nowhere/numbers.json"], "no folder nowhere"),
        (["loading", "--data", "nowhere"], "nowhere: no such folder"),
        (["loading", "--data", "CORPUS:11"], "no split 11"),
        (["loading", "--data", "CORPUS", "--workers", "two"], "--workers: numbers such as 0,2, not 'two'"),
        (["loading", "--data", "CORPUS", "--image-size", "0"], "--image-size: at least 1"),
        (["training", "--data", "CORPUS", "--steps", "0"], "--steps: at least 1"),
        (["training", "--data", "CORPUS", "--workers", "-1"], "workers: 0 to 1000"),
        (["training", "--data", "CORPUS", "--image-size", "40"], "image_size must be at least 75"),
    ],
)
def test_wrong_arguments_are_reported(arguments, message, drawn_corpus, capsys):
    assert main([text.replace("CORPUS", str(drawn_corpus)) for text in arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_reported(capsys):
    assert main(["loss", "--device", "cuda"]) == 2
    assert "no GPU" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["loading"], ["loss", "--batch", "many"]])
def test_a_wrong_command_shows_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2 and "usage: python -m benchmarks" in capsys.readouterr().err


def test_repeats_are_interleaved_and_columns_aligned():
    order = []
    values = {"a": iter([3, 1, 2]), "b": iter([9, 7, 8])}
    measure = {name: lambda name=name: (order.append(name), next(values[name]))[1] for name in values}
    assert medians(measure, 3) == {"a": 2, "b": 8} and order == ["a", "b"] * 3
    assert table(("name", "x"), [("a", "1.50"), ("longer", "10.25")]).splitlines() == [
        "name        x",
        "a        1.50",
        "longer  10.25",
    ]


def test_inference_is_measured_from_image_to_decision(tmp_path, capsys):
    result = result_of(tmp_path, "inference", "--frames", "4", "--repeats", "1")
    plain, *project_rows = result["rows"]
    assert plain["ratio"] == 1 and len(project_rows) == 2
    for row in project_rows:
        assert row["ratio"] == row["frames_per_second"] / plain["frames_per_second"]
        assert row["faces_found"] == plain["faces_found"] == 4  # all have found a face in every frame
    assert positive(plain["frames_per_second"], *result["milliseconds_per_frame"].values())
    assert [row["streams"] for row in result["streams"]] == [1, 2, 4, 8]
    assert positive(*(row["frames_per_second"] for row in result["streams"]))
    in_pytorch, *others = result["agreement"]
    assert in_pytorch["frames"] == in_pytorch["decided_alike"] == 4
    assert in_pytorch["overlap_lowest"] > 0.999 and in_pytorch["similarity_difference_median"] < 1e-3
    for row in others:
        assert row["frames"] == 2 >= row["decided_alike"]  # the first and the last of the four frames are detected
        assert row["overlap_median"] >= row["overlap_lowest"] > 0.7
    printed = capsys.readouterr().out
    assert (
        "compared with the plain stack" in printed and "4 frames of a drawn person" in printed and "streams" in printed
    )


def test_the_time_until_a_command_answers_is_measured(tmp_path, capsys, monkeypatch):
    """Three commands with one call each; test_startup.py tests all calls."""
    commands = ("app.py", "-m train", "-m authentication")
    monkeypatch.setattr(start, "ANSWERS", {command: start.ANSWERS[command][-1:] for command in commands})
    result = result_of(tmp_path, "start", "--repeats", "1")
    assert positive(result["import_torch_seconds"], result["decision_ratio"])
    answered = [row["command"] for row in result["answers"]]
    assert len(answered) == 3 and all(row.startswith(command) for row, command in zip(answered, commands, strict=True))
    assert result["slowest_answer_ratio"] == max(row["ratio"] for row in result["answers"])
    assert "slowest answer" in capsys.readouterr().out


def test_a_clip_without_a_face_is_refused(tmp_path, capsys):
    Image.new("RGB", (64, 48)).save(tmp_path / "grey.png")
    assert main(["inference", "--clip", str(tmp_path / "grey.png"), "--device", "cpu"]) == 2
    assert "no frame shows exactly one face" in capsys.readouterr().err


def test_the_speed_and_accuracy_of_the_exported_graph_are_measured(tmp_path, drawn_corpus, capsys):
    FaceLiveNetModel(FaceLiveNetConfig(image_size=75, repeats=[0, 0, 0])).save_pretrained(tmp_path / "model")
    FaceLiveNetImageProcessor(size=75).save_pretrained(tmp_path / "model")
    sizes = ("--faces", "1", "--repeats", "1", "--data", str(drawn_corpus), "--split", "valid")
    result = result_of(tmp_path, "onnx", "--model", str(tmp_path / "model"), *sizes)
    exact, _, exported, rounded = result["rows"]
    assert positive(*(row["milliseconds"] for row in result["rows"])) and result["difference"] < 1e-4
    assert rounded["megabytes"] < 0.3 * exported["megabytes"]
    assert exported["auc"] == pytest.approx(exact["auc"], abs=1e-4)
    assert exported["expression_accuracy"] == pytest.approx(exact["expression_accuracy"], abs=0.02)
    assert "8 bits lose at most" in capsys.readouterr().out


def test_preparation_is_measured_and_compared(tmp_path, capsys):
    (tmp_path / "photographs").mkdir()
    for person in range(3):
        drawn_photograph(person, "neutral", 0, seed=0).save(tmp_path / "photographs" / f"{person}.png")
    arguments = ("prepare", "unlabelled", str(tmp_path / "photographs"), "--repeats", "1")
    result = result_of(tmp_path, *arguments)
    assert result["photographs"] == 3 and positive(*(row["photographs_per_second"] for row in result["rows"]))
    photographs, drawn, empty = result["agreement"]
    assert (photographs["faces"], drawn["faces"], empty["faces"]) == (3, drawn["count"], 0)
    for row in result["agreement"]:
        assert row["alike"] == row["count"] and row["largest_difference"] < 0.1
    assert "compared with facenet-pytorch" in capsys.readouterr().out


def test_the_page_has_the_saved_numbers(tmp_path, repository, capsys):
    """An incomplete run is refused."""
    row = {"frames": 90, "frame_ms": {"p50": 30.0, "p95": 60.0}, "starts": 1, "start_ms": 200.0, "decisions": {}}
    attacked = row | {"frame_ms": {"p50": 45.0, "p95": 60.0}, "quiet": ["quiet 0", "quiet 1"], "attacker": {"429": 7}}
    machine = {"device": "cpu", "cpu": "a processor", "cores": 2, "threads": 1, "gpu": None, "torch": "2"}
    measured = {
        "machine": machine,
        "complete": True,
        "minutes": 5,
        "rows": {"quiet 0": row, "clips": attacked, "quiet 1": row},
        "quiet_crowd": row | {"attempts": 20, "decisions": {"Accepted": 20}, "refused": 0, "errors": []},
        "crowd": row | {"attempts": 20, "decisions": {"Accepted": 18, "slow": 1}, "refused": 1, "errors": []},
        "tracebacks": 0,
        "load": 0.5,
        "memory_mib": {"before": 700, "during": 900, "minute_after": 707, "growth": 0.01},
    }
    speed = {"machine": machine, "rows": [{"frames_per_second": 10.0 * n, "ratio": 1.0 * n} for n in (1, 2, 4)]}
    speed["milliseconds_per_frame"] = {"detect": 20.04, "network": 7.0}
    (tmp_path / "inference.json").write_text(json.dumps(speed))
    slow = [(2, 10.0, 90), (4, 9.1, 280), (6, 8.8, 290), (8, 9.5, 310)]  # too few frames, and late answers
    clients = [
        {"clients": clients, "frame_seconds": 0.1, "frames_per_second": [pace], "answer_ms": {"p50": 20, "p95": late}}
        | {"smile_seconds": {"p95": 0.5}, "decisions": {"Accepted": 3, "slow": 1}, "errors": []}
        for clients, pace, late in slow
    ]
    (tmp_path / "live.json").write_text(json.dumps({"machine": machine, "rows": clients}))
    page = tmp_path / "demo.md"
    page.write_text((repository / "docs/demo.md").read_text(encoding="utf-8"), encoding="utf-8")
    command = ["page", "--results", str(tmp_path), "--page", str(page)]
    assert main(command) == 0 and "hostile.json: its table is not changed" in capsys.readouterr().err
    (tmp_path / "hostile.json").write_text(json.dumps(measured | {"complete": False}))
    assert main(command) == 2
    (tmp_path / "hostile.json").write_text(json.dumps(measured))
    assert main(command) == 0
    text = page.read_text(encoding="utf-8")
    assert "| clips | 90 | 45 | 1.50 | 1.00 | 1.00 | 429: 7 |" in text
    assert "19 attempts were decided (18: Accepted; 1: slow), 1 had to wait, with 0 errors" in text
    assert "20 attempts were decided (20: Accepted)" in text and "900 MiB after 5 minutes" in text
    assert "as on the page | 40.0 | 4.00 |" in text and "measured alone: detect 20.0, network 7.0." in text
    assert "| the same, with tracking | 5.6 | 4.0 | at least 10 | `benchmarks inference` |" in text
    assert "| 8 | 0.1 s | 9.5 to 9.5 | 20, 310 | 0.50 | 3, 1 | 0 |" in text
    assert "of the answers in less than 300 ms | 4 | 4 | twice as many | `benchmarks live` |" in text
    assert text.count("Measured on: a processor, 1 thread on 2 cores, torch 2.") == 3


def test_the_tables_of_the_page_match_the_results(tmp_path, repository):
    page = tmp_path / "demo.md"
    page.write_text((repository / "docs/demo.md").read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["page", "--page", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == (repository / "docs/demo.md").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="the attacker comes from other addresses")
def test_an_attacked_server_is_measured(tmp_path, capsys, monkeypatch):
    """A benchmark of a few seconds: counted requests, the end of an attacker with its phase, and saved results."""
    before = set(multiprocessing.active_children())
    monkeypatch.setattr(hostile, "ATTACKS", {"poisoned names": hostile.ATTACKS["poisoned names"]})
    monkeypatch.setattr(hostile, "MINUTE", 1)
    saved = tmp_path / "hostile.json"
    sizes = ("--clients", "1", "--seconds", "2", "--minutes", "0.05", "--crowd", "1")
    assert main(["hostile", *sizes, "--json", str(saved)]) == 0
    result = json.loads(saved.read_text())
    assert list(result["rows"]) == [
        "quiet 0",
        "poisoned names",
        "quiet 1",
        "all together",
        "quiet 2",
    ]
    assert result["complete"] and result["tracebacks"] == 0
    assert sum(result["rows"]["poisoned names"]["attacker"].values()) > 0
    assert "attempts of 1 people during all attacks" in capsys.readouterr().out
    assert set(multiprocessing.active_children()) <= before
