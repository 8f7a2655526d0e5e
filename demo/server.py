"""The demo's application: its own routes for all that a visitor may ask for, beside the page that Gradio draws.

    POST /api/reference   what there is to say about photographs
    POST /api/start       open an attempt
    POST /api/frame       one frame of the camera, for an attempt: the picture itself, its token in a header
    POST /api/clip        judge a clip that was filmed before
    POST /api/pair        judge a photograph
    POST /api/given       a file belongs to a page, and is deleted with it
    GET  /api/page        as long as this is open, the page is

Requests are JSON of a few kilobytes, frames up to 3 MB; answers are lists of what the page's parts show, null where
one stays as it is. Whatever takes long waits for its turn (`visitors.py`): frames among frames, and the rest behind
them.
"""

import asyncio
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

import anyio
import fastapi
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from authentication.limits import visitor_of
from demo import gradio_page, live, offline
from demo.gate import Gate, Route, default_pace
from demo.uploads import MOST_FILE_BYTES, UploadLimitError, Uploads
from demo.visitors import BusyError, Present, Turns

MOST_FRAME_BYTES = 3_000_000  # of one frame as the browser encodes it; 1280 x 720 takes 300,000
MOST_JSON_BYTES = 16_000
PAGE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
PAGE_GONE_SECONDS = 3.0  # a connection that breaks off may be there again by then
SHOWN_AS = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
}
"""Files that a browser may show; any other is only handed over, for it could hold a script."""

_JSON = {"methods": ("POST",), "body": MOST_JSON_BYTES}
ROUTES = (
    Route(path="/api/(reference|start|clip|pair)", each=12, **_JSON),
    Route(path="/api/given", **_JSON),
    Route(("POST",), "/api/frame", body=MOST_FRAME_BYTES, each=48, paced=False),
    Route(("GET",), "/api/page", each=64, query=True),
    Route(("POST",), gradio_page.UPLOAD, body=MOST_FILE_BYTES + 10_000, each=6),
    Route(("GET",), gradio_page.UPLOAD_PROGRESS),
    Route(("GET", "HEAD"), f"{gradio_page.FILE}.+"),
    *gradio_page.ROUTES,
)


class Application:
    """The handlers of all requests. Nothing a client sends is trusted; files are known by the paths they were given.

    Args:
        offline_tabs: None leaves out clips and photographs.
    """

    def __init__(self, live_tab: live.Live, offline_tabs: offline.Offline | None, uploads: Uploads):
        self.live, self.offline, self.uploads = live_tab, offline_tabs, uploads
        present, cores = Present(), max(2, os.cpu_count() or 1)
        self._short = Turns(places=2, each=8, all=64, present=present, share=0.25)  # a second or two each
        self._clips = Turns(places=1, each=1, all=32, present=present, share=0.25, at_once=60, background=True)
        self._frames = Turns(places=cores, each=48, all=400, present=present, share=cores / 6)
        self._pace = default_pace()
        self._judged: set[str] = set()  # tokens of attempts whose frame is being judged
        self._pages: Counter[str] = Counter()
        self._leaving: set[asyncio.Task] = set()
        self.is_ending: Callable[[], bool] = lambda: False  # whether the server has been told to end

    def build(self, root: str, hosts: Sequence[str], framed_by: str) -> fastapi.FastAPI:
        """The application with its gate, and without a page."""
        gate = Middleware(Gate, routes=ROUTES, root=root, hosts=hosts, framed_by=framed_by, pace=self._pace)
        middleware = [gate, Middleware(gradio_page.KeptPage)]
        app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None, middleware=middleware)
        posts = {"reference": self.reference, "start": self.start, "frame": self.frame, "given": self.given}
        if self.offline:
            posts |= {"clip": self.clip, "pair": self.pair}
        for name, handler in posts.items():
            app.add_route(f"/api/{name}", handler, methods=["POST"])
        app.add_route("/api/page", self.page, methods=["GET"])
        app.add_route(gradio_page.UPLOAD, self.upload, methods=["POST"])
        app.add_route(gradio_page.UPLOAD_PROGRESS, self.upload_progress, methods=["GET"])
        app.add_route(gradio_page.FILE + "{path:path}", self.file, methods=["GET", "HEAD"])
        return app

    async def reference(self, request: Request) -> Response:
        body = await _json(request)
        return await self._work(request, self._short, self.live.on_reference, self._files(body, "photographs"))

    async def start(self, request: Request) -> Response:
        body = await _json(request)
        who = body.get("name") if self.live.enrolled else self._files(body, "photographs")
        token, address = body.get("token"), _visitor(request)
        return await self._work(request, self._short, self.live.on_start, who, token, address)

    async def pair(self, request: Request) -> Response:
        return await self._offline(request, self._short, self.offline.on_pair)

    async def clip(self, request: Request) -> Response:
        return await self._offline(request, self._clips, self.offline.on_clip)

    async def _offline(self, request: Request, turns: Turns, handler: Callable) -> Response:
        body = await _json(request)
        reference, probe = (self._file(body, name) for name in ("reference", "probe"))
        return await self._work(request, turns, handler, reference, probe, body.get("expression"))

    async def given(self, request: Request) -> Response:
        self._file(await _json(request), "file")
        return JSONResponse([])

    async def frame(self, request: Request) -> Response:
        """A frame that comes while another of its attempt is judged is refused: the newest one counts.

        Frames that are judged wait for their turn; all others count towards their visitor's pace.
        """
        token, visitor = request.headers.get("x-attempt", ""), _visitor(request)
        if not self.live.sessions.knows(token):
            await self._paced(visitor)
            return JSONResponse(self.live.over())
        if token in self._judged:
            await self._paced(visitor)
            raise HTTPException(429, "a frame of this attempt is being judged")
        self._judged.add(token)
        try:
            picture = await request.body()
            return JSONResponse(await self._frames.run(visitor, self.live.on_frame, picture, token))
        except ClientDisconnect:
            return Response(status_code=400)
        except BusyError:
            raise HTTPException(429, "too many frames at once") from None
        finally:
            self._judged.discard(token)

    async def _paced(self, visitor: str) -> None:
        try:
            await self._pace.take(visitor)
        except BusyError:
            raise HTTPException(429, "too many requests") from None

    async def page(self, request: Request) -> Response:
        """Open for as long as the page is; then its files are deleted."""
        name = _page(request.query_params.get("page"))
        if name is None:
            raise HTTPException(400, "no name of a page")

        async def alive():
            self._pages[name] += 1
            try:
                while not self.is_ending():
                    yield b": open\n\n"
                    await asyncio.sleep(1)
            finally:
                self._pages[name] -= 1
                task = asyncio.create_task(self._leave(name))
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)

        return StreamingResponse(alive(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _leave(self, name: str) -> None:
        await asyncio.sleep(PAGE_GONE_SECONDS)
        if not self._pages[name]:
            del self._pages[name]
            await asyncio.to_thread(self.uploads.leave, name)

    async def upload(self, request: Request) -> Response:
        """One file, in the part named "files". While it arrives it has no name on the disk."""
        try:
            form = await request.form(max_files=1, max_fields=0)
        except ClientDisconnect:
            return Response(status_code=400)
        try:
            given = form.getlist("files")
            if len(given) != 1 or isinstance(given[0], str) or not given[0].filename:
                raise HTTPException(400, "one file is expected, in the part named files")
            file, visitor = given[0], _visitor(request)
            path = await asyncio.to_thread(self.uploads.add, visitor, file.filename, file.file, file.size)
        except UploadLimitError as error:
            raise HTTPException(429, str(error)) from None
        finally:
            await form.close()
        return JSONResponse([path])

    async def upload_progress(self, request: Request) -> Response:
        """The page's components wait for this; a file that is small enough to be taken needs no progress."""
        return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    async def file(self, request: Request) -> Response:
        path = self.uploads.find(unquote(request.path_params["path"])) or self.uploads.find(request.path_params["path"])
        if path is None or not path.is_file():
            raise HTTPException(404, "no such file")
        kind = SHOWN_AS.get(path.suffix.lower())
        headers = {"Cache-Control": "private, no-store", "Cross-Origin-Resource-Policy": "same-origin"}
        return FileResponse(
            path,
            media_type=kind or "application/octet-stream",
            headers=headers,
            filename=path.name,
            content_disposition_type="inline" if kind else "attachment",
        )

    def _file(self, body: dict, name: str) -> Path | None:
        """An uploaded file, from now on its page's.

        Raises:
            HTTPException: a path the server has not given, or has deleted by now.
        """
        if body.get(name) is None:
            return None
        path = self.uploads.find(body[name], _page(body.get("page")))
        if path is None or not path.is_file():
            raise HTTPException(410, "this file was not uploaded here, or has been deleted by now")
        return path

    def _files(self, body: dict, name: str) -> list[Path]:
        given = body.get(name) or []
        if not isinstance(given, list) or len(given) > 100:
            raise HTTPException(400, f"{name}: a list of files is expected")
        return [self._file(body | {name: one}, name) for one in given if one is not None]

    async def _work(self, request: Request, turns: Turns, handler: Callable, *arguments) -> Response:
        """What a handler answers when its turn comes. Nothing is done for a visitor who has left.

        A handler's last argument is an event that is set when its visitor has left.
        """
        left, answer, busy = threading.Event(), None, False
        visitor = _visitor(request)
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                left.set()
                group.cancel_scope.cancel()

            group.start_soon(watch)
            try:
                answer = await turns.run(visitor, handler, *arguments, left)
            except BusyError:
                busy = True
            finally:
                left.set()
                group.cancel_scope.cancel()
        if busy:
            raise HTTPException(429, "too many requests at once")
        return Response(status_code=400) if answer is None else JSONResponse(answer)


def _visitor(request: Request) -> str:
    return visitor_of(request.client.host if request.client else "")


async def _json(request: Request) -> dict:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError, ClientDisconnect):
        body = None
    if not isinstance(body, dict):
        raise HTTPException(400, "a JSON object is expected")
    return body


def _page(name: object) -> str | None:
    return name if isinstance(name, str) and PAGE_NAME.fullmatch(name) else None
