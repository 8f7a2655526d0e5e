"""Server-side attempts: unguessable, bounded, expiring, single use."""

import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from actor import Scene, judged

from authentication.attempt import View
from authentication.registry import RegistryFullError, SessionRegistry, UnknownSessionError
from authentication.session import Challenge, ChallengeSession

FRAMES = 16  # that a session of the mirror needs at 0.25 s each: three for each step, a smile that grows, rounding


class Clock:
    """Time passes with every look at the clock."""

    now = 1000.0

    def __call__(self):
        self.now += 0.25
        return self.now


class Mirror:
    """An attempt of the right person, who does what is asked, in some frames; a picture may be a bomb."""

    def __init__(self):
        self.session = ChallengeSession(Challenge(("happy",), (0.0,)))
        self.smile = 0.0

    def observe(self, image, now):
        if image == "bomb":
            raise RuntimeError("out of memory")
        asked = self.session.required_expression
        self.smile = min(self.smile + 0.25, 1.0) if asked == "happy" else 0.0
        scene = Scene(expression=asked, strength=self.smile)
        frame = judged(scene, self.session)
        return View(self.session.observe(frame, now), None, (0, 0), [])


@pytest.fixture
def clock():
    return Clock()


def test_a_token_is_good_for_one_decision(clock):
    registry = SessionRegistry(clock=clock)
    token = registry.open(Mirror())
    views = []
    while not views or views[-1].progress.decision is None:
        views.append(registry.observe(token, "frame"))
    assert views[-1].progress.decision.accepted and len(views) <= FRAMES
    assert len(registry) == 0
    with pytest.raises(UnknownSessionError):
        registry.observe(token, "frame")


@pytest.mark.parametrize("token", ["", "guess", None, 7, ["x"], {"token": 1}])
def test_wrong_tokens(token):
    registry = SessionRegistry()
    registry.open(Mirror())
    with pytest.raises(UnknownSessionError):
        registry.observe(token, "frame")
    registry.close("never issued")
    assert len(registry) == 1


def test_tokens_are_long_and_different():
    registry = SessionRegistry(limit=200)
    tokens = {registry.open(Mirror()) for _ in range(200)}
    assert len(tokens) == 200
    assert min(map(len, tokens)) >= 43  # 32 random bytes


def test_attempts_expire(clock):
    registry = SessionRegistry(lifetime=60, clock=clock)
    token = registry.open(Mirror())
    clock.now += 55
    registry.observe(token, "frame")
    clock.now += 6
    with pytest.raises(UnknownSessionError):
        registry.observe(token, "frame")
    assert len(registry) == 0


def test_an_expired_attempt_is_forgotten_though_nobody_comes_by():
    registry = SessionRegistry(lifetime=0.05)
    attempt = Mirror()
    forgotten = weakref.ref(attempt)
    registry.open(attempt)
    del attempt
    deadline = time.monotonic() + 30
    while forgotten() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert forgotten() is None


def test_an_attempt_that_was_closed_leaves_no_timer():
    before = threading.active_count()
    registry = SessionRegistry()
    for token in [registry.open(Mirror()) for _ in range(5)]:
        registry.close(token)
    deadline = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_number_is_bounded_and_nobody_is_pushed_out(clock):
    registry = SessionRegistry(limit=2, lifetime=60, clock=clock)
    first = registry.open(Mirror())
    clock.now += 30
    registry.open(Mirror())
    with pytest.raises(RegistryFullError, match="2 attempts"):
        registry.open(Mirror())
    registry.observe(first, "frame")  # still there
    clock.now += 31  # the first has expired and makes room
    registry.open(Mirror())
    assert len(registry) == 2
    with pytest.raises(UnknownSessionError):
        registry.observe(first, "frame")


def test_closing_makes_room():
    registry = SessionRegistry(limit=1)
    registry.close(registry.open(Mirror()))
    registry.open(Mirror())


def test_an_error_while_judging_decides_nothing(clock):
    registry = SessionRegistry(clock=clock)
    token = registry.open(Mirror())
    for _ in range(9):
        with pytest.raises(RuntimeError, match="out of memory"):
            registry.observe(token, "bomb")
    assert registry.observe(token, "frame").progress.counted


@pytest.mark.parametrize("how", ["expired", "closed"])
def test_a_frame_that_waited_for_another_is_not_judged_when_the_attempt_is_over(clock, how):
    judging, go_on, waits = threading.Event(), threading.Event(), threading.Event()
    registry = SessionRegistry(lifetime=60, clock=clock)
    attempt = Mirror()
    judge, seen = attempt.observe, []

    def slowly(image, now):
        seen.append(image)
        judging.set()
        assert go_on.wait(30)
        return judge(image, now)

    def find(token, plain=registry._find):
        entry = plain(token)
        waits.set()
        return entry

    attempt.observe = slowly
    token = registry.open(attempt)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(registry.observe, token, "first")
        assert judging.wait(30)
        registry._find = find
        second = pool.submit(registry.observe, token, "second")
        assert waits.wait(30)
        if how == "closed":
            registry.close(token)
        else:
            clock.now += 61
        go_on.set()
        first.result(30)
        with pytest.raises(UnknownSessionError):
            second.result(30)
    assert seen == ["first"]


def test_two_attempts_do_not_mix(clock):
    registry = SessionRegistry(clock=clock)
    one, two = registry.open(Mirror()), registry.open(Mirror())
    for _ in range(4):
        ahead = registry.observe(one, "frame").progress
    behind = registry.observe(two, "frame").progress
    assert (ahead.step, behind.step, behind.held) == ("action", "neutral", 0)


def test_many_threads_on_one_token_get_one_decision(clock):
    registry = SessionRegistry(clock=clock)
    token = registry.open(Mirror())
    decisions, refused = [], []
    barrier = threading.Barrier(8)

    def hammer():
        barrier.wait()
        for _ in range(50):
            try:
                decisions.append(registry.observe(token, "frame").progress.decision)
            except UnknownSessionError:
                refused.append(1)

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # the clock may run ahead of a frame that is still being judged, so a gap may end it too: once, whatever it is
    assert len([decision for decision in decisions if decision]) == 1
    assert len(decisions) + len(refused) == 8 * 50
