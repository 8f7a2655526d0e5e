"""The same figures for parts of a corpus: by gender, by age, by any of its columns.

A network that is good on average may be bad for some people. A slice holds the images with one value in the column;
impostor pairs and references are taken from the same slice, which is harder and fairer: is a woman taken for another
woman? `corpus` calls `evaluate_slices`.
"""

from collections.abc import Sequence
from dataclasses import replace

from evaluation.embeddings.table import Embeddings
from evaluation.protocols.decisions import evaluate_decisions
from evaluation.protocols.expression import expression_report
from evaluation.protocols.operating_points import at_threshold, curve
from evaluation.protocols.pairs import generated_pairs
from evaluation.statistics.rates import Count, InsufficientDataError, Interval, Rate, Share, result

MIN_PEOPLE = 10  # fewer cannot represent others, however many images they have
MIN_CASES = 30  # of which one error is more than 3 %: the interval of a rate is then wider than the rate


@result
class SliceVerification:
    """auc is None where nobody has two images; far and frr are those at the checkpoint's threshold."""

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
    """A part is None, with its reason in `missing`, where the slice lacks the data for it. warnings: the slice is too
    small for conclusions: fewer than 10 people, or a rate over fewer than 30 cases."""

    photographs: Count
    people: Count
    verification: SliceVerification | None
    expression: SliceExpression | None
    authentication: SliceDecisions | None
    missing: dict[str, str]
    warnings: list[str]


@result
class SlicesReport:
    """by: the column. unlabelled: images without a value in it. slices: value -> its figures."""

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
        similarity_threshold: the checkpoint's; without it neither FAR and FRR nor decisions are reported.
        required: expressions to request.

    Raises:
        ValueError: there is no such column, or it is empty.
    """
    columns = embeddings.attributes | {"expression": embeddings.expressions, "split": embeddings.splits}
    if by not in columns:
        raise ValueError(f"no column {by!r} to slice by; this corpus has {', '.join(columns)}")
    values = sorted({value for value in columns[by] if value is not None})
    if not values:
        raise ValueError(f"column {by!r} has no values to slice by")
    slices = {}
    for value in values:
        part = embeddings.select([row for row, found in enumerate(columns[by]) if found == value])
        slices[value] = _slice(part, similarity_threshold, expression_threshold, required, seed)
    return SlicesReport(
        by=by,
        similarity_threshold=similarity_threshold,
        expression_threshold=expression_threshold,
        required=list(required),
        unlabelled=sum(value is None for value in columns[by]),
        slices=slices,
    )


def slice_rates(part: Slice) -> list[tuple[str, Rate]]:
    """Title -> rate of everything that a slice reports."""
    verification, expression, decisions = part.verification, part.expression, part.authentication
    rates = []
    if verification is not None:
        rates += [("FAR", verification.far), ("FRR", verification.frr)]
    if expression is not None:
        rates.append(("expressions", expression.accuracy))
    if decisions is not None:
        rates += [("FAR of the joint decision", decisions.far), ("FRR of the joint decision", decisions.frr)]
    return [(title, rate) for title, rate in rates if rate is not None]


def _slice(
    part: Embeddings,
    similarity_threshold: float | None,
    expression_threshold: float,
    required: Sequence[str],
    seed: int,
) -> Slice:
    people = len({name for name in part.identities if name is not None})
    evaluations = {
        "verification": lambda: _verification(part, similarity_threshold, seed),
        "expression": lambda: _expression(part, seed),
        "authentication": lambda: _decisions(part, similarity_threshold, expression_threshold, required, seed),
    }
    figures, missing, warnings = {}, {}, []
    for name, evaluate in evaluations.items():
        try:
            figures[name] = evaluate()
        except InsufficientDataError as error:  # nobody has two images, nobody is labelled, not all kinds of trial
            figures[name], missing[name] = None, str(error)
    if 0 < people < MIN_PEOPLE:
        warnings.append(f"{people} people are too few to represent others")
    if figures["verification"] is not None and figures["verification"].auc is None:
        missing["auc"] = f"{people} people, none of them with two images"
    result = Slice(photographs=len(part), people=people, **figures, missing=missing, warnings=warnings)
    few = [f"{name} over {count}" for name, count in _cases(result) if 0 < count < MIN_CASES]
    if few:
        result = replace(result, warnings=[*warnings, f"too few cases for a conclusion: {', '.join(few)}"])
    return result


def _verification(part: Embeddings, threshold: float | None, seed: int) -> SliceVerification:
    if len({person for person in part.identities if person is not None}) < 2:
        raise InsufficientDataError("no two people")
    scored = generated_pairs(part, seed)
    genuine = int(scored.same.sum())
    whole = curve(scored, (), seed) if genuine else None
    result = SliceVerification(
        genuine_pairs=genuine,
        impostor_pairs=len(scored) - genuine,
        auc=whole.auc if whole else None,
        auc_interval=whole.auc_interval if whole else None,
    )
    if threshold is None:
        return result
    point = at_threshold(scored, threshold, seed)
    # With one image each, as for all the happy ones, impostors can be rejected but nobody can be accepted.
    frr = point.frr if genuine else replace(point.frr, reason="no genuine pair")
    return replace(result, far=point.far, frr=frr)


def _expression(part: Embeddings, seed: int) -> SliceExpression:
    report = expression_report(part, seed)
    return SliceExpression(accuracy=report.accuracy, recall=report.recall)


def _decisions(
    part: Embeddings, similarity: float | None, expression: float, required: Sequence[str], seed: int
) -> SliceDecisions:
    if similarity is None:
        raise InsufficientDataError("the checkpoint has no similarity_threshold")
    report = evaluate_decisions(part, similarity, expression, required, seed)
    return SliceDecisions(acc_auth=report.acc_auth, far=report.far, frr=report.frr, trials=report.trials)


def _cases(part: Slice) -> list[tuple[str, int]]:
    """How many cases each number rests on; the area under the curve on the rarer kind of pair."""
    cases = [(name, rate.total) for name, rate in slice_rates(part)]
    pairs = part.verification
    if pairs is not None and pairs.auc is not None:
        cases.insert(0, ("AUC", min(pairs.genuine_pairs, pairs.impostor_pairs)))
    return cases
