"""What one visitor can do to the others: each attack as real requests at the real server.

The attacker comes from an address of its own, as do the others. Nothing waits for longer than a bounded time: what the
attacks did before would take minutes or gigabytes here.
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
addresses = (f"127.0.3.{number}" for number in range(1, 255))  # one for each test: starts count by address
PERSON = WELL_KNOWN[0]
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def server():
    """One of its own: what is counted here is not counted elsewhere."""
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


def attempt_goes_on(page: Page) -> None:
    """A visitor starts an attempt and is answered about each frame."""
    person = next(people)
    token = page.start([page.upload("me.png", photograph(person))])[0]
    assert token
    for picture in jpeg_frames(person, "neutral")[:5]:
        assert "card ask" in page.frame(picture, token)[1]


people = cycle(WELL_KNOWN)  # a face may fail a few times before it has to wait


@contextlib.contextmanager
def meanwhile(function, threads: int):
    """Call a function again and again in threads."""
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
        for one in running:
            one.result()


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
    seen = set()

    def ask() -> None:
        with contextlib.closing(Page(server.address, ATTACKER, timeout=20)) as page:  # then it does not wait any more
            clip, face = page.upload("long.mkv", data), page.upload("me.png", photograph(PERSON))
            seen.add(status_of(page.ask, "clip", reference=face, probe=clip, expression="happy"))

    with contextlib.suppress(httpx.TimeoutException), ThreadPoolExecutor(5) as pool:
        attacks = [pool.submit(ask) for _ in range(5)]
        attempt_goes_on(genuine)
        other = genuine.upload("me.png", photograph(PERSON))
        assert status_of(genuine.ask, "pair", reference=other, probe=other, expression="happy") == 200
        for attack in attacks:
            attack.result()
    assert 429 in seen, "one visitor has one place in the queue"


def test_references_of_many_megapixels_block_nobody(server, genuine):
    data = bomb_picture()
    assert len(data) < 300_000
    page = Page(server.address, ATTACKER)
    files = [page.upload(f"{number}.png", data) for number in range(5)]
    assert "megapixels, over the limit of 13" in page.ask("reference", photographs=files)[0]

    def start() -> None:
        assert status_of(page.start, files) in (200, 429)

    with meanwhile(start, 16):
        attempt_goes_on(genuine)
    page.close()


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan, of 40 bytes, is repeated: each is decoded over the whole picture."""
    data = io.BytesIO()
    Image.new("L", (side, side), 90).save(data, "JPEG", progressive=True, quality=50)
    whole = data.getvalue()
    last = whole[whole.rindex(b"\xff\xc4", 0, whole.rindex(b"\xff\xda")) : -2]  # with its Huffman table
    return whole[:-2] + last * scans + b"\xff\xd9"


def test_a_picture_of_many_scans_is_refused_before_it_is_decoded(attacker):
    """It would take half an hour as a photograph, and half a minute as a frame."""
    photo, frame = many_scans(3600, 380_000), many_scans(1100, 80_000)
    assert len(photo) < 20 * MEGABYTE and len(frame) < 3 * MEGABYTE
    assert "scans, over the limit" in attacker.ask("reference", photographs=[attacker.upload("a.jpg", photo)])[0]
    person = next(people)
    token = attacker.start([attacker.upload("me.png", photograph(person))])[0]
    assert attacker.frame(frame, token)[0] == token, "a frame without a face"
    assert "card ask" in attacker.frame(jpeg_frames(person, "neutral")[0], token)[1]


def test_requests_of_one_visitor_have_a_pace(server, attacker, genuine):
    """Those that are refused, and frames of no attempt, count as all others do."""
    began = time.monotonic()
    for number in range(gate.AT_ONCE // 4 + 100):
        assert attacker.http.get("/robots.txt").status_code in (200, 404)
        assert attacker.http.post("/gradio_api/queue/join", content=b"{}").status_code == 404
        assert attacker.http.post("/api/frame", content=b"", headers={"X-Attempt": "none"}).json()[0] == ""
        assert attacker.http.get("/", headers={"Host": f"192.0.2.{number % 250}"}).status_code == 200
    assert time.monotonic() - began >= 0.9 * 400 / gate.MAX_A_SECOND
    attempt_goes_on(genuine)


def test_scripts_of_the_page_are_compressed_once(attacker):
    """The largest one takes a tenth of a second, in which no frame is answered."""
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


def test_starts_count_before_a_photograph_is_looked_at(server):
    page = Page(server.address, "127.0.0.67")
    file = page.upload("nobody.png", bomb_picture(300))
    cards = [page.start([file])[1] for _ in range(FREE_ATTEMPTS_PER_ADDRESS + 1)]
    page.close()
    assert ["Too many failed attempts" in card for card in cards] == [False] * FREE_ATTEMPTS_PER_ADDRESS + [True]


@pytest.mark.parametrize("path", ["/api/start", "/api/reference", "/api/clip", "/api/pair", "/api/given", "/api/frame"])
@pytest.mark.parametrize("announced", [True, False])
def test_bodies_have_a_limit(attacker, genuine, path, announced):
    """21 MB of empty lists; in chunks, their length is not known before, and none is read."""
    token = attacker.start([attacker.upload("me.png", photograph(PERSON))])[0] if path == "/api/frame" else ""
    body = b'{"photographs": [' + b"[]," * (7 * MEGABYTE) + b"[]]}"
    content = body if announced else (body[at : at + MEGABYTE] for at in range(0, len(body), MEGABYTE))
    # the server may close the connection instead of reading on
    with contextlib.suppress(httpx.NetworkError, httpx.RemoteProtocolError):
        status = attacker.http.post(path, content=content, headers={"X-Attempt": token}).status_code
        assert status == (413 if announced else 400)
    assert genuine.http.get("/config", timeout=30).status_code == 200


def test_bodies_in_chunks_are_not_read(server, genuine):
    """Of one byte each, or with 20 kB of what a chunk may say of itself: they would take seconds to read."""
    for chunks in (b"1\r\na\r\n" * 1_000_000, (b"1;" + b"x" * 20_000 + b"\r\na\r\n") * 300):
        head = b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        with opened(server, ATTACKER, head + chunks) as connection:
            assert ended(connection)[:13] in (b"HTTP/1.1 400 ", b"")
    attempt_goes_on(genuine)


def test_a_page_has_a_short_name(attacker):
    for name in ("x" * 65, "x" * 60_000, "a b", "é", "", "../x"):
        with contextlib.suppress(httpx.HTTPError):  # so long a head is no HTTP
            answer = attacker.http.get("/api/page", params={"page": name}, timeout=20)
            assert answer.status_code in (400, 431), name
    file = attacker.upload("me.png", photograph(PERSON))
    poisoned = json.dumps({"page": "\ud800", "file": file})  # a lone surrogate
    assert attacker.http.post("/api/given", content=poisoned).status_code == 200
    answer = attacker.http.post("/gradio_api/queue/join", content=poisoned.replace("page", "session_hash"))
    assert answer.status_code == 404, "Gradio's statistics never see it"


def test_open_requests_of_one_visitor_have_a_limit(server, genuine):
    """A head and half a body, again and again."""
    port = int(server.address.rpartition(":")[2])
    head = b"POST /api/start HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{"
    open_ones = []
    try:
        for _ in range(60):
            open_ones.append(socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.68", 0)))
            open_ones[-1].sendall(head)
        open_ones[-1].settimeout(30)
        assert b" 429 " in open_ones[-1].recv(100)
        attempt_goes_on(genuine)
    finally:
        for one in open_ones:
            one.close()


def opened(server, source: str, sent: bytes = b"") -> socket.socket:
    """A connection of one's own, with some bytes sent."""
    port = int(server.address.rpartition(":")[2])
    connection = socket.create_connection(("127.0.0.1", port), source_address=(source, 0), timeout=90)
    with contextlib.suppress(OSError):  # closed by now
        connection.sendall(sent)
    return connection


def ended(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_connections_of_one_visitor_have_a_limit(server, genuine):
    """Half-open ones, on which no request ever comes."""
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(opened(server, "127.0.0.72")) for _ in range(MAX_CONNECTIONS_PER_VISITOR + 40)]
        attempt_goes_on(genuine)
        for one in many[-20:]:
            assert ended(one) == b""
        many[0].sendall(b"GET /robots.txt HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b" 200 " in many[0].recv(100), "the first ones are served"


ROBOTS = b"GET /robots.txt HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def impatient(monkeypatch):
    """The gate and the connections of the demo with seconds in place of minutes, before an application that answers."""
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


def head_that_does_not_come(server, sent: bytes) -> None:
    with opened(server, "127.0.0.73", sent) as connection:
        assert ended(connection).count(b"HTTP/1.1") == (1 if sent == ROBOTS + b"GET" else 0)


def head_that_comes_byte_by_byte(server, first: bytes) -> None:
    """Whether it is the first one of its connection, or comes after an answer."""
    with opened(server, "127.0.0.74", first) as connection:
        assert not first or b" 200 " in connection.recv(1000)
        for _ in range(200):
            try:
                connection.sendall(b"X")
            except OSError:
                return
            time.sleep(0.1)
    pytest.fail("it may go on for ever")


def body_that_does_not_come(server) -> None:
    """But for some bytes now and then."""
    head = b"POST /body HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000\r\n\r\n"
    with opened(server, "127.0.0.75", head) as connection:
        for _ in range(7):
            connection.sendall(b"-")
            time.sleep(0.1)
        assert b" 408 " in ended(connection)[:20]


def answer_that_nobody_reads(server) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(90)
        connection.bind(("127.0.0.76", 0))
        connection.connect(("127.0.0.1", int(server.address.rpartition(":")[2])))
        connection.sendall(b"GET /big HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        time.sleep(connections.READ_SECONDS + 3)
        assert len(ended(connection)) < 19 * MEGABYTE


def test_slow_clients_are_given_up(impatient):
    """All at the same time, for each takes what it is allowed; meanwhile others are answered."""
    with ThreadPoolExecutor(20) as pool:
        starts = (b"", b"POST", ROBOTS[:-4], ROBOTS[:30], ROBOTS + b"GET")
        slow = [
            *(pool.submit(head_that_does_not_come, impatient, sent) for sent in starts),
            *(pool.submit(head_that_comes_byte_by_byte, impatient, first) for first in (b"", ROBOTS)),
            pool.submit(body_that_does_not_come, impatient),
            pool.submit(answer_that_nobody_reads, impatient),
        ]
        assert httpx.get(f"{impatient.address}/robots.txt", timeout=30).status_code == 200
        assert httpx.post(f"{impatient.address}/body", content=b"-" * 9000, timeout=30).text == "9000"
        for client in slow:
            client.result()


def test_a_head_has_a_limit(server, genuine):
    for headers in (b"X: " + b"x" * 1_000_000, b"X: y\r\n" * 200_000):
        with opened(server, ATTACKER, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + headers) as connection:
            assert ended(connection)[:13] in (b"HTTP/1.1 400 ", b"")
    attempt_goes_on(genuine)


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
def test_odd_heads(server, method, target, headers, status):
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if not {"Content-Length", "Transfer-Encoding"} & set(headers):
        lines.append("Content-Length: 0")
    with opened(server, next(addresses), "\r\n".join([*lines, "Connection: close", "", ""]).encode()) as connection:
        answer = ended(connection)
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
def test_odd_bodies(server, attacker, body):
    for name in ("start", "reference", "pair", "clip", "given"):
        headers = {"Content-Encoding": "gzip"} if body[:2] == b"\x1f\x8b" else {}
        assert attacker.http.post(f"/api/{name}", content=body, headers=headers).status_code in (200, 400, 410), name
    assert "Traceback" not in server.log()


def test_ranges_of_a_file(attacker):
    """Also many that overlap, and none that makes sense."""
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
        assert len(answer.content) <= 256 * 4000 + 1000, "not more than the file"


def test_the_token_of_an_attempt_is_good_for_one_frame_at_a_time(server, genuine):
    """From however many connections and addresses it is used; and a guess of it is worth nothing."""
    person = next(people)
    token, picture = genuine.start([genuine.upload("me.png", photograph(person))])[0], jpeg_frames(person, "neutral")[0]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(12) as pool:
        others = [stack.enter_context(contextlib.closing(Page(server.address, next(addresses)))) for _ in range(12)]
        seen = [one.result() for one in [pool.submit(status_of, page.frame, picture, token) for page in others]]
    assert set(seen) <= {200, 429} and 200 in seen
    for wrong in (token[:-1], token.lower() + "x", token + "\x7f", "", "0" * 30_000):
        with contextlib.suppress(httpx.HTTPError, UnicodeError):
            answer = genuine.http.post("/api/frame", content=picture, headers={"X-Attempt": wrong})
            assert answer.status_code in (400, 431) or answer.json()[0] == "", wrong[:50]


def test_frames_of_one_visitor_leave_room_for_others(server, genuine):
    """Sixteen attempts of one address, each sending frames as fast as they are answered: one of them at most goes
    before another visitor's frame, for each place where frames are judged."""
    answered, going, meanwhile_answered = Counter(), Counter(), []
    with contextlib.closing(Page(server.address, next(addresses))) as page, ThreadPoolExecutor(16) as pool:
        files = [(person, page.upload(f"{person}.png", photograph(person))) for person in WELL_KNOWN[:4]]
        started = [(person, page.start([file])[0]) for person, file in files * 4]
        flooding = [(person, token) for person, token in started if token]
        assert len(flooding) >= 10
        person = next(people)
        mine = genuine.start([genuine.upload("me.png", photograph(person))])[0]
        end = threading.Event()

        def flood(number: int, person: int, token: str) -> None:
            pictures = jpeg_frames(person, "neutral")
            going[number] = True
            with contextlib.suppress(httpx.HTTPError, RefusedError):
                while not end.is_set() and (token := page.frame(pictures[answered[number] % len(pictures)], token)[0]):
                    answered[number] += 1
            del going[number]

        for one in WELL_KNOWN:
            jpeg_frames(one, "neutral")  # drawn before, for that takes longer than all that follows
        floods = [pool.submit(flood, number, *one) for number, one in enumerate(flooding)]
        try:
            until = time.monotonic() + 60
            while answered.total() < 10 and time.monotonic() < until:
                time.sleep(0.1)
            for picture in jpeg_frames(person, "neutral")[:30]:
                before, busy = answered.total(), len(going) >= 10
                genuine.frame(picture, mine)
                if busy and len(going) >= 10:
                    meanwhile_answered.append(answered.total() - before)
        finally:
            end.set()
        for one in floods:
            one.result()
    assert len(meanwhile_answered) >= 3, "the attack was going on"
    assert np.median(meanwhile_answered) <= 2 * max(2, os.cpu_count() or 1) + 2, meanwhile_answered


def test_uploads_of_one_visitor_have_a_limit(server, genuine):
    page = Page(server.address, "127.0.0.69")
    many = [("files", (f"{number}.png", b"x")) for number in range(1000)]
    before = set(server.files())
    assert page.http.post("/gradio_api/upload", files=many).status_code == 400
    big = {"files": ("big", bytes(21 * MEGABYTE))}
    with contextlib.suppress(httpx.NetworkError, httpx.RemoteProtocolError):  # closed instead of read
        assert page.http.post("/gradio_api/upload", files=big).status_code == 413
    assert set(server.files()) <= before, "nothing is added; pages of other tests may just have been left"
    seen = [status_of(page.upload, f"{number}.bin", b"x") for number in range(uploads.MAX_FILES_PER_VISITOR + 1)]
    assert seen == [200] * uploads.MAX_FILES_PER_VISITOR + [429]
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
def test_odd_uploads_leave_nothing(server, attacker, head):
    before = set(server.files())
    headers, body = form((head, b"content"))
    assert attacker.http.post("/gradio_api/upload", headers=headers, content=body).status_code == 400
    assert set(server.files()) <= before  # of earlier tests some may go meanwhile
    assert "Traceback" not in server.log()


def test_an_upload_that_breaks_off_leaves_nothing(server):
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


def test_old_files_go_and_those_of_processes_that_ended(tmp_path):
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
    assert not path.exists() and len(kept) == 0


@pytest.fixture(scope="module")
def sub_path_server():
    """Below /face of demo.example, behind a proxy at 127.0.0.1."""
    arguments = ["--root-path", "/face", "--allowed-hosts", "demo.example", "--proxies", "127.0.0.1", "--live-only"]
    with ForkedServer(str(DEFAULT_MODEL), *arguments) as running:
        yield running


@pytest.mark.parametrize("prefix", ["", "/face"])
def test_closed_routes_stay_closed_below_a_sub_path(sub_path_server, prefix):
    """A proxy may leave the prefix on or take it off."""
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
    assert http.post(f"{prefix}/api/clip", json={}).status_code in (404, 405), "left out"


def test_only_a_proxy_that_was_named_says_who_a_visitor_is(server, sub_path_server):
    def starts(address: str, source: str, forwarded: list[str]) -> list[bool]:
        page = Page(address, source)
        file = page.upload("nobody.png", bomb_picture(200))
        cards = []
        for who in forwarded:
            page.http.headers["X-Forwarded-For"] = who
            cards.append(page.start([file])[1])
        page.close()
        return ["Too many failed attempts" in card for card in cards]

    free, others = FREE_ATTEMPTS_PER_ADDRESS, [f"198.51.100.{number}" for number in range(FREE_ATTEMPTS_PER_ADDRESS)]
    assert starts(server.address, "127.0.0.70", [*others, "203.0.113.1"]) == [False] * free + [True]
    assert starts(server.address, "127.0.0.71", ["127.0.0.70"]) == [False], "nobody is locked out by another's header"
    # of what a named proxy passes on the last entry is its own, whatever the client has put before it
    assert not any(starts(sub_path_server.address, "127.0.0.1", [*others, "203.0.113.1"]))
    lied = [f"{other}, 203.0.113.2" for other in (*others, "203.0.113.1")]
    assert starts(sub_path_server.address, "127.0.0.1", lied)[-1]


def test_pages_of_others_and_foreign_names_are_refused(server, attacker):
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "x"):
        headers = {"Origin": origin}
        files = {"files": ("a.png", b"x")}
        assert attacker.http.post("/gradio_api/upload", files=files, headers=headers).status_code == 403, origin
        assert attacker.http.post("/api/start", json={}, headers=headers).status_code == 403, origin
    assert attacker.http.post("/api/start", json={}, headers={"Origin": server.address}).status_code == 200
    odd = ('127.0.0.1:"><script>', "127.0.0.1:x", "127.0.0.1/x", "127.0.0.1:1?x", "localhost\\x", "[::1]x")
    for host in ("evil.example", "evil.example:7860", "127.0.0.1.evil.example", "x@127.0.0.1x", "", *odd):
        assert attacker.http.get("/", headers={"Host": host}).status_code in (400, 403), host
    for host in ("localhost", "LOCALHOST:7", "[::1]:7860", "192.0.2.1"):
        assert attacker.http.get("/", headers={"Host": host}).status_code == 200, host
    headers = attacker.http.get("/").headers
    assert headers["content-security-policy"] == "frame-ancestors 'self'"
    assert headers["x-frame-options"] == "SAMEORIGIN" and headers["x-content-type-options"] == "nosniff"


def test_what_is_uploaded_is_no_page_of_this_server(attacker):
    for name in ("a.html", "a.svg", "a.js", "a.png.xml", "a"):
        path = attacker.upload(name, b"<script>alert(1)</script>")
        headers = attacker.http.get(f"/gradio_api/file={path}").headers
        assert headers["content-type"] == "application/octet-stream" and "attachment" in headers["content-disposition"]


def test_odd_requests_are_no_error_in_the_log(server):
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


@pytest.mark.parametrize(("ended", "how"), [("server", signal.SIGTERM), ("sub_path_server", signal.SIGINT)])
def test_nothing_is_left_when_a_server_ends_with_a_page_open(request, ended, how):
    """The last test of this file, because it ends the servers of all others."""
    running = request.getfixturevalue(ended)
    page = Page(running.address)
    path = Path(page.upload("me.png", photograph(PERSON)))
    page.ask("reference", photographs=[str(path)])
    assert path.is_file()
    running.process.send_signal(how)
    running.process.wait(60)
    assert [left for left in running.uploads.rglob("*") if left.is_file() or left.name.startswith(PREFIX)] == []
    assert "Traceback" not in running.log()
    with contextlib.suppress(httpx.HTTPError):
        page.close()
