"""The only module that depends on Gradio's internals: the routes its page needs, and the values of its components.

Gradio draws the page and nothing else. Its queue, server events, uploads and session state are neither used nor
reachable: `page.js` sends requests to the routes of `server.py` instead. Called by `server` and `offline`.
"""

import os
from pathlib import Path

import fastapi
import gradio as gr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo import words
from demo.gate import Route

FILE = "/gradio_api/file="  # below which the page looks for what was uploaded
UPLOAD = "/gradio_api/upload"
UPLOAD_PROGRESS = "/gradio_api/upload_progress"
ROUTES = (
    Route(("GET", "HEAD"), "/"),
    Route(("GET", "HEAD"), r"/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json)", each=64),
    Route(("GET", "HEAD"), r"/(assets|static)/(?:[\w@+-][\w.@+-]*/)*[\w@+-][\w.@+-]*", each=256),
)

# Gradio renders these for each request: tens of milliseconds, in which the server accepts no frame.
RENDERED = ("/", "/config")
RENDERED_FROM = ("host", "x-forwarded-host", "x-forwarded-proto", "accept-encoding")  # the headers they depend on
MOST_RENDERED = 32


def before_building(folder: Path) -> None:
    """Set the folder in which Gradio keeps copies of the examples, and turn off its analytics."""
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def copies(page: gr.Blocks) -> list[str]:
    """The page's files that Gradio has copied; visitors may request them."""
    return [file for block in page.blocks.values() for file in block.keep_in_cache]


def mount(app: fastapi.FastAPI, page: gr.Blocks, root: str, style: Path, script: Path) -> None:
    """Serve the page below an application's other routes.

    Args:
        root: the path below which a proxy serves the application, or "".
    """
    gr.mount_gradio_app(
        app,
        page,
        path="",
        root_path=root or None,
        theme=gr.themes.Soft(primary_hue="blue", font=["system-ui", "sans-serif"]),
        css_paths=[style],
        head=f"<script>{script.read_text(encoding='utf-8')}</script>",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        show_error=False,
        i18n=gr.I18n(en={"common.webcam": words.FROM_CAMERA}),  # Gradio's own dictionaries lack it
    )


class RenderedPage:
    """ASGI middleware that keeps what Gradio has rendered: the page is the same for everybody.

    It contains the server's address as the visitor wrote it, so each address has a copy, MOST_RENDERED at most.
    """

    def __init__(self, app: ASGIApp):
        self.app = app
        self._kept: dict[tuple, list[Message]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] not in RENDERED:
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        key = (scope["path"], scope["scheme"], *(headers.get(name) for name in RENDERED_FROM))
        messages = self._kept.get(key)
        if messages is None:
            messages = []

            async def keep(message: Message) -> None:
                messages.append(message)

            await self.app(scope, receive, keep)
            if messages and messages[0].get("status") == 200:
                if len(self._kept) >= MOST_RENDERED:
                    del self._kept[next(iter(self._kept))]
                self._kept[key] = messages
        for message in messages:
            # a copy of the headers, because the gate adds to them
            await send(message | ({"headers": list(message["headers"])} if "headers" in message else {}))


def file_value(path: str | Path) -> dict:
    """A file as the value of a component; `page.js` adds its URL."""
    return {"path": str(path), "orig_name": Path(path).name, "meta": {"_type": "gradio.FileData"}}
