"""The first page, which appears within a second and says that the model is being downloaded or loaded.

Every request is answered with status 503, so that monitoring does not take the server for ready. `app.py` runs this
application until the demo of `command` replaces it.
"""

from collections.abc import Sequence
from html import escape

from starlette import routing
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from demo import words
from demo.gate import Gate, Route
from demo.uploads import MAX_FILE_BYTES

LATER = {"Retry-After": "1", "Cache-Control": "no-store"}
PAGE = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{words.TITLE}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font-family: system-ui, sans-serif; max-width: 45rem; margin: 3rem auto; padding: 0 1rem; line-height: 1.5; }}
</style>
<noscript><meta http-equiv="refresh" content="3"></noscript>
</head>
<body>
<h1>{words.TITLE}</h1>
<p>{words.SUBTITLE}</p>
<p id="loading" role="status"><strong>HELP</strong></p>
<script>
  // Connections wait while the server starts the demo. A connection that fails means that the server has ended.
  async function check() {{
    const loading = document.getElementById("loading");
    try {{
      const answer = await fetch(location.href, {{ cache: "no-store" }});
      if (answer.ok) return location.reload();
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      loading.textContent = page.getElementById("loading")?.textContent ?? loading.textContent;
    }} catch {{
      loading.textContent = "{escape(words.ENDED)}";
    }}
    setTimeout(check, 1000);
  }}
  setTimeout(check, 1000);
</script>
</body>
</html>
"""
ROUTES = (
    Route(("GET", "HEAD"), ".*", per_visitor=64),
    Route(("POST",), ".*", body=MAX_FILE_BYTES + 10_000, per_visitor=12),
)


def application(root: str, hosts: Sequence[str], framed_by: str) -> Starlette:
    """The application, behind the same gate as the demo; see `Gate` for the arguments. Its text is `state.help`."""
    gate = Middleware(Gate, routes=ROUTES, root=root, hosts=hosts, framed_by=framed_by)
    routes = [
        routing.Route("/", _page, methods=["GET"]),
        routing.Route("/{path:path}", _answer_later, methods=["GET", "POST"]),
    ]
    starting = Starlette(routes=routes, middleware=[gate])
    starting.state.help = words.LOADING_HELP
    return starting


async def _page(request: Request) -> Response:
    return HTMLResponse(PAGE.replace("HELP", escape(request.app.state.help)), 503, LATER)


async def _answer_later(request: Request) -> Response:
    try:
        async for _ in request.stream():  # a client that is still sending does not read the answer
            pass
    except ClientDisconnect:
        pass
    return JSONResponse({"error": request.app.state.help}, 503, LATER)
