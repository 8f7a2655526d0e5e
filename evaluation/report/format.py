"""Formats numbers, percentages, intervals and rates for the terminal, the report and the model card.

The interval of a rate is `Rate.interval`: over people if there is one, else Wilson's. Read `text` next.
"""

from evaluation.statistics.rates import Interval, Rate

NOTHING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """0.870; small numbers with two significant digits: 0.0013."""
    if value is None:
        return NOTHING
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 10.0 ** (1 - digits) else f"{value:.2g}"


def percent(share: float) -> str:
    """0.001 -> `0.1 %`."""
    return f"{100 * share:.4g} %"


def span(interval: Interval | None) -> str:
    """`0.830-0.907`."""
    return NOTHING if interval is None else "-".join(number(max(bound, 0.0)) for bound in interval)


def counts(rate: Rate) -> str:
    """`522 of 600`."""
    return f"{rate.hits:,} of {rate.total:,}"


def rate_text(rate: Rate | None) -> str:
    """`0.870 (522 of 600; 0.830-0.907)`."""
    if rate is None:
        return NOTHING
    if rate.value is None:
        return f"{NOTHING} ({rate.reason or 'no cases'})"
    return f"{number(rate.value)} ({counts(rate)}; {span(rate.interval)})"
