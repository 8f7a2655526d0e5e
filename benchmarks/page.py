"""The tables of docs/demo.md, written from the numbers that the benchmarks saved: nothing is typed by hand.

    python -m benchmarks inference --json docs/results/inference.json
    python -m benchmarks hostile --json docs/results/hostile.json
    python -m benchmarks page

A table stands between two comments of the page that name its file of numbers.
"""

import json
import math
import re
from pathlib import Path

from benchmarks import hostile
from benchmarks.report import machine_text

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
    text, missing = page.read_text(encoding="utf-8"), []
    for name, table in TABLES.items():
        file = results / f"{name}.json"
        if not file.is_file():
            missing.append(file)
            continue
        numbers = json.loads(file.read_text(encoding="utf-8"))
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        place = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
        if not place.search(text):
            raise ValueError(f"{page}: no place for a table, between {start} and {end}")
        written = f"{start}\n{table(numbers)}\n{end}"
        text = place.sub(lambda _, written=written: written, text, count=1)
    page.write_text(text, encoding="utf-8")
    return missing


def inference_table(result: dict) -> str:
    rows = [
        (side, f"{row['frames_per_second']:.1f}", f"{row['ratio']:.2f}")
        for side, row in zip(SIDES, result["rows"], strict=True)
    ]
    return _markdown(("frame to decision", "frames/s", "against the first"), rows) + _measured(result)


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
    crowd, memory = result["crowd"], result["memory_mib"]
    reasons = "; ".join(f"{count}: {reason}" for reason, count in crowd["decisions"].items())
    sentences = (
        f"Beside all of them together {crowd['attempts']} more people tried at the same time; decided were "
        f"{sum(crowd['decisions'].values())} ({reasons}), with {len(crowd['errors'])} errors. The server's memory "
        f"was {memory['before']:.0f} MiB before, {memory['during']:.0f} MiB after {result['minutes']:g} minutes of all "
        f"attacks, and {memory['minute_after']:.0f} MiB a minute later ({100 * memory['growth']:+.0f} %). Tracebacks "
        f"in its log: {result['tracebacks']}. The machine's load before: {result['load']:.1f}."
    )
    return f"{_markdown(headers, rows)}\n\n{sentences}{_measured(result)}"


def _markdown(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [headers, ("---",) * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _measured(result: dict) -> str:
    return f"\n\nMeasured on: {machine_text(result['machine'])}."


TABLES = {"inference": inference_table, "hostile": hostile_table}
