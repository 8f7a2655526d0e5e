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
from evaluation.report import rate_text, span_text, warning_lines
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
        slice has nothing to judge it by, and so is auc, with far alone beside it, where nobody is photographed twice.
        "warnings" says where it is too small to say anything: fewer than 10 people, or a rate over fewer than 30 cases,
        an AUC over fewer than 30 pairs of a kind. The numbers stand beside their warnings.

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
    if result["verification"] is not None and result["verification"]["auc"] is None:
        result["missing"]["auc"] = f"{people} people, none of them on two photographs"
    few = [f"{name} over {count}" for name, count in _cases(result) if 0 < count < FEWEST_CASES]
    if few:
        result["warnings"].append(f"too few cases to say anything: {', '.join(few)}")
    return result


def _verification(own: Embeddings, threshold: float | None, seed: int) -> dict:
    if len({person for person in own.identities if person is not None}) < 2:
        raise TooLittleError("no two people")
    scored = generated_pairs(own, seed)
    genuine = int(scored.same.sum())
    result = {"genuine_pairs": genuine, "impostor_pairs": len(scored) - genuine, "auc": None, "auc_interval": None}
    if genuine:
        whole = curve(scored, (), seed)
        result |= {name: whole[name] for name in ("auc", "auc_interval")}
    if threshold is not None:
        result |= {name: rate for name, rate in at_threshold(scored, threshold, seed).items() if name in ("far", "frr")}
        if not genuine:  # one photograph each, such as all the happy ones: strangers can be told apart or not
            result["frr"]["reason"] = "no genuine pair"
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


def _cases(result: dict) -> list[tuple[str, int]]:
    """How many cases each number rests on; the area under the curve on the rarer kind of pair."""
    cases = [(name, rate["total"]) for name, rate in _rates(result)]
    pairs = result["verification"]
    if pairs is not None and pairs["auc"] is not None:
        cases.insert(0, ("AUC", min(pairs["genuine_pairs"], pairs["impostor_pairs"])))
    return cases


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
            area = "not reported" if own["auc"] is None else f"{own['auc']:.4f}"
            if own["auc_interval"]:
                area += f" (over people {span_text(own['auc_interval'])})"
            pairs = f"{own['genuine_pairs']:,} genuine, {own['impostor_pairs']:,} impostor pairs"
            lines.append(f"    AUC                        {area}, {pairs}")
        for name, rate in _rates(part):
            lines.append(f"    {name:<26} {rate_text(rate)}")
            if name == "expressions":
                recall = part["expression"]["recall"].items()
                lines += [f"      {shown:<24} {rate_text(hits)}" for shown, hits in recall if hits["total"]]
        lines += [f"    no {name}: {reason}" for name, reason in part["missing"].items()]
        lines += [f"    WARNING: {warning}" for warning in part["warnings"]]
    return "\n".join(lines)
