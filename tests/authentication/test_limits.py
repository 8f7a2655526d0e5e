"""Failed attempts make the next one wait, by address and by face; a success and time forgive."""

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
    TooManyAttemptsError,
)
from authentication.template import Template


class Clock:
    now = 5000.0

    def __call__(self):
        return self.now


def face(number: int, likeness: float = 1.0) -> Template:
    """Faces of different numbers are orthogonal; likeness is the cosine to the number's own."""
    vector = np.zeros(1792)
    vector[number], vector[number + 900] = likeness, np.sqrt(1 - likeness**2)
    return Template.from_embeddings([vector])


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limiter(clock):
    return AttemptLimiter(0.6, clock)


def test_a_face_waits_twice_as_long_after_each_failure(limiter, clock):
    for number in range(FREE_ATTEMPTS_PER_FACE):
        limiter.begin(f"address {number}", face(1))
    waits = []
    for number in range(12):
        with pytest.raises(TooManyAttemptsError) as caught:
            limiter.begin("another", face(1, 0.9))  # another photograph of it
        waits.append(caught.value.seconds)
        clock.now += caught.value.seconds
        limiter.begin(f"new address {number}", face(1, 0.9))
    assert waits[:4] == [FIRST_WAIT_SECONDS * factor for factor in (1, 2, 4, 8)]
    assert waits[-1] == LONGEST_WAIT_SECONDS


def test_other_faces_from_other_addresses_do_not_wait(limiter):
    for _ in range(FREE_ATTEMPTS_PER_FACE):
        limiter.begin("here", face(1))
    with pytest.raises(TooManyAttemptsError):
        limiter.begin("there", face(1))
    limiter.begin("here", face(2))
    limiter.begin("here", face(1, 0.2))


def test_an_address_may_try_more_often_but_not_for_ever(limiter, clock):
    for number in range(FREE_ATTEMPTS_PER_ADDRESS):
        limiter.begin("office", face(number))
    with pytest.raises(TooManyAttemptsError) as caught:
        limiter.begin("office", face(800))
    assert caught.value.seconds == FIRST_WAIT_SECONDS
    limiter.begin("home", face(800))


def test_the_addresses_of_one_network_count_as_one(limiter):
    for number in range(FREE_ATTEMPTS_PER_ADDRESS):
        limiter.begin(f"2001:db8:0:7::{number:x}", face(number))
    for own in ("2001:db8:0:7:ffff::1", "2001:db8:0:7::1%eth0"):
        with pytest.raises(TooManyAttemptsError):
            limiter.begin(own, face(800))
    limiter.begin("2001:db8:0:8::1", face(800))
    for number in range(FREE_ATTEMPTS_PER_ADDRESS):
        limiter.begin("::ffff:192.0.2.1", face(number + 100))
    with pytest.raises(TooManyAttemptsError):
        limiter.begin("192.0.2.1", face(801))
    limiter.begin("192.0.2.2", face(801))


def test_a_refused_attempt_is_not_counted(limiter, clock):
    for _ in range(FREE_ATTEMPTS_PER_FACE):
        limiter.begin("here", face(1))
    for _ in range(9):
        with pytest.raises(TooManyAttemptsError) as caught:
            limiter.begin("here", face(1))
    assert caught.value.seconds == FIRST_WAIT_SECONDS


def test_a_withdrawn_attempt_counts_neither_for_the_face_nor_for_the_address(limiter):
    for _ in range(FREE_ATTEMPTS_PER_FACE - 1):
        limiter.begin("here", face(1))
    for _ in range(9):  # the server was full, again and again
        limiter.withdraw(limiter.begin("here", face(1)))
    limiter.begin("here", face(1))
    with pytest.raises(TooManyAttemptsError):  # and those before it are not forgiven
        limiter.begin("here", face(1))


def test_a_withdrawn_attempt_makes_nobody_wait_longer(limiter, clock):
    for _ in range(FREE_ATTEMPTS_PER_FACE):
        limiter.begin("here", face(1))
    clock.now += FIRST_WAIT_SECONDS
    limiter.withdraw(limiter.begin("here", face(1)))
    limiter.begin("here", face(1))
    clock.now += 2 * FIRST_WAIT_SECONDS
    early = limiter.begin("here", face(1))
    clock.now += 4 * FIRST_WAIT_SECONDS
    limiter.begin("here", face(1))
    limiter.withdraw(early)  # the one after it counts, and is the newest
    with pytest.raises(TooManyAttemptsError) as caught:
        limiter.begin("here", face(1))
    assert caught.value.seconds == 4 * FIRST_WAIT_SECONDS


def test_acceptance_and_time_forgive(limiter, clock):
    for _ in range(3 * FREE_ATTEMPTS_PER_FACE):
        limiter.accepted(limiter.begin("here", face(1)))
    for _ in range(FREE_ATTEMPTS_PER_FACE):
        limiter.begin("here", face(1))
    with pytest.raises(TooManyAttemptsError):
        limiter.begin("here", face(1))
    clock.now += FORGET_SECONDS + 1
    for _ in range(FREE_ATTEMPTS_PER_FACE):
        limiter.begin("here", face(1))


def test_what_is_remembered_is_bounded_and_no_template(limiter, monkeypatch):
    monkeypatch.setattr(limits, "MOST_REMEMBERED", 10)
    for number in range(50):
        limiter.begin(f"address {number}", face(number))
    assert len(limiter._faces) == len(limiter._addresses) == 10
    for _ in range(FREE_ATTEMPTS_PER_FACE - 1):
        limiter.begin("x", face(49))
    with pytest.raises(TooManyAttemptsError):  # the newest are not forgotten
        limiter.begin("x", face(49))
    kept = np.frombuffer(next(iter(limiter._faces)), np.float32)
    assert kept.shape == (limits.PROJECTED_SIZE,)


def test_projections_of_two_servers_cannot_be_compared():
    one, two = AttemptLimiter(0.6), AttemptLimiter(0.6)
    for limiter in (one, two):
        limiter.begin("here", face(1))
    first, second = (np.frombuffer(next(iter(limiter._faces)), np.float32) for limiter in (one, two))
    assert abs(first @ second) < 0.35
