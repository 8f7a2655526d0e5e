"""The training config: presets are valid, overrides win, mistakes are named."""

import pytest
import yaml

from train.config import parse_config, split_corpus


def test_every_preset_parses(repository):
    presets = sorted((repository / "train" / "presets").glob("*.yaml"))
    assert len(presets) >= 3
    for preset in presets:
        assert parse_config(["--config", str(preset)]).steps > 0


def test_paper_preset_holds_the_numbers_of_section_5_1(repository):
    config = parse_config(["--config", str(repository / "train/presets/paper_dynamic.yaml")])
    assert (config.batch_size, config.learning_rate, config.momentum) == (90, 0.1, 0.99)
    assert (config.milestones, config.weight_decay, config.network["dropout"]) == ([60_000, 80_000], 5e-5, 0.5)
    assert config.optimizer == "rmsprop" and config.image_size == 160


def test_command_line_overrides_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"steps": 7, "learning_rate": 0.5, "train": ["a:1,2"]}))
    config = parse_config(["--config", str(file), "--steps", "9", "--train", "b", "c:valid"])
    assert (config.steps, config.learning_rate, config.train) == (9, 0.5, ["b", "c:valid"])
    assert [split_corpus(text) for text in config.train] == [("b", None), ("c", ["valid"])]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"step": 7}, "unknown key 'step'"),
        ({"steps": 0}, "steps"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"gray": 1.5}, "gray"),
        ({"train": ["a", "b"], "train_weights": [1.0]}, "train_weights"),
        ({"mixed_precision": "fp8"}, "mixed_precision"),
    ],
)
def test_mistakes_are_named(tmp_path, capsys, settings, named):
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(SystemExit) as stop:
        parse_config(["--config", str(file)])
    assert stop.value.code == 2 and named in capsys.readouterr().err


def test_missing_file_is_named(capsys):
    with pytest.raises(SystemExit):
        parse_config(["--config", "nowhere.yaml"])
    assert "nowhere.yaml: no such file" in capsys.readouterr().err
