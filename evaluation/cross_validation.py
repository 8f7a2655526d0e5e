"""A run over ten folds of people, each judged by the network that never saw it: Tables 3 and 4 for CK+ and Oulu-CASIA.

    accelerate launch -m train --config train/presets/paper_dynamic.yaml --train corpora/ckplus --fold all
    python -m evaluation folds --model runs/paper_dynamic --data corpora/ckplus

Thresholds are chosen for each network on its validation fold, and its test fold is judged with them. Photographs of
different folds are never compared, for their embeddings come from different networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from evaluation.embeddings import Embeddings
from evaluation.expression import expression_report
from evaluation.metrics import best_threshold, rate, share_of_pairs
from evaluation.verification import ScoredPairs, curve, generated_pairs, score_pairs
from face_data.pairs import Pair


@dataclass(frozen=True)
class Fold:
    """One of the ten: its number, and what its network says of its validation fold and of its test fold."""

    number: int
    chosen: Embeddings
    judged: Embeddings


def fold_models(run: str | Path) -> dict[int, Path]:
    """Number of fold -> folder of the model chosen on its validation fold, of a `--fold all` run.

    Raises:
        FileNotFoundError: no such run.
    """
    folders = {int(path.name.removeprefix("fold-")): path / "best" for path in sorted(Path(run).glob("fold-*"))}
    if not folders:
        raise FileNotFoundError(f"{run}: no fold-01, fold-02 … there; train with --fold all and give its --out")
    for folder in folders.values():
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing: that fold's training has not ended")
    return folders


def pooled(parts: Sequence[Embeddings]) -> Embeddings:
    """Several folds' photographs as one; the embeddings of two of them must not be compared."""
    return replace(
        parts[0],
        embeddings=np.concatenate([part.embeddings for part in parts]),
        expression_probabilities=np.concatenate([part.expression_probabilities for part in parts]),
        **{
            name: [value for part in parts for value in getattr(part, name)]
            for name in ("keys", "identities", "expressions", "splits", "votes")
        },
        attributes={name: [one for part in parts for one in part.attributes[name]] for name in parts[0].attributes},
    )


def verification_of_folds(folds: Sequence[Fold], pairs: Sequence[Pair], far: float, seed: int) -> dict:
    """Accuracy of every fold at the threshold of its validation fold, and all its scores on one curve.

    Args:
        pairs: the publisher's; without any, pairs are generated among the people of each fold.

    Returns:
        "mean" and "standard_error" over folds; "accuracy", over all pairs, with its interval over people; "folds":
        "fold", "accuracy", "threshold"; "curve" (`verification.curve`) of all scores together, which takes the scale of
        the ten networks' similarities for the same.
    """
    parts, rights, rows = [], [], []
    for fold in folds:
        chosen, judged = (_scored(part, pairs, seed) for part in (fold.chosen, fold.judged))
        threshold = best_threshold(chosen.scores, chosen.same)
        right = (judged.scores >= threshold) == judged.same
        rows.append({"fold": fold.number, "accuracy": rate(int(right.sum()), len(right)), "threshold": threshold})
        parts.append(judged)
        rights.append(right)
    scored = ScoredPairs(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(ScoredPairs)))
    right = np.concatenate(rights)
    return _mean([row["accuracy"]["value"] for row in rows]) | {
        "accuracy": share_of_pairs(right, np.ones_like(right), scored.first, scored.second, seed=seed),
        "folds": rows,
        "curve": curve(scored, (far,), seed),
    }


def expression_of_folds(folds: Sequence[Fold], seed: int, mapping: dict[str, str] | None = None) -> dict:
    """`expression_report` over all folds' photographs, with "folds", "mean" and "standard_error" of the accuracy."""
    rows = []
    for fold in folds:
        accuracy = expression_report(fold.judged, seed, mapping)["accuracy"]
        rows.append({"fold": fold.number, "accuracy": accuracy})
    whole = expression_report(pooled([fold.judged for fold in folds]), seed, mapping)
    return _mean([row["accuracy"]["value"] for row in rows]) | {"folds": rows, "report": whole}


def _scored(embeddings: Embeddings, pairs: Sequence[Pair], seed: int) -> ScoredPairs:
    own = [pair for pair in pairs if str(pair.fold) in set(embeddings.splits)]
    return score_pairs(own, embeddings) if own else generated_pairs(embeddings, seed)


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "standard_error": error}
