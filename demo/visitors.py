"""Fairness between visitors: limits on their open requests, and work handed out to waiting visitors in rotation.

A visitor is an address, or for IPv6 a network (`authentication.limits.visitor_of`), since everything else is chosen by
the client. Called by `server`, `gate` and `connections`.
"""

import asyncio
import os
import sys
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import anyio

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


class Turns:
    """A thread pool whose places are given to the waiting visitors in rotation. For one event loop.

    A single visitor has at most half of the places, if there are two or more, so that another visitor waits for one of
    its tasks at most, however many it has sent.

    Args:
        places: tasks that run at the same time.
        each: most waiting tasks of a visitor.
        all: most waiting tasks of all visitors together.
        background: run at a low priority, after the frames of live attempts.
    """

    def __init__(self, places: int, each: int, all: int, background: bool = True):
        self.each, self.all = each, all
        self._free, self._most = places, max(1, places // 2)
        self._at_work: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Event]] = OrderedDict()  # the visitor whose turn is next is first
        self._threads = ThreadPoolExecutor(places, initializer=_lower_priority if background else None)

    async def run(self, visitor: str, function: Callable, *arguments):
        """Call the function in a thread when it is the visitor's turn, and return its result.

        Raises:
            BusyError: too many tasks are waiting.
        """
        await self._wait(visitor)
        try:
            work = asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *arguments))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:  # a thread cannot be stopped: its place is free when it returns
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([work])
                raise
        finally:
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
            if self._at_work[visitor] >= self._most:
                continue
            queue = self._waiting.pop(visitor)
            self._free -= 1
            self._at_work[visitor] += 1
            queue.popleft().set()
            if queue:
                self._waiting[visitor] = queue  # at the end


def _lower_priority() -> None:
    """Lower the priority of this thread; only on Linux do threads have priorities of their own."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
