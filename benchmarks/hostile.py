"""The demo's server under attack: what genuine visitors notice of one who means harm, and what stays in memory.

Starts `python app.py` in a process of its own. Genuine visitors do what people do (`python -m benchmarks live`) all the
time, alone and beside each attack in turn: the ratio is that of their answer times to those of the quiet phases before
and after, so that other load of the machine counts on both sides. Then all attacks together, with a crowd of twenty
people whose attempts all have to be decided, as they were on the quiet server, and the server's memory before, at the
end and a minute after. Attackers
are processes of their own that end with their phase, whatever they wait for. Linux: they come from other addresses.

A line for each phase goes to stderr as it ends, and with --json FILE what is known so far to FILE.
"""

import contextlib
import io
import itertools
import json
import math
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import av
import httpx
import numpy as np
from PIL import Image

from benchmarks.live import Page, Person, RefusedError, Server, Tally, attempt, people_of, photograph, source_of, visit
from benchmarks.report import machine, table, target_text

MOST_SLOWDOWN = 2.0  # target: median of the answer times beside an attack, over that of the quiet server
MOST_LEFT = 0.10  # target: memory a minute after the attacks, over that before them
CROWD, STRANGERS = range(1000, 2500), range(900, 904)  # drawn people: of whom it is chosen, whom the attacker shows
UNLIKE = 0.06  # how far below the threshold the similarity of any two of them is
CROWD_FRAME_SECONDS, CROWD_SECONDS = 0.5, 180.0  # between the frames of each; for all
FIRST_FRAMES_SECONDS = 120.0
FEWEST_FRAMES = 30  # of which a median means something
MINUTE = 60  # seconds, after which memory has to be back
THREADS = 8  # of the attacker
MEGABYTE = 1_000_000
ATTACKER_WAITS = 10.0  # seconds for an answer, then it asks something else


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


@cache
def large_frame() -> bytes:
    """As large as a camera's frame may be (it is decoded at half its size), full of edges, without a face."""
    blocks = np.random.default_rng(0).integers(0, 255, (135, 240, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(blocks).resize((1920, 1080), Image.Resampling.NEAREST).save(data, "JPEG", quality=80)
    return data.getvalue()


@cache
def lists() -> bytes:
    """21 MB of JSON."""
    return b'{"photographs": [' + b"[]," * (7 * MEGABYTE) + b"[]]}"


# An attacker's own work is done elsewhere: here it may take what the server and its visitors leave of the processors.
ATTACKER_NICENESS = 10
_strangers = itertools.cycle(STRANGERS)


class Attacker:
    """Repeats attacks in several threads of another process. What is answered is counted by status.

    Made before there are threads here, for the process is a copy of this one; it waits for its `with`.

    Args:
        server: its address.
        attacks: each comes from an address of its own.
        network: of these addresses, for starts count by address, over phases too.

    Attributes:
        answers: known when it has ended.
    """

    def __init__(self, server: str, attacks: list[Callable[[Page], None]], network: int):
        self.answers: Counter[str] = Counter()
        context = multiprocessing.get_context("fork")
        self._begin, self._end = context.Event(), context.Event()
        self._told, tells = context.Pipe(duplex=False)
        arguments = (server, attacks, network, self._begin, self._end, tells)
        self._process = context.Process(target=_attack, args=arguments, daemon=True)
        self._process.start()

    def __enter__(self) -> "Attacker":
        self._begin.set()
        return self

    def __exit__(self, *_) -> None:
        self._end.set()
        with contextlib.suppress(EOFError):
            if self._told.poll(10):
                self.answers = self._told.recv()
        self._process.kill()
        self._process.join()


def _attack(server: str, attacks: list[Callable[[Page], None]], network: int, begin, end, tells) -> None:
    answers: Counter[str] = Counter()
    os.nice(ATTACKER_NICENESS)  # noqa: TID251 – this benchmark is of Linux
    begin.wait()

    def repeat(number: int) -> None:
        while not end.is_set():
            try:
                source = f"127.0.{network}.{number + 1}"
                with contextlib.closing(Page(server, source, timeout=ATTACKER_WAITS)) as page:
                    attacks[number](page)
                answers["200"] += 1
            except RefusedError as error:
                answers[str(error.status)] += 1
                time.sleep(0.05)
            except (httpx.HTTPError, OSError) as error:
                answers[type(error).__name__] += 1
                time.sleep(0.05)

    for number in range(THREADS):
        threading.Thread(target=repeat, args=[number % len(attacks)], daemon=True).start()
    end.wait()
    tells.send(Counter(answers))
    os._exit(0)  # its threads may be waiting for an answer


def clips(page: Page) -> None:
    """Clips at the limit of what is judged."""
    clip, face = page.upload("a.mkv", bomb_clip(1000, 1500)), page.upload("a.png", bomb_picture(300))
    page.ask("clip", reference=face, probe=clip, expression="happy")


def starts(page: Page) -> None:
    """Five references at the limit of pixels, without a face, and five over it."""
    for side in (3500, 8000):
        file = page.upload("a.png", bomb_picture(side))
        page.ask("reference", photographs=[file] * 5)
        page.start([file] * 5)


def frames(page: Page) -> None:
    """Frames as large as they may be, one after the other, in as many attempts as are allowed."""
    token, shown, *_ = page.start([page.upload("a.png", photograph(next(_strangers)))])
    if not token:
        raise RefusedError(429, shown)
    while token:
        token = page.frame(large_frame(), token)[0]


def bodies(page: Page) -> None:
    """21 MB of empty lists."""
    answer = page.http.post("/api/start", content=lists())
    raise RefusedError(answer.status_code, answer.text)


def poisoned(page: Page) -> None:
    """Names of pages and sessions that no program expects."""
    for path in ("/gradio_api/queue/join", "/api/given"):
        page.http.post(path, content=b'{"page": "\\ud800", "session_hash": "\\ud800", "fn_index": 1000000000}')
    page.http.get("/api/page", params={"page": "x" * 60_000})


def uploads(page: Page) -> None:
    """As much as is taken, and uploads that break off half way."""
    address = (page.http.base_url.host, page.http.base_url.port)
    with socket.create_connection(address, ATTACKER_WAITS, (page.source, 0)) as connection:
        connection.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20000000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: form-data; "
            b'name="files"; filename="a"\r\n\r\n' + bytes(MEGABYTE)
        )
    for _ in range(3):
        page.upload("a.bin", bytes(10 * MEGABYTE))


def slow(page: Page) -> None:
    """Connections without a request, and heads and bodies that never end."""
    head = b"POST /api/start HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{"
    address = (page.http.base_url.host, page.http.base_url.port)
    with contextlib.ExitStack() as stack:
        for number in range(100):
            connection = stack.enter_context(socket.create_connection(address, ATTACKER_WAITS, (page.source, 0)))
            connection.sendall((b"", head[:30], head)[number % 3])
        time.sleep(2)


def pages(page: Page) -> None:
    """The page itself, again and again."""
    for path in ("/", "/config") * 20:
        answer = page.http.get(path)
        if answer.status_code != 200:
            raise RefusedError(answer.status_code, answer.text)


ATTACKS = {
    "clips": clips,
    "starts": starts,
    "frames": frames,
    "bodies": bodies,
    "poisoned names": poisoned,
    "uploads": uploads,
    "slow clients": slow,
    "pages": pages,
}


@dataclass
class _Seen:
    frames: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    decisions: Counter = field(default_factory=Counter)
    refused: int = 0
    errors: list[str] = field(default_factory=list)


def run(arguments) -> dict:
    if arguments.clients < 1 or arguments.crowd < 0 or not (arguments.seconds > 0 and arguments.minutes > 0):
        raise ValueError("--clients: at least 1; --crowd: at least 0; --seconds and --minutes: more than 0")
    if sys.platform != "linux":
        raise ValueError("needs Linux: the attacker comes from an address of its own")
    people = people_of(arguments.clients, ["Now smile"])
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:  # attackers are copies of this process
        crowd = apart.submit(
            _unlike_people, arguments.model, arguments.crowd, [person.number for person in people]
        ).result()
    crowd = [Person(number, ["Now smile"], frames=40) for number in crowd]
    for build in (lists, large_frame, bomb_picture):
        build()
    bomb_clip(1000, 1500)
    result = {"complete": False, "seconds": arguments.seconds, "minutes": arguments.minutes, "rows": {}}
    result["load"] = os.getloadavg()[0]  # noqa: TID251 – of the machine before: what else it was doing

    def done(name: str, row: dict) -> None:
        result["rows"][name] = row
        print(
            f"{time.strftime('%H:%M:%S')} {name}: {row['frames']} frames, {row['frame_ms']['p50']:.0f} ms",
            file=sys.stderr,
            flush=True,
        )
        if arguments.json:
            partial = {"machine": machine(arguments.device)} | result
            arguments.json.write_text(json.dumps(partial, indent=1) + "\n", encoding="utf-8")

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(arguments.model, "--challenge", "happy"))
        networks = itertools.count(10)
        attackers = {name: Attacker(server.address, [attack], next(networks)) for name, attack in ATTACKS.items()}
        together = Attacker(server.address, list(ATTACKS.values()), 9)
        genuine = stack.enter_context(_Genuine(server.address, people))

        def quiet(number: int) -> None:
            done(f"quiet {number}", _row(genuine.during(arguments.seconds / 2)))

        genuine.during(arguments.seconds / 2)  # warm
        genuine.wait_for_frames()
        quiet(0)
        for number, (name, attacker) in enumerate(attackers.items()):
            with attacker:
                seen = genuine.during(arguments.seconds)
            around = [f"quiet {number}", f"quiet {number + 1}"]
            done(name, _row(seen) | {"attacker": dict(attacker.answers), "quiet": around})
            quiet(number + 1)
        result["quiet_crowd"] = _crowd(server, crowd)
        before = server.memory()
        with together:
            seen = genuine.during(60 * arguments.minutes)
            during = server.memory()
            result["crowd"] = _crowd(server, crowd)
        around = [f"quiet {len(ATTACKS)}", f"quiet {len(ATTACKS) + 1}"]
        done("all together", _row(seen) | {"attacker": dict(together.answers), "quiet": around})
        done(around[1], _row(genuine.during(MINUTE)))
        after = server.memory()
        result["memory_mib"] = {
            "before": before,
            "during": during,
            "minute_after": after,
            "growth": after / before - 1,
        }
        result |= {"tracebacks": server.log().count("Traceback"), "complete": True}
    return result


def _unlike_people(model: str, count: int, visitors: list[int]) -> list[int]:
    """Numbers of drawn people whom the network takes neither for one another nor for an attacker or a visitor.

    Attempts count by face too: somebody who looks like one of those has to wait, which is not what is measured.
    """
    from authentication.authenticator import Authenticator

    authenticator = Authenticator.from_pretrained(model)
    most = authenticator.config.similarity_threshold - UNLIKE

    def template(number: int) -> np.ndarray | None:
        with contextlib.suppress(ValueError):  # no face, or one that cannot be judged
            return authenticator.template([photograph(number)]).embedding

    others = [face for face in map(template, (*STRANGERS, *visitors)) if face is not None]
    people = []
    for number in CROWD:
        if len(people) == count:
            break
        face = template(number)
        if face is not None and all(face @ other < most for other in others):
            people.append(number)
            others.append(face)
    return people


class _Genuine:
    """Visitors who come one after the other to the end, each from an address of its own."""

    def __init__(self, address: str, people: list[Person]):
        self._end = threading.Event()
        self._tallies = [Tally() for _ in people]
        self._threads = [
            threading.Thread(target=visit, args=(address, lambda: not self._end.is_set(), 0.1, number, person, tally))
            for (number, person), tally in zip(enumerate(people), self._tallies, strict=True)
        ]

    def __enter__(self) -> "_Genuine":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def wait_for_frames(self) -> None:
        """Until every visitor has had answers: a busy machine takes its time for the first ones."""
        until = time.monotonic() + FIRST_FRAMES_SECONDS
        while not all(tally.answers for tally in self._tallies) and time.monotonic() < until:
            time.sleep(0.2)

    def during(self, seconds: float) -> _Seen:
        """What they see in that time."""
        before = [_together([tally]) for tally in self._tallies]
        time.sleep(seconds)
        seen = _Seen()
        for tally, old in zip(self._tallies, before, strict=True):
            seen.frames += tally.answers[len(old.frames) :]
            seen.starts += tally.starts[len(old.starts) :]
            seen.decisions.update(Counter(tally.decisions) - old.decisions)
            seen.refused += tally.refused - old.refused
            seen.errors += tally.errors[len(old.errors) :]
        return seen


def _crowd(server: Server, people: list[Person]) -> dict:
    """An attempt of each at the same time, from an address of its own, until all are decided: `_row` and `attempts`."""
    tallies, until = [Tally() for _ in people], time.monotonic() + CROWD_SECONDS

    def one(number: int, person: Person, tally: Tally) -> None:
        page = Page(server.address, source_of(100 + number), timeout=60)
        try:
            files = [page.upload("me.png", photograph(person.number))]
            attempt(page, files, lambda: time.monotonic() < until, CROWD_FRAME_SECONDS, person, tally)
        except (RefusedError, httpx.HTTPError) as error:
            tally.errors.append(f"{type(error).__name__}: {error}")
        finally:
            page.close()

    threads = [
        threading.Thread(target=one, args=(number, person, tally))
        for number, (person, tally) in enumerate(zip(people, tallies, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"attempts": len(people)} | _row(_together(tallies))


def _together(tallies: list[Tally]) -> _Seen:
    seen = _Seen()
    for tally in tallies:
        seen.frames += tally.answers
        seen.starts += tally.starts
        seen.decisions.update(tally.decisions)
        seen.refused += tally.refused
        seen.errors += tally.errors
    return seen


def _row(seen: _Seen) -> dict:
    return {
        "frames": len(seen.frames),
        "frame_ms": {f"p{share}": 1000 * float(np.percentile(seen.frames or [0], share)) for share in (50, 95)},
        "starts": len(seen.starts),
        "start_ms": 1000 * statistics.median(seen.starts or [0]),
        "decisions": dict(seen.decisions),
        "refused": seen.refused,
        "errors": seen.errors,
    }


def ratios(result: dict) -> dict[str, dict[str, float]]:
    """Of each attack: the genuine visitors' median times over those of the quiet phases around it.

    NaN where one of them saw less than FEWEST_FRAMES frames, or no start.
    """
    rows = result["rows"]

    def ratio(row: dict, time_of: Callable[[dict], float]) -> float:
        phases = [row, *(rows[name] for name in row["quiet"])]
        if any(phase["frames"] < FEWEST_FRAMES or not time_of(phase) for phase in phases):
            return float("nan")
        return time_of(row) / statistics.mean(map(time_of, phases[1:]))

    return {
        name: {
            "frame": ratio(row, lambda row: row["frame_ms"]["p50"]),
            "frame_p95": ratio(row, lambda row: row["frame_ms"]["p95"]),
            "start": ratio(row, lambda row: row["start_ms"]),
        }
        for name, row in rows.items()
        if "quiet" in row
    }


def text(result: dict) -> str:
    headers = (
        "beside",
        "frames",
        "answer ms",
        "95 %",
        "ratio",
        "starts",
        "ms",
        "ratio",
        "decided",
        "refused",
        "errors",
        "attacker got",
    )
    slower, rows = ratios(result), []
    for name, row in result["rows"].items():
        rows.append(
            (
                name,
                str(row["frames"]),
                f"{row['frame_ms']['p50']:.0f}",
                f"{row['frame_ms']['p95']:.0f}",
                f"{slower[name]['frame']:.2f}" if name in slower else "",
                str(row["starts"]),
                f"{row['start_ms']:.0f}",
                f"{slower[name]['start']:.2f}" if name in slower else "",
                str(sum(row["decisions"].values())),
                str(row["refused"]),
                str(len(row["errors"])),
                ", ".join(f"{status} {count}x" for status, count in sorted(row.get("attacker", {}).items())),
            )
        )
    memory, crowd = result["memory_mib"], result["crowd"]
    told = [row["frame"] for row in slower.values() if not math.isnan(row["frame"])]
    worst = max(told) if len(told) == len(slower) else float("nan")
    return "\n".join(
        [
            table(headers, rows),
            *(
                f"attempts of {crowd['attempts']} people {beside}, decided: {sum(crowd['decisions'].values())} "
                f"({', '.join(f'{reason} {count}x' for reason, count in crowd['decisions'].items())}), "
                f"refused: {crowd['refused']}, errors: {len(crowd['errors'])}, "
                f"answers within {crowd['frame_ms']['p95']:.0f} ms (95 %)"
                for beside, crowd in (("before the attacks", result["quiet_crowd"]), ("beside all attacks", crowd))
            ),
            f"memory: {memory['before']:.0f} MiB before all attacks together, {memory['during']:.0f} at their end, "
            f"{memory['minute_after']:.0f} a minute later",
            target_text("answer time of a frame beside an attack, over quiet", worst, MOST_SLOWDOWN, at_least=False),
            target_text("growth of memory a minute after", memory["growth"], MOST_LEFT, at_least=False),
            f"errors in the server's log: {result['tracebacks']}; load of the machine before: {result['load']:.1f}",
            *sorted({error for row in result["rows"].values() for error in row["errors"]} | set(crowd["errors"]))[:5],
        ]
    )
