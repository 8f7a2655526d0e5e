"""Rates with counts and intervals, and `result`, the decorator of every class in results.json.

Every protocol returns such classes; `evaluation.report.results` writes and reads them. Read `intervals` next.
"""

from functools import partial
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from scipy.stats import binomtest

LEVEL = 0.95  # of every interval

# A result is a frozen dataclass. Pydantic checks the types of its fields when it is made and when it is read from a
# file. A field with the default None is not written while it is None; a field without a default is always written.
result = partial(dataclass, frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Interval = tuple[float, float]  # low, high


class InsufficientDataError(ValueError):
    """The images are too few, or lack the labels, for the requested measurement; the message says what is missing."""


@result
class Rate:
    """A share of cases with its 95 % intervals.

    value: hits / total; None if total is 0. low, high: Wilson's interval, which assumes independent cases. bootstrap:
    the interval over people (`intervals.rate_over_people`); None if it was not computed or is not informative. reason:
    why there is no value.
    """

    value: Share | None
    hits: Count
    total: Count
    low: Share | None
    high: Share | None
    bootstrap: Interval | None = None
    reason: str | None = None

    @property
    def interval(self) -> Interval | None:
        """The interval to show: over people if there is one, else Wilson's; None without a value."""
        if self.value is None:
            return None
        return self.bootstrap or (self.low, self.high)


def rate(hits: int, total: int) -> Rate:
    """The rate `hits / total` with Wilson's interval; both are None if total is 0."""
    low, high = wilson(hits, total) if total else (None, None)
    return Rate(value=hits / total if total else None, hits=hits, total=total, low=low, high=high)


def wilson(hits: int, total: int) -> Interval:
    """Wilson's 95 % interval of a proportion (JASA 1927), which assumes independent cases."""
    if not 0 <= hits <= total or total == 0:
        raise ValueError(f"{hits} of {total} is not a proportion")
    low, high = binomtest(hits, total).proportion_ci(LEVEL, method="wilson")
    return float(low), float(high)


def to_json(value) -> dict:
    """A result as JSON content; see `result` for which fields are left out."""
    return TypeAdapter(type(value)).dump_python(value, mode="json", exclude_defaults=True)
