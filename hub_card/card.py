"""README.md of the Hub folder, its licence note and figures. No number is typed here: each is read from results.json,
training.json, config.json or the benchmarks' JSON in the folder."""

import json
import re
from pathlib import Path

import jinja2
import torch
from huggingface_hub import EvalResult, ModelCardData

from hub_card import figures, numbers
from hub_card.corpora import corpus
from hub_card.folder import REPO_PLACEHOLDER
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel

MODEL_NAME = "FaceLiveNet+"
HERE = Path(__file__).parent
PACKAGES = ("torch", "torchvision", "transformers", "facenet-pytorch")  # to use the model


def write_card(folder: Path, results_folder: Path, log: Path | None) -> None:
    """Write README.md, LICENSE.md and figures/ into a Hub folder that holds everything else.

    Args:
        folder: with config.json, training.json and results.json.
        results_folder: where the evaluation's own figures are taken from, if they lie there.
        log: log.jsonl of the run that trained the weights, for the curves of the task weights; None without.
    """
    contents = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    results, training = contents["results"], contents["training"]
    config = FaceLiveNetConfig.from_pretrained(folder)
    parameters = count_parameters(config)
    context = {
        "repo": REPO_PLACEHOLDER,
        "config": config,
        "results": results,
        "training": training,
        "runs": training_runs(training),
        "averaged": [one["config"] for one in (training, *training.get("averaged_with", ()))],
        "speed": contents.get("inference"),
        "onnx": contents.get("onnx"),
        "parameters": parameters | {"total": sum(parameters.values())},
        "corpora": {name: corpus(name) for name in training["trained_on"] or ()},
        "requirements": _requirements(),
        "figures": _draw(folder / "figures", config, parameters, results, training, results_folder, log),
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {name: getattr(numbers, name) for name in ("cells", "number", "percent", "short", "span")}
    environment.filters["file_name"] = _file_name
    for template, name in (("card.md.jinja", "README.md"), ("license.md.jinja", "LICENSE.md")):
        text = environment.get_template(template).render(card_data=card_data(results).to_yaml(), **context)
        (folder / name).write_text(re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n", encoding="utf-8")


def training_runs(record: dict) -> list[dict]:
    """The records of every run whose weights went into a checkpoint, once each, those others started from first.

    Args:
        record: training.json; what it started from stands in it as "started_from", the runs whose weights it is the
            mean with as "averaged_with".
    """
    earlier, others = record.get("started_from"), record.get("averaged_with", ())
    runs = [*(training_runs(earlier) if isinstance(earlier, dict) else ()), record]
    for other in others:
        runs += [run for run in training_runs(other) if all(run["config"] != known["config"] for known in runs)]
    return runs


def count_parameters(config: FaceLiveNetConfig) -> dict[str, int]:
    """Trained numbers of each part of the network that this config describes."""
    with torch.device("meta"):
        model = FaceLiveNetModel(config)
    return {
        "shared": _count(model.shared),
        "verification": _count(model.verification),
        "expression": _count(model.expression) + _count(model.expression_head),
        "dynamic_weight_unit": _count(model.dynamic_weight_unit),
    }


def card_data(results: dict) -> ModelCardData:
    """The card's front matter: what the Hub searches by, and the results as its model-index."""
    return ModelCardData(
        license="other",
        license_name="research-only",
        license_link="LICENSE.md",
        library_name="transformers",
        pipeline_tag="image-feature-extraction",
        tags=[
            "face-authentication", "face-verification", "facial-expression-recognition", "liveness",
            "image-classification",
        ],
        model_name=MODEL_NAME,
        eval_results=list(_eval_results(results)),
    )  # fmt: skip


def _eval_results(results: dict):
    for protocol, name, section in _sections(results):
        if protocol == "verification":
            curve = section.get("generated") or section["single_fold"]
            values = {"roc_auc": ("AUC", curve["auc"]), "eer": ("EER", curve["eer"])}
            if "single_fold" in section:
                accuracy = section["single_fold"]["best_accuracy_threshold"]["accuracy"]
                values["accuracy"] = ("accuracy on official pairs", accuracy["value"])
        elif protocol == "expression":
            values = {"accuracy": ("accuracy", section["report"]["accuracy"]["value"])}
        elif protocol == "authentication":
            report = section["report"]
            values = {
                "accuracy": ("right decisions", report["acc_auth"]["value"]),
                "far": ("false accept rate", report["far"]["value"]),
                "frr": ("false reject rate", report["frr"]["value"]),
            }
        else:
            continue
        for metric, (title, value) in values.items():
            yield EvalResult(
                task_type=f"face-{protocol}" if protocol != "expression" else "image-classification",
                task_name={"expression": "facial expression recognition"}.get(protocol, f"face {protocol}"),
                dataset_type=section["corpus"]["name"],
                dataset_name=f"{corpus(section['corpus']['name']).title} ({name})",
                dataset_split=", ".join(section["splits"]) or None,
                metric_type=metric,
                metric_name=title,
                metric_value=round(value, 4),
            )


def _sections(results: dict):
    """(protocol, name, section) of every section that results.json holds."""
    for protocol, sections in results.items():
        if isinstance(sections, dict) and protocol != "model":
            yield from ((protocol, name, section) for name, section in sections.items())


def _draw(out: Path, config, parameters, results, training, results_folder: Path, log: Path | None) -> dict[str, str]:
    """Draw every figure there are numbers for; caption by path."""
    out.mkdir()
    shown = {}

    def add(name: str, caption: str) -> Path:
        shown[f"figures/{name}"] = caption
        return out / name

    figures.draw_architecture(config, parameters, add("architecture.png", "The network, one pass"))
    for name, section in results["verification"].items():
        for kind in ("roc", "det"):
            drawn = results_folder / section["figures"].get(kind, "none")
            if drawn.is_file():
                add(f"{kind}_{_file_name(name)}.png", f"{kind.upper()}, {name}").write_bytes(drawn.read_bytes())
    curves = {
        f"{name}, {title}": section[key]
        for name, section in results["verification"].items()
        for key, title in (("single_fold", "official pairs"), ("generated", "all people"))
        if key in section
    }
    figures.draw_true_accepts(curves, add("true_accepts.png", "True accept rate over false accept rate"))
    for name, section in results["expression"].items():
        report = section["report"]
        path = add(f"confusion_{_file_name(name)}.png", f"Confusion matrix, {name}")
        figures.draw_confusion(report["confusion_matrix"], report["classes"], path)
    for name, section in results.get("slices", {}).items():
        path = add(f"slices_{_file_name(name)}.png", f"By group, {name.replace('_', ' ')}")
        figures.draw_slices(_slices(section["report"]["slices"]), path)
    if training.get("validations"):
        figures.draw_validations(training["validations"], add("validations.png", "Validation during training"))
    if log:
        figures.draw_task_weights(log, add("task_weights.png", "Weights of the two tasks during training"))
    return shown


def _slices(groups: dict) -> dict[str, dict]:
    wanted = (
        ("false accept rate", "verification", "far"),
        ("false reject rate", "verification", "frr"),
        ("expression accuracy", "expression", "accuracy"),
    )
    return {
        title: {f"{group} ({own['people']} people)": (own[part] or {}).get(rate) for group, own in groups.items()}
        for title, part, rate in wanted
    }


def _requirements() -> dict[str, str]:
    """Package -> the requirement that this repository states for it."""
    lines = (HERE.parent / "requirements.txt").read_text(encoding="utf-8").splitlines()
    stated = {re.split(r"[<>=]", line)[0]: line.split("#")[0].strip() for line in lines if line and line[0].isalpha()}
    return {name: stated[name] for name in PACKAGES}


def _file_name(name: str) -> str:
    return re.sub(r"\W+", "_", name)


def _count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
