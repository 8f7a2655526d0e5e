"""Figures of a report, as PNG files: ROC, confusion matrix, histogram of the scores. Legible without colour."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt
import numpy as np

from evaluation.metrics import roc

BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#E69F00", "#009E73", "#000000"  # Okabe & Ito's palette
STYLES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."))


def draw_roc(curves: dict[str, tuple[np.ndarray, np.ndarray]], path: Path) -> Path:
    """TAR over FAR, on a logarithmic axis: label -> (scores, same), three curves at most. Returns the path.

    Each curve starts at the lowest FAR its impostor pairs can show, 1 / their number.
    """
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    for (label, (scores, same)), (colour, line) in zip(curves.items(), STYLES, strict=False):
        curve = roc(scores, same)
        shown = curve.far >= 1 / np.count_nonzero(~np.asarray(same))
        text = f"{label} (AUC {curve.auc:.3f}, EER {curve.eer:.1%})"
        axes.plot(curve.far[shown], curve.tar[shown], line, color=colour, label=text)
    axes.set(xscale="log", xlabel="false accept rate", ylabel="true accept rate", xlim=(None, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return _save(figure, path)


def draw_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> Path:
    """Rows are labels, columns predictions, as the paper's figure 5: shade and first number are the share of the row,
    the number below it the count. Returns the path."""
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(1.6 + 0.75 * len(classes), 1.2 + 0.7 * len(classes)), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.6 else BLACK
        text = f"{shares[row, column]:.2f}\n{counts[row, column]:,}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    rows = [f"{name} ({total:,})" for name, total in zip(classes, counts.sum(1), strict=True)]
    axes.set_yticks(range(len(classes)), rows)
    axes.set(xlabel="predicted", ylabel="labelled (photographs)")
    return _save(figure, path)


def draw_scores(scores: np.ndarray, same: np.ndarray, threshold: float | None, path: Path) -> Path:
    """Densities of the similarities of genuine and impostor pairs, and the threshold. Returns the path."""
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    bins = np.linspace(scores.min(), scores.max(), 61)
    for name, mask, (colour, line) in (("impostor", ~same, STYLES[1]), ("genuine", same, STYLES[0])):
        label = f"{name} ({np.count_nonzero(mask):,} pairs)"
        style = {"color": colour, "linestyle": line, "linewidth": 1.5}
        axes.hist(scores[mask], bins, density=True, histtype="step", label=label, **style)
    if threshold is not None:
        axes.axvline(threshold, color=BLACK, linestyle=":", label=f"threshold {threshold:.3f}")
    axes.set(xlabel="cosine similarity", ylabel="density")
    axes.legend(fontsize="small")
    return _save(figure, path)


def _save(figure, path: Path) -> Path:
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
