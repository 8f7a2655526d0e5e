"""Face verification: LFW's View 2 in ten folds, the identity-disjoint use of one fold, and generated pairs.

View 2 (Huang et al., UMass Amherst TR 07-49) lets everything be chosen on nine folds and judges the tenth, ten times.
Where the network itself learned from people of some folds, only the other folds are people it has never seen: the
ten-fold mean is then optimistic and is marked so. The single-fold use chooses the threshold on fold 9 and judges fold
10, once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.embeddings import Embeddings
from evaluation.metrics import (
    WeightedRoc,
    accuracy,
    best_threshold,
    identity_bootstrap,
    identity_weights,
    interval,
    rate,
    roc,
    share_of_pairs,
    tar_at_far,
    threshold_at_far,
)
from face_data.pairs import Pair, generate_pairs

CHOOSE_FOLD, REPORT_FOLD = 9, 10
IMPOSTOR_PAIRS = 20_000
GENUINE_PER_PERSON = 100  # all pairs of 14 photographs; one person of LFW's fold 10 has 530, which make 140,185
FARS = (1e-1, 1e-2, 1e-3, 1e-4)  # at which TAR is always reported; the last asks for 10,000 impostor pairs
UNSEEN = -1.0  # the similarity of a pair of which no face was found: decided as different at any useful threshold


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs with the network's similarity in [-1, 1].

    folds, scores, same: (n,). first, second: (n,) the people, equal in genuine pairs. missing: (n,) pairs with a
    photograph that the corpus lacks because no face was found in it; their score is -1.
    """

    folds: np.ndarray
    scores: np.ndarray
    same: np.ndarray
    first: np.ndarray
    second: np.ndarray
    missing: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def where(self, mask: np.ndarray) -> "ScoredPairs":
        return ScoredPairs(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))


def score_pairs(pairs: Sequence[Pair], embeddings: Embeddings) -> ScoredPairs:
    """Cosine similarity of every pair; pairs whose photograph the preparation skipped get -1 and are marked."""
    if not pairs:
        raise ValueError("there is no pair to judge")
    row_of = {key: row for row, key in enumerate(embeddings.keys)}
    rows = np.array([[row_of.get(pair.first, -1), row_of.get(pair.second, -1)] for pair in pairs])
    missing = (rows < 0).any(1)
    scores = np.full(len(pairs), UNSEEN)
    left, right = embeddings.embeddings[rows[~missing, 0]], embeddings.embeddings[rows[~missing, 1]]
    scores[~missing] = np.clip(np.einsum("nd,nd->n", left, right, dtype=np.float64), -1, 1)
    people = [_people(pair, *found, embeddings.identities) for pair, found in zip(pairs, rows.tolist(), strict=True)]
    return ScoredPairs(
        folds=np.array([pair.fold for pair in pairs]),
        scores=scores,
        same=np.array([pair.same for pair in pairs]),
        first=np.array([one for one, _ in people]),
        second=np.array([other for _, other in people]),
        missing=missing,
    )


def _people(pair: Pair, first: int, second: int, identities: Sequence[str | None]) -> tuple[str, str]:
    """The identities of a pair; a photograph that is not in the corpus, or nameless there, stands for itself."""
    one = identities[first] if first >= 0 else None
    other = identities[second] if second >= 0 else None
    if pair.same:
        one = other = one or other or pair.first
    return one or pair.first, other or pair.second


def ten_folds(scored: ScoredPairs, train_splits: frozenset[str] | None) -> dict:
    """Mean accuracy ± standard error over folds, each at the threshold that is best on all the others.

    Args:
        train_splits: folds whose people the network learned from; None where nobody recorded it.

    Returns:
        "mean", "standard_error", "folds" (accuracy as a rate, threshold, "trained_on" per fold), "optimistic" (True
        where any fold was trained on, None where it is unknown), "unseen_mean" over the folds not trained on.
    """
    folds = []
    for fold in np.unique(scored.folds):
        test, others = scored.where(scored.folds == fold), scored.where(scored.folds != fold)
        threshold = best_threshold(others.scores, others.same)
        right = round(accuracy(test.scores, test.same, threshold) * len(test))
        judged = {"fold": int(fold), "accuracy": rate(right, len(test)), "threshold": threshold}
        folds.append(judged | {"trained_on": None if train_splits is None else str(fold) in train_splits})
    values = np.array([fold["accuracy"]["value"] for fold in folds])
    unseen = [value for fold, value in zip(folds, values, strict=True) if fold["trained_on"] is False]
    return {
        "mean": float(values.mean()),
        "standard_error": float(values.std(ddof=1) / np.sqrt(len(values))),
        "pairs": len(scored),
        "missing_pairs": int(scored.missing.sum()),
        "optimistic": None if train_splits is None else any(fold["trained_on"] for fold in folds),
        "unseen_mean": float(np.mean(unseen)) if unseen else None,
        "folds": folds,
    }


def single_fold(scored: ScoredPairs, far: float, shipped_threshold: float | None, seed: int) -> dict:
    """Fold 10 judged once, with thresholds from fold 9; "shipped" is the checkpoint's own calibrated threshold."""
    chosen_on, judged = (scored.where(scored.folds == fold) for fold in (CHOOSE_FOLD, REPORT_FOLD))
    if not len(chosen_on) or not len(judged):
        raise ValueError(f"the pairs have no fold {CHOOSE_FOLD} or {REPORT_FOLD}; they have {np.unique(scored.folds)}")
    best = best_threshold(chosen_on.scores, chosen_on.same)
    result = curve(judged, (far,), seed) | {
        "best_accuracy_threshold": at_threshold(judged, best, seed),
        "far_threshold": at_threshold(judged, threshold_at_far(chosen_on.scores, chosen_on.same, far), seed),
    }
    if shipped_threshold is not None:
        result["shipped_threshold"] = at_threshold(judged, shipped_threshold, seed)
    return result


def generated_report(scored: ScoredPairs, far: float, shipped_threshold: float | None, seed: int) -> dict:
    """`generated_pairs` judged: there are enough impostor pairs for a tenth of the FAR, too. No accuracy is reported,
    because it would be that of the ten times more numerous impostor pairs."""
    result = curve(scored, (far, far / 10), seed)
    if shipped_threshold is not None:
        point = at_threshold(scored, shipped_threshold, seed)
        result["shipped_threshold"] = {name: point[name] for name in ("threshold", "far", "frr")}
    return result


def generated_pairs(embeddings: Embeddings, seed: int) -> ScoredPairs:
    """All genuine pairs (at most 100 a person) and 20,000 impostor pairs among the people of `embeddings`.

    Reports and calibration share them.
    """
    pairs = generate_pairs(
        embeddings.keys,
        embeddings.identities,
        impostors=IMPOSTOR_PAIRS,
        seed=seed,
        genuine_per_person=GENUINE_PER_PERSON,
    )
    return score_pairs(pairs, embeddings)


def curve(scored: ScoredPairs, fars: Sequence[float], seed: int) -> dict:
    """What needs no threshold: area under the ROC, equal error rate and TAR at several FARs on this very ROC.

    Args:
        fars: the false accept rates asked for; those of FARS that are not among them follow.

    Returns:
        "genuine_pairs", "impostor_pairs", "missing_pairs" and "people" (counts), "auc" and "eer", "auc_interval" and
        "eer_interval" (95 % over people; None where the number is 0 or 1, because no draw of these people could show
        anything else), and "tar_at_far": a `tar_at_far` rate per FAR, with "bootstrap" where it has a value.
    """
    whole = roc(scored.scores, scored.same)
    fars = [*fars, *(far for far in FARS if not np.isclose(far, fars).any())]
    tars = [tar_at_far(scored.scores, scored.same, far) for far in fars]
    weighted = WeightedRoc(scored.scores, scored.same)
    draws = np.array([weighted(weights, fars) for weights in identity_weights(scored.first, scored.second, seed=seed)])
    for tar, values in zip(tars, draws.T[2:], strict=True):
        if tar["value"] is not None:
            tar["bootstrap"] = interval(values)
    return {
        "genuine_pairs": int(scored.same.sum()),
        "impostor_pairs": int((~scored.same).sum()),
        "missing_pairs": int(scored.missing.sum()),
        "people": len(np.union1d(scored.first, scored.second)),
        "auc": whole.auc,
        "auc_interval": interval(draws[:, 0]) if 0 < whole.auc < 1 else None,
        "eer": whole.eer,
        "eer_interval": interval(draws[:, 1]) if 0 < whole.eer < 1 else None,
        "tar_at_far": tars,
    }


def at_threshold(scored: ScoredPairs, threshold: float, seed: int) -> dict:
    """Accuracy, FAR and FRR at a threshold that was chosen elsewhere: counts, Wilson and bootstrap intervals."""
    accepted, same = scored.scores >= threshold, scored.same
    judged = {
        "accuracy": (accepted == same, np.ones_like(same)),
        "far": (accepted, ~same),
        "frr": (~accepted, same),
    }
    return {"threshold": threshold} | {
        name: share_of_pairs(hits, among, scored.first, scored.second, seed=seed)
        for name, (hits, among) in judged.items()
    }
