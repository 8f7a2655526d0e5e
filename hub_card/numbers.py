"""Numbers of results.json as the card writes them."""

from collections.abc import Mapping, Sequence


def interval(rate: Mapping) -> Sequence[float]:
    """The 95 % interval of a rate: over people where there is one, else Wilson's."""
    return rate.get("bootstrap") or (rate["low"], rate["high"])


def number(value: float | None, digits: int = 3) -> str:
    """Small rates keep two digits that say something."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 0.01 else f"{value:.2g}"


def span(values: Sequence[float] | None) -> str:
    return "–" if values is None else "–".join(number(max(value, 0.0)) for value in values)


def cells(rate: Mapping | None) -> str:
    """A rate as three cells of a table: value, counts, interval."""
    if rate is None or rate["value"] is None:
        return f"– | {(rate or {}).get('reason', 'nothing to count')} | –"
    return f"{number(rate['value'])} | {rate['hits']:,} of {rate['total']:,} | {span(interval(rate))}"


def short(rate: Mapping | None) -> str:
    """A rate in one cell: value, counts and interval."""
    if rate is None or rate["value"] is None:
        return "–"
    return f"{number(rate['value'])} ({rate['hits']:,}/{rate['total']:,}; {span(interval(rate))})"


def percent(value: float) -> str:
    return f"{100 * value:.4g} %"
