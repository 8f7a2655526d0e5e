"""The curves of a run: the weights of the tasks (the paper's Figure 6) and their losses (Figure 7).

python -m train.figures runs/dynamic
"""

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

VERIFICATION, EXPRESSION = "#0072b2", "#d55e00"  # told apart by colour-blind eyes too; blue and orange as in the paper
LOSSES = {"verification_loss": "L1", "expression_loss": "L2"}


def draw_curves(out: Path) -> list[Path]:
    """OUT/log.jsonl -> OUT/weights.png and OUT/losses.png; returns their paths."""
    rows = [json.loads(row) for row in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    step = np.array([row["step"] for row in rows])
    return [
        _draw(out / "weights.png", "weight of the task", step, rows, {"w1": "w1", "w2": "w2"}, smooth=False),
        _draw(out / "losses.png", "loss", step, rows, LOSSES, smooth=True),
    ]


def _draw(path: Path, label: str, step: np.ndarray, rows: list[dict], names: dict[str, str], smooth: bool) -> Path:
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    tasks = (("face verification", VERIFICATION), ("facial expression", EXPRESSION))
    for (name, short), (task, colour) in zip(names.items(), tasks, strict=True):
        values = np.array([row[name] for row in rows])
        if smooth:  # what one batch says is noise; the line is the mean over a fiftieth of the run
            axes.plot(step, values, color=colour, alpha=0.2, linewidth=0.6)
            width = max(1, len(values) // 50)
            counts = np.convolve(np.ones(len(values)), np.ones(width), "same")
            values = np.convolve(values, np.ones(width), "same") / counts
        axes.plot(step, values, color=colour, label=f"{task} ({short})")
    axes.set(xlabel="step", ylabel=label, xlim=(step[0], max(step[-1], step[0] + 1)))
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


if __name__ == "__main__":
    for drawn in draw_curves(Path(sys.argv[1])):
        print(drawn)
