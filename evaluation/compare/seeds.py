"""Networks that differ by the seed of their training alone, taken together: means over seeds and their differences."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from evaluation.compare.paired_tests import Difference, McNemar, bootstrap_difference, holm
from evaluation.statistics.intervals import interval
from evaluation.statistics.rates import Interval, Share, result


@result
class SeedCell:
    """The mean over the seeds with its interval over people, and the value of each seed."""

    value: Share
    bootstrap: Interval | None
    by_seed: list[Share]


@result
class SeedRow:
    """Networks that share a name; difference is None in the reference's row."""

    label: str
    seeds: list[int]
    cells: dict[str, SeedCell]
    difference: dict[str, Difference] | None = None


def seed_of(label: str) -> tuple[str, int] | None:
    """`dynamic-2` -> ("dynamic", 2); None for a name without a seed."""
    parsed = re.fullmatch(r"(.+)-(\d+)", label)
    return (parsed[1], int(parsed[2])) if parsed else None


def first_of_each(labels: Sequence[str]) -> list[str]:
    """The labels to draw: the first of the networks that differ by their seed alone."""
    first = {}
    for label in labels:
        parsed = seed_of(label)
        first.setdefault(parsed[0] if parsed else label, label)
    return list(first.values())


def corrected(rows: Sequence[Mapping[str, Difference | McNemar]]) -> list[dict]:
    """The tests of several rows, column -> test, each with Holm's correction over the rows of its column."""
    result = [dict(row) for row in rows]
    for column in dict.fromkeys(name for row in rows for name in row):
        tests = [row for row in result if column in row]
        for row, p in zip(tests, holm([row[column].p for row in tests]), strict=True):
            row[column] = replace(row[column], p_holm=p)
    return result


def rows_over_seeds(
    values: Mapping[str, Mapping[str, float | None]], draws: Mapping[str, Mapping[str, np.ndarray]], reference: str
) -> list[SeedRow]:
    """One row per name; none where the reference does not have at least two seeds.

    Args:
        values: label -> metric -> value. draws: label -> metric -> bootstrap draws (r,).
    """
    groups: dict[str, dict[int, str]] = {}
    for label in values:
        if parsed := seed_of(label):
            groups.setdefault(parsed[0], {})[parsed[1]] = label
    base = seed_of(reference)
    if base is None or len(groups[base[0]]) < 2:
        return []
    metrics = [name for name in values[reference] if all(row[name] is not None for row in values.values())]
    by_seed = {
        group: {name: {seed: values[label][name] for seed, label in sorted(labels.items())} for name in metrics}
        for group, labels in groups.items()
    }
    # The same people are drawn for all networks, so the mean of the draws is a draw of the mean.
    means = {
        group: {name: np.mean([draws[label][name] for label in labels.values()], axis=0) for name in metrics}
        for group, labels in groups.items()
    }
    rows = []
    for group, labels in groups.items():
        cells = {
            name: SeedCell(
                value=float(np.mean(list(by_seed[group][name].values()))),
                bootstrap=interval(means[group][name]),
                by_seed=list(by_seed[group][name].values()),
            )
            for name in metrics
        }
        rows.append(SeedRow(label=group, seeds=sorted(labels), cells=cells))
    standard = next(row for row in rows if row.label == base[0])
    others = [row for row in rows if row is not standard]
    differences = []
    for row in others:
        differences.append({})
        for name in metrics:
            reference_values = by_seed[standard.label][name]
            differences[-1][name] = bootstrap_difference(
                row.cells[name].value,
                standard.cells[name].value,
                means[row.label][name],
                means[standard.label][name],
                by_seed=[
                    value - reference_values[seed] if seed in reference_values else None
                    for seed, value in by_seed[row.label][name].items()
                ],
            )
    corrections = iter(corrected(differences))
    return [row if row is standard else replace(row, difference=next(corrections)) for row in rows]
