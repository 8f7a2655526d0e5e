"""The gate in a server that is told to end."""

import asyncio
import socket
import threading

import httpx
import uvicorn

from demo.gate import Gate, Route


def test_the_end_of_the_server_is_no_error_for_who_waits(caplog):
    """A request that takes longer than the server waits is answered, and is one line in the log."""
    asked = threading.Event()

    async def takes_long(scope, receive, send):
        asked.set()
        await asyncio.sleep(60)

    listening = socket.create_server(("127.0.0.1", 0))
    gate = Gate(takes_long, [Route(("GET",), "/x")])
    server = uvicorn.Server(uvicorn.Config(gate, log_config=None, timeout_graceful_shutdown=1, lifespan="off"))
    running = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    running.start()
    ends = threading.Thread(target=lambda: (asked.wait(30), setattr(server, "should_exit", True)))
    ends.start()
    answer = httpx.get(f"http://127.0.0.1:{listening.getsockname()[1]}/x", timeout=50)
    for thread in (ends, running):
        thread.join(50)
    assert answer.status_code == 503
    assert not [record for record in caplog.records if record.exc_info]
