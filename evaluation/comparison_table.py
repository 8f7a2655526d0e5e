"""A comparison as people read it: what trained each network, what each of them reached, and what tells them apart."""

from pathlib import Path

from evaluation.embeddings import read_record

TASKS = ("verification", "expression")


def training_record(folder: str | Path) -> dict:
    """What a saved model's `training.json` says about how it came to be.

    Returns:
        "tasks": those it was trained for. A single task's stage trains the shared layers away from the other branch, so
        what that branch says means nothing, whatever an earlier stage had taught it. Without a record, both.
        "weighting", and the weights "w1" and "w2" (the mean of the last steps where they are learnt); "steps" and
        "minutes" of this stage, "minutes_before" of the stages it started from; "photographs_seen", "device",
        "parameters", "trained_on" (source -> splits). None for whatever is not recorded.

    Raises:
        ValueError: the file is damaged.
    """
    record = read_record(Path(folder))
    network = record.get("config", {}).get("network", {}) | record.get("network", {})
    weighting = network.get("weighting", "dynamic") if record else None  # what the network's config has by default
    before, earlier = 0.0, record.get("started_from")
    while isinstance(earlier, dict):
        before, earlier = before + earlier.get("minutes", 0.0), earlier.get("started_from")
    known = ("steps", "minutes", "photographs_seen", "device", "parameters", "trained_on")
    weights = {name: record.get("final", {}).get(name) for name in ("w1", "w2")}
    return {
        "tasks": [weighting] if weighting in TASKS else list(TASKS),
        "weighting": weighting,
        **weights,
        "minutes_before": before,
        **{name: record.get(name) for name in known},
    }


TITLES = {
    "accuracy": "accuracy",
    "auc": "AUC",
    "eer": "EER",
    "tar_at_far": "TAR",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
}


def comparison_text(section: dict) -> str:
    """The section that `comparison.compare` returns, for the terminal."""
    width = max(len(label) for label in section["models"]) + 2
    lines = ["What trained them", *_training_lines(section["models"], width)]
    lines += [f"  {warning}" for warning in section["warnings"]]
    for task in TASKS:
        if section[task] is not None:
            lines += ["", *_task_lines(section[task], task, section["level"], width)]
    resamples = section["resamples"]
    lines += [
        "",
        f"Differences are over the same draws of people or photographs ({resamples:,}, seed {section['seed']}). p is "
        f"corrected by Holm over the rows; * is p < 0.05, and no p can be below 2 / {resamples + 1:,} times the rows.",
        "McNemar's exact test takes pairs for independent; pairs that share a person are not: believe the bootstrap.",
        "Intervals and p say nothing of another seed of the training; where there are several, look seed by seed.",
    ]
    return "\n".join(lines)


def _training_lines(models: dict[str, dict], width: int) -> list[str]:
    head = "".join(f"{name:>8}" for name in ("w1", "w2", "steps", "minutes", "before"))
    lines = [f"  {'':<{width}}{'weighting':<14}{head}  device"]
    for label, record in models.items():
        numbers = [
            *(_number(record.get(name), ".3g") for name in ("w1", "w2")),
            _number(record.get("steps"), ",d"),
            *(_number(record.get(name), ".1f") for name in ("minutes", "minutes_before")),
        ]
        cells = "".join(f"{number:>8}" for number in numbers)
        lines.append(
            f"  {label:<{width}}{record.get('weighting') or '-':<14}{cells}  {record.get('device') or '-'}".rstrip()
        )
    return lines


def _task_lines(part: dict, task: str, level: float, width: int) -> list[str]:
    if task == "verification":
        curve = part["curve_pairs"]
        lines = [
            f"Verification: accuracy on {part['pairs']:,} pairs ({part['genuine']:,} genuine, "
            f"{part['missing_pairs']:,} without a found face) of {part['people']:,} people,",
            f"  threshold from {part['threshold']};",
            f"  AUC, EER and TAR at FAR {part['far']:.2%} on {curve['genuine_pairs']:,} genuine and "
            f"{curve['impostor_pairs']:,} impostor pairs",
        ]
    else:
        lines = [
            f"Expressions: {part['photographs']:,} photographs ({', '.join(part['classes'])}); "
            f"{part['left_out']:,} with other labels left out"
        ]
    metrics = [name for name in TITLES if name in part["rows"][0]]
    head = "".join(f"{TITLES[name]:<23}" for name in metrics)
    lines.append(f"  {'':<{width}}{head}({level:.0%} over {part['unit']})")
    for row in part["rows"]:
        lines.append(f"  {row['label']:<{width}}" + "".join(f"{_value(row[name]):<23}" for name in metrics).rstrip())
    head = "".join(f"{TITLES[name]:<32}" for name in metrics)
    lines.append(f"  {'less ' + part['reference']:<{width}}{head}McNemar, only this : only that right")
    for row in part["rows"]:
        if row["difference"] is None:
            continue
        test = row["mcnemar"]
        cells = "".join(f"{_difference(row['difference'].get(name)):<32}" for name in metrics)
        mcnemar = f"{test['only_this']:,}:{test['only_reference']:,} {_p(test['p_holm'])}"
        lines.append(f"  {row['label']:<{width}}{cells}{mcnemar}")
    return lines + _seed_lines(part, metrics, width)


def _seed_lines(part: dict, metrics: list[str], width: int) -> list[str]:
    """The means over seeds, and the differences of the same seed."""
    if not part["seeds"]:
        return []
    metrics = [name for name in metrics if name in part["seeds"][0]]
    lines = ["  mean over seeds" + " " * (width - 15) + "".join(f"{TITLES[name]:<23}" for name in metrics).rstrip()]
    for row in part["seeds"]:
        cells = "".join(f"{_value(row[name]):<23}" for name in metrics)
        lines.append(f"  {row['label']:<{width}}{cells}seeds {', '.join(map(str, row['seeds']))}")
    [reference] = [row["label"] for row in part["seeds"] if row["difference"] is None]
    lines.append(f"  {'less ' + reference:<{width}}" + "".join(f"{TITLES[name]:<32}" for name in metrics).rstrip())
    for row in part["seeds"]:
        if row["difference"] is None:
            continue
        lines.append(
            f"  {row['label']:<{width}}" + "".join(f"{_difference(row['difference'][n]):<32}" for n in metrics)
        )
        each = ["  ".join(_number(one, "+.3f") for one in row["difference"][name]["by_seed"]) for name in metrics]
        lines.append(f"  {'  seed by seed':<{width}}" + "".join(f"{one:<32}" for one in each).rstrip())
    return lines


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _value(cell: dict | None) -> str:
    if cell is None or cell["value"] is None:
        return "-"
    interval = cell.get("bootstrap")
    return f"{cell['value']:.4f}" + (f" ({interval[0]:.3f}-{interval[1]:.3f})" if interval else "")


def _difference(cell: dict | None) -> str:
    if cell is None or cell["low"] is None:
        return "-"
    return f"{cell['difference']:+.3f} ({cell['low']:+.3f},{cell['high']:+.3f}) {_p(cell['p_holm'])}"


def _p(p: float) -> str:
    return ("p<0.001" if p < 0.0005 else f"p {p:.3f}") + ("*" if p < 0.05 else "")
