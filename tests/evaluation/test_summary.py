"""The numbers of README.md and of docs/results/results.md are those of results.json, word for word."""

import pytest

from evaluation.report.results import read_results
from evaluation.report.summary import END, START, headline, results_page, summary, write_headline


def test_the_readme_shows_the_results_and_no_typed_numbers(repository):
    results = read_results(repository / "docs/results/results.json")
    again = "python -m evaluation page --out docs/results --readme README.md"
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert f"{START}\n{headline(results)}\n{END}" in readme, again
    page = (repository / "docs/results/results.md").read_text(encoding="utf-8")
    assert page == results_page(results, repository / "docs/results"), again


def test_the_three_rates_are_rows_of_the_whole_table(repository):
    results = read_results(repository / "docs/results/results.json")
    rows, all_rows = headline(results).splitlines(), summary(results).splitlines()
    assert len(rows) == 2 + 3 and set(rows) <= set(all_rows)


def test_a_page_without_a_place_for_results_is_refused(repository, tmp_path):
    results = read_results(repository / "docs/results/results.json")
    page = tmp_path / "page.md"
    page.write_text(f"before {START} stale {END} after")
    write_headline(results, page)
    assert headline(results) in page.read_text() and "stale" not in page.read_text()
    page.write_text("nothing here")
    with pytest.raises(ValueError, match="lacks <!-- results -->"):
        write_headline(results, page)
