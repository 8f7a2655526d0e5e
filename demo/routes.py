"""Gradio's routes, less those the page has no use for.

Some of these write files that nobody deletes, some run an event past the queue and its limits, some fetch what a
client names. So of Gradio's API only what the page itself asks for is open.
"""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

USED = re.compile(
    r"/gradio_api/(app_id|file=(?!https?://).+|heartbeat/[^/]+|info|queue/(data|join)|startup-events"
    r"|stream/[^/]+(/close)?|upload|upload_progress)"
)


class UsedRoutes:
    """ASGI middleware: nothing else of Gradio's API is found, nor its monitoring."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_used(scope["path"]):
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body"})
        else:
            await self.app(scope, receive, send)


def is_used(path: str) -> bool:
    """Whether the page asks for it. path: of a request, decoded as the routes are matched with it."""
    if path.startswith("/gradio_api"):
        return USED.fullmatch(path) is not None
    return not path.startswith("/monitoring")
