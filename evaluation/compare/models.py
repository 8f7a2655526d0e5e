"""Several models evaluated on the same images: the rows of the paper's Tables 2 to 5, and paired tests between them.

Intervals of two networks on the same faces may overlap although the networks differ, because their errors are
correlated. So every row is also compared with a reference row, pair by pair and image by image:

* Accuracies are compared by McNemar's exact test. It assumes independent pairs, but pairs that share a person are not
  independent. If the test and the bootstrap disagree, trust the bootstrap.
* All metrics are compared by a bootstrap of the difference. It draws people, the same for both rows (or images, if the
  corpus has no identities). Thresholds are not chosen again.

p-values are corrected by Holm's method over the rows of one column. They say whether the result holds for other faces,
not whether it holds for another seed of the training. Networks whose names end in a seed, such as `dynamic-0` and
`dynamic-1`, are therefore also averaged (`seeds`). `run` calls `compare` for checkpoints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from evaluation.compare.paired_tests import bootstrap_difference, mcnemar, paired_bootstrap
from evaluation.compare.results import Cell, Comparison, ExpressionComparison, Row, VerificationComparison
from evaluation.compare.seeds import corrected, rows_over_seeds
from evaluation.embeddings.table import Embeddings, training_warning
from evaluation.protocols.expression import paper_order
from evaluation.protocols.pairs import score_pairs
from evaluation.protocols.verification import decide_out_of_fold
from evaluation.statistics.classification import weighted_classification
from evaluation.statistics.curves import WeightedRoc, tar_at_far
from evaluation.statistics.intervals import RESAMPLES, interval, weighted_share
from evaluation.statistics.rates import LEVEL, rate
from evaluation.training_record import TASKS, TrainingSummary
from face_data.pairs import Pair, generate_pairs

VERIFICATION = ("accuracy", "auc", "eer", "tar_at_far")
EXPRESSION = ("accuracy", "balanced_accuracy", "macro_f1")


def balanced_pairs(embeddings: Embeddings, seed: int) -> list[Pair]:
    """As many impostor pairs as genuine ones, so that guessing has an accuracy of 1/2; for corpora without pairs."""
    options = {"genuine_per_person": 10, "seed": seed}
    genuine = generate_pairs(embeddings.keys, embeddings.identities, impostors=0, **options)
    return generate_pairs(embeddings.keys, embeddings.identities, impostors=len(genuine), **options)


def compare(
    models: Mapping[str, Embeddings],
    trained: Mapping[str, TrainingSummary],
    references: Mapping[str, str],
    *,
    pairs: Sequence[Pair] = (),
    curve_pairs: Sequence[Pair] = (),
    far: float = 0.01,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Evaluate every model on the same pairs and images, and each against a reference.

    Args:
        models: label -> embeddings of the same images, in any order.
        trained: label -> summary; there are no cells for tasks that it does not name.
        references: task -> label of the row with which the others are compared; only these tasks are evaluated.
        pairs: for the accuracy of verification: the publisher's or `balanced_pairs`. Each pair is decided by
            `verification.decide_out_of_fold`.
        curve_pairs: for AUC, EER and TAR, such as those of `draw_pairs`; by default `pairs`.
        far: at which TAR is reported.

    Raises:
        ValueError: the models saw different images or labels, a label has no summary, a reference is unknown or not
            trained for its task.
    """
    models = _same_images(models)
    if set(models) - set(trained):
        raise ValueError(f"no record of what {', '.join(sorted(set(models) - set(trained)))} was trained for")
    for task, label in references.items():
        if task not in TASKS:
            raise ValueError(f"{task!r} is not a task; there are {' and '.join(TASKS)}")
        if label not in models or task not in trained[label].tasks:
            labels = [name for name in models if task in trained[name].tasks]
            raise ValueError(f"{label!r} cannot be the reference for {task}; trained for it are {', '.join(labels)}")
    trained_for = {
        task: {name: table for name, table in models.items() if task in trained[name].tasks} for task in references
    }
    bootstrap = {"seed": seed, "resamples": resamples}
    sections = {}
    if "verification" in trained_for:
        facts, table = _verification(trained_for["verification"], pairs, curve_pairs or pairs, far, bootstrap)
        rows = _with_differences(table, list(models), references["verification"])
        sections["verification"] = VerificationComparison(**facts, **rows)
    if "expression" in trained_for:
        facts, table = _expression(trained_for["expression"], bootstrap)
        rows = _with_differences(table, list(models), references["expression"])
        sections["expression"] = ExpressionComparison(**facts, **rows)
    return Comparison(
        models=dict(trained),
        level=LEVEL,
        seed=seed,
        resamples=resamples,
        warnings=_warnings(trained, models),
        verification=sections.get("verification"),
        expression=sections.get("expression"),
    )


def _warnings(trained: Mapping[str, TrainingSummary], models: Mapping[str, Embeddings]) -> list[str]:
    warnings_by_label = {
        label: training_warning(table.trained_splits(trained[label].trained_on), table.splits)
        for label, table in models.items()
    }
    return [f"{label}: {warning}" for label, warning in warnings_by_label.items() if warning]


def _same_images(models: Mapping[str, Embeddings]) -> dict[str, Embeddings]:
    """All tables, with their images in the order of the first table."""
    if not models:
        raise ValueError("there is no model to compare")
    (first_label, first_table), *_ = models.items()
    ordered = {}
    for label, table in models.items():
        for left, right, name in ((first_table, table, first_label), (table, first_table, label)):
            unmatched = sorted(set(left.keys) - set(right.keys))
            if unmatched:
                raise ValueError(
                    f"{first_label} and {label} must have seen the same images: {len(unmatched)} are only in {name}, "
                    f"such as {unmatched[0]}"
                )
        row_by_key = {key: row for row, key in enumerate(table.keys)}
        ordered[label] = table.select([row_by_key[key] for key in first_table.keys])
        if (ordered[label].identities, ordered[label].expressions) != (first_table.identities, first_table.expressions):
            raise ValueError(f"{first_label} and {label} have different identities or expressions for the same images")
    return ordered


class _Table:
    """label -> metric -> cell; label -> metric -> bootstrap draws (r,); label -> correct decisions (n,)."""

    def __init__(self):
        self.cells: dict[str, dict[str, Cell]] = {}
        self.draws: dict[str, dict[str, np.ndarray]] = {}
        self.correct: dict[str, np.ndarray] = {}


def _verification(
    models: dict[str, Embeddings], pairs: Sequence[Pair], curve_pairs: Sequence[Pair], far: float, bootstrap: dict
) -> tuple[dict, _Table]:
    """The facts that all rows share, and the numbers of each row."""
    table = _Table()
    scored = {label: score_pairs(pairs, embeddings) for label, embeddings in models.items()}
    curves = {label: score_pairs(curve_pairs, embeddings) for label, embeddings in models.items()}
    accuracy_scores, curve_scores = next(iter(scored.values())), next(iter(curves.values()))
    for label, model_scores in scored.items():
        out_of_fold = decide_out_of_fold(model_scores)
        table.correct[label] = out_of_fold.accepted == model_scores.same

    all_pairs = np.ones(len(accuracy_scores), dtype=bool)
    accuracies = [weighted_share(hits, all_pairs) for hits in table.correct.values()]
    accuracy_draws = paired_bootstrap(accuracies, accuracy_scores.first, accuracy_scores.second, **bootstrap)
    statistics = [
        partial(WeightedRoc(model_scores.scores, model_scores.same), fars=(far,)) for model_scores in curves.values()
    ]
    curve_draws = paired_bootstrap(statistics, curve_scores.first, curve_scores.second, **bootstrap)
    for index, (label, model_scores) in enumerate(curves.items()):
        values = [accuracy_draws[:, index], *curve_draws[:, index].T]
        table.draws[label] = dict(zip(VERIFICATION, values, strict=True))
        area, equal_error, _ = statistics[index](np.ones(len(model_scores), dtype=int))
        accuracy, tar = (
            rate(int(table.correct[label].sum()), len(accuracy_scores)),
            tar_at_far(model_scores.scores, model_scores.same, far),
        )
        table.cells[label] = {
            "accuracy": Cell(value=accuracy.value, counts=accuracy),
            "auc": Cell(value=float(area)),
            "eer": Cell(value=float(equal_error)),
            "tar_at_far": Cell(value=tar.value, counts=rate(tar.hits, tar.total) if tar.value is not None else None),
        }
    facts = {
        "pairs": len(accuracy_scores),
        "genuine": int(accuracy_scores.same.sum()),
        "missing_pairs": int(accuracy_scores.missing.sum()),
        "people": len(np.union1d(accuracy_scores.first, accuracy_scores.second)),
        "threshold": out_of_fold.method,
        "far": far,
        "genuine_pairs": int(curve_scores.same.sum()),
        "impostor_pairs": int((~curve_scores.same).sum()),
        "unit": "people",
    }
    return facts, table


def _expression(models: dict[str, Embeddings], bootstrap: dict) -> tuple[dict, _Table]:
    """Like `_verification`, over the images whose label is a class of every model."""
    table = _Table()
    first_model = next(iter(models.values()))
    classes = [
        name for name in paper_order(first_model.classes) if all(name in model.classes for model in models.values())
    ]
    rows = [row for row, name in enumerate(first_model.expressions) if name in classes]
    if not rows:
        raise ValueError(f"no image is labelled with an expression that all models have ({', '.join(classes)})")
    labels = np.array([classes.index(first_model.expressions[row]) for row in rows])
    people = [first_model.identities[row] for row in rows]
    unit = "people" if None not in people else "images"
    people = people if unit == "people" else [first_model.keys[row] for row in rows]
    statistics = []
    for label, model in models.items():
        class_index = [classes.index(name) if name in classes else len(classes) for name in model.classes]
        predictions = np.array(class_index)[model.expression_probabilities[rows].argmax(-1)]
        table.correct[label] = predictions == labels
        statistics.append(weighted_classification(labels, predictions, len(classes)))
    draws = paired_bootstrap(statistics, people, people, **bootstrap)
    for index, label in enumerate(models):
        _, balanced_accuracy, macro_f1 = statistics[index](np.ones(len(rows))).tolist()
        table.draws[label] = dict(zip(EXPRESSION, draws[:, index].T, strict=True))
        accuracy = rate(int(table.correct[label].sum()), len(rows))
        table.cells[label] = {
            "accuracy": Cell(value=accuracy.value, counts=accuracy),
            "balanced_accuracy": Cell(value=balanced_accuracy),
            "macro_f1": Cell(value=macro_f1),
        }
    facts = {
        "photographs": len(rows),
        "left_out": sum(name is not None for name in first_model.expressions) - len(rows),
        "classes": classes,
        "unit": unit,
    }
    return facts, table


def _with_differences(table: _Table, labels: list[str], reference: str) -> dict:
    """The rows with intervals, differences and tests, corrected over the rows of each column."""
    reference_cells = table.cells[reference]
    rows = []
    for label in labels:
        if label not in table.cells:
            rows.append(Row(label=label, cells={}))
            continue
        cells, draws = table.cells[label], table.draws[label]
        # TAR has no value if there are too few impostor pairs for the FAR
        measured = [name for name, cell in cells.items() if cell.value is not None]
        cells = cells | {name: replace(cells[name], bootstrap=interval(draws[name])) for name in measured}
        row = Row(label=label, cells=cells)
        if label != reference:
            differences = {
                name: bootstrap_difference(
                    cells[name].value, reference_cells[name].value, draws[name], table.draws[reference][name]
                )
                for name in measured
            }
            test = mcnemar(table.correct[label], table.correct[reference])
            row = replace(row, difference=differences, mcnemar=test)
        rows.append(row)
    tests = corrected([{"": row.mcnemar} for row in rows if row.mcnemar])
    differences = corrected([row.difference for row in rows if row.difference is not None])
    rows = [
        replace(row, mcnemar=tests.pop(0)[""], difference=differences.pop(0)) if row.difference is not None else row
        for row in rows
    ]
    values = {label: {name: cell.value for name, cell in cells.items()} for label, cells in table.cells.items()}
    return {"reference": reference, "rows": rows, "seeds": rows_over_seeds(values, table.draws, reference)}
