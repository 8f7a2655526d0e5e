"""The HTML report has the numbers of results.json and needs no other file. A wrong results.json is refused."""

import json
import re
import shutil

import pytest
from programs import Program

from evaluation.__main__ import main
from evaluation.report.page import write_page
from evaluation.report.results import read_results


@pytest.fixture
def results(evaluated, tmp_path):
    """A copy of the results, which a test may change."""
    return shutil.copytree(evaluated[1], tmp_path / "out")


def test_the_page_has_every_section_and_figure(results, repository):
    page = (results / "report.html").read_text()
    content = json.loads((results / "results.json").read_text())
    for title in ("Verification", "Expressions", "The joint decision", "Challenge sessions", "Slices"):
        assert f"<h2>{title}</h2>" in page
    accuracy = content["verification"]["patterns"]["single_fold"]["best_accuracy_threshold"]["accuracy"]
    assert f"{accuracy['value']:.3f} ({accuracy['hits']} of {accuracy['total']};" in page
    figures = [
        name
        for sections in content.values()
        if isinstance(sections, dict)
        for section in sections.values()
        if isinstance(section, dict)
        for name in section["figures"].values()
    ]
    assert len(figures) > 5 and page.count("data:image/png;base64,") == len(figures)
    for name in figures:
        assert (results / name).is_file() and (results / name).with_suffix(".svg").is_file()
    assert not re.search(r'(src|href)="(?!data:)', page)  # it loads nothing from elsewhere
    assert "10: 6 people are too few" in page
    program = Program(["-m", "evaluation", "page", "--out", results], repository)
    assert program.wait() == 0 and (results / "report.html").read_text() == page


def test_names_cannot_insert_html_into_the_page(results):
    content = json.loads((results / "results.json").read_text())
    content["model"]["name"] = "<script>alert(1)</script>"
    (results / "results.json").write_text(json.dumps(content))
    assert "<script>" not in write_page(results).read_text()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda content: content.pop("schema_version"), "schema_version: Field required"),
        (lambda content: content.update(schema_version=2), "schema_version: Input should be 1"),
        (lambda content: content["model"].update(sha256="?"), "model/sha256"),
        (
            lambda content: content["expression"]["patterns 9+10"]["report"]["accuracy"].update(value=1.5),
            "expression/patterns 9.10/report/accuracy/value: Input should be less than or equal to 1",
        ),
        (lambda content: content["verification"]["patterns"].pop("seed"), "patterns/seed: Field required"),
        (lambda content: content.update(verdict="good"), "verdict: Unexpected keyword argument"),
    ],
)
def test_errors_in_the_results_are_named(results, change, message, capsys):
    path = results / "results.json"
    content = json.loads(path.read_text())
    read_results(path)
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_results(path)


def test_the_same_command_gives_the_same_bytes(results, evaluated, corpus, tmp_path):
    model = ["--model", str(evaluated[0]), "--data", str(corpus), "--far", "0.05"]
    assert main(["all", *model, "--out", str(tmp_path / "again"), "--slices", "split"]) == 0
    for path in sorted(results.iterdir()):
        if path.suffix in (".png", ".svg"):
            assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
    first, second = (json.loads((folder / "results.json").read_text()) for folder in (results, tmp_path / "again"))
    for content in (first, second):
        for protocol in content.values():
            for section in protocol.values() if isinstance(protocol, dict) else ():
                if isinstance(section, dict):
                    section.pop("seconds", None)
    assert first == second
