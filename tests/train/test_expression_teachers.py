"""Expression teachers: what they teach about which faces, and the record of a run that learnt from them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from small_runs import TINY, copy_summary, record, run_arguments, weights

from checkpoints import training_stages
from face_data.table import FEATURES, load_corpus
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import EXPRESSIONS, FaceLiveNetConfig, FaceLiveNetModel
from train.__main__ import main
from train.config import TrainingConfig
from train.data import load_data, mix_and_deceive
from train.expression_teachers import LABEL_SHARE, load_expression_teachers
from train.teacher import TeacherError


@pytest.fixture(autouse=True)
def in_repository(repository, monkeypatch):
    monkeypatch.chdir(repository)


def untrained(folder: Path, seed: int, **settings) -> str:
    torch.manual_seed(seed)
    network = FaceLiveNetModel(FaceLiveNetConfig(image_size=64, trunk="test_resnet", repeats=[1, 1, 0], **settings))
    torch.nn.init.normal_(network.expression_head.classifier.weight)
    network.save_pretrained(folder)
    FaceLiveNetImageProcessor(size=64).save_pretrained(folder)
    return str(folder)


def make_answers_differ(folder: Path, faces: torch.Tensor) -> None:
    """Scale the logits of an untrained network, which finds all faces similar, to mean 0 and deviation 3."""
    network = FaceLiveNetModel.from_pretrained(folder).eval()
    last = network.expression_head.classifier
    with torch.no_grad():
        logits = network(FaceLiveNetImageProcessor(size=64).whiten(faces)).expression_logits
        last.bias.sub_(logits.mean(dim=0)).mul_(3 / logits.std(dim=0))
        last.weight.mul_(3 / logits.std(dim=0)[:, None])
    network.save_pretrained(folder)


def test_the_target_is_half_the_label_and_half_the_mean_of_the_teachers(tmp_path):
    names = [untrained(tmp_path / str(seed), seed) for seed in range(2)]
    faces = torch.randint(0, 256, (3, 3, 80, 80), dtype=torch.uint8)
    alone = [load_expression_teachers([name], tuple(EXPRESSIONS), "margin")(faces) for name in names]
    teachers = load_expression_teachers(names, tuple(EXPRESSIONS), "margin")
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


def test_covered_faces_are_not_taught(drawn_corpus, tmp_path, monkeypatch):
    """A face with a covered mouth has the uniform target, whatever the teachers say; another face has theirs."""
    config = TrainingConfig(
        train=[f"{drawn_corpus}:train"],
        image_size=80,
        deception_share=0.5,
        expression_teachers=[untrained(tmp_path / "teacher", 0)],
    )
    accelerator = Accelerator(cpu=True)
    data = load_data(config, accelerator)
    batch = data.faces.__getitems__(list(range(16)))
    make_answers_differ(tmp_path / "teacher", batch.faces)
    data = load_data(config, accelerator)
    monkeypatch.setattr("train.deceptions.WEIGHTS", torch.tensor([1.0, 0, 0, 0, 0, 0]))  # only mouths
    torch.manual_seed(0)
    deceived = mix_and_deceive(batch, data, config, accelerator)
    covered = (deceived.faces != batch.faces).flatten(1).any(dim=1)
    assert covered.any() and not covered.all()
    torch.testing.assert_close(deceived.expression[covered], torch.full((int(covered.sum()), 7), 1 / 7))
    expected = data.expression_teachers.targets(batch.faces, batch.expression)
    torch.testing.assert_close(deceived.expression[~covered], expected[~covered])
    assert (expected - batch.expression).abs().max() > 0.1


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
            load_expression_teachers([untrained(tmp_path / "usable", 1), name], tuple(EXPRESSIONS), "margin")
        assert cause in str(refused.value) and "\n" not in str(refused.value)


def test_faces_without_labels_teach_expressions(drawn_corpus, tmp_path):
    """Without any label of an expression the network learns what its teacher says about each face."""
    rows = load_corpus(drawn_corpus, ["train"]).to_list()[:64]
    (tmp_path / "faces").mkdir()
    unlabelled = [row | {"expression": None, "expression_votes": None} for row in rows]
    Dataset.from_list(unlabelled, features=FEATURES).to_parquet(tmp_path / "faces" / "part-00000.parquet")
    copy_summary(drawn_corpus, tmp_path / "faces")
    images = [np.array(image) for image in load_corpus(tmp_path / "faces")["image"]]
    faces = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    name = untrained(tmp_path / "teacher", 0)
    make_answers_differ(tmp_path / "teacher", faces)
    more = (*TINY, "--steps", "60", "--batch_size", "16", "--validate_every", "60", "--tracker", "none")
    more += ("--train", str(tmp_path / "faces"), "--expression_teachers", name)
    assert main(run_arguments(drawn_corpus, tmp_path / "run", *more, preset="single_expression")) == 0
    taught, learnt = (
        load_expression_teachers([str(folder)], tuple(EXPRESSIONS), "margin")(faces).argmax(dim=1)
        for folder in (tmp_path / "teacher", tmp_path / "run" / "last")
    )
    most_frequent = taught.bincount().max() / len(faces)
    agreement = (taught == learnt).float().mean()
    assert most_frequent < 0.4 and agreement > 0.5


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
