"""Attempts on the server: secret tokens, a limited number, a limited lifetime, and one decision for each."""

import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from actor import Scene, frame_for_session

from authentication.attempt import View
from authentication.registry import RegistryFullError, SessionRegistry, UnknownSessionError
from authentication.session import Challenge, ChallengeSession

FRAMES = 16  # enough for a GenuineAttempt at 0.25 s per frame: three per step, a gradual smile, rounding


class Clock:
    """Every reading advances the time."""

    now = 1000.0

    def __call__(self):
        self.now += 0.25
        return self.now


class GenuineAttempt:
    """An attempt in which the right person follows the challenge. The image "bomb" causes an error."""

    def __init__(self):
        self.session = ChallengeSession(Challenge(("happy",), (0.0,)))
        self.smile = 0.0

    def observe(self, image, now):
        if image == "bomb":
            raise RuntimeError("out of memory")
        required = self.session.required_expression
        self.smile = min(self.smile + 0.25, 1.0) if required == "happy" else 0.0
        scene = Scene(expression=required, strength=self.smile)
        frame = frame_for_session(scene, self.session)
        return View(self.session.observe(frame, now), None, (0, 0), [])


@pytest.fixture
def clock():
    return Clock()


def test_a_token_is_valid_for_one_decision(clock):
    registry = SessionRegistry(clock=clock)
    token = registry.open(GenuineAttempt())
    views = []
    while not views or views[-1].progress.decision is None:
        views.append(registry.observe(token, "frame"))
    assert views[-1].progress.decision.accepted and len(views) <= FRAMES
    assert len(registry._entries) == 0
    with pytest.raises(UnknownSessionError):
        registry.observe(token, "frame")


@pytest.mark.parametrize("token", ["", "guess", None, 7, ["x"], {"token": 1}])
def test_wrong_tokens_are_refused(token):
    registry = SessionRegistry()
    registry.open(GenuineAttempt())
    with pytest.raises(UnknownSessionError):
        registry.observe(token, "frame")
    registry.close("never issued")
    assert len(registry._entries) == 1


def test_tokens_are_long_and_different():
    registry = SessionRegistry(limit=200)
    tokens = {registry.open(GenuineAttempt()) for _ in range(200)}
    assert len(tokens) == 200
    assert min(map(len, tokens)) >= 43  # 32 random bytes


def test_attempts_expire(clock):
    registry = SessionRegistry(lifetime=60, clock=clock)
    token = registry.open(GenuineAttempt())
    clock.now += 55
    registry.observe(token, "frame")
    clock.now += 6
    with pytest.raises(UnknownSessionError):
        registry.observe(token, "frame")
    assert len(registry._entries) == 0


def test_an_expired_attempt_is_deleted_without_a_request():
    registry = SessionRegistry(lifetime=0.05)
    attempt = GenuineAttempt()
    reference = weakref.ref(attempt)
    registry.open(attempt)
    del attempt
    deadline = time.monotonic() + 30
    while reference() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert reference() is None


def test_a_closed_attempt_leaves_no_timer():
    before = threading.active_count()
    registry = SessionRegistry()
    for token in [registry.open(GenuineAttempt()) for _ in range(5)]:
        registry.close(token)
    deadline = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_the_number_of_attempts_is_limited_and_no_open_attempt_is_removed(clock):
    registry = SessionRegistry(limit=2, lifetime=60, clock=clock)
    first = registry.open(GenuineAttempt())
    clock.now += 30
    registry.open(GenuineAttempt())
    with pytest.raises(RegistryFullError, match="2 attempts"):
        registry.open(GenuineAttempt())
    registry.observe(first, "frame")  # the first attempt is still open
    clock.now += 31  # the first attempt expires and frees its place
    registry.open(GenuineAttempt())
    assert len(registry._entries) == 2
    with pytest.raises(UnknownSessionError):
        registry.observe(first, "frame")


def test_a_closed_attempt_frees_its_place():
    registry = SessionRegistry(limit=1)
    registry.close(registry.open(GenuineAttempt()))
    registry.open(GenuineAttempt())


def test_an_error_during_a_frame_decides_nothing(clock):
    registry = SessionRegistry(clock=clock)
    token = registry.open(GenuineAttempt())
    for _ in range(9):
        with pytest.raises(RuntimeError, match="out of memory"):
            registry.observe(token, "bomb")
    assert registry.observe(token, "frame").progress.counted


@pytest.mark.parametrize("ending", ["expired", "closed"])
def test_a_waiting_frame_is_not_evaluated_after_the_end_of_the_attempt(clock, ending):
    evaluating, resume, waiting = threading.Event(), threading.Event(), threading.Event()
    registry = SessionRegistry(lifetime=60, clock=clock)
    attempt = GenuineAttempt()
    observe, observed = attempt.observe, []

    def observe_slowly(image, now):
        observed.append(image)
        evaluating.set()
        assert resume.wait(30)
        return observe(image, now)

    def find(token, original=registry._find):
        entry = original(token)
        waiting.set()
        return entry

    attempt.observe = observe_slowly
    token = registry.open(attempt)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(registry.observe, token, "first")
        assert evaluating.wait(30)
        registry._find = find
        second = pool.submit(registry.observe, token, "second")
        assert waiting.wait(30)
        if ending == "closed":
            registry.close(token)
        else:
            clock.now += 61
        resume.set()
        first.result(30)
        with pytest.raises(UnknownSessionError):
            second.result(30)
    assert observed == ["first"]


def test_two_attempts_do_not_mix(clock):
    registry = SessionRegistry(clock=clock)
    first, second = registry.open(GenuineAttempt()), registry.open(GenuineAttempt())
    for _ in range(4):
        ahead = registry.observe(first, "frame").progress
    behind = registry.observe(second, "frame").progress
    assert (ahead.step, behind.step, behind.held) == ("action", "neutral", 0)


def test_many_threads_on_one_token_get_one_decision(clock):
    registry = SessionRegistry(clock=clock)
    token = registry.open(GenuineAttempt())
    decisions, refused = [], []
    barrier = threading.Barrier(8)

    def send_frames():
        barrier.wait()
        for _ in range(50):
            try:
                decisions.append(registry.observe(token, "frame").progress.decision)
            except UnknownSessionError:
                refused.append(1)

    threads = [threading.Thread(target=send_frames) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # While a frame is evaluated the other threads advance the clock, so a gap may end the attempt: also only once.
    assert len([decision for decision in decisions if decision]) == 1
    assert len(decisions) + len(refused) == 8 * 50
