"""Several networks judged on the same photographs: the rows of the paper's Tables 2 to 5, and what tells them apart.

Two intervals that overlap say little about two networks that were shown the same faces, for most of what moves one
moves the other. So every row is also compared with a chosen reference row, pair by pair and photograph by photograph:

* by McNemar's exact test, for accuracies. It takes pairs for independent, and pairs that share a person are not; where
  it and the bootstrap disagree, believe the bootstrap.
* by the bootstrap over people of the difference, the same people drawn for both (over photographs where the corpus does
  not say who is who). Thresholds stay as they were chosen.

Holm's correction is over the rows of one column. It speaks of these weights and of other faces; how much another seed
of the training would change is not in it. Networks whose names end in a seed, `dynamic-0`, `dynamic-1`, are therefore
also taken together: the mean over the seeds, its interval over people, and the difference seed by seed.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from evaluation.embeddings import Embeddings, training_warning
from evaluation.expression import paper_order
from evaluation.metrics import (
    LEVEL,
    RESAMPLES,
    WeightedRoc,
    best_threshold,
    interval,
    rate,
    tar_at_far,
    weighted_classification,
    weighted_share,
)
from evaluation.significance import bootstrap_difference, holm, mcnemar, paired_bootstrap
from evaluation.verification import ScoredPairs, score_pairs
from face_data.folds import person_folds
from face_data.pairs import Pair, generate_pairs

TASKS = ("verification", "expression")
VERIFICATION = ("accuracy", "auc", "eer", "tar_at_far")
EXPRESSION = ("accuracy", "balanced_accuracy", "macro_f1")


def balanced_pairs(embeddings: Embeddings, seed: int, genuine_per_person: int = 10) -> list[Pair]:
    """As many impostor as genuine pairs, for the accuracy on a corpus that ships no pairs: chance is then 1/2."""
    asked = {"genuine_per_person": genuine_per_person, "seed": seed}
    genuine = generate_pairs(embeddings.keys, embeddings.identities, impostors=0, **asked)
    return generate_pairs(embeddings.keys, embeddings.identities, impostors=len(genuine), **asked)


def compare(
    models: Mapping[str, Embeddings],
    trained: Mapping[str, dict],
    references: Mapping[str, str],
    *,
    pairs: Sequence[Pair] = (),
    curve_pairs: Sequence[Pair] = (),
    far: float = 0.01,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict:
    """Judge every model on the same pairs and photographs, and each against a reference.

    Args:
        models: label -> embeddings of the same photographs, in any order.
        trained: label -> `training_record`, or any dict with at least "tasks"; there is no cell for other tasks.
        references: task -> label of the row the others are compared with; only these tasks are judged.
        pairs: for the accuracy of verification, as the publisher's; see `balanced_pairs`. Each pair is judged at the
            threshold that is best on the pairs of people of other folds; where all are of one fold, its people are
            dealt into ten.
        curve_pairs: for AUC, EER and TAR, as `generate_pairs`' 20,000; by default the same pairs.
        far: at which TAR is taken.

    Returns:
        "models": `trained`; "level", "seed", "resamples"; "warnings" where a network was trained on splits of these
        photographs, or nobody recorded on which; "verification" and "expression", None where not judged:
        "reference", counts, how "threshold" was chosen, "unit" of the bootstrap, and "rows". A row has its "label", for
        each metric {"value", "bootstrap", and counts}, accuracies also as a rate; "difference": metric ->
        {"difference", "low", "high", "p", "p_holm", "resamples"} to the reference; "mcnemar": {"only_this",
        "only_reference", "p", "p_holm"}. A cell is None where the model was not trained for the task, differences also
        in the reference's own row. "seeds", where networks differ by their seed: rows as those, each with its "seeds",
        metric -> {"value" (the mean over them), "bootstrap", "by_seed"}, and differences to the reference of which
        "by_seed" are those of networks of the same seed, None for one the reference has not.

    Raises:
        ValueError: the models saw different photographs or were given different labels, a label has no record, a
            reference is unknown or not trained for its task.
    """
    models = _same_photographs(models)
    if set(models) - set(trained):
        raise ValueError(f"nobody says what {', '.join(sorted(set(models) - set(trained)))} was trained for")
    for task, label in references.items():
        if task not in TASKS:
            raise ValueError(f"{task!r} is not a task; there are {' and '.join(TASKS)}")
        if label not in models or task not in trained[label]["tasks"]:
            known = [name for name in models if task in trained[name]["tasks"]]
            raise ValueError(f"{label!r} cannot be the reference for {task}; trained for it are {', '.join(known)}")
    able = {task: {n: e for n, e in models.items() if task in trained[n]["tasks"]} for task in references}
    section = {"models": dict(trained), "level": LEVEL, "seed": seed, "resamples": resamples}
    section["warnings"] = _warnings(trained, models)
    section |= {task: None for task in TASKS}
    draw = {"seed": seed, "resamples": resamples}
    if "verification" in able:
        judged = _verification(able["verification"], pairs, curve_pairs or pairs, far, draw)
        section["verification"] = _with_differences(*judged, list(models), references["verification"])
    if "expression" in able:
        judged = _expression(able["expression"], draw)
        section["expression"] = _with_differences(*judged, list(models), references["expression"])
    return section


def _warnings(trained: Mapping[str, dict], models: Mapping[str, Embeddings]) -> list[str]:
    found = {
        label: training_warning(own.seen_splits(trained[label].get("trained_on")), own.splits)
        for label, own in models.items()
    }
    return [f"{label}: {warning}" for label, warning in found.items() if warning]


def _same_photographs(models: Mapping[str, Embeddings]) -> dict[str, Embeddings]:
    """All in the order of the first."""
    if not models:
        raise ValueError("there is no model to compare")
    (first, standard), *_ = models.items()
    ordered = {}
    for label, own in models.items():
        for one, other, name in ((standard, own, first), (own, standard, label)):
            only = sorted(set(one.keys) - set(other.keys))
            if only:
                raise ValueError(
                    f"{first} and {label} must have seen the same photographs: {len(only)} are only in {name}, "
                    f"such as {only[0]}"
                )
        row_of = {key: row for row, key in enumerate(own.keys)}
        ordered[label] = own.select([row_of[key] for key in standard.keys])
        if (ordered[label].identities, ordered[label].expressions) != (standard.identities, standard.expressions):
            raise ValueError(f"{first} and {label} have different identities or expressions for the same photographs")
    return ordered


def _verification(
    models: dict[str, Embeddings],
    pairs: Sequence[Pair],
    curve_pairs: Sequence[Pair],
    far: float,
    draw: dict,
) -> tuple[dict, dict, dict, dict]:
    """What all rows share; label -> cells; label -> metric -> draws of the bootstrap; label -> right decisions (n,)."""
    scored = {label: score_pairs(pairs, own) for label, own in models.items()}
    curves = {label: score_pairs(curve_pairs, own) for label, own in models.items()}
    judged, drawn = next(iter(scored.values())), next(iter(curves.values()))
    right, method = {}, None
    for label, own in scored.items():
        accepted, method = decide_out_of_fold(own)
        right[label] = accepted == own.same

    everything = np.ones(len(judged), dtype=bool)
    accuracies = [weighted_share(hits, everything) for hits in right.values()]
    accuracy_draws = paired_bootstrap(accuracies, judged.first, judged.second, **draw)
    statistics = [partial(WeightedRoc(own.scores, own.same), fars=(far,)) for own in curves.values()]
    curve_draws = paired_bootstrap(statistics, drawn.first, drawn.second, **draw)
    counts = {"genuine_pairs": int(drawn.same.sum()), "impostor_pairs": int((~drawn.same).sum())}

    cells, draws = {}, {}
    for index, (label, own) in enumerate(curves.items()):
        draws[label] = dict(zip(VERIFICATION, [accuracy_draws[:, index], *curve_draws[:, index].T], strict=True))
        area, equal_error, _ = statistics[index](np.ones(len(own), dtype=int))
        cells[label] = {
            "accuracy": rate(int(right[label].sum()), len(judged)),
            "auc": {"value": float(area)} | counts,
            "eer": {"value": float(equal_error)} | counts,
            "tar_at_far": tar_at_far(own.scores, own.same, far),
        }
    shared = {
        "pairs": len(judged),
        "genuine": int(judged.same.sum()),
        "missing_pairs": int(judged.missing.sum()),
        "people": len(np.union1d(judged.first, judged.second)),
        "curve_pairs": counts | {"missing_pairs": int(drawn.missing.sum())},
        "far": far,
        "threshold": method,
        "unit": "people",
    }
    return shared, cells, draws, right


def decide_out_of_fold(scored: ScoredPairs) -> tuple[np.ndarray, str]:
    """Which pairs are accepted (n,), each at the threshold of pairs of other people; and whose, in words.

    Where the pairs are of several folds, which no person may be in two of, these are the pairs of the other folds
    (View 2). Where they are of one, its people are dealt into ten, and a pair of two people of different tenths is
    judged by the pairs among the other eight.
    """
    people = np.union1d(scored.first, scored.second).tolist()
    if len(np.unique(scored.folds)) > 1:
        one = other = scored.folds
        method = "pairs of the other folds"
    else:
        tenth = person_folds(people)
        one, other = (np.array([int(tenth[person]) for person in side]) for side in (scored.first, scored.second))
        method = "pairs of the other people, dealt into ten"
    accepted = np.zeros(len(scored), dtype=bool)
    for low, high in np.unique(np.sort(np.stack([one, other], 1), 1), axis=0).tolist():
        held_out = (np.minimum(one, other) == low) & (np.maximum(one, other) == high)
        others = scored.where(~np.isin(one, (low, high)) & ~np.isin(other, (low, high)))
        if others.same.all() or not others.same.any():
            raise ValueError(
                f"{len(people)} people are too few to choose a threshold on others than those it judges: give more"
            )
        # without these people fewer impostor pairs remain, which have two, than genuine ones, which have one
        threshold = best_threshold(others.scores, others.same, scored.same.mean())
        accepted[held_out] = scored.scores[held_out] >= threshold
    return accepted, method


def _expression(models: dict[str, Embeddings], draw: dict) -> tuple[dict, dict, dict, dict]:
    """As `_verification`, over the photographs whose label all of the models know."""
    first = next(iter(models.values()))
    classes = [name for name in paper_order(first.classes) if all(name in own.classes for own in models.values())]
    rows = [row for row, name in enumerate(first.expressions) if name in classes]
    if not rows:
        raise ValueError(f"no photograph is labelled with an expression all the models know ({', '.join(classes)})")
    labels = np.array([classes.index(first.expressions[row]) for row in rows])
    people = [first.identities[row] for row in rows]
    unit = "people" if None not in people else "photographs"
    people = people if unit == "people" else [first.keys[row] for row in rows]

    right, statistics = {}, []
    for label, own in models.items():
        index_of = [classes.index(name) if name in classes else len(classes) for name in own.classes]
        predictions = np.array(index_of)[own.expression_probabilities[rows].argmax(-1)]
        right[label] = predictions == labels
        statistics.append(weighted_classification(labels, predictions, len(classes)))
    values = [statistic(np.ones(len(rows))).tolist() for statistic in statistics]
    drawn = paired_bootstrap(statistics, people, people, **draw)
    cells, draws = {}, {}
    for index, label in enumerate(models):
        _, *means = values[index]
        draws[label] = dict(zip(EXPRESSION, drawn[:, index].T, strict=True))
        cells[label] = {"accuracy": rate(int(right[label].sum()), len(rows))}
        cells[label] |= {name: {"value": v, "total": len(rows)} for name, v in zip(EXPRESSION[1:], means, strict=True)}
    shared = {
        "photographs": len(rows),
        "left_out": sum(name is not None for name in first.expressions) - len(rows),
        "classes": classes,
        "unit": unit,
    }
    return shared, cells, draws, right


def _with_differences(shared: dict, cells: dict, draws: dict, right: dict, labels: list[str], reference: str) -> dict:
    """The rows with their intervals, differences and tests; corrected over the rows of each column."""
    metrics = list(cells[reference])
    rows = []
    for label in labels:
        row = {"label": label} | {name: None for name in metrics} | {"difference": None, "mcnemar": None}
        rows.append(row)
        if label not in cells:
            continue
        own = cells[label]
        known = [name for name in metrics if own[name]["value"] is not None]  # a FAR may need more impostor pairs
        row |= own | {name: own[name] | {"bootstrap": interval(draws[label][name])} for name in known}
        if label == reference:
            continue
        row["mcnemar"] = mcnemar(right[label], right[reference])
        row["difference"] = {
            name: bootstrap_difference(
                own[name]["value"], cells[reference][name]["value"], draws[label][name], draws[reference][name]
            )
            for name in known
        }
    compared = [row for row in rows if row["difference"] is not None]
    columns = [[row["mcnemar"] for row in compared]]
    columns += [[row["difference"][name] for row in compared if name in row["difference"]] for name in metrics]
    _correct(columns)
    return {"reference": reference} | shared | {"rows": rows, "seeds": _over_seeds(cells, draws, reference)}


def seed_of(label: str) -> tuple[str, int] | None:
    """`dynamic-2` -> ("dynamic", 2); None for a name without a seed."""
    named = re.fullmatch(r"(.+)-(\d+)", label)
    return (named[1], int(named[2])) if named else None


def _over_seeds(cells: dict, draws: dict, reference: str) -> list[dict]:
    """Rows of networks that differ by their seed alone; none where there are no two of the reference's."""
    groups: dict[str, dict[int, str]] = {}
    for label in cells:
        if named := seed_of(label):
            groups.setdefault(named[0], {})[named[1]] = label
    base = seed_of(reference)
    if base is None or len(groups[base[0]]) < 2:
        return []
    metrics = [name for name in cells[reference] if all(own[name]["value"] is not None for own in cells.values())]
    values = {
        group: {name: {seed: cells[label][name]["value"] for seed, label in labels.items()} for name in metrics}
        for group, labels in groups.items()
    }
    # the same people are drawn for all, so the mean of the draws is a draw of the mean
    means = {
        group: {name: np.mean([draws[label][name] for label in labels.values()], axis=0) for name in metrics}
        for group, labels in groups.items()
    }
    rows = []
    for group, labels in groups.items():
        row = {"label": group, "seeds": sorted(labels), "difference": None}
        for name in metrics:
            own = values[group][name]
            row[name] = {
                "value": float(np.mean(list(own.values()))),
                "bootstrap": interval(means[group][name]),
                "by_seed": [own[seed] for seed in sorted(own)],
            }
        rows.append(row)
    standard = next(row for row in rows if row["label"] == base[0])
    others = [row for row in rows if row is not standard]
    for row in others:
        row["difference"] = {}
        for name in metrics:
            own, theirs = values[row["label"]][name], values[base[0]][name]
            row["difference"][name] = bootstrap_difference(
                row[name]["value"], standard[name]["value"], means[row["label"]][name], means[base[0]][name]
            ) | {"by_seed": [own[seed] - theirs[seed] if seed in theirs else None for seed in sorted(own)]}
    _correct([row["difference"][name] for row in others] for name in metrics)
    return rows


def _correct(columns: Iterable[list[dict]]) -> None:
    """Put Holm's correction over each column beside its tests' p, in place."""
    for column in columns:
        for test, p in zip(column, holm([test["p"] for test in column]), strict=True):
            test["p_holm"] = p
