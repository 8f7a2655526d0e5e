"""Every figure is a PNG and an SVG, is legible without colour, and has the same bytes for the same numbers."""

import re

import numpy as np
import pytest
from PIL import Image

import figure_style
from evaluation.protocols.pairs import ScoredPairs
from evaluation.report import figures
from evaluation.statistics.probabilities import ConfidenceBin
from evaluation.statistics.rates import rate
from figure_style import line_style


def scored(scores, same) -> ScoredPairs:
    names = np.full(len(same), "p")
    return ScoredPairs(
        np.zeros(len(same)), scores, same, names, names, np.zeros(len(same), bool), np.full((len(same), 2), "")
    )


@pytest.fixture
def people(make_embeddings):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 8))
    rows = [(f"k{n}", f"p{n % 6}", "happy", "9", centres[n % 6] + rng.normal(size=8), [1, 0, 0]) for n in range(40)]
    return make_embeddings(
        [*rows, ("alone", "q", "happy", "9", [1] * 8, [1, 0, 0]), ("who", None, None, "9", [1] * 8, [1, 0, 0])]
    )


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    same = rng.random(2000) < 0.3
    return scored(rng.normal(same * 0.6, 0.3), same)


@pytest.fixture
def bins():
    return [
        ConfidenceBin(low=0.5, high=0.7, count=8, confidence=0.6, accuracy=0.5),
        ConfidenceBin(low=0.8, high=1, count=30, confidence=0.9, accuracy=1.0),
    ]


@pytest.mark.parametrize(
    "draw",
    [
        lambda inputs, path: figures.draw_roc({f"model {n}": inputs["pairs"] for n in range(9)}, path),
        lambda inputs, path: figures.draw_det({"a": inputs["pairs"], "b": inputs["pairs"]}, path),
        lambda inputs, path: figures.draw_confusion([[5, 1], [0, 0]], ["neutral", "happy"], path),
        lambda inputs, path: figures.draw_scores(inputs["pairs"], 0.4, path),
        lambda inputs, path: figures.draw_reliability(inputs["bins"], path),
        lambda inputs, path: figures.draw_embeddings({"one": inputs["people"], "two": inputs["people"]}, path),
        lambda inputs, path: figures.draw_rates({"a": rate(5, 10)}, "recall", path),
    ],
    ids=["roc", "det", "confusion", "scores", "reliability", "embeddings", "rates"],
)
def test_drawing_twice_gives_the_same_png_and_svg(draw, pairs, bins, people, tmp_path):
    inputs = {"pairs": pairs, "bins": bins, "people": people}
    first, second = draw(inputs, tmp_path / "first.png"), draw(inputs, tmp_path / "second.png")
    assert first == tmp_path / "first.png"
    assert first.read_bytes() == second.read_bytes()
    svg = first.with_suffix(".svg").read_text(encoding="utf-8")
    assert svg == second.with_suffix(".svg").read_text(encoding="utf-8")
    assert "<svg" in svg and "dc:date" not in svg
    with Image.open(first) as picture:
        assert picture.width >= 200 * figure_style.COLUMN - 2  # 200 dots per inch; the SVG is for print


@pytest.fixture
def axes_of(monkeypatch):
    """A function that calls a drawing function and returns the axes of the figures instead of saving them."""

    def call(draw, *arguments):
        kept = []
        monkeypatch.setattr(figures, "save_figure", lambda figure, path: kept.append(figure) or path)
        draw(*arguments)
        return [figure.axes for figure in kept]

    return call


def test_det_axes_are_normal_deviates(axes_of):
    """Scores of two normal distributions at a distance d' give a straight line of slope -1."""
    rng = np.random.default_rng(0)
    same = np.arange(100_000) < 50_000
    [[axes]] = axes_of(figures.draw_det, {"normal": scored(rng.normal(same * 2.0, 1), same)}, None)
    line = axes.get_lines()[0]
    x, y = line.get_data()
    middle = (x > -1.6) & (y > -1.6)
    np.testing.assert_allclose((x + y)[middle], -2.0, atol=0.05)
    assert re.fullmatch(r"normal \(EER 15\.\d %\)", line.get_label())  # 15.9 % with infinitely many scores
    assert max(x.max(), y.max()) <= axes.get_xlim()[1] + 1e-9


def test_curves_begin_at_one_accepted_impostor(axes_of, pairs):
    [[axes]] = axes_of(figures.draw_roc, {"pairs": pairs}, None)
    x, y = axes.get_lines()[0].get_data()
    assert 10 ** x.min() == pytest.approx(1 / np.count_nonzero(~pairs.same))
    assert (x[-1], y[-1]) == (0, 1)


def test_a_perfect_network_can_be_drawn(tmp_path):
    curves = {"perfect": scored(np.array([0.9, 0.8, 0.1, 0.2]), np.array([True, True, False, False]))}
    assert figures.draw_det(curves, tmp_path / "det.png").exists()
    assert figures.draw_roc(curves, tmp_path / "roc.png").exists()


def test_eight_curves_differ_in_colour_dashes_and_marker():
    styles = [line_style(number) for number in range(8)]
    for name in ("color", "linestyle", "marker"):
        assert len({str(style[name]) for style in styles}) == 8
    assert line_style(8) == styles[0]


def test_people_with_several_photographs_are_drawn_in_one_style_each(axes_of, people):
    [[one, two, *_]] = axes_of(figures.draw_embeddings, {"one": people, "two": people}, None)
    assert [axes.get_title() for axes in (one, two)] == ["one", "two"]
    assert len(one.collections) == 6 and sum(len(group.get_offsets()) for group in one.collections) == 40
    with pytest.raises(ValueError, match="1 people have at least two images"):
        figures.draw_embeddings({"one": people.select([0, 1, 6])}, None)


def test_figures_without_data_or_of_another_format_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one image"):
        figures.draw_reliability([], tmp_path / "a.png")
    with pytest.raises(ValueError, match="recall: none of a has a value"):
        figures.draw_rates({"a": rate(0, 0)}, "recall", tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"ends in \.png"):
        figures.draw_confusion([[1]], ["happy"], tmp_path / "a.pdf")
