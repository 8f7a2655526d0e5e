"""results.json and its figures -> report.html, one self-contained page, and results.md, its rates alone.

    python -m evaluation page --out results

Every evaluation command writes both; this one does so again after results.json was copied or edited.
"""

import base64
from pathlib import Path

import jinja2

from evaluation.protocols.verification import CHOOSE_FOLD, REPORT_FOLD
from evaluation.report import format
from evaluation.report.results import FILE, read_results
from evaluation.report.summary import write_results_page
from evaluation.report.text import hard_title

TEMPLATE = "page.html.jinja"


def write_page(out: Path) -> Path:
    """Write OUT/report.html and OUT/results.md from OUT/results.json and the figures beside it; returns the first.

    Raises:
        ValueError: results.json does not have the format; names what is wrong. FileNotFoundError: there is none.
    """
    results = read_results(out / FILE)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {name: getattr(format, name) for name in ("number", "percent", "span", "rate_text")}
    environment.filters["hard_title"] = hard_title
    environment.globals |= {"choose_fold": CHOOSE_FOLD, "report_fold": REPORT_FOLD}
    environment.globals["picture"] = lambda name: _picture(out / name)
    page = environment.get_template(TEMPLATE).render(results=results)
    path = out / "report.html"
    path.write_text(page, encoding="utf-8")
    write_results_page(results, out)
    return path


def _picture(path: Path) -> str:
    """The figure as a data URI, so that the page is one file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
