"""Formats rates as cells of the card's tables. `evaluation.report.format` formats the numbers."""

from evaluation.report.format import NOTHING, counts, number, span
from evaluation.statistics.rates import Rate


def cells(rate: Rate | None) -> str:
    """A rate as three cells: value, counts, interval."""
    if rate is None or rate.value is None:
        reason = rate.reason if rate is not None and rate.reason else "no cases"
        return f"{NOTHING} | {reason} | {NOTHING}"
    return f"{number(rate.value)} | {counts(rate)} | {span(rate.interval)}"
