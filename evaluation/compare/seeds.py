"""Averages of networks that differ only in the seed of their training, and differences between such averages.

`models` calls `rows_over_seeds` for a comparison. Read `models` next.
"""

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
    """Networks of one name, with several seeds; difference is None in the row of the reference."""

    label: str
    seeds: list[int]
    cells: dict[str, SeedCell]
    difference: dict[str, Difference] | None = None


def split_seed(label: str) -> tuple[str, int] | None:
    """`dynamic-2` -> ("dynamic", 2); None for a name without a seed."""
    parsed = re.fullmatch(r"(.+)-(\d+)", label)
    return (parsed[1], int(parsed[2])) if parsed else None


def first_seed_of_each(labels: Sequence[str]) -> list[str]:
    """The labels of one network per name: the first of those that differ only in the seed."""
    labels_by_name = {}
    for label in labels:
        parsed = split_seed(label)
        labels_by_name.setdefault(parsed[0] if parsed else label, label)
    return list(labels_by_name.values())


def corrected(rows: Sequence[Mapping[str, Difference | McNemar]]) -> list[dict]:
    """The tests of several rows (column -> test), with Holm's correction over the rows of each column."""
    corrected_rows = [dict(row) for row in rows]
    for column in dict.fromkeys(name for row in rows for name in row):
        tests = [row for row in corrected_rows if column in row]
        for row, p in zip(tests, holm([row[column].p for row in tests]), strict=True):
            row[column] = replace(row[column], p_holm=p)
    return corrected_rows


def rows_over_seeds(
    values: Mapping[str, Mapping[str, float | None]], draws: Mapping[str, Mapping[str, np.ndarray]], reference: str
) -> list[SeedRow]:
    """One row per name; no rows if the reference has fewer than two seeds.

    Args:
        values: label -> metric -> value. draws: label -> metric -> bootstrap draws (r,).
    """
    groups: dict[str, dict[int, str]] = {}
    for label in values:
        if parsed := split_seed(label):
            groups.setdefault(parsed[0], {})[parsed[1]] = label
    reference_name_and_seed = split_seed(reference)
    if reference_name_and_seed is None or len(groups[reference_name_and_seed[0]]) < 2:
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
    reference_row = next(row for row in rows if row.label == reference_name_and_seed[0])
    other_rows = [row for row in rows if row is not reference_row]
    differences = []
    for row in other_rows:
        differences.append({})
        for name in metrics:
            reference_values = by_seed[reference_row.label][name]
            differences[-1][name] = bootstrap_difference(
                row.cells[name].value,
                reference_row.cells[name].value,
                means[row.label][name],
                means[reference_row.label][name],
                by_seed=[
                    value - reference_values[seed] if seed in reference_values else None
                    for seed, value in by_seed[row.label][name].items()
                ],
            )
    corrections = iter(corrected(differences))
    return [row if row is reference_row else replace(row, difference=next(corrections)) for row in rows]
