"""The gate, in a separate server."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import uvicorn

from demo import gate as limits
from demo.gate import Gate, Route


@contextlib.contextmanager
def running(gate: Gate) -> Iterator[tuple[uvicorn.Server, str]]:
    """The server and its address, until the server ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(gate, log_config=None, timeout_graceful_shutdown=1, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(50)


def test_the_end_of_the_server_causes_no_error_for_open_requests(caplog):
    """A request that takes longer than the server waits gets an answer, and the log has no traceback."""
    received = threading.Event()

    async def takes_long(scope, receive, send):
        received.set()
        await asyncio.sleep(60)

    with running(Gate(takes_long, [Route(("GET",), "/x")])) as (server, address):
        ends = threading.Thread(target=lambda: (received.wait(30), setattr(server, "should_exit", True)))
        ends.start()
        answer = httpx.get(f"{address}/x", timeout=50)
        ends.join(50)
    assert answer.status_code == 503
    assert not [record for record in caplog.records if record.exc_info]


def test_a_body_is_read_no_faster_than_allowed(monkeypatch):
    """Otherwise uploads would delay the frames of all visitors. The body arrives completely."""
    monkeypatch.setattr(limits, "AT_ONCE_BYTES", 1_000_000)
    monkeypatch.setattr(limits, "MAX_BYTES_A_SECOND", 10_000_000)

    async def count(scope, receive, send):
        read, more = 0, True
        while more:
            message = await receive()
            read, more = read + len(message["body"]), message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(read).encode()})

    with running(Gate(count, [Route(("POST",), "/x", body=8_000_000)])) as (_, address):
        began = time.monotonic()
        assert httpx.post(f"{address}/x", content=bytes(8_000_000), timeout=50).text == "8000000"
        assert time.monotonic() - began > 0.6


def test_requests_beyond_the_pace_of_a_visitor_are_delayed(monkeypatch):
    """Refused requests are delayed, too. No request is lost."""
    monkeypatch.setattr(limits, "MAX_A_SECOND", 20)
    monkeypatch.setattr(limits, "AT_ONCE", 10)

    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    routes = [Route(("GET",), "/x"), Route(("GET",), "/frame", paced=False)]
    with running(Gate(answer, routes)) as (_, address), httpx.Client(timeout=50) as client:
        for path, status, least in (("/x", 200, 1.0), ("/nothing", 404, 1.5), ("/frame", 200, 0.0)):
            began = time.monotonic()
            assert [client.get(f"{address}{path}").status_code for _ in range(30)] == [status] * 30
            assert time.monotonic() - began >= 0.9 * least, path
