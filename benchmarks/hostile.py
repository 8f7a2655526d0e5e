"""The demo's server under attack: what genuine visitors notice of one who means harm, and what stays in memory.

Starts `python app.py` in a process of its own. Genuine visitors do what people do (`python -m benchmarks live`), first
alone, then beside each attack in turn, then beside all of them together. Tells their answer times as a ratio to the
quiet server, whether every attempt of twenty people is decided beside an attacker, and the server's memory before, at
the end of and a minute after all attacks together. Linux, since the attacker comes from an address of its own.
"""

import contextlib
import io
import socket
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import av
import httpx
import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.live import Page, Person, RefusedError, Server, Tally, attempt, people_of, photograph, source_of, visit
from benchmarks.report import table, target_text
from face_data.drawn import WELL_KNOWN

MOST_SLOWDOWN = 2.0  # target: median of the answer times beside an attack, over that of the quiet server
MOST_LEFT = 0.10  # target: memory a minute after the attacks, over that before them
ATTACKER = "127.0.2.1"
CROWD = 300  # the first of the drawn people of whom it is made
THREADS = 8  # of the attacker
MEGABYTE = 1_000_000


@cache
def bomb_picture(side: int = 8000) -> bytes:
    """A PNG of 200 kB and, at 8000, 64 megapixels, without a face."""
    data = io.BytesIO()
    Image.new("RGB", (side, side), (120, 130, 140)).save(data, "PNG")
    return data.getvalue()


@cache
def bomb_clip(side: int, frames: int, same_time: bool = False) -> bytes:
    """A Matroska clip of flat key frames. same_time: they all claim to be the first."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bomb.mkv"
        with av.open(str(path), "w", format="matroska") as container:
            stream = container.add_stream("ffv1", rate=30)
            stream.width = stream.height = side
            stream.pix_fmt = "gray"
            picture = av.VideoFrame.from_image(Image.new("L", (side, side), 90)).reformat(format="gray")
            (packet, *_) = [*stream.encode(picture), *stream.encode(None)]
            content, base = bytes(packet), packet.time_base
            for number in range(frames):
                copy = av.Packet(content)
                copy.stream, copy.time_base = stream, base
                copy.pts = copy.dts = 0 if same_time else number
                copy.is_keyframe = True
                container.mux(copy)
        return path.read_bytes()


class Attacker:
    """Repeats an attack in several threads, from one address. What the server answers is counted by status."""

    def __init__(self, server: Server, attacks: list[Callable[["Attacker", Page], None]]):
        self.server, self.attacks = server, attacks
        self.answers: Counter[str] = Counter()
        self._end = threading.Event()

    def __enter__(self) -> "Attacker":
        self._threads = [
            threading.Thread(target=self._repeat, args=[self.attacks[number % len(self.attacks)]])
            for number in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, attack: Callable[["Attacker", Page], None]) -> None:
        while not self._end.is_set():
            try:
                with contextlib.closing(Page(self.server.address, ATTACKER)) as page:
                    attack(self, page)
                    self.answers["200"] += 1
            except RefusedError as error:
                self.answers[str(error.status)] += 1
                time.sleep(0.05)
            except (httpx.HTTPError, OSError) as error:
                self.answers[type(error).__name__] += 1
                time.sleep(0.05)


def clips(attacker: Attacker, page: Page) -> None:
    """Clips at the limit of what is judged."""
    clip, face = page.upload("a.mkv", bomb_clip(1000, 1500)), page.upload("a.png", photograph(WELL_KNOWN[0]))
    page.ask("clip", reference=face, probe=clip, expression="happy")


def starts(attacker: Attacker, page: Page) -> None:
    """Five references at the limit of pixels, without a face, and five over it."""
    for side in (3500, 8000):
        file = page.upload("a.png", bomb_picture(side))
        page.ask("reference", photographs=[file] * 5)
        page.start([file] * 5)


def bodies(attacker: Attacker, page: Page) -> None:
    """21 MB of empty lists."""
    answer = page.http.post("/api/start", content=b'{"photographs": [' + b"[]," * (7 * MEGABYTE) + b"[]]}")
    raise RefusedError(answer.status_code, answer.text)


def poisoned(attacker: Attacker, page: Page) -> None:
    """Names of pages and sessions that no program expects."""
    for path in ("/gradio_api/queue/join", "/api/given"):
        page.http.post(path, content=b'{"page": "\\ud800", "session_hash": "\\ud800", "fn_index": 1000000000}')
    page.http.get("/api/page", params={"page": "x" * 60_000})


def uploads(attacker: Attacker, page: Page) -> None:
    """As much as is taken, and uploads that break off half way."""
    host, port = page.http.base_url.host, page.http.base_url.port
    with socket.create_connection((host, port), source_address=(ATTACKER, 0)) as connection:
        connection.sendall(
            f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: 20000000\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: form-data; "
            'name="files"; filename="a"\r\n\r\n'.encode()
            + bytes(MEGABYTE)
        )
    for _ in range(3):
        page.upload("a.bin", bytes(10 * MEGABYTE))


ATTACKS = {"clips": clips, "starts": starts, "bodies": bodies, "poisoned names": poisoned, "uploads": uploads}


@dataclass
class _Seen:
    frames: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    decisions: Counter = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


def run(arguments) -> dict:
    if arguments.clients < 1 or arguments.crowd < 0 or not (arguments.seconds > 0 and arguments.minutes > 0):
        raise ValueError("--clients: at least 1; --crowd: at least 0; --seconds and --minutes: more than 0")
    people = people_of(arguments.clients, ["Now smile"])
    with Server(arguments.model, "--challenge", "happy") as server:
        _genuine(server, people, 15)  # warm
        rows = {"quiet": _row(_genuine(server, people, arguments.seconds))}
        for name, attack in tqdm(ATTACKS.items(), leave=False):
            with Attacker(server, [attack]) as attacker:
                rows[name] = _row(_genuine(server, people, arguments.seconds)) | {"attacker": dict(attacker.answers)}
        before = server.memory()
        with Attacker(server, list(ATTACKS.values())) as attacker:
            rows["all together"] = _row(_genuine(server, people, 60 * arguments.minutes))
            rows["all together"]["attacker"] = dict(attacker.answers)
            during = server.memory()
            crowd = _crowd(server, arguments.crowd)
        time.sleep(60)
        after, tracebacks, left = server.memory(), server.log().count("Traceback"), len(server.files())
    return {
        "rows": rows,
        "crowd": {"attempts": arguments.crowd, "decisions": dict(crowd.decisions), "errors": crowd.errors},
        "memory_mib": {"before": before, "during": during, "minute_after": after, "growth": after / before - 1},
        "tracebacks": tracebacks,
        "files_left": left,
    }


def _genuine(server: Server, people: list[Person], seconds: float) -> _Seen:
    tallies = [Tally() for _ in people]
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=visit, args=(server.address, until, 0.1, number, person, tally))
        for (number, person), tally in zip(enumerate(people), tallies, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _together(tallies)


def _crowd(server: Server, count: int) -> _Seen:
    """That many attempts at the same time, each from an address of its own, until all are decided."""
    tallies = [Tally() for _ in range(count)]

    def one(number: int) -> None:
        page = Page(server.address, source_of(100 + number), timeout=120)
        try:
            files = [page.upload("me.png", photograph(CROWD + number))]
            attempt(page, files, time.monotonic() + 180, 0.5, people[number], tallies[number])
        except (RefusedError, httpx.HTTPError) as error:
            tallies[number].errors.append(f"{type(error).__name__}: {error}")
        finally:
            page.close()

    people = [Person(CROWD + number, ["Now smile"]) for number in range(count)]
    threads = [threading.Thread(target=one, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _together(tallies)


def _together(tallies: list[Tally]) -> _Seen:
    seen = _Seen()
    for tally in tallies:
        seen.frames += tally.answers
        seen.starts += tally.starts
        seen.decisions.update(tally.decisions)
        seen.errors += tally.errors
    return seen


def _row(seen: _Seen) -> dict:
    return {
        "frames": len(seen.frames),
        "frame_ms": {f"p{share}": 1000 * float(np.percentile(seen.frames or [0], share)) for share in (50, 95)},
        "starts": len(seen.starts),
        "start_ms": 1000 * statistics.median(seen.starts or [0]),
        "decisions": dict(seen.decisions),
        "errors": seen.errors,
    }


def text(result: dict) -> str:
    headers = (
        "beside", "frames", "answer ms", "95 %", "ratio", "starts", "ms", "ratio", "decided", "errors", "attacker got",
    )  # fmt: skip
    quiet, rows = result["rows"]["quiet"], []
    for name, row in result["rows"].items():
        rows.append((
            name, str(row["frames"]), f"{row['frame_ms']['p50']:.0f}", f"{row['frame_ms']['p95']:.0f}",
            f"{row['frame_ms']['p50'] / (quiet['frame_ms']['p50'] or 1):.2f}", str(row["starts"]),
            f"{row['start_ms']:.0f}", f"{row['start_ms'] / (quiet['start_ms'] or 1):.2f}",
            str(sum(row["decisions"].values())), str(len(row["errors"])),
            ", ".join(f"{status} {count}x" for status, count in sorted(row.get("attacker", {}).items())),
        ))  # fmt: skip
    memory, crowd = result["memory_mib"], result["crowd"]
    worst = max(row["frame_ms"]["p50"] / (quiet["frame_ms"]["p50"] or 1) for row in result["rows"].values())
    return "\n".join([
        table(headers, rows),
        f"attempts of {crowd['attempts']} people beside all attacks, decided: {sum(crowd['decisions'].values())} "
        f"({', '.join(f'{reason} {count}x' for reason, count in crowd['decisions'].items())}), "
        f"errors: {len(crowd['errors'])}",
        f"memory: {memory['before']:.0f} MiB before all attacks together, {memory['during']:.0f} at their end, "
        f"{memory['minute_after']:.0f} a minute later",
        target_text("answer time of a frame beside an attack, over quiet", worst, MOST_SLOWDOWN, at_least=False),
        target_text("growth of memory a minute after", memory["growth"], MOST_LEFT, at_least=False),
        f"errors in the server's log: {result['tracebacks']}, files left: {result['files_left']}",
        *sorted({error for row in result["rows"].values() for error in row["errors"]} | set(crowd["errors"]))[:5],
    ])  # fmt: skip
