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
    photograph that the corpus lacks because no face was found in it; their score is -1. splits: (n, 2) of the corpus,
    where the two photographs are; "" where they are not.
    """

    folds: np.ndarray
    scores: np.ndarray
    same: np.ndarray
    first: np.ndarray
    second: np.ndarray
    missing: np.ndarray
    splits: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def where(self, mask: np.ndarray) -> "ScoredPairs":
        return ScoredPairs(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))


def score_pairs(pairs: Sequence[Pair], embeddings: Embeddings) -> ScoredPairs:
    """Cosine similarity of every pair of photographs or of videos; pairs that cannot be seen get -1 and are marked.

    A name that is no photograph's key but that of a folder of them is a video (YouTube Faces' `Name/0`, whose frames
    are `Name/0/…`): it is represented by the mean of its frames' embeddings, normalised again. Frames without a found
    face are left out of it; a pair is missing where no frame is left, or where the photograph was skipped.
    """
    if not pairs:
        raise ValueError("there is no pair to judge")
    names = sorted({name for pair in pairs for name in (pair.first, pair.second)})
    place = {name: index for index, name in enumerate(names)}
    templates, people, splits = _templates(names, embeddings)
    found = np.array([template is not None for template in templates])
    sides = np.array([[place[pair.first], place[pair.second]] for pair in pairs])
    missing = ~found[sides].all(1)
    scores = np.full(len(pairs), UNSEEN)
    for row in np.flatnonzero(~missing):
        one, other = sides[row]
        scores[row] = np.einsum("d,d->", templates[one], templates[other], dtype=np.float64)
    shown = [_people(pair, people[one], people[other]) for pair, (one, other) in zip(pairs, sides, strict=True)]
    return ScoredPairs(
        folds=np.array([pair.fold for pair in pairs]),
        scores=np.clip(scores, -1, 1),
        same=np.array([pair.same for pair in pairs]),
        first=np.array([one for one, _ in shown]),
        second=np.array([other for _, other in shown]),
        missing=missing,
        splits=np.array(splits)[sides],
    )


def _templates(names: Sequence[str], embeddings: Embeddings) -> tuple[list, list, list]:
    """What stands for each photograph or video, (1792,) of length 1, its person and its split.

    Where no face was found they are None, None and "".
    """
    rows_of = {key: [row] for row, key in enumerate(embeddings.keys)}
    videos = set(names) - rows_of.keys()
    for row, key in enumerate(embeddings.keys):
        if (video := key.rpartition("/")[0]) in videos:
            rows_of.setdefault(video, []).append(row)
    templates, people, splits = [], [], []
    for name in names:
        rows = rows_of.get(name)
        template = None if rows is None else embeddings.embeddings[rows[0]]
        if name in videos and rows:
            template = embeddings.embeddings[rows].mean(0, dtype=np.float64)
            # Frames that cancel each other out leave no direction: such a video is like nobody.
            template /= max(np.linalg.norm(template), 1e-12)
        templates.append(template)
        people.append(None if rows is None else embeddings.identities[rows[0]])
        splits.append("" if rows is None else embeddings.splits[rows[0]] or "")
    return templates, people, splits


def _people(pair: Pair, one: str | None, other: str | None) -> tuple[str, str]:
    """The identities of a pair; a photograph that is not in the corpus, or nameless there, stands for itself."""
    if pair.same:
        one = other = one or other or pair.first
    return one or pair.first, other or pair.second


def ten_folds(scored: ScoredPairs, seen: frozenset[str] | None, seed: int = 0) -> dict:
    """Mean accuracy ± standard error over folds, each at the threshold that is best on all the others.

    The standard error is View 2's own; it has only ten numbers to go by. "bootstrap" is the 95 % interval of the same
    mean when people are drawn again: the thresholds stay as they were chosen, and a fold of which nobody was drawn is
    left out of the mean. It is None where all pairs, or none, are decided rightly.

    Args:
        seen: the corpus's splits that the network was trained on; None where nobody recorded it.

    Returns:
        "mean", "standard_error", "bootstrap", "pairs", "missing_pairs", "folds" (accuracy as a rate, threshold,
        "trained_on" per fold), "optimistic" (True where any fold was trained on, None where it is unknown),
        "unseen_mean" over the folds not trained on.

    Raises:
        ValueError: all pairs are of one fold, so that there is no other to choose its threshold on.
    """
    names, fold_of = np.unique(scored.folds, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"the pairs have one fold only, {names[0]}: a threshold is chosen on the other folds")
    right, folds = np.zeros(len(scored), dtype=bool), []
    for place, fold in enumerate(names):
        test = fold_of == place
        threshold = best_threshold(scored.scores[~test], scored.same[~test])
        right[test] = (scored.scores[test] >= threshold) == scored.same[test]
        judged = {"fold": int(fold), "accuracy": rate(int(right[test].sum()), int(test.sum())), "threshold": threshold}
        # By their photographs' splits, not the fold's number: in the authors' pairs files the two are unrelated.
        trained = None if seen is None else bool(np.isin(scored.splits[test], list(seen)).any())
        folds.append(judged | {"trained_on": trained})

    def mean_accuracy(weights: np.ndarray) -> float:
        drawn, hits = (np.bincount(fold_of, weights * counted) for counted in (1, right))
        return float(np.mean(hits[drawn > 0] / drawn[drawn > 0])) if drawn.any() else float("nan")

    values = np.array([fold["accuracy"]["value"] for fold in folds])
    unseen = [value for fold, value in zip(folds, values, strict=True) if fold["trained_on"] is False]
    mixed = right.any() and not right.all()
    return {
        "mean": float(values.mean()),
        "standard_error": float(values.std(ddof=1) / np.sqrt(len(values))),
        "bootstrap": identity_bootstrap(mean_accuracy, scored.first, scored.second, seed=seed) if mixed else None,
        "pairs": len(scored),
        "missing_pairs": int(scored.missing.sum()),
        "optimistic": None if seen is None else any(fold["trained_on"] for fold in folds),
        "unseen_mean": float(np.mean(unseen)) if unseen else None,
        "folds": folds,
    }


def single_fold(scored: ScoredPairs, far: float, shipped_threshold: float | None, seed: int) -> dict:
    """Fold 10 judged once, with thresholds from fold 9; "shipped" is the checkpoint's own calibrated threshold.

    Returns:
        `curve` of fold 10 and, each as `at_threshold` gives it, "best_accuracy_threshold", "far_threshold" and, where
        there is one, "shipped_threshold". Where fold 9 has no threshold for this FAR (CK+ has about 98 impostor
        pairs a fold, too few for 1 %), "far_threshold" is left out and "far_threshold_reason" says why.
    """
    chosen_on, judged = (scored.where(scored.folds == fold) for fold in (CHOOSE_FOLD, REPORT_FOLD))
    if not len(chosen_on) or not len(judged):
        raise ValueError(f"the pairs have no fold {CHOOSE_FOLD} or {REPORT_FOLD}; they have {np.unique(scored.folds)}")
    best = best_threshold(chosen_on.scores, chosen_on.same)
    result = curve(judged, (far,), seed) | {
        "best_accuracy_threshold": at_threshold(judged, best, seed),
    }
    try:
        chosen = threshold_at_far(chosen_on.scores, chosen_on.same, far)
    except ValueError as error:
        result["far_threshold_reason"] = f"fold {CHOOSE_FOLD}: {error}"
    else:
        result["far_threshold"] = at_threshold(judged, chosen, seed)
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
    """`draw_pairs`, scored. Reports and calibration share them."""
    return score_pairs(draw_pairs(embeddings, seed), embeddings)


def draw_pairs(embeddings: Embeddings, seed: int) -> list[Pair]:
    """All genuine pairs (at most 100 a person) and 20,000 impostor pairs among the people of `embeddings`."""
    return generate_pairs(
        embeddings.keys,
        embeddings.identities,
        impostors=IMPOSTOR_PAIRS,
        seed=seed,
        genuine_per_person=GENUINE_PER_PERSON,
    )


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
