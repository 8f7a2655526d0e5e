"""What a comparison of models returns, and comparison.json holds; `models` makes it, `text` prints it."""

from evaluation.compare.paired_tests import Difference, McNemar
from evaluation.compare.seeds import SeedRow
from evaluation.statistics.rates import Count, Interval, Rate, Share, result
from evaluation.training_record import TrainingSummary


@result
class Cell:
    """One number of one model, with its bootstrap interval; counts for those that are a share of cases."""

    value: Share | None
    bootstrap: Interval | None = None
    counts: Rate | None = None


@result
class Row:
    """One model. cells: metric -> number; empty where the model was not trained for the task. difference, mcnemar:
    to the reference; None in the reference's own row."""

    label: str
    cells: dict[str, Cell]
    difference: dict[str, Difference] | None = None
    mcnemar: McNemar | None = None


@result
class TaskComparison:
    """One task. unit: what the bootstrap draws, people or images. seeds: rows of networks that differ by seed alone."""

    reference: str
    unit: str
    rows: list[Row]
    seeds: list[SeedRow]


@result
class VerificationComparison(TaskComparison):
    """pairs, genuine, missing_pairs, people: those of the accuracy, whose thresholds were chosen on `threshold`. The
    curves' metrics are of genuine_pairs and impostor_pairs, TAR at `far`."""

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
    """photographs: images whose label all models have; left_out: images with other labels."""

    photographs: Count
    left_out: Count
    classes: list[str]


@result
class Comparison:
    """One corpus. models: label -> how it was trained. A task is None where it was not evaluated."""

    models: dict[str, TrainingSummary]
    level: float
    seed: int
    resamples: int
    warnings: list[str]
    verification: VerificationComparison | None
    expression: ExpressionComparison | None
