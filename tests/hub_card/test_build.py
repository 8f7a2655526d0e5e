"""The folder for the Hub: its contents, the source of the numbers in its card, and refused input."""

import json
import re
import shutil

import pytest
from huggingface_hub import ModelCard

from checkpoints import WEIGHTS, training_stages
from hub_card.__main__ import main
from hub_card.card import count_parameters, training_runs
from hub_card.corpora import CORPORA
from hub_card.folder import CODE
from hub_card.package import build
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel


@pytest.fixture
def checkpoint(repository, tmp_path):
    """Copies of the shipped checkpoint and its results, which a test may change: (model, results)."""
    model, results = tmp_path / "model", tmp_path / "results"
    shutil.copytree(repository / "pretrained", model)
    shutil.copytree(repository / "docs/results", results, ignore=shutil.ignore_patterns("*.html"))
    return model, results


def run_build(model, results, out) -> int:
    return main(["build", "--model", str(model), "--results", str(results), "--out", str(out)])


def test_the_folder_contains_the_unchanged_weights_and_the_code(built, repository):
    assert (built / WEIGHTS).read_bytes() == (repository / "pretrained" / WEIGHTS).read_bytes()
    for name in CODE:
        assert (built / name).read_bytes() == (repository / name).read_bytes()
    settings = json.loads((built / "config.json").read_text(encoding="utf-8"))
    assert set(settings["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForImageClassification"}
    assert list(settings["custom_pipelines"]) == ["face-authentication"] and settings["dtype"] == "float32"


def test_the_same_inputs_give_the_same_bytes(built, checkpoint, tmp_path):
    model, results = checkpoint
    assert run_build(model, results, tmp_path / "out") == 0
    files = sorted(path.relative_to(built) for path in built.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*") if p.is_file())
    for name in files:
        assert (built / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name


def test_the_card_is_valid_and_shows_every_figure(built):
    card = ModelCard.load(built / "README.md")
    results = json.loads((built / "results.json").read_text(encoding="utf-8"))
    values = {(row.dataset_name, row.metric_name): row.metric_value for row in card.data.eval_results}
    for name, section in results["authentication"].items():
        corpus_title = CORPORA[section["corpus"]["name"]].title
        false_accepts = section["report"]["far"]["value"]
        assert values[f"{corpus_title} ({name})", "false accept rate"] == pytest.approx(false_accepts, abs=1e-4)
    assert card.data.license == "other" and (built / card.data.license_link).is_file()
    shown = set(re.findall(r"\]\((figures/[^)]+)\)", card.content))
    assert shown == {path.relative_to(built).as_posix() for path in (built / "figures").iterdir()}
    assert not re.search(r"\bNone\b|Undefined|\{\{|\{%", card.content)


def test_the_card_and_the_licence_name_a_teacher_with_its_data_and_terms(checkpoint, tmp_path):
    model, results = checkpoint
    record = json.loads((model / "training.json").read_text(encoding="utf-8"))
    teacher = {"name": "A teacher", "sha256": "ab" * 32, "trained_on": "faces of others", "terms": "terms of its own"}
    (model / "training.json").write_text(json.dumps(record | {"teacher": teacher}), encoding="utf-8")
    out = build(model, results, tmp_path / "out")
    for name in ("README.md", "LICENSE.md"):
        text = (out / name).read_text(encoding="utf-8")
        assert all(teacher[key] in text for key in ("name", "trained_on", "terms")), name


def test_the_template_contains_no_measured_numbers(repository):
    """Outside of expressions and code it has no rates, percentages or counts, except the level of the intervals."""
    text = (repository / "hub_card/card.md.jinja").read_text(encoding="utf-8")
    text = re.sub(r"```.*?```|\{\{.*?\}\}|\{%.*?%\}", "", text, flags=re.DOTALL)
    numbers = set(re.findall(r"\d+(?:[.,]\d+)+|\d+ ?%|\d{3,}", text))
    assert numbers <= {"95 %", "1902.11179", "256"}  # level of the intervals, number of the paper, name of the hash


def test_the_card_has_the_numbers_of_the_results(checkpoint, tmp_path, capsys):
    model, results = checkpoint
    content = json.loads((results / "results.json").read_text(encoding="utf-8"))
    rate = next(iter(content["authentication"].values()))["report"]["far"]
    rate |= {"value": 0.4321, "hits": 1904, "total": 4406, "bootstrap": [0.4101, 0.4501]}
    content = {name: part for name, part in content.items() if name not in ("slices", "sessions")}
    (results / "results.json").write_text(json.dumps(content), encoding="utf-8")
    (model / "last").mkdir()
    rows = [{"step": step, "w1": 1 / step, "w2": 1 - 1 / step} for step in range(1, 5)]
    for name in ("config.json", "preprocessor_config.json", "training.json", WEIGHTS):
        shutil.move(model / name, model / "last" / name)
    (model / "log.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    roc_figure = next(section["figures"]["roc"] for section in content["verification"].values())
    (results / roc_figure).write_bytes(b"drawn by the evaluation")
    speed = {
        "weights": content["model"]["sha256"][:12],
        "machine": {"gpu": None, "cpu": "Some Processor", "threads": 1, "torch": "2.99"},
        "frames": 24,
        "of": "a drawn person",
        "milliseconds_per_frame": {"detect": 12.34},
        "rows": [{"side": "ours", "frames_per_second": 56.78, "ratio": 4.56}],
    }
    (results / "inference.json").write_text(json.dumps(speed), encoding="utf-8")
    (results / "onnx.json").write_text('{"weights": "0123456789ab"}', encoding="utf-8")
    built = build(model / "last", results, tmp_path / "out")
    assert "onnx.json is not included: it was measured with other weights" in capsys.readouterr().err
    assert not (built / "onnx.json").exists()
    card = (built / "README.md").read_text(encoding="utf-8")
    assert "| false accept rate | 0.432 | 1,904 of 4,406 | 0.410-0.450 |" in card
    assert "### By group" not in card and "Challenge sessions" not in card and "(figures/task_weights.png)" in card
    assert "| ours | 56.8 | 4.56 |" in card and "detect 12.3" in card
    assert (built / "figures" / roc_figure).read_bytes() == b"drawn by the evaluation"


def test_every_run_that_contributed_to_the_weights_is_listed_once(checkpoint, tmp_path):
    model, results = checkpoint
    record = json.loads((model / "training.json").read_text(encoding="utf-8"))
    for name in ("earlier_stages", "shares"):
        record.pop(name, None)
    network = record["config"]["network"] | {"weighting": "dynamic"}

    def run(seed: int, start: int | None) -> dict:
        config = record["config"] | {"seed": seed, "composites": 4000 * seed, "composite_share": 0.3}
        config |= {"freeze_shared": False, "network": network}
        changes = {
            "minutes": 10.5 * seed,
            "started_from": start,
            "config": config,
            "network": {},
            "averaged_with": [],
            "teacher": None,
            "expression_teachers": [],
        }
        return record | changes

    first = run(0, None) | {"minutes": 100.0}
    earlier = [first, run(1, 1), run(3, 2)]
    averaged = run(2, 2) | {"averaged_with": [3, 2]}
    third = averaged | {"earlier_stages": earlier}
    assert [stage["config"]["seed"] for stage in training_runs(training_stages(third))] == [0, 1, 3, 2]
    assert [stage["config"]["seed"] for stage in training_runs(training_stages(first))] == [0]
    (model / "training.json").write_text(json.dumps(third), encoding="utf-8")
    card = (build(model, results, tmp_path / "out") / "README.md").read_text(encoding="utf-8")
    assert "**163.0 minutes**" in card and "| run 4: steps × batch |" in card
    assert "seed 1; 4,000 composite people in 30 % of a batch; share of the weights: 0.333 |" in card
    assert card.count("; share of the weights: 0.333 |") == 3
    assert "the weighted mean of the runs with a share" in card and "weighed: dynamic |" in card
    last = run(4, 4)
    settings = {"freeze_shared": True, "network": network | {"weighting": "expression"}}
    teacher = run(5, None)
    teacher["config"] |= {"network": network | {"weighting": "expression"}}
    last |= {"photographs": 1, "config": last["config"] | settings, "expression_teachers": [5, None]}
    last["earlier_stages"] = [*earlier, averaged, teacher]
    (model / "training.json").write_text(json.dumps(last), encoding="utf-8")
    card = (build(model, results, tmp_path / "again") / "README.md").read_text(encoding="utf-8")
    assert card.count("; on frozen shared layers, trained: branch 2 |") == 1 and "weighed: dynamic |" in card
    taught = "; expression targets: half the label, half the mean of run 5 and a checkpoint without a record;"
    assert card.count(taught) == 1
    assert f"| photographs, people | {record['photographs']:,}," in card


def test_corpora_of_all_stages_are_listed_or_marked_as_not_recorded(checkpoint, tmp_path):
    model, results = checkpoint
    record = json.loads((model / "training.json").read_text(encoding="utf-8"))
    for trained_on, row in (
        ({"lfw": ["1", "2"], "mine": ["all"]}, "| Labeled Faces in the Wild | 1, 2 |"),
        (None, "| not recorded | – | unknown"),
    ):
        (model / "training.json").write_text(json.dumps(record | {"trained_on": trained_on}), encoding="utf-8")
        built = build(model, results, tmp_path / f"out {trained_on is None}")
        assert row in (built / "README.md").read_text(encoding="utf-8")
        terms = (built / "LICENSE.md").read_text(encoding="utf-8")
        assert "Apache License 2.0" in terms and "research use only" in terms
        assert "| mine | unknown: ask its publisher" in terms or "unknown: a checkpoint that they started from" in terms


def test_the_number_of_parameters_matches_the_network():
    config = FaceLiveNetConfig(image_size=80, repeats=[0, 0, 0])
    total = sum(parameter.numel() for parameter in FaceLiveNetModel(config).parameters())
    assert sum(count_parameters(config).values()) == total


def test_unusable_inputs_are_refused(checkpoint, tmp_path, capsys):
    model, results = checkpoint
    out = tmp_path / "out"

    def refusal(model=model, results=results, out=out) -> str:
        assert run_build(model, results, out) == 2
        return capsys.readouterr().err

    content = json.loads((results / "results.json").read_text(encoding="utf-8"))
    for change, message in (
        ({"model": {"name": "other", "sha256": "0" * 64}}, "of other weights"),
        ({"verification": {}}, "lacks verification: run `python -m evaluation all`"),
    ):
        (results / "results.json").write_text(json.dumps(content | change), encoding="utf-8")
        assert message in refusal()
    (results / "results.json").write_text("{", encoding="utf-8")
    assert "cannot be read" in refusal()
    (results / "results.json").unlink()
    assert "results.json is missing: run `python -m evaluation all" in refusal()
    (model / "training.json").unlink()
    assert "training.json is missing: `python -m train` writes it" in refusal()
    assert not out.exists()


def test_a_folder_that_the_build_did_not_write_is_not_overwritten(checkpoint, capsys):
    model, results = checkpoint
    assert run_build(model, results, model) == 2
    assert "did not write" in capsys.readouterr().err and (model / WEIGHTS).is_file()
