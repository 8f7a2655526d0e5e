"""Draws the figures of a report, each as PNG and SVG: the paper's Figures 3 to 5, and usual figures of biometrics.

`command` calls `draw_section` for each section. `train.figures` draws the paper's Figures 6 and 7, the weights and
losses of a training. Read `results` next.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from evaluation.embeddings.table import Embeddings
from evaluation.protocols.folds import FoldsSection
from evaluation.protocols.pairs import ScoredPairs
from evaluation.protocols.sections import ExpressionSection, Section, SlicesSection, VerificationSection
from evaluation.statistics.curves import roc
from evaluation.statistics.probabilities import ConfidenceBin
from evaluation.statistics.rates import Rate, wilson
from figure_style import (
    BLACK,
    BLUE,
    COLOURS,
    COLUMN,
    GRAY,
    MARKERS,
    PAGE,
    VERMILION,
    line_style,
    save_figure,
    styled,
)

DET_TICKS, DET_END = (0.0001, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4), 0.6
TSNE_PEOPLE, TSNE_IMAGES = 20, 20


def draw_section(section: Section, name: str, curves: Mapping[str, ScoredPairs], folder: Path) -> dict[str, str]:
    """Draw the figures of a section into `folder`; returns kind -> file name, for `Section.figures`.

    Args:
        name: of the section; part of the file names. curves: title -> pairs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {}

    def path(kind: str) -> Path:
        files[kind] = f"{kind}_{file_stem(name)}.png"
        return folder / files[kind]

    if isinstance(section, VerificationSection):
        if (generated := curves.get("generated pairs")) is not None:
            shipped = section.generated.shipped_threshold
            draw_scores(generated, None if shipped is None else shipped.threshold, path("scores"))
        draw_roc(curves, path("roc"))
        draw_det(curves, path("det"))
    elif isinstance(section, ExpressionSection):
        draw_confusion(section.report.confusion_matrix, section.report.classes, path("confusion"))
        draw_reliability(section.report.calibration.bins, path("reliability"))
    elif isinstance(section, SlicesSection):
        for kind, (title, rates) in slice_figures(section).items():
            if any(rate.value is not None for rate in rates.values()):
                draw_rates(rates, title, path(f"rates_{kind}"))
    elif isinstance(section, FoldsSection):
        if curves:
            draw_roc(curves, path("roc"))
        if section.expression is not None:
            report = section.expression.report
            draw_confusion(report.confusion_matrix, report.classes, path("confusion"))
    return files


def slice_figures(section: SlicesSection) -> dict[str, tuple[str, dict[str, Rate]]]:
    """Kind of rate -> (title, group -> rate), for the groups that have this rate."""
    titles = {
        "far": ("verification", "FAR within the group"),
        "frr": ("verification", "FRR"),
        "accuracy": ("expression", "accuracy of expressions"),
    }
    return {
        kind: (
            title,
            {
                group_name: rate
                for group_name, group in section.report.slices.items()
                if (rate := getattr(getattr(group, field), kind, None)) is not None
            },
        )
        for kind, (field, title) in titles.items()
    }


def file_stem(name: str) -> str:
    """`lfw 9+10` -> `lfw_9_10`."""
    return re.sub("[^a-zA-Z0-9]+", "_", name).strip("_")


@styled
def draw_roc(curves: Mapping[str, ScoredPairs], path: Path) -> Path:
    """TAR over FAR on a logarithmic axis, as in the paper's Figure 3, for curves (label -> pairs). Returns the path.

    Each curve starts at the lowest FAR that its impostor pairs can show, which is 1 / their number.
    """
    figure, axes = _curve_axes(len(curves))
    lowest = -1.0
    for number, (label, pairs) in enumerate(curves.items()):
        curve = roc(pairs.scores, pairs.same)
        visible = curve.far >= 1 / np.count_nonzero(~pairs.same)
        legend = f"{label} (AUC {curve.auc:.3f}, EER {100 * curve.eer:.1f} %)"
        _draw_line(axes, np.log10(curve.far[visible]), curve.tar[visible], number, legend)
        lowest = min(lowest, np.log10(curve.far[visible].min()))
    powers = range(int(np.ceil(lowest - 1e-9)), 1)
    axes.set_xticks(powers, [f"$10^{{{power}}}$" if power else "1" for power in powers])
    axes.set_xticks(
        [power + np.log10(digit) for power in range(powers[0] - 1, 0) for digit in range(2, 10)], minor=True
    )
    axes.set(xlabel="false accept rate", ylabel="true accept rate", xlim=(lowest - 0.05, 0), ylim=(0, 1.01))
    return save_figure(_with_legend(figure), path)


@styled
def draw_det(curves: Mapping[str, ScoredPairs], path: Path) -> Path:
    """FRR over FAR, both on normal-deviate axes (Martin et al., Eurospeech 1997), for curves (label -> pairs).

    Two normal distributions of equal width give a straight line. On the thin diagonal FAR = FRR. A curve ends at error
    rates below one impostor pair or one genuine pair, and at 60 %. Returns the path.
    """
    figure, axes = _curve_axes(len(curves))
    lowest = np.array([0.05, 0.05])
    for number, (label, pairs) in enumerate(curves.items()):
        curve, genuine = roc(pairs.scores, pairs.same), np.count_nonzero(pairs.same)
        errors = np.stack([curve.far, 1 - curve.tar])  # (2, k)
        floors = np.array([[1 / (len(pairs) - genuine)], [1 / genuine]])
        errors = errors[:, ((errors >= floors - 1e-12) & (errors <= DET_END)).all(0)]
        _draw_line(axes, *norm.ppf(errors), number, f"{label} (EER {100 * curve.eer:.1f} %)")
        lowest = np.minimum(lowest, errors.min(1, initial=1.0))
    for axis, low in zip((axes.xaxis, axes.yaxis), lowest, strict=True):
        ticks = [tick for tick in DET_TICKS if tick >= low]
        axis.set_ticks(norm.ppf(ticks), [f"{100 * tick:g}" for tick in ticks])
    axes.plot([-4, 4], [-4, 4], color=GRAY, linewidth=0.4, zorder=0)
    limits = [(norm.ppf(low), norm.ppf(DET_END)) for low in lowest]
    axes.set(xlabel="false accept rate (%)", ylabel="false reject rate (%)", xlim=limits[0], ylim=limits[1])
    return save_figure(_with_legend(figure), path)


def _curve_axes(curves: int):
    """Axes with space for a legend of so many curves below them."""
    figure, axes = plt.subplots(figsize=(COLUMN, 2.4 + 0.13 * curves))
    axes.grid()
    return figure, axes


def _draw_line(axes, x: np.ndarray, y: np.ndarray, number: int, label: str) -> None:
    """A line with about eight markers, evenly spaced in x. The markers of different lines have different offsets, so
    that overlapping lines can be distinguished."""
    if not len(x):
        axes.plot([], [], label=label, **line_style(number))
        return
    marker_positions = np.linspace(x[0], x[-1], 9)[:-1] + (x[-1] - x[0]) / 9 * ((number * 3) % 8 / 8)
    marked_points = np.unique(np.abs(x[:, None] - marker_positions).argmin(0))
    axes.plot(x, y, label=label, markevery=marked_points.tolist(), **line_style(number))


def _with_legend(figure):
    figure.legend(loc="outside lower center", handlelength=3.5, labelspacing=0.25)
    return figure


@styled
def draw_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> Path:
    """The confusion matrix, as in the paper's Figure 5: rows are labels, columns are predictions. Returns the path.

    The shade and the upper number are the fraction of the row. The lower number is the count.
    """
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    width = max(COLUMN, 1.0 + 0.34 * len(classes))
    figure, axes = plt.subplots(figsize=(width, width - 0.25))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.55 else BLACK
        text = f"{shares[row, column]:.2f}\n{counts[row, column]:,}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=5.5, linespacing=1.15)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    rows = [f"{name} ({total:,})" for name, total in zip(classes, counts.sum(1), strict=True)]
    axes.set_yticks(range(len(classes)), rows)
    axes.spines[:].set_visible(True)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="labelled (photographs)")
    return save_figure(figure, path)


@styled
def draw_scores(pairs: ScoredPairs, threshold: float | None, path: Path) -> Path:
    """Densities of the similarities of genuine and impostor pairs, and the threshold. Returns the path."""
    scores, same = pairs.scores, pairs.same
    figure, axes = plt.subplots(figsize=(COLUMN, 2.5))
    bins = np.linspace(scores.min(), scores.max(), 61)
    for name, mask, colour, line in (("impostor", ~same, VERMILION, "--"), ("genuine", same, BLUE, "-")):
        label = f"{name} ({np.count_nonzero(mask):,} pairs)"
        axes.hist(scores[mask], bins, density=True, color=colour, alpha=0.12)
        style = {"color": colour, "linestyle": line, "linewidth": 1.0}
        axes.hist(scores[mask], bins, density=True, histtype="step", label=label, **style)
    if threshold is not None:
        axes.axvline(threshold, color=BLACK, linestyle=":", label=f"threshold {threshold:.3f}")
    axes.set(xlabel="similarity", ylabel="density")
    return save_figure(_with_legend(figure), path)


@styled
def draw_reliability(bins: Sequence[ConfidenceBin], path: Path) -> Path:
    """Accuracy over confidence (Guo et al., ICML 2017), with a histogram of the confidence below. Returns the path.

    The error bars are 95 % Wilson intervals. "ECE" is the expected calibration error: the mean distance to the
    diagonal, weighted by the number of images.
    """
    if not bins:
        raise ValueError("a reliability diagram needs at least one image")
    counts = np.array([bucket.count for bucket in bins])
    confidence, accuracy = (np.array([getattr(bucket, name) for bucket in bins]) for name in ("confidence", "accuracy"))
    intervals = np.array([wilson(round(a * n), int(n)) for a, n in zip(accuracy, counts, strict=True)])
    errors = np.maximum(np.abs(intervals - accuracy[:, None]).T, 0)
    calibration_error = float(np.average(np.abs(accuracy - confidence), weights=counts))
    figure, (axes, histogram_axes) = plt.subplots(2, sharex=True, figsize=(COLUMN, 3.2), height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=0.8, label="perfectly calibrated")
    axes.errorbar(
        confidence,
        accuracy,
        errors,
        color=BLUE,
        marker="o",
        capsize=2,
        elinewidth=0.8,
        label=f"measured (ECE {calibration_error:.3f})",
    )
    axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="upper left")
    axes.grid()
    histogram_axes.bar(confidence, counts, width=0.6 / len(bins), color=BLUE, alpha=0.6)
    histogram_axes.set(xlabel="confidence", ylabel="images")
    return save_figure(figure, path)


@styled
def draw_embeddings(models: Mapping[str, Embeddings], path: Path, seed: int = 0) -> Path:
    """Two-dimensional t-SNE of the embeddings of several models, as in the paper's Figure 4. Returns the path.

    Each model has a panel. A point is an image; its colour and marker show the person and are the same in all panels.
    Drawn are up to 20 images of each of the 20 people with the most images. Distances between groups have no meaning
    (van der Maaten and Hinton, 2008).

    Raises:
        ValueError: fewer than two people have two images.
    """
    first_table = next(iter(models.values()))
    images = Counter(identity for identity in first_table.identities if identity is not None)
    people = [name for name, count in sorted(images.items(), key=lambda item: (-item[1], item[0])) if count > 1]
    people = people[:TSNE_PEOPLE]
    if len(people) < 2:
        raise ValueError(f"{len(people)} people have at least two images; two such people are needed")
    person_by_key = dict(zip(first_table.keys, first_table.identities, strict=True))
    keys_by_person = {name: sorted(key for key in person_by_key if person_by_key[key] == name) for name in people}
    chosen = [key for keys in keys_by_person.values() for key in keys[:TSNE_IMAGES]]
    columns = min(len(models), 3)
    rows = -(-len(models) // columns)
    width = COLUMN if columns == 1 else PAGE
    size = (width, rows * (width / columns + 0.2))
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axes, (label, table) in zip(grid.flat, models.items(), strict=False):
        row_by_key = {key: row for row, key in enumerate(table.keys)}
        vectors = table.embeddings[[row_by_key[key] for key in chosen]]
        perplexity = min(30, (len(chosen) - 1) / 3)
        with threadpool_limits(1):  # several threads change the last digits of sums, and t-SNE amplifies that
            all_points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)
        for number, name in enumerate(people):
            person_points = all_points[[person_by_key[key] == name for key in chosen]]
            marker, colour = MARKERS[number // len(COLOURS)], COLOURS[number % len(COLOURS)]
            axes.scatter(*person_points.T, s=9, marker=marker, color=colour, linewidths=0)
        axes.set(title=label, xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
    for axes in grid.flat[len(models) :]:
        axes.set_visible(False)
    return save_figure(figure, path)


@styled
def draw_rates(rates: Mapping[str, Rate], name: str, path: Path) -> Path:
    """Several rates with their 95 % intervals, one below the other. Returns the path.

    Args:
        rates: label -> rate; rates without a value are left out.
        name: label of the axis.
    """
    drawn_rates = {label: rate for label, rate in rates.items() if rate.value is not None}
    if not drawn_rates:
        raise ValueError(f"{name}: none of {', '.join(rates) or 'no rates'} has a value to draw")
    figure, axes = plt.subplots(figsize=(COLUMN, 0.65 + 0.19 * len(drawn_rates)))
    for position, rate in enumerate(drawn_rates.values()):
        axes.plot(rate.interval, [position, position], color=BLUE, linewidth=1.2, solid_capstyle="butt")
        axes.plot(rate.value, position, color=BLUE, marker="o", markersize=3.5)
    labels = [f"{label} ({rate.total:,})" for label, rate in drawn_rates.items()]
    axes.set_yticks(range(len(drawn_rates)), labels)
    axes.set(xlabel=name, ylim=(len(drawn_rates) - 0.5, -0.5))
    axes.grid(axis="x")
    return save_figure(figure, path)
