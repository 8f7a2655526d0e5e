"""Writes rates of results.json as Markdown: all of them into results.md, and three into README.md.

Every evaluation command writes results.md. `python -m evaluation page --out docs/results --readme README.md` writes the
three rates between two comments of the README. A test checks that both files agree with results.json.
"""

import re
from pathlib import Path

from evaluation.report.format import number, percent, rate_text, span
from evaluation.report.results import FILE, Results

START, END = "<!-- results -->", "<!-- end of results -->"
Row = tuple[str, str]  # what was measured; the rate with its counts and its 95 % interval


def summary(results: Results) -> str:
    """A Markdown table of all rates."""
    return _table([*_verification(results), *_expression(results), *_fused(results)])


def headline(results: Results) -> str:
    """A Markdown table of three rates: verification, expression, and the fused decision.

    The accuracy of expressions is that on the corpus with the most labelled images.
    """
    verification = [row for row in _verification(results) if row[0].startswith("accuracy")]
    largest = max(results.sections("expression").items(), key=lambda item: item[1].report.accuracy.total, default=None)
    expression = [(f"accuracy of expressions, {largest[0]}", rate_text(largest[1].report.accuracy))] if largest else []
    return _table([*verification[:1], *expression, *_fused(results)[:1]])


def results_page(results: Results, folder: Path) -> str:
    """The text of results.md: all rates, and the ROC and DET curves in the folder."""
    figure_names = sorted(file.name for file in folder.glob("*.png") if file.name.startswith(("roc_", "det_")))
    figure_lines = "\n".join(f"![{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in figure_names)
    return (
        "# Results\n\n"
        f"Written by `python -m evaluation page` from [{FILE}]({FILE}).\n"
        "[report.html](report.html) has everything (save it and open it in a browser).\n\n"
        f"{summary(results)}\n\n{figure_lines}\n"
    )


def _verification(results: Results) -> list[Row]:
    rows = []
    for name, section in results.sections("verification").items():
        if section.single_fold is not None:
            accuracy = section.single_fold.best_accuracy_threshold.accuracy
            rows.append((f"accuracy on the pairs of {name}, fold 10, threshold of fold 9", rate_text(accuracy)))
        if (pairs := section.generated) is not None:
            rows.append((f"AUC, {name}", f"{number(pairs.auc)} ({span(pairs.auc_interval)})"))
            for rate in pairs.tar_at_far:
                if rate.value is not None and rate.far in (0.01, 0.001):
                    title = f"true accepts at a false accept rate of {percent(rate.far)}, {name}"
                    rows.append((title, rate_text(rate)))
            if (shipped := pairs.shipped_threshold) is not None:
                rows.append((f"false accepts at the shipped threshold, {name}", rate_text(shipped.far)))
    return rows


def _expression(results: Results) -> list[Row]:
    rows = []
    for name, section in results.sections("expression").items():
        report = section.report
        rows.append((f"accuracy of expressions, {name}", rate_text(report.accuracy)))
        for expression in ("happy", "surprise"):
            if report.recall[expression].total:
                rows.append((f"{expression} recognised, {name}", rate_text(report.recall[expression])))
    return rows


def _fused(results: Results) -> list[Row]:
    return [
        (f"false accepts of the fused decision, {name}", rate_text(section.report.far))
        for name, section in results.sections("authentication").items()
    ]


def _table(rows: list[Row]) -> str:
    lines = "\n".join(f"| {title} | {value} |" for title, value in rows)
    return f"| | rate (cases; 95 % interval) |\n| --- | --- |\n{lines}"


def write_results_page(results: Results, folder: Path) -> None:
    (folder / "results.md").write_text(results_page(results, folder), encoding="utf-8")


def write_headline(results: Results, page: Path) -> None:
    """Replace the text between START and END in a Markdown page.

    Raises:
        ValueError: the page does not contain both.
    """
    text = page.read_text(encoding="utf-8")
    place = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    if not place.search(text):
        raise ValueError(f"{page}: lacks {START} or {END}, between which the results are written")
    page.write_text(place.sub(lambda _: f"{START}\n{headline(results)}\n{END}", text, count=1), encoding="utf-8")
