"""The configuration of the training: presets are valid, overrides have priority, errors are reported."""

from dataclasses import replace

import pytest
import yaml

from face_data.table import split_corpus
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel
from train.config import TrainingConfig, checked, parse_settings
from train.network import optimizer_of


def parse_config(argv: list[str]) -> TrainingConfig:
    return checked(*parse_settings(argv))


def test_every_preset_parses(repository):
    presets = sorted((repository / "train" / "presets").glob("*.yaml"))
    assert len(presets) >= 3
    for preset in presets:
        assert parse_config(["--config", str(preset)]).steps > 0


def test_the_paper_preset_has_the_numbers_of_section_5_1(repository):
    config = parse_config(["--config", str(repository / "train/presets/paper_dynamic.yaml")])
    assert (config.batch_size, config.learning_rate, config.momentum) == (90, 0.1, 0.99)
    assert (config.milestones, config.weight_decay, config.network["dropout"]) == ([60_000, 80_000], 5e-5, 0.5)
    assert (config.network["triplet_weight"], config.network["triplet_margin"]) == (1e-4, 10)
    assert config.steps == 100_000 and not config.network.get("cosine_scale")
    assert config.optimizer == "rmsprop" and config.image_size == 160


def test_command_line_overrides_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"steps": 7, "learning_rate": 0.5, "train": ["a:1,2"]}))
    config = parse_config(["--config", str(file), "--steps", "9", "--train", "b", "c:valid"])
    assert (config.steps, config.learning_rate, config.train) == (9, 0.5, ["b", "c:valid"])
    assert [split_corpus(text) for text in config.train] == [("b", None), ("c", ["valid"])]


def test_weights_and_validation_of_a_preset_apply_only_to_its_corpora(tmp_path):
    base, file = tmp_path / "base.yaml", tmp_path / "run.yaml"
    base.write_text(yaml.safe_dump({"train": ["a:1,2", "b"], "train_weights": [0.7, 0.3], "validation": ["a:9"]}))
    file.write_text(yaml.safe_dump({"base": "base.yaml", "train": ["c"]}))
    assert parse_config(["--config", str(file)]).train_weights == []
    preset = ["--config", str(base)]
    assert parse_config([*preset, "--steps", "9"]).train_weights == [0.7, 0.3]
    other = parse_config([*preset, "--train", "c"])
    assert (other.train_weights, other.validation) == ([], ["a:9"])
    assert parse_config([*preset, "--train", "c", "d", "--train_weights", ".5", ".5"]).train_weights == [0.5, 0.5]
    assert parse_config([*preset, "--train", "a", "--fold", "all"]).validation == []  # eight runs train on fold 9
    assert parse_config([*preset, "--train", "a", "--fold", "all", "--validation", "c"]).validation == ["c"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": 7}, "unknown key 'step'"),
        ({"steps": None}, "steps: a whole number, not None"),
        ({"workers": 2.5}, "workers: a whole number, not 2.5"),
        ({"seed": 1.5}, "seed: a whole number, not 1.5"),
        ({"steps": True}, "steps: a whole number, not True"),
        ({"milestones": 2}, "milestones: a list such as [1000], not 2"),
        ({"milestones": [1, "two"]}, "milestones[1]: a whole number, not 'two'"),
        ({"train": "corpora/lfw"}, "train: a list such as [corpora/lfw], not 'corpora/lfw'"),
        ({"resume": 3}, "resume: true or false, not 3"),
        ({"network": 3}, "network: settings by name, not 3"),
        ({"out": 3}, "out: a text, not 3"),
        ({"learning_rate": None}, "learning_rate: a number, not None"),
        ({"base": 3}, "base: the name of a preset, not 3"),
        ({"base": "run.yaml"}, "run.yaml: its `base` leads back to itself"),
        ({"steps": 0}, "steps"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate: positive and finite, not inf"),
        ({"seed": -1}, "seed: 0 to 4294967295, not -1"),
        ({"out": ""}, "out: the name of a folder, not ''"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"gray": 1.5}, "gray"),
        ({"train": ["a", "b"], "train_weights": [1.0]}, "train_weights"),
        ({"mixed_precision": "fp8"}, "mixed_precision"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"fold": 11}, "fold"),
        ({"erase": 1.5}, "erase"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"identity_balance": 0.5}, "run.yaml: identity_balance was removed: every run has 0.0"),
        ({"streaming": True, "mixing_share": 0.5}, "mixing_share"),
        ({"streaming": True, "expression_teachers": ["pretrained"]}, "expression_teachers"),
        ({"network": {"weighting": "verification"}, "expression_teachers": ["pretrained"]}, "expression_teachers"),
        ({"freeze_shared": True}, "freeze_shared"),
        (["steps"], "holds no settings"),
        ({"network": {"colour": 3}}, "network.colour"),
        ({"network": {"cosine_margn": 0.2}}, "similar are cosine_margin"),
        ({"network": {"weighting": "equal"}}, "weighting must be one of"),
        ({"network": {"dropout": "half"}}, "dropout"),
        ({"image_size": 60}, "image_size"),
        ({"validation": ["one/lfw:9", "other/lfw"]}, "validation: corpora in folders of different names"),
        ({"clip_norm": 1.0}, "run.yaml: clip_norm was removed: every run has 5.0"),
        ({"Steps": 7}, "unknown key 'Steps'; similar are steps, "),
        ({"weight_decay": float("inf")}, "weight_decay: not negative, and finite, not inf"),
        ({"rotation": float("inf")}, "rotation: 0 to 180, not inf"),
        ({"train": ["a"], "train_weights": [float("inf")]}, "train_weights: positive and finite, not [inf]"),
        ({"milestones": [-5, 3]}, "milestones: positive, not [-5, 3]"),
        ({"workers": 10**6}, "workers: 0 to 1000, not 1000000"),
        ({"batch_size": 10**13}, "batch_size: 0 to 1000000, not 10000000000000"),
        ({"image_size": 10**9}, "image_size: 0 to 4096, not 1000000000"),
        ({"out": "a\0b"}, "out: the name of a folder, not 'a\\x00b'"),
        ({"network": {1: 2}}, "network.1: there is no such setting"),
        (
            {"network": {"id2label": ["a", "b"]}},
            "network.id2label: names by number, or numbers by name, not",
        ),
        ({"network": {"dropout": {"a": 1}}}, "error: network: Field 'dropout' with value {'a': 1} doesn't match"),
        ({"network": {"dropout": float("nan")}}, "error: network: dropout must lie within 0..1, not nan"),
        ({"network": {"center_decay": 0.9}}, "network.center_decay was removed: every run has 0.95"),
    ],
)
def test_wrong_settings_are_reported(tmp_path, capsys, settings, message):
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(SystemExit) as stop:
        parse_config(["--config", str(file)])
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--clip_norm", "1"], ["--clip_norm=1"]])
def test_a_removed_setting_is_also_reported_on_the_command_line(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        parse_config(arguments)
    assert stop.value.code == 2 and "clip_norm was removed: every run has 5.0" in capsys.readouterr().err


def test_a_preset_extends_its_base(tmp_path):
    base = {"steps": 7, "seed": 3, "network": {"dropout": 0.1, "repeats": [1, 2, 1]}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    (tmp_path / "stage.yaml").write_text(yaml.safe_dump({"base": "base.yaml", "steps": 9, "network": {"dropout": 0.2}}))
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({"seed": 4, "network": {"cosine_scale": 8}}))
    files = [str(tmp_path / name) for name in ("stage.yaml", "small.yaml")]
    config = parse_config(["--config", *files, "--network.dropout", "0.3", "--network.weighting=static"])
    assert (config.steps, config.seed) == (9, 4)
    assert config.network == {"dropout": 0.3, "repeats": [1, 2, 1], "cosine_scale": 8, "weighting": "static"}


def test_stages_differ_from_dynamic_training_only_in_the_task_weights(repository):
    presets = repository / "train" / "presets"
    for prefix in ("", "paper_"):
        dynamic = parse_config(["--config", str(presets / f"{prefix}dynamic.yaml")])
        assert dynamic.network["weighting"] == "dynamic" and dynamic.start_from == f"runs/{prefix}pretrain"
        for name, weights in (("1_1", [1, 1]), ("1_2", [1, 2]), ("1_half", [1, 0.5])):
            static = parse_config(["--config", str(presets / f"{prefix}static_{name}.yaml")])
            assert static.network.pop("static_weights") == weights and static.network.pop("weighting") == "static"
            assert static.out == f"runs/{prefix}static_{name}"
            assert replace(static, out="runs", network={}) == replace(dynamic, out="runs", network={})
            assert static.network == {name: value for name, value in dynamic.network.items() if name != "weighting"}
    for name in ("inverse_loss", "uncertainty"):
        assert parse_config(["--config", str(presets / f"{name}.yaml")]).network["weighting"] == name


def test_only_weights_decay_and_they_come_first():
    """Training states store the numbers of the optimiser in this order."""
    model = FaceLiveNetModel(FaceLiveNetConfig(image_size=75, num_identities=3))
    decaying, others = optimizer_of(model, TrainingConfig(weight_decay=0.1)).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0)
    trained = list(model.parameters())
    assert list(map(id, decaying["params"])) == [id(parameter) for parameter in trained if parameter.ndim > 1]
    assert list(map(id, others["params"])) == [id(parameter) for parameter in trained if parameter.ndim <= 1]


def test_values_that_yaml_reads_with_another_type_are_accepted(tmp_path):
    (tmp_path / "run.yaml").write_text("learning_rate: 1e-3\nmixed_precision: no\n")
    assert parse_config(["--config", str(tmp_path / "run.yaml")]).mixed_precision == "no"
    config = parse_config(["--config", str(tmp_path / "run.yaml"), "--network.triplet_weight", "2e-4"])
    assert config.learning_rate == 1e-3 and config.network == {"triplet_weight": 2e-4}


def test_a_missing_file_is_reported(capsys):
    with pytest.raises(SystemExit):
        parse_config(["--config", "nowhere.yaml"])
    assert "nowhere.yaml: no such file" in capsys.readouterr().err


def test_circular_presets_and_binary_files_are_refused(tmp_path, capsys):
    (tmp_path / "one.yaml").write_text("base: other.yaml\n")
    (tmp_path / "other.yaml").write_text("base: one.yaml\n")
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xd8\xff\xe0" + bytes(99))
    for name, cause in (("one", "its `base` leads back to itself"), ("picture", "picture.yaml is not text")):
        with pytest.raises(SystemExit):
            parse_config(["--config", str(tmp_path / f"{name}.yaml")])
        assert cause in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("steps: 3\nsteps: 5\n", "line 2: steps is given twice"),
        ("network:\n  dropout: 0.2\n  dropout: 0.9\n", "line 3: dropout is given twice"),
        ("network:\n\tdropout: 0.2\n", "line 2: while scanning for the next token found character"),
        ("steps: 1\n---\nsteps: 2\n", "line 2: expected a single document"),
        ("steps: !!python/object/apply:os.system ['true']\n", "line 1: could not determine a constructor"),
        ("train: " + "[" * 3000 + "]" * 3000, "it is nested too deeply"),
        ("out: 2020-02-30\n", "day is out of range for month"),
    ],
)
def test_invalid_yaml_is_reported_in_one_sentence(tmp_path, capsys, content, cause):
    file = tmp_path / "run.yaml"
    file.write_text(content)
    with pytest.raises(SystemExit):
        parse_config(["--config", str(file)])
    *_, message = capsys.readouterr().err.splitlines()
    assert message.startswith(f"python -m train: error: {file} is not YAML") and cause in message


def test_utf_16_is_read_and_unusable_paths_are_reported(tmp_path, capsys):
    file = tmp_path / "run.yaml"
    file.write_bytes("steps: 7\r\n".encode("utf-16"))
    assert parse_config(["--config", str(file)]).steps == 7
    file.write_text("network: {<<: {dropout: 0.2}, dropout: 0.3}\n")  # a merged key may be given again
    assert parse_config(["--config", str(file)]).network == {"dropout": 0.3}
    (tmp_path / "link.yaml").symlink_to(tmp_path / "link.yaml")
    for arguments, cause in (
        (["--config", str(tmp_path)], f"{tmp_path} cannot be read: Is a directory"),
        (["--config", str(tmp_path / "link.yaml")], "cannot be read: Too many levels of symbolic links"),
        (["--network.dropout", "["], "--network.dropout is not YAML: line 1"),
    ):
        with pytest.raises(SystemExit):
            parse_config(arguments)
        assert cause in capsys.readouterr().err
