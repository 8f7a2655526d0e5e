"""Draws the figures that only the card has: the architecture and the progress of training, as reproducible PNG.

`card` calls these functions. `evaluation.report.figures` draws the figures of the results.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from figure_style import BLUE, COLUMN, GRAY, GREEN, PAGE, VERMILION, line_style, styled
from modeling_facelivenet import FaceLiveNetConfig


@styled
def draw_architecture(config: FaceLiveNetConfig, parameters: Mapping[str, int], path: Path) -> None:
    """Shared layers, branches and dynamic-weight-unit of a checkpoint, with their numbers of parameters.

    Args:
        parameters: counts of "shared", "verification", "expression" and "dynamic_weight_unit".
    """
    figure, axes = plt.subplots(figsize=(PAGE, 2.5))
    axes.set(xlim=(0, 100), ylim=(0, 36))
    axes.axis("off")
    side, expressions = config.image_size, len(config.expressions)
    shared = config.trunk or f"Inception-ResNet, {' + '.join(map(str, config.repeats[:2]))} residual blocks"

    def box(x: float, y: float, width: float, colour: str, title: str, text: str) -> None:
        patch = FancyBboxPatch((x, y), width, 8, boxstyle="round,pad=0.3", facecolor=colour + "22", edgecolor=colour)
        axes.add_patch(patch)
        axes.text(x + width / 2, y + 5.3, title, ha="center", va="center", fontweight="bold")
        axes.text(x + width / 2, y + 2.2, text, ha="center", va="center", fontsize=6)

    def arrow(start: tuple[float, float], end: tuple[float, float], line: str = "-") -> None:
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7, linewidth=0.8, linestyle=line))

    box(0.5, 14, 17, GRAY, "face", f"{side} × {side} RGB, whitened")
    box(23, 14, 27, GREEN, "shared layers", f"{shared}\n{parameters['shared']:,} parameters")
    box(57, 26, 20, BLUE, "verification branch", f"Block8, pooling\n{parameters['verification']:,} parameters")
    box(57, 14, 20, GRAY, "dynamic-weight-unit", f"in training\n{parameters['dynamic_weight_unit']:,} parameters")
    box(57, 2, 20, VERMILION, "expression branch", f"Block8, pooling, FC\n{parameters['expression']:,} parameters")
    box(82.5, 26, 17, BLUE, "embedding", f"{config.embedding_dim:,} numbers")
    box(82.5, 14, 17, GRAY, "w1, w2", "weights of the losses")
    box(82.5, 2, 17, VERMILION, "expression", f"one of {expressions}")
    arrow((18, 18), (22.5, 18))
    for y in (30, 18, 6):
        arrow((50.5, 18), (56.5, y), "--" if y == 18 else "-")
        arrow((77.5, y), (82, y), "--" if y == 18 else "-")
    _save(figure, path)


@styled
def draw_validations(validations: Sequence[Mapping], path: Path) -> None:
    """Accuracy of both tasks on validation people, over the steps of training."""
    tasks = {"verification_accuracy": "verification", "expression_accuracy": "expressions"}
    series = {
        f"{key.removesuffix('_' + end)}, {task}": key
        for key in validations[0]
        for end, task in tasks.items()
        if key.endswith(end)
    }
    figure, axes = plt.subplots(figsize=(COLUMN * 1.3, 2.2 + 0.13 * len(series)))
    steps = [row["step"] for row in validations]
    for number, (label, key) in enumerate(series.items()):
        axes.plot(steps, [row.get(key, math.nan) for row in validations], label=label, **line_style(number))
    axes.set(xlabel="step", ylabel="accuracy, validation people")
    axes.grid()
    figure.legend(loc="outside lower center", handlelength=3.5, labelspacing=0.25)
    _save(figure, path)


@styled
def draw_task_weights(log: Path, path: Path) -> None:
    """w1 and w2 at every step of a run, from its log.jsonl."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure, axes = plt.subplots(figsize=(COLUMN * 1.3, 2.4))
    steps = [row["step"] for row in rows]
    for key, label, colour, line in (
        ("w1", "face verification (w1)", BLUE, "-"),
        ("w2", "facial expression (w2)", VERMILION, "--"),
    ):
        axes.plot(steps, [row[key] for row in rows], color=colour, linestyle=line, label=label)
    axes.set(xlabel="step", ylabel="weight of the task", ylim=(-0.02, None))
    axes.grid()
    figure.legend(loc="outside lower center", ncols=2)
    _save(figure, path)


def _save(figure, path: Path) -> None:
    figure.savefig(path)
    plt.close(figure)
