"""The order of visitors: first by the time that they have used, then in rotation, for any number of requests."""

import asyncio
import os
import sys
import threading
import time

import pytest

from demo.visitors import BusyError, OpenRequests, Pace, Present, Turns


def order_of(places: int, requested: list[str], each: int = 20) -> list[str]:
    """The visitors in the order in which their work is done. All work is requested while the first piece is running."""
    done, begin = [], threading.Event()

    def work(visitor: str) -> None:
        begin.wait(30)
        done.append(visitor)

    async def request_all() -> None:
        turns = Turns(places, each, total=100, present=Present(), share=60)
        waiting = []
        for visitor in requested:
            waiting.append(asyncio.create_task(turns.run(visitor, work, visitor)))
            await asyncio.sleep(0)
        begin.set()
        await asyncio.gather(*waiting)

    asyncio.run(request_all())
    return done


def test_a_visitor_waits_for_at_most_one_piece_of_work_of_another():
    assert order_of(1, [*"aaaaaaaa", "b", "c"])[:4] == ["a", "a", "b", "c"]
    assert order_of(1, [*"aaaa", *"bbbb"]) == [*"aababab", "b"]


def test_a_visitor_with_less_used_time_is_first():
    async def request_all() -> list[str]:
        turns, begin, done = Turns(1, 20, total=100, present=Present(), share=0.5, at_once=60), threading.Event(), []
        await turns.run("expensive", work, 0.2)
        tasks = [turns.run("cheap", begin.wait, 30)]
        tasks += [turns.run(visitor, done.append, visitor) for visitor in ("expensive", "cheap", "new")]
        waiting = []
        for task in tasks:
            waiting.append(asyncio.create_task(task))
            await asyncio.sleep(0)
        begin.set()
        await asyncio.gather(*waiting)
        return done

    assert asyncio.run(request_all())[-1] == "expensive"


def test_one_visitor_cannot_use_every_place():
    async def request_all() -> list[str]:
        turns, end, began = Turns(4, 20, total=100, present=Present(), share=60), threading.Event(), []

        def work(visitor: str) -> None:
            began.append(visitor)
            end.wait(30)

        waiting = [asyncio.create_task(turns.run(visitor, work, visitor)) for visitor in "aaaaabbbb"]
        until = time.monotonic() + 30
        while len(began) < 4 and time.monotonic() < until:
            await asyncio.sleep(0.01)
        first = sorted(began)
        end.set()
        await asyncio.gather(*waiting)
        assert sorted(began) == [*"aaaaabbbb"]
        return first

    assert asyncio.run(request_all()) == ["a", "a", "b", "b"]


def test_too_many_requests_are_refused_and_cancelled_requests_are_not_done():
    with pytest.raises(BusyError):
        order_of(1, ["a"] * 5, each=3)
    done = []

    async def leave() -> None:
        turns, begin = Turns(1, 10, total=100, present=Present(), share=60), threading.Event()
        first = asyncio.create_task(turns.run("a", begin.wait, 30))
        await asyncio.sleep(0)
        cancelled = [asyncio.create_task(turns.run(visitor, done.append, visitor)) for visitor in "abb"]
        remaining = asyncio.create_task(turns.run("c", done.append, "c"))
        await asyncio.sleep(0)
        for task in cancelled:
            task.cancel()
        await asyncio.gather(*cancelled, return_exceptions=True)
        begin.set()
        await asyncio.gather(first, remaining)

    asyncio.run(leave())
    assert done == ["c"]


def test_places_of_open_requests_are_released():
    requests = OpenRequests(per_visitor=1, total=2)
    with requests.opened("a"), requests.opened("b"):
        for visitor in ("a", "b", "c"):
            with pytest.raises(BusyError), requests.opened(visitor):
                pass
    with requests.opened("c"), requests.opened("a"):
        pass


def work(seconds: float) -> int:
    """Use that much processor time. Returns the priority of the thread."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) if sys.platform == "linux" else 0


def test_a_busy_visitor_pauses_only_while_others_are_present():
    """The share is 0.01 s of work per second. Another visitor is present only at the last task of "a"."""

    async def request_all() -> tuple[list[float], list[int]]:
        turns, ended, priorities = Turns(2, 20, total=100, present=Present(), share=0.01, at_once=0.02), [], []
        for visitor in ("a", "a", "a", "b", "a"):
            before = time.monotonic()
            priorities.append(await turns.run(visitor, work, 0.02))
            ended.append(time.monotonic() - before)
        return ended, priorities

    ended, priorities = asyncio.run(request_all())
    # "a" would have to pause for several seconds; the pause ends when "b" is no longer present
    assert ended[4] > 1.5, ended
    if sys.platform == "linux":
        assert priorities[0] == priorities[3] < priorities[1] == priorities[2] == priorities[4]


def test_a_pace_delays_excessive_requests():
    async def take() -> float:
        pace, began = Pace(a_second=100, at_once=10), time.monotonic()
        for _ in range(10):
            await pace.take("a")
            await pace.take("b")
        await asyncio.gather(*(pace.take("a") for _ in range(50)))
        assert pace.used("b") < 10
        return time.monotonic() - began

    assert asyncio.run(take()) >= 0.49


def test_a_pace_refuses_long_waits_and_forgets_visitors_without_debts():
    async def take() -> None:
        pace = Pace(a_second=1000, at_once=10)
        pace.add("a", 12_000)
        with pytest.raises(BusyError):
            await pace.take("a")
        for number in range(2000):
            await pace.take(str(number))
        await asyncio.sleep(0.01)
        for _ in range(2000):
            pace.add("b", 0.001)
        assert len(pace._debts._times) < 10

    asyncio.run(take())
