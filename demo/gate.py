"""ASGI middleware that refuses unknown routes, bodies that are too large or too slow, and requests of other sites.

It decides from the head of a request, before its body is read. `server` puts it in front of the application. The limits
on connections are in `connections`. Read `visitors` next, which orders the work.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authentication.limits import visitor_of
from demo.visitors import BusyError, OpenRequests, Pace

SLOW_SECONDS = 10.0  # for the first bytes of a body
MIN_BYTES_A_SECOND = 10_000  # of a body after that; any mobile network is faster
MAX_BYTES_A_SECOND = 8_000_000  # of a visitor's bodies after AT_ONCE_BYTES, so that live frames need not wait
AT_ONCE_BYTES = 3_000_000
MAX_A_SECOND = 100  # requests of a visitor after AT_ONCE; opening the page takes 90
AT_ONCE = 1000
# Gradio writes the host into the page, so it must not contain other characters.
HOST = re.compile(r"([\w.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", re.ASCII | re.IGNORECASE)
LOCAL_NAMES = ("localhost", "localhost.localdomain")
SPACES_FRAMES = "https://huggingface.co https://*.huggingface.co https://*.hf.space"


@dataclass(frozen=True)
class Route:
    """A kind of request.

    path: a regular expression for the whole path below the root.
    body: largest body in bytes.
    per_visitor: largest number of open requests of a visitor.
    query: whether the query string is passed to the application; otherwise it is removed.
    paced: whether requests and the bytes of their bodies count towards the visitor's pace.
    """

    methods: tuple[str, ...]
    path: str
    body: int = 0
    per_visitor: int = 32
    query: bool = False
    paced: bool = True


class Gate:
    """Answers 404 and 405 without a route, 403 for another host or site, 408 and 413 because of the body, and 429.

    Requests above a visitor's pace are answered later, also refused ones, because a waiting client sends nothing.

    Args:
        routes: all routes; of those that match a path, the first one with the request's method is used.
        root: path below which a proxy serves the page, such as /face; requests may have it or not.
        hosts: names under which the server may be called, besides IP addresses and this machine's names; "*" for any.
        framed_by: origins that may show the page in a frame, besides its own.
        pace: of visitors' requests; None means `default_pace`.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[Route],
        root: str = "",
        hosts: Sequence[str] = (),
        framed_by: str = "",
        pace: Pace | None = None,
    ):
        self.app = app
        self.pace, self.byte_pace = pace or default_pace(), Pace(MAX_BYTES_A_SECOND, AT_ONCE_BYTES)
        self.routes = [
            (route, re.compile(route.path), OpenRequests(route.per_visitor, 8 * route.per_visitor)) for route in routes
        ]
        self.root = root.rstrip("/")
        self.hosts = {name.lower() for name in (*LOCAL_NAMES, socket.gethostname(), socket.getfqdn(), *hosts)}
        self.allowed_origins = {name.lower() for name in hosts}
        self.framed_by = framed_by

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        path = self._below_root(scope["path"])
        matching = [(route, requests) for route, pattern, requests in self.routes if pattern.fullmatch(path)]
        allowed = [(route, requests) for route, requests in matching if scope["method"] in route.methods]
        route, requests = allowed[0] if allowed else (None, None)
        refusal = self._refusal(Headers(scope=scope), route)
        if route is None:
            refusal = refusal or ((405, "method not allowed") if matching else (404, "not found"))
        send = self._protected(send)
        client = scope.get("client")
        visitor = visitor_of(client[0] if client else "")
        if refusal or route.paced:
            try:
                await self.pace.take(visitor)
            except BusyError:
                refusal = 429, "too many requests"
        if refusal:
            return await _answer(*refusal)(scope, receive, send)
        scope = scope | {"path": path, "raw_path": path.encode(), "root_path": ""}
        if not route.query:
            scope["query_string"] = b""
        answering = False

        async def send_noted(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            with requests.opened(visitor):
                await self._limited(scope, receive, send_noted, route, visitor)
        except BusyError:
            await _answer(429, "too many requests at once")(scope, receive, send)
        except asyncio.CancelledError:  # the server is shutting down, which is not an error
            if not answering:
                await _answer(503, "the server ends")(scope, receive, send)

    def _below_root(self, path: str) -> str:
        if self.root and (path == self.root or path.startswith(f"{self.root}/")):
            return path[len(self.root) :] or "/"
        return path

    def _refusal(self, headers: Headers, route: Route | None) -> tuple[int, str] | None:
        """Status and reason of refusing a request by its head; None if it is not refused."""
        host = headers.get("host", "")
        forwarded = ",".join(headers.getlist("x-forwarded-host"))  # Gradio writes it into the page
        for name in (host, *(part.strip() for part in forwarded.split(",") if forwarded)):
            if not self._is_allowed_host(name):
                return 403, f"the name {name[:100]!r} is not allowed: start with --allowed-hosts NAME"
        origin = headers.get("origin")  # browsers send none when they open a page
        if origin is not None and not self._is_own_page(origin, host):
            return 403, "the request is not from a page of this server"
        if "content-length" in headers and "transfer-encoding" in headers:
            return 400, "two lengths"  # a proxy may use the other length, and take the rest as another request
        length = headers.get("content-length", "0")
        if route and (not length.isdecimal() or int(length) > route.body):
            return 413, f"more than {route.body} bytes"
        return None

    def _is_allowed_host(self, host: str) -> bool:
        """Whether the host is an IP address, which DNS rebinding cannot forge, or an allowed name."""
        if not HOST.fullmatch(host):
            return False
        try:
            name = urlsplit(f"//{host}").hostname or ""
            ipaddress.ip_address(name)
            return True
        except ValueError:
            return name in self.hosts or "*" in self.hosts

    def _is_own_page(self, origin: str, host: str) -> bool:
        try:
            parsed = urlsplit(origin)
            return parsed.netloc.lower() == host.lower() or parsed.hostname in self.allowed_origins
        except ValueError:
            return False

    async def _limited(self, scope: Scope, receive: Receive, send: Send, route: Route, visitor: str) -> None:
        """Call the application, and count the body as it arrives, as its announced length may be wrong."""
        read, complete, start = 0, False, anyio.current_time()

        async def receive_counted() -> Message:
            nonlocal read, complete
            if complete:  # the next message says that the visitor has left
                return await receive()
            seconds_left = start + SLOW_SECONDS + read / MIN_BYTES_A_SECOND - anyio.current_time()
            try:
                with anyio.fail_after(max(seconds_left, 0)):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the body arrives too slowly", {"Connection": "close"}) from None
            complete = not message.get("more_body", False)
            read += len(message.get("body", b""))
            if read > route.body:
                raise HTTPException(413, f"more than {route.body} bytes", {"Connection": "close"})
            if route.paced and message.get("body"):
                await self.byte_pace.take(visitor, len(message["body"]))
            return message

        await self.app(scope, receive_counted, send)

    def _protected(self, send: Send) -> Send:
        """`send` with the security headers added to every response."""

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = f"frame-ancestors 'self' {self.framed_by}".rstrip()
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                if not self.framed_by:  # this older header cannot allow other origins
                    headers["X-Frame-Options"] = "SAMEORIGIN"
            await send(message)

        return protected


def default_pace() -> Pace:
    """The pace of a visitor's requests."""
    return Pace(MAX_A_SECOND, AT_ONCE)


def _answer(status: int, text: str) -> JSONResponse:
    headers = {"Connection": "close"}  # the rest of the body is not read
    return JSONResponse({"error": text}, status, headers | ({"Retry-After": "1"} if status == 429 else {}))
