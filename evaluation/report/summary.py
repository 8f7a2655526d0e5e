"""The few numbers of README.md, taken from results.json: between two comments of the page, nothing is typed by hand.

`python -m evaluation page --out docs/results --readme README.md` calls it; a test compares the page with the results.
"""

import re
from pathlib import Path

from evaluation.report.format import number, percent, rate_text, span
from evaluation.report.results import Results

START, END = "<!-- results -->", "<!-- end of results -->"


def summary(results: Results) -> str:
    """A Markdown table: one row per figure, with its counts and its 95 % interval."""
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
    for name, section in results.sections("expression").items():
        report = section.report
        rows.append((f"accuracy of expressions, {name}", rate_text(report.accuracy)))
        for expression in ("happy", "surprise"):
            if report.recall[expression].total:
                rows.append((f"{expression} recognised, {name}", rate_text(report.recall[expression])))
    for name, section in results.sections("authentication").items():
        rows.append((f"false accepts of the fused decision, {name}", rate_text(section.report.far)))
    lines = "\n".join(f"| {title} | {value} |" for title, value in rows)
    return f"| | rate (cases; 95 % interval) |\n| --- | --- |\n{lines}"


def write_summary(results: Results, page: Path) -> None:
    """Replace what stands between START and END in a Markdown page.

    Raises:
        ValueError: the page has no such place.
    """
    text = page.read_text(encoding="utf-8")
    place = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    if not place.search(text):
        raise ValueError(f"{page}: no place for the results, between {START} and {END}")
    page.write_text(place.sub(lambda _: f"{START}\n{summary(results)}\n{END}", text, count=1), encoding="utf-8")
