"""Fairness between visitors: limits on their open requests, their pace, and work handed out to them in rotation.

A visitor is an address, or for IPv6 a network (`authentication.limits.visitor_of`), since everything else is chosen by
the client. Called by `server`, `gate` and `connections`.
"""

import asyncio
import itertools
import os
import sys
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import anyio

ABOUT_SECONDS = 2.0  # for which a visitor counts as present after a piece of its work
LONGEST_WAIT_SECONDS = 10.0  # for a visitor's pace; then it is refused
NICENESS = 5  # added for work that no live attempt waits for: it gets a third of a processor that both want


class BusyError(RuntimeError):
    """This visitor, or all visitors together, have as many open requests as the server allows."""


class OpenRequests:
    """Counts open requests. Safe to share between threads.

    Args:
        each: largest number of a visitor.
        all: largest number of all visitors together.
    """

    def __init__(self, each: int, all: int):
        self.each, self.all = each, all
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def one_more(self, visitor: str) -> Iterator[None]:
        """Count a request as open within the context.

        Raises:
            BusyError: a limit is reached.
        """
        with self._lock:
            if self._open[visitor] >= self.each or self._open.total() >= self.all:
                self._open += Counter()  # drop the zeros
                raise BusyError(f"{self._open[visitor]} requests of this visitor are open, {self._open.total()} in all")
            self._open[visitor] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[visitor] -= 1
                if not self._open[visitor]:
                    del self._open[visitor]


class Pace:
    """How much of something each visitor may have in a second. For one event loop.

    Args:
        a_second: of it, in the long run.
        at_once: of it, without a wait, for a visitor who has had none for a while.
    """

    def __init__(self, a_second: float, at_once: float):
        self.a_second, self.at_once = a_second, at_once
        self._even: OrderedDict[str, float] = OrderedDict()  # when the pace has made up for what a visitor has had

    def add(self, visitor: str, amount: float) -> None:
        """Count what a visitor has had."""
        now = time.monotonic()
        self._even[visitor] = max(self._even.get(visitor, now), now) + amount / self.a_second
        self._even.move_to_end(visitor)
        for other, even in list(itertools.islice(self._even.items(), 2)):  # those who are even need not be remembered
            if even <= now:
                del self._even[other]

    def used(self, visitor: str) -> float:
        """How much a visitor has had that the pace has not made up for."""
        now = time.monotonic()
        return max(0.0, self._even.get(visitor, now) - now) * self.a_second

    def wait(self, visitor: str) -> float:
        """Seconds until the visitor may have more; 0 or less: now."""
        return (self.used(visitor) - self.at_once) / self.a_second

    async def take(self, visitor: str, amount: float = 1.0) -> None:
        """Wait until the visitor may have this much.

        Raises:
            BusyError: that would take longer than LONGEST_WAIT_SECONDS.
        """
        if self.wait(visitor) > LONGEST_WAIT_SECONDS:
            raise BusyError("this visitor asks for too much")
        self.add(visitor, amount)
        if (seconds := self.wait(visitor)) > 0:
            await asyncio.sleep(seconds)


class Present:
    """The visitors who have had work done lately. For one event loop."""

    def __init__(self):
        self._newest: OrderedDict[str, float] = OrderedDict()

    def note(self, visitor: str) -> None:
        now = time.monotonic()
        self._newest[visitor] = now
        self._newest.move_to_end(visitor)
        for other, newest in list(itertools.islice(self._newest.items(), 2)):
            if now - newest > ABOUT_SECONDS:
                del self._newest[other]

    def others(self, visitor: str) -> bool:
        """Whether there is anybody else."""
        newest = next(
            (seconds for other, seconds in reversed(self._newest.items()) if other != visitor), -ABOUT_SECONDS
        )
        return time.monotonic() - newest <= ABOUT_SECONDS


class Turns:
    """A thread pool whose places are given to the waiting visitors in rotation. For one event loop.

    A single visitor has at most half of the places, if there are two or more, so that another visitor waits for one of
    its tasks at most, however many it has sent. A visitor that sends task after task has a share of the processor: past
    half of it its tasks run at a low priority, and past all of it they pause while other visitors are present.

    Args:
        places: tasks that run at the same time.
        each: most waiting tasks of a visitor.
        all: most waiting tasks of all visitors together.
        present: the visitors whom all of the server's turns serve.
        share: seconds of processor time a second that a visitor may have while others are present.
        at_once: seconds of it without a pause.
        background: run at a low priority in any case.
    """

    def __init__(
        self,
        places: int,
        each: int,
        all: int,
        present: Present,
        share: float,
        at_once: float = 0.5,
        background: bool = False,
    ):
        self.each, self.all = each, all
        self._free, self._most = places, max(1, places // 2)
        self._present, self._pace = present, Pace(share, at_once)
        self._timer: asyncio.TimerHandle | None = None  # runs while a visitor pauses
        self._at_work: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Event]] = OrderedDict()  # the visitor whose turn is next is first
        self._lower = ThreadPoolExecutor(places, initializer=_lower_priority)
        self._threads = self._lower if background else ThreadPoolExecutor(places)

    async def run(self, visitor: str, function: Callable, *arguments):
        """Call the function in a thread when it is the visitor's turn, and return its result.

        Raises:
            BusyError: too many tasks are waiting.
        """
        await self._wait(visitor)
        spent = []

        def timed():
            began = time.thread_time()
            try:
                return function(*arguments)
            finally:
                spent.append(time.thread_time() - began)

        try:
            past_half = self._pace.used(visitor) > self._pace.at_once / 2
            work = asyncio.get_running_loop().run_in_executor(self._lower if past_half else self._threads, timed)
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:  # a thread cannot be stopped: its place is free when it returns
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([work])
                raise
        finally:
            self._pace.add(visitor, sum(spent))
            self._present.note(visitor)
            self._give_back(visitor)

    async def _wait(self, visitor: str) -> None:
        queue = self._waiting.get(visitor, ())
        if len(queue) >= self.each or sum(map(len, self._waiting.values())) >= self.all:
            raise BusyError(f"{len(queue)} requests of this visitor are waiting")
        turn = asyncio.Event()
        self._waiting.setdefault(visitor, deque()).append(turn)
        self._next()
        try:
            await turn.wait()
        except BaseException:  # cancelled: the visitor has left
            if turn.is_set():
                self._give_back(visitor)
            else:
                self._waiting[visitor].remove(turn)
                if not self._waiting[visitor]:
                    del self._waiting[visitor]
            raise

    def _give_back(self, visitor: str) -> None:
        self._free += 1
        self._at_work -= Counter([visitor])  # which drops the zeros
        self._next()

    def _next(self) -> None:
        for visitor in list(self._waiting):
            if not self._free:
                return
            if self._at_work[visitor] >= self._most or self._pauses(visitor):
                continue
            queue = self._waiting.pop(visitor)
            self._free -= 1
            self._at_work[visitor] += 1
            queue.popleft().set()
            if queue:
                self._waiting[visitor] = queue  # at the end

    def _pauses(self, visitor: str) -> bool:
        """Whether a visitor has to wait for the others' sake; then this is asked again in time."""
        seconds = self._pace.wait(visitor)
        if seconds <= 0 or not self._present.others(visitor):
            return False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(min(seconds, ABOUT_SECONDS), self._after_pause)
        return True

    def _after_pause(self) -> None:
        self._timer = None
        self._next()


def _lower_priority() -> None:
    """Lower the priority of this thread; only on Linux do threads have priorities of their own."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        priority = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, priority)  # noqa: TID251 – on Linux
