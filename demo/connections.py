"""Limits on connections: their number, the time for a request's head, and the time to read an answer.

An ASGI application sees a connection only when a request's head is complete, so the limits are in uvicorn's protocol
class. Called by `server`; limits on requests are in `gate`.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import Sequence

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from authentication.limits import visitor_of
from demo.visitors import BusyError, OpenRequests

MOST_CONNECTIONS_EACH = 256  # of one visitor; a browser opens six
MOST_CONNECTIONS = 3000  # of everybody
MOST_HEAD_BYTES = 32_000
HEAD_SECONDS = 15.0  # for the head of a request, from the opening of the connection or the answer before
READ_SECONDS = 30.0  # after which a client that does not read its answer is disconnected


def allow_connections() -> None:
    """Raise the process's limit on open files, of which every connection takes one; many systems begin at 256."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows; or the system allows no more
        import resource  # noqa: TID251 – where it is missing, so is the limit

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST_CONNECTIONS + 1000
        if soft != resource.RLIM_INFINITY and soft < wanted:
            limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class _WithoutChunks(h11.Connection):
    """Refuses bodies in chunks, which browsers do not send: those of one byte take a second for each 250 kB, in which
    nobody is answered."""

    def next_event(self):
        event = super().next_event()
        if isinstance(event, h11.Request) and any(name == b"transfer-encoding" for name, _ in event.headers):
            raise h11.RemoteProtocolError("a body without a length")
        return event


def protocol(proxies: Sequence[str]) -> type[H11Protocol]:
    """The class of the server's connections, for `uvicorn.Config(http=...)`.

    Args:
        proxies: addresses and networks of proxies, which may open MOST_CONNECTIONS each.
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
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            self.conn = _WithoutChunks(h11.SERVER, MOST_HEAD_BYTES)

        _place: contextlib.AbstractContextManager | None = None
        _head_timer: asyncio.TimerHandle | None = None  # runs while no request has begun
        _read_timer: asyncio.TimerHandle | None = None  # runs while the client does not read

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
            self._wait_for_head()

        def connection_lost(self, error: Exception | None) -> None:
            for timer in (self._head_timer, self._read_timer):
                if timer:
                    timer.cancel()
            if self._place:
                self._place.__exit__(None, None, None)
                self._place = None
            super().connection_lost(error)

        def on_response_complete(self) -> None:
            self._wait_for_head()
            super().on_response_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._read_timer = self.loop.call_later(READ_SECONDS, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._read_timer:
                self._read_timer.cancel()
                self._read_timer = None

        def _wait_for_head(self) -> None:
            if self._head_timer:
                self._head_timer.cancel()
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._abort_without_request)

        def _abort_without_request(self) -> None:
            if self.cycle is None or self.cycle.response_complete:  # no request has begun meanwhile
                self.transport.abort()

    return Connection
