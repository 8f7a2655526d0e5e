"""The same figures for groups of a corpus: by gender, by age, or by any other column.

A network that is good on average may be bad for some people. A slice holds the images with one value of the column.
Impostor pairs and references are from the same slice. This is harder than random impostors: is a woman confused with
another woman? `corpus` calls `evaluate_slices`.
"""

from collections.abc import Sequence
from dataclasses import replace

from evaluation.embeddings.table import Embeddings
from evaluation.protocols.decisions import evaluate_decisions
from evaluation.protocols.expression import expression_report
from evaluation.protocols.operating_points import at_threshold, curve
from evaluation.protocols.pairs import generated_pairs
from evaluation.statistics.rates import Count, InsufficientDataError, Interval, Rate, Share, result

MIN_PEOPLE = 10  # fewer people do not represent a group, even with many images
MIN_CASES = 30  # with fewer, one error is more than 3 %, and the interval of a rate is wider than the rate


@result
class SliceVerification:
    """auc: None if nobody has two images. far, frr: at the checkpoint's threshold."""

    genuine_pairs: Count
    impostor_pairs: Count
    auc: Share | None
    auc_interval: Interval | None
    far: Rate | None = None
    frr: Rate | None = None


@result
class SliceExpression:
    """Accuracy, and expression -> recall."""

    accuracy: Rate
    recall: dict[str, Rate]


@result
class SliceDecisions:
    """The joint decision within the slice."""

    acc_auth: Rate
    far: Rate
    frr: Rate
    trials: dict[str, Count]


@result
class Slice:
    """A part is None if the slice lacks the data for it; the reason is in `missing`. warnings: the slice is too small
    for conclusions, with fewer than 10 people or a rate over fewer than 30 cases."""

    photographs: Count
    people: Count
    verification: SliceVerification | None
    expression: SliceExpression | None
    authentication: SliceDecisions | None
    missing: dict[str, str]
    warnings: list[str]


@result
class SlicesReport:
    """by: the column. unlabelled: number of images without a value. slices: value -> its figures."""

    by: str
    similarity_threshold: float | None
    expression_threshold: float
    required: list[str]
    unlabelled: Count
    slices: dict[str, Slice]


def evaluate_slices(
    embeddings: Embeddings,
    by: str,
    *,
    similarity_threshold: float | None,
    expression_threshold: float,
    required: Sequence[str],
    seed: int,
) -> SlicesReport:
    """Verification, expressions and the joint decision for each value of a column.

    Args:
        by: an attribute of the corpus, or "expression" or "split".
        similarity_threshold: the checkpoint's; None reports neither FAR and FRR nor decisions.
        required: expressions to request.

    Raises:
        ValueError: there is no such column, or it is empty.
    """
    columns = embeddings.attributes | {"expression": embeddings.expressions, "split": embeddings.splits}
    if by not in columns:
        raise ValueError(f"no column {by!r} to slice by; this corpus has {', '.join(columns)}")
    groups = sorted({group for group in columns[by] if group is not None})
    if not groups:
        raise ValueError(f"column {by!r} has no values to slice by")
    slices = {}
    for group in groups:
        images = embeddings.select([row for row, row_group in enumerate(columns[by]) if row_group == group])
        slices[group] = _slice(images, similarity_threshold, expression_threshold, required, seed)
    return SlicesReport(
        by=by,
        similarity_threshold=similarity_threshold,
        expression_threshold=expression_threshold,
        required=list(required),
        unlabelled=sum(group is None for group in columns[by]),
        slices=slices,
    )


def slice_rates(group: Slice) -> list[tuple[str, Rate]]:
    """Title -> rate of everything that a slice reports."""
    verification, expression, decisions = group.verification, group.expression, group.authentication
    rates = []
    if verification is not None:
        rates += [("FAR", verification.far), ("FRR", verification.frr)]
    if expression is not None:
        rates.append(("expressions", expression.accuracy))
    if decisions is not None:
        rates += [("FAR of the joint decision", decisions.far), ("FRR of the joint decision", decisions.frr)]
    return [(title, rate) for title, rate in rates if rate is not None]


def _slice(
    images: Embeddings,
    similarity_threshold: float | None,
    expression_threshold: float,
    required: Sequence[str],
    seed: int,
) -> Slice:
    people = len({name for name in images.identities if name is not None})
    evaluations = {
        "verification": lambda: _verification(images, similarity_threshold, seed),
        "expression": lambda: _expression(images, seed),
        "authentication": lambda: _decisions(images, similarity_threshold, expression_threshold, required, seed),
    }
    figures, missing, warnings = {}, {}, []
    for name, evaluate in evaluations.items():
        try:
            figures[name] = evaluate()
        except InsufficientDataError as error:  # no two images of a person, no labels, or not all kinds of trial
            figures[name], missing[name] = None, str(error)
    if 0 < people < MIN_PEOPLE:
        warnings.append(f"{people} people are too few to represent a group")
    if figures["verification"] is not None and figures["verification"].auc is None:
        missing["auc"] = f"{people} people, none of them with two images"
    result = Slice(photographs=len(images), people=people, **figures, missing=missing, warnings=warnings)
    small_counts = [f"{name} over {count}" for name, count in _cases(result) if 0 < count < MIN_CASES]
    if small_counts:
        result = replace(result, warnings=[*warnings, f"too few cases for a conclusion: {', '.join(small_counts)}"])
    return result


def _verification(images: Embeddings, threshold: float | None, seed: int) -> SliceVerification:
    if len({person for person in images.identities if person is not None}) < 2:
        raise InsufficientDataError("no two people")
    scored = generated_pairs(images, seed)
    genuine_pairs = int(scored.same.sum())
    roc_curve = curve(scored, (), seed) if genuine_pairs else None
    result = SliceVerification(
        genuine_pairs=genuine_pairs,
        impostor_pairs=len(scored) - genuine_pairs,
        auc=roc_curve.auc if roc_curve else None,
        auc_interval=roc_curve.auc_interval if roc_curve else None,
    )
    if threshold is None:
        return result
    point = at_threshold(scored, threshold, seed)
    # With one image of each person there are impostor pairs but no genuine ones.
    frr = point.frr if genuine_pairs else replace(point.frr, reason="no genuine pair")
    return replace(result, far=point.far, frr=frr)


def _expression(images: Embeddings, seed: int) -> SliceExpression:
    report = expression_report(images, seed)
    return SliceExpression(accuracy=report.accuracy, recall=report.recall)


def _decisions(
    images: Embeddings, similarity: float | None, expression: float, required: Sequence[str], seed: int
) -> SliceDecisions:
    if similarity is None:
        raise InsufficientDataError("the checkpoint has no similarity_threshold")
    report = evaluate_decisions(images, similarity, expression, required, seed)
    return SliceDecisions(acc_auth=report.acc_auth, far=report.far, frr=report.frr, trials=report.trials)


def _cases(group: Slice) -> list[tuple[str, int]]:
    """The number of cases behind each figure; for the area under the curve, the number of the rarer kind of pair."""
    cases = [(name, rate.total) for name, rate in slice_rates(group)]
    pairs = group.verification
    if pairs is not None and pairs.auc is not None:
        cases.insert(0, ("AUC", min(pairs.genuine_pairs, pairs.impostor_pairs)))
    return cases
