"""The page that Gradio renders is kept, for each address under which it is asked for."""

import asyncio

import httpx

from demo.gradio_page import MOST_RENDERED, RenderedPage


class Renderer:
    """An application that renders what it is asked for, and counts how often."""

    def __init__(self, status: int = 200):
        self.status, self.rendered = status, 0

    async def __call__(self, scope, receive, send):
        self.rendered += 1
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"x-number", b"1")]})
        host = dict(scope["headers"]).get(b"host", b"")
        await send({"type": "http.response.body", "body": scope["path"].encode() + b" of " + host})


def ask(page: RenderedPage, path: str = "/", host: str = "a", method: str = "GET") -> bytes:
    scope = {"type": "http", "method": method, "path": path, "scheme": "http", "headers": [(b"host", host.encode())]}
    sent = []

    async def send(message):
        if "headers" in message:
            message["headers"].append((b"x-gate", b"1"))
        sent.append(message)

    asyncio.run(page(scope, None, send))
    assert sent[0]["headers"].count((b"x-gate", b"1")) == 1
    return sent[1]["body"]


def test_it_is_rendered_once_for_each_address():
    renderer = Renderer()
    page = RenderedPage(renderer)
    for _ in range(3):
        assert ask(page) == b"/ of a" and ask(page, host="b") == b"/ of b"
        assert ask(page, "/config") == b"/config of a"
    assert renderer.rendered == 3


def test_nothing_else_is_kept():
    renderer, failing = Renderer(), Renderer(500)
    pages = RenderedPage(renderer), RenderedPage(failing)
    for _ in range(2):
        ask(pages[0], "/theme.css")
        ask(pages[0], method="HEAD")
        ask(pages[1])
    assert (renderer.rendered, failing.rendered) == (4, 2)


def test_the_oldest_address_gives_way():
    renderer = Renderer()
    page = RenderedPage(renderer)
    for number in range(MOST_RENDERED + 1):
        ask(page, host=f"192.0.2.{number}")
    before = renderer.rendered
    ask(page, host=f"192.0.2.{MOST_RENDERED}")
    assert renderer.rendered == before
    ask(page, host="192.0.2.0")
    assert renderer.rendered == before + 1


def test_the_server_s_page_names_the_address_it_was_asked_under(server):
    first = httpx.get(f"{server.address}/")
    other = httpx.get(f"{server.address}/", headers={"Host": "192.0.2.77"})
    again = httpx.get(f"{server.address}/")
    assert "192.0.2.77" in other.text and "192.0.2.77" not in again.text and first.text == again.text
    assert again.headers["x-content-type-options"] == "nosniff"
