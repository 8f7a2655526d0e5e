"""HTML and SVG of the page, made from progress and decisions. Nothing here decides anything."""

import base64
import io
from html import escape
from math import pi

import numpy as np
from PIL import Image

from authentication.attempt import Moment, View
from authentication.session import Progress
from demo import words
from pipeline_facelivenet import Decision

# Faces in a box of 100 x 100: brows, eyes, mouth.
BROWS = {
    "neutral": "M24 30 H42 M58 30 H76", "happy": "M24 29 Q33 24 42 29 M58 29 Q67 24 76 29",
    "surprise": "M23 24 Q33 14 43 23 M57 23 Q67 14 77 24", "sad": "M24 33 L42 26 M58 26 L76 33",
    "anger": "M24 25 L43 34 M57 34 L76 25", "fear": "M24 26 Q34 18 43 21 M57 21 Q66 18 76 26",
    "disgust": "M24 29 L43 33 M57 33 L76 29", "contempt": "M24 30 H42 M58 27 Q67 22 76 27",
}  # fmt: skip
MOUTHS = {
    "neutral": "M33 68 H67", "happy": "M28 60 Q50 90 72 60 Z", "surprise": "M50 60 a9 12 0 1 0 .1 0 Z",
    "sad": "M32 75 Q50 57 68 75", "anger": "M34 70 H66 M38 66 V74 M50 66 V74 M62 66 V74",
    "fear": "M32 72 Q50 60 68 72 Q50 78 32 72 Z", "disgust": "M32 73 Q41 60 50 66 Q59 60 68 73",
    "contempt": "M34 70 Q54 70 68 60",
}  # fmt: skip
TICK, CROSS = '<path d="M30 52 L45 67 L71 37"/>', '<path d="M35 35 L65 65 M65 35 L35 65"/>'
RADIUS = 46
AGAIN = (
    '<button class="again" type="button" onclick="document.getElementById(\'start\').click()">'
    f"{escape(words.AGAIN)}</button>"
)


def illustration(expression: str) -> str:
    """A face showing the expression, in a ring."""
    return _ring(_face(expression) + f'<path d="{BROWS.get(expression, "")}"/>', 0.0)


def _face(expression: str) -> str:
    """Eyes and mouth: what there is room for in a small ring."""
    radius = {"surprise": 6, "fear": 6}.get(expression, 5)
    eyes = "".join(f'<circle class="dot" cx="{x}" cy="42" r="{radius}"/>' for x in (35, 65))
    return f'{eyes}<path d="{MOUTHS.get(expression, "")}"/>'


def _ring(inside: str, held: float) -> str:
    length = 2 * pi * RADIUS
    ring = (
        f'<circle class="ring" cx="50" cy="50" r="{RADIUS}" transform="rotate(-90 50 50)" '
        f'stroke-dasharray="{length * held:.1f} {length:.1f}"/>'
    )
    track = f'<circle class="track" cx="50" cy="50" r="{RADIUS}"/>'
    return f'<svg viewBox="-4 -4 108 108" aria-hidden="true">{track}{ring if held else ""}{inside}</svg>'


def photograph(face: np.ndarray) -> str:
    """An aligned face, (size, size, 3) uint8, inside the page itself, so that no file is made of it."""
    data = io.BytesIO()
    Image.fromarray(face).save(data, "JPEG", quality=90)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}">'


def card(kind: str, title: str, text: str, picture: str = "", below: str = "") -> str:
    """The large box that says what to do, or what was decided; kind is a CSS class."""
    return f'<div class="card {kind}">{picture}<div><h2>{escape(title)}</h2><p>{escape(text)}</p>{below}</div></div>'


def instruction(progress: Progress) -> str:
    """What the person has to do now, or the decision with its reason; it changes only when that does."""
    decision, asked = progress.decision, progress.required_expression
    if decision is None:
        again = progress.step == "neutral" and progress.passed
        title = words.NEUTRAL_AGAIN if again else words.ASK[asked]
        text = words.ALLOW if progress.step == "start" else words.HOW[asked]
        return card("ask", title, text, illustration(asked))
    return verdict(decision, AGAIN)


def verdict(decision: Decision, below: str = "") -> str:
    """The banner of a decision, with its reason in words. below: HTML under these."""
    if decision.accepted:
        return card("accepted", words.ACCEPTED, words.ACCEPTED_HELP, _ring(TICK, 1.0), below)
    return card("rejected", words.REJECTED, decision.message, _ring(CROSS, 1.0), below)


def steps(progress: Progress) -> str:
    """Every step with a ring that fills, the time left, and a hint about the newest frame.

    An expression stays a question mark until its turn: what is asked for is a surprise.
    """
    cells = []
    current = progress.passed * 2 + (progress.step in ("expression", "decided"))
    for number in range(2 * len(progress.challenge)):
        name = "neutral" if number % 2 == 0 else progress.challenge[number // 2]
        done = number < current or (progress.decision is not None and progress.decision.accepted)
        now = number == current and progress.decision is None
        held = 1.0 if done else progress.held if now else 0.0
        known = done or now or name == "neutral"
        label = words.SHOWN[name] if known else words.SECRET_STEP
        state = "done" if done else "now" if now else ""
        inside = TICK if done else _face(name) if known else ""
        cells.append(f'<span class="step {state}">{_ring(inside, held)}{escape(label)}</span>')
    hint = time = ""
    if progress.decision is None and progress.frame is not None:
        hint = hint_of(progress.frame)
        time = words.SECONDS_LEFT.format(seconds=round(progress.seconds_left))
    return (
        f'<div class="steps">{"".join(cells)}<span class="time">{time}</span></div><p class="hint">{escape(hint)}</p>'
    )


def hint_of(frame: Decision) -> str:
    if "different_person" in frame.reason:
        return words.HINTS["different_person"]
    return words.HINTS.get(frame.reason, "")


def overlay(view: View) -> str:
    """The judged face over the camera's picture: box and landmarks."""
    evidence = view.evidence
    if evidence is None or view.progress.decision is not None:
        return ""
    left, top, right, bottom = (round(float(side)) for side in evidence.box)
    alone = evidence.face_count == 1
    kind = "good" if alone and view.progress.counted else "seen" if alone else "bad"
    points = "".join(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3"/>' for x, y in evidence.landmarks)
    return (
        f'<svg class="overlay {kind}" viewBox="0 0 {view.size[0]} {view.size[1]}" aria-hidden="true">'
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" rx="14"/>{points}</svg>'
    )


def scores(decision: Decision, caption: str) -> str:
    """The operator's table, of one frame: similarity against the threshold, every expression's probability."""
    known = decision.similarity is not None and decision.threshold is not None
    rows = [("similarity", decision.similarity, f" (threshold {decision.threshold:.3f})")] if known else []
    rows += [(name, probability, "") for name, probability in decision.expression_probabilities.items()]
    cells = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td><b style="width:{max(value, 0):.0%}"></b></td>'
        f"<td>{value:.3f}{note}</td></tr>"
        for name, value, note in rows
    )
    return f'<table class="scores"><caption>{escape(caption)}</caption>{cells}</table>'


WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 210, 36, 20, 24  # of the timeline, and of its margins


def timeline(moments: list[Moment], threshold: float | None, operator: bool, title: str = words.TIMELINE) -> str:
    """Similarity and the asked expression's probability over the seconds, with the frames that counted.

    Without `operator` only what was asked for, when, and which frames counted: no score.
    """
    if len(moments) < 2 or moments[-1].seconds <= 0:
        return ""
    end = moments[-1].seconds
    height = HEIGHT if operator else 70
    base = height - BOTTOM

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - 8) * seconds / end

    def y(value: float) -> float:
        return TOP + (base - TOP) * (1 - max(value, 0.0))

    parts = []
    began = 0
    for number, moment in enumerate(moments):  # bands: what was asked for, from when to when
        last = number + 1 == len(moments)
        if last or moments[number + 1].asked != moment.asked:
            left, right = x(moments[began].seconds), x(moments[number if last else number + 1].seconds)
            kind = "neutral" if moment.asked == "neutral" else "expression"
            label = escape(words.SHOWN.get(moment.asked, moment.asked))
            parts.append(
                f'<rect class="band {kind}" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" '
                f'height="{base - TOP}"/><text x="{left:.1f}" y="{TOP - 6}">{label}</text>'
            )
            began = number + 1
    for moment in moments:
        if moment.counted:
            far = " passed" if moment.passed else ""
            parts.append(f'<circle class="counted{far}" cx="{x(moment.seconds):.1f}" cy="{base - 6}" r="4"/>')
    legend = [("counted", words.TIMELINE_COUNTED)]
    if operator:
        for name in ("similarity", "probability"):
            for run in _runs(moments, name):
                points = " ".join(f"{x(seconds):.1f},{y(value):.1f}" for seconds, value in run)
                parts.append(f'<polyline class="{name}" points="{points}"/>')
        if threshold is not None:
            level = f"{y(threshold):.1f}"
            parts.append(f'<line class="threshold" x1="{LEFT}" x2="{WIDTH - 8}" y1="{level}" y2="{level}"/>')
        parts += [f'<text x="4" y="{y(value) + 4:.0f}">{value:g}</text>' for value in (0, 0.5, 1)]
        legend += [
            ("similarity", words.TIMELINE_SIMILARITY),
            ("threshold", words.TIMELINE_THRESHOLD),
            ("probability", words.TIMELINE_EXPRESSION),
        ]
    step = max(1, round(end / 8))
    ticks = [f'<text x="{x(second):.1f}" y="{base + 16}">{second}</text>' for second in range(0, int(end) + 1, step)]
    keys = "".join(f'<span><i class="{kind}"></i>{escape(name)}</span>' for kind, name in legend)
    return (
        f'<figure class="timeline"><figcaption>{escape(title)} ({words.SECONDS})</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{"".join(parts + ticks)}</svg>'
        f'<div class="legend">{keys}</div></figure>'
    )


def _runs(moments: list[Moment], name: str) -> list[list[tuple[float, float]]]:
    """The stretches of moments in which a value is known; lines are not drawn across what lies between."""
    runs = [[]]
    for moment in moments:
        value = getattr(moment, name)
        if value is not None:
            runs[-1].append((moment.seconds, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if len(run) > 1]
