"""Pairs of images or videos with the network's similarity: the publisher's pairs, and generated ones.

The calibration and every protocol that verifies identities use them. Read `operating_points` next, which evaluates
pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.embeddings.table import Embeddings
from face_data.pairs import Pair, generate_pairs
from pipeline_facelivenet import mean_embedding

IMPOSTOR_PAIRS = 20_000
GENUINE_PER_PERSON = 100  # 14 images make 91 pairs; the 530 of one person of LFW's fold 10 make 140,185
MISSING_SCORE = -1.0  # score of a pair without a detected face: any useful threshold rejects it


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs with the network's similarity in [-1, 1].

    folds, scores, same: (n,). first, second: (n,) the people, equal in genuine pairs. missing: (n,) true for pairs
    with an image that the corpus lacks because no face was found in it; their score is -1. splits: (n, 2) the split of
    each image; "" for a missing image.
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

    def select(self, mask: np.ndarray) -> "ScoredPairs":
        """The pairs of this mask (n,) or of these indices."""
        return ScoredPairs(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))


def concatenate_pairs(parts: Sequence[ScoredPairs]) -> ScoredPairs:
    """All pairs of several lists."""
    return ScoredPairs(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ScoredPairs.__dataclass_fields__)
    )


def score_pairs(pairs: Sequence[Pair], embeddings: Embeddings) -> ScoredPairs:
    """Similarity of every pair of images or videos; pairs without a face get -1 and are marked as missing.

    The first of a pair is the reference, and the second the probe.

    A name that is the folder of several images is a video, such as `Name/0` of YouTube Faces, whose frames are
    `Name/0/…`. Its embedding is the `mean_embedding` of its frames. Frames without a face are left out. A pair is
    missing if a video has no frame left, or if an image was skipped.
    """
    if not pairs:
        raise ValueError("there is no pair to evaluate")
    names = sorted({name for pair in pairs for name in (pair.first, pair.second)})
    index_by_name = {name: index for index, name in enumerate(names)}
    references, probes, people, splits = _sides(names, embeddings)
    has_embedding = np.array([probe is not None for probe in probes])
    sides = np.array([[index_by_name[pair.first], index_by_name[pair.second]] for pair in pairs])
    missing = ~has_embedding[sides].all(1)
    scores = np.full(len(pairs), MISSING_SCORE)
    for row in np.flatnonzero(~missing):
        first, second = sides[row]
        scores[row] = np.einsum("d,d->", references[first], probes[second], dtype=np.float64)
    identities = [
        _identities(pair, people[first], people[second]) for pair, (first, second) in zip(pairs, sides, strict=True)
    ]
    return ScoredPairs(
        folds=np.array([pair.fold for pair in pairs]),
        scores=np.clip(scores, -1, 1),
        same=np.array([pair.same for pair in pairs]),
        first=np.array([first for first, _ in identities]),
        second=np.array([second for _, second in identities]),
        missing=missing,
        splits=np.array(splits)[sides],
    )


def generated_pairs(embeddings: Embeddings, seed: int) -> ScoredPairs:
    """The pairs of `draw_pairs`, scored. Reports and calibration use the same pairs."""
    return score_pairs(draw_pairs(embeddings, seed), embeddings)


def draw_pairs(embeddings: Embeddings, seed: int) -> list[Pair]:
    """All genuine pairs (at most 100 per person) and 20,000 impostor pairs among the people of `embeddings`."""
    return generate_pairs(
        embeddings.keys,
        embeddings.identities,
        impostors=IMPOSTOR_PAIRS,
        seed=seed,
        genuine_per_person=GENUINE_PER_PERSON,
    )


def _sides(names: Sequence[str], embeddings: Embeddings) -> tuple[list, list, list, list]:
    """For each image or video: its embeddings (d,) as a reference and as a probe, its person and its split.

    They are None, None, None and "" if no face was found.
    """
    rows_by_name = {key: [row] for row, key in enumerate(embeddings.keys)}
    videos = set(names) - rows_by_name.keys()
    for row, key in enumerate(embeddings.keys):
        if (video := key.rpartition("/")[0]) in videos:
            rows_by_name.setdefault(video, []).append(row)
    references, probes, people, splits = [], [], [], []
    for name in names:
        rows = rows_by_name.get(name)
        for side, vectors in ((references, embeddings.references), (probes, embeddings.embeddings)):
            of_name = None if rows is None else vectors[rows[0]]
            side.append(mean_embedding(vectors[rows]) if name in videos and rows else of_name)
        people.append(None if rows is None else embeddings.identities[rows[0]])
        splits.append("" if rows is None else embeddings.splits[rows[0]] or "")
    return references, probes, people, splits


def _identities(pair: Pair, first: str | None, second: str | None) -> tuple[str, str]:
    """The identities of a pair. An image without an identity counts as a separate person."""
    if pair.same:
        first = second = first or second or pair.first
    return first or pair.first, second or pair.second
