"""The thresholds of a checkpoint, chosen on people it has never seen and stored in its config.json.

    python -m evaluation calibrate --model pretrained --data corpora/lfw --splits 9 --far 0.01

The similarity threshold is the lowest score at which the false accept rate on generated pairs stays at the stated FAR.
The expression threshold is the one of highest balanced accuracy of "required expression seen", if that betters the
config's by at least one percentage point; a smaller gain is within the noise of a few dozen photographs, and the
config's threshold then stays. Neither is ever chosen on the people a report is about.
"""

import json
import os
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np

from evaluation.embeddings import Embeddings
from evaluation.metrics import interval_of, share_of_pairs, threshold_at_far
from evaluation.verification import GENUINE_PER_PERSON, at_threshold, generated_pairs
from modeling_facelivenet import FaceLiveNetConfig
from pipeline_facelivenet import decide

LEAST_GAIN = 0.01
GRID = tuple(step / 100 for step in range(20, 100, 5))  # below 1 / 7 the most probable of 7 expressions always passes


def calibrate(
    embeddings: Embeddings,
    *,
    far: float,
    corpus: str,
    required: Sequence[str],
    expression_threshold: float,
    seen: frozenset[str] | None,
    seed: int,
) -> dict:
    """Choose both thresholds on the people of `embeddings`.

    Args:
        far: false accept rate to aim at, 0 < far < 1.
        corpus: its name, for the record.
        required: the expressions that will be asked for.
        expression_threshold: the config's.
        seen: the corpus's splits that the network was trained on; refused where the calibration people are of them.

    Returns:
        "similarity_threshold", "expression_threshold" and "calibration", the keys of config.json.

    Raises:
        ValueError: people were trained on, too few impostor pairs for this FAR, or no threshold reaches it.
    """
    splits = sorted(set(embeddings.splits))
    trained = sorted(set(splits) & (seen or set()))
    if trained:
        raise ValueError(f"the network was trained on the people of split {', '.join(trained)}: calibrate on others")
    scored = generated_pairs(embeddings, seed)
    threshold = threshold_at_far(scored.scores, scored.same, far)
    measured = at_threshold(scored, threshold, seed)
    chosen, expression = choose_expression_threshold(embeddings, required, expression_threshold, seed)
    return {
        "similarity_threshold": threshold,
        "expression_threshold": chosen,
        "calibration": {
            "target_far": far,
            "far": measured["far"]["value"],
            "far_interval": list(interval_of(measured["far"])),
            "frr": measured["frr"]["value"],
            "frr_interval": list(interval_of(measured["frr"])),
            "genuine_pairs": measured["frr"]["total"],
            "impostor_pairs": measured["far"]["total"],
            "genuine_pairs_per_person": GENUINE_PER_PERSON,
            "people": len(np.union1d(scored.first, scored.second)),
            "interval": "95 %, bootstrap over people (Wilson where no pair or every pair is an error)",
            "expression": expression,
            "corpus": corpus,
            "splits": splits,
            "train_splits_known": seen is not None,
            "seed": seed,
            "date": date.today().isoformat(),
        },
    }


def choose_expression_threshold(
    embeddings: Embeddings, required: Sequence[str], configured: float, seed: int
) -> tuple[float, dict | None]:
    """The expression threshold, and what was measured for it (None where no required expression is labelled).

    Balanced accuracy is the mean, over the required expressions that occur, of the mean of two shares: of photographs
    with that label in which it is seen, and of photographs with another label in which it is not; the record holds the
    first, "seen", and the complement of the second, "falsely_seen", of each at the threshold chosen.
    """
    rows = [row for row, name in enumerate(embeddings.expressions) if name in embeddings.classes]
    labels = np.array([embeddings.expressions[row] for row in rows])
    asked = [name for name in required if (labels == name).any() and (labels != name).any()]
    if not asked:
        return configured, None
    named = [dict(zip(embeddings.classes, p, strict=True)) for p in embeddings.expression_probabilities[rows].tolist()]

    def balanced_accuracy(threshold: float) -> float:
        sides = []
        for name in asked:
            seen = np.array([_seen(probabilities, name, threshold) for probabilities in named])
            sides += [seen[labels == name].mean(), (~seen[labels != name]).mean()]
        return float(np.mean(sides))

    def seen_rates(name: str, threshold: float) -> dict:
        seen = np.array([_seen(probabilities, name, threshold) for probabilities in named])
        people = [embeddings.identities[row] or f"unknown {row}" for row in rows]
        shared = partial(share_of_pairs, seen, first=people, second=people, seed=seed)
        return {"seen": shared(labels == name), "falsely_seen": shared(labels != name)}

    values = {threshold: balanced_accuracy(threshold) for threshold in GRID}
    best = max(values, key=lambda threshold: (values[threshold], -abs(threshold - configured)))
    before = balanced_accuracy(configured)
    chosen = best if values[best] - before >= LEAST_GAIN else configured
    return chosen, {
        "required": {
            name: seen_rates(name, chosen) for name in dict.fromkeys(["neutral", *asked])
        },  # sessions begin so
        "photographs": len(rows),
        "balanced_accuracy": balanced_accuracy(chosen),
        "configured": {"threshold": configured, "balanced_accuracy": before},
    }


def _seen(probabilities: dict[str, float], required: str, threshold: float) -> bool:
    """Whether the shipped rule sees the required expression; the identity is granted, it is not what is asked here."""
    decision = decide(
        similarity=1.0,
        threshold=0.0,
        expression_probabilities=probabilities,
        required_expression=required,
        expression_threshold=threshold,
    )
    return decision.expression_passed


def store(calibrated: dict, model_folder: Path, fingerprint: str) -> Path:
    """Write the thresholds into the checkpoint's config.json, leaving everything else as it is; returns its path.

    `fingerprint` is that of the weights they were chosen with (`FaceLiveNetModel.fingerprint`): nothing is decided by
    them with other weights. The file is replaced as a whole, after the new settings were accepted by the config class.
    """
    path = model_folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | calibrated | {"calibrated_weights": fingerprint}
    FaceLiveNetConfig.from_dict(settings)
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return path
