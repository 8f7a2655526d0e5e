"""The demo's server under attack: how much genuine visitors are slowed down, and how much memory stays in use.

Starts `python app.py` in another process. Genuine visitors (those of `python -m benchmarks live`) are active all the
time, during each attack and during quiet phases in between. A ratio compares their answer times during an attack with
those of the quiet phases before and after, so other load of the machine affects both sides. A crowd of twenty people
makes an attempt each on the quiet server. Then all attacks run together, with the same crowd: all its attempts must be
decided. The server's memory is measured before, at the end and a minute later. Attackers are processes that are killed
at the end of their phase. This needs Linux, because attackers use other addresses.

A line is written to stderr after each phase. With --json FILE all results so far are written to FILE.
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

from benchmarks.live import (
    Page,
    Person,
    RefusedError,
    Server,
    Tally,
    attempt,
    draw_people,
    photograph,
    source_address,
    visit,
)
from benchmarks.report import machine, table, target_text

MAX_SLOWDOWN = 2.0  # target: median answer time during an attack, divided by that of quiet phases
MAX_GROWTH = 0.10  # target: growth of memory from before the attacks to a minute after them
CROWD, STRANGERS = range(1000, 2500), range(900, 904)  # numbers of drawn people for the crowd, and for the attacker
SIMILARITY_MARGIN = 0.06  # the similarity of any two of them is this far below the threshold
CROWD_FRAME_SECONDS, CROWD_SECONDS = 0.5, 180.0  # between the frames of a person; time limit for all
FIRST_FRAMES_SECONDS = 120.0
MIN_FRAMES = 30  # for a meaningful median
MINUTE = 60  # seconds after the attacks until memory is measured
THREADS = 8  # of the attacker
MEGABYTE = 1_000_000
ATTACKER_TIMEOUT = 10.0  # seconds for which an attacker waits for an answer
PATIENCE = 60.0  # seconds for which the attacker's process may get no processor time


@cache
def bomb_picture(side: int = 8000) -> bytes:
    """A PNG without a face: 200 kB, but 64 megapixels for a side of 8000."""
    data = io.BytesIO()
    Image.new("RGB", (side, side), (120, 130, 140)).save(data, "PNG")
    return data.getvalue()


@cache
def bomb_clip(side: int, frames: int, same_time: bool = False) -> bytes:
    """A Matroska clip of uniform key frames. same_time: all frames have the time 0."""
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
    """A frame of the largest allowed size (it is decoded at half its size), full of edges, without a face."""
    blocks = np.random.default_rng(0).integers(0, 255, (135, 240, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(blocks).resize((1920, 1080), Image.Resampling.NEAREST).save(data, "JPEG", quality=80)
    return data.getvalue()


@cache
def lists() -> bytes:
    """21 MB of JSON."""
    return b'{"photographs": [' + b"[]," * (7 * MEGABYTE) + b"[]]}"


# The attacker's own work would run on another machine. Here it only gets processor time that nobody else needs.
ATTACKER_NICENESS = 10
_strangers = itertools.cycle(STRANGERS)


class Attacker:
    """Repeats attacks in several threads of another process, and counts the answers by status.

    Make it before this process has threads, because the other process is a fork. It waits for the `with` statement,
    whose body runs from the first answered attack on.

    Args:
        server: address of the server.
        attacks: each comes from its own address.
        network: part of these addresses, because starts are limited by address.

    Attributes:
        answers: complete after the end.
    """

    def __init__(self, server: str, attacks: list[Callable[[Page], None]], network: int):
        self.answers: Counter[str] = Counter()
        context = multiprocessing.get_context("fork")
        self._begin, self._answered, self._end = (context.Event() for _ in range(3))
        self._answer_pipe, answer_sender = context.Pipe(duplex=False)
        arguments = (server, attacks, network, self._begin, self._answered, self._end, answer_sender)
        self._process = context.Process(target=_attack, args=arguments, daemon=True)
        self._process.start()

    def __enter__(self) -> "Attacker":
        self._begin.set()
        self._answered.wait(PATIENCE)
        return self

    def __exit__(self, *_) -> None:
        self._end.set()
        with contextlib.suppress(EOFError):
            if self._answer_pipe.poll(PATIENCE):
                self.answers = self._answer_pipe.recv()
        self._process.kill()
        self._process.join()


def _attack(
    server: str, attacks: list[Callable[[Page], None]], network: int, begin, answered, end, answer_sender
) -> None:
    answers: Counter[str] = Counter()
    os.nice(ATTACKER_NICENESS)  # noqa: TID251 – this benchmark is of Linux
    begin.wait()

    def repeat(number: int) -> None:
        while not end.is_set():
            try:
                source = f"127.0.{network}.{number + 1}"
                with contextlib.closing(Page(server, source, timeout=ATTACKER_TIMEOUT)) as page:
                    attacks[number](page)
                answers["200"] += 1
            except RefusedError as error:
                answers[str(error.status)] += 1
                time.sleep(0.05)
            except (httpx.HTTPError, OSError) as error:
                answers[type(error).__name__] += 1
                time.sleep(0.05)
            answered.set()

    for number in range(THREADS):
        threading.Thread(target=repeat, args=[number % len(attacks)], daemon=True).start()
    end.wait()
    answer_sender.send(Counter(answers))
    os._exit(0)  # its threads may still wait for answers


def clips(page: Page) -> None:
    """Clips of the largest size that is accepted."""
    clip, face = page.upload("a.mkv", bomb_clip(1000, 1500)), page.upload("a.png", bomb_picture(300))
    page.ask("clip", reference=face, probe=clip, expression="happy")


def starts(page: Page) -> None:
    """Five references with as many pixels as allowed, and five with more, all without a face."""
    for side in (3500, 8000):
        file = page.upload("a.png", bomb_picture(side))
        page.ask("reference", photographs=[file] * 5)
        page.start([file] * 5)


def frames(page: Page) -> None:
    """Frames of the largest allowed size, one after the other, in as many attempts as allowed."""
    token, instruction, *_ = page.start([page.upload("a.png", photograph(next(_strangers)))])
    if not token:
        raise RefusedError(429, instruction)
    while token:
        token = page.frame(large_frame(), token)[0]


def bodies(page: Page) -> None:
    """21 MB of empty lists."""
    answer = page.http.post("/api/start", content=lists())
    raise RefusedError(answer.status_code, answer.text)


def strange_names(page: Page) -> None:
    """Unexpected names of pages and sessions."""
    for path in ("/gradio_api/queue/join", "/api/register"):
        page.http.post(path, content=b'{"page": "\\ud800", "session_hash": "\\ud800", "fn_index": 1000000000}')
    page.http.get("/api/page", params={"page": "x" * 60_000})


def uploads(page: Page) -> None:
    """As many uploads as are accepted, and uploads that are interrupted."""
    address = (page.http.base_url.host, page.http.base_url.port)
    with socket.create_connection(address, ATTACKER_TIMEOUT, (page.source, 0)) as connection:
        connection.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20000000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: form-data; "
            b'name="files"; filename="a"\r\n\r\n' + bytes(MEGABYTE)
        )
    for _ in range(3):
        page.upload("a.bin", bytes(10 * MEGABYTE))


def slow(page: Page) -> None:
    """Connections without a request, and heads and bodies that are never completed."""
    head = b"POST /api/start HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{"
    address = (page.http.base_url.host, page.http.base_url.port)
    with contextlib.ExitStack() as stack:
        for number in range(100):
            connection = stack.enter_context(socket.create_connection(address, ATTACKER_TIMEOUT, (page.source, 0)))
            connection.sendall((b"", head[:30], head)[number % 3])
        time.sleep(2)


def pages(page: Page) -> None:
    """The page itself, repeatedly."""
    for path in ("/", "/config") * 20:
        answer = page.http.get(path)
        if answer.status_code != 200:
            raise RefusedError(answer.status_code, answer.text)


ATTACKS = {
    "clips": clips,
    "starts": starts,
    "frames": frames,
    "bodies": bodies,
    "poisoned names": strange_names,
    "uploads": uploads,
    "slow clients": slow,
    "pages": pages,
}


@dataclass
class _Observations:
    frames: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    decisions: Counter = field(default_factory=Counter)
    refused: int = 0
    errors: list[str] = field(default_factory=list)


def run(arguments) -> dict:
    if arguments.clients < 1 or arguments.crowd < 0 or not (arguments.seconds > 0 and arguments.minutes > 0):
        raise ValueError("--clients: at least 1; --crowd: at least 0; --seconds and --minutes: more than 0")
    if sys.platform != "linux":
        raise ValueError("hostile: needs Linux, because the attacker uses its own address")
    people = draw_people(arguments.clients, ["Now smile"])
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn")
    ) as executor:  # not in this process, of which attackers are forks
        crowd = executor.submit(
            _dissimilar_people, arguments.model, arguments.crowd, [person.number for person in people]
        ).result()
    crowd = [Person(number, ["Now smile"], frames=40) for number in crowd]
    for build in (lists, large_frame, bomb_picture):
        build()
    bomb_clip(1000, 1500)
    result = {"complete": False, "seconds": arguments.seconds, "minutes": arguments.minutes, "rows": {}}
    result["load"] = os.getloadavg()[0]  # noqa: TID251 – of the machine before the benchmark

    def finish_phase(name: str, row: dict) -> None:
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
        all_attacks = Attacker(server.address, list(ATTACKS.values()), 9)
        genuine = stack.enter_context(_Genuine(server.address, people))

        def quiet(number: int) -> None:
            finish_phase(f"quiet {number}", _row(genuine.during(arguments.seconds / 2)))

        genuine.during(arguments.seconds / 2)  # warm
        genuine.wait_for_frames()
        quiet(0)
        for number, (name, attacker) in enumerate(attackers.items()):
            with attacker:
                observations = genuine.during(arguments.seconds)
            quiet_phases = [f"quiet {number}", f"quiet {number + 1}"]
            finish_phase(name, _row(observations) | {"attacker": dict(attacker.answers), "quiet": quiet_phases})
            quiet(number + 1)
        result["quiet_crowd"] = _crowd(server, crowd)
        memory_before = server.memory()
        with all_attacks:
            observations = genuine.during(60 * arguments.minutes)
            memory_during = server.memory()
            result["crowd"] = _crowd(server, crowd)
        quiet_phases = [f"quiet {len(ATTACKS)}", f"quiet {len(ATTACKS) + 1}"]
        finish_phase(
            "all together", _row(observations) | {"attacker": dict(all_attacks.answers), "quiet": quiet_phases}
        )
        finish_phase(quiet_phases[1], _row(genuine.during(MINUTE)))
        memory_after = server.memory()
        result["memory_mib"] = {
            "before": memory_before,
            "during": memory_during,
            "minute_after": memory_after,
            "growth": memory_after / memory_before - 1,
        }
        result |= {"tracebacks": server.log().count("Traceback"), "complete": True}
    return result


def _dissimilar_people(model: str, count: int, visitors: list[int]) -> list[int]:
    """Numbers of drawn people whom the network does not confuse with one another, with an attacker, or with a visitor.

    Attempts are also limited by face, so people who look like one of these would have to wait.
    """
    from authentication.authenticator import Authenticator

    authenticator = Authenticator.from_pretrained(model)
    max_similarity = authenticator.config.similarity_threshold - SIMILARITY_MARGIN

    def template(number: int) -> np.ndarray | None:
        with contextlib.suppress(ValueError):  # no face, or a face that cannot be judged
            return authenticator.template([photograph(number)]).embedding

    chosen_faces = [face for face in map(template, (*STRANGERS, *visitors)) if face is not None]
    people = []
    for number in CROWD:
        if len(people) == count:
            break
        face = template(number)
        if face is not None and all(face @ chosen_face < max_similarity for chosen_face in chosen_faces):
            people.append(number)
            chosen_faces.append(face)
    return people


class _Genuine:
    """Genuine visitors, each with its own address, who are active until the end."""

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
        """Wait until every visitor has had an answer, which takes long on a busy machine."""
        until = time.monotonic() + FIRST_FRAMES_SECONDS
        while not all(tally.answers for tally in self._tallies) and time.monotonic() < until:
            time.sleep(0.2)

    def during(self, seconds: float) -> _Observations:
        """The visitors' observations during the next seconds."""
        old_observations = [_add_up([tally]) for tally in self._tallies]
        time.sleep(seconds)
        observations = _Observations()
        for tally, old in zip(self._tallies, old_observations, strict=True):
            observations.frames += tally.answers[len(old.frames) :]
            observations.starts += tally.starts[len(old.starts) :]
            observations.decisions.update(Counter(tally.decisions) - old.decisions)
            observations.refused += tally.refused - old.refused
            observations.errors += tally.errors[len(old.errors) :]
        return observations


def _crowd(server: Server, people: list[Person]) -> dict:
    """One attempt of each person at the same time, from different addresses, until all are decided: the content of
    `_row`, and "attempts"."""
    tallies, until = [Tally() for _ in people], time.monotonic() + CROWD_SECONDS

    def make_attempt(number: int, person: Person, tally: Tally) -> None:
        page = Page(server.address, source_address(100 + number), timeout=60)
        try:
            files = [page.upload("me.png", photograph(person.number))]
            attempt(page, files, lambda: time.monotonic() < until, CROWD_FRAME_SECONDS, person, tally)
        except (RefusedError, httpx.HTTPError) as error:
            tally.errors.append(f"{type(error).__name__}: {error}")
        finally:
            page.close()

    threads = [
        threading.Thread(target=make_attempt, args=(number, person, tally))
        for number, (person, tally) in enumerate(zip(people, tallies, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"attempts": len(people)} | _row(_add_up(tallies))


def _add_up(tallies: list[Tally]) -> _Observations:
    total = _Observations()
    for tally in tallies:
        total.frames += tally.answers
        total.starts += tally.starts
        total.decisions.update(tally.decisions)
        total.refused += tally.refused
        total.errors += tally.errors
    return total


def _row(observations: _Observations) -> dict:
    return {
        "frames": len(observations.frames),
        "frame_ms": {f"p{share}": 1000 * float(np.percentile(observations.frames or [0], share)) for share in (50, 95)},
        "starts": len(observations.starts),
        "start_ms": 1000 * statistics.median(observations.starts or [0]),
        "decisions": dict(observations.decisions),
        "refused": observations.refused,
        "errors": observations.errors,
    }


def ratios(result: dict) -> dict[str, dict[str, float]]:
    """Attack -> ratios of the genuine visitors' times to those of the quiet phases before and after.

    NaN if one of these phases has fewer than MIN_FRAMES frames, or no start.
    """
    rows = result["rows"]

    def ratio(row: dict, get_time: Callable[[dict], float]) -> float:
        phases = [row, *(rows[name] for name in row["quiet"])]
        if any(phase["frames"] < MIN_FRAMES or not get_time(phase) for phase in phases):
            return float("nan")
        return get_time(row) / statistics.mean(map(get_time, phases[1:]))

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
        "attack",
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
        "answers to the attacker",
    )
    ratio_by_attack, rows = ratios(result), []
    for name, row in result["rows"].items():
        rows.append(
            (
                name,
                str(row["frames"]),
                f"{row['frame_ms']['p50']:.0f}",
                f"{row['frame_ms']['p95']:.0f}",
                f"{ratio_by_attack[name]['frame']:.2f}" if name in ratio_by_attack else "",
                str(row["starts"]),
                f"{row['start_ms']:.0f}",
                f"{ratio_by_attack[name]['start']:.2f}" if name in ratio_by_attack else "",
                str(sum(row["decisions"].values())),
                str(row["refused"]),
                str(len(row["errors"])),
                ", ".join(f"{status} {count}x" for status, count in sorted(row.get("attacker", {}).items())),
            )
        )
    memory, crowd = result["memory_mib"], result["crowd"]
    known_ratios = [row["frame"] for row in ratio_by_attack.values() if not math.isnan(row["frame"])]
    worst = max(known_ratios) if len(known_ratios) == len(ratio_by_attack) else float("nan")
    return "\n".join(
        [
            table(headers, rows),
            *(
                f"attempts of {crowd['attempts']} people {phase}, decided: {sum(crowd['decisions'].values())} "
                f"({', '.join(f'{reason} {count}x' for reason, count in crowd['decisions'].items())}), "
                f"refused: {crowd['refused']}, errors: {len(crowd['errors'])}, "
                f"95 % of the answers within {crowd['frame_ms']['p95']:.0f} ms"
                for phase, crowd in (("before the attacks", result["quiet_crowd"]), ("during all attacks", crowd))
            ),
            f"memory: {memory['before']:.0f} MiB before all attacks together, {memory['during']:.0f} at the end, "
            f"{memory['minute_after']:.0f} a minute later",
            target_text(
                "answer time of a frame during an attack, ratio to quiet phases", worst, MAX_SLOWDOWN, at_least=False
            ),
            target_text("growth of memory a minute later", memory["growth"], MAX_GROWTH, at_least=False),
            f"errors in the server's log: {result['tracebacks']}; load before the benchmark: {result['load']:.1f}",
            *sorted({error for row in result["rows"].values() for error in row["errors"]} | set(crowd["errors"]))[:5],
        ]
    )
