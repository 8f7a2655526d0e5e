"""What a client gets who does not use the page: the server's word counts, whatever is sent and in whatever order."""

import http.server
import io
import re
import threading
import time
from itertools import product
from pathlib import Path

import gradio as gr
import httpx
import pytest
from gradio import processing_utils
from PIL import Image

from benchmarks.live import GradioError, GradioPage, Person, Tally, attempt, frames_of
from benchmarks.live import photograph as photograph_of
from demo import live, words
from demo.components import MOST_FRAME_BYTES, CameraFrames, decode_frame, refuse_downloads
from demo.uploads import Uploads
from face_data.drawn import WELL_KNOWN, drawn_photograph

PERSON = WELL_KNOWN[4]  # nobody else's failures count for this face
OVER = "This attempt is over"


class Request:
    """Of a page, as the handlers see it."""

    session_hash = "page"
    client = None


@pytest.fixture(scope="module")
def photograph() -> bytes:
    data = io.BytesIO()
    drawn_photograph(PERSON, "neutral", 0, seed=0).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def neutral() -> list[dict]:
    return frames_of(PERSON, "neutral")


@pytest.fixture
def page(server):
    page = GradioPage(server.address)
    yield page
    page.close()


def unchanged(answer: list) -> bool:
    return all(one.get("props", one) == {"__type__": "update"} for one in answer)


def start(page, photograph) -> str:
    """Open an attempt; returns its token."""
    return page.call("start", "click", [[{"image": page.upload("a.png", photograph), "caption": None}], ""])[0]


def test_whoever_does_what_is_drawn_is_accepted(drawing_server):
    """A whole attempt over HTTP: a smile and turns of the head, in an order the server draws."""
    page, person = GradioPage(drawing_server.address), WELL_KNOWN[0]
    try:
        actor, tally = Person(person, ("Now smile", "slowly to your left", "slowly to your right")), Tally()
        files = [{"image": page.upload("a.png", photograph_of(person)), "caption": None}]
        for _ in range(3):  # a busy machine may be too slow to follow a face, and says so
            attempt(page, files, time.monotonic() + 90, 0.1, actor, tally)
            if "Accepted" in tally.decisions:
                break
        assert tally.decisions.get("Accepted"), tally.decisions
    finally:
        page.close()


def test_no_endpoint_is_named(server):
    info = httpx.get(f"{server.address}/gradio_api/info").json()
    assert info == {"named_endpoints": {}, "unnamed_endpoints": {}}


@pytest.mark.parametrize("sent", ["no token", "a guess", "no frame"])
def test_a_stream_without_an_attempt_gives_its_place_back(page, neutral, sent):
    frame, token = {"no token": (neutral[0], ""), "a guess": (neutral[0], "x"), "no frame": (None, "x")}[sent]
    answer = page.frame([frame, token])
    assert OVER in answer[1] if sent == "a guess" else unchanged(answer)
    assert page._stream is None, "the stream has ended with the answer"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "deep_link?session_hash={session}"),  # writes what the page shows, faces included, to a file
        ("POST", "process_recording"),  # as these write
        ("POST", "vibe-edit/"),
        ("POST", "vibe-code"),
        ("GET", "vibe-code"),
        ("POST", "run/predict"),  # these run an event past the queue, or beside it
        ("POST", "run/predict/"),
        ("POST", "api/predict"),
        ("POST", "call/predict"),
        ("POST", "call/v2/predict"),
        ("GET", "call/predict/{session}"),
        ("POST", "component_server"),
        ("POST", "cancel"),
        ("GET", "proxy=http://127.0.0.1:1/"),  # these fetch what a client names
        ("GET", "file=http://127.0.0.1:1/"),
        ("GET", "file=https%3A%2F%2F127.0.0.1:1/"),
        ("GET", "file/http://127.0.0.1:1/"),
        ("GET", "queue/status"),  # and these tell of others
        ("GET", "/monitoring"),
        ("GET", "/monitoring/summary"),
    ],
)
def test_routes_the_page_has_no_use_for_are_closed(server, page, photograph, method, path):
    page.call("reference", "change", [[{"image": page.upload("a.png", photograph), "caption": None}]])
    files = server.files()
    path = path.format(session=page.session)
    body = page._body("start", "click", [[], ""]) if method == "POST" else None
    for whole in [path] if path.startswith("/") else [f"/gradio_api/{path}", f"/{path}"]:
        assert page.http.request(method, whole, json=body, timeout=5).status_code == 404, whole
    assert server.files() == files


@pytest.fixture
def elsewhere():
    """A picture on another server, and which paths were asked for there."""
    asked = []

    class Picture(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"picture")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Picture) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{other.server_port}/picture.png", asked
        other.shutdown()


@pytest.mark.parametrize("component", ["reference", "start", "token", "pair", "clip", "expression", "frame"])
def test_nothing_is_downloaded_for_a_client(server, page, photograph, elsewhere, component):
    url, asked = elsewhere
    there = {"path": url, "meta": {"_type": "gradio.FileData"}}
    mine = page.upload("a.png", photograph)
    files = server.files()
    element, event, data = {
        "reference": ("reference", "change", [[{"image": there, "caption": None}]]),
        "start": ("start", "click", [[{"image": there, "caption": None}], ""]),
        "token": ("start", "click", [[{"image": mine, "caption": None}], there]),
        "pair": ("check-pair", "click", [mine, there, "happy"]),
        "clip": ("check-clip", "click", [mine, there, "happy"]),
        "expression": ("check-pair", "click", [mine, mine, there]),
        "frame": ("camera", "stream", [there, "token"]),
    }[component]
    with pytest.raises(GradioError, match=words.NOT_UPLOADED):
        page.call(element, event, data)
    assert asked == [] and server.files() == files


def test_a_download_is_refused_where_gradio_would_make_it(elsewhere, tmp_path, monkeypatch):
    url, asked = elsewhere
    monkeypatch.setattr(processing_utils, "PUBLIC_HOSTNAME_WHITELIST", ["127.0.0.1"])  # which it refuses by itself
    monkeypatch.setattr(
        processing_utils, "async_ssrf_protected_download", processing_utils.async_ssrf_protected_download
    )
    refuse_downloads()
    for download in (
        gr.Textbox().move_resource_to_block_cache,
        lambda url: processing_utils.save_url_to_cache(url, tmp_path),
    ):
        with pytest.raises(gr.Error, match=words.NOT_UPLOADED):
            download(url)
    assert asked == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("token", ["guess", "x" * 43, 7, {"token": 1}, ["x"]])
def test_a_guessed_token(page, neutral, token):
    answer = page.frame([neutral[0], token])
    assert answer[0] == "" and OVER in answer[1]
    assert answer[2:4] == ["", ""], "nothing is told of any attempt"


def test_a_token_belongs_to_who_has_it_and_not_to_a_session_hash(server, page, photograph, neutral):
    token = start(page, photograph)
    assert len(token) == 43
    thief = GradioPage(server.address)
    thief.session = page.session  # a client chooses its own hash, and may choose another's
    assert unchanged(thief.frame([neutral[0], ""])), "the hash opens nothing"
    thief.close()
    answer = page.frame([neutral[1], token])
    assert answer[0] == token and "card ask" in answer[1]


def test_a_token_is_worth_nothing_after_a_new_start(page, photograph, neutral):
    old = start(page, photograph)
    new = page.call("start", "click", [[{"image": page.upload("a.png", photograph), "caption": None}], old])[0]
    assert new and new != old
    assert OVER in page.frame([neutral[0], old])[1]
    page.stop()
    assert "card ask" in page.frame([neutral[1], new])[1]


def test_streams_that_send_nothing_more_starve_nobody(server, page, photograph, neutral):
    """An attempt has one place, however many streams are opened for it."""
    token = start(page, photograph)
    for number in range(live.STREAMS + 8):
        page._stream = None  # it stays open, and silent from now on
        assert "card ask" in page.frame([neutral[number], token])[1]
    other = GradioPage(server.address)
    other.http.timeout = 10
    try:
        own = start(other, photograph_of(WELL_KNOWN[3]))
        for number in range(3):
            assert "card ask" in other.frame([neutral[number], own])[1]
    finally:
        other.close()
    assert "card ask" in page.frame([neutral[-1], token])[1], "and the attempt goes on"


def test_frames_that_are_none(page, photograph):
    """Unreadable frames are frames without a face, or refused; nothing is fetched, opened or written for them."""
    token = start(page, photograph)
    for url in ("data:image/jpeg;base64,AAAA", "data:image/jpeg;base64,no!", "data:text/html;base64,PGI+", "http://x/"):
        answer = page.frame([{"path": None, "url": url}, token])
        assert answer[0] == token and "card ask" in answer[1] and "could not be read" in answer[2], url
    answer = page.frame([{"path": "/etc/passwd", "url": None}, token])
    assert "could not be read" in answer[2]


def test_a_frame_that_is_too_large_is_not_decoded():
    bomb = io.BytesIO()
    Image.new("L", (16_000, 16_000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < MOST_FRAME_BYTES  # small to send: the image processor's limit of pixels stops it
    huge = "data:image/jpeg;base64," + "A" * (MOST_FRAME_BYTES * 4 // 3 + 4)
    assert decode_frame(huge) == b""


def test_gradio_remembers_nothing_of_a_frame():
    """It keeps the last value of each component long after its page was closed."""
    camera = CameraFrames(streaming=True, sources=["webcam"])
    received = camera.data_model.model_validate({"path": None, "url": "data:image/jpeg;base64,AAAA"})
    assert camera.preprocess(received) == bytes(3) and received.model_dump() == {}


def test_failures_of_a_face_make_the_next_attempt_wait(shipped, tmp_path, photograph):
    file = tmp_path / "a.png"
    file.write_bytes(photograph)
    tab = live.Live(shipped, ["happy"], Uploads())
    cards = [tab.on_start([str(file)], "", Request())[:2] for _ in range(6)]
    assert all(token for token, _ in cards[:5]), "breaking off is forgiven a few times"
    assert not cards[5][0] and "Too many failed attempts" in cards[5][1] and re.search(r"in \d+ seconds", cards[5][1])


def test_uploads_are_deleted_with_the_page(shipped, tmp_path, photograph):
    file, other = tmp_path / "a.png", tmp_path / "b.png"
    (tmp_path / "x").mkdir()
    for path in (file, other):
        path.write_bytes(photograph)
    tab = live.Live(shipped, ["happy"], Uploads())
    assert "can be used" in tab.on_reference([str(file)], Request())
    shared = Request()
    shared.session_hash = "another page"
    tab.on_reference([str(tmp_path / "x" / ".." / "a.png")], shared)  # the same one, said otherwise
    tab.uploads.on_leave(shared)
    assert file.exists(), "somebody else has uploaded the same photograph"
    tab.uploads.on_leave(Request())
    assert not file.exists() and other.exists()
    assert "deleted by now" in tab.on_start([str(file)], "", Request())[3]
    many = tab.on_reference([str(other)] * 6, Request())
    assert "At most 5 photographs" in many


def test_of_uploads_only_so_much_is_remembered(tmp_path):
    """A client may send any path, and be as many pages as it likes."""
    (tmp_path / "x").mkdir()
    example, *files = [tmp_path / f"{number}.png" for number in range(4)]
    for file in (example, *files):
        file.touch()
    uploads = Uploads(pages=2)
    uploads.keep([str(example)])
    uploads.remember("invented", [tmp_path / str(number) for number in range(9)])
    uploads.remember("an example", [example, tmp_path / "x" / ".." / example.name])
    assert uploads._files == {}
    for number, file in enumerate(files):
        uploads.remember(f"page {number}", [file])
    assert list(uploads._files) == ["page 1", "page 2"], "the one that gave some longest ago is left to Gradio"
    files[1].unlink()
    uploads.remember("page 1", [])
    assert list(uploads._files) == ["page 2"], "nor is what is gone"


def test_files_of_every_tab_are_deleted_with_the_page_and_examples_never(server, page, photograph):
    samples = {
        part["path"]
        for one in page.http.get("/config").json()["components"]
        if one["type"] == "dataset"
        for row in one["props"]["samples"]
        for part in row
        if isinstance(part, dict) and "path" in part
    }
    examples = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in sorted(samples)]
    assert len(examples) >= 5 and all(Path(path).is_file() for path in samples)
    events = [("clip-reference", "change"), ("clip", "change"), ("pair-reference", "change"), ("pair-probe", "change")]
    own = {name: page.upload(f"{name}.png", photograph + name.encode()) for name, _ in [("reference", ""), *events]}
    for (name, event), example in product(events, examples):
        page.call(name, event, [example])
        page.call(name, event, [own[name]])
    page.call("reference", "change", [[{"image": one, "caption": None} for one in (own["reference"], *examples)]])
    page.close()
    until = time.monotonic() + 10
    while any(Path(one["path"]).exists() for one in own.values()) and time.monotonic() < until:
        time.sleep(0.1)
    assert [name for name, one in own.items() if Path(one["path"]).exists()] == []
    assert [path for path in samples if not Path(path).is_file()] == []


def test_the_registry_being_full_is_said(shipped, tmp_path, photograph):
    file = tmp_path / "a.png"
    file.write_bytes(photograph)
    tab = live.Live(shipped, ["happy"], Uploads())
    tab.sessions.limit = 0
    for _ in range(9):  # and is nobody's failure
        token, card, *_ = tab.on_start([str(file)], "", Request())
        assert token == "" and "Too many people at once" in card
