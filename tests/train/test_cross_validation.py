"""Cross-validation over folds of people: who is trained on, chosen on and tested on, and what is reported."""

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
    """Drawn people, four a fold, as the reader of CK+ would split them."""
    rows = load_corpus(drawn_corpus).to_list()[::3]
    fold_of = person_folds({row["identity"] for row in rows})
    return _corpus([row | {"split": fold_of[row["identity"]]} for row in rows], tmp_path / "folded", drawn_corpus)


def _corpus(rows, out, drawn_corpus):
    out.mkdir()
    Dataset.from_list(rows, features=FEATURES).to_parquet(out / "part-00000.parquet")
    copy_summary(drawn_corpus, out)
    return out


def test_nobody_is_in_two_parts_of_a_fold(folded):
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


def test_every_fold_is_run_tested_and_averaged(folded, drawn_corpus, tmp_path, capsys):
    others = _corpus(load_corpus(drawn_corpus, ["valid"]).to_list()[:14], tmp_path / "others", drawn_corpus)
    arguments = [
        "--config",
        "train/presets/dynamic.yaml",
        "train/presets/drawn.yaml",
        "--out",
        str(tmp_path / "run"),
        "--train",
        str(folded),
        "--validation",
        str(others),
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
    again = main(arguments)  # every fold is finished: tested again, not trained again
    assert again == 0 and json.loads((tmp_path / "run" / "folds.json").read_text()) == summary


def test_splits_beside_folds_are_refused(folded, tmp_path, capsys):
    assert main(["--train", f"{folded}:1,2", "--fold", "3", "--out", str(tmp_path), "--cpu", "true"]) == 2
    assert "give" in capsys.readouterr().err


def test_people_of_the_folds_are_not_validated_on_beside_them(folded, tmp_path, capsys):
    folds = ["--train", str(folded), "--fold", "3", "--out", str(tmp_path), "--cpu", "true"]
    assert main([*folds, "--validation", f"{folded}:3"]) == 2
    assert f"leave {folded}:3 out of --validation" in capsys.readouterr().err
