"""Fairness between visitors: limits on their open requests and their pace, and the order in which tasks run.

A visitor is an address, or a network for IPv6 (`authentication.limits.visitor_of`), because clients choose everything
else themselves. `server`, `gate` and `connections` use these classes.
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

PRESENT_SECONDS = 2.0  # a visitor counts as present for this time after a task
LONGEST_WAIT_SECONDS = 10.0  # for the pace of a visitor; requests that would wait longer are refused
NICENESS = 5  # added for work that no live attempt waits for; it gets a third of a processor that both need


class BusyError(RuntimeError):
    """This visitor, or all visitors together, have as many open requests as the server allows."""


class OpenRequests:
    """Counts open requests. Threads may share it.

    Args:
        per_visitor: largest number of one visitor.
        total: largest number of all visitors together.
    """

    def __init__(self, per_visitor: int, total: int):
        self.per_visitor, self.total = per_visitor, total
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def opened(self, visitor: str) -> Iterator[None]:
        """Count a request as open within the context.

        Raises:
            BusyError: a limit is reached.
        """
        with self._lock:
            if self._open[visitor] >= self.per_visitor or self._open.total() >= self.total:
                self._open += Counter()  # deletes counts of 0
                raise BusyError(f"{self._open[visitor]} requests of this visitor are open, {self._open.total()} in all")
            self._open[visitor] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[visitor] -= 1
                if not self._open[visitor]:
                    del self._open[visitor]


class _EndTimes:
    """Visitor -> the time at which something ends. Past times are deleted, so the number of entries is bounded."""

    def __init__(self):
        self._times: OrderedDict[str, float] = OrderedDict()  # the visitor that was set last is last

    def seconds_left(self, visitor: str) -> float:
        """Seconds until the visitor's time; 0 if it has no time or the time is past."""
        now = time.monotonic()
        return max(0.0, self._times.get(visitor, now) - now)

    def set(self, visitor: str, seconds: float) -> None:
        """Set the visitor's time to so many seconds from now."""
        now = time.monotonic()
        self._times[visitor] = now + seconds
        self._times.move_to_end(visitor)
        for oldest, until in list(itertools.islice(self._times.items(), 2)):  # two, so that deletion keeps up
            if until <= now:
                del self._times[oldest]

    def newest_of_others(self, visitor: str) -> str | None:
        """The visitor that was set last, apart from this one."""
        return next((other for other in reversed(self._times) if other != visitor), None)


class Pace:
    """Limits how much of something each visitor gets in a second. For one event loop.

    Args:
        a_second: amount that a visitor gets in a second on average.
        at_once: amount without a wait for a visitor that has had none for a while.
    """

    def __init__(self, a_second: float, at_once: float):
        self.a_second, self.at_once = a_second, at_once
        self._debts = _EndTimes()  # a visitor's debt is paid at its time

    def add(self, visitor: str, amount: float) -> None:
        """Count an amount that a visitor has had."""
        self._debts.set(visitor, self._debts.seconds_left(visitor) + amount / self.a_second)

    def used(self, visitor: str) -> float:
        """The amount that a visitor has had beyond its average pace."""
        return self._debts.seconds_left(visitor) * self.a_second

    def wait(self, visitor: str) -> float:
        """Seconds until the visitor may have more; 0 or less if it may have it now."""
        return (self.used(visitor) - self.at_once) / self.a_second

    async def take(self, visitor: str, amount: float = 1.0) -> None:
        """Wait until the visitor may have this amount.

        Raises:
            BusyError: that would take longer than LONGEST_WAIT_SECONDS.
        """
        if self.wait(visitor) > LONGEST_WAIT_SECONDS:
            raise BusyError("this visitor sends too much")
        self.add(visitor, amount)
        if (seconds := self.wait(visitor)) > 0:
            await asyncio.sleep(seconds)


class Present:
    """The visitors with a task during the last PRESENT_SECONDS. For one event loop."""

    def __init__(self):
        self._present = _EndTimes()

    def note(self, visitor: str) -> None:
        self._present.set(visitor, PRESENT_SECONDS)

    def has_others(self, visitor: str) -> bool:
        """Whether another visitor is present."""
        other = self._present.newest_of_others(visitor)
        return other is not None and self._present.seconds_left(other) > 0


class Turns:
    """A thread pool that runs the tasks of waiting visitors. For one event loop.

    The visitor who has used the least processor time lately goes first; visitors with the same time take turns. A
    visitor has at most half of the places, if there are two or more. So another visitor waits for at most one of its
    tasks, however many it has sent. A visitor that sends many tasks has a limited share of the processor. When it has
    used half of it, its tasks run at a low priority. When it has used all of it, they pause while other visitors are
    present.

    Args:
        places: number of tasks that run at the same time.
        per_visitor: largest number of waiting tasks of one visitor.
        total: largest number of waiting tasks of all visitors together.
        present: shared by all of the server's turns.
        share: seconds of processor time in a second that a visitor may use while others are present.
        at_once: seconds of processor time without a pause.
        background: whether to run at a low priority in any case.
    """

    def __init__(
        self,
        places: int,
        per_visitor: int,
        total: int,
        present: Present,
        share: float,
        at_once: float = 0.5,
        background: bool = False,
    ):
        self.per_visitor, self.total = per_visitor, total
        self._free, self._max_at_work = places, max(1, places // 2)
        self._present, self._pace = present, Pace(share, at_once)
        self._timer: asyncio.TimerHandle | None = None  # runs while a visitor pauses
        self._at_work: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Event]] = OrderedDict()  # the visitor with the next turn is first
        self._lower = ThreadPoolExecutor(places, initializer=_lower_priority)
        self._threads = self._lower if background else ThreadPoolExecutor(places)

    async def run(self, visitor: str, function: Callable, *arguments):
        """Call the function in a thread when it is the visitor's turn, and return its result.

        Raises:
            BusyError: too many tasks are waiting.
        """
        await self._wait(visitor)
        processor_seconds = []

        def timed():
            start = time.thread_time()
            try:
                return function(*arguments)
            finally:
                processor_seconds.append(time.thread_time() - start)

        try:
            is_past_half = self._pace.used(visitor) > self._pace.at_once / 2
            work = asyncio.get_running_loop().run_in_executor(self._lower if is_past_half else self._threads, timed)
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:  # a thread cannot be stopped; its place is free when it returns
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([work])
                raise
        finally:
            self._pace.add(visitor, sum(processor_seconds))
            self._present.note(visitor)
            self._give_back(visitor)

    async def _wait(self, visitor: str) -> None:
        queue = self._waiting.get(visitor, ())
        if len(queue) >= self.per_visitor or sum(map(len, self._waiting.values())) >= self.total:
            raise BusyError(f"{len(queue)} requests of this visitor are waiting")
        turn = asyncio.Event()
        self._waiting.setdefault(visitor, deque()).append(turn)
        self._start_tasks()
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
        self._at_work -= Counter([visitor])  # this deletes counts of 0
        self._start_tasks()

    def _start_tasks(self) -> None:
        for visitor in sorted(self._waiting, key=self._pace.used):  # a stable sort: equal visitors stay in rotation
            if not self._free:
                return
            if self._at_work[visitor] >= self._max_at_work or self._pauses(visitor):
                continue
            queue = self._waiting.pop(visitor)
            self._free -= 1
            self._at_work[visitor] += 1
            queue.popleft().set()
            if queue:
                self._waiting[visitor] = queue  # at the end

    def _pauses(self, visitor: str) -> bool:
        """Whether a visitor has to pause while others are present; then `_start_tasks` is called again in time."""
        seconds = self._pace.wait(visitor)
        if seconds <= 0 or not self._present.has_others(visitor):
            return False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(min(seconds, PRESENT_SECONDS), self._after_pause)
        return True

    def _after_pause(self) -> None:
        self._timer = None
        self._start_tasks()


def _lower_priority() -> None:
    """Lower the priority of this thread. Only Linux has priorities for single threads."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        priority = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, priority)  # noqa: TID251 – on Linux
