"""The demo's application: its routes, besides the page that Gradio draws.

    POST /api/reference   check photographs
    POST /api/start       open an attempt
    POST /api/frame       judge a frame of the camera; the body is the image, a header has the attempt's token
    POST /api/clip        judge a recorded clip
    POST /api/pair        judge a photograph
    POST /api/register    register that a file belongs to a page, and is deleted with it
    GET  /api/page        is open for as long as the page is

Requests are JSON of a few kilobytes, frames up to 3 MB. Answers are lists of the new contents of the page's parts; null
means that a part does not change. Slow work waits for its turn (`visitors`): frames wait for other frames only, other
work waits longer. `command` makes the application. Read `live` next.
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
from demo.uploads import MAX_FILE_BYTES, UploadLimitError, Uploads
from demo.visitors import BusyError, Present, Turns

MAX_FRAME_BYTES = 3_000_000  # of an encoded frame; 1280 x 720 takes 300,000
MAX_JSON_BYTES = 16_000
PAGE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
PAGE_GONE_SECONDS = 3.0  # time for a lost connection to come back
MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
}
"""Files that a browser may display. Other files are sent as downloads, because they could contain a script."""

_JSON = {"methods": ("POST",), "body": MAX_JSON_BYTES}
ROUTES = (
    Route(path="/api/(reference|start|clip|pair)", per_visitor=12, **_JSON),
    Route(path="/api/register", **_JSON),
    Route(("POST",), "/api/frame", body=MAX_FRAME_BYTES, per_visitor=48, paced=False),
    Route(("GET",), "/api/page", per_visitor=64, query=True),
    Route(("POST",), gradio_page.UPLOAD, body=MAX_FILE_BYTES + 10_000, per_visitor=6),
    Route(("GET",), gradio_page.UPLOAD_PROGRESS),
    Route(("GET", "HEAD"), f"{gradio_page.FILE}.+"),
    *gradio_page.ROUTES,
)


class Application:
    """The handlers of all requests. Requests are not trusted: a file is only used if its path is that of an upload.

    Args:
        offline_tabs: None for a demo without clips and photographs.
    """

    def __init__(self, live_tab: live.Live, offline_tabs: offline.Offline | None, uploads: Uploads):
        self.live, self.offline, self.uploads = live_tab, offline_tabs, uploads
        present, cores = Present(), max(2, os.cpu_count() or 1)
        # tasks of one or two seconds
        self._short = Turns(places=2, per_visitor=8, total=64, present=present, share=0.25)
        self._clips = Turns(places=1, per_visitor=1, total=32, present=present, share=0.25, at_once=60, background=True)
        self._frames = Turns(places=cores, per_visitor=48, total=400, present=present, share=cores / 6)
        self._pace = default_pace()
        self._being_judged: set[str] = set()  # tokens of attempts with a frame that is being judged
        self._pages: Counter[str] = Counter()
        self._leaving: set[asyncio.Task] = set()
        self.is_ending: Callable[[], bool] = lambda: False  # whether the server has been told to end

    def build(self, root: str, hosts: Sequence[str], framed_by: str) -> fastapi.FastAPI:
        """The application with its gate, without the page."""
        gate = Middleware(Gate, routes=ROUTES, root=root, hosts=hosts, framed_by=framed_by, pace=self._pace)
        middleware = [gate, Middleware(gradio_page.PageCache)]
        app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None, middleware=middleware)
        posts = {"reference": self.reference, "start": self.start, "frame": self.frame, "register": self.register}
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
        return await self._work(request, self._short, self.live.on_reference, self._uploaded_files(body, "photographs"))

    async def start(self, request: Request) -> Response:
        body = await _json(request)
        photographs_or_name = body.get("name") if self.live.enrolled else self._uploaded_files(body, "photographs")
        token, address = body.get("token"), _visitor(request)
        return await self._work(request, self._short, self.live.on_start, photographs_or_name, token, address)

    async def pair(self, request: Request) -> Response:
        return await self._offline(request, self._short, self.offline.on_pair)

    async def clip(self, request: Request) -> Response:
        return await self._offline(request, self._clips, self.offline.on_clip)

    async def _offline(self, request: Request, turns: Turns, handler: Callable) -> Response:
        body = await _json(request)
        reference, probe = (self._uploaded_file(body, name) for name in ("reference", "probe"))
        return await self._work(request, turns, handler, reference, probe, body.get("expression"))

    async def register(self, request: Request) -> Response:
        self._uploaded_file(await _json(request), "file")
        return JSONResponse([])

    async def frame(self, request: Request) -> Response:
        """Judge a frame. It is refused while another frame of its attempt is being judged, because frames must be new.

        Frames that are judged wait for their turn. All others count towards the visitor's pace.
        """
        token, visitor = request.headers.get("x-attempt", ""), _visitor(request)
        if not self.live.sessions.knows(token):
            await self._wait_for_pace(visitor)
            return JSONResponse(self.live.closed())
        if token in self._being_judged:
            await self._wait_for_pace(visitor)
            raise HTTPException(429, "a frame of this attempt is being judged")
        self._being_judged.add(token)
        try:
            image = await request.body()
            return JSONResponse(await self._frames.run(visitor, self.live.on_frame, image, token))
        except ClientDisconnect:
            return Response(status_code=400)
        except BusyError:
            raise HTTPException(429, "too many frames at once") from None
        finally:
            self._being_judged.discard(token)

    async def _wait_for_pace(self, visitor: str) -> None:
        try:
            await self._pace.take(visitor)
        except BusyError:
            raise HTTPException(429, "too many requests") from None

    async def page(self, request: Request) -> Response:
        """An answer that ends when the page is closed; then the page's files are deleted."""
        name = _page_name(request.query_params.get("page"))
        if name is None:
            raise HTTPException(400, "the name of the page is missing")

        async def keep_open():
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

        return StreamingResponse(keep_open(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _leave(self, name: str) -> None:
        await asyncio.sleep(PAGE_GONE_SECONDS)
        if not self._pages[name]:
            del self._pages[name]
            await asyncio.to_thread(self.uploads.leave, name)

    async def upload(self, request: Request) -> Response:
        """Store one file, from the part named "files". Until it is complete it is in an unnamed temporary file."""
        try:
            form = await request.form(max_files=1, max_fields=0)
        except ClientDisconnect:
            return Response(status_code=400)
        try:
            parts = form.getlist("files")
            if len(parts) != 1 or isinstance(parts[0], str) or not parts[0].filename:
                raise HTTPException(400, "one file is expected, in the part named files")
            file, visitor = parts[0], _visitor(request)
            path = await asyncio.to_thread(self.uploads.add, visitor, file.filename, file.file, file.size)
        except UploadLimitError as error:
            raise HTTPException(429, str(error)) from None
        finally:
            await form.close()
        return JSONResponse([path])

    async def upload_progress(self, request: Request) -> Response:
        """The page's components wait for this answer. Files are small, so it says at once that the upload is done."""
        return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    async def file(self, request: Request) -> Response:
        path = self.uploads.find(unquote(request.path_params["path"])) or self.uploads.find(request.path_params["path"])
        if path is None or not path.is_file():
            raise HTTPException(404, "no such file")
        kind = MEDIA_TYPES.get(path.suffix.lower())
        headers = {"Cache-Control": "private, no-store", "Cross-Origin-Resource-Policy": "same-origin"}
        return FileResponse(
            path,
            media_type=kind or "application/octet-stream",
            headers=headers,
            filename=path.name,
            content_disposition_type="inline" if kind else "attachment",
        )

    def _uploaded_file(self, body: dict, name: str) -> Path | None:
        """An uploaded file, which from now on belongs to the page of the request.

        Raises:
            HTTPException: the path is not that of an upload, or the file was deleted.
        """
        if body.get(name) is None:
            return None
        path = self.uploads.find(body[name], _page_name(body.get("page")))
        if path is None or not path.is_file():
            raise HTTPException(410, "this file was not uploaded here, or was deleted")
        return path

    def _uploaded_files(self, body: dict, name: str) -> list[Path]:
        paths = body.get(name) or []
        if not isinstance(paths, list) or len(paths) > 100:
            raise HTTPException(400, f"{name}: a list of files is expected")
        return [self._uploaded_file(body | {name: path}, name) for path in paths if path is not None]

    async def _work(self, request: Request, turns: Turns, handler: Callable, *arguments) -> Response:
        """Call a handler when its turn comes, and return its answer, unless the visitor has left before.

        The last argument of a handler is an event that is set when the visitor has left.
        """
        has_left, result, busy = threading.Event(), None, False
        visitor = _visitor(request)
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                has_left.set()
                group.cancel_scope.cancel()

            group.start_soon(watch)
            try:
                result = await turns.run(visitor, handler, *arguments, has_left)
            except BusyError:
                busy = True
            finally:
                has_left.set()
                group.cancel_scope.cancel()
        if busy:
            raise HTTPException(429, "too many requests at once")
        return Response(status_code=400) if result is None else JSONResponse(result)


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


def _page_name(name: object) -> str | None:
    return name if isinstance(name, str) and PAGE_NAME.fullmatch(name) else None
