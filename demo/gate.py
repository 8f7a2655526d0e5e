"""ASGI middleware that refuses requests to unknown routes, with too large or too slow bodies, or from foreign pages.

It decides from a request's head, before any of its body is read. `server` puts it before the application; limits on
connections are in `connections`, the order of work in `visitors`.
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
LEAST_BYTES_A_SECOND = 10_000  # of a body, from then on: less than any mobile network
MOST_BYTES_A_SECOND = 8_000_000  # of a visitor's bodies, after the first AT_ONCE_BYTES: frames must not wait for them
AT_ONCE_BYTES = 3_000_000
MOST_A_SECOND = 100  # requests of a visitor, after the first AT_ONCE; opening the page takes 90
AT_ONCE = 1000
HOST = re.compile(r"([\w.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", re.ASCII | re.IGNORECASE)  # it is written into the page
LOCAL_NAMES = ("localhost", "localhost.localdomain")
SPACES_FRAMES = "https://huggingface.co https://*.huggingface.co https://*.hf.space"


@dataclass(frozen=True)
class Route:
    """A kind of request.

    path: a regular expression for the whole path, below the root.
    body: largest body in bytes.
    each: most open requests of a visitor.
    query: whether the application is given the query string; it is removed otherwise.
    paced: whether a visitor's requests, and the bytes of their bodies, count towards its pace.
    """

    methods: tuple[str, ...]
    path: str
    body: int = 0
    each: int = 32
    query: bool = False
    paced: bool = True


class Gate:
    """Answers 404 and 405 where there is no route, 403 for a foreign host or page, 408 and 413 for a body, and 429.

    Requests beyond a visitor's pace, refused ones too, are answered later: who waits sends no others.

    Args:
        routes: all routes; of those that match a path, the first with the request's method counts.
        root: path below which a proxy serves the page, such as /face; requests may have it or not.
        hosts: names by which the server may be called, besides addresses and this machine's own names; "*" for any.
        framed_by: origins that may show the page in a frame, besides itself.
        pace: of visitors' requests; `default_pace` if None.
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
        self.pace, self.pace_of_bytes = pace or default_pace(), Pace(MOST_BYTES_A_SECOND, AT_ONCE_BYTES)
        self.routes = [(route, re.compile(route.path), OpenRequests(route.each, 8 * route.each)) for route in routes]
        self.root = root.rstrip("/")
        self.hosts = {name.lower() for name in (*LOCAL_NAMES, socket.gethostname(), socket.getfqdn(), *hosts)}
        self.named = {name.lower() for name in hosts}
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
            with requests.one_more(visitor):
                await self._limited(scope, receive, send_noted, route, visitor)
        except BusyError:
            await _answer(429, "too many requests at once")(scope, receive, send)
        except asyncio.CancelledError:  # the server is shutting down, which is not an error for its log
            if not answering:
                await _answer(503, "the server ends")(scope, receive, send)

    def _below_root(self, path: str) -> str:
        if self.root and (path == self.root or path.startswith(f"{self.root}/")):
            return path[len(self.root) :] or "/"
        return path

    def _refusal(self, headers: Headers, route: Route | None) -> tuple[int, str] | None:
        """Status and reason for which the head is refused; None where it is not."""
        host = headers.get("host", "")
        forwarded = ",".join(headers.getlist("x-forwarded-host"))  # Gradio writes it into its page
        for name in (host, *(part.strip() for part in forwarded.split(",") if forwarded)):
            if not self._is_allowed_host(name):
                return 403, f"not served under the name {name[:100]!r}: start with --allowed-hosts NAME"
        origin = headers.get("origin")  # browsers send none when they open a page
        if origin is not None and not self._is_own_page(origin, host):
            return 403, "not from a page of this server"
        if "content-length" in headers and "transfer-encoding" in headers:
            return 400, "two lengths"  # a proxy may have taken the other one, and the rest for another request
        length = headers.get("content-length", "0")
        if route and (not length.isdecimal() or int(length) > route.body):
            return 413, f"more than {route.body} bytes"
        return None

    def _is_allowed_host(self, host: str) -> bool:
        """Any address, which no DNS rebinding can forge, or a name of this machine."""
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
            parts = urlsplit(origin)
            return parts.netloc.lower() == host.lower() or parts.hostname in self.named
        except ValueError:
            return False

    async def _limited(self, scope: Scope, receive: Receive, send: Send, route: Route, visitor: str) -> None:
        """Call the application; count the body as it arrives, since its announced length may be missing or wrong."""
        read, complete, began = 0, False, anyio.current_time()

        async def receive_counted() -> Message:
            nonlocal read, complete
            if complete:  # the next message is that the visitor has left
                return await receive()
            seconds_left = began + SLOW_SECONDS + read / LEAST_BYTES_A_SECOND - anyio.current_time()
            try:
                with anyio.fail_after(max(seconds_left, 0)):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the body does not arrive", {"Connection": "close"}) from None
            complete = not message.get("more_body", False)
            read += len(message.get("body", b""))
            if read > route.body:
                raise HTTPException(413, f"more than {route.body} bytes", {"Connection": "close"})
            if route.paced and message.get("body"):
                await self.pace_of_bytes.take(visitor, len(message["body"]))
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
                if not self.framed_by:  # this older header cannot name several
                    headers["X-Frame-Options"] = "SAMEORIGIN"
            await send(message)

        return protected


def default_pace() -> Pace:
    """Of a visitor's requests."""
    return Pace(MOST_A_SECOND, AT_ONCE)


def _answer(status: int, text: str) -> JSONResponse:
    headers = {"Connection": "close"}  # what else the client sends is not read
    return JSONResponse({"error": text}, status, headers | ({"Retry-After": "1"} if status == 429 else {}))
