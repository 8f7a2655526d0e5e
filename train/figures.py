"""Draws the curves of runs: the weights of the tasks (the paper's Figure 6) and their losses (Figure 7).

    python -m train.figures runs/dynamic
    python -m train.figures runs/dynamic runs/inverse_loss runs/static_1_1 --out runs/compared

The figures of one run are written to its folder. Those of several runs are written to OUT, side by side with the same
axes. Called by `run` at the end of a run. Next to read: figure_style.py.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from figure_style import BLUE, COLUMN, PAGE, VERMILION, save_figure, styled

FIGURES = {  # file -> label of the axis, columns of the log, whether to smooth
    "weights": ("weight of the task", {"w1": "w1", "w2": "w2"}, False),
    "losses": ("loss", {"verification_loss": "L1", "expression_loss": "L2"}, True),
}
TASKS = (("face verification", BLUE, "-"), ("facial expression", VERMILION, "--"))  # blue and orange as in the paper


def draw_curves(out: Path) -> list[Path]:
    """Draw OUT/weights.png and OUT/losses.png from OUT/log.jsonl, each also as SVG; returns the paths of the PNGs."""
    return draw_runs({"": out}, out)


@styled
def draw_runs(runs: Mapping[str, Path], out: Path) -> list[Path]:
    """Draw OUT/weights.png and OUT/losses.png with one panel for each run, each also as SVG.

    Args:
        runs: title -> folder of a run with its log.jsonl.

    Returns:
        the paths of the PNGs.

    Raises:
        FileNotFoundError: a folder has no log.jsonl.
    """
    logs = {title: _log(folder) for title, folder in runs.items()}
    out.mkdir(parents=True, exist_ok=True)
    columns = min(len(logs), 3)
    rows = -(-len(logs) // columns)
    size = (COLUMN, 2.2) if columns == 1 else (PAGE, 0.4 + 1.6 * rows)
    paths = []
    for name, (label, series, smooth) in FIGURES.items():
        figure, grid = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False)
        for axes, (title, log) in zip(grid.flat, logs.items(), strict=False):
            _plot(axes, log, series, smooth)
            axes.set_title(title)
        grid[0, 0].set_ylim(bottom=0)  # all panels share this axis: set it when all are drawn
        for axes in grid.flat[len(logs) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel(label)
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        paths.append(save_figure(figure, out / f"{name}.png"))
    return paths


def _log(folder: Path) -> list[dict]:
    path = folder / "log.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {folder} is not the folder of a run")
    return [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]


def _plot(axes, log: Sequence[dict], series: Mapping[str, str], smooth: bool) -> None:
    step = np.array([row["step"] for row in log])
    for (name, symbol), (task, colour, line) in zip(series.items(), TASKS, strict=True):
        values = np.array([row[name] for row in log])
        if smooth:  # losses of single batches are noisy; the line is the mean over a fiftieth of the run
            axes.plot(step, values, color=colour, alpha=0.2, linewidth=0.4)
            width = max(1, len(values) // 50)
            counts = np.convolve(np.ones(len(values)), np.ones(width), "same")
            values = np.convolve(values, np.ones(width), "same") / counts
        axes.plot(step, values, color=colour, linestyle=line, label=f"{task} ({symbol})")
    axes.set(xlabel="step", xlim=(step[0], max(step[-1], step[0] + 1)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m train.figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run with its log.jsonl")
    parser.add_argument("--out", type=Path, help="folder for the figures (default: that of the run, if it is only one)")
    arguments = parser.parse_args()
    if len(arguments.runs) > 1 and arguments.out is None:
        parser.error("--out is needed for the figures of several runs")
    titles = {run.name if len(arguments.runs) > 1 else "": run for run in arguments.runs}
    if len(titles) < len(arguments.runs):
        parser.error("two runs have the same name")
    for drawn in draw_runs(titles, arguments.out or arguments.runs[0]):
        print(drawn)
