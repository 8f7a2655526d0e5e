"""Connections with limits: who opens many, sends a head slowly or does not read what was asked for, loses them.

What is not a request yet is seen by no application, so that this is done in uvicorn's protocol.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import Sequence

from uvicorn.protocols.http.h11_impl import H11Protocol

from authentication.limits import visitor_of
from demo.visitors import BusyError, OpenRequests

MOST_CONNECTIONS_EACH = 256  # of one visitor; a browser opens six
MOST_CONNECTIONS = 3000  # of everybody
MOST_HEAD_BYTES = 32_000
HEAD_SECONDS = 15.0  # for the head of a request, from the opening of the connection or the answer before
READ_SECONDS = 30.0  # that a client may leave unread what is sent to it


def allow_connections() -> None:
    """Each takes a file of the process, of which many systems allow 256 or 1024 at first."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows; or the system allows no more
        import resource  # noqa: TID251 – where it is missing, so is the limit

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST_CONNECTIONS + 1000
        if soft != resource.RLIM_INFINITY and soft < wanted:
            limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def protocol(proxies: Sequence[str]) -> type[H11Protocol]:
    """The class of the server's connections, for `uvicorn.Config(http=...)`.

    Args:
        proxies: addresses and networks that speak for many visitors, and may open as many connections as there are.
    """
    networks = [ipaddress.ip_network(name, strict=False) for name in proxies]
    of_visitors = OpenRequests(MOST_CONNECTIONS_EACH, MOST_CONNECTIONS)
    of_proxies = OpenRequests(MOST_CONNECTIONS, MOST_CONNECTIONS)

    def limit_of(address: str) -> OpenRequests:
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:
            return of_visitors
        return of_proxies if any(peer in network for network in networks) else of_visitors

    class Connection(H11Protocol):
        _place: contextlib.AbstractContextManager | None = None
        _waiting: asyncio.TimerHandle | None = None  # for a head
        _unread: asyncio.TimerHandle | None = None  # for a client to read

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            address = self.client[0] if self.client else ""
            place = limit_of(address).one_more(visitor_of(address))
            try:
                place.__enter__()
            except BusyError:
                transport.abort()
                return
            self._place = place
            self._wait()

        def connection_lost(self, error: Exception | None) -> None:
            for timer in (self._waiting, self._unread):
                if timer:
                    timer.cancel()
            if self._place:
                self._place.__exit__(None, None, None)
                self._place = None
            super().connection_lost(error)

        def on_response_complete(self) -> None:
            self._wait()
            super().on_response_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread = self.loop.call_later(READ_SECONDS, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._unread:
                self._unread.cancel()
                self._unread = None

        def _wait(self) -> None:
            if self._waiting:
                self._waiting.cancel()
            self._waiting = self.loop.call_later(HEAD_SECONDS, self._give_up)

        def _give_up(self) -> None:
            if self.cycle is None or self.cycle.response_complete:  # no request has begun meanwhile
                self.transport.abort()

    return Connection
