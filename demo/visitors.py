"""What one visitor may ask of the server at the same time, and whose turn it is: nobody waits for another's queue.

A visitor is an address, or for IPv6 its network (`authentication.limits.visitor_of`): all else is the client's choice.
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

NICENESS = 5  # more than the process's, of work that is not a live attempt's: a third of a processor that both want


class BusyError(RuntimeError):
    """This visitor, or everybody together, has as many requests open as the server allows."""


class OpenRequests:
    """Counts the requests that are open. Safe to share between threads.

    Args:
        each: most of one visitor.
        all: most of everybody.
    """

    def __init__(self, each: int, all: int):
        self.each, self.all = each, all
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def one_more(self, visitor: str) -> Iterator[None]:
        """Raises: BusyError."""
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
    """Places for work that takes long, given to the waiting visitors in rotation. For one event loop.

    However much one visitor asks for, another waits for one piece of it at most: one alone has half of the places, if
    there are two or more. The work is done in threads of their own.

    Args:
        places: how many are at work at the same time.
        each: most that wait, of one visitor.
        all: most that wait.
        background: at a low priority, so that frames of live attempts go before it.
    """

    def __init__(self, places: int, each: int, all: int, background: bool = True):
        self.each, self.all = each, all
        self._free, self._most = places, max(1, places // 2)
        self._at_work: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Event]] = OrderedDict()  # whose turn is next stands first
        self._threads = ThreadPoolExecutor(places, initializer=_step_back if background else None)

    async def run(self, visitor: str, function: Callable, *arguments):
        """The function's result, from a thread, when it is the visitor's turn.

        Raises:
            BusyError: too many are waiting.
        """
        await self._wait(visitor)
        try:
            work = asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *arguments))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:  # a thread cannot be ended: the place is taken until it returns
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


def _step_back() -> None:
    """Lower the priority of this thread, where each has one of its own: on Linux."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
