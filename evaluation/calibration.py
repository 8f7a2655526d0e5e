"""The thresholds of a checkpoint, chosen on people it has never seen, and stored in its config.json.

    python -m evaluation calibrate --model pretrained --data corpora/lfw:9 corpora/ferplus:valid --far 0.001

The similarity threshold is the lowest score at which the false accept rate on generated pairs is not above the
requested one. Pairs are generated within each corpus that has identities.

The expression threshold decides whether "the required expression is seen". The candidate with the highest balanced
accuracy over the labelled images of all corpora is chosen, if it improves on the config's threshold by at least one
percentage point. A smaller gain is within the noise of a few dozen images; then the config's threshold is kept.

Never calibrate on people that a report evaluates. `command` calls `calibrate` and `store`.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np

import atomic
from evaluation.embeddings.table import Embeddings, concatenate
from evaluation.protocols.operating_points import at_threshold
from evaluation.protocols.pairs import GENUINE_PER_PERSON, concatenate_pairs, generated_pairs
from evaluation.statistics.curves import threshold_at_far
from evaluation.statistics.intervals import rate_over_people
from evaluation.statistics.rates import Count, InsufficientDataError, Interval, Rate, Share, result
from modeling_facelivenet import FaceLiveNetConfig
from pipeline_facelivenet import decide

MIN_GAIN = 0.01
# At 1 / 7 or less the most probable of 7 expressions always passes.
CANDIDATE_THRESHOLDS = tuple(step / 100 for step in range(20, 100, 5))


@result
class SeenRates:
    """seen: share of the images with this label in which the expression is seen. falsely_seen: share of the images with
    another label in which it is seen."""

    seen: Rate
    falsely_seen: Rate


@result
class Configured:
    """The threshold before the calibration, and its balanced accuracy."""

    threshold: float
    balanced_accuracy: Share


@result
class ExpressionCalibration:
    """required: expression -> rates at the chosen threshold, for neutral (every session starts with it) and for the
    expressions that a session may request. others: the same for the model's other labelled expressions, which shows
    which of them could be requested as well. corpora: name -> splits of the labelled images."""

    required: dict[str, SeenRates]
    others: dict[str, SeenRates]
    photographs: Count
    corpora: dict[str, list[str]]
    balanced_accuracy: Share
    configured: Configured


@result
class CalibrationRecord:
    """Where the thresholds come from. corpora: name -> splits on which the similarity threshold was chosen."""

    target_far: Share
    far: Share
    far_interval: Interval
    frr: Share
    frr_interval: Interval
    genuine_pairs: Count
    impostor_pairs: Count
    genuine_pairs_per_person: Count
    people: Count
    interval: str
    expression: ExpressionCalibration | None
    corpora: dict[str, list[str]]
    train_splits_known: bool
    seed: int
    date: str


@result
class Calibration:
    """The keys of config.json that a calibration sets."""

    similarity_threshold: float
    expression_threshold: float
    calibration: CalibrationRecord


def calibrate(
    corpora: Mapping[str, Embeddings],
    *,
    far: float,
    required: Sequence[str],
    expression_threshold: float,
    trained_on: Mapping[str, Sequence[str]] | None,
    seed: int,
) -> Calibration:
    """Choose both thresholds on the people of these corpora together.

    Args:
        corpora: name -> embeddings, all of the same network.
        far: false accept rate to aim at, 0 < far < 1.
        required: the expressions that a session may request.
        expression_threshold: the config's.
        trained_on: source of images -> splits on which the network was trained; calibrating on these is refused. None
            if that is not recorded.

    Raises:
        ValueError: the network was trained on these people, no corpus has identities, there are too few impostor pairs
            for this FAR, or no threshold reaches it.
    """
    for name, embeddings in corpora.items():
        overlap = sorted(set(embeddings.splits) & (embeddings.trained_splits(trained_on) or set()))
        if overlap:
            raise ValueError(
                f"the network was trained on {name}, split {', '.join(overlap)}: calibrate on other people"
            )
    with_people = {name: table for name, table in corpora.items() if len(set(table.identities) - {None}) > 1}
    if not with_people:
        raise InsufficientDataError(f"{', '.join(corpora)}: no identities to choose the similarity threshold on")
    scored = concatenate_pairs([generated_pairs(table, seed) for table in with_people.values()])
    threshold = threshold_at_far(scored.scores, scored.same, far)
    rates = at_threshold(scored, threshold, seed)
    chosen_expression_threshold, expression = choose_expression_threshold(corpora, required, expression_threshold, seed)
    record = CalibrationRecord(
        target_far=far,
        far=rates.far.value,
        far_interval=rates.far.interval,
        frr=rates.frr.value,
        frr_interval=rates.frr.interval,
        genuine_pairs=rates.frr.total,
        impostor_pairs=rates.far.total,
        genuine_pairs_per_person=GENUINE_PER_PERSON,
        people=len(np.union1d(scored.first, scored.second)),
        interval="95 %, bootstrap over people (Wilson where no pair or every pair is an error)",
        expression=expression,
        corpora={name: sorted(set(table.splits)) for name, table in with_people.items()},
        train_splits_known=trained_on is not None,
        seed=seed,
        date=date.today().isoformat(),
    )
    return Calibration(
        similarity_threshold=threshold, expression_threshold=chosen_expression_threshold, calibration=record
    )


def choose_expression_threshold(
    corpora: Mapping[str, Embeddings], required: Sequence[str], configured: float, seed: int
) -> tuple[float, ExpressionCalibration | None]:
    """The expression threshold, and its measurement (None if no required expression is labelled).

    Balanced accuracy is the mean of two shares, averaged over the required expressions that occur: the share of images
    with the label in which the expression is seen, and of images with another label in which it is not seen.
    """
    embeddings = concatenate(list(corpora.values()))
    rows = [row for row, name in enumerate(embeddings.expressions) if name in embeddings.classes]
    labels = np.array([embeddings.expressions[row] for row in rows])
    present = [name for name in embeddings.classes if (labels == name).any() and (labels != name).any()]
    measured = [name for name in required if name in present]
    if not measured:
        return configured, None
    probabilities_by_name = embeddings.probabilities_by_name
    probabilities = [probabilities_by_name[row] for row in rows]
    people = [embeddings.identities[row] or f"unknown {row}" for row in rows]

    def is_seen_in_rows(name: str, threshold: float) -> np.ndarray:
        return np.array([_sees_expression(row_probabilities, name, threshold) for row_probabilities in probabilities])

    def balanced_accuracy(threshold: float) -> float:
        shares = []
        for name in measured:
            hits = is_seen_in_rows(name, threshold)
            shares += [hits[labels == name].mean(), (~hits[labels != name]).mean()]
        return float(np.mean(shares))

    def rates(name: str, threshold: float) -> SeenRates:
        hits = is_seen_in_rows(name, threshold)
        return SeenRates(
            seen=rate_over_people(hits, labels == name, people, people, seed=seed),
            falsely_seen=rate_over_people(hits, labels != name, people, people, seed=seed),
        )

    accuracies = {threshold: balanced_accuracy(threshold) for threshold in CANDIDATE_THRESHOLDS}
    best = max(accuracies, key=lambda threshold: (accuracies[threshold], -abs(threshold - configured)))
    configured_accuracy = balanced_accuracy(configured)
    chosen = best if accuracies[best] - configured_accuracy >= MIN_GAIN else configured
    requested = list(dict.fromkeys(["neutral", *measured]))
    return chosen, ExpressionCalibration(
        required={name: rates(name, chosen) for name in requested},
        others={name: rates(name, chosen) for name in present if name not in requested},
        photographs=len(rows),
        corpora={
            name: sorted(set(table.splits))
            for name, table in corpora.items()
            if any(label in table.classes for label in table.expressions)
        },
        balanced_accuracy=balanced_accuracy(chosen),
        configured=Configured(threshold=configured, balanced_accuracy=configured_accuracy),
    )


def _sees_expression(probabilities: dict[str, float], required: str, threshold: float) -> bool:
    """Whether the shipped rule sees the required expression. The similarity always passes here."""
    decision = decide(
        similarity=1.0,
        threshold=0.0,
        expression_probabilities=probabilities,
        required_expression=required,
        expression_threshold=threshold,
    )
    return decision.expression_passed


def store(settings: dict, folder: Path) -> Path:
    """Write settings into a checkpoint's config.json and keep its other keys; returns the file's path.

    The file is replaced atomically, after the config class accepted the new settings.
    """
    path = folder / "config.json"
    merged = json.loads(path.read_text(encoding="utf-8")) | settings
    FaceLiveNetConfig.from_dict(merged)
    atomic.write(path, (json.dumps(merged, indent=2, ensure_ascii=False) + "\n").encode())
    return path
