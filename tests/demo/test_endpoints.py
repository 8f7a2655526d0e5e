"""Requests of clients without the page: the server decides, for any content and any order of requests."""

import contextlib
import io
import re
import socket
import time
from pathlib import Path
from threading import Event

import httpx
import pytest
from PIL import Image

from benchmarks.live import Page, Person, RefusedError, Tally, attempt, jpeg_frames, source_address
from benchmarks.live import photograph as photograph_of
from demo import live, words
from demo.examples import WELL_KNOWN
from demo.server import MAX_FRAME_BYTES
from face_data.drawn import drawn_photograph

PERSON = WELL_KNOWN[5]  # not used in other tests, so that no other failures count for this face
OVER = "This attempt is over"
PRESENT = Event()  # never set: the visitor has not left


@pytest.fixture(scope="module")
def photograph() -> bytes:
    data = io.BytesIO()
    drawn_photograph(PERSON, "neutral", 0, seed=0).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def neutral() -> list[bytes]:
    return jpeg_frames(PERSON, "neutral")


@pytest.fixture
def page(server):
    page = Page(server.address, source_address(50))  # failures must not count for the browsers' address
    yield page
    page.close()


def start(page, photograph) -> str:
    """Open an attempt; returns its token."""
    return page.start([page.upload("a.png", photograph)])[0]


def test_a_person_who_follows_the_challenge_is_accepted(random_challenge_server):
    """A complete attempt over HTTP: the server draws the order of a smile and of turns of the head."""
    page, person = Page(random_challenge_server.address), WELL_KNOWN[0]
    try:
        actor, tally = Person(person, ("Now smile", "slowly to your left", "slowly to your right")), Tally()
        files = [page.upload("a.png", photograph_of(person))]
        for _ in range(3):  # a busy machine may be too slow to follow a face
            until = time.monotonic() + 90
            attempt(page, files, lambda until=until: time.monotonic() < until, 0.1, actor, tally)
            if "Accepted" in tally.decisions:
                break
        assert tally.decisions.get("Accepted"), tally.decisions
    finally:
        page.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "deep_link?session_hash=x"),  # writes the content of the page, with faces, to a file
        ("POST", "process_recording"),  # these also write files
        ("POST", "vibe-edit/"),
        ("POST", "vibe-code"),
        ("GET", "vibe-code"),
        ("POST", "queue/join"),  # the page does not use Gradio's queue, events and session state
        ("GET", "queue/data?session_hash=x"),
        ("GET", "heartbeat/x"),
        ("POST", "stream/x"),
        ("POST", "run/predict"),
        ("POST", "run/predict/"),
        ("POST", "api/predict"),
        ("POST", "call/predict"),
        ("POST", "call/v2/predict"),
        ("GET", "call/predict/x"),
        ("POST", "component_server"),
        ("POST", "cancel"),
        ("POST", "reset"),
        ("GET", "info"),
        ("GET", "openapi.json"),
        ("GET", "proxy=http://127.0.0.1:1/"),  # these fetch an address of the client's choice
        ("GET", "file=http://127.0.0.1:1/"),
        ("GET", "file=https%3A%2F%2F127.0.0.1:1/"),
        ("GET", "file=/etc/passwd"),  # these read files of others
        ("GET", "file=app.py"),
        ("GET", "file/http://127.0.0.1:1/"),
        ("GET", "queue/status"),
        ("GET", "/monitoring"),
        ("GET", "/monitoring/summary"),
        ("GET", "/assets/../app.py"),
        ("GET", "/static/%2e%2e/%2e%2e/routes.py"),
        ("GET", "/docs"),
    ],
)
def test_routes_that_the_page_does_not_use_are_closed(page, method, path):
    for url in [path] if path.startswith("/") else [f"/gradio_api/{path}", f"/{path}"]:
        answer = page.http.request(method, url, timeout=5)
        assert answer.status_code == 404, (url, answer.status_code)


@pytest.mark.parametrize("token", ["", "guess", "x" * 43])
def test_a_guessed_token_is_refused(page, neutral, token):
    answer = page.frame(neutral[0], token)
    assert answer[0] == "" and OVER in answer[1]
    assert answer[2:4] == ["", ""], "the answer contains nothing about any attempt"


def test_a_token_is_invalid_after_a_new_start(page, photograph, neutral):
    old = start(page, photograph)
    assert len(old) == 43 and "card ask" in page.frame(neutral[0], old)[1]
    new = page.start([page.upload("a.png", photograph)], old)[0]
    assert new and new != old
    assert OVER in page.frame(neutral[1], old)[1]
    assert "card ask" in page.frame(neutral[2], new)[1]


def test_an_attempt_accepts_one_frame_at_a_time(server, page, photograph, neutral):
    """Further frames are refused, so a client that sends many at once takes no places of others."""
    token, frames = start(page, photograph), iter(neutral)  # each frame once, because a camera repeats none
    host, port = server.address.removeprefix("http://").split(":")
    head = f"POST /api/frame HTTP/1.1\r\nHost: {host}\r\nX-Attempt: {token}\r\nContent-Length: 9000\r\n\r\n"
    until, status = time.monotonic() + 30, 200
    while status == 200 and time.monotonic() < until:
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(head.encode() + bytes(100))
            time.sleep(0.1)  # for the server to read the head; if it is too slow, the loop tries again
            try:
                page.frame(next(frames), token)
            except RefusedError as error:
                status = error.status
    assert status == 429
    until, answer = time.monotonic() + 30, None
    while answer is None and time.monotonic() < until:
        with contextlib.suppress(RefusedError):
            answer = page.frame(next(frames), token)
    assert answer is not None and OVER not in answer[1], "the attempt continues"


def test_unreadable_frames_are_frames_without_a_face(page, photograph):
    """Nothing is fetched, opened or written for them."""
    token = start(page, photograph)
    bomb = io.BytesIO()
    Image.new("L", (16_000, 16_000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < MAX_FRAME_BYTES  # small to send, but it must not be decoded
    for picture in (b"", b"no picture", b"/etc/passwd", bomb.getvalue(), b"<svg/>", b"GIF89a"):
        answer = page.frame(picture, token)
        assert answer[0] == token and "card ask" in answer[1] and "could not be read" in answer[2], picture[:20]


@pytest.mark.parametrize("route", ["reference", "start", "clip", "pair", "register"])
@pytest.mark.parametrize("path", ["/etc/passwd", "http://127.0.0.1:1/x.png", "app.py", 7, {"path": "app.py"}, "\ud800"])
def test_only_uploaded_files_are_opened(page, route, path):
    arguments = {"reference": {"photographs": [path]}, "start": {"photographs": [path]}}.get(
        route, {"reference": path, "probe": path, "file": path, "expression": "happy"}
    )
    with pytest.raises(RefusedError) as caught:
        page.ask(route, **arguments)
    assert caught.value.status == 410


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"7", b"\xff", b"{", b"[" * 15_000, b'{"photographs": 7}', b'{"photographs": {"a": 1}}']
)
def test_invalid_bodies_are_refused(server, page, body):
    assert page.http.post("/api/start", content=body).status_code == 400
    assert page.http.post("/api/pair", content=body).status_code in (200, 400)


def test_unusual_values_cause_no_error(page, photograph):
    file = page.upload("a.png", photograph)
    for expression in (None, 7, "bored", ["happy"], "\ud800"):
        assert words.NOT_KNOWN in page.ask("pair", reference=file, probe=file, expression=expression)[0]
    for token in (7, None, {"a": 1}, ["x"]):
        assert len(page.ask("start", photographs=[file], token=token)[0]) in (0, 43)


def test_failures_of_a_face_delay_the_next_attempt(shipped, tmp_path, photograph, neutral):
    file = tmp_path / "a.png"
    file.write_bytes(photograph)
    tab = live.Live(shipped, ["happy"])

    def begin() -> list:
        answer = tab.on_start([file], "", f"address {next(addresses)}", PRESENT)
        if answer[0]:
            tab.on_frame(neutral[0], answer[0])
        return answer

    addresses = iter(range(9))
    answers = [begin() for _ in range(6)]
    assert all(answer[0] for answer in answers[:5]), "a few interrupted attempts are allowed"
    assert not answers[5][0]
    assert "Too many failed attempts" in answers[5][1] and re.search(r"in \d+ seconds", answers[5][1])


def test_attempts_without_an_image_do_not_count(shipped, tmp_path, photograph):
    """A refused or missing camera must not lock a visitor out."""
    file = tmp_path / "a.png"
    file.write_bytes(photograph)
    tab, token = live.Live(shipped, ["happy"]), ""
    for _ in range(8):
        token = tab.on_start([file], token, "here", PRESENT)[0]
        assert token
        tab.on_frame(b"no picture", token)


def test_a_reference_without_a_face_counts_for_the_address_before_it_is_examined(shipped, tmp_path, monkeypatch):
    file = tmp_path / "grey.png"
    Image.new("RGB", (300, 300), "grey").save(file)
    tab = live.Live(shipped, ["happy"])
    answers = [tab.on_start([file], "", "here", PRESENT)[1] for _ in range(20)]
    assert all("cannot be used" in answer for answer in answers)
    monkeypatch.setattr(live, "examine", lambda *_: pytest.fail("the photograph was examined"))
    assert "Too many failed attempts" in tab.on_start([file], "", "here", PRESENT)[1]


def test_a_full_registry_is_reported(shipped, tmp_path, photograph):
    file = tmp_path / "a.png"
    file.write_bytes(photograph)
    tab = live.Live(shipped, ["happy"])
    tab.sessions.limit = 0
    for _ in range(9):  # a full registry does not count as a failure
        token, card, *_ = tab.on_start([file], "", "here", PRESENT)
        assert token == "" and "Too many people at once" in card


def test_too_many_photographs_are_refused(shipped, tmp_path):
    assert "At most 5 photographs" in live.Live(shipped, ["happy"]).on_reference([tmp_path / "a.png"] * 6, PRESENT)[0]


def test_uploads_of_every_tab_are_deleted_with_the_page_and_examples_are_kept(server, page, photograph):
    config = page.http.get("/config").json()
    examples = set(re.findall(r"\"(/[^\"\\]*/examples/[^\"\\]*)\\?\"", httpx.Response(200, json=config).text))
    assert len(examples) >= 5 and all(Path(path).is_file() for path in examples)
    uploaded = [page.upload(f"{name}.png", photograph) for name in ("reference", "given", "probe", "clip")]
    page.ask("reference", photographs=[uploaded[0]])
    page.ask("register", file=uploaded[1])
    page.ask("pair", reference=sorted(examples)[0], probe=uploaded[2], expression="happy")
    page.ask("clip", reference=uploaded[0], probe=uploaded[3], expression="happy")
    for path in (*uploaded, *examples):
        assert page.http.get(f"/gradio_api/file={path}").status_code == 200, path
        page.ask("register", file=path)
    page.close()
    until = time.monotonic() + 20
    while any(Path(path).exists() for path in uploaded) and time.monotonic() < until:
        time.sleep(0.1)
    assert [path for path in uploaded if Path(path).exists()] == []
    assert [path for path in examples if not Path(path).is_file()] == []
