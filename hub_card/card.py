"""Writes README.md (the model card), LICENSE.md and the figures of the Hub folder.

All numbers are read from results.json, training.json, config.json and the benchmarks' JSON files in the folder.
`package` calls `write_card`; the templates are card.md.jinja and license.md.jinja. Read `figures` next.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jinja2
import torch
from huggingface_hub import EvalResult, ModelCardData

from checkpoints import training_stages
from evaluation.protocols.sections import Section
from evaluation.protocols.verification import CHOICE_FOLD, REPORT_FOLD
from evaluation.report import format
from evaluation.report.figures import draw_section, file_stem
from evaluation.report.results import FILE, Results, read_results
from evaluation.report.text import hard_title
from evaluation.statistics.rates import Rate
from evaluation.training_record import TASKS, weighting_of
from hub_card import figures, numbers
from hub_card.corpora import corpus
from hub_card.folder import REPO_PLACEHOLDER
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel

MODEL_NAME = "FaceLiveNet+"
CAPTIONS = {
    "confusion": "Confusion matrix",
    "reliability": "Calibration of the probabilities",
    "rates_far": "False accept rate by group",
    "rates_frr": "False reject rate by group",
    "rates_accuracy": "Accuracy of expressions by group",
}
TEMPLATES = Path(__file__).parent
PACKAGES = ("torch", "torchvision", "transformers", "facenet-pytorch")  # needed for using the model
PROTOCOLS = ("verification", "expression", "authentication")  # in the card's model-index


def write_card(folder: Path, results_folder: Path, log: Path | None) -> None:
    """Write README.md, LICENSE.md and figures/ into a Hub folder, after its other files.

    Args:
        folder: with config.json, training.json and results.json.
        results_folder: its ROC and DET figures are copied, because results.json lacks the scores to draw them.
        log: log.jsonl of the run that trained the weights, for the curves of the task weights; or None.
    """
    contents = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    results, training = read_results(folder / FILE), contents["training"]
    config = FaceLiveNetConfig.from_pretrained(folder)
    parameters = count_parameters(config)
    stages = training_stages(training)
    shares = shares_of_runs(stages)
    runs = training_runs(stages)
    configs = [run["config"] for run in runs]
    for run in runs:
        run["share"] = sum(share for config, share in shares if config == run["config"])
        teachers = [number and stages[number - 1]["config"] for number in run.get("expression_teachers") or ()]
        run["taught_by"] = [
            f"run {configs.index(config) + 1}" if config else "a checkpoint without a record" for config in teachers
        ]
    context = {
        "repo": REPO_PLACEHOLDER,
        "config": config,
        "results": results,
        "choice_fold": CHOICE_FOLD,
        "report_fold": REPORT_FOLD,
        "training": training,
        "runs": runs,
        "teachers": list({run["teacher"]["sha256"]: run["teacher"] for run in runs if run.get("teacher")}.values()),
        "photographs": max(run.get("photographs") or 0 for run in runs),
        "weighting": next(filter(None, map(_weighting, lineage(stages))), "expression"),
        "calibrated": _calibrated_rates(config),
        "speed": contents.get("inference"),
        "onnx": contents.get("onnx"),
        "parameters": parameters | {"total": sum(parameters.values())},
        "corpora": {name: corpus(name) for name in training["trained_on"] or ()},
        "requirements": _requirements(),
        "figures": _draw(folder / "figures", config, parameters, results, training, results_folder, log),
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {name: getattr(format, name) for name in ("number", "percent", "rate_text", "span")}
    environment.filters |= {"cells": numbers.cells, "file_stem": file_stem, "hard_title": hard_title}
    for template, name in (("card.md.jinja", "README.md"), ("license.md.jinja", "LICENSE.md")):
        text = environment.get_template(template).render(card_data=card_data(results).to_yaml(), **context)
        (folder / name).write_text(re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n", encoding="utf-8")


def training_runs(stages: list[dict]) -> list[dict]:
    """The stages without repetitions: a stage may occur once alone, and once averaged with others."""
    configs = [stage["config"] for stage in stages]
    return [stage for index, stage in enumerate(stages) if stage["config"] not in configs[index + 1 :]]


def lineage(stages: list[dict]) -> Iterator[dict]:
    """The last stage, then the one from which it started, and so on."""
    number = len(stages)
    while number:
        yield stages[number - 1]
        number = stages[number - 1].get("started_from")


def shares_of_runs(stages: list[dict]) -> list[tuple[dict, float]]:
    """The config of each run whose weights are part of the shipped ones, and the share of these weights.

    They are several if weights were averaged. A stage that was averaged may be an average itself.
    """

    def parts_of(stage: dict, share: float) -> list[tuple[dict, float]]:
        others = stage.get("averaged_with") or []
        own, *theirs = stage.get("shares") or [1 / (1 + len(others))] * (1 + len(others))
        parts = [(stage["config"], share * own)]
        for number, their in zip(others, theirs, strict=True):
            parts += parts_of(stages[number - 1], share * their)
        return parts

    return parts_of(stages[-1], 1.0)


def _weighting(run: dict) -> str | None:
    """How a run weighed the two tasks; None if it trained only one of them, on shared layers that it kept."""
    weighting = weighting_of(run)
    return None if run["config"].get("freeze_shared") and weighting in TASKS else weighting


def count_parameters(config: FaceLiveNetConfig) -> dict[str, int]:
    """Number of trained parameters in each part of the network with this config."""
    with torch.device("meta"):
        model = FaceLiveNetModel(config)
    return {
        "shared": _count(model.shared),
        "verification": _count(model.verification),
        "expression": _count(model.expression) + _count(model.expression_head),
        "dynamic_weight_unit": _count(model.dynamic_weight_unit),
    }


def card_data(results: Results) -> ModelCardData:
    """The front matter of the card: search terms of the Hub, and the results as model-index."""
    return ModelCardData(
        license="other",
        license_name="research-only",
        license_link="LICENSE.md",
        library_name="transformers",
        pipeline_tag="image-feature-extraction",
        tags=[
            "face-authentication",
            "face-verification",
            "facial-expression-recognition",
            "liveness",
            "image-classification",
        ],
        model_name=MODEL_NAME,
        eval_results=list(_eval_results(results)),
    )


def _eval_results(results: Results) -> Iterator[EvalResult]:
    for protocol in PROTOCOLS:
        for name, section in results.sections(protocol).items():
            title = corpus(section.corpus.name).title
            for metric, (metric_name, value) in _metrics(protocol, section).items():
                yield EvalResult(
                    task_type=f"face-{protocol}" if protocol != "expression" else "image-classification",
                    task_name={"expression": "facial expression recognition"}.get(protocol, f"face {protocol}"),
                    dataset_type=section.corpus.name,
                    dataset_name=f"{title} ({name})",
                    dataset_split=", ".join(section.splits) or None,
                    metric_type=metric,
                    metric_name=metric_name,
                    metric_value=round(value, 4),
                )


def _metrics(protocol: str, section: Section) -> dict[str, tuple[str, float]]:
    """The Hub's name of a metric -> its title and value."""
    if protocol == "verification":
        curve = section.generated or section.single_fold
        values = {"roc_auc": ("AUC", curve.auc), "eer": ("EER", curve.eer)}
        if section.single_fold is not None:
            accuracy = section.single_fold.best_accuracy_threshold.accuracy
            values["accuracy"] = ("accuracy on official pairs", accuracy.value)
        return values
    report = section.report
    if protocol == "expression":
        return {"accuracy": ("accuracy", report.accuracy.value)}
    return {
        "accuracy": ("correct decisions", report.acc_auth.value),
        "far": ("false accept rate", report.far.value),
        "frr": ("false reject rate", report.frr.value),
    }


def _calibrated_rates(config: FaceLiveNetConfig) -> dict[str, tuple[Rate, Rate]]:
    """Expression -> rates of images in which it is seen, and falsely seen, from the calibration in the config."""
    expression = (config.calibration or {}).get("expression") or {"required": {}}
    return {
        name: (Rate(**rates["seen"]), Rate(**rates["falsely_seen"])) for name, rates in expression["required"].items()
    }


def _draw(
    out: Path, config, parameters, results: Results, training: dict, results_folder: Path, log: Path | None
) -> dict[str, str]:
    """Draw every figure for which there are numbers; returns path -> caption."""
    out.mkdir()
    captions = {}

    def add(name: str, caption: str) -> Path:
        captions[f"figures/{name}"] = caption
        return out / name

    figures.draw_architecture(config, parameters, add("architecture.png", "The network, one pass"))
    for name, section in results.sections("verification").items():
        for kind in ("roc", "det"):
            results_figure = results_folder / section.figures.get(kind, "none")
            if results_figure.is_file():
                add(f"{kind}_{file_stem(name)}.png", f"{kind.upper()}, {name}").write_bytes(results_figure.read_bytes())
    for protocol in ("expression", "slices"):
        for name, section in results.sections(protocol).items():
            with tempfile.TemporaryDirectory() as temporary:
                for kind, file in draw_section(section, name, {}, Path(temporary)).items():
                    png = (Path(temporary) / file).read_bytes()  # without its SVG
                    add(file, f"{CAPTIONS[kind]}, {name.replace('_', ' ')}").write_bytes(png)
    if training.get("validations"):
        figures.draw_validations(training["validations"], add("validations.png", "Validation during training"))
    if log:
        figures.draw_task_weights(log, add("task_weights.png", "Weights of the two tasks during training"))
    return captions


def _requirements() -> dict[str, str]:
    """Package -> its line in requirements.txt."""
    lines = (TEMPLATES.parent / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements = {
        re.split(r"[<>=]", line)[0]: line.split("#")[0].strip() for line in lines if line and line[0].isalpha()
    }
    return {name: requirements[name] for name in PACKAGES}


def _count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
