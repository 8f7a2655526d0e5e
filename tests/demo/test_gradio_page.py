"""The answers of Gradio are cached: the page, with the address of each request, and the files that it loads."""

import asyncio

import httpx

from demo.gradio_page import ORIGIN, PageCache

HOST = ORIGIN.removeprefix("http://")


class Renderer:
    """An application that answers every request and counts them."""

    def __init__(self, status: int = 200):
        self.status, self.rendered, self.headers = status, 0, []

    async def __call__(self, scope, receive, send):
        self.rendered += 1
        self.headers = dict(scope["headers"])
        assert scope["method"] == "GET"
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": b"a page of ", "more_body": True})
        await send({"type": "http.response.body", "body": f"http://{HOST}{scope['path']}".encode()})


def request(page: PageCache, path: str = "/", method: str = "GET", scheme: str = "http", **headers: str) -> bytes:
    all_headers = [
        (name.replace("_", "-").encode(), value.encode()) for name, value in ({"host": "a"} | headers).items()
    ]
    scope = {"type": "http", "method": method, "path": path, "scheme": scheme, "headers": all_headers}
    sent = []

    async def send(message):
        if "headers" in message:
            message["headers"].append((b"x-gate", b"1"))
        sent.append(message)

    asyncio.run(page(scope, None, send))
    assert sent[0]["headers"].count((b"x-gate", b"1")) == 1
    return b"".join(message.get("body", b"") for message in sent)


def test_the_page_is_rendered_once_for_all_visitors():
    renderer = Renderer()
    page = PageCache(renderer)
    for number in range(100):
        assert request(page, host=f"192.0.2.{number}:7") == f"a page of http://192.0.2.{number}:7/".encode()
    assert request(page, method="HEAD", scheme="https") == b"a page of https://a/"
    assert request(page, x_forwarded_host="b, c", x_forwarded_proto="https") == b"a page of https://b/"
    assert request(page, x_forwarded_proto="javascript") == b"a page of http://a/"
    assert renderer.rendered == 1
    for _ in range(2):
        assert request(page, "/config") == b"a page of http://a/config"
        request(page, "/assets/x.js")
        request(page, "/assets/x.js", accept_encoding="gzip, deflate, br")
        request(page, "/assets/x.js", accept_encoding="x, br;q=1")
    assert renderer.rendered == 4


def test_no_header_of_a_visitor_reaches_the_cached_page():
    renderer = Renderer()
    request(
        PageCache(renderer), x_gradio_server="http://evil.example", cookie="x", range="bytes=0-1", accept_encoding="br"
    )
    assert renderer.headers == {b"host": HOST.encode(), b"accept-encoding": b"br"}


def test_other_answers_are_not_cached():
    renderer, failing = Renderer(), Renderer(404)
    pages = PageCache(renderer), PageCache(failing)
    for _ in range(2):
        request(pages[0], "/gradio_api/file=x")
        request(pages[0], "/api/page")
        request(pages[1])
    assert (renderer.rendered, failing.rendered) == (4, 2)


def test_the_page_contains_the_address_of_the_request(server):
    first = httpx.get(f"{server.address}/")
    other = httpx.get(f"{server.address}/", headers={"Host": "192.0.2.77"})
    poisoned = {"X-Gradio-Server": "http://evil.example", "X-Forwarded-Proto": "https"}
    assert "evil.example" not in httpx.get(f"{server.address}/", headers=poisoned).text
    again = httpx.get(f"{server.address}/")
    assert "192.0.2.77" in other.text and "192.0.2.77" not in again.text and first.text == again.text
    assert again.headers["x-content-type-options"] == "nosniff"
