"""The tab about the model: its evaluation results, from results.json, and its limits.

`command` calls `build`. The texts are in `words`.
"""

import json
from collections import defaultdict
from html import escape
from math import log10
from pathlib import Path

import gradio as gr

from authentication.authenticator import DEFAULT_MODEL, Authenticator
from demo import words

SHIPPED_RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results" / "results.json"


def read_results(model: str | Path) -> dict | None:
    """A model's results.json: in its folder, or in docs/results for the shipped model; None if there is none."""
    folder = Path(model)
    file = folder / "results.json"
    if not file.is_file() and folder.is_dir() and folder.resolve() == DEFAULT_MODEL:
        file = SHIPPED_RESULTS
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def numbers(results: dict) -> dict[str, list[tuple[str, str, str, str]]]:
    """Corpus -> rows of its table: (title, value, counts, interval)."""
    tables = defaultdict(list)
    for corpus, section in results.get("verification", {}).items():
        if "generated" not in section:
            continue
        pairs, rows = section["generated"], tables[corpus]
        rows.append((words.AUC, f"{pairs['auc']:.3f}", _pairs(pairs), _interval(pairs["auc_interval"])))
        rows += [(words.TAR.format(far=point["far"]), *_rate(point)) for point in _measured(pairs["tar_at_far"])]
        rows.append((words.FAR, *_rate(pairs["shipped_threshold"]["far"])))
        rows.append((words.FRR, *_rate(pairs["shipped_threshold"]["frr"])))
    for corpus, section in results.get("expression", {}).items():
        tables[corpus].append((words.EXPRESSIONS_RIGHT, *_rate(section["report"]["accuracy"])))
    for corpus, section in results.get("authentication", {}).items():
        report = section["report"]
        required = " / ".join(report["required"])
        tables[corpus].append((words.DECISIONS_RIGHT.format(required=required), *_rate(report["acc_auth"])))
        tables[corpus].append((words.DECISIONS_FAR, *_rate(report["far"])))
    for corpus, section in results.get("sessions", {}).items():
        report = section["report"]
        tables[corpus].append((words.ATTEMPTS_FRR, *_rate(report["false_reject_rate"])))
        tables[corpus] += [
            (words.ATTACK.format(about=report["kinds"][kind]["about"]), *_rate(rate))
            for kind, rate in report["iapar"].items()
        ]
    return dict(tables)


def recalls(results: dict) -> list[tuple[str, str, dict]]:
    """(corpus, expression, rate) of every expression with labelled images."""
    return [
        (corpus, name, rate)
        for corpus, section in results.get("expression", {}).items()
        for name, rate in section["report"]["recall"].items()
        if rate["total"]
    ]


def bars(rows: list[tuple[str, str, dict]]) -> str:
    """HTML: bars of the recall of each expression with its interval, grouped by corpus."""
    elements, corpus = [], None
    for group, name, rate in rows:
        if group != corpus:
            elements.append(f"<h4>{escape(group)}</h4>")
            corpus = group
        low, high = _bounds(rate)
        elements.append(
            f'<div class="bar"><span>{escape(name)}</span><div><b style="width:{rate["value"]:.1%}"></b>'
            f'<i style="left:{low:.1%};width:{high - low:.1%}"></i></div>'
            f"<span>{rate['value']:.2f} <small>{rate['hits']:,} / {rate['total']:,}</small></span></div>"
        )
    return "".join(elements)


def curve(results: dict) -> str:
    """SVG: true accept rate over false accept rate, with intervals; "" if the results have no such points."""
    sections = results.get("verification", {})
    points = {
        corpus: _measured(section["generated"]["tar_at_far"])
        for corpus, section in sections.items()
        if "generated" in section
    }
    curves = {corpus: measured for corpus, measured in points.items() if len(measured) > 1}
    if not curves:
        return ""
    fars = sorted({point["far"] for measured in curves.values() for point in measured})
    lowest = fars[0]

    def x(far: float) -> float:
        return 40 + 320 * log10(far / lowest) / -log10(lowest)

    def y(rate: float) -> float:
        return 180 - 165 * rate

    elements = [
        f'<line class="grid" x1="40" x2="360" y1="{y(value)}" y2="{y(value)}"/>'
        f'<text x="8" y="{y(value) + 4}">{value:g}</text>'
        for value in (0, 0.5, 1)
    ]
    ticks = sorted({*fars, 1.0})
    elements += [f'<text x="{x(far):.0f}" y="198" text-anchor="middle">{far:g}</text>' for far in ticks]
    for number, measured in enumerate(curves.values()):
        line = " ".join(f"{x(point['far']):.1f},{y(point['value']):.1f}" for point in measured)
        elements.append(f'<polyline class="series{number % 3}" points="{line}"/>')
        for point in measured:
            low, high = _bounds(point)
            elements.append(
                f'<line class="series{number % 3}" x1="{x(point["far"]):.1f}" x2="{x(point["far"]):.1f}" '
                f'y1="{y(low):.1f}" y2="{y(high):.1f}"/>'
            )
    keys = "".join(
        f'<span><i class="series{number % 3}"></i>{escape(name)}</span>' for number, name in enumerate(curves)
    )
    return (
        f'<figure class="timeline"><figcaption>{words.CURVE}</figcaption><svg viewBox="0 0 370 204" role="img" '
        f'aria-label="{words.CURVE}">{"".join(elements)}</svg><div class="legend">{keys}</div></figure>'
    )


def build(model: str | Path, authenticator: Authenticator) -> None:
    """Create the tab's contents, which do not change while the page is open."""
    gr.HTML(f"<h3>{words.MODEL_LIMITS}</h3><ul>{''.join(f'<li>{escape(line)}</li>' for line in words.LIMITS)}</ul>")
    results = read_results(model)
    challenges = ", ".join(words.SHOWN.get(name, name) for name in authenticator.actions) or "–"
    description = words.MODEL_ABOUT.format(
        name=Path(model).name,
        revision=authenticator.revision or "–",
        challenges=challenges,
        parameters=authenticator.parameters / 1e6,
    )
    gr.HTML(f'<p class="lead">{escape(description)}</p>')
    if results is None:
        gr.HTML(f'<p class="lead">{words.NO_RESULTS}</p>')
        return
    with gr.Row():
        with gr.Column(min_width=320):
            gr.HTML(f"<h3>{words.MODEL_RECALL}</h3>{bars(recalls(results))}")
        with gr.Column(min_width=320):
            gr.HTML(f"<h3>{words.MODEL_VERIFICATION}</h3>{curve(results)}")
    tables = "".join(
        f"<details{' open' * (number == 0)}><summary>{escape(corpus)}</summary>"
        f"{table(rows, words.MODEL_HEADERS)}</details>"
        for number, (corpus, rows) in enumerate(numbers(results).items())
    )
    gr.HTML(f"<h3>{words.MODEL_NUMBERS}</h3>{tables}")


def _measured(points: list[dict]) -> list[dict]:
    """The points that have a value, because there are enough impostor pairs; the lowest false accept rate first."""
    return sorted((point for point in points if point.get("value") is not None), key=lambda point: point["far"])


def _pairs(section: dict) -> str:
    return f"{section['genuine_pairs']:,} + {section['impostor_pairs']:,} {words.PAIRS_OF} {section['people']:,}"


def _rate(rate: dict) -> tuple[str, str, str]:
    if rate.get("value") is None:
        return "–", "0", ""
    return f"{rate['value']:.3f}", f"{rate['hits']:,} / {rate['total']:,}", _interval(_bounds(rate))


def _bounds(rate: dict) -> tuple[float, float]:
    """The 95 % interval: from the bootstrap over people if there is one, else Wilson's."""
    return rate.get("bootstrap") or (rate["low"], rate["high"])


def _interval(bounds) -> str:
    return "" if bounds is None else f"{bounds[0]:.3f} – {bounds[1]:.3f}"


def table(rows: list[tuple[str, ...]], headers: tuple[str, ...]) -> str:
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in headers)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return f'<div class="scroll"><table class="numbers"><tr>{heads}</tr>{body}</table></div>'
