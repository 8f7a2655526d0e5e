"""The same figures for parts of a corpus: by gender, by age, by whatever its columns say.

A network that is good on the whole may be bad for some. A slice holds the photographs with one value in the column;
impostor pairs, references and strangers are of the same slice, for that is the harder and the fairer question: is she
taken for another woman?
"""

from collections.abc import Sequence

from evaluation.embeddings import Embeddings
from evaluation.expression import expression_report
from evaluation.holistic import authentication_report
from evaluation.metrics import TooLittleError
from evaluation.report import rate_text, warning_lines
from evaluation.verification import at_threshold, curve, generated_pairs

FEWEST_PEOPLE = 10  # fewer cannot stand for others, however many photographs they gave
FEWEST_CASES = 30  # of which one error is more than 3 %: the interval of a rate is then wider than the rate


def slice_report(
    embeddings: Embeddings,
    by: str,
    similarity_threshold: float | None,
    expression_threshold: float,
    required: Sequence[str],
    seed: int,
) -> dict:
    """Verification, expressions and the fused decision for each value of a column.

    Args:
        by: an attribute of the corpus, or "expression" or "split".
        similarity_threshold: the checkpoint's; without it neither FAR and FRR nor decisions are reported.
        required: expressions asked for.

    Returns:
        "by", "unlabelled" (photographs without a value) and "slices": value -> "photographs", "people"; "verification":
        genuine_pairs, impostor_pairs, auc, auc_interval, and far and frr at the threshold; "expression": accuracy and
        recall; "authentication": acc_auth, far, frr and trials. Each is None with its reason in "missing" where the
        slice has nothing to judge it by. "warnings" says where it is too small to say anything: fewer than 10 people,
        or a rate over fewer than 30 cases. The numbers stand beside their warnings.

    Raises:
        ValueError: there is no such column; names those there are. Or it holds nothing.
    """
    columns = embeddings.attributes | {"expression": embeddings.expressions, "split": embeddings.splits}
    if by not in columns:
        raise ValueError(f"no column {by!r} to slice by; this corpus has {', '.join(columns)}")
    values = sorted({value for value in columns[by] if value is not None})
    if not values:
        raise ValueError(f"column {by!r} holds nothing to slice by")
    slices = {}
    for value in values:
        own = embeddings.select([row for row, one in enumerate(columns[by]) if one == value])
        slices[value] = _slice(own, similarity_threshold, expression_threshold, required, seed)
    return {
        "by": by,
        "similarity_threshold": similarity_threshold,
        "expression_threshold": expression_threshold,
        "required": list(required),
        "unlabelled": sum(value is None for value in columns[by]),
        "slices": slices,
    }


def _slice(
    own: Embeddings,
    similarity_threshold: float | None,
    expression_threshold: float,
    required: Sequence[str],
    seed: int,
) -> dict:
    people = len({name for name in own.identities if name is not None})
    result = {"photographs": len(own), "people": people, "missing": {}, "warnings": []}
    parts = {
        "verification": lambda: _verification(own, similarity_threshold, seed),
        "expression": lambda: {
            name: value for name, value in expression_report(own, seed).items() if name in ("accuracy", "recall")
        },
        "authentication": lambda: _authentication(own, similarity_threshold, expression_threshold, required, seed),
    }
    for name, judged in parts.items():
        try:
            result[name] = judged()
        except TooLittleError as error:  # nobody twice, nobody labelled, not all four kinds of trial
            result[name], result["missing"][name] = None, str(error)
    if 0 < people < FEWEST_PEOPLE:
        result["warnings"].append(f"{people} people are too few to speak for others")
    few = [f"{name} over {rate['total']}" for name, rate in _rates(result) if 0 < rate["total"] < FEWEST_CASES]
    if few:
        result["warnings"].append(f"too few cases to say anything: {', '.join(few)}")
    return result


def _verification(own: Embeddings, threshold: float | None, seed: int) -> dict:
    scored = generated_pairs(own, seed)
    if scored.same.all() or not scored.same.any():
        raise TooLittleError("no two people, or nobody with two photographs")
    whole = curve(scored, (), seed)
    result = {name: whole[name] for name in ("genuine_pairs", "impostor_pairs", "auc", "auc_interval")}
    if threshold is not None:
        result |= {name: rate for name, rate in at_threshold(scored, threshold, seed).items() if name in ("far", "frr")}
    return result


def _authentication(
    own: Embeddings, similarity: float | None, expression: float, required: Sequence[str], seed: int
) -> dict:
    if similarity is None:
        raise TooLittleError("the checkpoint has no similarity_threshold")
    report = authentication_report(own, similarity, expression, required, seed)
    return {name: report[name] for name in ("acc_auth", "far", "frr", "trials")}


def _rates(result: dict) -> list[tuple[str, dict]]:
    verification, expression, decided = (
        result[name] or {} for name in ("verification", "expression", "authentication")
    )
    named = [(name.upper(), verification.get(name)) for name in ("far", "frr")]
    named += [("expressions", expression.get("accuracy"))]
    named += [(f"{name} of the fused decision", decided.get(key)) for name, key in (("FAR", "far"), ("FRR", "frr"))]
    return [(name, rate) for name, rate in named if rate is not None]


def slices_text(section: dict) -> str:
    """The report as a table for the terminal."""
    report = section["report"]
    lines = [
        f"By {report['by']}, split {', '.join(section['splits'])}; {report['unlabelled']:,} photographs lack it",
        *warning_lines(section),
    ]
    for value, part in report["slices"].items():
        lines.append(f"  {value}: {part['photographs']:,} photographs of {part['people']:,} people")
        if part["verification"] is not None:
            own = part["verification"]
            pairs = f"{own['genuine_pairs']:,} genuine, {own['impostor_pairs']:,} impostor pairs"
            lines.append(f"    AUC                        {own['auc']:.4f}, {pairs}")
        lines += [f"    {name:<26} {rate_text(rate)}" for name, rate in _rates(part)]
        lines += [f"    no {name}: {reason}" for name, reason in part["missing"].items()]
        lines += [f"    WARNING: {warning}" for warning in part["warnings"]]
    return "\n".join(lines)
