"""Formats a comparison for the terminal: how each model was trained, its results, and the differences.

`command` prints it. Read `results` next, which describes the content.
"""

from evaluation.compare.paired_tests import Difference
from evaluation.compare.results import Cell, Comparison, ExpressionComparison, TaskComparison, VerificationComparison
from evaluation.compare.seeds import SeedCell
from evaluation.report.format import number, span
from evaluation.training_record import TASKS, TrainingSummary

TITLES = {
    "accuracy": "accuracy",
    "auc": "AUC",
    "eer": "EER",
    "tar_at_far": "TAR",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
}


def comparison_text(comparison: Comparison) -> str:
    """The text of a comparison on one corpus."""
    width = max(len(label) for label in comparison.models) + 2
    lines = ["Training", *_training_lines(comparison.models, width)]
    lines += [f"  {warning}" for warning in comparison.warnings]
    for task in TASKS:
        if (task_comparison := getattr(comparison, task)) is not None:
            lines += ["", *_task_lines(task_comparison, comparison.level, width)]
    resamples = comparison.resamples
    return "\n".join(
        [
            *lines,
            "",
            f"Differences use the same draws of people or images ({resamples:,}, seed {comparison.seed}). p is "
            f"Holm-corrected over the rows; * is p < 0.05, and no p can be below 2 / {resamples + 1:,} times the rows.",
            "McNemar's test assumes independent pairs. Pairs that share a person are not: trust the bootstrap.",
            "Intervals and p do not include the variation between seeds of the training: compare several seeds.",
        ]
    )


def _training_lines(models: dict[str, TrainingSummary], width: int) -> list[str]:
    head = "".join(f"{name:>8}" for name in ("w1", "w2", "steps", "minutes", "before"))
    lines = [f"  {'':<{width}}{'weighting':<14}{head}  device"]
    for label, summary in models.items():
        numbers = [
            *(_optional(value, ".3g") for value in (summary.w1, summary.w2)),
            _optional(summary.steps, ",d"),
            *(_optional(value, ".1f") for value in (summary.minutes, summary.minutes_before)),
        ]
        cells = "".join(f"{text:>8}" for text in numbers)
        lines.append(f"  {label:<{width}}{summary.weighting or '-':<14}{cells}  {summary.device or '-'}".rstrip())
    return lines


def _task_lines(task: TaskComparison, level: float, width: int) -> list[str]:
    if isinstance(task, VerificationComparison):
        lines = [
            f"Verification: accuracy on {task.pairs:,} pairs ({task.genuine:,} genuine, "
            f"{task.missing_pairs:,} without a found face) of {task.people:,} people,",
            f"  threshold from {task.threshold};",
            f"  AUC, EER and TAR at FAR {task.far:.2%} on {task.genuine_pairs:,} genuine and "
            f"{task.impostor_pairs:,} impostor pairs",
        ]
    else:
        assert isinstance(task, ExpressionComparison)
        lines = [
            f"Expressions: {task.photographs:,} images ({', '.join(task.classes)}); "
            f"{task.left_out:,} with other labels left out"
        ]
    metrics = [name for name in TITLES if any(name in row.cells for row in task.rows)]
    head = "".join(f"{TITLES[name]:<23}" for name in metrics)
    lines.append(f"  {'':<{width}}{head}({level:.0%} over {task.unit})")
    for row in task.rows:
        cells = "".join(f"{_cell_text(row.cells.get(name)):<23}" for name in metrics)
        lines.append(f"  {row.label:<{width}}" + cells.rstrip())
    head = "".join(f"{TITLES[name]:<32}" for name in metrics)
    lines.append(f"  {'less ' + task.reference:<{width}}{head}McNemar, only this : only that correct")
    for row in task.rows:
        if row.difference is not None:
            cells = "".join(f"{_difference_text(row.difference.get(name)):<32}" for name in metrics)
            test = row.mcnemar
            counts = f"{test.only_this:,}:{test.only_reference:,} {_p_text(test.p_holm)}"
            lines.append(f"  {row.label:<{width}}{cells}{counts}")
    return lines + _seed_lines(task, metrics, width)


def _seed_lines(task: TaskComparison, metrics: list[str], width: int) -> list[str]:
    """The means over seeds, and the differences for each seed."""
    if not task.seeds:
        return []
    metrics = [name for name in metrics if name in task.seeds[0].cells]
    lines = ["  mean over seeds" + " " * (width - 15) + "".join(f"{TITLES[name]:<23}" for name in metrics).rstrip()]
    for row in task.seeds:
        cells = "".join(f"{_cell_text(row.cells[name]):<23}" for name in metrics)
        lines.append(f"  {row.label:<{width}}{cells}seeds {', '.join(map(str, row.seeds))}")
    [reference] = [row.label for row in task.seeds if row.difference is None]
    lines.append(f"  {'less ' + reference:<{width}}" + "".join(f"{TITLES[name]:<32}" for name in metrics).rstrip())
    for row in task.seeds:
        if row.difference is None:
            continue
        cells = "".join(f"{_difference_text(row.difference[name]):<32}" for name in metrics)
        lines.append(f"  {row.label:<{width}}" + cells)
        differences_by_seed = [
            "  ".join(_optional(difference, "+.3f") for difference in row.difference[name].by_seed) for name in metrics
        ]
        lines.append(f"  {'  seed by seed':<{width}}" + "".join(f"{cell:<32}" for cell in differences_by_seed).rstrip())
    return lines


def _optional(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _cell_text(cell: Cell | SeedCell | None) -> str:
    if cell is None or cell.value is None:
        return "-"
    return number(cell.value, 4) + (f" ({span(cell.bootstrap)})" if cell.bootstrap else "")


def _difference_text(difference: Difference | None) -> str:
    if difference is None or difference.low is None:
        return "-"
    return f"{difference.difference:+.3f} ({difference.low:+.3f},{difference.high:+.3f}) {_p_text(difference.p_holm)}"


def _p_text(p: float) -> str:
    return ("p<0.001" if p < 0.0005 else f"p {p:.3f}") + ("*" if p < 0.05 else "")
