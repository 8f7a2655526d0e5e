"""Limits on connections: their number, the time for the head of a request, and the time for reading an answer.

An ASGI application sees a connection only after the head of a request is complete. Therefore these limits are in
uvicorn's protocol class. `app.py` calls it. Read `gate` next, which has the limits on requests.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import Sequence

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from authentication.limits import visitor_of
from demo.visitors import BusyError, OpenRequests

MAX_CONNECTIONS_PER_VISITOR = 256  # of one visitor; a browser opens six
MAX_CONNECTIONS = 3000  # of all visitors
MAX_HEAD_BYTES = 32_000
HEAD_SECONDS = 15.0  # for the head of a request, since the connection was opened or the last answer was sent
READ_SECONDS = 30.0  # after which a client that does not read its answer is disconnected


def allow_connections() -> None:
    """Raise the process's limit on open files. Each connection needs one, and many systems start with 256."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows, or the system does not allow more
        import resource  # noqa: TID251 – where it is missing, so is the limit

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = MAX_CONNECTIONS + 1000
        if soft != resource.RLIM_INFINITY and soft < needed:
            limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class _WithoutChunks(h11.Connection):
    """Refuses chunked bodies, which browsers do not send. Chunks of one byte would block the server for a second for
    each 250 kB."""

    def next_event(self):
        event = super().next_event()
        if isinstance(event, h11.Request) and any(name == b"transfer-encoding" for name, _ in event.headers):
            raise h11.RemoteProtocolError("a body without Content-Length")
        return event


def protocol(proxies: Sequence[str]) -> type[H11Protocol]:
    """The class of the server's connections, for `uvicorn.Config(http=...)`.

    Args:
        proxies: addresses and networks of proxies, which may open MAX_CONNECTIONS each.
    """
    networks = [ipaddress.ip_network(name, strict=False) for name in proxies]
    visitor_connections = OpenRequests(MAX_CONNECTIONS_PER_VISITOR, MAX_CONNECTIONS)
    proxy_connections = OpenRequests(MAX_CONNECTIONS, MAX_CONNECTIONS)

    def connections_of(address: str) -> OpenRequests:
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:
            return visitor_connections
        return proxy_connections if any(peer in network for network in networks) else visitor_connections

    class Connection(H11Protocol):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, **keywords)
            self.conn = _WithoutChunks(h11.SERVER, MAX_HEAD_BYTES)

        _place: contextlib.AbstractContextManager | None = None
        _head_timer: asyncio.TimerHandle | None = None  # runs while there is no request
        _read_timer: asyncio.TimerHandle | None = None  # runs while the client does not read

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            address = self.client[0] if self.client else ""
            place = connections_of(address).opened(visitor_of(address))
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
            if self.cycle is None or self.cycle.response_complete:  # still no request
                self.transport.abort()

    return Connection
