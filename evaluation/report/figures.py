"""The figures of a report, each as a PNG and an SVG beside it: the paper's Figures 3 to 5 and those of biometrics.

`draw_section` draws those of one section; `train.figures` draws the weights and losses of a training, Figures 6 and 7.
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
    confusion_figure,
    line_style,
    save_figure,
    styled,
)

DET_TICKS, DET_END = (0.0001, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4), 0.6
TSNE_PEOPLE, TSNE_IMAGES = 20, 20


def draw_section(section: Section, name: str, curves: Mapping[str, ScoredPairs], out: Path) -> dict[str, str]:
    """Draw the figures of a section into `out`; returns kind -> file name, for `Section.figures`.

    Args:
        name: of the section, from which the file names are made. curves: title -> pairs.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = {}

    def path(kind: str) -> Path:
        files[kind] = f"{kind}_{file_stem(name)}.png"
        return out / files[kind]

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
    """Kind of rate -> its title and group -> rate, of the groups that have it."""
    titles = {
        "far": ("verification", "FAR within the group"),
        "frr": ("verification", "FRR"),
        "accuracy": ("expression", "accuracy of expressions"),
    }
    return {
        kind: (
            title,
            {
                value: rate
                for value, group in section.report.slices.items()
                if (rate := getattr(getattr(group, part), kind, None)) is not None
            },
        )
        for kind, (part, title) in titles.items()
    }


def file_stem(name: str) -> str:
    """`lfw 9+10` -> `lfw_9_10`."""
    return re.sub("[^a-zA-Z0-9]+", "_", name).strip("_")


@styled
def draw_roc(curves: Mapping[str, ScoredPairs], path: Path) -> Path:
    """TAR over FAR, on a logarithmic axis, as the paper's Figure 3: label -> pairs. Returns the path.

    Each curve starts at the lowest FAR its impostor pairs can show, 1 / their number.
    """
    figure, axes = _curve_axes(len(curves))
    lowest = -1.0
    for number, (label, pairs) in enumerate(curves.items()):
        curve = roc(pairs.scores, pairs.same)
        shown = curve.far >= 1 / np.count_nonzero(~pairs.same)
        text = f"{label} (AUC {curve.auc:.3f}, EER {100 * curve.eer:.1f} %)"
        _draw_line(axes, np.log10(curve.far[shown]), curve.tar[shown], number, text)
        lowest = min(lowest, np.log10(curve.far[shown].min()))
    powers = range(int(np.ceil(lowest - 1e-9)), 1)
    axes.set_xticks(powers, [f"$10^{{{power}}}$" if power else "1" for power in powers])
    axes.set_xticks(
        [power + np.log10(digit) for power in range(powers[0] - 1, 0) for digit in range(2, 10)], minor=True
    )
    axes.set(xlabel="false accept rate", ylabel="true accept rate", xlim=(lowest - 0.05, 0), ylim=(0, 1.01))
    return save_figure(_with_legend(figure), path)


@styled
def draw_det(curves: Mapping[str, ScoredPairs], path: Path) -> Path:
    """FRR over FAR, both on normal-deviate axes (Martin et al., Eurospeech 1997): label -> pairs.

    Two normal distributions of equal width give a straight line; the thin diagonal is where FAR = FRR. A curve ends
    where fewer than one impostor or one genuine pair would be an error, and at 60 %. Returns the path.
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
    """Axes with room for a legend of this many curves below."""
    figure, axes = plt.subplots(figsize=(COLUMN, 2.4 + 0.13 * curves))
    axes.grid()
    return figure, axes


def _draw_line(axes, x: np.ndarray, y: np.ndarray, number: int, label: str) -> None:
    """A line with about eight markers, evenly spaced in x whatever the density of its points, and offset from those of
    the next line, so that overlapping lines can be told apart."""
    if not len(x):
        axes.plot([], [], label=label, **line_style(number))
        return
    places = np.linspace(x[0], x[-1], 9)[:-1] + (x[-1] - x[0]) / 9 * ((number * 3) % 8 / 8)
    marked = np.unique(np.abs(x[:, None] - places).argmin(0))
    axes.plot(x, y, label=label, markevery=marked.tolist(), **line_style(number))


def _with_legend(figure):
    figure.legend(loc="outside lower center", handlelength=3.5, labelspacing=0.25)
    return figure


def draw_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> Path:
    """The confusion matrix as the paper's Figure 5. Returns the path."""
    return save_figure(confusion_figure(matrix, classes), path)


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
    """Accuracy over confidence (Guo et al., ICML 2017), and below how many images have that confidence.

    The bars are 95 % Wilson intervals; "ECE", the expected calibration error, is the mean distance to the diagonal,
    weighted by the counts. Returns the path.
    """
    if not bins:
        raise ValueError("there is no image to draw a reliability diagram of")
    counts = np.array([bucket.count for bucket in bins])
    confidence, accuracy = (np.array([getattr(bucket, name) for bucket in bins]) for name in ("confidence", "accuracy"))
    intervals = np.array([wilson(round(a * n), int(n)) for a, n in zip(accuracy, counts, strict=True)])
    errors = np.maximum(np.abs(intervals - accuracy[:, None]).T, 0)
    gap = float(np.average(np.abs(accuracy - confidence), weights=counts))
    figure, (axes, below) = plt.subplots(2, sharex=True, figsize=(COLUMN, 3.2), height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=0.8, label="perfectly calibrated")
    axes.errorbar(
        confidence,
        accuracy,
        errors,
        color=BLUE,
        marker="o",
        capsize=2,
        elinewidth=0.8,
        label=f"measured (ECE {gap:.3f})",
    )
    axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="upper left")
    axes.grid()
    below.bar(confidence, counts, width=0.6 / len(bins), color=BLUE, alpha=0.6)
    below.set(xlabel="confidence", ylabel="images")
    return save_figure(figure, path)


@styled
def draw_embeddings(models: Mapping[str, Embeddings], path: Path, seed: int = 0) -> Path:
    """Two-dimensional t-SNE of the embeddings of several models side by side, as the paper's Figure 4.

    A point is an image, colour and marker together are a person, the same in each panel: of the 20 people with the most
    images, up to 20 images each. Distances between groups are meaningless (van der Maaten and Hinton, 2008). Returns
    the path.

    Raises:
        ValueError: fewer than two people with two images.
    """
    first = next(iter(models.values()))
    images = Counter(identity for identity in first.identities if identity is not None)
    people = [name for name, count in sorted(images.items(), key=lambda item: (-item[1], item[0])) if count > 1]
    people = people[:TSNE_PEOPLE]
    if len(people) < 2:
        raise ValueError(f"{len(people)} people have two images or more: too few to show groups")
    names = dict(zip(first.keys, first.identities, strict=True))
    chosen = [key for name in people for key in sorted(k for k in names if names[k] == name)[:TSNE_IMAGES]]
    columns = min(len(models), 3)
    rows = -(-len(models) // columns)
    width = COLUMN if columns == 1 else PAGE
    size = (width, rows * (width / columns + 0.2))
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axes, (label, table) in zip(grid.flat, models.items(), strict=False):
        row_of = {key: row for row, key in enumerate(table.keys)}
        vectors = table.embeddings[[row_of[key] for key in chosen]]
        perplexity = min(30, (len(chosen) - 1) / 3)
        with threadpool_limits(1):  # several threads change the last digit of a sum, which t-SNE amplifies
            places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)
        for number, name in enumerate(people):
            points = places[[names[key] == name for key in chosen]]
            marker, colour = MARKERS[number // len(COLOURS)], COLOURS[number % len(COLOURS)]
            axes.scatter(*points.T, s=9, marker=marker, color=colour, linewidths=0)
        axes.set(title=label, xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
    for axes in grid.flat[len(models) :]:
        axes.set_visible(False)
    return save_figure(figure, path)


@styled
def draw_rates(rates: Mapping[str, Rate], name: str, path: Path) -> Path:
    """Rates below one another with their 95 % intervals: of slices of a corpus, of kinds of attack, of models.

    Args:
        rates: label -> rate; those without a value are left out.
        name: what they are rates of, for the axis.
    """
    shown = {label: rate for label, rate in rates.items() if rate.value is not None}
    if not shown:
        raise ValueError(f"{name}: none of {', '.join(rates) or 'no rates'} has a value to draw")
    figure, axes = plt.subplots(figsize=(COLUMN, 0.65 + 0.19 * len(shown)))
    for place, rate in enumerate(shown.values()):
        axes.plot(rate.interval, [place, place], color=BLUE, linewidth=1.2, solid_capstyle="butt")
        axes.plot(rate.value, place, color=BLUE, marker="o", markersize=3.5)
    labels = [f"{label} ({rate.total:,})" for label, rate in shown.items()]
    axes.set_yticks(range(len(shown)), labels)
    axes.set(xlabel=name, ylim=(len(shown) - 0.5, -0.5))
    axes.grid(axis="x")
    return save_figure(figure, path)
