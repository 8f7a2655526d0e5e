"""The demo under load: simulated people before their cameras, at the real server over HTTP, as browsers send it.

Starts `python app.py` in a process of its own and lets each client do what a browser does: upload a photograph, press
Start, send a JPEG frame as soon as the last one was answered and its turn has come, and start over after the decision.
Tells frames/s and answer times of each client, so that concurrency and frame rate can be chosen from a table, and for
long runs (--minutes 10) the server's memory in the first and the last minute, errors, and files that are left.
"""

import base64
import io
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.report import table, target_text
from checkpoints import DEFAULT_MODEL
from face_data.drawn import WELL_KNOWN, drawn_frame, drawn_photograph

REPOSITORY = Path(__file__).resolve().parent.parent
MOST_GROWTH = 0.05  # target: memory of the last minute over that of the first
LIVE_FRAMES = 25.0  # target: frames/s the server can take from one client
MOST_SECONDS_TO_READY = 10.0  # target: from the command to the first page
MOST_SMILE_SECONDS = 1.0  # target: from an expression shown to its step passed, for one client
ATTEMPTS_PER_PAGE = 5  # then a client opens another page
WIDTH, HEIGHT = 640, 480
DIFFERENT_FRAMES = 200  # of a face at rest: more than an attempt takes
ACTIONS = {  # what the page says -> the expression and the degrees a head is turned by
    "Now smile": ("happy", 0.0),
    "Now look surprised": ("surprise", 0.0),
    "slowly to your left": ("neutral", 32.0),
    "slowly to your right": ("neutral", -32.0),
}
CHANGES = 4  # steps from the face at rest to the action, a tenth of a second each
CHANGE_SECONDS = 0.1


class GradioError(RuntimeError):
    """The server answered an event with an error."""


class GradioPage:
    """One open page of the demo, speaking Gradio's HTTP as its JavaScript does.

    Args:
        address: of the server, such as http://127.0.0.1:7860.
    """

    def __init__(self, address: str):
        self.http = httpx.Client(base_url=address, timeout=60)
        self.session = uuid.uuid4().hex[:11]
        config = self.http.get("/config").raise_for_status().json()
        self._names = {one["id"]: one["props"].get("elem_id") for one in config["components"]}
        self._events = {
            (self._names.get(target), event): (one["id"], len(one["inputs"]))
            for one in config["dependencies"]
            for target, event in one["targets"]
        }
        self._stream: str | None = None
        self._messages = self._listen()
        # The server takes the end of this connection for the page being closed.
        self._heartbeat = self.http.stream("GET", f"/gradio_api/heartbeat/{self.session}")
        self._heartbeat.__enter__()

    def close(self) -> None:
        self._messages.close()
        self._heartbeat.__exit__(None, None, None)
        self.http.close()

    def upload(self, name: str, data: bytes) -> dict:
        """A file as a component's value."""
        (path,) = self.http.post("/gradio_api/upload", files={"files": (name, data)}).raise_for_status().json()
        return {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": name, "mime_type": "image/png"}

    def call(self, element: str, event: str, data: list) -> list:
        """Fire an event of a component and wait for what its handler returns.

        Raises:
            GradioError: the handler failed.
        """
        return self._answer(self._join(element, event, data))

    def frame(self, data: list) -> list:
        """Send one frame of the camera's stream, opening the stream with the first."""
        if self._stream is None:
            self._stream = self._join("camera", "stream", data)
        else:
            body = self._body("camera", "stream", data)
            answer = self.http.post(f"/gradio_api/stream/{self._stream}", json=body)
            if answer.status_code == 404:  # its time limit is over
                self._stream = self._join("camera", "stream", data)
        return self._answer(self._stream)

    def stop(self) -> None:
        """Close the camera's stream, as the browser does when the recording stops."""
        if self._stream is not None:
            self.http.post(f"/gradio_api/stream/{self._stream}/close")
            self._stream = None

    def _body(self, element: str, event: str, data: list) -> dict:
        number, inputs = self._events[element, event]
        assert len(data) == inputs, f"{element}.{event} takes {inputs} values"
        return {"data": data, "fn_index": number, "session_hash": self.session, "event_data": None, "trigger_id": None}

    def _join(self, element: str, event: str, data: list) -> str:
        answer = self.http.post("/gradio_api/queue/join", json=self._body(element, event, data))
        return answer.raise_for_status().json()["event_id"]

    def _answer(self, event_id: str) -> list:
        for message in self._messages:
            if message.get("event_id") != event_id:
                continue
            if message["msg"] in ("process_streaming", "process_completed", "process_generating"):
                if not message["success"]:
                    raise GradioError(str(message["output"]))
                if message["msg"] == "process_completed" and event_id == self._stream:
                    self._stream = None
                return message["output"]["data"]
        raise GradioError("the server closed the connection")

    def _listen(self):
        """The server's messages; the connection ends when nothing is pending, and is opened again."""
        while True:
            with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as lines:
                for line in lines.iter_lines():
                    if line.startswith("data:"):
                        message = json.loads(line[5:])
                        if message["msg"] != "heartbeat":
                            yield message
                        if message["msg"] == "close_stream":
                            break


class Server:
    """`python app.py` in a process of its own, with a folder of its own for uploads."""

    def __init__(self, model: str, *arguments: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self._folder = tempfile.TemporaryDirectory(prefix="facelivenet-live-")
        self.uploads = Path(self._folder.name) / "uploads"
        self._log = open(Path(self._folder.name) / "log", "w+")  # noqa: SIM115 – closed with the server
        environment = os.environ | {"GRADIO_TEMP_DIR": str(self.uploads), "GRADIO_ANALYTICS_ENABLED": "False"}
        command = [sys.executable, "app.py", "--model", model, "--port", str(port), *arguments]
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=self._log, stderr=subprocess.STDOUT
        )
        self.seconds_to_ready = self._wait()

    def _wait(self) -> float:
        while time.monotonic() - self.began < 120:
            if self.process.poll() is not None:
                raise RuntimeError(f"app.py ended with status {self.process.returncode}: {self.log()}")
            try:
                httpx.get(self.address, timeout=5).raise_for_status()
                return time.monotonic() - self.began
            except httpx.HTTPError:
                time.sleep(0.1)
        self.close()
        raise RuntimeError("app.py did not answer within 120 s")

    def memory(self) -> float:
        """MiB of memory that are the process's own: resident, less what it shares with files."""
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        return int(fields["RssAnon"].split()[0]) / 1024

    def files(self) -> list[str]:
        return sorted(path.name for path in self.uploads.rglob("*") if path.is_file())

    def log(self) -> str:
        return Path(self._log.name).read_text(encoding="utf-8")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self._log.close()
        self._folder.cleanup()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        self.close()


@dataclass
class Tally:
    """What one client saw."""

    answers: list[float] = field(default_factory=list)  # seconds from a frame sent to its answer
    smiles: list[float] = field(default_factory=list)  # seconds from the first whole smile sent until it had passed
    decisions: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def frames_of(
    person: int, expression: str, strength: float = 1.0, yaw: float = 0.0, count: int = DIFFERENT_FRAMES
) -> list[dict]:
    """A drawn person before a camera, every frame another, as the browser sends them."""
    face = drawn_frame(person, expression, strength, yaw, seed=1).resize((440, 440))
    rng, frames = np.random.default_rng(0), []
    noise = rng.normal(0, 3, (HEIGHT + 100, WIDTH + 100, 1)).astype(np.float32)
    for _ in range(count):
        frame = Image.new("RGB", (WIDTH, HEIGHT), (96, 104, 112))
        x, y = rng.integers(0, 5, 2)
        frame.paste(face, (100 + int(x), 20 + int(y)))
        x, y = rng.integers(0, 100, 2)
        pixels = np.asarray(frame) + noise[y : y + HEIGHT, x : x + WIDTH]
        data = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=90)
        url = f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
        frames.append({"path": None, "url": url})
    return frames


class Person:
    """A drawn person who does what the page asks, in some steps, as people do.

    Args:
        number: of WELL_KNOWN.
        actions: of ACTIONS, that may be asked for.
    """

    def __init__(self, number: int, actions: Sequence[str] = tuple(ACTIONS)):
        self._frames = {None: [frames_of(number, "neutral")]}
        for name in actions:
            expression, yaw = ACTIONS[name]
            shares = np.linspace(0, 1, CHANGES + 1)[1:]
            counts = [*[DIFFERENT_FRAMES // 8] * (CHANGES - 1), DIFFERENT_FRAMES // 2]
            self._frames[name] = [
                frames_of(number, expression, share, yaw * share, count)
                for share, count in zip(shares, counts, strict=True)
            ]
        self._doing, self._step, self._moved, self._number = None, 0, 0.0, 0

    @property
    def whole(self) -> bool:
        """An action is shown, and all of it."""
        return self._doing is not None and self._step == CHANGES - 1

    def frame(self, shown: str, now: float) -> dict:
        """The next frame of the camera, after the page has shown this instruction."""
        asked = next((name for name in self._frames if name and name in shown), None)
        if now - self._moved >= CHANGE_SECONDS:
            self._moved = now
            if self._doing == asked:
                self._step = min(self._step + 1, len(self._frames[asked]) - 1)
            elif self._step > 0:
                self._step -= 1
            else:
                self._doing = asked if self._doing is None else None
                self._step = 0
        frames = self._frames[self._doing][self._step]
        self._number += 1
        return frames[self._number % len(frames)]


def visit(address: str, until: float, frame_seconds: float, number: int, person: Person, tally: Tally) -> None:
    """One client: page after page, a few attempts on each, until the time is over."""
    while time.monotonic() < until:
        page = GradioPage(address)
        try:
            name = f"reference_{page.session}.png"
            files = [{"image": page.upload(name, photograph(WELL_KNOWN[number])), "caption": None}]
            page.call("reference", "change", [files])  # by which a page's photographs are known, and deleted with it
            for _ in range(ATTEMPTS_PER_PAGE):
                if time.monotonic() >= until:
                    break
                attempt(page, files, until, frame_seconds, person, tally)
        except (GradioError, httpx.HTTPError) as error:
            tally.errors.append(f"{type(error).__name__}: {error}")
        finally:
            page.close()


def attempt(page: GradioPage, files: list, until: float, frame_seconds: float, person: Person, tally: Tally) -> None:
    """Press Start and do what the page asks until it has decided, or the time is over."""
    token, shown = page.call("start", "click", [files, ""])[:2]
    due, smiling = time.monotonic(), None
    while token and time.monotonic() < until:
        sent = time.monotonic()
        frame = person.frame(shown, sent)
        smiling = (smiling or sent) if "Now smile" in shown and (smiling or person.whole) else None
        token, *outputs = page.frame([frame, token])
        tally.answers.append(time.monotonic() - sent)
        shown = outputs[0] if isinstance(outputs[0], str) else shown
        if smiling and "Now smile" not in shown and "card rejected" not in shown:
            tally.smiles.append(time.monotonic() - smiling)
        due = max(due + frame_seconds, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    page.stop()
    if not token:
        title, reason = re.search(r"<h2>(.*?)</h2><p>(.*?)</p>", shown).groups()
        kind = title if title == "Accepted" else reason
        tally.decisions[kind] = tally.decisions.get(kind, 0) + 1


def photograph(person: int) -> bytes:
    """A drawn person's reference, as PNG."""
    data = io.BytesIO()
    drawn_photograph(person, "neutral", 0, seed=0).save(data, "PNG")
    return data.getvalue()


def add_arguments(command) -> None:
    command.add_argument("--model", default=str(DEFAULT_MODEL), help="folder or Hub id (default: %(default)s)")
    command.add_argument(
        "--clients", type=int, nargs="+", default=[1, 2, 4, 8], help="people at the same time (default: 1 2 4 8)"
    )
    command.add_argument(
        "--frame-seconds", type=float, nargs="+", default=[0.0, 0.1, 0.2],
        help="seconds between the frames of each, if the server keeps up (default: 0 0.1 0.2)",
    )  # fmt: skip
    command.add_argument("--minutes", type=float, default=0.25, help="for each row (default: %(default)g)")


def run(arguments) -> dict:
    if min(arguments.clients) < 1 or min(arguments.frame_seconds) < 0 or not arguments.minutes > 0:
        raise ValueError("--clients: at least 1; --frame-seconds: at least 0; --minutes: more than 0")
    people = [Person(person) for person in tqdm(WELL_KNOWN[: max(arguments.clients)], desc="drawing", leave=False)]
    rows = []
    with Server(arguments.model) as server:
        for clients in arguments.clients:
            for frame_seconds in arguments.frame_seconds:
                rows.append(_row(server, clients, frame_seconds, 60 * arguments.minutes, people))
        ready = server.seconds_to_ready
        time.sleep(2)  # for the last pages to be closed
        left, failures = (
            [name for name in server.files() if name.startswith("reference")],
            server.log().count("Traceback"),
        )
    return {"seconds_to_ready": ready, "rows": rows, "files_left": left, "tracebacks": failures}


def _row(server: Server, clients: int, frame_seconds: float, seconds: float, people: list[dict]) -> dict:
    tallies = [Tally() for _ in range(clients)]
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=visit, args=(server.address, until, frame_seconds, *client, tally))
        for client, tally in zip(cycle(enumerate(people)), tallies, strict=False)
    ]
    for thread in threads:
        thread.start()
    memory = []
    with tqdm(total=round(seconds), desc=f"{clients} clients, {frame_seconds:g} s", unit="s", leave=False) as bar:
        while any(thread.is_alive() for thread in threads):
            time.sleep(1)
            memory.append(server.memory())
            bar.update(1)
    minute = max(1, min(60, len(memory) // 3))
    answers = [one for tally in tallies for one in tally.answers]
    decisions = Counter()
    for tally in tallies:
        decisions.update(tally.decisions)
    smiles = [one for tally in tallies for one in tally.smiles]
    first, last = statistics.median(memory[:minute]), statistics.median(memory[-minute:])
    return {
        "clients": clients,
        "frame_seconds": frame_seconds,
        "frames_per_second": [len(tally.answers) / seconds for tally in tallies],
        "answer_ms": {f"p{share}": 1000 * float(np.percentile(answers or [0], share)) for share in (50, 95, 99)},
        "smile_seconds": {f"p{share}": float(np.percentile(smiles or [0], share)) for share in (50, 95)},
        "decisions": dict(decisions.most_common()),
        "errors": [error for tally in tallies for error in tally.errors],
        "memory_mib": {
            "first": first,
            "last": last,
            "growth": last / first - 1,
            "by_minute": [statistics.median(memory[at : at + minute]) for at in range(0, len(memory), minute)],
        },
    }


def text(result: dict) -> str:
    headers = (
        "clients", "frame every", "frames/s each", "answer ms", "95 %", "smile to pass s", "95 %", "accepted",
        "rejected", "errors", "MiB",
    )  # fmt: skip
    rows, reasons = [], Counter()
    for row in result["rows"]:
        paces, rejected = row["frames_per_second"], Counter(row["decisions"])
        accepted = rejected.pop("Accepted", 0)
        reasons += rejected
        rows.append((
            str(row["clients"]), f"{row['frame_seconds']:g} s", f"{min(paces):.1f}-{max(paces):.1f}",
            f"{row['answer_ms']['p50']:.0f}", f"{row['answer_ms']['p95']:.0f}",
            f"{row['smile_seconds']['p50']:.2f}", f"{row['smile_seconds']['p95']:.2f}",
            str(accepted), str(rejected.total()), str(len(row["errors"])),
            f"{row['memory_mib']['first']:.0f}-{row['memory_mib']['last']:.0f}",
        ))  # fmt: skip
    alone = [row for row in result["rows"] if row["clients"] == 1]
    lines = [
        f"first page after {result['seconds_to_ready']:.1f} s",
        table(headers, rows),
        *(f"rejected {number} times: {reason}" for reason, number in reasons.most_common()),
        *sorted({error for row in result["rows"] for error in row["errors"]})[:5],
        target_text("seconds to the first page", result["seconds_to_ready"], MOST_SECONDS_TO_READY, at_least=False),
        target_text(
            "growth of memory, last against first part of the last row",
            result["rows"][-1]["memory_mib"]["growth"], MOST_GROWTH, at_least=False,
        ),
        f"photographs left behind: {len(result['files_left'])}, errors in the server's log: {result['tracebacks']}",
    ]  # fmt: skip
    if alone:
        pace, smile = (
            max(max(row["frames_per_second"]) for row in alone),
            max(row["smile_seconds"]["p95"] for row in alone),
        )
        lines.append(target_text("frames/s of one client", pace, LIVE_FRAMES, at_least=True))
        lines.append(target_text("seconds from a smile to its step, 95 %", smile, MOST_SMILE_SECONDS, at_least=False))
    return "\n".join(lines)
