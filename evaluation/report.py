"""Results as people read them, a table on stdout, and as other programs do, one results.json for all protocols.

What the file holds is said, and checked whenever it is written or read, by results.schema.json.
"""

import json
import os
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jsonschema

SCHEMA_VERSION = 1
PACKAGES = ("torch", "torchvision", "transformers", "datasets", "scikit-learn", "numpy", "pillow")


def write_results(out: Path, model: dict[str, str], protocol: str, name: str, section: dict) -> Path:
    """Put one protocol's section into OUT/results.json under protocol and name, keeping what other commands wrote.

    Raises:
        ValueError: the file there is of other weights, or cannot be read.
    """
    results = read_results(out, model)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.json"
    versions = {package: version(package) for package in PACKAGES}
    section = section | {"date": date.today().isoformat(), "versions": versions}
    results[protocol] = results.get(protocol, {}) | {name: section}
    results = json.loads(json.dumps(results, allow_nan=False))  # tuples become lists, as a reader will find them
    check_results(results, path)
    write_json(path, results)
    return path


def write_json(path: Path, content: dict) -> None:
    """Replace a JSON file as a whole."""
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_results(out: Path, model: dict[str, str]) -> dict:
    """What OUT/results.json holds so far, or only the model where there is none yet.

    Args:
        model: "name" and "sha256".
    """
    path = out / "results.json"
    if not path.exists():
        return {"schema_version": SCHEMA_VERSION, "model": model}
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} cannot be read ({error}); remove it or choose another --out") from None
    check_results(results, path)
    other = results["model"]["sha256"]
    if other != model["sha256"]:
        raise ValueError(
            f"{path} is of other weights (sha256 {other[:12]}…, these are {model['sha256'][:12]}…); "
            "remove it or choose another --out"
        )
    return results | {"model": model}


def check_results(results: dict, path: Path) -> None:
    """Hold results against results.schema.json.

    Raises:
        ValueError: they are not as the schema says; names the file, the place in it and what is wrong.
    """
    schema = json.loads(Path(__file__).with_name("results.schema.json").read_text(encoding="utf-8"))
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(results))
    if error is not None:
        place = "/".join(map(str, error.absolute_path)) or "the whole"
        raise ValueError(
            f"{path}, {place}: {error.message[:200]}: not results of version {SCHEMA_VERSION} as results.schema.json "
            "describes them; remove the file or choose another --out"
        )


def rate_text(rate: dict) -> str:
    """`0.8133 (488/600; 95 % 0.780-0.842, over people 0.771-0.850)`."""
    if rate["value"] is None:
        return f"not reported: {rate.get('reason', 'nothing to count')}"
    text = f"{rate['value']:.4f} ({rate['hits']:,}/{rate['total']:,}; 95 % {rate['low']:.3f}-{rate['high']:.3f}"
    if rate.get("bootstrap"):
        text += f", over people {span_text(rate['bootstrap'])}"
    return text + ")"


def verification_text(section: dict) -> str:
    lines = []
    if "ten_folds" in section:
        folds = section["ten_folds"]
        lines += [
            f"The {folds['pairs']:,} pairs of pairs.csv in {len(folds['folds'])} folds, threshold from the other folds",
            f"  accuracy               {folds['mean']:.4f} ± {folds['standard_error']:.4f} (standard error over folds"
            + (f"; 95 % over people {span_text(folds['bootstrap'])})" if folds["bootstrap"] else ")"),
            f"  {_trained_text(folds)}",
            f"  no face found in       {folds['missing_pairs']:,} pairs, decided as different people",
            "Fold 10, judged once, thresholds from fold 9",
            *curve_lines(section["single_fold"]),
        ]
    if "generated" in section:
        lines += [
            f"Generated pairs among the people of split {', '.join(section['splits'])}",
            *warning_lines(section),
            *curve_lines(section["generated"]),
        ]
    for kind, part in section.get("hard", {}).items():
        what = "the five people who look most like them" if kind == "look-alike" else f"people of the same {kind}"
        lines += [f"Hard impostor pairs: with {what}", *curve_lines(part)]
    return "\n".join(lines)


def warning_lines(section: dict) -> list[str]:
    return [f"  {warning}" for warning in section["warnings"]]


def _trained_text(folds: dict) -> str:
    trained = [str(fold["fold"]) for fold in folds["folds"] if fold["trained_on"]]
    if folds["optimistic"] is None:
        return "UNKNOWN which folds' people the network was trained on (no training.json): it may be OPTIMISTIC"
    if not trained:
        return "the network was trained on none of these people"
    unseen = folds["unseen_mean"]
    rest = f"; the other folds alone: {unseen:.4f}" if unseen is not None else ""
    return f"OPTIMISTIC: the network was trained on the people of folds {', '.join(trained)}{rest}"


def curve_lines(part: dict) -> list[str]:
    lines = [
        f"  pairs                  {part['genuine_pairs']:,} genuine, {part['impostor_pairs']:,} impostor, "
        f"{part['people']:,} people, {part['missing_pairs']:,} pairs without a found face",
        *(
            f"  {name:<22} {part[key]:.4f}" + (f" (95 % over people {span_text(span)})" if span else "")
            for name, key, span in (("AUC", "auc", part["auc_interval"]), ("EER", "eer", part["eer_interval"]))
        ),
    ]
    for tar in part["tar_at_far"]:
        lines.append(f"  TAR at FAR {tar['far']:<11.2%} {rate_text(tar)}, {tar['impostors']:,} impostor pairs")
    for key, title in (
        ("best_accuracy_threshold", "threshold of fold 9's best accuracy"),
        ("far_threshold", "threshold of the FAR asked for on fold 9"),
        ("shipped_threshold", "threshold of the checkpoint"),
    ):
        if key in part:
            point = part[key]
            lines.append(f"  {title}: {point['threshold']:.4f}")
            names = (("accuracy", "accuracy"), ("far", "FAR"), ("frr", "FRR"))
            lines += [f"    {shown:<20} {rate_text(point[name])}" for name, shown in names if name in point]
    if "far_threshold_reason" in part:
        lines.append(f"  no threshold of the FAR asked for: {part['far_threshold_reason']}")
    return lines


def span_text(span: tuple[float, float]) -> str:
    return f"{span[0]:.3f}-{span[1]:.3f}"


def expression_text(section: dict) -> str:
    report = section["report"]
    classes, matrix = report["classes"], report["confusion_matrix"]
    lines = [
        f"Expressions of split {', '.join(section['splits'])}",
        *warning_lines(section),
        f"  accuracy               {rate_text(report['accuracy'])}",
        f"  balanced accuracy      {report['balanced_accuracy']:.4f}, macro-F1 {report['macro_f1']:.4f}",
        "  calibration            ECE {ece:.4f}, negative log likelihood {negative_log_likelihood:.3f}, "
        "Brier score {brier:.3f}".format(**report["calibration"]),
        *_vote_lines(report),
        f"  without label          {report['unlabelled']:,}; labelled with what is not judged: "
        + (", ".join(f"{name} {count:,}" for name, count in report["unknown_to_model"].items()) or "none"),
        *(
            [f"  never predicted        {', '.join(report['never_predicted'])}: the model does not know them"]
            if report["never_predicted"]
            else []
        ),
        "  label \\ predicted " + "".join(f"{name:>10}" for name in classes) + "  recall",
    ]
    for name, row in zip(classes, matrix, strict=True):
        recall = report["recall"][name]
        lines.append(f"  {name:<18}" + "".join(f"{count:>10,}" for count in row) + f"  {rate_text(recall)}")
    return "\n".join(lines)


def _vote_lines(report: dict) -> list[str]:
    if "votes" not in report:
        return []
    votes = report["votes"]
    return [
        f"  votes as labels        {votes['photographs']:,} photographs; most votes {rate_text(votes['most_votes'])}",
        f"                         at least 30 % of the votes {rate_text(votes['multi_label'])}",
        f"                         cross-entropy {votes['cross_entropy']:.3f}, divergence from the votes "
        f"{votes['kullback_leibler']:.3f} nats; {votes['dropped_votes']:.1%} of the votes are for other expressions",
    ]


def authentication_text(section: dict) -> str:
    report = section["report"]
    trials = report["trials"]
    lines = [
        f"Authentication of split {', '.join(section['splits'])}, one decision per trial; "
        f"{report['inputs']:,} inputs, {report['people']:,} people, asked for {' or '.join(report['required'])}",
        *(
            [
                f"  thresholds: similarity {report['similarity_threshold']:.4f}, "
                f"expression {report['expression_threshold']:g}"
            ]
            if "similarity_threshold" in report
            else []
        ),
        *warning_lines(section),
        "  trials        ID-True    ID-False",
        *(
            f"  Ex-{kind!s:<8}" + "".join(f"{trials[f'ID-{one} Ex-{kind}']:>12,}" for one in (True, False))
            for kind in (True, False)
        ),
        f"  Acc_auth     {rate_text(report['acc_auth'])}; accepting nobody would reach {report['reject_all']:.4f}",
        f"  Acc_verif    {rate_text(report['acc_verif'])}",
        f"  Acc_expre    {rate_text(report['acc_expre'])}",
        f"  Acc_live     {rate_text(report['acc_live'])}",
        f"  FAR          {rate_text(report['far'])}",
        *(f"    {kind:<19}  {rate_text(accepts)}" for kind, accepts in report["false_accepts"].items()),
        f"  FRR          {rate_text(report['frr'])}",
        *(f"    {reason:<38} {count:,}" for reason, count in report["false_rejects"].items()),
        *(
            f"  {name:<12} FAR {rate_text(own['far'])}, FRR {rate_text(own['frr'])}"
            for name, own in report["by_expression"].items()
            if len(report["by_expression"]) > 1
        ),
    ]
    return "\n".join(lines)


def calibration_text(section: dict) -> str:
    record, expression = section["calibration"], section["calibration"]["expression"]
    lines = [
        f"Calibrated on split {', '.join(record['splits'])} of {record['corpus']}: {record['people']:,} people, "
        f"{record['genuine_pairs']:,} genuine and {record['impostor_pairs']:,} impostor pairs",
        f"  similarity threshold   {section['similarity_threshold']:.4f} for a FAR of {record['target_far']:g}",
        "  FAR {far:.4f} (95 % {far_interval[0]:.4f}-{far_interval[1]:.4f}), "
        "FRR {frr:.4f} (95 % {frr_interval[0]:.4f}-{frr_interval[1]:.4f})".format(**record),
    ]
    chosen = f"  expression threshold   {section['expression_threshold']:g}"
    if expression is None:
        return "\n".join([*lines, f"{chosen}: no labels to choose it on"])
    before = expression["configured"]
    return "\n".join([
        *lines,
        f"{chosen}, balanced accuracy {expression['balanced_accuracy']:.4f} "
        f"(as configured, {before['threshold']:g}: {before['balanced_accuracy']:.4f})",
        f"                         on {expression['photographs']:,} photographs",
        *(
            line
            for name, rates in expression["required"].items()
            for line in (
                f"    {name:<20} seen {rate_text(rates['seen'])}",
                f"{'':<25}falsely seen {rate_text(rates['falsely_seen'])}",
            )
        ),
    ])  # fmt: skip
