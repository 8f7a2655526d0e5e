"""The only module that depends on Gradio's internals: the routes its page needs, and the values of its components.

Gradio only draws the page. Its queue, server events, uploads and session state are not used and not reachable:
`page.js` sends requests to the routes of `server.py` instead. `command`, `server` and `offline` call this module.
"""

import asyncio
import os
import re
from pathlib import Path

import fastapi
import gradio as gr
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo import words
from demo.gate import Route

FILE = "/gradio_api/file="  # prefix of the routes of uploaded files in the page
UPLOAD = "/gradio_api/upload"
UPLOAD_PROGRESS = "/gradio_api/upload_progress"
ROUTES = (
    Route(("GET", "HEAD"), "/"),
    Route(("GET", "HEAD"), r"/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json)", per_visitor=64),
    Route(("GET", "HEAD"), r"/(assets|static)/(?:[\w@+-][\w.@+-]*/)*[\w@+-][\w.@+-]*", per_visitor=256),
)
PAGE = re.compile("|".join(f"(?:{route.path})" for route in ROUTES))

# These contain the server's address as the visitor sees it. Gradio renders them for each request.
RENDERED = ("/", "/config")
ORIGIN = "http://address.invalid"  # stands for the address in cached pages, and is replaced for each visitor


def before_building(folder: Path) -> None:
    """Set the folder in which Gradio stores copies of the examples, and switch off its analytics."""
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def copies(page: gr.Blocks) -> list[str]:
    """The files of the page that Gradio has copied; visitors may request them."""
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
        i18n=gr.I18n(en={"common.webcam": words.FROM_CAMERA}),  # missing in Gradio's dictionaries
    )


class PageCache:
    """ASGI middleware that caches Gradio's answers to GET and HEAD, which are the same for all visitors.

    Gradio renders the page and compresses its scripts for each request. This takes up to a tenth of a second, during
    which the server accepts no frame. Gradio only gets the accepted encoding of a visitor's headers, because any other
    header could change what later visitors see. Only existing files are cached, about 40 MB.
    """

    def __init__(self, app: ASGIApp):
        self.app = app
        self._answers: dict[tuple[str, str], list[Message]] = {}
        self._rendering = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or not PAGE.fullmatch(scope["path"]):
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        accepted = headers.get("accept-encoding", "")
        key = scope["path"], next((name for name in ("br", "gzip") if name in accepted), "identity")
        if key not in self._answers:
            async with self._rendering:  # further requests for the same file wait for this answer
                messages = self._answers.get(key) or await self._render(scope, receive, key[1])
            if messages[0].get("status") == 200:
                self._answers[key] = messages
        else:
            messages = self._answers[key]
        if scope["path"] in RENDERED:
            messages = _with_address(messages, _address(headers, scope["scheme"]))
        for message in messages:
            # a copy of the headers, because the gate adds some; the server omits the body for HEAD
            await send(message | ({"headers": list(message["headers"])} if "headers" in message else {}))

    async def _render(self, scope: Scope, receive: Receive, encoding: str) -> list[Message]:
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        headers = [(b"host", ORIGIN.removeprefix("http://").encode()), (b"accept-encoding", encoding.encode())]
        await self.app(scope | {"method": "GET", "scheme": "http", "headers": headers}, receive, keep)
        return messages


def _address(headers: Headers, scheme: str) -> str:
    """Scheme and host under which a visitor reaches the server, or a proxy. The gate has checked the host."""
    forwarded = [headers.get(f"x-forwarded-{name}", "").partition(",")[0].strip() for name in ("host", "proto")]
    return f"{'https' if forwarded[1] == 'https' else scheme}://{forwarded[0] or headers.get('host', '')}"


def _with_address(messages: list[Message], address: str) -> list[Message]:
    body = b"".join(message.get("body", b"") for message in messages).replace(ORIGIN.encode(), address.encode())
    headers = MutableHeaders(raw=list(messages[0].get("headers", ())))
    headers["content-length"] = str(len(body))
    return [messages[0] | {"headers": headers.raw}, {"type": "http.response.body", "body": body}]


def file_value(path: str | Path) -> dict:
    """A file as the value of a Gradio component; `page.js` adds its URL."""
    return {"path": str(path), "orig_name": Path(path).name, "meta": {"_type": "gradio.FileData"}}
