"""Expression teachers: what they teach about which faces, and the record of a run that learnt from them."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from small_runs import TINY, copy_summary, log, record, run_arguments, weights

from checkpoints import training_stages
from face_data.table import FEATURES, load_corpus
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import EXPRESSIONS, FaceLiveNetConfig, FaceLiveNetModel
from train.__main__ import main
from train.expression_teachers import LABEL_SHARE, load_expression_teachers
from train.teacher import TeacherError


@pytest.fixture(autouse=True)
def in_repository(repository, monkeypatch):
    monkeypatch.chdir(repository)


def untrained(folder: Path, seed: int, **settings) -> str:
    torch.manual_seed(seed)
    network = FaceLiveNetModel(FaceLiveNetConfig(image_size=64, trunk="test_resnet", repeats=[1, 1, 0], **settings))
    torch.nn.init.normal_(network.expression_head.classifier.weight, std=30)  # else all faces are similar to it
    network.save_pretrained(folder)
    FaceLiveNetImageProcessor(size=64).save_pretrained(folder)
    return str(folder)


def test_the_target_is_half_the_label_and_half_the_mean_of_the_teachers(tmp_path):
    names = [untrained(tmp_path / str(seed), seed) for seed in range(2)]
    faces = torch.randint(0, 256, (3, 3, 80, 80), dtype=torch.uint8)
    alone = [load_expression_teachers([name], tuple(EXPRESSIONS))(faces) for name in names]
    teachers = load_expression_teachers(names, tuple(EXPRESSIONS))
    mean = teachers(faces)
    assert (alone[0] - alone[1]).abs().max() > 0.01
    torch.testing.assert_close(mean, (alone[0] + alone[1]) / 2)
    torch.testing.assert_close(mean.sum(dim=1), torch.ones(3))
    labels = torch.zeros(3, len(EXPRESSIONS))
    labels[0, 2] = 1
    targets = teachers.targets(faces, labels)
    torch.testing.assert_close(targets[0], LABEL_SHARE * labels[0] + (1 - LABEL_SHARE) * mean[0])
    torch.testing.assert_close(targets[1:], mean[1:])
    assert not any(parameter.requires_grad for parameter in teachers.parameters())


def test_unusable_teachers_are_refused_in_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "graph.onnx").write_bytes(b"a graph")
    other = untrained(tmp_path / "other", 0, id2label={0: "happy", 1: "sad"}, label2id={"happy": 0, "sad": 1})
    damaged = untrained(tmp_path / "damaged", 0)
    (tmp_path / "damaged" / "training.json").write_text("{")
    for name, cause in (
        ("no_such_model", "no_such_model: no such model folder"),
        (str(tmp_path / "empty"), "config.json is missing"),
        (str(tmp_path / "graph.onnx"), "an exported graph cannot teach"),
        (other, "recognises happy, sad; the network neutral, "),
        (damaged, "training.json is damaged"),
    ):
        with pytest.raises(TeacherError, match=r"^--expression_teachers: ") as refused:
            load_expression_teachers([untrained(tmp_path / "usable", 1), name], tuple(EXPRESSIONS))
        assert cause in str(refused.value) and "\n" not in str(refused.value)


def test_faces_without_labels_teach_expressions(drawn_corpus, tmp_path):
    """Without any label of an expression the network learns what its teacher says about each face."""
    rows = load_corpus(drawn_corpus, ["train"]).to_list()[:64]
    (tmp_path / "faces").mkdir()
    unlabelled = [row | {"expression": None, "expression_votes": None} for row in rows]
    Dataset.from_list(unlabelled, features=FEATURES).to_parquet(tmp_path / "faces" / "part-00000.parquet")
    copy_summary(drawn_corpus, tmp_path / "faces")
    more = (*TINY, "--steps", "40", "--batch_size", "16", "--validate_every", "40", "--tracker", "none")
    more += ("--train", str(tmp_path / "faces"), "--expression_teachers", untrained(tmp_path / "teacher", 0))
    assert main(run_arguments(drawn_corpus, tmp_path / "run", *more, preset="single_expression")) == 0
    losses = [row["expression_loss"] for row in log(tmp_path / "run")]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_the_record_has_the_teachers_and_their_data(drawn_corpus, tmp_path, capsys):
    """A teacher without a record makes the people of the training unknown."""
    names = [untrained(tmp_path / str(seed), seed) for seed in range(2)]
    training = {"trained_on": {"lfw": ["3"]}, "minutes": 12, "config": {"seed": 1}}
    (tmp_path / "0" / "training.json").write_text(json.dumps(training))
    more = (*TINY, "--steps", "1", "--batch_size", "8", "--validate_every", "1", "--tracker", "none")
    more += ("--expression_teachers", names[0])
    assert main(run_arguments(drawn_corpus, tmp_path / "run", *more, preset="single_expression")) == 0
    run = record(tmp_path / "run")
    assert run["trained_on"] == {"drawn": ["train"], "lfw": ["3"]}
    [teacher] = run["expression_teachers"]
    assert training_stages(run)[teacher - 1]["minutes"] == 12
    assert not any("teacher" in name for name in weights(tmp_path / "run" / "last"))
    assert main(run_arguments(drawn_corpus, tmp_path / "second", *more, names[1], preset="single_expression")) == 0
    run = record(tmp_path / "second")
    assert run["trained_on"] is None and run["expression_teachers"] == [teacher, None]
    assert "learning expressions from " in capsys.readouterr().out
    assert main(run_arguments(drawn_corpus, tmp_path / "third", *more, "nothing", preset="single_expression")) == 2
    assert "nothing: no such model folder" in capsys.readouterr().err
