"""Writes the tables of docs/demo.md from the numbers that the benchmarks have saved.

    python -m benchmarks inference --json docs/results/inference.json
    python -m benchmarks live --clients 1 2 4 6 8 --frame-seconds 0.1 --json docs/results/live.json
    python -m benchmarks hostile --json docs/results/hostile.json
    python -m benchmarks start --json docs/results/start.json
    python -m benchmarks prepare lfw DATA/lfw --json docs/results/prepare.json
    python -m benchmarks page

Each table is between two comments of the page, which name its file of numbers.
"""

import json
import math
from pathlib import Path

from benchmarks import hostile
from benchmarks.report import machine_text
from evaluation.report.summary import markdown_table, replace_tables

MAX_MILLISECONDS = 300  # the server is fast enough if 95 % of the answers take less,
MIN_PACE = 0.9  # and if each client can send this share of its frames

SIDES = (
    "MTCNN with its defaults, InceptionResnetV1, a ResNet-18 for expressions",
    "this network, with detection in every frame, as on the command line",
    "this network, with tracking, as on the page",
)


def write(results: Path, page: Path) -> list[Path]:
    """Write the tables into the page. Returns the missing files of numbers; their tables are not changed.

    Raises:
        OSError, ValueError: there is no such page, it lacks the comments of a table, or a run was interrupted.
    """
    text, missing, tables = page.read_text(encoding="utf-8"), [], {}
    for name, table in TABLES.items():
        file = results / f"{name}.json"
        if file.is_file():
            tables[name] = table(json.loads(file.read_text(encoding="utf-8")))
        else:
            missing.append(file)
    if rows := speed_rows(results):
        tables["speed"] = markdown_table(rows, ("measure", "before", "now", "target", "`python -m`"))
    try:
        page.write_text(replace_tables(text, tables), encoding="utf-8")
    except ValueError as error:
        raise ValueError(f"{page}: {error}") from None
    return missing


def inference_table(result: dict) -> str:
    rows = [
        (side, f"{row['frames_per_second']:.1f}", f"{row['ratio']:.2f}")
        for side, row in zip(SIDES, result["rows"], strict=True)
    ]
    step_times = ", ".join(f"{name} {value:.1f}" for name, value in result["milliseconds_per_frame"].items())
    costs = f"\n\nMilliseconds of the steps for a frame, each measured alone: {step_times}. Gradio is not involved."
    return markdown_table(rows, ("frame to decision", "frames/s", "against the first")) + costs + _measured(result)


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
        "frame every",
        "frames/s each",
        "answer, median and 95 %, ms",
        "from smile to passed step, 95 %, s",
        "accepted, rejected",
        "errors",
    )
    return markdown_table(rows, headers) + _measured(result)


def largest_number_of_people(result: dict) -> int:
    """The largest number of people for whom the server is fast enough (MAX_MILLISECONDS and MIN_PACE)."""
    fast_enough = [
        row["clients"]
        for row in result["rows"]
        if row["frame_seconds"] > 0
        and row["answer_ms"]["p95"] < MAX_MILLISECONDS
        and min(row["frames_per_second"]) >= MIN_PACE / row["frame_seconds"]
    ]
    return max(fast_enough, default=0)


def speed_rows(results: Path) -> list[tuple[str, str, str, str, str]]:
    """Rows (title, before, now, target, command), for the numbers that exist.

    "Before" is the result of the same commands before ONNX Runtime, light imports and batches, on an EPYC.
    """

    def saved(name: str) -> dict | None:
        file = results / f"{name}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    rows = []
    if (speed := saved("inference")) is not None:
        ratios = [f"{row['ratio']:.1f}" for row in speed["rows"]]
        command = "`benchmarks inference`"
        rows.append(
            (
                "frames/s compared with the plain stack, with detection in every frame",
                "–",
                ratios[1],
                "at least 6",
                command,
            )
        )
        rows.append(("the same, with tracking", "5.6", ratios[2], "at least 10", command))
    if (live := saved("live")) is not None:
        title = f"people who send a frame every 0.1 s, with 95 % of the answers in less than {MAX_MILLISECONDS} ms"
        carried = str(largest_number_of_people(live) or "none: the machine was busy")
        rows.append((title, "4", carried, "twice as many", "`benchmarks live`"))
    if (start := saved("start")) is not None:
        slowest, decision = start["slowest_answer_ratio"], start["decision_ratio"]
        command = "`benchmarks start`"
        rows.append(
            (
                "the slowest answer to `--help` or a wrong argument, in units of `import torch`",
                "3.6",
                f"{slowest:.2f}",
                "0.5",
                command,
            )
        )
        rows.append(
            (
                "a decision from two photographs, in units of `import torch`",
                "5.5",
                f"{decision:.1f}",
                "at most 3",
                command,
            )
        )
    if (prepared := saved("prepare")) is not None:
        ratio = prepared["rows"][1]["ratio"]
        title = f"`face_data prepare {prepared['layout']}` on one core, compared with facenet-pytorch's MTCNN in a loop"
        rows.append((title, "1.0", f"{ratio:.1f}", "at least 3", f"`benchmarks prepare {prepared['layout']}`"))
    return rows


def hostile_table(result: dict) -> str:
    if not result["complete"]:
        raise ValueError("hostile.json: the run was interrupted")
    slower, rows = hostile.ratios(result), []
    for name, ratio in slower.items():
        row = result["rows"][name]
        responses = ", ".join(f"{status}: {count}" for status, count in sorted(row["attacker"].items()))
        times = ("too few" if math.isnan(value) else f"{value:.2f}" for value in ratio.values())
        rows.append((name, str(row["frames"]), f"{row['frame_ms']['p50']:.0f}", *times, responses))
    headers = ("attack", "frames", "answer, ms", "ratio", "95 %, ratio", "start, ratio", "answers to the attacker")
    memory = result["memory_mib"]
    quiet, attacked = (_decisions_text(result[crowd]) for crowd in ("quiet_crowd", "crowd"))
    sentences = (
        f"A ratio compares a time with that of the phases without an attack. {result['crowd']['attempts']} more people "
        f"tried at the same time. On the quiet server {quiet}. During all attacks together {attacked}. The server's "
        f"memory was {memory['before']:.0f} MiB before, {memory['during']:.0f} MiB after {result['minutes']:g} minutes "
        f"of all attacks, and {memory['minute_after']:.0f} MiB a minute later ({100 * memory['growth']:+.0f} %). Its "
        f"log has {result['tracebacks']} tracebacks. The load of the machine before was {result['load']:.1f}."
    )
    return f"{markdown_table(rows, headers)}\n\n{sentences}{_measured(result)}"


def _decisions_text(crowd: dict) -> str:
    reasons = "; ".join(f"{count}: {reason.rstrip('.')}" for reason, count in crowd["decisions"].items())
    return (
        f"{sum(crowd['decisions'].values())} attempts were decided ({reasons}), {crowd['refused']} had to wait, "
        f"with {len(crowd['errors'])} errors and 95 % of the answers within {crowd['frame_ms']['p95']:.0f} ms"
    )


def _measured(result: dict) -> str:
    return f"\n\nMeasured on: {machine_text(result['machine'])}."


TABLES = {"inference": inference_table, "live": live_table, "hostile": hostile_table}
