"""The demo under load: simulated users with cameras send requests to the real server, as browsers do.

Starts `python app.py` in another process. Each client does what a browser does: it uploads a photograph, presses Start,
sends a JPEG frame when the last one is answered and the time for the next one has come, and starts again after the
decision. The table shows frames/s and answer times for each number of clients and frame rate. Long runs (--minutes 10)
also show the server's memory in the first and the last minute, errors, and files that were not deleted.
"""

import contextlib
import html
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

from benchmarks.arguments import REPOSITORY
from benchmarks.report import LIVE_FRAMES, table, target_text
from demo.examples import WELL_KNOWN
from face_data.drawn import drawn_frame, drawn_photograph

MAX_GROWTH = 0.05  # target: growth of memory from the first to the last minute
MAX_SECONDS_TO_PAGE = 2.0  # target: time from the command to the first page
MAX_SECONDS_TO_READY = 10.0  # target: time from the command to the demo
MAX_SMILE_SECONDS = 1.0  # target: time from a shown expression to its passed step, for one client
SECONDS_TO_START = 300  # time limit, even for a busy machine
ATTEMPTS_PER_PAGE = 5  # then a client opens a new page
WIDTH, HEIGHT = 640, 480
LEAVE_SECONDS = 10  # the server waits three seconds for a page that is loaded again
DIFFERENT_FRAMES = 200  # of a face at rest; an attempt needs fewer
ACTIONS = {  # text on the page -> expression, and degrees by which the head is turned
    "Now smile": ("happy", 0.0),
    "Now look surprised": ("surprise", 0.0),
    "slowly to your left": ("neutral", 32.0),
    "slowly to your right": ("neutral", -32.0),
}
CHANGES = 4  # steps of CHANGE_SECONDS from the face at rest to the action
CHANGE_SECONDS = 0.1


class RefusedError(RuntimeError):
    """The server answered a request with a status other than 200, which is `status`."""

    def __init__(self, status: int, text: str):
        super().__init__(f"{status}: {text[:200]}")
        self.status = status


class Page:
    """An open page of the demo, which sends the same requests as its JavaScript.

    Args:
        server: address of the server, such as http://127.0.0.1:7860.
        source: address of the client; each address of 127.0.0.0/8 is another visitor.
    """

    def __init__(self, server: str, source: str = "127.0.0.1", timeout: float = 60):
        transport = httpx.HTTPTransport(local_address=source, verify=False)  # without TLS, whose set-up takes 17 ms
        self.http = httpx.Client(base_url=server, timeout=timeout, transport=transport)
        self.name, self.source = uuid.uuid4().hex, source
        # For the server the page is closed when this connection ends.
        self._page_connection = self.http.stream("GET", "/api/page", params={"page": self.name})
        self._page_connection.__enter__()

    def close(self) -> None:
        self._page_connection.__exit__(None, None, None)
        self.http.close()

    def upload(self, name: str, data: bytes) -> str:
        """Upload a file; returns its path on the server.

        Raises:
            RefusedError: the server refused the request. All methods raise it.
        """
        return _answer(self.http.post("/gradio_api/upload", files={"files": (name, data)}))[0]

    def ask(self, route: str, **body) -> list:
        """The new contents of the page's parts after a request."""
        return _answer(self.http.post(f"/api/{route}", content=json.dumps({"page": self.name} | body)))

    def start(self, photographs: list[str], token: str = "") -> list:
        """Open an attempt: token, instruction, steps, note."""
        return self.ask("start", photographs=photographs, token=token)

    def frame(self, image: bytes, token: str) -> list:
        """One frame of an attempt: token, instruction, steps, overlay, numbers, timeline."""
        return _answer(self.http.post("/api/frame", content=image, headers={"X-Attempt": token}))


def _answer(response: httpx.Response) -> list:
    if response.status_code != 200:
        raise RefusedError(response.status_code, response.text)
    return response.json()


class Server:
    """`python app.py` in another process, with its own folder for uploads.

    Args:
        ready: True waits until the model is loaded. False only waits for the first page; call `wait_until_ready` later.
    """

    def __init__(self, model: str, *arguments: str, ready: bool = True):
        with socket.socket() as socket_of_free_port:
            socket_of_free_port.bind(("127.0.0.1", 0))
            port = socket_of_free_port.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self._folder = tempfile.TemporaryDirectory(prefix="facelivenet-live-")
        self.uploads = Path(self._folder.name) / "uploads"
        self._log = open(Path(self._folder.name) / "log", "w+", encoding="utf-8")  # noqa: SIM115 – closed with the server
        environment = os.environ | {"GRADIO_TEMP_DIR": str(self.uploads)}
        self.start_time = time.monotonic()
        self.process = self._start(["app.py", "--model", model, "--port", str(port), *arguments], environment)
        self.seconds_to_page = self._wait(lambda answer: True)
        if ready:
            self.wait_until_ready()

    def _start(self, arguments: list[str], environment: dict[str, str]) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=REPOSITORY, env=environment, stdout=self._log, stderr=subprocess.STDOUT
        )

    def wait_until_ready(self) -> None:
        """Wait for the demo. Raises RuntimeError if the server ends instead."""
        self.seconds_to_ready = self._wait(lambda answer: answer.is_success)

    def _wait(self, is_enough: Callable[[httpx.Response], bool]) -> float:
        with httpx.Client(timeout=5) as http:  # one client, because each reads all certificates of the system
            while time.monotonic() - self.start_time < SECONDS_TO_START:
                if self.process.poll() is not None:
                    raise RuntimeError(f"app.py ended with status {self.process.returncode}: {self.log()}")
                with contextlib.suppress(httpx.HTTPError):
                    if is_enough(http.get(self.address)):
                        return time.monotonic() - self.start_time
                time.sleep(0.1)
        self.close()
        raise RuntimeError(f"app.py did not answer within {SECONDS_TO_START} s")

    def memory(self) -> float:
        """Private memory of the process in MiB: resident memory without what it shares with files."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields["RssAnon"].split()[0]) / 1024

    def files(self) -> list[str]:
        """Names of the files that visitors have uploaded."""
        file_names = []
        for folder, _, names in os.walk(self.uploads):  # ignores folders that are deleted in the meantime
            path = Path(folder)
            if path.name != "examples" and len(path.relative_to(self.uploads).parts) == 2:
                file_names += names
        return sorted(file_names)

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
    """The measurements of one client."""

    starts: list[float] = field(default_factory=list)  # seconds from pressing Start to the answer
    answers: list[float] = field(default_factory=list)  # seconds from sending a frame to the answer
    smiles: list[float] = field(
        default_factory=list
    )  # seconds from the first frame with the whole smile to the passed step
    decisions: dict[str, int] = field(default_factory=dict)
    refused: int = 0  # starts without an attempt, because a face has to wait after many failures
    errors: list[str] = field(default_factory=list)


@cache
def jpeg_frames(
    person: int, expression: str, strength: float = 1.0, yaw: float = 0.0, count: int = DIFFERENT_FRAMES
) -> list[bytes]:
    """Different JPEG frames of a drawn person in front of a camera."""
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
    """A drawn person who does what the page asks, in several steps.

    Args:
        number: of the drawn person.
        actions: keys of ACTIONS that may be requested.
        frames: number of different frames of the face at rest, and about as many of each action.
    """

    def __init__(self, number: int, actions: Sequence[str] = tuple(ACTIONS), frames: int = DIFFERENT_FRAMES):
        self.number = number
        self._frames = {None: [jpeg_frames(number, "neutral", count=frames)]}
        for name in actions:
            expression, yaw = ACTIONS[name]
            shares = np.linspace(0, 1, CHANGES + 1)[1:]
            counts = [*[frames // 8] * (CHANGES - 1), frames // 2]
            self._frames[name] = [
                jpeg_frames(number, expression, share, yaw * share, count)
                for share, count in zip(shares, counts, strict=True)
            ]
        self._action, self._step, self._last_change, self._frames_sent = None, 0, 0.0, 0

    @property
    def shows_whole_action(self) -> bool:
        """Whether the current frames show an action completely."""
        return self._action is not None and self._step == CHANGES - 1

    def frame(self, instruction: str, now: float) -> bytes:
        """The next frame of the camera, when the page shows this instruction."""
        requested_action = next((name for name in self._frames if name and name in instruction), None)
        if now - self._last_change >= CHANGE_SECONDS:
            self._last_change = now
            if self._action == requested_action:
                self._step = min(self._step + 1, len(self._frames[requested_action]) - 1)
            elif self._step > 0:
                self._step -= 1
            else:
                self._action = requested_action if self._action is None else None
                self._step = 0
        frames = self._frames[self._action][self._step]
        self._frames_sent += 1
        return frames[self._frames_sent % len(frames)]


def draw_people(clients: int, actions: Sequence[str] = tuple(ACTIONS)) -> list[Person]:
    """A person for each client. Clients with the same face move independently."""
    faces = [WELL_KNOWN[number % len(WELL_KNOWN)] for number in range(clients)]
    return [Person(face, actions) for face in tqdm(faces, desc="drawing", leave=False)]


def visit(
    address: str, should_continue: Callable[[], bool], frame_seconds: float, number: int, person: Person, tally: Tally
) -> None:
    """One client: several attempts on one page after the other, while `should_continue()`."""
    while should_continue():
        page = Page(address, source=source_address(number))
        try:
            files = [page.upload(f"reference_{page.name}.png", photograph(person.number))]
            page.ask("reference", photographs=files)
            for _ in range(ATTEMPTS_PER_PAGE):
                if not should_continue():
                    break
                attempt(page, files, should_continue, frame_seconds, person, tally)
        except (RefusedError, httpx.HTTPError) as error:
            tally.errors.append(f"{type(error).__name__}: {error}")
        finally:
            page.close()


def attempt(
    page: Page, files: list, should_continue: Callable[[], bool], frame_seconds: float, person: Person, tally: Tally
) -> None:
    """Press Start and do what the page asks until the decision, while `should_continue()`."""
    start_time = time.monotonic()
    token, instruction = page.start(files)[:2]
    if not token:
        tally.refused += 1
        time.sleep(1)
        return
    tally.starts.append(time.monotonic() - start_time)
    next_time, smile_start = time.monotonic(), None
    while token and should_continue():
        sent = time.monotonic()
        frame = person.frame(instruction, sent)
        smile_start = (
            (smile_start or sent) if "Now smile" in instruction and (smile_start or person.shows_whole_action) else None
        )
        token, *outputs = page.frame(frame, token)
        tally.answers.append(time.monotonic() - sent)
        instruction = outputs[0] if isinstance(outputs[0], str) else instruction
        if smile_start and "Now smile" not in instruction and "card rejected" not in instruction:
            tally.smiles.append(time.monotonic() - smile_start)
        next_time = max(next_time + frame_seconds, time.monotonic())
        time.sleep(max(0.0, next_time - time.monotonic()))
    if not token:
        title, reason = map(html.unescape, re.search(r"<h2>(.*?)</h2><p>(.*?)</p>", instruction).groups())
        outcome = title if title == "Accepted" else reason
        tally.decisions[outcome] = tally.decisions.get(outcome, 0) + 1


def source_address(number: int) -> str:
    """The address of a simulated visitor. Only on Linux a program may use all addresses of 127.0.0.0/8."""
    return f"127.0.1.{number + 1}" if sys.platform == "linux" else "127.0.0.1"


def photograph(person: int) -> bytes:
    """The reference photograph of a drawn person, as PNG."""
    data = io.BytesIO()
    drawn_photograph(person, "neutral", 0, seed=0).save(data, "PNG")
    return data.getvalue()


def run(arguments) -> dict:
    if min(arguments.clients) < 1 or min(arguments.frame_seconds) < 0 or not arguments.minutes > 0:
        raise ValueError("--clients: at least 1; --frame-seconds: at least 0; --minutes: more than 0")
    people = draw_people(max(arguments.clients))
    rows = []
    with Server(arguments.model) as server:
        for clients in arguments.clients:
            for frame_seconds in arguments.frame_seconds:
                rows.append(_row(server, clients, frame_seconds, 60 * arguments.minutes, people))
        page, ready = server.seconds_to_page, server.seconds_to_ready
        files_left, tracebacks = _files_left(server), server.log().count("Traceback")
    return {
        "seconds_to_page": page,
        "seconds_to_ready": ready,
        "rows": rows,
        "files_left": files_left,
        "tracebacks": tracebacks,
    }


def _files_left(server: Server) -> list[str]:
    """The visitors' photographs that still exist LEAVE_SECONDS after the last page was closed."""
    until = time.monotonic() + LEAVE_SECONDS
    while (
        files_left := [name for name in server.files() if name.startswith("reference")]
    ) and time.monotonic() < until:
        time.sleep(0.5)
    return files_left


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
    first_memory, last_memory = statistics.median(memory[:minute]), statistics.median(memory[-minute:])
    return {
        "clients": clients,
        "frame_seconds": frame_seconds,
        "frames_per_second": [len(tally.answers) / seconds for tally in tallies],
        "answer_ms": {f"p{share}": 1000 * float(np.percentile(answers or [0], share)) for share in (50, 95, 99)},
        "smile_seconds": {f"p{share}": float(np.percentile(smiles or [0], share)) for share in (50, 95)},
        "decisions": dict(decisions.most_common()),
        "errors": [error for tally in tallies for error in tally.errors],
        "memory_mib": {
            "first": first_memory,
            "last": last_memory,
            "growth": last_memory / first_memory - 1,
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
    single_client_rows = [row for row in result["rows"] if row["clients"] == 1]
    lines = [
        f"first page after {result['seconds_to_page']:.1f} s, demo after {result['seconds_to_ready']:.1f} s",
        table(headers, rows),
        *(f"rejected {number} times: {reason}" for reason, number in reasons.most_common()),
        *sorted({error for row in result["rows"] for error in row["errors"]})[:5],
        target_text("seconds to a page", result["seconds_to_page"], MAX_SECONDS_TO_PAGE, at_least=False),
        target_text("seconds to the demo", result["seconds_to_ready"], MAX_SECONDS_TO_READY, at_least=False),
        target_text(
            "growth of memory, last against first part of the last row",
            result["rows"][-1]["memory_mib"]["growth"],
            MAX_GROWTH,
            at_least=False,
        ),
        f"photographs that were not deleted: {len(result['files_left'])}, errors in the log: {result['tracebacks']}",
    ]
    if single_client_rows:
        pace, smile = (
            max(max(row["frames_per_second"]) for row in single_client_rows),
            max(row["smile_seconds"]["p95"] for row in single_client_rows),
        )
        lines.append(target_text("frames/s of one client", pace, LIVE_FRAMES, at_least=True))
        lines.append(target_text("seconds from a smile to its step, 95 %", smile, MAX_SMILE_SECONDS, at_least=False))
    return "\n".join(lines)
