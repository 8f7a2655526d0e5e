"""Impostor pairs that are harder than those of strangers drawn at random: people of one attribute, and look-alikes.

Two strangers often differ in sex, age or complexion, and a network that sees no more than that already rejects most of
them. Who tries to pass for somebody else chooses somebody alike, so FAR and TAR are reported among such pairs as well.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.embeddings import Embeddings
from evaluation.verification import GENUINE_PER_PERSON, IMPOSTOR_PAIRS, ScoredPairs, generated_report, score_pairs
from face_data.pairs import Pair, generate_pairs

LOOK_ALIKE = "look-alike"
NEAREST = 5  # people in whom a person's look-alikes are sought
BLOCK = 1024  # people compared with all others at once


def hard_kinds(embeddings: Embeddings) -> list[str]:
    """The kinds of `hard_pairs` these people allow: look-alikes, and the attributes that part them into groups."""
    kinds = [LOOK_ALIKE] if len(set(embeddings.identities) - {None}) > 1 else []
    for name in embeddings.attributes:
        groups = Counter(_attribute_of(embeddings, name).values())
        if len(groups) > 1 and max(groups.values()) > 1:
            kinds.append(name)
    return kinds


def hard_pairs(embeddings: Embeddings, kind: str, seed: int) -> ScoredPairs:
    """The genuine pairs of `generated_pairs`, and impostor pairs among people who are alike.

    An impostor pair is drawn as there (a person, another person, a photograph of each, all equally likely), 20,000
    times, but the other person is one of those alike to the first. Of pairs drawn twice one is kept, so that few
    people give fewer pairs.

    Args:
        kind: "look-alike": the other is among the 5 people whose mean embedding is nearest by this very network. It
            is the network's own worst case: not even the people are the same for another one. Or a name of
            `embeddings.attributes`, such as "gender": the other has the same, by what most photographs of each say.

    Raises:
        ValueError: no such attribute, or no two people who are alike in it.
    """
    if kind == LOOK_ALIKE:
        alike = _look_alikes(embeddings)
    elif kind in embeddings.attributes:
        alike = _groups(_attribute_of(embeddings, kind))
    else:
        known = ", ".join([LOOK_ALIKE, *embeddings.attributes])
        raise ValueError(f"{kind!r} is no kind of hard pairs; of this corpus there are {known}")
    if not alike:
        raise ValueError(f"no two people are alike in {kind}: there is no hard pair to judge")
    genuine = generate_pairs(
        embeddings.keys, embeddings.identities, impostors=0, seed=seed, genuine_per_person=GENUINE_PER_PERSON
    )
    return score_pairs(genuine + _impostors(embeddings, alike, seed), embeddings)


def hard_report(embeddings: Embeddings, far: float, shipped_threshold: float | None, seed: int) -> dict:
    """kind -> `generated_report` of its pairs, for every kind of `hard_kinds`; empty where there is none.

    The FAR of "shipped_threshold" is that of somebody alike at the threshold calibrated on strangers.
    """
    return {
        kind: generated_report(hard_pairs(embeddings, kind, seed), far, shipped_threshold, seed)
        for kind in hard_kinds(embeddings)
    }


def _impostors(embeddings: Embeddings, alike: Mapping[str, Sequence[str]], seed: int) -> list[Pair]:
    photographs = defaultdict(list)
    for key, identity in sorted(zip(embeddings.keys, embeddings.identities, strict=True), key=lambda row: row[0]):
        photographs[identity].append(key)
    rng = np.random.default_rng(seed)
    people, drawn = sorted(alike), {}
    for _ in range(IMPOSTOR_PAIRS):
        one = other = people[rng.integers(len(people))]
        while other == one:  # a group holds the person, too
            other = alike[one][rng.integers(len(alike[one]))]
        keys = [photographs[person][rng.integers(len(photographs[person]))] for person in sorted((one, other))]
        drawn[tuple(keys)] = None
    return [Pair(0, *keys, False) for keys in drawn]


def _attribute_of(embeddings: Embeddings, name: str) -> dict[str, str]:
    """Person -> what most of the person's photographs say, the first by name of equally many; the unknown left out."""
    said = defaultdict(Counter)
    for identity, value in zip(embeddings.identities, embeddings.attributes[name], strict=True):
        if identity is not None and value is not None:
            said[identity][value] += 1
    return {person: min(counts, key=lambda value: (-counts[value], value)) for person, counts in said.items()}


def _groups(attribute_of: Mapping[str, str]) -> dict[str, list[str]]:
    """Person -> all who have the same value, the person among them; people who are alone with theirs left out."""
    members = defaultdict(list)
    for person in sorted(attribute_of):
        members[attribute_of[person]].append(person)
    return {person: group for group in members.values() if len(group) > 1 for person in group}


def _look_alikes(embeddings: Embeddings) -> dict[str, list[str]]:
    """Person -> the nearest other people by the cosine of their mean embeddings, at most NEAREST of them."""
    rows = defaultdict(list)
    for row, identity in enumerate(embeddings.identities):
        if identity is not None:
            rows[identity].append(row)
    people = sorted(rows)
    if len(people) < 2:
        return {}
    means = np.stack([embeddings.embeddings[rows[person]].mean(0) for person in people])  # (p, 1792)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    nearest, most = {}, min(NEAREST, len(people) - 1)
    for start in range(0, len(people), BLOCK):
        similarity = means[start : start + BLOCK] @ means.T  # (b, p)
        own = np.arange(len(similarity))
        similarity[own, start + own] = -np.inf
        for row, found in enumerate(np.argpartition(-similarity, most - 1, axis=1)[:, :most]):
            nearest[people[start + row]] = [people[index] for index in np.sort(found)]
    return nearest
