"""Cross-validation over folds of people: the people for training, validation and test, and the summary."""

import json

import numpy as np
import pytest
from datasets import Dataset
from small_runs import copy_summary

from face_data.protocol import person_folds
from face_data.table import FEATURES, load_corpus
from train.__main__ import main
from train.config import TrainingConfig
from train.folds import fold_config


@pytest.fixture
def folded(drawn_corpus, tmp_path):
    """A corpus of drawn people, four in each fold, split as the reader of CK+ splits people."""
    rows = load_corpus(drawn_corpus).to_list()[::3]
    fold_of = person_folds({row["identity"] for row in rows})
    return _write_corpus([row | {"split": fold_of[row["identity"]]} for row in rows], tmp_path / "folded", drawn_corpus)


def _write_corpus(rows, out, drawn_corpus):
    out.mkdir()
    Dataset.from_list(rows, features=FEATURES).to_parquet(out / "part-00000.parquet")
    copy_summary(drawn_corpus, out)
    return out


def test_the_parts_of_a_fold_share_no_people(folded):
    tested = []
    for fold in range(1, 11):
        config = fold_config(TrainingConfig(out="runs/x", train=[str(folded)], fold="all"), fold)
        assert config.out == f"runs/x/fold-{fold:02d}" and config.fold is None
        parts = [text.partition(":")[2].split(",") for text in (*config.train, *config.validation)]
        people = [set(load_corpus(folded, splits)["identity"][:]) for splits in (*parts, [str(fold)])]
        assert len(people) == 3 and not (people[0] & people[1] or people[1] & people[2] or people[0] & people[2])
        assert len(set.union(*people)) == 40
        tested += people[2]
    assert len(tested) == len(set(tested)) == 40


def test_every_fold_is_trained_and_tested_and_the_results_are_averaged(folded, drawn_corpus, tmp_path, capsys):
    other_corpus = _write_corpus(load_corpus(drawn_corpus, ["valid"]).to_list()[:14], tmp_path / "others", drawn_corpus)
    arguments = [
        "--config",
        "train/presets/dynamic.yaml",
        "train/presets/drawn.yaml",
        "--out",
        str(tmp_path / "run"),
        "--train",
        str(folded),
        "--validation",
        str(other_corpus),
        "--fold",
        "all",
        "--cpu",
        "true",
        "--steps",
        "1",
        "--batch_size",
        "8",
        "--image_size",
        "64",
        "--network.trunk",
        "test_resnet",
        "--network.repeats",
        "[1, 1, 0]",
        "--validate_every",
        "1",
        "--tracker",
        "none",
    ]
    assert main(arguments) == 0
    summary = json.loads((tmp_path / "run" / "folds.json").read_text())
    assert list(summary["folds"]) == [str(fold) for fold in range(1, 11)]
    name = "folded_expression_accuracy"
    values = [numbers[name] for numbers in summary["folds"].values()]
    assert summary["mean"][name] == pytest.approx(np.mean(values))
    assert summary["standard_error"][name] == pytest.approx(np.std(values, ddof=1) / 10**0.5)
    printed = capsys.readouterr().out
    assert f"{name:<46}{summary['mean'][name]:>8.3f}{summary['standard_error'][name]:>8.3f}" in printed
    test = json.loads((tmp_path / "run" / "fold-03" / "test.json").read_text())
    validated = json.loads((tmp_path / "run" / "fold-03" / "training.json").read_text())
    assert test["corpora"] == [f"{folded}:3"] and test[name] == summary["folds"]["3"][name]
    assert test["folded_verification_threshold"] == validated["validations"][-1]["folded_verification_threshold"]
    status = main(arguments)  # every fold is finished, so it is only tested again
    assert status == 0 and json.loads((tmp_path / "run" / "folds.json").read_text()) == summary


def test_splits_cannot_be_combined_with_folds(folded, tmp_path, capsys):
    assert main(["--train", f"{folded}:1,2", "--fold", "3", "--out", str(tmp_path), "--cpu", "true"]) == 2
    assert f"give {folded} without `:1,2`" in capsys.readouterr().err


def test_validation_on_people_of_the_folds_is_refused(folded, tmp_path, capsys):
    folds = ["--train", str(folded), "--fold", "3", "--out", str(tmp_path), "--cpu", "true"]
    assert main([*folds, "--validation", f"{folded}:3"]) == 2
    assert f"leave {folded}:3 out of --validation" in capsys.readouterr().err
