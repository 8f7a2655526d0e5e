"""The card's figures, drawn from what results.json, training.json and the config say; PNG, the same bytes each time."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from figure_style import BLUE, COLUMN, GRAY, GREEN, PAGE, SKY, VERMILION, confusion_figure, line_style, styled
from hub_card.numbers import interval
from modeling_facelivenet import FEATURE_SIZE, FaceLiveNetConfig


@styled
def draw_architecture(config: FaceLiveNetConfig, parameters: Mapping[str, int], path: Path) -> None:
    """Shared layers, two branches and the dynamic-weight-unit of this checkpoint, with the parameters of each.

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
    box(82.5, 26, 17, BLUE, "embedding", f"{FEATURE_SIZE:,} numbers, length 1")
    box(82.5, 14, 17, GRAY, "w1, w2", "weights of the losses")
    box(82.5, 2, 17, VERMILION, "expression", f"one of {expressions}")
    arrow((18, 18), (22.5, 18))
    for y in (30, 18, 6):
        arrow((50.5, 18), (56.5, y), "--" if y == 18 else "-")
        arrow((77.5, y), (82, y), "--" if y == 18 else "-")
    _save(figure, path)


@styled
def draw_true_accepts(curves: Mapping[str, Mapping], path: Path) -> None:
    """Share of genuine pairs accepted at given false accept rates, with 95 % intervals: label -> a curve of
    results.json. Rates that the impostor pairs are too few to show are left out."""
    figure, axes = plt.subplots(figsize=(COLUMN * 1.3, 2.4 + 0.13 * len(curves)))
    for number, (label, curve) in enumerate(curves.items()):
        points = sorted((tar["far"], tar) for tar in curve["tar_at_far"] if tar["value"] is not None)
        far = np.array([point[0] for point in points])
        tar = np.array([point[1]["value"] for point in points])
        spans = np.array([interval(point[1]) for point in points]).reshape(-1, 2)
        errors = np.abs(spans.T - tar)
        text = f"{label} (AUC {curve['auc']:.3f}, EER {100 * curve['eer']:.1f} %)"
        shift = 10 ** (0.03 * number)  # so that intervals at the same rate stand beside each other
        axes.errorbar(far * shift, tar, errors, label=text, capsize=1.5, elinewidth=0.6, **line_style(number))
    axes.set(xscale="log", xlabel="false accept rate", ylabel="true accept rate", ylim=(0, 1.02))
    axes.grid()
    figure.legend(loc="outside lower center", handlelength=3.5, labelspacing=0.25)
    _save(figure, path)


@styled
def draw_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> None:
    """The confusion matrix without classes that are neither labelled nor predicted."""
    counts = np.asarray(matrix)
    shown = np.flatnonzero(counts.sum(0) + counts.sum(1))
    _save(confusion_figure(counts[np.ix_(shown, shown)], [classes[place] for place in shown], least_width=2.2), path)


@styled
def draw_slices(slices: Mapping[str, Mapping[str, Mapping]], path: Path) -> None:
    """What a group's rates are, with 95 % intervals: name of the rate -> group -> rate of results.json."""
    rows = max(len(rates) for rates in slices.values())
    figure, panels = plt.subplots(1, len(slices), figsize=(PAGE, 0.75 + 0.19 * rows), squeeze=False, sharey=True)
    for axes, (name, rates) in zip(panels[0], slices.items(), strict=True):
        for place, rate in enumerate(rates.values()):
            if rate is not None and rate["value"] is not None:
                axes.plot(interval(rate), [place, place], color=SKY, linewidth=2, solid_capstyle="butt")
                axes.plot(rate["value"], place, color=BLUE, marker="o", markersize=3.5)
        axes.set_yticks(range(len(rates)), list(rates))
        axes.set(xlabel=name, xlim=(-0.02, 1.02), ylim=(rows - 0.5, -0.5))
        axes.grid(axis="x")
    _save(figure, path)


@styled
def draw_validations(validations: Sequence[Mapping], path: Path) -> None:
    """Accuracy of both tasks on validation people over the steps of training."""
    named = {"verification_accuracy": "verification", "expression_accuracy": "expressions"}
    series = {
        f"{key.removesuffix('_' + end)}, {task}": key
        for key in validations[0]
        for end, task in named.items()
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
