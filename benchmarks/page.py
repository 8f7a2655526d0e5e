"""The tables of docs/demo.md, written from the numbers that the benchmarks saved: nothing is typed by hand.

    python -m benchmarks inference --json docs/results/inference.json
    python -m benchmarks live --clients 1 2 4 6 8 --frame-seconds 0.1 --json docs/results/live.json
    python -m benchmarks hostile --json docs/results/hostile.json
    python -m benchmarks start --json docs/results/start.json
    python -m benchmarks prepare lfw DATA/lfw --json docs/results/prepare.json
    python -m benchmarks page

A table stands between two comments of the page that name its file of numbers.
"""

import json
import math
import re
from pathlib import Path

from benchmarks import hostile
from benchmarks.report import machine_text

MOST_MILLISECONDS = 300  # of 95 % of the answers, while the server keeps up
LEAST_PACE = 0.9  # of the frames that its page wants to send, each client could send so many then

SIDES = (
    "MTCNN with its defaults, InceptionResnetV1, a ResNet-18 for expressions",
    "this network, the face found anew in every frame, as the command line judges",
    "followed from frame to frame, as the page does",
)


def write(results: Path, page: Path) -> list[Path]:
    """Write the tables into the page. Returns the missing files of numbers, whose tables are kept.

    Raises:
        OSError, ValueError: no such page, no place for a table in it, or numbers of a run that was broken off.
    """
    text, missing, tables = page.read_text(encoding="utf-8"), [], {}
    for name, table in TABLES.items():
        file = results / f"{name}.json"
        if file.is_file():
            tables[name] = table(json.loads(file.read_text(encoding="utf-8")))
        else:
            missing.append(file)
    if rows := speed_rows(results):
        tables["speed"] = _markdown(("what", "before", "now", "aim", "`python -m`"), rows)
    for name, table in tables.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        place = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
        if not place.search(text):
            raise ValueError(f"{page}: no place for a table, between {start} and {end}")
        text = place.sub(lambda _, written=f"{start}\n{table}\n{end}": written, text, count=1)
    page.write_text(text, encoding="utf-8")
    return missing


def inference_table(result: dict) -> str:
    rows = [
        (side, f"{row['frames_per_second']:.1f}", f"{row['ratio']:.2f}")
        for side, row in zip(SIDES, result["rows"], strict=True)
    ]
    parts = ", ".join(f"{name} {value:.1f}" for name, value in result["milliseconds_per_frame"].items())
    costs = f"\n\nMilliseconds of a frame's parts, each measured alone: {parts}. A frame does not pass through Gradio."
    return _markdown(("frame to decision", "frames/s", "against the first"), rows) + costs + _measured(result)


def live_table(result: dict) -> str:
    rows = []
    for row in result["rows"]:
        paces, decisions = row["frames_per_second"], dict(row["decisions"])
        accepted = decisions.pop("Accepted", 0)
        rows.append(
            (
                str(row["clients"]),
                f"{row['frame_seconds']:g} s",
                f"{min(paces):.1f} to {max(paces):.1f}",
                f"{row['answer_ms']['p50']:.0f}, {row['answer_ms']['p95']:.0f}",
                f"{row['smile_seconds']['p95']:.2f}",
                f"{accepted}, {sum(decisions.values())}",
                str(len(row["errors"])),
            )
        )
    headers = (
        "people",
        "a frame every",
        "frames/s each",
        "answer, median and 95 %, ms",
        "smile shown to step passed, 95 %, s",
        "accepted, rejected",
        "errors",
    )
    return _markdown(headers, rows) + _measured(result)


def people_carried(result: dict) -> int:
    """How many people the server keeps up with: 95 % of their answers in time, their frames taken as they are sent."""
    kept_up = [
        row["clients"]
        for row in result["rows"]
        if row["frame_seconds"] > 0
        and row["answer_ms"]["p95"] < MOST_MILLISECONDS
        and min(row["frames_per_second"]) >= LEAST_PACE / row["frame_seconds"]
    ]
    return max(kept_up, default=0)


def speed_rows(results: Path) -> list[tuple[str, str, str, str, str]]:
    """What was aimed at: before, now, aim, command; of the numbers that are there.

    "Before" is what the same commands said before ONNX Runtime, the light imports and the batches, on an EPYC.
    """

    def saved(name: str) -> dict | None:
        file = results / f"{name}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    rows = []
    if (speed := saved("inference")) is not None:
        ratios = [f"{row['ratio']:.1f}" for row in speed["rows"]]
        command = "`benchmarks inference`"
        rows.append(("a frame, times the plain stack, the face found anew", "–", ratios[1], "at least 6", command))
        rows.append(("the same, the face followed", "5.6", ratios[2], "at least 10", command))
    if (live := saved("live")) is not None:
        what = f"people with a frame every 0.1 s each, 95 % of the answers under {MOST_MILLISECONDS} ms"
        carried = str(people_carried(live) or "none: too busy a machine")
        rows.append((what, "4", carried, "twice as many", "`benchmarks live`"))
    if (start := saved("start")) is not None:
        slowest, decision = start["slowest_answer_ratio"], start["decision_ratio"]
        command = "`benchmarks start`"
        rows.append(("the slowest `--help` or mistake, times `import torch`", "3.6", f"{slowest:.2f}", "0.5", command))
        rows.append(("a decision from two photographs, likewise", "5.5", f"{decision:.1f}", "at most 3", command))
    if (prepared := saved("prepare")) is not None:
        ratio = prepared["rows"][1]["ratio"]
        what = f"`face_data prepare {prepared['layout']}` on one core, times facenet-pytorch's MTCNN in a loop"
        rows.append((what, "1.0", f"{ratio:.1f}", "at least 3", f"`benchmarks prepare {prepared['layout']}`"))
    return rows


def hostile_table(result: dict) -> str:
    if not result["complete"]:
        raise ValueError("hostile.json: the run was broken off")
    slower, rows = hostile.ratios(result), []
    for name, ratio in slower.items():
        row = result["rows"][name]
        responses = ", ".join(f"{status}: {count}" for status, count in sorted(row["attacker"].items()))
        times = ("too few" if math.isnan(value) else f"{value:.2f}" for value in ratio.values())
        rows.append((name, str(row["frames"]), f"{row['frame_ms']['p50']:.0f}", *times, responses))
    headers = ("beside", "frames", "answer, ms", "over quiet", "95 % over quiet", "start over quiet", "attacker got")
    memory = result["memory_mib"]
    quiet, attacked = (_decided(result[crowd]) for crowd in ("quiet_crowd", "crowd"))
    sentences = (
        f"{result['crowd']['attempts']} more people tried at the same time. On the quiet server {quiet}. Beside all "
        f"attacks together {attacked}. The server's memory was {memory['before']:.0f} MiB before, "
        f"{memory['during']:.0f} MiB after {result['minutes']:g} minutes of all attacks, and "
        f"{memory['minute_after']:.0f} MiB a minute later ({100 * memory['growth']:+.0f} %). Tracebacks in its log: "
        f"{result['tracebacks']}. The machine's load before: {result['load']:.1f}."
    )
    return f"{_markdown(headers, rows)}\n\n{sentences}{_measured(result)}"


def _decided(crowd: dict) -> str:
    reasons = "; ".join(f"{count}: {reason.rstrip('.')}" for reason, count in crowd["decisions"].items())
    return (
        f"{sum(crowd['decisions'].values())} attempts were decided ({reasons}), {crowd['refused']} were told to wait, "
        f"with {len(crowd['errors'])} errors and 95 % of the answers within {crowd['frame_ms']['p95']:.0f} ms"
    )


def _markdown(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [headers, ("---",) * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _measured(result: dict) -> str:
    return f"\n\nMeasured on: {machine_text(result['machine'])}."


TABLES = {"inference": inference_table, "live": live_table, "hostile": hostile_table}
