"""Face authentication as a whole: the protocol of the paper's section 5.2.

A trial is one attempt to log in: an input image, the reference image of the person the user claims to be, and the
requested expression. It must be accepted exactly where both images show one person (ID-True) *and* the input shows
that expression (Ex-True). Each trial is ONE decision, made by the shipped rule. Accuracies of the two tasks are
reported beside it but never multiplied: their errors may fall on the same trials, which a product ignores. `corpus`
calls `evaluate_decisions`; `folds` uses its parts.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from evaluation.embeddings.table import Embeddings
from evaluation.statistics.intervals import rate_over_people
from evaluation.statistics.rates import Count, InsufficientDataError, Rate, Share, rate, result
from pipeline_facelivenet import Decision, decide

INPUTS_PER_PERSON = 10  # of each expression: one person of LFW's fold 10 has 530 images
REFERENCES, IMPOSTORS = 3, 3  # of each input: other images of the same person, and images of other people


@dataclass(frozen=True)
class Trial:
    """input, reference: rows of the embeddings; required: the requested expression; same: one person (ID-True);
    expressed: the input is labelled with the required expression (Ex-True)."""

    input: int
    reference: int
    required: str
    same: bool
    expressed: bool


@result
class ExpressionRates:
    """The trials in which one expression is required."""

    trials: Count
    far: Rate
    frr: Rate


@result
class DecisionsReport:
    """The paper's Tables 7 and 8.

    trials: counts as in Table 7, "ID-True Ex-True" and so on. people, inputs: how many different ones. acc_auth,
    acc_verif, acc_expre, acc_live: Table 8 over all trials, with intervals over people; acc_expre is the accuracy of
    the input's label, acc_live that of "required expression seen". reject_all: the acc_auth of a system that accepts
    nobody. far, frr: over the trials to reject, to accept. false_accepts: kind of trial -> rate. false_rejects: the
    decision's reason -> count. inputs_unknown_to_model: label that the model does not have -> inputs left out.
    """

    similarity_threshold: float | None = None
    expression_threshold: float | None = None
    required: list[str]
    trials: dict[str, Count]
    people: Count
    inputs: Count
    inputs_unknown_to_model: dict[str, Count]
    acc_auth: Rate
    acc_verif: Rate
    acc_expre: Rate
    acc_live: Rate
    reject_all: Share
    far: Rate
    frr: Rate
    false_accepts: dict[str, Rate]
    false_rejects: dict[str, Count]
    by_expression: dict[str, ExpressionRates]


def build_trials(embeddings: Embeddings, required: Sequence[str], seed: int) -> tuple[list[Trial], dict[str, int]]:
    """Every labelled input × its references × every required expression, the same for the same seed.

    At most 10 inputs per person and expression; for each up to 3 other images of the same person, and one image of
    each of 3 other people, all people being equally likely.

    Returns:
        the trials, and the inputs that were left out because the model does not have their label (name -> count).

    Raises:
        ValueError: the model does not have a required expression.
    """
    for name in required:
        if name not in embeddings.classes:
            raise ValueError(f"required expression {name!r}: the model knows {', '.join(embeddings.classes)}")
    images, inputs, unknown = defaultdict(list), defaultdict(list), Counter()
    for row in sorted(range(len(embeddings)), key=lambda row: embeddings.keys[row]):
        person, label = embeddings.identities[row], embeddings.expressions[row]
        if person is None:
            continue
        images[person].append(row)
        if label in embeddings.classes:
            inputs[person, label].append(row)
        elif label is not None:
            unknown[label] += 1
    rng = np.random.default_rng(seed)
    people = sorted(images)
    trials = []
    for person, label in sorted(inputs):
        others = [other for other in people if other != person]
        for row in _sample(inputs[person, label], INPUTS_PER_PERSON, rng):
            genuine = _sample([other for other in images[person] if other != row], REFERENCES, rng)
            impostors = [rng.choice(images[other]) for other in _sample(others, IMPOSTORS, rng)]
            for reference, same in [(other, True) for other in genuine] + [(int(other), False) for other in impostors]:
                trials += [Trial(row, reference, name, same, label == name) for name in required]
    return trials, dict(unknown)


def _sample(items: list, most: int, rng: np.random.Generator) -> list:
    if len(items) <= most:
        return items
    return [items[index] for index in np.sort(rng.choice(len(items), most, replace=False))]


def decide_trials(
    trials: Sequence[Trial], embeddings: Embeddings, similarity_threshold: float, expression_threshold: float
) -> list[Decision]:
    """One decision per trial, by `pipeline_facelivenet.decide`."""
    inputs, references = [trial.input for trial in trials], [trial.reference for trial in trials]
    similarities = np.einsum("nd,nd->n", embeddings.embeddings[inputs], embeddings.embeddings[references])
    probabilities = embeddings.probabilities_by_name
    return [
        decide(
            similarity=similarity,
            threshold=similarity_threshold,
            expression_probabilities=probabilities[trial.input],
            required_expression=trial.required,
            expression_threshold=expression_threshold,
        )
        for trial, similarity in zip(trials, similarities.tolist(), strict=True)
    ]


def evaluate_decisions(
    embeddings: Embeddings, similarity_threshold: float, expression_threshold: float, required: Sequence[str], seed: int
) -> DecisionsReport:
    """Build trials among these images, decide them at these thresholds, and report.

    Raises:
        ValueError: as `build_trials`. InsufficientDataError: as `trials_report`.
    """
    trials, unknown = build_trials(embeddings, required, seed)
    decisions = decide_trials(trials, embeddings, similarity_threshold, expression_threshold)
    return trials_report(
        embeddings,
        trials,
        decisions,
        unknown,
        required,
        seed,
        similarity_threshold=similarity_threshold,
        expression_threshold=expression_threshold,
    )


def trials_report(
    embeddings: Embeddings,
    trials: Sequence[Trial],
    decisions: Sequence[Decision],
    unknown: dict[str, int],
    required: Sequence[str],
    seed: int,
    **thresholds: float,
) -> DecisionsReport:
    """Tables 7 and 8 of decided trials.

    Args:
        thresholds: the fields of that name of the report, where all trials share them.

    Raises:
        InsufficientDataError: one of the four kinds of trial does not occur.
    """
    kinds_present = {(trial.same, trial.expressed) for trial in trials}
    if len(kinds_present) < 4:
        raise InsufficientDataError(
            "these splits cannot test authentication: they need people with several images, other people, and "
            f"inputs labelled {' or '.join(required)} as well as others; "
            f"of the four kinds of trial {len(kinds_present)} occur"
        )
    same = np.array([trial.same for trial in trials])
    expressed = np.array([trial.expressed for trial in trials])
    accepted = np.array([decision.accepted for decision in decisions])
    genuine, all_trials = same & expressed, np.ones_like(same)
    label_correct = np.array(
        [d.expression == embeddings.expressions[t.input] for t, d in zip(trials, decisions, strict=True)]
    )
    first = [embeddings.identities[trial.input] for trial in trials]
    second = [embeddings.identities[trial.reference] for trial in trials]
    over_people = partial(rate_over_people, first=first, second=second, seed=seed)
    kinds = {
        f"ID-{identity} Ex-{expression}": (same == identity) & (expressed == expression)
        for identity in (True, False)
        for expression in (True, False)
    }
    required_of = np.array([trial.required for trial in trials])
    reasons = Counter(
        decision.reason
        for decision, must_accept in zip(decisions, genuine, strict=True)
        if must_accept and not decision.accepted
    )
    return DecisionsReport(
        **thresholds,
        required=list(required),
        trials={name: int(mask.sum()) for name, mask in kinds.items()},
        people=len(set(first) | set(second)),
        inputs=len({trial.input for trial in trials}),
        inputs_unknown_to_model=unknown,
        acc_auth=over_people(accepted == genuine, all_trials),
        acc_verif=over_people(np.array([d.same_identity for d in decisions]) == same, all_trials),
        acc_expre=over_people(label_correct, all_trials),
        acc_live=over_people(np.array([d.expression_passed for d in decisions]) == expressed, all_trials),
        reject_all=float(np.mean(~genuine)),
        far=over_people(accepted, ~genuine),
        frr=over_people(~accepted, genuine),
        false_accepts={
            name: rate(int((accepted & mask).sum()), int(mask.sum()))
            for name, mask in kinds.items()
            if name != "ID-True Ex-True"
        },
        false_rejects=dict(reasons),
        by_expression={
            name: ExpressionRates(
                trials=int((required_of == name).sum()),
                far=over_people(accepted, ~genuine & (required_of == name)),
                frr=over_people(~accepted, genuine & (required_of == name)),
            )
            for name in required
        },
    )
