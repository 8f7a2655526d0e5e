"""The tables of the Markdown pages, and the report, are generated from results.json and attacks.json, word for word."""

import json
import re
import shutil

import pytest

from evaluation.report.page import write_page
from evaluation.report.results import read_results
from evaluation.report.summary import TABLES, attack_tables, headline, results_page, summary, with_tables, write_tables
from evaluation.statistics.rates import rate, to_json

PAGES = {"README.md": "results", "docs/inputs.md": "gate", "docs/demo.md": "attacks"}
COMMAND = f"python -m evaluation page --out docs/results --pages {' '.join(PAGES)}"


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_the_pages_are_generated(page, repository):
    text, folder = (repository / page).read_text(encoding="utf-8"), repository / "docs/results"
    assert with_tables(text, folder) == text, COMMAND
    assert TABLES[PAGES[page]](folder) in text, COMMAND


def test_the_results_page_is_generated(repository):
    folder = repository / "docs/results"
    page = (folder / "results.md").read_text(encoding="utf-8")
    assert page == results_page(read_results(folder / "results.json"), folder), COMMAND


def test_the_report_is_generated_from_the_results(repository, tmp_path, monkeypatch):
    """Without its figures, which are not in docs/results."""
    figure = "data:image/png;base64,"
    monkeypatch.setattr("evaluation.report.page._figure_uri", lambda path: figure)
    shutil.copy(repository / "docs/results/results.json", tmp_path)
    made = write_page(tmp_path).read_text(encoding="utf-8")
    shipped = (repository / "docs/results/report.html").read_text(encoding="utf-8")
    assert re.sub(f"{figure}[A-Za-z0-9+/=]*", figure, shipped) == made, "copy report.html of `python -m evaluation all`"


def test_the_three_rates_are_rows_of_the_complete_table(repository):
    results = read_results(repository / "docs/results/results.json")
    rows, all_rows = headline(results).splitlines(), summary(results).splitlines()
    assert len(rows) == 2 + 3 and set(rows) <= set(all_rows)


def test_tables_replace_all_marked_places_and_a_page_without_a_mark_is_refused(repository, tmp_path):
    folder, page = repository / "docs/results", tmp_path / "page.md"
    page.write_text("before\n<!-- results -->\nstale\n<!-- end of results -->\n<!-- gate -->\n<!-- end of gate -->\n")
    write_tables(page, folder)
    results, text = read_results(folder / "results.json"), page.read_text()
    assert headline(results) in text and "stale" not in text and text.startswith("before\n")
    assert "| black bar over the eyes |" in text
    page.write_text("nothing here")
    with pytest.raises(ValueError, match=r"page\.md: lacks all of <!-- results -->"):
        write_tables(page, folder)


def test_attacks_of_a_kind_are_pooled_and_counted(tmp_path):
    def challenges(**rates):
        modes = {"expression": "one expression", "turn": "one turn", "drawn": "as drawn"}
        return {"challenges": {modes[name]: {"accepted": to_json(value)} for name, value in rates.items()}}

    passed, refused, genuine = rate(1, 20), rate(0, 30), to_json(rate(2, 10))
    kinds = {
        "still": {"about": "held still"} | challenges(drawn=refused),
        "strip_white": {"about": "white"} | challenges(expression=passed, drawn=refused),
        "strip_pen": {"about": "pen"} | challenges(expression=refused, drawn=refused),
    }
    sessions = dict.fromkeys(("one expression", "one turn", "as drawn"), genuine)
    report = {"people": 30, "kinds": kinds, "bpcer": sessions, "false_reject_rate": sessions}
    (tmp_path / "attacks.json").write_text(json.dumps({"corpora": {"corpora/lfw:9": report}}))
    table = attack_tables(tmp_path).splitlines()
    assert table[0] == "| lfw:9, 30 people | one step alone | a drawn challenge |"
    assert table[2] == "| held still | – | 0.000 (0 of 30; 0.000-0.114) |"
    assert "(six covers)" in table[3] and "0.020 (1 of 50; " in table[3] and "0.000 (0 of 60; " in table[3]
    assert "BPCER" in table[4] and "expression 0.200 (2 of 10; " in table[4]
