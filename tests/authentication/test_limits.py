"""A failed attempt delays the next one, per address and per face. Successes and time remove the delay."""

import numpy as np
import pytest

from authentication import limits
from authentication.limits import (
    FIRST_WAIT_SECONDS,
    FORGET_SECONDS,
    FREE_ATTEMPTS_PER_ADDRESS,
    FREE_ATTEMPTS_PER_FACE,
    LONGEST_WAIT_SECONDS,
    AttemptLimiter,
    Ticket,
    TooManyAttemptsError,
)
from authentication.template import Template


class Clock:
    now = 5000.0

    def __call__(self):
        return self.now


def face(number: int, likeness: float = 1.0) -> Template:
    """Faces with different numbers are orthogonal. likeness: the cosine to `face(number)`."""
    vector = np.zeros(1792)
    vector[number], vector[number + 900] = likeness, np.sqrt(1 - likeness**2)
    return Template.from_embeddings([vector])


def attempt(limiter: AttemptLimiter, address: str, template: Template) -> Ticket:
    """Count an attempt as the demo does at its start."""
    ticket = limiter.begin(address)
    limiter.name_face(ticket, template)
    return ticket


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limiter(clock):
    return AttemptLimiter(0.6, clock)


def test_a_face_waits_twice_as_long_after_each_failure(limiter, clock):
    for number in range(FREE_ATTEMPTS_PER_FACE):
        attempt(limiter, f"address {number}", face(1))
    waits = []
    for number in range(12):
        with pytest.raises(TooManyAttemptsError) as caught:
            attempt(limiter, "another", face(1, 0.9))  # another photograph of the same face
        waits.append(caught.value.seconds)
        clock.now += caught.value.seconds
        attempt(limiter, f"new address {number}", face(1, 0.9))
    assert waits[:4] == [FIRST_WAIT_SECONDS * factor for factor in (1, 2, 4, 8)]
    assert waits[-1] == LONGEST_WAIT_SECONDS


def test_other_faces_from_other_addresses_do_not_wait(limiter):
    for _ in range(FREE_ATTEMPTS_PER_FACE):
        attempt(limiter, "here", face(1))
    with pytest.raises(TooManyAttemptsError):
        attempt(limiter, "there", face(1))
    attempt(limiter, "here", face(2))
    attempt(limiter, "here", face(1, 0.2))


def test_short_embeddings_are_compared_as_in_a_decision(limiter):
    """The dot product is compared: two people with a cosine of 0.7 may be strangers for the network."""
    person, stranger = (Template.from_embeddings([0.8 * face(1, likeness).embedding]) for likeness in (1.0, 0.7))
    for number in range(FREE_ATTEMPTS_PER_FACE):
        attempt(limiter, f"address {number}", person)
    attempt(limiter, "another", stranger)
    with pytest.raises(TooManyAttemptsError):
        attempt(limiter, "another", person)


def test_an_address_has_a_higher_limit_than_a_face(limiter, clock):
    for number in range(FREE_ATTEMPTS_PER_ADDRESS):
        attempt(limiter, "office", face(number))
    with pytest.raises(TooManyAttemptsError) as caught:
        attempt(limiter, "office", face(800))
    assert caught.value.seconds == FIRST_WAIT_SECONDS
    attempt(limiter, "home", face(800))


def test_the_addresses_of_one_network_count_as_one(limiter):
    for number in range(FREE_ATTEMPTS_PER_ADDRESS):
        attempt(limiter, f"2001:db8:0:7::{number:x}", face(number))
    for address in ("2001:db8:0:7:ffff::1", "2001:db8:0:7::1%eth0"):
        with pytest.raises(TooManyAttemptsError):
            attempt(limiter, address, face(800))
    attempt(limiter, "2001:db8:0:8::1", face(800))
    for number in range(FREE_ATTEMPTS_PER_ADDRESS):
        attempt(limiter, "::ffff:192.0.2.1", face(number + 100))
    with pytest.raises(TooManyAttemptsError):
        attempt(limiter, "192.0.2.1", face(801))
    attempt(limiter, "192.0.2.2", face(801))


def test_an_attempt_refused_for_its_face_counts_only_for_the_address(limiter, clock):
    for _ in range(FREE_ATTEMPTS_PER_FACE):
        attempt(limiter, "here", face(1))
    for _ in range(FREE_ATTEMPTS_PER_ADDRESS - FREE_ATTEMPTS_PER_FACE):
        with pytest.raises(TooManyAttemptsError) as caught:
            attempt(limiter, "there", face(1))
        assert caught.value.seconds == FIRST_WAIT_SECONDS
    for _ in range(9):  # an attempt that is refused for its address does not count
        with pytest.raises(TooManyAttemptsError) as caught:
            for _ in range(FREE_ATTEMPTS_PER_ADDRESS):
                limiter.begin("there")
        assert caught.value.seconds == FIRST_WAIT_SECONDS


def test_a_withdrawn_attempt_counts_neither_for_the_face_nor_for_the_address(limiter):
    for _ in range(FREE_ATTEMPTS_PER_FACE - 1):
        attempt(limiter, "here", face(1))
    for _ in range(9):  # as when the server is full
        limiter.withdraw(attempt(limiter, "here", face(1)))
    attempt(limiter, "here", face(1))
    with pytest.raises(TooManyAttemptsError):  # the attempts before still count
        attempt(limiter, "here", face(1))


def test_a_withdrawn_attempt_does_not_lengthen_the_delay(limiter, clock):
    for _ in range(FREE_ATTEMPTS_PER_FACE):
        attempt(limiter, "here", face(1))
    clock.now += FIRST_WAIT_SECONDS
    limiter.withdraw(attempt(limiter, "here", face(1)))
    attempt(limiter, "here", face(1))
    clock.now += 2 * FIRST_WAIT_SECONDS
    early = attempt(limiter, "here", face(1))
    clock.now += 4 * FIRST_WAIT_SECONDS
    attempt(limiter, "here", face(1))
    limiter.withdraw(early)  # the later attempt still counts, and is the newest
    with pytest.raises(TooManyAttemptsError) as caught:
        attempt(limiter, "here", face(1))
    assert caught.value.seconds == 4 * FIRST_WAIT_SECONDS


def test_a_success_removes_its_attempt_and_old_attempts_expire(limiter, clock):
    for _ in range(3 * FREE_ATTEMPTS_PER_FACE):
        limiter.accepted(attempt(limiter, "here", face(1)))
    for _ in range(FREE_ATTEMPTS_PER_FACE):
        attempt(limiter, "here", face(1))
    with pytest.raises(TooManyAttemptsError):
        attempt(limiter, "here", face(1))
    clock.now += FORGET_SECONDS + 1
    for _ in range(FREE_ATTEMPTS_PER_FACE):
        attempt(limiter, "here", face(1))


def test_a_success_with_the_mean_of_two_faces_removes_no_failure(clock):
    """An attacker fails with a victim's photograph and succeeds with the mean of both faces: no failure is removed."""
    limiter = AttemptLimiter(0.5, clock)  # the projection changes 0.71 by 0.04 on average: it stays above 0.5
    both = Template.from_embeddings([face(1).embedding, face(2).embedding])  # similarity 0.71 to each face
    limiter.accepted(
        attempt(limiter, "mine", face(2))
    )  # records the attacker's face: the mean is equally similar to it
    for number in range(FREE_ATTEMPTS_PER_FACE - 1):
        attempt(limiter, f"address {number}", face(1))
        limiter.accepted(attempt(limiter, f"address {number}", both))
    attempt(limiter, "another", both)
    with pytest.raises(TooManyAttemptsError):
        attempt(limiter, "yet another", face(1))


def test_memory_is_bounded_and_contains_no_template(limiter, monkeypatch):
    monkeypatch.setattr(limits, "MAX_REMEMBERED", 10)
    for number in range(50):
        attempt(limiter, f"address {number}", face(number))
    assert len(limiter._faces) == len(limiter._addresses) == 10
    for _ in range(FREE_ATTEMPTS_PER_FACE - 1):
        attempt(limiter, "x", face(49))
    with pytest.raises(TooManyAttemptsError):  # the newest face is still in memory
        attempt(limiter, "x", face(49))
    kept = np.frombuffer(next(iter(limiter._faces)), np.float32)
    assert kept.shape == (limits.PROJECTED_SIZE,)


def test_projections_of_two_servers_cannot_be_compared():
    limiters = AttemptLimiter(0.6), AttemptLimiter(0.6)
    for limiter in limiters:
        attempt(limiter, "here", face(1))
    first, second = (np.frombuffer(next(iter(limiter._faces)), np.float32) for limiter in limiters)
    assert abs(first @ second) < 0.35
