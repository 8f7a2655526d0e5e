"""Face authentication as a whole: the protocol of the paper's section 5.2.

A trial is one attempt to log in: an input image, a reference image of the claimed person, and the requested expression.
It must be accepted if both images show one person (ID-True) *and* the input shows the expression (Ex-True), and
rejected otherwise. The shipped rule makes ONE joint decision per trial. The accuracies of the two tasks are reported as
well, but never multiplied: a product ignores that both tasks may fail in the same trials. `corpus` calls
`evaluate_decisions`; `folds` uses its parts.
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

INPUTS_PER_PERSON = 10  # for each expression; one person of LFW's fold 10 has 530 images
REFERENCES, IMPOSTORS = 3, 3  # for each input: other images of the same person, images of other people


@dataclass(frozen=True)
class Trial:
    """input, reference: rows of the embeddings. required: the requested expression. same: both images show one person
    (ID-True). expressed: the input is labelled with the required expression (Ex-True)."""

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

    trials: counts as in Table 7, "ID-True Ex-True" and so on. people, inputs: numbers of different ones. acc_auth,
    acc_verif, acc_expre, acc_live: Table 8 over all trials, with intervals over people. acc_expre is the accuracy of
    the input's expression, acc_live that of "the required expression is seen". reject_all: the acc_auth of a system
    that accepts nobody. far: over the trials that must be rejected. frr: over those that must be accepted.
    false_accepts: kind of trial -> rate. false_rejects: reason of the decision -> count. inputs_unknown_to_model: label
    that the model does not have -> number of inputs left out.
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
    """Every labelled input × its references × every required expression; reproducible for a seed.

    There are at most 10 inputs per person and expression. The references of an input are up to 3 other images of the
    same person, and one image each of 3 other people, who are drawn uniformly.

    Returns:
        The trials, and the inputs left out because the model does not have their label (name -> count).

    Raises:
        ValueError: the model does not have a required expression.
    """
    for name in required:
        if name not in embeddings.classes:
            raise ValueError(f"required expression {name!r}: the model knows {', '.join(embeddings.classes)}")
    images, inputs, unknown_labels = defaultdict(list), defaultdict(list), Counter()
    for row in sorted(range(len(embeddings)), key=lambda row: embeddings.keys[row]):
        person, label = embeddings.identities[row], embeddings.expressions[row]
        if person is None:
            continue
        images[person].append(row)
        if label in embeddings.classes:
            inputs[person, label].append(row)
        elif label is not None:
            unknown_labels[label] += 1
    rng = np.random.default_rng(seed)
    people = sorted(images)
    trials = []
    for person, label in sorted(inputs):
        other_people = [name for name in people if name != person]
        for row in _sample(inputs[person, label], INPUTS_PER_PERSON, rng):
            genuine = _sample([image for image in images[person] if image != row], REFERENCES, rng)
            impostors = [int(rng.choice(images[name])) for name in _sample(other_people, IMPOSTORS, rng)]
            for reference, same in [(image, True) for image in genuine] + [(image, False) for image in impostors]:
                trials += [Trial(row, reference, name, same, label == name) for name in required]
    return trials, dict(unknown_labels)


def _sample(items: list, limit: int, rng: np.random.Generator) -> list:
    if len(items) <= limit:
        return items
    return [items[index] for index in np.sort(rng.choice(len(items), limit, replace=False))]


def decide_trials(
    trials: Sequence[Trial], embeddings: Embeddings, similarity_threshold: float, expression_threshold: float
) -> list[Decision]:
    """One decision per trial, by `pipeline_facelivenet.decide`."""
    inputs, references = [trial.input for trial in trials], [trial.reference for trial in trials]
    similarities = np.einsum("nd,nd->n", embeddings.embeddings[inputs], embeddings.references[references])
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
    trials, unknown_labels = build_trials(embeddings, required, seed)
    decisions = decide_trials(trials, embeddings, similarity_threshold, expression_threshold)
    return trials_report(
        embeddings,
        trials,
        decisions,
        unknown_labels,
        required,
        seed,
        similarity_threshold=similarity_threshold,
        expression_threshold=expression_threshold,
    )


def trials_report(
    embeddings: Embeddings,
    trials: Sequence[Trial],
    decisions: Sequence[Decision],
    unknown_labels: dict[str, int],
    required: Sequence[str],
    seed: int,
    **thresholds: float,
) -> DecisionsReport:
    """Tables 7 and 8 of decided trials.

    Args:
        thresholds: fields of the report with these names, if all trials have the same thresholds.

    Raises:
        InsufficientDataError: one of the four kinds of trial does not occur.
    """
    kinds_present = {(trial.same, trial.expressed) for trial in trials}
    if len(kinds_present) < 4:
        raise InsufficientDataError(
            f"these splits cannot test authentication: only {len(kinds_present)} of the four kinds of trial occur. "
            "They need people with several images, other people, and inputs that are labelled "
            f"{' or '.join(required)} as well as inputs with other labels"
        )
    same = np.array([trial.same for trial in trials])
    expressed = np.array([trial.expressed for trial in trials])
    accepted = np.array([decision.accepted for decision in decisions])
    genuine, all_trials = same & expressed, np.ones_like(same)
    label_correct = np.array(
        [d.expression == embeddings.expressions[t.input] for t, d in zip(trials, decisions, strict=True)]
    )
    input_people = [embeddings.identities[trial.input] for trial in trials]
    reference_people = [embeddings.identities[trial.reference] for trial in trials]
    over_people = partial(rate_over_people, first=input_people, second=reference_people, seed=seed)
    kinds = {
        f"ID-{identity} Ex-{expression}": (same == identity) & (expressed == expression)
        for identity in (True, False)
        for expression in (True, False)
    }
    required_expressions = np.array([trial.required for trial in trials])
    reasons = Counter(
        decision.reason
        for decision, must_accept in zip(decisions, genuine, strict=True)
        if must_accept and not decision.accepted
    )
    return DecisionsReport(
        **thresholds,
        required=list(required),
        trials={name: int(mask.sum()) for name, mask in kinds.items()},
        people=len(set(input_people) | set(reference_people)),
        inputs=len({trial.input for trial in trials}),
        inputs_unknown_to_model=unknown_labels,
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
                trials=int((required_expressions == name).sum()),
                far=over_people(accepted, ~genuine & (required_expressions == name)),
                frr=over_people(~accepted, genuine & (required_expressions == name)),
            )
            for name in required
        },
    )
