"""The figures of weights and losses of runs, drawn from artificial logs."""

import json

import pytest

from train import figures
from train.figures import draw_curves, draw_runs


def test_runs_are_drawn_side_by_side(monkeypatch, tmp_path):
    for name, weight in (("one", 1.0), ("two", 2.0)):
        (tmp_path / name).mkdir()
        rows = [
            {"step": n, "w1": 1.0, "w2": weight, "verification_loss": 9 - n, "expression_loss": 2.0} for n in (1, 2)
        ]
        (tmp_path / name / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = {"a run": tmp_path / "one", "another": tmp_path / "two"}
    drawn = draw_runs(runs, tmp_path / "both")
    assert [path.name for path in drawn] == ["weights.png", "losses.png"]
    assert all(path.exists() and path.with_suffix(".svg").exists() for path in drawn)
    assert draw_curves(tmp_path / "one")[0].read_bytes() != drawn[0].read_bytes()
    saved_axes = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: saved_axes.append(figure.axes) or path)
    draw_runs(runs, tmp_path / "both")
    weights, losses = saved_axes
    assert [axes.get_title() for axes in weights[:2]] == ["a run", "another"]
    assert weights[0].get_ylim()[0] == 0 and weights[0].get_ylim()[1] > 2  # the same axis, on which w2 = 2 fits
    assert len(losses[0].get_lines()) == 4
    with pytest.raises(FileNotFoundError, match=r"log\.jsonl is missing"):
        draw_runs({"none": tmp_path}, tmp_path / "both")
