"""Server-side sessions: unguessable, bounded, expiring, single use."""

import threading

import numpy as np
import pytest

from authentication.registry import RegistryFullError, SessionRegistry, UnknownSessionError
from authentication.session import ChallengeSession
from authentication.template import Template
from pipeline_facelivenet import decide

TEMPLATE = Template.from_embeddings([np.array([1.0, 0.0])])


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def mirror(template, required):
    """Somebody who is the right person and always shows what is asked for."""
    return decide(
        similarity=template.similarity([1.0, 0.0]),
        threshold=0.5,
        expression_probabilities={required: 1.0},
        required_expression=required,
        expression_threshold=0.5,
    )


def test_a_token_is_good_for_one_decision():
    registry = SessionRegistry()
    token = registry.open(ChallengeSession("happy"), TEMPLATE)
    steps = [registry.observe(token, mirror) for _ in range(6)]
    assert steps[-1].decision.accepted
    assert len(registry) == 0
    with pytest.raises(UnknownSessionError):
        registry.observe(token, mirror)


@pytest.mark.parametrize("token", ["", "guess", None, 7, ["x"], {"token": 1}])
def test_wrong_tokens(token):
    registry = SessionRegistry()
    registry.open(ChallengeSession("happy"), TEMPLATE)
    with pytest.raises(UnknownSessionError):
        registry.observe(token, mirror)
    assert len(registry) == 1


def test_tokens_are_long_and_different():
    registry = SessionRegistry(limit=200)
    tokens = {registry.open(ChallengeSession("happy"), TEMPLATE) for _ in range(200)}
    assert len(tokens) == 200
    assert min(map(len, tokens)) >= 43  # 32 random bytes


def test_sessions_expire():
    clock = Clock()
    registry = SessionRegistry(lifetime=60, clock=clock)
    token = registry.open(ChallengeSession("happy"), TEMPLATE)
    clock.now += 60
    registry.observe(token, mirror)
    clock.now += 1
    with pytest.raises(UnknownSessionError):
        registry.observe(token, mirror)
    assert len(registry) == 0


def test_number_is_bounded_and_nobody_is_pushed_out():
    clock = Clock()
    registry = SessionRegistry(limit=2, lifetime=60, clock=clock)
    first = registry.open(ChallengeSession("happy"), TEMPLATE)
    clock.now += 30
    registry.open(ChallengeSession("happy"), TEMPLATE)
    with pytest.raises(RegistryFullError, match="2 sessions"):
        registry.open(ChallengeSession("happy"), TEMPLATE)
    registry.observe(first, mirror)  # still there
    clock.now += 31  # the first has expired and makes room
    registry.open(ChallengeSession("happy"), TEMPLATE)
    assert len(registry) == 2
    with pytest.raises(UnknownSessionError):
        registry.observe(first, mirror)


def test_closing_makes_room():
    registry = SessionRegistry(limit=1)
    registry.close(registry.open(ChallengeSession("happy"), TEMPLATE))
    registry.close("never issued")
    registry.open(ChallengeSession("happy"), TEMPLATE)


def test_the_session_timeout_runs_on_the_servers_clock():
    clock = Clock()
    registry = SessionRegistry(clock=clock)
    token = registry.open(ChallengeSession("happy", timeout=10), TEMPLATE)
    registry.observe(token, mirror)
    clock.now += 11
    assert registry.observe(token, mirror).decision.reason == "timed_out"


def test_an_error_while_judging_decides_nothing():
    registry = SessionRegistry()
    token = registry.open(ChallengeSession("happy"), TEMPLATE)

    def broken(template, required):
        raise RuntimeError("out of memory")

    for _ in range(9):
        with pytest.raises(RuntimeError, match="out of memory"):
            registry.observe(token, broken)
    assert registry.observe(token, mirror).held == 1


def test_many_threads_on_one_token_get_one_decision():
    registry = SessionRegistry()
    token = registry.open(ChallengeSession("happy"), TEMPLATE)
    decisions, refused = [], []
    barrier = threading.Barrier(8)

    def hammer():
        barrier.wait()
        for _ in range(50):
            try:
                decisions.append(registry.observe(token, mirror).decision)
            except UnknownSessionError:
                refused.append(1)

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [decision.reason for decision in decisions if decision] == ["accepted"]
    assert len(decisions) == 6
    assert len(refused) == 8 * 50 - 6
