"""The result of a comparison of models, which is also the content of comparison.json.

`models` makes it and `text` formats it. Read `models` next.
"""

from evaluation.compare.paired_tests import Difference, McNemar
from evaluation.compare.seeds import SeedRow
from evaluation.statistics.rates import Count, Interval, Rate, Share, result
from evaluation.training_record import TrainingSummary


@result
class Cell:
    """One number of one model, with its bootstrap interval; counts only for numbers that are a share of cases."""

    value: Share | None
    bootstrap: Interval | None = None
    counts: Rate | None = None


@result
class Row:
    """One model. cells: metric -> number; empty where the model was not trained for the task. difference, mcnemar:
    compared with the reference; None in the row of the reference."""

    label: str
    cells: dict[str, Cell]
    difference: dict[str, Difference] | None = None
    mcnemar: McNemar | None = None


@result
class TaskComparison:
    """One task. unit: what the bootstrap draws, people or images. seeds: networks that differ only in the seed."""

    reference: str
    unit: str
    rows: list[Row]
    seeds: list[SeedRow]


@result
class VerificationComparison(TaskComparison):
    """pairs, genuine, missing_pairs, people: of the accuracy. threshold: on which pairs its thresholds were chosen, in
    words. genuine_pairs, impostor_pairs: of AUC, EER and TAR; TAR is at `far`."""

    pairs: Count
    genuine: Count
    missing_pairs: Count
    people: Count
    threshold: str
    far: Share
    genuine_pairs: Count
    impostor_pairs: Count


@result
class ExpressionComparison(TaskComparison):
    """photographs: images whose label is a class of every model; left_out: images with other labels."""

    photographs: Count
    left_out: Count
    classes: list[str]


@result
class Comparison:
    """A comparison on one corpus. models: label -> how it was trained. A task is None if it was not evaluated."""

    models: dict[str, TrainingSummary]
    level: float
    seed: int
    resamples: int
    warnings: list[str]
    verification: VerificationComparison | None
    expression: ExpressionComparison | None
