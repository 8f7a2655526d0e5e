"""Attacks of one visitor on the others, as real requests to the real server.

The attacker and the other visitors have different addresses. Every wait has a limit, because successful attacks would
take minutes or gigabytes.
"""

import contextlib
import gzip
import http.client
import io
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image
from servers import ForkedServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route as StarletteRoute

from authentication.authenticator import DEFAULT_MODEL
from authentication.limits import FREE_ATTEMPTS_PER_ADDRESS
from benchmarks.hostile import bomb_clip, bomb_picture
from benchmarks.live import Page, RefusedError, jpeg_frames, photograph
from demo import connections, gate, uploads
from demo.connections import MAX_CONNECTIONS_PER_VISITOR
from demo.examples import WELL_KNOWN
from demo.uploads import ALIVE, PREFIX, STALE_SECONDS, UPLOAD_SECONDS, UploadLimitError, Uploads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several addresses of one machine need Linux")
ATTACKER = "127.0.0.66"
addresses = (f"127.0.3.{number}" for number in range(1, 255))  # one for each test, because starts count per address
PERSON = WELL_KNOWN[0]
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def server():
    """A separate server, so that its counters do not affect other tests."""
    with ForkedServer(str(DEFAULT_MODEL), "--challenge", "happy") as running:
        yield running
        assert "Traceback" not in running.log(), running.log()


@pytest.fixture
def attacker(server):
    with contextlib.closing(Page(server.address, next(addresses))) as page:
        yield page


@pytest.fixture
def genuine(server):
    with contextlib.closing(Page(server.address, next(addresses))) as page:
        yield page


def status_of(call, *arguments, **named) -> int:
    try:
        call(*arguments, **named)
    except RefusedError as error:
        return error.status
    return 200


def check_attempt(page: Page) -> None:
    """Start an attempt and check that the server answers each frame."""
    person = next(people)
    token = page.start([page.upload("me.png", photograph(person))])[0]
    assert token
    for picture in jpeg_frames(person, "neutral")[:5]:
        assert "card ask" in page.frame(picture, token)[1]


people = cycle(WELL_KNOWN)  # in turn, because a face has to wait after a few failures


@contextlib.contextmanager
def repeated_in_threads(function, threads: int):
    """Call a function repeatedly in threads."""
    end = threading.Event()

    def repeat() -> None:
        while not end.is_set():
            function()

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(repeat) for _ in range(threads)]
        try:
            yield
        finally:
            end.set()
        for task in running:
            task.result()


@pytest.mark.parametrize(
    ("side", "frames", "same_time"), [(8000, 20, False), (8000, 20, True), (400, 4100, True), (3800, 300, False)]
)
def test_a_clip_that_is_too_much_work_is_refused_before_it_is_decoded(attacker, side, frames, same_time):
    data = bomb_clip(side, frames, same_time)
    assert len(data) < 20 * MEGABYTE
    clip, face = attacker.upload("bomb.mkv", data), attacker.upload("me.png", photograph(PERSON))
    verdict, _ = attacker.ask("clip", reference=face, probe=clip, expression="happy")
    assert "too long or too large a clip" in verdict


@pytest.mark.parametrize(
    "content",
    [
        "ffconcat version 1.0\nfile 'me.png'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\nhttp://127.0.0.1:{port}/clip.ts\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
    ],
)
def test_a_playlist_opens_no_other_file_and_no_address(attacker, content):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        text = content.format(port=listener.getsockname()[1]).encode()
        clip, face = attacker.upload("clip.mp4", text), attacker.upload("me.png", photograph(PERSON))
        verdict, _ = attacker.ask("clip", reference=face, probe=clip, expression="happy")
        assert "a playlist" in verdict
        listener.settimeout(0.5)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_many_clips_of_one_visitor_leave_room_for_others(server, genuine):
    data = bomb_clip(1000, 600)  # some seconds of work
    statuses = set()

    def send_clip() -> None:
        with contextlib.closing(Page(server.address, ATTACKER, timeout=20)) as page:  # then the attacker gives up
            clip, face = page.upload("long.mkv", data), page.upload("me.png", photograph(PERSON))
            statuses.add(status_of(page.ask, "clip", reference=face, probe=clip, expression="happy"))

    with ThreadPoolExecutor(5) as pool:
        attacks = [pool.submit(send_clip) for _ in range(5)]
        check_attempt(genuine)
        other = genuine.upload("me.png", photograph(PERSON))
        assert status_of(genuine.ask, "pair", reference=other, probe=other, expression="happy") == 200
        for attack in attacks:
            with contextlib.suppress(httpx.TimeoutException):  # the attacker gave up
                attack.result()
    assert 429 in statuses, "one visitor has one place in the queue"


def test_references_of_many_megapixels_block_nobody(server, genuine):
    data = bomb_picture()
    assert len(data) < 300_000
    page = Page(server.address, ATTACKER)
    files = [page.upload(f"{number}.png", data) for number in range(5)]
    assert "megapixels, over the limit of 13" in page.ask("reference", photographs=files)[0]

    def start() -> None:
        assert status_of(page.start, files) in (200, 429)

    with repeated_in_threads(start, 16):
        check_attempt(genuine)
    page.close()


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG with many copies of its last scan. A copy has 40 bytes, but covers the complete image."""
    data = io.BytesIO()
    Image.new("L", (side, side), 90).save(data, "JPEG", progressive=True, quality=50)
    jpeg = data.getvalue()
    last = jpeg[jpeg.rindex(b"\xff\xc4", 0, jpeg.rindex(b"\xff\xda")) : -2]  # with its Huffman table
    return jpeg[:-2] + last * scans + b"\xff\xd9"


def test_a_picture_of_many_scans_is_refused_before_it_is_decoded(attacker):
    """Decoding would take half an hour for the photograph and half a minute for the frame."""
    photo, frame = many_scans(3600, 380_000), many_scans(1100, 80_000)
    assert len(photo) < 20 * MEGABYTE and len(frame) < 3 * MEGABYTE
    assert "scans, over the limit" in attacker.ask("reference", photographs=[attacker.upload("a.jpg", photo)])[0]
    person = next(people)
    face = jpeg_frames(person, "neutral")[0]  # drawn before the attempt, which ends if no frame comes for 3 seconds
    token = attacker.start([attacker.upload("me.png", photograph(person))])[0]
    assert attacker.frame(frame, token)[0] == token, "a frame without a face"
    assert "card ask" in attacker.frame(face, token)[1]


def test_requests_of_one_visitor_are_limited_per_second(server, attacker, genuine):
    """Refused requests and frames without an attempt count like all others."""
    began = time.monotonic()
    for number in range(gate.AT_ONCE // 4 + 100):
        assert attacker.http.get("/robots.txt").status_code in (200, 404)
        assert attacker.http.post("/gradio_api/queue/join", content=b"{}").status_code == 404
        assert attacker.http.post("/api/frame", content=b"", headers={"X-Attempt": "none"}).json()[0] == ""
        assert attacker.http.get("/", headers={"Host": f"192.0.2.{number % 250}"}).status_code == 200
    assert time.monotonic() - began >= 0.9 * 400 / gate.MAX_A_SECOND
    check_attempt(genuine)


def test_scripts_of_the_page_are_compressed_once(attacker):
    """The compression of the largest one takes a tenth of a second, during which no frame is answered."""
    from gradio import routes

    folder = Path(routes.__file__).parent / "templates" / "frontend" / "assets"
    largest = max(folder.glob("*.js"), key=lambda file: file.stat().st_size)
    answers = []
    for accepted in ("br", "gzip, deflate, br", "gzip", "identity", "br"):
        answer = attacker.http.get(f"/assets/{largest.name}", headers={"Accept-Encoding": accepted})
        assert answer.status_code == 200 and answer.content == largest.read_bytes(), accepted
        answers.append(answer.headers.get("content-encoding"))
    assert answers == ["br", "br", "gzip", None, "br"]
    assert attacker.http.head(f"/assets/{largest.name}").content == b""


def test_starts_count_before_a_photograph_is_examined(server):
    page = Page(server.address, "127.0.0.67")
    file = page.upload("nobody.png", bomb_picture(300))
    cards = [page.start([file])[1] for _ in range(FREE_ATTEMPTS_PER_ADDRESS + 1)]
    page.close()
    assert ["Too many failed attempts" in card for card in cards] == [False] * FREE_ATTEMPTS_PER_ADDRESS + [True]


@pytest.mark.parametrize(
    "path", ["/api/start", "/api/reference", "/api/clip", "/api/pair", "/api/register", "/api/frame"]
)
@pytest.mark.parametrize("announced", [True, False])
def test_bodies_have_a_limit(attacker, genuine, path, announced):
    """21 MB of empty lists. The length of a body in chunks is unknown, so nothing of it is read."""
    token = attacker.start([attacker.upload("me.png", photograph(PERSON))])[0] if path == "/api/frame" else ""
    body = b'{"photographs": [' + b"[]," * (7 * MEGABYTE) + b"[]]}"
    content = body if announced else (body[at : at + MEGABYTE] for at in range(0, len(body), MEGABYTE))
    # the server may close the connection before it has read the body
    with contextlib.suppress(httpx.NetworkError, httpx.RemoteProtocolError):
        status = attacker.http.post(path, content=content, headers={"X-Attempt": token}).status_code
        assert status == (413 if announced else 400)
    assert genuine.http.get("/config", timeout=30).status_code == 200


def test_bodies_in_chunks_are_not_read(server, genuine):
    """Chunks of one byte, or with 20 kB of extensions, would take seconds to read."""
    for chunks in (b"1\r\na\r\n" * 1_000_000, (b"1;" + b"x" * 20_000 + b"\r\na\r\n") * 300):
        head = b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        with open_connection(server, ATTACKER, head + chunks) as connection:
            assert read_to_end(connection)[:13] in (b"HTTP/1.1 400 ", b"")
    check_attempt(genuine)


def test_a_page_has_a_short_name(attacker):
    for name in ("x" * 65, "x" * 60_000, "a b", "é", "", "../x"):
        with contextlib.suppress(httpx.HTTPError):  # the longest name exceeds the limit of the head
            answer = attacker.http.get("/api/page", params={"page": name}, timeout=20)
            assert answer.status_code in (400, 431), name
    file = attacker.upload("me.png", photograph(PERSON))
    poisoned = json.dumps({"page": "\ud800", "file": file})  # a lone surrogate
    assert attacker.http.post("/api/register", content=poisoned).status_code == 200
    answer = attacker.http.post("/gradio_api/queue/join", content=poisoned.replace("page", "session_hash"))
    assert answer.status_code == 404, "the name must not reach Gradio's statistics"


def test_open_requests_of_one_visitor_have_a_limit(server, genuine):
    """Many requests with a head and half a body."""
    port = int(server.address.rpartition(":")[2])
    head = b"POST /api/start HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{"
    opened = []
    try:
        for _ in range(60):
            opened.append(socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.68", 0)))
            opened[-1].sendall(head)
        opened[-1].settimeout(30)
        assert b" 429 " in opened[-1].recv(100)
        check_attempt(genuine)
    finally:
        for connection in opened:
            connection.close()


def open_connection(server, source: str, sent: bytes = b"") -> socket.socket:
    """A new connection on which some bytes have been sent."""
    port = int(server.address.rpartition(":")[2])
    connection = socket.create_connection(("127.0.0.1", port), source_address=(source, 0), timeout=90)
    with contextlib.suppress(OSError):  # the server may have closed the connection
        connection.sendall(sent)
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_connections_of_one_visitor_have_a_limit(server, genuine):
    """Open connections without any request."""
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(open_connection(server, "127.0.0.72")) for _ in range(MAX_CONNECTIONS_PER_VISITOR + 40)
        ]
        check_attempt(genuine)
        for connection in opened[-20:]:
            assert read_to_end(connection) == b""
        opened[0].sendall(b"GET /robots.txt HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b" 200 " in opened[0].recv(100), "the first connections are served"


ROBOTS = b"GET /robots.txt HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def short_limits_server(monkeypatch):
    """A small application behind the gate and the connections of the demo, with short time limits."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 2.0)
    monkeypatch.setattr(connections, "READ_SECONDS", 2.0)
    monkeypatch.setattr(gate, "SLOW_SECONDS", 1.0)
    app = Starlette(
        routes=[
            StarletteRoute("/robots.txt", lambda request: PlainTextResponse("")),
            StarletteRoute("/big", lambda request: Response(bytes(19 * MEGABYTE))),  # more than the system buffers
            StarletteRoute("/body", read_body, methods=["POST"]),
        ]
    )
    routes = [gate.Route(("GET",), "/(robots.txt|big)"), gate.Route(("POST",), "/body", body=9000)]
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        gate.Gate(app, routes), http=connections.protocol([]), log_config=None, timeout_graceful_shutdown=1
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    yield SimpleNamespace(address=f"http://127.0.0.1:{listening.getsockname()[1]}")
    running.should_exit = True
    thread.join(50)


async def read_body(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


def client_with_incomplete_head(server, sent: bytes) -> None:
    with open_connection(server, "127.0.0.73", sent) as connection:
        assert read_to_end(connection).count(b"HTTP/1.1") == (1 if sent == ROBOTS + b"GET" else 0)


def client_with_slow_head(server, first: bytes) -> None:
    """The head is the first one of its connection, or follows an answer."""
    with open_connection(server, "127.0.0.74", first) as connection:
        assert not first or b" 200 " in connection.recv(1000)
        for _ in range(200):
            try:
                connection.sendall(b"X")
            except OSError:
                return
            time.sleep(0.1)
    pytest.fail("the server did not close the connection")


def client_with_slow_body(server) -> None:
    """Single bytes arrive, but too slowly."""
    head = b"POST /body HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000\r\n\r\n"
    with open_connection(server, "127.0.0.75", head) as connection:
        for _ in range(7):
            connection.sendall(b"-")
            time.sleep(0.1)
        assert b" 408 " in read_to_end(connection)[:20]


def client_that_does_not_read(server) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(90)
        connection.bind(("127.0.0.76", 0))
        connection.connect(("127.0.0.1", int(server.address.rpartition(":")[2])))
        connection.sendall(b"GET /big HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        time.sleep(connections.READ_SECONDS + 3)
        assert len(read_to_end(connection)) < 19 * MEGABYTE


def test_slow_clients_are_disconnected(short_limits_server):
    """All at the same time, because each of them uses its full time limit. Other clients are answered."""
    with ThreadPoolExecutor(20) as pool:
        starts = (b"", b"POST", ROBOTS[:-4], ROBOTS[:30], ROBOTS + b"GET")
        slow = [
            *(pool.submit(client_with_incomplete_head, short_limits_server, sent) for sent in starts),
            *(pool.submit(client_with_slow_head, short_limits_server, first) for first in (b"", ROBOTS)),
            pool.submit(client_with_slow_body, short_limits_server),
            pool.submit(client_that_does_not_read, short_limits_server),
        ]
        assert httpx.get(f"{short_limits_server.address}/robots.txt", timeout=30).status_code == 200
        assert httpx.post(f"{short_limits_server.address}/body", content=b"-" * 9000, timeout=30).text == "9000"
        for client in slow:
            client.result()


def test_a_head_has_a_limit(server, genuine):
    for headers in (b"X: " + b"x" * 1_000_000, b"X: y\r\n" * 200_000):
        with open_connection(server, ATTACKER, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + headers) as connection:
            assert read_to_end(connection)[:13] in (b"HTTP/1.1 400 ", b"")
    check_attempt(genuine)


HEADS = (  # method, target, headers, the status or statuses
    ("TRACE", "/", {}, 405),
    ("OPTIONS", "/", {}, 405),
    ("OPTIONS", "*", {}, 404),
    ("PUT", "/api/start", {}, 405),
    ("PATCH", "/gradio_api/upload", {}, 405),
    ("CONNECT", "evil.example:443", {}, 404),
    ("get", "/", {}, 405),
    ("GET", "http://evil.example/", {}, 404),
    ("PROPFIND", "/", {}, 405),
    *(
        ("POST", path, {}, 404)
        for path in (
            "//api/start",
            "/api//start",
            "/api/start/",
            "/api/start;x",
            "/api/start%00",
            "/api/start%0a",
            "/API/start",
            "/./api/start",
            "/x/../api/start",
            "/gradio_api/queue%2fjoin",
            "/gradio_api/run/predict",
            "/run/predict",
            "/gradio_api/call/x",
            "/gradio_api/upload/x",
            "/gradio_api/upload%2f..%2frun/predict",
        )
    ),
    *(
        ("GET", path, {}, 404)
        for path in (
            "//",
            "//evil.example",
            "/%2e%2e/app.py",
            "/assets/../app.py",
            "/assets/%2e%2e/%2e%2e/routes.py",
            "/assets/..%2f..%2froutes.py",
            "/assets//etc/passwd",
            "/assets/%5c..%5croutes.py",
            "/static/.env",
            "/static/%2e/x",
            "/assets/x%00.js",
            "/gradio_api/file=/etc/passwd",
            "/gradio_api/file=app.py",
            "/gradio_api/file=http://127.0.0.1/",
            "/gradio_api/file=..%2f..%2fetc%2fpasswd",
            "/file=/etc/passwd",
            "/gradio_api/heartbeat/x",
            "/gradio_api/stream/x",
            "/login",
            "/logout",
            "/token",
            "/docs",
            "/openapi.json",
            "/gradio_api/runs",
            "/gradio_api/startup-events",
            "/.git/config",
            "/app_id",
            "/gradio_api/app_id",
        )
    ),
    ("GET", "/?deep_link=..%2f..%2fx", {}, 200),
    ("GET", "/?page=nothing", {}, 200),
    ("GET", "/config?page=x", {}, 200),
    ("GET", "/config?deep_link=x", {}, 200),
    ("GET", "/?__theme=dark&view=api", {}, 200),
    ("GET", "/", {"X-Forwarded-Host": "evil.example"}, 403),
    ("GET", "/", {"X-Forwarded-Host": "x, evil.example"}, 403),
    ("GET", "/", {"X-Forwarded-Host": "127.0.0.1:1/evil"}, 403),
    ("GET", "/", {"X-Gradio-Server": "http://evil.example"}, 200),
    ("GET", "/config", {"X-Gradio-Server": "http://evil.example", "X-Forwarded-Proto": "evil"}, 200),
    ("GET", "/config", {"Origin": "https://evil.example"}, 403),
    ("GET", "/", {"X-Forwarded-Proto": "x\ty"}, 200),
    ("GET", "/api/page?page=x", {"Origin": "null"}, 403),
    ("GET", "/", {"Cookie": "session=1; token=2"}, 200),
    (
        "GET",
        "/",
        {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "x" * 22 + "==",
            "Sec-WebSocket-Version": "13",
        },
        200,
    ),
    ("GET", "/api/page", {"Upgrade": "websocket", "Connection": "Upgrade"}, 400),
    ("GET", "/", {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": ""}, 200),
    ("POST", "/api/start", {"Transfer-Encoding": "gzip"}, (400, 501)),
    ("POST", "/api/start", {"Transfer-Encoding": "chunked", "Content-Length": "5"}, 400),
    ("POST", "/api/start", {"Content-Length": "99999999999999999999999999"}, (400, 413)),
)


@pytest.mark.parametrize(("method", "target", "headers", "status"), HEADS)
def test_unusual_heads_are_answered_without_an_error(server, method, target, headers, status):
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if not {"Content-Length", "Transfer-Encoding"} & set(headers):
        lines.append("Content-Length: 0")
    with open_connection(
        server, next(addresses), "\r\n".join([*lines, "Connection: close", "", ""]).encode()
    ) as connection:
        answer = read_to_end(connection)
    assert int(answer[9:12]) in (status if isinstance(status, tuple) else (status,)), answer[:300]
    assert b"set-cookie" not in answer.lower() and b"Traceback" not in answer
    assert answer[9:12] != b"200" or b"evil" not in answer


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 15_000,
        b'{"a":' * 3000,
        b'{"token": ' + b"9" * 15_000 + b"}",
        b'{"token": NaN, "photographs": [NaN]}',
        gzip.compress(b'{"photographs": []}' * 100, mtime=0),  # the same name in every test process
        b"\x00" * 100,
        "{}".encode("utf-16"),
        b'{"token": "\\ud800"}',
        b'{"photographs": {"a": [[[]]]}}',
        b'{"photographs": [[["x"]]]}',
        b'{"page": [], "token": {}, "name": {}}',
        b'{"reference": [], "probe": {}, "expression": []}',
        b'{"file": 7, "page": 1e400}',
        b"{" + b'"a":1,' * 2000 + b"}",
    ],
)
def test_unusual_bodies_are_answered_without_an_error(server, attacker, body):
    for name in ("start", "reference", "pair", "clip", "register"):
        headers = {"Content-Encoding": "gzip"} if body[:2] == b"\x1f\x8b" else {}
        assert attacker.http.post(f"/api/{name}", content=body, headers=headers).status_code in (200, 400, 410), name
    assert "Traceback" not in server.log()


def test_ranges_of_a_file_are_limited_to_its_size(attacker):
    """Also many overlapping ranges and invalid ranges."""
    path = attacker.upload("a.bin", bytes(range(256)) * 4000)
    for ranges, status in (
        ("bytes=0-9", 206),
        ("bytes=" + ",".join(f"{n}-" for n in range(1000)), (200, 206, 400, 416)),
        ("x", (200, 400)),
        ("bytes=9-1", (400, 416)),
        ("bytes=-" + "9" * 5000, (200, 206, 400, 416)),
        ("bytes=5000000-", 416),
        ("bytes=" + "0-," * 5000, (200, 206, 400, 416)),
        ("bytes=a-b", (200, 400, 416)),
    ):
        answer = attacker.http.get(f"/gradio_api/file={path}", headers={"Range": ranges}, timeout=30)
        assert answer.status_code in (status if isinstance(status, tuple) else (status,)), ranges[:40]
        assert len(answer.content) <= 256 * 4000 + 1000, "no more than the file"


def test_the_token_of_an_attempt_is_valid_for_one_frame_at_a_time(server, genuine):
    """This holds for any number of connections and addresses. Similar tokens are refused."""
    person = next(people)
    token, picture = genuine.start([genuine.upload("me.png", photograph(person))])[0], jpeg_frames(person, "neutral")[0]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(12) as pool:
        others = [stack.enter_context(contextlib.closing(Page(server.address, next(addresses)))) for _ in range(12)]
        statuses = [task.result() for task in [pool.submit(status_of, page.frame, picture, token) for page in others]]
    assert set(statuses) <= {200, 429} and 200 in statuses
    for wrong in (token[:-1], token.lower() + "x", token + "\x7f", "", "0" * 30_000):
        with contextlib.suppress(httpx.HTTPError, UnicodeError):
            answer = genuine.http.post("/api/frame", content=picture, headers={"X-Attempt": wrong})
            assert answer.status_code in (400, 431) or answer.json()[0] == "", wrong[:50]


def test_frames_of_one_visitor_leave_room_for_others(server, genuine):
    """Sixteen attempts of one address send frames as fast as they are answered.

    For each thread that evaluates frames, at most one of these frames is evaluated before another visitor's frame.
    """
    answered, active, answered_before = Counter(), Counter(), []
    with contextlib.closing(Page(server.address, next(addresses))) as page, ThreadPoolExecutor(16) as pool:
        files = [(person, page.upload(f"{person}.png", photograph(person))) for person in WELL_KNOWN[:4]]
        started = [(person, page.start([file])[0]) for person, file in files * 4]
        flooding = [(person, token) for person, token in started if token]
        assert len(flooding) >= 10
        person = next(people)
        genuine_token = genuine.start([genuine.upload("me.png", photograph(person))])[0]
        end = threading.Event()

        def flood(number: int, person: int, token: str) -> None:
            pictures = jpeg_frames(person, "neutral")
            active[number] = True
            with contextlib.suppress(httpx.HTTPError, RefusedError):
                while not end.is_set() and (token := page.frame(pictures[answered[number] % len(pictures)], token)[0]):
                    answered[number] += 1
            del active[number]

        for face in WELL_KNOWN:
            jpeg_frames(face, "neutral")  # fill its cache, because drawing takes longer than the rest
        floods = [pool.submit(flood, number, *attack) for number, attack in enumerate(flooding)]
        try:
            until = time.monotonic() + 60
            while answered.total() < 10 and time.monotonic() < until:
                time.sleep(0.1)
            for picture in jpeg_frames(person, "neutral")[:30]:
                before, busy = answered.total(), len(active) >= 10
                genuine.frame(picture, genuine_token)
                if busy and len(active) >= 10:
                    answered_before.append(answered.total() - before)
        finally:
            end.set()
        for task in floods:
            task.result()
    assert len(answered_before) >= 3, "the attack has to be active"
    assert np.median(answered_before) <= 2 * max(2, os.cpu_count() or 1) + 2, answered_before


def test_uploads_of_one_visitor_have_a_limit(server, genuine):
    page = Page(server.address, "127.0.0.69")
    many = [("files", (f"{number}.png", b"x")) for number in range(1000)]
    before = set(server.files())
    assert page.http.post("/gradio_api/upload", files=many).status_code == 400
    big = {"files": ("big", bytes(21 * MEGABYTE))}
    with contextlib.suppress(httpx.NetworkError, httpx.RemoteProtocolError):  # the connection may be closed instead
        assert page.http.post("/gradio_api/upload", files=big).status_code == 413
    assert set(server.files()) <= before, "nothing is added; files of earlier tests may have been deleted"
    statuses = [status_of(page.upload, f"{number}.bin", b"x") for number in range(uploads.MAX_FILES_PER_VISITOR + 1)]
    assert statuses == [200] * uploads.MAX_FILES_PER_VISITOR + [429]
    assert status_of(genuine.upload, "me.png", photograph(PERSON)) == 200
    page.close()


def test_bytes_of_one_visitor_and_of_all_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_BYTES_PER_VISITOR", 10)
    monkeypatch.setattr(uploads, "MAX_BYTES", 25)
    kept = Uploads(tmp_path)
    for visitor, size in (("a", 10), ("b", 10), ("c", 5)):
        kept.add(visitor, "x", io.BytesIO(), size)
    for visitor, size in (("a", 1), ("c", 1), ("d", 1)):
        with pytest.raises(UploadLimitError):
            kept.add(visitor, "x", io.BytesIO(), size)
    kept.close()
    assert list(tmp_path.iterdir()) == []


def form(*parts: tuple[str, bytes]) -> tuple[dict, bytes]:
    body = b"".join(b"--x\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
    return {"Content-Type": "multipart/form-data; boundary=x"}, body + b"--x--\r\n"


@pytest.mark.parametrize(
    "head",
    [
        'Content-Disposition: form-data; name="other"; filename="a.png"',
        'Content-Disposition: form-data; name="files"',
        'Content-Disposition: form-data; name="files"; filename=""',
        "Content-Disposition: form-data",
        "X: y",
        "Content-Disposition",
    ],
)
def test_unusual_uploads_leave_no_file(server, attacker, head):
    before = set(server.files())
    headers, body = form((head, b"content"))
    assert attacker.http.post("/gradio_api/upload", headers=headers, content=body).status_code == 400
    assert set(server.files()) <= before  # files of earlier tests may be deleted at the same time
    assert "Traceback" not in server.log()


def test_an_interrupted_upload_leaves_no_file(server):
    before = server.files()
    port = int(server.address.rpartition(":")[2])
    headers, body = form(('Content-Disposition: form-data; name="files"; filename="a.png"', bytes(3 * MEGABYTE)))
    with contextlib.closing(socket.create_connection(("127.0.0.1", port))) as connection:
        connection.sendall(
            f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {headers['Content-Type']}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body[: 2 * MEGABYTE]
        )
    time.sleep(1)
    assert set(server.files()) <= set(before) and "Traceback" not in server.log()


def test_old_files_and_those_of_ended_processes_are_deleted(tmp_path):
    now = [0.0]
    kept = Uploads(tmp_path, clock=lambda: now[0])
    path = Path(kept.add("a", "../../x/..\\y.png", io.BytesIO(), 0))
    assert path.name == "y.png" and path.is_relative_to(kept.folder)
    killed, alive, foreign = tmp_path / f"{PREFIX}1", tmp_path / f"{PREFIX}2", tmp_path / "facelivenet-mine"
    for folder in (killed, alive, foreign):
        (folder / "a").mkdir(parents=True)
        (folder / ALIVE).touch()
    for folder in (killed, foreign):
        os.utime(folder / ALIVE, (0, time.time() - STALE_SECONDS - 1))
    kept.sweep()
    assert path.exists() and not killed.exists() and alive.exists() and foreign.exists()
    now[0] = UPLOAD_SECONDS + 1
    kept.sweep()
    assert not path.exists() and not kept._files


@pytest.fixture(scope="module")
def sub_path_server():
    """A server for demo.example/face, behind a proxy at 127.0.0.1."""
    arguments = ["--root-path", "/face", "--allowed-hosts", "demo.example", "--proxies", "127.0.0.1", "--live-only"]
    with ForkedServer(str(DEFAULT_MODEL), *arguments) as running:
        yield running


@pytest.mark.parametrize("prefix", ["", "/face"])
def test_closed_routes_stay_closed_below_a_sub_path(sub_path_server, prefix):
    """A proxy may keep or remove the prefix."""
    http = httpx.Client(base_url=sub_path_server.address, headers={"Host": "demo.example"})
    for path in ("run/predict", "queue/join", "reset", "cancel", "component_server"):
        assert http.post(f"{prefix}/gradio_api/{path}", json={}).status_code == 404, path
    for path in (
        "gradio_api/openapi.json",
        "gradio_api/queue/status",
        "gradio_api/deep_link",
        "gradio_api/info",
        "monitoring",
        "gradio_api/proxy=http://x/",
        "monitoring/summary",
        "face/monitoring",
        "api/clips",
    ):
        assert http.get(f"{prefix}/{path}").status_code == 404, path
    assert http.get(f"{prefix}/").status_code == 200
    assert http.get(f"{prefix}/config").json()["root"].endswith("/face")
    assert http.post(f"{prefix}/api/start", json={"photographs": []}).status_code == 200
    assert http.post(f"{prefix}/api/clip", json={}).status_code in (404, 405), "not available with --live-only"


def test_only_a_configured_proxy_determines_the_address_of_a_visitor(server, sub_path_server):
    def starts(address: str, source: str, forwarded: list[str]) -> list[bool]:
        page = Page(address, source)
        file = page.upload("nobody.png", bomb_picture(200))
        cards = []
        for header in forwarded:
            page.http.headers["X-Forwarded-For"] = header
            cards.append(page.start([file])[1])
        page.close()
        return ["Too many failed attempts" in card for card in cards]

    free, others = FREE_ATTEMPTS_PER_ADDRESS, [f"198.51.100.{number}" for number in range(FREE_ATTEMPTS_PER_ADDRESS)]
    assert starts(server.address, "127.0.0.70", [*others, "203.0.113.1"]) == [False] * free + [True]
    assert starts(server.address, "127.0.0.71", ["127.0.0.70"]) == [False], "a header cannot lock out another visitor"
    # Only the last entry comes from the proxy. The client may have written the entries before it.
    assert not any(starts(sub_path_server.address, "127.0.0.1", [*others, "203.0.113.1"]))
    forged = [f"{other}, 203.0.113.2" for other in (*others, "203.0.113.1")]
    assert starts(sub_path_server.address, "127.0.0.1", forged)[-1]


def test_other_origins_and_host_names_are_refused(server, attacker):
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "x"):
        headers = {"Origin": origin}
        files = {"files": ("a.png", b"x")}
        assert attacker.http.post("/gradio_api/upload", files=files, headers=headers).status_code == 403, origin
        assert attacker.http.post("/api/start", json={}, headers=headers).status_code == 403, origin
    assert attacker.http.post("/api/start", json={}, headers={"Origin": server.address}).status_code == 200
    malformed = ('127.0.0.1:"><script>', "127.0.0.1:x", "127.0.0.1/x", "127.0.0.1:1?x", "localhost\\x", "[::1]x")
    for host in ("evil.example", "evil.example:7860", "127.0.0.1.evil.example", "x@127.0.0.1x", "", *malformed):
        assert attacker.http.get("/", headers={"Host": host}).status_code in (400, 403), host
    for host in ("localhost", "LOCALHOST:7", "[::1]:7860", "192.0.2.1"):
        assert attacker.http.get("/", headers={"Host": host}).status_code == 200, host
    headers = attacker.http.get("/").headers
    assert headers["content-security-policy"] == "frame-ancestors 'self'"
    assert headers["x-frame-options"] == "SAMEORIGIN" and headers["x-content-type-options"] == "nosniff"


def test_uploads_are_sent_as_downloads(attacker):
    for name in ("a.html", "a.svg", "a.js", "a.png.xml", "a"):
        path = attacker.upload(name, b"<script>alert(1)</script>")
        headers = attacker.http.get(f"/gradio_api/file={path}").headers
        assert headers["content-type"] == "application/octet-stream" and "attachment" in headers["content-disposition"]


def test_unusual_requests_leave_no_traceback_in_the_log(server):
    port = int(server.address.rpartition(":")[2])
    for method, path, headers in (
        ("POST", "/api/start", {"Content-Length": "-1"}),
        ("POST", "/api/start", {"Content-Length": "1e9"}),
        ("GET", "/gradio_api/file=%00", {}),
        ("GET", "/gradio_api/file=" + "x" * 5000, {}),
        ("GET", "/gradio_api/file=%ff%fe", {}),
        ("GET", "/api/page?page=%00", {}),
        ("DELETE", "/", {}),
        ("POST", "/gradio_api/upload", {"Content-Type": "multipart/form-data"}),
        ("POST", "/gradio_api/upload", {"Content-Type": "text/plain"}),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.putrequest(method, path)
        for name, value in ({"Content-Length": "0"} | headers).items():
            connection.putheader(name, value)
        connection.endheaders()
        assert 400 <= connection.getresponse().status < 500, (method, path[:40], headers)
        connection.close()
    assert "Traceback" not in server.log()


@pytest.mark.parametrize(("fixture", "sent"), [("server", signal.SIGTERM), ("sub_path_server", signal.SIGINT)])
def test_no_file_is_left_when_a_server_ends_with_an_open_page(request, fixture, sent):
    """This has to be the last test of the file, because it ends the servers."""
    running = request.getfixturevalue(fixture)
    page = Page(running.address)
    path = Path(page.upload("me.png", photograph(PERSON)))
    page.ask("reference", photographs=[str(path)])
    assert path.is_file()
    running.process.send_signal(sent)
    running.process.wait(60)
    assert [left for left in running.uploads.rglob("*") if left.is_file() or left.name.startswith(PREFIX)] == []
    assert "Traceback" not in running.log()
    with contextlib.suppress(httpx.HTTPError):
        page.close()
