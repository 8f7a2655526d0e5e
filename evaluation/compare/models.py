"""Several models evaluated on the same images: the rows of the paper's Tables 2 to 5, and paired tests between them.

Two overlapping intervals say little about two networks that saw the same faces, because most of what moves one moves
the other. So every row is also compared with a reference row, pair by pair and image by image:

* by McNemar's exact test, for accuracies. It assumes independent pairs, and pairs that share a person are not; where it
  and the bootstrap disagree, trust the bootstrap.
* by the bootstrap over people of the difference, with the same people drawn for both (over images where the corpus has
  no identities). Thresholds stay as they were chosen.

Holm's correction is over the rows of one column. It is about these weights and other faces, not about another seed of
the training. Networks whose names end in a seed, `dynamic-0`, `dynamic-1`, are therefore also taken together (`seeds`).
`run` calls this on checkpoints.
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


def balanced_pairs(embeddings: Embeddings, seed: int, genuine_per_person: int = 10) -> list[Pair]:
    """As many impostor as genuine pairs, for the accuracy on a corpus without published pairs: chance is then 1/2."""
    options = {"genuine_per_person": genuine_per_person, "seed": seed}
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
        references: task -> label of the row the others are compared with; only these tasks are evaluated.
        pairs: for the accuracy of verification, such as the publisher's; see `balanced_pairs`. Each pair is decided by
            `verification.decide_out_of_fold`.
        curve_pairs: for AUC, EER and TAR, such as `generate_pairs`' 20,000; by default the same pairs.
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
    found = {
        label: training_warning(table.trained_splits(trained[label].trained_on), table.splits)
        for label, table in models.items()
    }
    return [f"{label}: {warning}" for label, warning in found.items() if warning]


def _same_images(models: Mapping[str, Embeddings]) -> dict[str, Embeddings]:
    """All in the order of the first."""
    if not models:
        raise ValueError("there is no model to compare")
    (first, standard), *_ = models.items()
    ordered = {}
    for label, table in models.items():
        for left, right, name in ((standard, table, first), (table, standard, label)):
            unmatched = sorted(set(left.keys) - set(right.keys))
            if unmatched:
                raise ValueError(
                    f"{first} and {label} must have seen the same images: {len(unmatched)} are only in {name}, "
                    f"such as {unmatched[0]}"
                )
        row_of = {key: row for row, key in enumerate(table.keys)}
        ordered[label] = table.select([row_of[key] for key in standard.keys])
        if (ordered[label].identities, ordered[label].expressions) != (standard.identities, standard.expressions):
            raise ValueError(f"{first} and {label} have different identities or expressions for the same images")
    return ordered


class _Table:
    """label -> metric -> cell; label -> metric -> bootstrap draws (r,); label -> correct decisions (n,)."""

    def __init__(self):
        self.cells: dict[str, dict[str, Cell]] = {}
        self.draws: dict[str, dict[str, np.ndarray]] = {}
        self.correct: dict[str, np.ndarray] = {}


def _verification(
    models: dict[str, Embeddings], pairs: Sequence[Pair], curve_pairs: Sequence[Pair], far: float, draw: dict
) -> tuple[dict, _Table]:
    """What all rows share, and their numbers."""
    table = _Table()
    scored = {label: score_pairs(pairs, embeddings) for label, embeddings in models.items()}
    curves = {label: score_pairs(curve_pairs, embeddings) for label, embeddings in models.items()}
    judged, drawn = next(iter(scored.values())), next(iter(curves.values()))
    for label, of_model in scored.items():
        decided = decide_out_of_fold(of_model)
        table.correct[label] = decided.accepted == of_model.same

    everything = np.ones(len(judged), dtype=bool)
    accuracies = [weighted_share(hits, everything) for hits in table.correct.values()]
    accuracy_draws = paired_bootstrap(accuracies, judged.first, judged.second, **draw)
    statistics = [
        partial(WeightedRoc(curve_pairs.scores, curve_pairs.same), fars=(far,)) for curve_pairs in curves.values()
    ]
    curve_draws = paired_bootstrap(statistics, drawn.first, drawn.second, **draw)
    for index, (label, of_model) in enumerate(curves.items()):
        values = [accuracy_draws[:, index], *curve_draws[:, index].T]
        table.draws[label] = dict(zip(VERIFICATION, values, strict=True))
        area, equal_error, _ = statistics[index](np.ones(len(of_model), dtype=int))
        accuracy, tar = (
            rate(int(table.correct[label].sum()), len(judged)),
            tar_at_far(of_model.scores, of_model.same, far),
        )
        table.cells[label] = {
            "accuracy": Cell(value=accuracy.value, counts=accuracy),
            "auc": Cell(value=float(area)),
            "eer": Cell(value=float(equal_error)),
            "tar_at_far": Cell(value=tar.value, counts=rate(tar.hits, tar.total) if tar.value is not None else None),
        }
    facts = {
        "pairs": len(judged),
        "genuine": int(judged.same.sum()),
        "missing_pairs": int(judged.missing.sum()),
        "people": len(np.union1d(judged.first, judged.second)),
        "threshold": decided.method,
        "far": far,
        "genuine_pairs": int(drawn.same.sum()),
        "impostor_pairs": int((~drawn.same).sum()),
        "unit": "people",
    }
    return facts, table


def _expression(models: dict[str, Embeddings], draw: dict) -> tuple[dict, _Table]:
    """As `_verification`, over the images whose label all models have."""
    table = _Table()
    first = next(iter(models.values()))
    classes = [name for name in paper_order(first.classes) if all(name in model.classes for model in models.values())]
    rows = [row for row, name in enumerate(first.expressions) if name in classes]
    if not rows:
        raise ValueError(f"no image is labelled with an expression that all models have ({', '.join(classes)})")
    labels = np.array([classes.index(first.expressions[row]) for row in rows])
    people = [first.identities[row] for row in rows]
    unit = "people" if None not in people else "images"
    people = people if unit == "people" else [first.keys[row] for row in rows]
    statistics = []
    for label, of_model in models.items():
        index_of = [classes.index(name) if name in classes else len(classes) for name in of_model.classes]
        predictions = np.array(index_of)[of_model.expression_probabilities[rows].argmax(-1)]
        table.correct[label] = predictions == labels
        statistics.append(weighted_classification(labels, predictions, len(classes)))
    drawn = paired_bootstrap(statistics, people, people, **draw)
    for index, label in enumerate(models):
        _, balanced_accuracy, macro_f1 = statistics[index](np.ones(len(rows))).tolist()
        table.draws[label] = dict(zip(EXPRESSION, drawn[:, index].T, strict=True))
        accuracy = rate(int(table.correct[label].sum()), len(rows))
        table.cells[label] = {
            "accuracy": Cell(value=accuracy.value, counts=accuracy),
            "balanced_accuracy": Cell(value=balanced_accuracy),
            "macro_f1": Cell(value=macro_f1),
        }
    facts = {
        "photographs": len(rows),
        "left_out": sum(name is not None for name in first.expressions) - len(rows),
        "classes": classes,
        "unit": unit,
    }
    return facts, table


def _with_differences(table: _Table, labels: list[str], reference: str) -> dict:
    """The rows with intervals, differences and tests, corrected over the rows of each column."""
    standard = table.cells[reference]
    rows = []
    for label in labels:
        if label not in table.cells:
            rows.append(Row(label=label, cells={}))
            continue
        cells, draws = table.cells[label], table.draws[label]
        # a FAR may need more impostor pairs than there are
        measured = [name for name, cell in cells.items() if cell.value is not None]
        cells = cells | {name: replace(cells[name], bootstrap=interval(draws[name])) for name in measured}
        row = Row(label=label, cells=cells)
        if label != reference:
            differences = {
                name: bootstrap_difference(
                    cells[name].value, standard[name].value, draws[name], table.draws[reference][name]
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
