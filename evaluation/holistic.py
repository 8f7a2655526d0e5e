"""Face authentication judged as a whole: the protocol of the paper's section 5.2.

A trial is what a user does at the door: an input photograph, the reference photograph of whom the user claims to be,
and the expression that was asked for. It must be accepted exactly where both show one person (ID-True) *and* the input
shows that expression (Ex-True). Each trial is ONE decision, made by the rule that ships. Accuracies of the two tasks
are reported beside it, but never multiplied: mistakes of the two tasks fall on the same trials or cancel out, which no
product knows.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from evaluation.embeddings import Embeddings
from evaluation.metrics import TooLittleError, rate, share_of_pairs
from pipeline_facelivenet import Decision, decide

INPUTS_PER_PERSON = 10  # of each expression: one person of LFW's fold 10 has 530 photographs
REFERENCES, IMPOSTORS = 3, 3  # of each input: own photographs, and other people's


@dataclass(frozen=True)
class Trial:
    """input, reference: rows of the embeddings; required: the expression asked for; same: one person (ID-True);
    expressed: the input is labelled with the required expression (Ex-True)."""

    input: int
    reference: int
    required: str
    same: bool
    expressed: bool


def build_trials(embeddings: Embeddings, required: Sequence[str], seed: int) -> tuple[list[Trial], dict[str, int]]:
    """Every labelled input × its references × every required expression, the same for the same seed.

    At most 10 inputs of a person and expression; to each up to 3 other photographs of the same person, and one
    photograph of each of 3 other people, all people being as likely.

    Returns:
        the trials, and how many inputs were left out because the model does not know their label (name -> count).

    Raises:
        ValueError: the model cannot show a required expression.
    """
    for name in required:
        if name not in embeddings.classes:
            raise ValueError(f"required expression {name!r}: the model knows {', '.join(embeddings.classes)}")
    photographs, inputs, unknown = defaultdict(list), defaultdict(list), Counter()
    for row in sorted(range(len(embeddings)), key=lambda row: embeddings.keys[row]):
        person, label = embeddings.identities[row], embeddings.expressions[row]
        if person is None:
            continue
        photographs[person].append(row)
        if label in embeddings.classes:
            inputs[person, label].append(row)
        elif label is not None:
            unknown[label] += 1
    rng = np.random.default_rng(seed)
    people = sorted(photographs)
    trials = []
    for person, label in sorted(inputs):
        strangers = [other for other in people if other != person]
        for row in _some_of(inputs[person, label], INPUTS_PER_PERSON, rng):
            own = _some_of([other for other in photographs[person] if other != row], REFERENCES, rng)
            foreign = [rng.choice(photographs[other]) for other in _some_of(strangers, IMPOSTORS, rng)]
            for reference, same in [(other, True) for other in own] + [(int(other), False) for other in foreign]:
                trials += [Trial(row, reference, name, same, label == name) for name in required]
    return trials, dict(unknown)


def _some_of(items: list, most: int, rng: np.random.Generator) -> list:
    if len(items) <= most:
        return items
    return [items[index] for index in np.sort(rng.choice(len(items), most, replace=False))]


def judge(
    trials: Sequence[Trial], embeddings: Embeddings, similarity_threshold: float, expression_threshold: float
) -> list[Decision]:
    """One decision per trial, by `pipeline_facelivenet.decide`."""
    inputs, references = [trial.input for trial in trials], [trial.reference for trial in trials]
    similarities = np.einsum("nd,nd->n", embeddings.embeddings[inputs], embeddings.embeddings[references])
    named = [dict(zip(embeddings.classes, row, strict=True)) for row in embeddings.expression_probabilities.tolist()]
    return [
        decide(
            similarity=similarity,
            threshold=similarity_threshold,
            expression_probabilities=named[trial.input],
            required_expression=trial.required,
            expression_threshold=expression_threshold,
        )
        for trial, similarity in zip(trials, similarities.tolist(), strict=True)
    ]


def authentication_report(
    embeddings: Embeddings, similarity_threshold: float, expression_threshold: float, required: Sequence[str], seed: int
) -> dict:
    """The paper's Tables 7 and 8 for these photographs: `trials_report` of `build_trials`, and the two thresholds."""
    trials, unknown = build_trials(embeddings, required, seed)
    decisions = judge(trials, embeddings, similarity_threshold, expression_threshold)
    thresholds = {"similarity_threshold": similarity_threshold, "expression_threshold": expression_threshold}
    return thresholds | trials_report(embeddings, trials, decisions, unknown, required, seed)


def trials_report(
    embeddings: Embeddings,
    trials: Sequence[Trial],
    decisions: Sequence[Decision],
    unknown: dict[str, int],
    required: Sequence[str],
    seed: int,
) -> dict:
    """Tables 7 and 8 over judged trials, with false accepts and false rejects by their cause.

    Returns:
        "trials": counts as Table 7, "ID-True Ex-True" and so on; "people", "inputs": how many different ones.
        "acc_auth", "acc_verif", "acc_expre", "acc_live": Table 8 over all trials, each with its interval over people.
        acc_expre asks for the right label of the input, acc_live whether "required expression seen" is right.
        "reject_all": the acc_auth of a system that accepts nobody. "far", "frr": over the trials to reject, to accept.
        "false_accepts": accepted, by kind of trial. "false_rejects": of ID-True Ex-True, by the decision's reason.
        "by_expression": of each required one, "trials" (their number), "far" and "frr".

    Raises:
        TooLittleError: one of the four kinds of trial does not occur.
    """
    kinds = {(trial.same, trial.expressed) for trial in trials}
    if len(kinds) < 4:
        raise TooLittleError(
            "these splits cannot test authentication: they need people with several photographs, other people, and "
            f"inputs labelled {' or '.join(required)} as well as others; of the four kinds of trial {len(kinds)} occur"
        )
    same = np.array([trial.same for trial in trials])
    expressed = np.array([trial.expressed for trial in trials])
    accepted = np.array([decision.accepted for decision in decisions])
    genuine, everything = same & expressed, np.ones_like(same)
    label_right = [d.expression == embeddings.expressions[t.input] for t, d in zip(trials, decisions, strict=True)]
    first = [embeddings.identities[trial.input] for trial in trials]
    second = [embeddings.identities[trial.reference] for trial in trials]

    shared = partial(share_of_pairs, first=first, second=second, seed=seed)
    kinds = {
        f"ID-{one} Ex-{other}": (same == one) & (expressed == other) for one in (True, False) for other in (True, False)
    }
    asked = np.array([trial.required for trial in trials])
    reasons = Counter(d.reason for d, must in zip(decisions, genuine, strict=True) if must and not d.accepted)
    return {
        "required": list(required),
        "trials": {name: int(mask.sum()) for name, mask in kinds.items()},
        "people": len(set(first) | set(second)),
        "inputs": len({trial.input for trial in trials}),
        "inputs_unknown_to_model": unknown,
        "acc_auth": shared(accepted == genuine, everything),
        "acc_verif": shared(np.array([d.same_identity for d in decisions]) == same, everything),
        "acc_expre": shared(np.array(label_right), everything),
        "acc_live": shared(np.array([d.expression_passed for d in decisions]) == expressed, everything),
        "reject_all": float(np.mean(~genuine)),
        "far": shared(accepted, ~genuine),
        "frr": shared(~accepted, genuine),
        "false_accepts": {
            name: rate(int((accepted & mask).sum()), int(mask.sum()))
            for name, mask in kinds.items()
            if name != "ID-True Ex-True"
        },
        "false_rejects": dict(reasons),
        "by_expression": {
            name: {
                "trials": int((asked == name).sum()),
                "far": shared(accepted, ~genuine & (asked == name)),
                "frr": shared(~accepted, genuine & (asked == name)),
            }
            for name in required
        },
    }
