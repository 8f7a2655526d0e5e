"""The drawn people of the examples, the tests and the benchmark: the shipped network tells them apart."""

from itertools import combinations

from authentication.authenticator import DEFAULT_MODEL, Authenticator
from demo.examples import WELL_KNOWN
from face_data.drawn import drawn_photograph

MARGIN = 0.05  # a frame of a video differs from the photograph it is made of


def test_drawn_people_are_who_they_are_and_show_what_they_show():
    """The photograph of the reference, and what the videos are made of."""
    shipped = Authenticator.from_pretrained(DEFAULT_MODEL)
    config = shipped.config
    seen = {
        (person, name, number): shipped.evidence(drawn_photograph(person, name, number, seed=0))
        for person in WELL_KNOWN
        for name, number in (("neutral", 0), ("neutral", 1), ("happy", 1))
    }
    for (person, name, number), evidence in seen.items():
        if number:
            assert evidence.expression_probabilities[name] > config.expression_threshold + MARGIN, (person, name)
    for (one, first), (other, second) in combinations(seen.items(), 2):
        similarity = float(first.embedding @ second.embedding)
        if one[0] == other[0]:
            assert similarity > config.similarity_threshold + MARGIN, (one, other, similarity)
        else:
            assert similarity < config.similarity_threshold - MARGIN, (one, other, similarity)
