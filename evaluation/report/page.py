"""Writes report.html, a self-contained page, and results.md, a table of rates, from results.json and its figures.

    python -m evaluation page --out results

Every evaluation command writes both files. Use this command after results.json was copied or edited. The template is
page.html.jinja. Read `summary` next, which makes results.md.
"""

import base64
from pathlib import Path

import jinja2

from evaluation.protocols.verification import CHOICE_FOLD, REPORT_FOLD
from evaluation.report import format
from evaluation.report.results import FILE, read_results
from evaluation.report.summary import write_results_page
from evaluation.report.text import hard_title

TEMPLATE = "page.html.jinja"


def write_page(folder: Path) -> Path:
    """Write report.html and results.md from results.json and the figures in the same folder; returns report.html's
    path.

    Raises:
        FileNotFoundError: there is no results.json. ValueError: results.json is not valid; the message says why.
    """
    results = read_results(folder / FILE)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {name: getattr(format, name) for name in ("number", "percent", "span", "rate_text")}
    environment.filters["hard_title"] = hard_title
    environment.globals |= {"choice_fold": CHOICE_FOLD, "report_fold": REPORT_FOLD}
    environment.globals["figure_uri"] = lambda name: _figure_uri(folder / name)
    html = environment.get_template(TEMPLATE).render(results=results)
    path = folder / "report.html"
    path.write_text(html, encoding="utf-8")
    write_results_page(results, folder)
    return path


def _figure_uri(path: Path) -> str:
    """The figure as a data URI, which keeps the page in one file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
