"""`python -m evaluation` from end to end, on a small prepared corpus and a random network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from facenet_pytorch import InceptionResnetV1
from PIL import Image

from evaluation.__main__ import main
from face_data.table import FEATURES, load_corpus

FAR = ("--far", "0.05")


@pytest.fixture
def calibrated(checkpoint, corpus, capsys):
    assert main(["calibrate", "--model", str(checkpoint), "--data", str(corpus), *FAR]) == 0
    assert "Calibrated on patterns split 9: 6 people, 36 genuine and 240 impostor pairs" in capsys.readouterr().out
    return checkpoint


def test_the_command_all_runs_all_protocols(calibrated, corpus, tmp_path, capsys):
    out = tmp_path / "results"
    assert main(["all", "--model", str(calibrated), "--data", str(corpus), "--out", str(out), *FAR]) == 0
    table = capsys.readouterr().out
    assert "The 829 pairs of pairs.csv in 3 folds" in table
    assert "OPTIMISTIC: the network was trained on the people of folds 8; the other folds alone" in table
    assert "1 pairs, decided as different people" in table
    assert "Acc_auth" in table
    assert "Both images degraded in the same way, split 10: 12 images of 6 people" in table and "checked scarf" in table
    results = json.loads((out / "results.json").read_text())
    assert len(results["model"]["sha256"]) == 64
    verification = results["verification"]["patterns"]
    assert verification["corpus"]["skipped_by_reason"] == {"no face found": 1}
    assert (verification["seed"], verification["train_splits"], verification["image_size"]) == (0, ["8"], 96)
    assert verification["versions"]["torch"]
    assert verification["ten_folds"]["folds"][0]["trained_on"] is True
    # fold 10: 24 photographs make 36 genuine and 240 impostor pairs, and one genuine pair has no face
    single_fold = verification["single_fold"]
    assert (single_fold["genuine_pairs"], single_fold["impostor_pairs"], single_fold["missing_pairs"]) == (37, 240, 1)
    expression = results["expression"]["patterns 9+10"]["report"]
    assert (expression["accuracy"]["total"], expression["unlabelled"]) == (42, 6)
    authentication = results["authentication"]["patterns 10"]
    config = json.loads((calibrated / "config.json").read_text())
    assert authentication["report"]["similarity_threshold"] == config["similarity_threshold"]
    assert authentication["calibration"]["corpora"] == {"patterns": ["9"]}
    assert authentication["warnings"] == []
    degraded = results["degradations"]["patterns 10"]["report"]
    unchanged, blurred = (degraded["degradations"][name] for name in ("unchanged", "blurred by 7 % of its width"))
    assert unchanged["false_accepts"]["total"] == 60 and unchanged["genuine_accepts"]["total"] == 6
    assert blurred["refused"] == blurred["refused"] | {"hits": 12, "total": 12}  # only the noise is sharp
    assert blurred["false_accepts_gated"]["hits"] == blurred["genuine_accepts_gated"]["hits"] == 0
    figures = ("roc_patterns.png", "det_patterns.png", "scores_patterns.png", "confusion_patterns_9_10.png")
    for figure in figures:
        with Image.open(out / figure) as picture:
            assert min(picture.size) > 300


def test_several_commands_write_to_one_results_file(calibrated, corpus, tmp_path, capsys):
    out = tmp_path / "results"
    common = ["--model", str(calibrated), "--data", str(corpus), "--out", str(out)]
    assert main(["expression", *common, "--splits", "9"]) == 0
    assert "OPTIMISTIC" not in capsys.readouterr().out
    assert main(["expression", *common, "--splits", "8"]) == 0
    assert "OPTIMISTIC: the network was trained on split 8" in capsys.readouterr().out
    assert main(["authentication", *common, "--splits", "9"]) == 0
    assert "OPTIMISTIC: the checkpoint's thresholds were chosen on some of these people" in capsys.readouterr().out
    assert main(["verification", *common, *FAR, "--splits", "9"]) == 0
    assert "pairs.csv" not in capsys.readouterr().out
    assert main(["expression", *common, "--splits", "10"]) == 0
    results = json.loads((out / "results.json").read_text())
    assert set(results) == {"schema_version", "model", "expression", "authentication", "verification"}
    assert set(results["expression"]) == {"patterns 8", "patterns 9", "patterns 10"}
    assert "ten_folds" not in results["verification"]["patterns 9"]

    results["model"]["sha256"] = "0" * 64
    (out / "results.json").write_text(json.dumps(results))
    assert main(["expression", *common]) == 2
    assert "is of other weights" in capsys.readouterr().err


def test_errors_name_the_cause_and_exit_with_2(checkpoint, corpus, tmp_path, capsys):
    model, data = ["--model", str(checkpoint)], ["--data", str(corpus)]
    out = ["--out", str(tmp_path / "results")]

    def error_of(*arguments) -> str:
        assert main(list(arguments)) == 2
        text = capsys.readouterr().err
        assert "evaluation: " in text
        return text

    assert "no such model folder" in error_of("expression", "--model", str(tmp_path / "none"), *data, *out)
    assert "config.json is missing" in error_of("expression", "--model", str(tmp_path), *data, *out)
    assert "no such folder" in error_of("expression", *model, "--data", str(tmp_path / "none"), *out)
    assert "no split 11" in error_of("expression", *model, *data, *out, "--splits", "11")
    assert "has no similarity_threshold" in error_of("authentication", *model, *data, *out)
    assert "trained on patterns, split 8" in error_of("calibrate", *model, *data, "--splits", "8")
    assert "at least 1/FAR" in error_of("calibrate", *model, *data, "--far", "0.001")
    assert not (tmp_path / "results").exists()
    with pytest.raises(SystemExit, match="2"):
        main(["calibrate", *model, *data, "--far", "1.5"])
    assert "1.5 is not a rate between 0 and 1" in capsys.readouterr().err

    bare = tmp_path / "bare"  # has no pairs.csv and no split that is evaluated by default
    bare.mkdir()
    load_corpus(corpus, ["8", "9"]).to_parquet(bare / "part-00000.parquet")
    (bare / "corpus.json").write_bytes((corpus / "corpus.json").read_bytes())
    text = error_of("verification", *model, "--data", str(bare), *out)
    assert "pairs.csv is missing" in text
    assert "--splits" in text
    nameless = tmp_path / "nameless"
    nameless.mkdir()
    rows = [row | {"identity": None, "split": "valid"} for row in load_corpus(corpus, ["9"]).to_list()]
    Dataset.from_list(rows, features=FEATURES).to_parquet(nameless / "part-00000.parquet")
    (nameless / "corpus.json").write_bytes((corpus / "corpus.json").read_bytes())
    text = error_of("verification", *model, "--data", str(nameless), *out)
    assert "it needs identities" in text and "verification cannot be evaluated" in text


def test_each_corpus_is_evaluated_with_the_labels_that_it_has(calibrated, corpus, tmp_path, capsys):
    nameless = tmp_path / "nameless"
    nameless.mkdir()
    rows = [row | {"identity": None, "split": "valid"} for row in load_corpus(corpus, ["9"]).to_list()]
    Dataset.from_list(rows, features=FEATURES).to_parquet(nameless / "part-00000.parquet")
    summary = json.loads((corpus / "corpus.json").read_text()) | {"layout": "nameless"}
    (nameless / "corpus.json").write_text(json.dumps(summary))
    out = tmp_path / "results"
    model = ["--model", str(calibrated), "--out", str(out), *FAR]
    assert main(["all", *model, "--data", str(corpus), str(nameless)]) == 0
    table = capsys.readouterr().out
    assert "verification is skipped for" in table and "authentication is skipped for" in table
    results = json.loads((out / "results.json").read_text())
    assert set(results["expression"]) == {"patterns 9+10", "nameless valid"}
    assert set(results["verification"]) == {"patterns"}
    assert results["expression"]["nameless valid"]["report"]["accuracy"]["total"] == 24


def test_calibration_on_two_corpora_takes_identities_from_one_and_expressions_from_both(
    checkpoint, corpus, tmp_path, capsys
):
    nameless = tmp_path / "nameless"
    nameless.mkdir()
    rows = [row | {"identity": None, "split": "valid"} for row in load_corpus(corpus, ["10"]).to_list()]
    Dataset.from_list(rows, features=FEATURES).to_parquet(nameless / "part-00000.parquet")
    summary = json.loads((corpus / "corpus.json").read_text()) | {"layout": "nameless"}
    (nameless / "corpus.json").write_text(json.dumps(summary))
    command = ["calibrate", "--model", str(checkpoint), *FAR, "--challenge", "surprise"]
    assert main([*command, "--data", f"{corpus}:9", f"{nameless}:valid"]) == 0
    text = capsys.readouterr().out
    assert "Calibrated on patterns split 9: 6 people" in text
    assert "on 42 images of patterns split 9, nameless split valid" in text
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["challenge_expressions"] == ["surprise"]
    record = config["calibration"]
    assert record["corpora"] == {"patterns": ["9"]} and record["genuine_pairs"] == 36
    assert record["expression"]["corpora"] == {"patterns": ["9"], "nameless": ["valid"]}
    assert record["expression"]["required"]["surprise"]["seen"]["total"] == 12  # six of each corpus
    assert record["expression"]["others"]["happy"]["seen"]["total"] == 18

    assert main([*command, "--data", f"{nameless}:valid"]) == 2
    assert "nameless: no identities to choose the similarity threshold on" in capsys.readouterr().err
    assert main([*command, "--data", f"{corpus}:9", f"{corpus}:10"]) == 2
    assert "another corpus has the same name, patterns" in capsys.readouterr().err
    assert main([*command[:-1], "anger", "grief", "--data", f"{corpus}:9"]) == 2
    assert "--challenge grief: the model knows neutral" in capsys.readouterr().err


def test_the_schema_describes_the_results_file(evaluated, capsys):
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    results = json.loads((evaluated[1] / "results.json").read_text())
    assert set(results) <= set(schema["properties"])
    assert set(schema["$defs"]["Rate"]["required"]) == {"value", "hits", "total", "low", "high"}


def test_help_has_examples():
    help_text = subprocess.run(
        [sys.executable, "-m", "evaluation", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "python -m evaluation calibrate --model pretrained --data corpora/lfw:9 --far 0.01" in help_text
    for command in ("verification", "expression", "authentication", "all", "calibrate"):
        assert f"\n    {command}" in help_text


def test_models_and_baselines_are_compared(corpus, save_model, tmp_path, capsys):
    for name in ("plain", "other"):
        folder = tmp_path / name / "last"  # as a training run writes it
        save_model(folder, len(name))
        weighting = {"plain": "dynamic", "other": "expression"}[name]
        record = {"trained_on": {"patterns": ["8"]}, "minutes": 2, "config": {"network": {"weighting": weighting}}}
        (folder / "training.json").write_text(json.dumps(record))
    torch.save(InceptionResnetV1(pretrained=None).state_dict(), tmp_path / "vggface2.pt")
    out = tmp_path / "out"
    command = ["compare", "--model", str(tmp_path / "plain"), str(tmp_path / "other" / "last"), "--far", "0.05"]
    command += ["--data", f"{corpus}:9", "--out", str(out), "--inception", str(tmp_path / "vggface2.pt")]
    command += ["--lbp-svm", f"{corpus}:8", "--lbp-validation", f"{corpus}:10"]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert f"{corpus}:9" in table and "less plain" in table and "McNemar" in table
    section = json.loads((out / "comparison.json").read_text())["corpora"][f"{corpus}:9"]
    verification_cells = {row["label"]: row["cells"] for row in section["verification"]["rows"]}
    assert list(verification_cells) == ["plain", "other", "LBP+SVM", "Inception-ResNet-v1"]
    assert verification_cells["other"] == {}
    counts = [verification_cells[label]["accuracy"]["counts"]["total"] for label in ("plain", "Inception-ResNet-v1")]
    assert counts == [276, 276]
    expression_cells = {row["label"]: row["cells"] for row in section["expression"]["rows"]}
    assert expression_cells["Inception-ResNet-v1"] == {}
    assert [expression_cells[label]["accuracy"]["counts"]["total"] for label in ("other", "LBP+SVM")] == [24, 24]
    assert section["models"]["plain"]["minutes"] == 2
    assert len(list(out.glob("*.png"))) == len(list(out.glob("*.svg"))) == 3  # ROC, DET, t-SNE

    assert main([*command, "--reference", "nobody"]) == 2
    assert "--reference nobody: no such row; there are plain, other" in capsys.readouterr().err
    command[2:4] = [str(tmp_path / "plain"), str(tmp_path / "plain")]
    assert main(command) == 2
    assert "another model has the same label, plain" in capsys.readouterr().err


def test_absent_photographs_are_not_reported_as_without_a_face(calibrated, corpus, tmp_path, capsys):
    """Ten folds are not evaluated without all photographs, and fold 10 is evaluated only with those of fold 9."""

    def part(name: str, splits: list[str]) -> str:
        (tmp_path / name).mkdir()
        load_corpus(corpus, splits).to_parquet(tmp_path / name / "part-00000.parquet")
        for file in ("corpus.json", "pairs.csv"):
            (tmp_path / name / file).write_bytes((corpus / file).read_bytes())
        return str(tmp_path / name)

    out = tmp_path / "results"
    common = ["verification", "--model", str(calibrated), "--out", str(out), *FAR]
    assert main([*common, "--data", part("two", ["9", "10"])]) == 0
    table = capsys.readouterr().out
    assert "No ten folds: the corpus lacks 24 photographs that pairs.csv names in fold 8" in table
    assert "complete folds: 9, 10" in table and "± " not in table and "trained on none of these people" not in table
    assert "Fold 10, evaluated once, thresholds from fold 9" in table
    section = json.loads((out / "results.json").read_text())["verification"]["patterns"]
    assert "ten_folds" not in section and section["single_fold"]["missing_pairs"] == 1
    assert main([*common, "--data", part("one", ["10"])]) == 0
    table = capsys.readouterr().out
    assert "in fold 8, 9, so these folds are not evaluated; complete folds: 10" in table
    assert "Fold 10, evaluated once" not in table and "Generated pairs among the people of split 10" in table

    rows = [row | {"identity": None} for row in load_corpus(corpus, ["9"]).to_list()]
    folder = Path(part("nobody", ["9"]))
    Dataset.from_list(rows, features=FEATURES).to_parquet(folder / "part-00000.parquet")
    assert main([*common, "--data", str(folder)]) == 2
    assert "complete folds: 9" in capsys.readouterr().err


def test_pairs_of_people_without_names_are_evaluated(calibrated, corpus, tmp_path, capsys):
    """InsightFace's verification files state which pairs show the same person, but contain no names."""
    folder = tmp_path / "nameless"
    folder.mkdir()
    rows = [row | {"identity": None} for row in load_corpus(corpus, None).to_list()]
    Dataset.from_list(rows, features=FEATURES).to_parquet(folder / "part-00000.parquet")
    for file in ("corpus.json", "pairs.csv"):
        (folder / file).write_bytes((corpus / file).read_bytes())
    arguments = ["--model", str(calibrated), "--data", str(folder), "--out", str(tmp_path / "results"), *FAR]
    assert main(["verification", *arguments]) == 0
    table = capsys.readouterr().out
    assert "The 829 pairs of pairs.csv in 3 folds" in table and "Generated pairs" not in table
