"""The style of all figures. They fit one column of a two-column paper and are legible without colours.

The same data give a file with the same bytes.

`train.figures`, `evaluation.report.figures` and `hub_card.figures` draw with it.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt

COLUMN, PAGE = 3.35, 6.9  # widths of a column and of the page, in inches
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"  # Okabe and Ito's palette
PURPLE, SKY, BLACK, GRAY = "#CC79A7", "#56B4E9", "#000000", "#808080"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, GRAY)
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

STYLE = {
    "font.family": "DejaVu Sans",  # part of matplotlib, so figures look the same on all computers
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.minor.width": 0.3,
    "ytick.minor.width": 0.3,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "grid.linewidth": 0.3,
    "grid.color": "#cccccc",
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "FaceLiveNet+",  # without it, the ids in an SVG are random
}
styled = matplotlib.rc_context(STYLE)  # decorator of all functions that draw


def line_style(number: int) -> dict:
    """Colour, dashes and marker of curve `number`. The first eight curves differ in all three."""
    place = number % len(COLOURS)
    return {"color": COLOURS[place], "linestyle": LINES[place], "marker": MARKERS[place]}


@styled
def save_figure(figure, path: Path) -> Path:
    """Write the figure to `path`, which must end in .png, and as SVG to the same folder. Close it and return `path`.

    The files contain no date, so the same figure has the same bytes.
    """
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"{path}: a figure's name ends in .png; its .svg is written beside it")
    figure.savefig(path)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)
    return path
