"""The shipped network distinguishes the drawn people of the examples, the tests and the benchmark."""

from itertools import combinations

from authentication.authenticator import DEFAULT_MODEL, Authenticator
from demo.examples import WELL_KNOWN
from face_data.drawn import drawn_photograph

MARGIN = 0.05  # because a frame of a video differs from its source photograph


def test_drawn_people_are_recognized_and_show_their_expressions():
    """The images are the references and the sources of the videos."""
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
    for (first_key, first), (second_key, second) in combinations(seen.items(), 2):
        similarity = float(first.embedding @ second.embedding)
        if first_key[0] == second_key[0]:
            assert similarity > config.similarity_threshold + MARGIN, (first_key, second_key, similarity)
        else:
            assert similarity < config.similarity_threshold - MARGIN, (first_key, second_key, similarity)
