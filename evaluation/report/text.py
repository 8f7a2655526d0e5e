"""Formats sections and calibrations as tables for the terminal.

`command` prints them. Read `format` next.
"""

from evaluation.calibration import Calibration
from evaluation.protocols.decisions import DecisionsReport
from evaluation.protocols.expression import ExpressionReport
from evaluation.protocols.folds import FoldsSection
from evaluation.protocols.hard_pairs import LOOK_ALIKE
from evaluation.protocols.operating_points import Curve
from evaluation.protocols.sections import (
    AuthenticationSection,
    DegradationsSection,
    ExpressionSection,
    Section,
    SessionsSection,
    SlicesSection,
    VerificationSection,
)
from evaluation.protocols.slices import Slice, slice_rates
from evaluation.protocols.verification import CHOICE_FOLD, REPORT_FOLD, TenFolds
from evaluation.report.format import number, percent, rate_text, span

THRESHOLDS = {  # field of a curve -> its title
    "best_accuracy_threshold": f"threshold of fold {CHOICE_FOLD}'s best accuracy",
    "far_threshold": f"threshold of the requested FAR on fold {CHOICE_FOLD}",
    "shipped_threshold": "threshold of the checkpoint",
}


def section_text(section: Section) -> str:
    """The text of a section of any protocol, with its warnings."""
    return "\n".join(_LINES[type(section)](section))


def calibration_text(calibration: Calibration) -> str:
    """The text of a calibration: thresholds and the rates at them."""
    record = calibration.calibration
    corpora = ", ".join(f"{name} split {', '.join(splits)}" for name, splits in record.corpora.items())
    lines = [
        f"Calibrated on {corpora}: {record.people:,} people, "
        f"{record.genuine_pairs:,} genuine and {record.impostor_pairs:,} impostor pairs",
        _line("similarity threshold", f"{calibration.similarity_threshold:.4f} for a FAR of {record.target_far:g}"),
        _line("FAR", f"{number(record.far, 4)} (95 % {span(record.far_interval)})"),
        _line("FRR", f"{number(record.frr, 4)} (95 % {span(record.frr_interval)})"),
    ]
    chosen = f"{calibration.expression_threshold:g}"
    if record.expression is None:
        return "\n".join(
            [*lines, _line("expression threshold", f"{chosen}: unchanged, because no required expression is labelled")]
        )
    expression, configured = record.expression, record.expression.configured
    corpora = ", ".join(f"{name} split {', '.join(splits)}" for name, splits in expression.corpora.items())
    lines += [
        _line(
            "expression threshold",
            f"{chosen}, balanced accuracy {expression.balanced_accuracy:.4f} "
            f"(before, {configured.threshold:g}: {configured.balanced_accuracy:.4f})",
        ),
        _line("", f"on {expression.photographs:,} images of {corpora}"),
    ]
    for title, group in (("requested in a session", expression.required), ("other labels", expression.others)):
        if group:
            lines.append(f"  {title}")
        for name, rates in group.items():
            lines.append(_line(f"  {name}", f"seen {rate_text(rates.seen)}"))
            lines.append(_line("", f"falsely seen {rate_text(rates.falsely_seen)}"))
    return "\n".join(lines)


def _verification(section: VerificationSection) -> list[str]:
    lines = []
    if section.ten_folds is not None:
        folds = section.ten_folds
        over_people = f"; 95 % over people {span(folds.bootstrap)}" if folds.bootstrap else ""
        lines += [
            f"The {folds.pairs:,} pairs of pairs.csv in {len(folds.folds)} folds, threshold from the other folds",
            _line(
                "accuracy", f"{folds.mean:.4f} ± {folds.standard_error:.4f} (standard error over folds{over_people})"
            ),
            f"  {_trained_text(folds)}",
            _line("no face found in", f"{folds.missing_pairs:,} pairs, decided as different people"),
        ]
    elif section.ten_folds_reason is not None:
        lines.append(f"No ten folds: {section.ten_folds_reason}")
    if section.single_fold is not None:
        lines.append(f"Fold {REPORT_FOLD}, evaluated once, thresholds from fold {CHOICE_FOLD}")
        lines += curve_lines(section.single_fold)
    if section.generated is not None:
        lines += [
            f"Generated pairs among the people of split {', '.join(section.splits)}",
            *_warning_lines(section),
            *curve_lines(section.generated),
        ]
    for kind, curve in (section.hard or {}).items():
        lines += [f"Hard impostor pairs: {hard_title(kind)}", *curve_lines(curve)]
    return lines


def hard_title(kind: str) -> str:
    """The impostors of a kind of hard pairs, in words."""
    return "the five most similar people" if kind == LOOK_ALIKE else f"people of the same {kind.replace('_', ' ')}"


def curve_lines(curve: Curve) -> list[str]:
    """Counts, AUC, EER, TAR at each FAR, and the rates at each threshold."""
    lines = [
        _line(
            "pairs",
            f"{curve.genuine_pairs:,} genuine, {curve.impostor_pairs:,} impostor, {curve.people:,} people, "
            f"{curve.missing_pairs:,} pairs without a found face",
        ),
        _line("AUC", _with_interval(curve.auc, curve.auc_interval)),
        _line("EER", _with_interval(curve.eer, curve.eer_interval)),
    ]
    for tar in curve.tar_at_far:
        impostors = f", {tar.impostors:,} impostor pairs" if tar.value is not None else ""
        lines.append(_line(f"TAR at FAR {percent(tar.far)}", rate_text(tar) + impostors))
    for field, title in THRESHOLDS.items():
        if (point := getattr(curve, field, None)) is not None:
            lines.append(f"  {title}: {point.threshold:.4f}")
            rates = (("accuracy", point.accuracy), ("FAR", point.far), ("FRR", point.frr))
            lines += [_line(f"  {name}", rate_text(rate)) for name, rate in rates if rate is not None]
    if reason := getattr(curve, "far_threshold_reason", None):
        lines.append(f"  no threshold of the requested FAR: {reason}")
    return lines


def _trained_text(folds: TenFolds) -> str:
    trained = [str(fold.fold) for fold in folds.folds if fold.trained_on]
    if folds.optimistic is None:
        return "UNKNOWN: no training.json says on which folds the network was trained, so this may be OPTIMISTIC"
    if not trained:
        return "the network was trained on none of these people"
    unseen_text = f"; the other folds alone: {folds.unseen_mean:.4f}" if folds.unseen_mean is not None else ""
    return f"OPTIMISTIC: the network was trained on the people of folds {', '.join(trained)}{unseen_text}"


def _expression(section: ExpressionSection) -> list[str]:
    title = f"Expressions of split {', '.join(section.splits)}"
    return [title, *_warning_lines(section), *_expression_lines(section.report)]


def _expression_lines(report: ExpressionReport) -> list[str]:
    calibration, votes = report.calibration, report.votes
    other_labels = ", ".join(f"{name} {count:,}" for name, count in report.unknown_to_model.items()) or "none"
    lines = [
        _line("accuracy", rate_text(report.accuracy)),
        _line("balanced accuracy", f"{report.balanced_accuracy:.4f}, macro-F1 {report.macro_f1:.4f}"),
        _line(
            "calibration",
            f"ECE {calibration.ece:.4f}, negative log likelihood {calibration.negative_log_likelihood:.3f}, "
            f"Brier score {calibration.brier:.3f}",
        ),
    ]
    if votes is not None:
        lines += [
            _line("votes as labels", f"{votes.photographs:,} images; most votes {rate_text(votes.most_votes)}"),
            _line("", f"at least 30 % of the votes {rate_text(votes.multi_label)}"),
            _line(
                "",
                f"cross-entropy {votes.cross_entropy:.3f}, divergence from the votes {votes.kullback_leibler:.3f} nats;"
                f" {percent(votes.dropped_votes)} of the votes are for other expressions",
            ),
        ]
    lines.append(_line("without label", f"{report.unlabelled:,}; with labels that are not evaluated: {other_labels}"))
    if report.never_predicted:
        lines.append(_line("never predicted", f"{', '.join(report.never_predicted)}: the model does not have them"))
    lines.append("  label \\ predicted " + "".join(f"{name:>10}" for name in report.classes) + "  recall")
    for name, row in zip(report.classes, report.confusion_matrix, strict=True):
        cells = "".join(f"{count:>10,}" for count in row)
        lines.append(f"  {name:<18}{cells}  {rate_text(report.recall[name])}")
    return lines


def _authentication(section: AuthenticationSection) -> list[str]:
    return _decision_lines(section, section.report)


def _decision_lines(section: Section, report: DecisionsReport) -> list[str]:
    lines = [
        f"Authentication of split {', '.join(section.splits)}, one decision per trial; "
        f"{report.inputs:,} inputs, {report.people:,} people, requested: {' or '.join(report.required)}"
    ]
    if report.similarity_threshold is not None:
        lines.append(_thresholds(report.similarity_threshold, report.expression_threshold))
    lines += [
        *_warning_lines(section),
        "  trials        ID-True    ID-False",
        *(
            f"  Ex-{kind:<8}"
            + "".join(f"{report.trials[f'ID-{identity} Ex-{kind}']:>12,}" for identity in ("True", "False"))
            for kind in ("True", "False")
        ),
        _line("Acc_auth", f"{rate_text(report.acc_auth)}; accepting nobody would reach {report.reject_all:.4f}"),
        _line("Acc_verif", rate_text(report.acc_verif)),
        _line("Acc_expre", rate_text(report.acc_expre)),
        _line("Acc_live", rate_text(report.acc_live)),
        _line("FAR", rate_text(report.far)),
        *(_line(f"  {kind}", rate_text(rate)) for kind, rate in report.false_accepts.items()),
        _line("FRR", rate_text(report.frr)),
        *(f"    {reason:<38} {count:,}" for reason, count in report.false_rejects.items()),
    ]
    if len(report.by_expression) > 1:
        for name, rates in report.by_expression.items():
            lines.append(_line(name, f"FAR {rate_text(rates.far)}, FRR {rate_text(rates.frr)}"))
    return lines


def _degradations(section: DegradationsSection) -> list[str]:
    report = section.report
    lines = [
        f"Both images degraded in the same way, split {', '.join(section.splits)}: {report.photographs:,} images of "
        f"{report.people:,} people, threshold {report.similarity_threshold:.4f}",
        *_warning_lines(section),
        "  accepted without and with the quality gate: impostor pairs, genuine pairs; faces refused",
    ]
    for name, rates in report.degradations.items():
        pairs = ((rates.false_accepts, rates.false_accepts_gated), (rates.genuine_accepts, rates.genuine_accepts_gated))
        cells = [f"{shown.hits:,} and {gated.hits:,} of {shown.total:,}" for shown, gated in pairs]
        cells.append(f"{rates.refused.hits:,} of {rates.refused.total:,}")
        lines.append(_line(name, f"{cells[0]:<28}{cells[1]:<24}{cells[2]}"))
    above = ", ".join(report.above_twice)
    verdict = "no degradation more than doubles the accepted strangers"
    if above:
        verdict = f"more than twice as many strangers are accepted as with unchanged images: {above}"
    return [*lines, f"  with the gate, {verdict}"]


def _sessions(section: SessionsSection) -> list[str]:
    report = section.report
    guess = report.replay_guess.apcer
    chance = "cannot be estimated here" if guess is None else f"{guess:.4f}"
    lines = [
        f"Simulated sessions of split {', '.join(section.splits)}: {report.people:,} people, "
        f"{report.photographs:,} images, requested: {' or '.join(report.challenges)}",
        _thresholds(report.similarity_threshold, report.expression_threshold),
        *_warning_lines(section),
        _line("genuine users rejected", rate_text(report.false_reject_rate)),
    ]
    for step, reasons in report.rejected_at.items():
        lines += [f"    at step {step:<12} {reason:<24} {count:,}" for reason, count in reasons.items()]
    return [
        *lines,
        _line("impostors accepted", rate_text(report.false_accept_rate)),
        "  attacks accepted (IAPAR)",
        *(_line(f"  {kind}", rate_text(rate)) for kind, rate in report.iapar.items()),
        "  the challenge alone, without the identity check",
        _line("  BPCER", rate_text(report.bpcer)),
        *(_line(f"  APCER {kind}", rate_text(rate)) for kind, rate in report.apcer.items()),
        f"    the worst species is {report.apcer_max}; a video of a random challenge passes with probability {chance}",
        f"  {report.one_photograph:,} genuine sessions had a single image for some step",
    ]


def _slices(section: SlicesSection) -> list[str]:
    report = section.report
    lines = [
        f"By {report.by}, split {', '.join(section.splits)}; {report.unlabelled:,} images lack it",
        *_warning_lines(section),
    ]
    for group_name, group in report.slices.items():
        lines += [f"  {group_name}: {group.photographs:,} images of {group.people:,} people", *_slice_lines(group)]
    return lines


def _slice_lines(group: Slice) -> list[str]:
    lines = []
    if (pairs := group.verification) is not None:
        area = "not reported" if pairs.auc is None else _with_interval(pairs.auc, pairs.auc_interval)
        counts = f"{pairs.genuine_pairs:,} genuine, {pairs.impostor_pairs:,} impostor pairs"
        lines.append(_line("  AUC", f"{area}, {counts}"))
    for name, rate in slice_rates(group):
        lines.append(_line(f"  {name}", rate_text(rate)))
        if name == "expressions":
            recall = group.expression.recall.items()
            lines += [_line(f"    {label}", rate_text(hits)) for label, hits in recall if hits.total]
    lines += [f"    no {name}: {reason}" for name, reason in group.missing.items()]
    return lines + [f"    WARNING: {warning}" for warning in group.warnings]


def _folds(section: FoldsSection) -> list[str]:
    lines = [f"Folds {', '.join(section.splits)} of {section.corpus.name}, each evaluated by its own network"]
    lines += _warning_lines(section)
    for name in ("verification", "expression"):
        if (task := getattr(section, name)) is not None:
            error = "" if task.standard_error is None else f" ± {task.standard_error:.4f}"
            lines.append(f"  {name:<14} accuracy {task.mean:.4f}{error} (standard error over folds)")
    lines += [f"  no {name}: {reason}" for name, reason in section.missing.items()]
    if section.verification is not None:
        lines += curve_lines(section.verification.curve)
    if section.expression is not None:
        lines += ["Expressions of all folds", *_expression_lines(section.expression.report)]
    if section.authentication is not None:
        lines += _decision_lines(section, section.authentication.report)
    return lines


_LINES = {
    VerificationSection: _verification,
    ExpressionSection: _expression,
    AuthenticationSection: _authentication,
    SessionsSection: _sessions,
    DegradationsSection: _degradations,
    SlicesSection: _slices,
    FoldsSection: _folds,
}


def _line(title: str, text: str) -> str:
    return f"  {title:<30} {text}"


def _warning_lines(section: Section) -> list[str]:
    return [f"  {warning}" for warning in section.warnings]


def _thresholds(similarity: float, expression: float) -> str:
    return f"  thresholds: similarity {similarity:.4f}, expression {expression:g}"


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.4f}" + (f" (95 % over people {span(interval)})" if interval else "")
