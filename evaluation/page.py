"""results.json and its figures -> report.html: one page that stands alone, to be read in a browser or printed.

    python -m evaluation.page results

Every `python -m evaluation` command writes the page anew; this one does so after results.json was copied or mended.
"""

import base64
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import jinja2

from evaluation.metrics import interval_of
from evaluation.report import check_results

TEMPLATE = "page.html.jinja"


def write_page(out: Path) -> Path:
    """Write OUT/report.html from OUT/results.json and the figures beside it; returns its path.

    Raises:
        ValueError: results.json is not one of this version; names what is wrong.
        FileNotFoundError: there is none.
    """
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    check_results(results, out / "results.json")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"rate": _rate, "number": _number, "interval": _interval, "percent": _percent, "span": _span}
    environment.globals["picture"] = lambda name: _picture(out / name)
    page = environment.get_template(TEMPLATE).render(results=results)
    path = out / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float) -> str:
    return f"{100 * value:.4g} %"


def _span(interval: Sequence[float]) -> str:
    low, high = interval
    return f"{low:.3f}–{high:.3f}"


def _interval(rate: dict) -> str:
    return _span(interval_of(rate))


def _rate(rate: dict) -> str:
    """`0.870 (522 of 600; 0.830–0.907)`."""
    if rate["value"] is None:
        return f"– ({rate.get('reason', 'nothing to count')})"
    return f"{rate['value']:.3f} ({rate['hits']:,} of {rate['total']:,}; {_interval(rate)})"


def _picture(path: Path) -> str:
    """The figure as a data URI, so that the page is one file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    try:
        print(write_page(Path(sys.argv[1])))
    except (OSError, ValueError) as error:
        sys.exit(f"evaluation.page: {error}")
