"""The export of a run as a model to ship."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file

from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel
from train.export import export


def save_model(folder: Path, seed: int, **settings) -> Path:
    torch.manual_seed(seed)
    FaceLiveNetModel(FaceLiveNetConfig(image_size=80, **settings)).save_pretrained(folder)
    FaceLiveNetImageProcessor(size=80).save_pretrained(folder)
    record = {"minutes": seed, "trained_on": {"lfw": ["1", str(seed)]}}
    (folder / "training.json").write_text(json.dumps(record))
    return folder


CODE = ("modeling_facelivenet.py", "image_processing_facelivenet.py", "pipeline_facelivenet.py")


def test_an_export_has_half_precision_and_contains_the_code(tmp_path, repository):
    source = save_model(tmp_path / "run", 1)
    export([source], tmp_path / "out", ["happy"])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json", "training.json", *CODE}
    assert all((tmp_path / "out" / name).samefile(repository / name) for name in CODE)
    full, half = load_file(source / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    for name, value in full.items():
        expected = value.half() if value.is_floating_point() else value
        assert torch.equal(half[name], expected) and half[name].dtype == expected.dtype
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["challenge_expressions"] == ["happy"] and config["dtype"] == "float32"
    record = json.loads((source / "training.json").read_text())
    assert json.loads((tmp_path / "out" / "training.json").read_text()) == record
    FaceLiveNetModel.from_pretrained(tmp_path / "out")
    with pytest.raises(StrictDataclassError, match="challenge_expressions names boredom"):
        export([source], tmp_path / "other", ["boredom"])


def test_several_models_are_averaged(tmp_path):
    sources = [save_model(tmp_path / str(seed), seed) for seed in (1, 2, 4)]
    export(sources, tmp_path / "out", ["happy"])
    mean = load_file(tmp_path / "out" / "model.safetensors")
    states = [load_file(source / "model.safetensors") for source in sources]
    for name, value in mean.items():
        if value.is_floating_point():
            assert torch.equal(value, (sum(state[name] for state in states) / 3).half()), name
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record.pop("earlier_stages") == [
        {"minutes": seed, "trained_on": {"lfw": ["1", str(seed)]}, "started_from": None} for seed in (2, 4)
    ]
    expected = {"minutes": 1, "trained_on": {"lfw": ["1", "2", "4"]}, "started_from": None}
    assert record == expected | {"averaged_with": [1, 2], "shares": [1 / 3] * 3}
    other = save_model(tmp_path / "narrow", 1, id2label={0: "neutral", 1: "happy"}, label2id={"neutral": 0, "happy": 1})
    with pytest.raises(ValueError, match="narrow is another network than"):
        export([sources[0], other], tmp_path / "none", ["happy"])
    assert not (tmp_path / "none").exists()


def test_a_threshold_is_exported_only_with_the_weights_of_its_calibration(tmp_path):
    sources = [save_model(tmp_path / str(seed), seed) for seed in (1, 2)]
    for source in sources:
        model = FaceLiveNetModel.from_pretrained(source)
        config = json.loads((source / "config.json").read_text())
        calibration = {"similarity_threshold": 0.4, "calibrated_weights": model.fingerprint()}
        (source / "config.json").write_text(json.dumps(config | calibration))
    export(sources[:1], tmp_path / "one", ["happy"])
    export(sources, tmp_path / "mean", ["happy"])
    assert FaceLiveNetModel.from_pretrained(tmp_path / "one").calibrated_threshold == 0.4
    assert FaceLiveNetModel.from_pretrained(tmp_path / "mean").config.similarity_threshold is None


def test_models_are_averaged_by_shares_and_an_export_is_replaced(tmp_path):
    sources = [save_model(tmp_path / str(seed), seed) for seed in (1, 2)]
    for _ in range(2):  # the second export replaces the links of the first
        export(sources, tmp_path / "out", ["happy"], [3, 1])
    mean = load_file(tmp_path / "out" / "model.safetensors")
    first, second = (load_file(source / "model.safetensors") for source in sources)
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, ((3 * first[name] + second[name]) / 4).half(), atol=1e-6, rtol=1e-3)
    assert json.loads((tmp_path / "out" / "training.json").read_text())["shares"] == [0.75, 0.25]
    for shares in ([1], [1, 0], [1, -1]):
        with pytest.raises(ValueError, match="one positive number for each of 2 models"):
            export(sources, tmp_path / "other", ["happy"], shares)
