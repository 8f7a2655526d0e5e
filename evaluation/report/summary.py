"""Writes rates of results.json and attacks.json as Markdown: results.md, and tables inside other pages.

Every evaluation command writes results.md. `python -m evaluation page --out docs/results --pages README.md
docs/inputs.md docs/demo.md` replaces each table of `TABLES` that stands between two comments of these pages, such as
`<!-- gate -->` and `<!-- end of gate -->`. A test checks that all pages agree with the two files.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from evaluation.attacks.simulation import DRAWN, EXPRESSION, TURN
from evaluation.protocols.verification import CHOICE_FOLD, REPORT_FOLD
from evaluation.report.format import NOTHING, number, percent, rate_text, span
from evaluation.report.results import FILE, Results, read_results
from evaluation.statistics.rates import Rate, rate

ATTACKS_FILE = "attacks.json"  # of `python -m evaluation.attacks`
POOLED = {  # attacks whose kinds share a row -> its title
    "strip_": "one photograph, its mouth covered when an expression is requested (six covers)",
    "warp_": "one photograph, its mouth corners pulled when an expression is requested (three strengths)",
}
Row = tuple[str, ...]  # what was measured; rates with their counts and their 95 % intervals


def summary(results: Results) -> str:
    """A Markdown table of all rates."""
    return markdown_table([*_verification(results), *_expression(results), *_joint(results)])


def headline(results: Results) -> str:
    """A Markdown table of three rates: verification, expression, and the joint decision.

    The accuracy of expressions is that on the corpus with the most labelled images.
    """
    verification = [row for row in _verification(results) if row[0].startswith("accuracy")]
    largest = max(results.sections("expression").items(), key=lambda item: item[1].report.accuracy.total, default=None)
    expression = [(f"accuracy of expressions, {largest[0]}", rate_text(largest[1].report.accuracy))] if largest else []
    return markdown_table([*verification[:1], *expression, *_joint(results)[:1]])


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
            title = f"accuracy on the pairs of {name}, fold {REPORT_FOLD}, threshold of fold {CHOICE_FOLD}"
            rows.append((title, rate_text(accuracy)))
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


def _joint(results: Results) -> list[Row]:
    return [
        (f"false accepts of the joint decision, {name}", rate_text(section.report.far))
        for name, section in results.sections("authentication").items()
    ]


def gate_tables(results: Results) -> str:
    """For each corpus a Markdown table of degradations: strangers and genuine pairs accepted, images refused."""
    tables = []
    for name, section in results.sections("degradations").items():
        rates_by_name = section.report.degradations
        unchanged = rates_by_name["unchanged"]
        header = (
            f"{name}, both images",
            f"strangers accepted, of {unchanged.false_accepts.total:,} pairs",
            "with the gate",
            f"genuine pairs accepted, of {unchanged.genuine_accepts.total:,}",
            "with the gate",
            f"images refused, of {unchanged.refused.total:,}",
        )
        rows = []
        for title, rates in rates_by_name.items():
            columns = [
                (rates.false_accepts, unchanged.false_accepts),
                (rates.false_accepts_gated, unchanged.false_accepts),
                (rates.genuine_accepts, unchanged.genuine_accepts),
                (rates.genuine_accepts_gated, unchanged.genuine_accepts),
                (rates.refused, unchanged.refused),
            ]
            cells = [_hits(shown, of_column.total) for shown, of_column in columns]
            if title in section.report.above_twice:
                cells[1] = f"**{cells[1]}**"
            rows.append((title, *cells))
        tables.append(markdown_table(rows, header))
    return "\n\n".join(tables)


def _hits(shown: Rate, total: int) -> str:
    """The hits of a rate, with their total where it is not that of the column."""
    return f"{shown.hits:,}" if shown.total == total else f"{shown.hits:,} of {shown.total:,}"


def attack_tables(folder: Path) -> str:
    """For each corpus of attacks.json in this folder a Markdown table: who is accepted, by kind of attack."""
    content = json.loads((folder / ATTACKS_FILE).read_text(encoding="utf-8"))
    tables = []
    for corpus, report in content["corpora"].items():
        header = (
            f"{corpus.removeprefix('corpora/')}, {report['people']} people",
            "one step alone",
            "a drawn challenge",
        )
        tables.append(markdown_table([*_attack_rows(report["kinds"]), *_genuine_rows(report)], header))
    return "\n\n".join(tables)


def _attack_rows(kinds: dict) -> list[Row]:
    """APCER: for a single step, which is an expression or a turn, and for a drawn challenge."""
    rates: dict[str, tuple[list[Rate], list[Rate]]] = {}
    for kind, attack in kinds.items():
        title = next((title for prefix, title in POOLED.items() if kind.startswith(prefix)), attack["about"])
        alone, drawn = rates.setdefault(title, ([], []))
        for mode, outcome in attack["challenges"].items():
            (drawn if mode == DRAWN else alone).append(_rate(outcome["accepted"]))
    return [(title, _pooled(alone), _pooled(drawn)) for title, (alone, drawn) in rates.items()]


def _genuine_rows(report: dict) -> list[Row]:
    """BPCER and FRR; for a single step that of an expression, then that of a turn."""
    rows = []
    for name, title in (
        ("bpcer", "genuine sessions that the challenge refuses (BPCER)"),
        ("false_reject_rate", "genuine sessions refused, with the identity check"),
    ):
        expression, turn, drawn = (_rate(report[name][mode]) for mode in (EXPRESSION, TURN, DRAWN))
        alone = f"expression {rate_text(expression)}, turn {rate_text(turn)}"
        rows.append((title, alone, rate_text(drawn)))
    return rows


def _rate(content: dict) -> Rate:
    return TypeAdapter(Rate).validate_python(content)


def _pooled(rates: Sequence[Rate]) -> str:
    """The rate over all of these; with Wilson's interval where they are several."""
    if not rates:
        return NOTHING
    if len(rates) == 1:
        return rate_text(rates[0])
    return rate_text(rate(sum(each.hits for each in rates), sum(each.total for each in rates)))


def markdown_table(rows: Sequence[Row], header: Row = ("", "rate (cases; 95 % interval)")) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


TABLES = {  # name in the comments around it -> what makes the table, from the folder of results.json
    "results": lambda folder: headline(read_results(folder / FILE)),
    "gate": lambda folder: gate_tables(read_results(folder / FILE)),
    "attacks": attack_tables,
}


def write_results_page(results: Results, folder: Path) -> None:
    (folder / "results.md").write_text(results_page(results, folder), encoding="utf-8")


def with_tables(text: str, folder: Path) -> str:
    """The text of a Markdown page with every table of `TABLES` that it has a place for.

    Raises:
        ValueError: the page has no place for any of them.
    """
    found = [name for name in TABLES if f"<!-- {name} -->" in text]
    if not found:
        raise ValueError(f"lacks all of {', '.join(f'<!-- {name} -->' for name in TABLES)}")
    return replace_tables(text, {name: TABLES[name](folder) for name in found})


def replace_tables(text: str, tables: Mapping[str, str]) -> str:
    """The text of a Markdown page with these tables, each between the two comments with its name.

    Raises:
        ValueError: the page lacks a comment.
    """
    for name, table in tables.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        _, has_both, after = rest.partition(end)
        if not has_both:
            raise ValueError(f"lacks {start.strip()} or {end}, between which a table is written")
        text = f"{before}{start}{table}\n{end}{after}"
    return text


def write_tables(page: Path, folder: Path) -> None:
    """Replace the tables of a Markdown page by those of this folder's results.

    Raises:
        ValueError: the page has no place for any; names the page.
    """
    try:
        text = with_tables(page.read_text(encoding="utf-8"), folder)
    except ValueError as error:
        raise ValueError(f"{page}: {error}") from None
    page.write_text(text, encoding="utf-8")
