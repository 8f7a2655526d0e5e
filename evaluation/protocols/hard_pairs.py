"""Impostor pairs that are harder than random ones: people who share an attribute, and look-alikes.

Two random people often differ in sex, age or skin tone. A network that recognises only these already rejects most
random impostor pairs. An attacker chooses a similar person, so `verification` also reports FAR and TAR on such pairs.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.embeddings.table import Embeddings
from evaluation.protocols.pairs import GENUINE_PER_PERSON, IMPOSTOR_PAIRS, ScoredPairs, score_pairs
from face_data.pairs import Pair, generate_pairs
from pipeline_facelivenet import mean_embedding

LOOK_ALIKE = "look-alike"
NEAREST = 5  # look-alikes of each person
BLOCK = 1024  # number of people who are compared with all others at a time


def hard_kinds(embeddings: Embeddings) -> list[str]:
    """The kinds of `hard_pairs` that these people allow: look-alikes, and attributes that divide them into groups."""
    kinds = [LOOK_ALIKE] if len(set(embeddings.identities) - {None}) > 1 else []
    for name in embeddings.attributes:
        groups = Counter(_majority_attribute(embeddings, name).values())
        if len(groups) > 1 and max(groups.values()) > 1:
            kinds.append(name)
    return kinds


def hard_pairs(embeddings: Embeddings, kind: str, seed: int) -> ScoredPairs:
    """The genuine pairs of `generated_pairs`, and impostor pairs among similar people.

    As there, 20,000 impostor pairs are drawn uniformly: a person, another person, and an image of each. Here the other
    person must be similar to the first. Repeated pairs are dropped, so few people give fewer pairs.

    Args:
        kind: "look-alike": the other person is among the 5 people with the nearest mean embeddings. This is the worst
            case for the evaluated network; other networks have other look-alikes. Or a name of `embeddings.attributes`,
            such as "gender": both people have the same value, by the majority of their images.

    Raises:
        ValueError: no such attribute, or no two people share its value.
    """
    if kind == LOOK_ALIKE:
        similar = _look_alikes(embeddings)
    elif kind in embeddings.attributes:
        similar = _groups(_majority_attribute(embeddings, kind))
    else:
        kinds = ", ".join([LOOK_ALIKE, *embeddings.attributes])
        raise ValueError(f"{kind!r} is not a kind of hard pairs; this corpus has {kinds}")
    if not similar:
        raise ValueError(f"no two people share {kind}: there is no hard pair to evaluate")
    genuine = generate_pairs(
        embeddings.keys, embeddings.identities, impostors=0, seed=seed, genuine_per_person=GENUINE_PER_PERSON
    )
    return score_pairs(genuine + _impostors(embeddings, similar, seed), embeddings)


def _impostors(embeddings: Embeddings, similar: Mapping[str, Sequence[str]], seed: int) -> list[Pair]:
    images = defaultdict(list)
    for key, identity in sorted(zip(embeddings.keys, embeddings.identities, strict=True), key=lambda row: row[0]):
        images[identity].append(key)
    rng = np.random.default_rng(seed)
    people, key_pairs = sorted(similar), {}
    for _ in range(IMPOSTOR_PAIRS):
        first = second = people[rng.integers(len(people))]
        while second == first:  # a group also contains the person
            second = similar[first][rng.integers(len(similar[first]))]
        keys = [images[person][rng.integers(len(images[person]))] for person in sorted((first, second))]
        key_pairs[tuple(keys)] = None
    return [Pair(0, *keys, False) for keys in key_pairs]


def _majority_attribute(embeddings: Embeddings, name: str) -> dict[str, str]:
    """Person -> the most frequent value of the person's images, if known; among equally frequent ones, the first."""
    value_counts = defaultdict(Counter)
    for identity, value in zip(embeddings.identities, embeddings.attributes[name], strict=True):
        if identity is not None and value is not None:
            value_counts[identity][value] += 1
    return {person: min(counts, key=lambda value: (-counts[value], value)) for person, counts in value_counts.items()}


def _groups(attribute_by_person: Mapping[str, str]) -> dict[str, list[str]]:
    """Person -> all people with the same value, including the person; without people whose value is unique."""
    members = defaultdict(list)
    for person in sorted(attribute_by_person):
        members[attribute_by_person[person]].append(person)
    return {person: group for group in members.values() if len(group) > 1 for person in group}


def _look_alikes(embeddings: Embeddings) -> dict[str, list[str]]:
    """Person -> the nearest other people by the cosine of mean embeddings, at most NEAREST of them."""
    rows_by_person = defaultdict(list)
    for row, identity in enumerate(embeddings.identities):
        if identity is not None:
            rows_by_person[identity].append(row)
    people = sorted(rows_by_person)
    if len(people) < 2:
        return {}
    means = np.stack([mean_embedding(embeddings.embeddings[rows_by_person[person]]) for person in people])  # (p, d)
    nearest, count = {}, min(NEAREST, len(people) - 1)
    for start in range(0, len(people), BLOCK):
        similarity = means[start : start + BLOCK] @ means.T  # (b, p)
        diagonal = np.arange(len(similarity))
        similarity[diagonal, start + diagonal] = -np.inf
        for row, neighbours in enumerate(np.argpartition(-similarity, count - 1, axis=1)[:, :count]):
            nearest[people[start + row]] = [people[index] for index in np.sort(neighbours)]
    return nearest
