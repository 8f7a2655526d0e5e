"""Evaluation of ten folds, each with its network: no pair contains photographs of two folds."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from checkpoints import Checkpoint
from evaluation.__main__ import main
from evaluation.protocols.folds import Fold, expression_over_folds, fold_models, verification_over_folds
from face_data.pairs import Pair


def fold(make_embeddings, number, seed, splits):
    """A fold and the embeddings of its network, with a random rotation that no other fold has."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]

    def part(split):
        rows = []
        for person in range(4):
            for number, label in enumerate(("neutral", "happy", "neutral")):
                vector = rotation @ (np.eye(8)[person] + 0.05 * rng.normal(size=8))
                probabilities = [0.8, 0.1, 0.1] if label == "neutral" else [0.1, 0.8, 0.1]
                rows.append((f"{split}/{person}/{number}", f"{split}p{person}", label, split, vector, probabilities))
        return make_embeddings(rows)

    checkpoint = Checkpoint("fold", Path("nowhere"), None, None, "0" * 64)
    return Fold(number, checkpoint, *(part(split) for split in splits))


@pytest.fixture
def folds(make_embeddings):
    return [
        fold(make_embeddings, 1, 1, ("2", "1")),
        fold(make_embeddings, 2, 2, ("3", "2")),
        fold(make_embeddings, 3, 3, ("1", "3")),
    ]


def test_each_fold_is_evaluated_with_its_network(folds):
    result = verification_over_folds(folds, [], 0.1, seed=0)
    assert result.mean == result.accuracy.value == 1
    assert [row.fold for row in result.folds] == [1, 2, 3]
    # 4 people with 3 photographs: 12 genuine pairs and 54 impostor pairs in each fold; none across
    assert (result.curve.genuine_pairs, result.curve.impostor_pairs) == (36, 162)
    assert result.curve.auc == 1
    pairs = [Pair(int(s), f"{s}/0/0", f"{s}/{p}/1", p == 0) for s in "123" for p in (0, 1)]
    assert verification_over_folds(folds, pairs, 0.5, seed=0).accuracy.total == 6
    expression = expression_over_folds(folds, seed=0)
    assert (expression.mean, expression.standard_error) == (1, 0)
    assert expression.report.accuracy.total == 36


def test_the_command_folds(corpus, save_model, tmp_path, capsys):
    """Folds 8, 9 and 10 of the small corpus, with random networks."""
    run = tmp_path / "run"
    for number in (8, 9):
        folder = run / f"fold-{number:02d}" / "best"
        save_model(folder, number)
        trained_on = {8: {"trained_on": {"patterns": ["1", "8"], "other": ["9"]}}, 9: {}}[number]
        (folder / "training.json").write_text(json.dumps(trained_on))
    out = tmp_path / "out"
    command = ["folds", "--model", str(run), "--data", str(corpus), "--out", str(out), "--far", "0.05"]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert "Folds 8, 9 of patterns, each evaluated by its own network" in table and "Acc_auth" in table
    section = json.loads((out / "results.json").read_text())["folds"]["patterns"]
    assert [row["fold"] for row in section["verification"]["folds"]] == [8, 9]
    assert section["verification"]["curve"]["genuine_pairs"] == 72
    assert section["expression"]["report"]["accuracy"]["total"] == 48
    thresholds = [row["similarity_threshold"] for row in section["authentication"]["folds"]]
    assert len(set(thresholds)) == 2
    assert section["warnings"] == [
        "fold 8: OPTIMISTIC: the network was trained on split 8",
        "fold 9: UNKNOWN: it is not recorded on which people the network was trained; these may be among them",
    ]
    assert "Ten folds" in (out / "report.html").read_text()

    for number in (8, 9):
        record = {"network": {"weighting": "verification"}}  # as a stage that trains a single task writes it
        (run / f"fold-{number:02d}" / "best" / "training.json").write_text(json.dumps(record))
    assert main(command) == 0
    single_task = json.loads((out / "results.json").read_text())["folds"]["patterns"]
    assert single_task["verification"]["folds"] == section["verification"]["folds"]
    assert single_task["expression"] is single_task["authentication"] is None
    assert "  no expression: the networks were trained for verification alone\n" in capsys.readouterr().out

    shutil.rmtree(run / "fold-09" / "best")
    assert main(command) == 2
    assert "fold-09/best is missing" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="a training with --fold all"):
        fold_models(tmp_path / "nothing")
