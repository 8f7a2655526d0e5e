"""The demo under load: simulated people before their cameras, at the real server over HTTP, as browsers send it.

Starts `python app.py` in a process of its own and lets each client do what a browser does: upload a photograph, press
Start, send a JPEG frame as soon as the last one was answered and its turn has come, and start over after the decision.
Tells frames/s and answer times of each client, so that concurrency and frame rate can be chosen from a table, and for
long runs (--minutes 10) the server's memory in the first and the last minute, errors, and files that are left.
"""

import contextlib
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.report import table, target_text
from demo.examples import WELL_KNOWN
from face_data.drawn import drawn_frame, drawn_photograph

REPOSITORY = Path(__file__).resolve().parent.parent
MOST_GROWTH = 0.05  # target: memory of the last minute over that of the first
LIVE_FRAMES = 25.0  # target: frames/s the server can take from one client
MOST_SECONDS_TO_PAGE = 2.0  # targets: from the command to the page that says that the model is being loaded,
MOST_SECONDS_TO_READY = 10.0  # and to the demo
MOST_SMILE_SECONDS = 1.0  # target: from an expression shown to its step passed, for one client
SECONDS_TO_START = 300  # after which it is given up, on the busiest machine
ATTEMPTS_PER_PAGE = 5  # then a client opens another page
WIDTH, HEIGHT = 640, 480
LEAVE_SECONDS = 10  # the server waits three for a page that is loaded again
DIFFERENT_FRAMES = 200  # of a face at rest: more than an attempt takes
ACTIONS = {  # what the page says -> the expression and the degrees a head is turned by
    "Now smile": ("happy", 0.0),
    "Now look surprised": ("surprise", 0.0),
    "slowly to your left": ("neutral", 32.0),
    "slowly to your right": ("neutral", -32.0),
}
CHANGES = 4  # steps from the face at rest to the action, a tenth of a second each
CHANGE_SECONDS = 0.1


class RefusedError(RuntimeError):
    """The server answered a request with a status other than 200; `status` is it."""

    def __init__(self, status: int, text: str):
        super().__init__(f"{status}: {text[:200]}")
        self.status = status


class Page:
    """One open page of the demo, asking what its JavaScript asks.

    Args:
        server: its address, such as http://127.0.0.1:7860.
        source: the address to come from; any of 127.0.0.0/8 is another visitor.
    """

    def __init__(self, server: str, source: str = "127.0.0.1", timeout: float = 60):
        transport = httpx.HTTPTransport(local_address=source, verify=False)  # without TLS: its set-up takes 17 ms
        self.http = httpx.Client(base_url=server, timeout=timeout, transport=transport)
        self.name, self.source = uuid.uuid4().hex, source
        # The server takes the end of this connection for the page being closed.
        self._open = self.http.stream("GET", "/api/page", params={"page": self.name})
        self._open.__enter__()

    def close(self) -> None:
        self._open.__exit__(None, None, None)
        self.http.close()

    def upload(self, name: str, data: bytes) -> str:
        """The path under which the server knows a file from now on.

        Raises:
            RefusedError: as do all of these.
        """
        return _answer(self.http.post("/gradio_api/upload", files={"files": (name, data)}))[0]

    def ask(self, route: str, **body) -> list:
        """What the page's parts show after a request."""
        return _answer(self.http.post(f"/api/{route}", content=json.dumps({"page": self.name} | body)))

    def start(self, photographs: list[str], token: str = "") -> list:
        """Open an attempt: token, instruction, steps, note."""
        return self.ask("start", photographs=photographs, token=token)

    def frame(self, picture: bytes, token: str) -> list:
        """One frame of an attempt: token, instruction, steps, overlay, numbers, timeline."""
        return _answer(self.http.post("/api/frame", content=picture, headers={"X-Attempt": token}))


def _answer(response: httpx.Response) -> list:
    if response.status_code != 200:
        raise RefusedError(response.status_code, response.text)
    return response.json()


class Server:
    """`python app.py` in a process of its own, with a folder of its own for uploads.

    Args:
        ready: wait until the model is loaded; otherwise only until there is a page, and `wait_until_ready` later.
    """

    def __init__(self, model: str, *arguments: str, ready: bool = True):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self._folder = tempfile.TemporaryDirectory(prefix="facelivenet-live-")
        self.uploads = Path(self._folder.name) / "uploads"
        self._log = open(Path(self._folder.name) / "log", "w+", encoding="utf-8")  # noqa: SIM115 – closed with the server
        environment = os.environ | {"GRADIO_TEMP_DIR": str(self.uploads)}
        command = [sys.executable, "app.py", "--model", model, "--port", str(port), *arguments]
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=self._log, stderr=subprocess.STDOUT
        )
        self.seconds_to_page = self._wait(lambda answer: True)
        if ready:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Raises: RuntimeError: the server has ended instead."""
        self.seconds_to_ready = self._wait(lambda answer: answer.is_success)

    def _wait(self, enough: Callable[[httpx.Response], bool]) -> float:
        while time.monotonic() - self.began < SECONDS_TO_START:
            if self.process.poll() is not None:
                raise RuntimeError(f"app.py ended with status {self.process.returncode}: {self.log()}")
            with contextlib.suppress(httpx.HTTPError):
                if enough(httpx.get(self.address, timeout=5)):
                    return time.monotonic() - self.began
            time.sleep(0.1)
        self.close()
        raise RuntimeError(f"app.py did not answer within {SECONDS_TO_START} s")

    def memory(self) -> float:
        """MiB of memory that are the process's own: resident, less what it shares with files."""
        fields = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        )
        return int(fields["RssAnon"].split()[0]) / 1024

    def files(self) -> list[str]:
        """Names of the files that visitors have uploaded."""
        found = []
        for folder, _, names in os.walk(self.uploads):  # which passes over what is deleted meanwhile
            path = Path(folder)
            if path.name != "examples" and len(path.relative_to(self.uploads).parts) == 2:
                found += names
        return sorted(found)

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

    starts: list[float] = field(default_factory=list)  # seconds from Start pressed to its answer
    answers: list[float] = field(default_factory=list)  # seconds from a frame sent to its answer
    smiles: list[float] = field(default_factory=list)  # seconds from the first whole smile sent until it had passed
    decisions: dict[str, int] = field(default_factory=dict)
    refused: int = 0  # starts that got no attempt: after many failures a face has to wait
    errors: list[str] = field(default_factory=list)


@cache
def frames_of(
    person: int, expression: str, strength: float = 1.0, yaw: float = 0.0, count: int = DIFFERENT_FRAMES
) -> list[bytes]:
    """A drawn person before a camera, every frame another, as JPEG."""
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
        frames.append(data.getvalue())
    return frames


class Person:
    """A drawn person who does what the page asks, in some steps, as people do.

    Args:
        number: which of the drawn people.
        actions: of ACTIONS, that may be asked for.
        frames: different ones of the face at rest, and about as many of each action: more than a step takes.
    """

    def __init__(self, number: int, actions: Sequence[str] = tuple(ACTIONS), frames: int = DIFFERENT_FRAMES):
        self.number = number
        self._frames = {None: [frames_of(number, "neutral", count=frames)]}
        for name in actions:
            expression, yaw = ACTIONS[name]
            shares = np.linspace(0, 1, CHANGES + 1)[1:]
            counts = [*[frames // 8] * (CHANGES - 1), frames // 2]
            self._frames[name] = [
                frames_of(number, expression, share, yaw * share, count)
                for share, count in zip(shares, counts, strict=True)
            ]
        self._doing, self._step, self._moved, self._sent = None, 0, 0.0, 0

    @property
    def whole(self) -> bool:
        """An action is shown, and all of it."""
        return self._doing is not None and self._step == CHANGES - 1

    def frame(self, shown: str, now: float) -> bytes:
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
        self._sent += 1
        return frames[self._sent % len(frames)]


def people_of(clients: int, actions: Sequence[str] = tuple(ACTIONS)) -> list[Person]:
    """One for each client; those with the same face move on their own."""
    faces = [WELL_KNOWN[number % len(WELL_KNOWN)] for number in range(clients)]
    return [Person(face, actions) for face in tqdm(faces, desc="drawing", leave=False)]


def visit(
    address: str, goes_on: Callable[[], bool], frame_seconds: float, number: int, person: Person, tally: Tally
) -> None:
    """One client: page after page, a few attempts on each, as long as it goes on."""
    while goes_on():
        page = Page(address, source=source_of(number))
        try:
            files = [page.upload(f"reference_{page.name}.png", photograph(person.number))]
            page.ask("reference", photographs=files)
            for _ in range(ATTEMPTS_PER_PAGE):
                if not goes_on():
                    break
                attempt(page, files, goes_on, frame_seconds, person, tally)
        except (RefusedError, httpx.HTTPError) as error:
            tally.errors.append(f"{type(error).__name__}: {error}")
        finally:
            page.close()


def attempt(
    page: Page, files: list, goes_on: Callable[[], bool], frame_seconds: float, person: Person, tally: Tally
) -> None:
    """Press Start and do what the page asks until it has decided, or it does not go on."""
    pressed = time.monotonic()
    token, shown = page.start(files)[:2]
    if not token:
        tally.refused += 1
        time.sleep(1)
        return
    tally.starts.append(time.monotonic() - pressed)
    due, smiling = time.monotonic(), None
    while token and goes_on():
        sent = time.monotonic()
        frame = person.frame(shown, sent)
        smiling = (smiling or sent) if "Now smile" in shown and (smiling or person.whole) else None
        token, *outputs = page.frame(frame, token)
        tally.answers.append(time.monotonic() - sent)
        shown = outputs[0] if isinstance(outputs[0], str) else shown
        if smiling and "Now smile" not in shown and "card rejected" not in shown:
            tally.smiles.append(time.monotonic() - smiling)
        due = max(due + frame_seconds, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    if not token:
        title, reason = re.search(r"<h2>(.*?)</h2><p>(.*?)</p>", shown).groups()
        kind = title if title == "Accepted" else reason
        tally.decisions[kind] = tally.decisions.get(kind, 0) + 1


def source_of(number: int) -> str:
    """The address of a simulated visitor. Only Linux lets a program come from all addresses of 127.0.0.0/8."""
    return f"127.0.1.{number + 1}" if sys.platform == "linux" else "127.0.0.1"


def photograph(person: int) -> bytes:
    """A drawn person's reference, as PNG."""
    data = io.BytesIO()
    drawn_photograph(person, "neutral", 0, seed=0).save(data, "PNG")
    return data.getvalue()


def run(arguments) -> dict:
    if min(arguments.clients) < 1 or min(arguments.frame_seconds) < 0 or not arguments.minutes > 0:
        raise ValueError("--clients: at least 1; --frame-seconds: at least 0; --minutes: more than 0")
    people = people_of(max(arguments.clients))
    rows = []
    with Server(arguments.model) as server:
        for clients in arguments.clients:
            for frame_seconds in arguments.frame_seconds:
                rows.append(_row(server, clients, frame_seconds, 60 * arguments.minutes, people))
        page, ready = server.seconds_to_page, server.seconds_to_ready
        left, failures = _files_left(server), server.log().count("Traceback")
    return {
        "seconds_to_page": page,
        "seconds_to_ready": ready,
        "rows": rows,
        "files_left": left,
        "tracebacks": failures,
    }


def _files_left(server: Server) -> list[str]:
    """The visitors' photographs that are still there LEAVE_SECONDS after the last page was closed."""
    until = time.monotonic() + LEAVE_SECONDS
    while (left := [name for name in server.files() if name.startswith("reference")]) and time.monotonic() < until:
        time.sleep(0.5)
    return left


def _row(server: Server, clients: int, frame_seconds: float, seconds: float, people: list[Person]) -> dict:
    tallies = [Tally() for _ in range(clients)]
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(
            target=visit, args=(server.address, lambda: time.monotonic() < until, frame_seconds, *client, tally)
        )
        for client, tally in zip(enumerate(people), tallies, strict=False)
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
    answers = [seconds for tally in tallies for seconds in tally.answers]
    decisions = Counter()
    for tally in tallies:
        decisions.update(tally.decisions)
    smiles = [seconds for tally in tallies for seconds in tally.smiles]
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
        "clients",
        "frame every",
        "frames/s each",
        "answer ms",
        "95 %",
        "smile to pass s",
        "95 %",
        "accepted",
        "rejected",
        "errors",
        "MiB",
    )
    rows, reasons = [], Counter()
    for row in result["rows"]:
        paces, rejected = row["frames_per_second"], Counter(row["decisions"])
        accepted = rejected.pop("Accepted", 0)
        reasons += rejected
        rows.append(
            (
                str(row["clients"]),
                f"{row['frame_seconds']:g} s",
                f"{min(paces):.1f}-{max(paces):.1f}",
                f"{row['answer_ms']['p50']:.0f}",
                f"{row['answer_ms']['p95']:.0f}",
                f"{row['smile_seconds']['p50']:.2f}",
                f"{row['smile_seconds']['p95']:.2f}",
                str(accepted),
                str(rejected.total()),
                str(len(row["errors"])),
                f"{row['memory_mib']['first']:.0f}-{row['memory_mib']['last']:.0f}",
            )
        )
    alone = [row for row in result["rows"] if row["clients"] == 1]
    lines = [
        f"a page after {result['seconds_to_page']:.1f} s, the demo after {result['seconds_to_ready']:.1f} s",
        table(headers, rows),
        *(f"rejected {number} times: {reason}" for reason, number in reasons.most_common()),
        *sorted({error for row in result["rows"] for error in row["errors"]})[:5],
        target_text("seconds to a page", result["seconds_to_page"], MOST_SECONDS_TO_PAGE, at_least=False),
        target_text("seconds to the demo", result["seconds_to_ready"], MOST_SECONDS_TO_READY, at_least=False),
        target_text(
            "growth of memory, last against first part of the last row",
            result["rows"][-1]["memory_mib"]["growth"],
            MOST_GROWTH,
            at_least=False,
        ),
        f"photographs left behind: {len(result['files_left'])}, errors in the server's log: {result['tracebacks']}",
    ]
    if alone:
        pace, smile = (
            max(max(row["frames_per_second"]) for row in alone),
            max(row["smile_seconds"]["p95"] for row in alone),
        )
        lines.append(target_text("frames/s of one client", pace, LIVE_FRAMES, at_least=True))
        lines.append(target_text("seconds from a smile to its step, 95 %", smile, MOST_SMILE_SECONDS, at_least=False))
    return "\n".join(lines)
