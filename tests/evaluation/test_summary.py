"""The README's numbers are those of results.json, word for word."""

import pytest

from evaluation.report.results import read_results
from evaluation.report.summary import END, START, summary, write_summary


def test_the_readme_shows_the_results_and_no_typed_numbers(repository):
    results = read_results(repository / "docs/results/results.json")
    text = (repository / "README.md").read_text(encoding="utf-8")
    assert f"{START}\n{summary(results)}\n{END}" in text, (
        "python -m evaluation page --out docs/results --readme README.md"
    )


def test_a_page_without_a_place_for_results_is_refused(repository, tmp_path):
    results = read_results(repository / "docs/results/results.json")
    page = tmp_path / "page.md"
    page.write_text(f"before {START} stale {END} after")
    write_summary(results, page)
    assert summary(results) in page.read_text() and "stale" not in page.read_text()
    page.write_text("nothing here")
    with pytest.raises(ValueError, match="no place for the results"):
        write_summary(results, page)
