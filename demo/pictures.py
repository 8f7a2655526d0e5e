"""Makes the HTML and SVG of the page from the progress of a session and from decisions.

`live` and `offline` call these functions. The sentences are in `words`, the styles in `style.css`.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from math import pi

import numpy as np
from PIL import Image

from authentication.attempt import Moment, View
from authentication.session import TURNS, Progress
from demo import words
from pipeline_facelivenet import Decision

# Faces in a box of 100 x 100: brows, eyes, mouth.
BROWS = {
    "neutral": "M24 30 H42 M58 30 H76",
    "happy": "M24 29 Q33 24 42 29 M58 29 Q67 24 76 29",
    "surprise": "M23 24 Q33 14 43 23 M57 23 Q67 14 77 24",
    "sad": "M24 33 L42 26 M58 26 L76 33",
    "anger": "M24 25 L43 34 M57 34 L76 25",
    "fear": "M24 26 Q34 18 43 21 M57 21 Q66 18 76 26",
    "disgust": "M24 29 L43 33 M57 33 L76 29",
    "contempt": "M24 30 H42 M58 27 Q67 22 76 27",
}
MOUTHS = {
    "neutral": "M33 68 H67",
    "happy": "M28 60 Q50 90 72 60 Z",
    "surprise": "M50 60 a9 12 0 1 0 .1 0 Z",
    "sad": "M32 75 Q50 57 68 75",
    "anger": "M34 70 H66 M38 66 V74 M50 66 V74 M62 66 V74",
    "fear": "M32 72 Q50 60 68 72 Q50 78 32 72 Z",
    "disgust": "M32 73 Q41 60 50 66 Q59 60 68 73",
    "contempt": "M34 70 Q54 70 68 60",
}
TICK, CROSS = '<path d="M30 52 L45 67 L71 37"/>', '<path d="M35 35 L65 65 M65 35 L35 65"/>'
RADIUS = 46
AGAIN = (
    '<button class="again" type="button" onclick="document.getElementById(\'start\').click()">'
    f"{escape(words.AGAIN)}</button>"
)


def illustration(action: str) -> str:
    """A ring with a face that shows the expression, or turns its head as in a mirror."""
    if action == "accepted":
        return _ring(TICK, 0.0)
    return _ring(_face(action) + f'<path d="{BROWS.get(action, "")}"/>', 0.0)


def _face(action: str) -> str:
    """Eyes and mouth, or a turned head with an arrow, for a small ring."""
    if action in TURNS:
        head = '<ellipse cx="50" cy="46" rx="24" ry="30"/><path d="M28 46 H18 L26 57"/><path class="arrow" d="{}"/>'
        eyes = "".join(f'<circle class="dot" cx="{x}" cy="40" r="4.5"/>' for x in (35, 55))
        turned_head = head.format("M66 88 H24 M34 79 L24 88 L34 97") + eyes + '<path d="M33 63 H50"/>'
        return turned_head if action == "turn_left" else f'<g transform="matrix(-1 0 0 1 100 0)">{turned_head}</g>'
    radius = {"surprise": 6, "fear": 6}.get(action, 5)
    eyes = "".join(f'<circle class="dot" cx="{x}" cy="42" r="{radius}"/>' for x in (35, 65))
    return f'{eyes}<path d="{MOUTHS.get(action, "")}"/>'


def _ring(inside: str, held: float) -> str:
    """A drawing in a circle. The share `held`, 0 to 1, of the circle's line is filled."""
    length = 2 * pi * RADIUS
    ring = (
        f'<circle class="ring" cx="50" cy="50" r="{RADIUS}" transform="rotate(-90 50 50)" '
        f'stroke-dasharray="{length * held:.1f} {length:.1f}"/>'
    )
    track = f'<circle class="track" cx="50" cy="50" r="{RADIUS}"/>'
    return f'<svg viewBox="-4 -4 108 108" aria-hidden="true">{track}{ring if held else ""}{inside}</svg>'


def face_image(face: np.ndarray) -> str:
    """An aligned face, (size, size, 3) uint8, as an image inside the HTML, without a file."""
    data = io.BytesIO()
    Image.fromarray(face).save(data, "JPEG", quality=90)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}">'


def card(kind: str, title: str, text: str, image: str = "", below: str = "") -> str:
    """The large box with the instruction or the decision; kind is a CSS class."""
    return f'<div class="card {kind}">{image}<div><h2>{escape(title)}</h2><p>{escape(text)}</p>{below}</div></div>'


def coming(actions: Sequence[str]) -> str:
    """The overview of the steps before the first attempt, with a note if no turns, or no expressions, are requested.

    Args:
        actions: all that a session may request.
    """
    expressions, turns = [name for name in actions if name not in TURNS], [name for name in actions if name in TURNS]
    actions_to_draw = {"neutral": "neutral", "accepted": "accepted"}
    actions_to_draw |= {"expression": expressions[0]} if expressions else {}
    actions_to_draw |= {"turn_left": turns[0]} if turns else {}
    cells = "".join(
        f"<li>{illustration(actions_to_draw[name])}<span>{escape(text)}</span></li>"
        for name, text in words.COMING.items()
        if name in actions_to_draw
    )
    note = "" if turns and expressions else words.NO_TURNS if expressions else words.NO_EXPRESSIONS
    return f'<ol class="coming">{cells}</ol>' + (f'<p class="small">{escape(note)}</p>' if note else "")


def camera_problems() -> dict[str, str]:
    """Name of the browser's error -> the card that explains it."""
    return {name: card("idle", words.CAMERA_TITLE, text) for name, text in words.CAMERA_PROBLEMS.items()}


def instruction(progress: Progress) -> str:
    """The card with the current request, or with the decision."""
    decision, action = progress.decision, progress.required_action
    if decision is not None:
        return verdict(decision, AGAIN)
    title = words.ASK[action]
    if progress.step == "neutral" and progress.passed:
        title = words.AHEAD_AGAIN if progress.challenge[progress.passed - 1] in TURNS else words.NEUTRAL_AGAIN
    text = words.ALLOW if progress.step == "start" else words.HOW[action]
    return card("ask", title, text, illustration(action))


def verdict(decision: Decision, below: str = "") -> str:
    """The card of a decision with its reason. below: HTML below the reason."""
    if decision.accepted:
        return card("accepted", words.ACCEPTED, words.ACCEPTED_HELP, _ring(TICK, 1.0), below)
    return card("rejected", words.REJECTED, decision.message, _ring(CROSS, 1.0), below)


def steps(progress: Progress, advice: str | None = None) -> str:
    """A ring for every action, the time left, and a hint about the last frame.

    An action is shown as a question mark until it is requested. advice: of `View`.
    """
    cells, is_open = [], progress.decision is None
    for number, name in enumerate(progress.challenge):
        is_done = number < progress.passed or (not is_open and progress.decision.accepted)
        is_current = number == progress.passed and is_open
        is_requested = is_current and progress.step == "action"
        visible_action = (
            name if is_done or is_requested or (is_current and not is_open) else "neutral" if is_current else None
        )
        label = words.SECRET_STEP if visible_action is None else words.SHOWN[visible_action]
        inside = TICK if is_done else _face(visible_action) if visible_action else ""
        held = 1.0 if is_done else progress.held if is_current else 0.0
        state = "done" if is_done else "now" if is_current else ""
        cells.append(f'<span class="step {state}">{_ring(inside, held)}{escape(label)}</span>')
    if is_open and progress.passed == len(progress.challenge):  # look ahead again after the last turn
        ring = _ring(_face("neutral"), progress.held)
        cells.append(f'<span class="step now">{ring}{escape(words.SHOWN["neutral"])}</span>')
    hint = time = ""
    if is_open and progress.frame is not None:
        hint = hint_text(progress, advice)
        time = words.SECONDS_LEFT.format(seconds=round(progress.seconds_left))
    return (
        f'<div class="steps">{"".join(cells)}<span class="time">{time}</span></div><p class="hint">{escape(hint)}</p>'
    )


def hint_text(progress: Progress, advice: str | None = None) -> str:
    """A sentence about the last frame. If it did not count, advice about the image has priority."""
    name = progress.hint or ""
    if advice and name != "accepted":
        return words.LIVE_ADVICE[advice]
    return words.HINTS.get("different_person" if "different_person" in name else name, "")


def overlay(view: View) -> str:
    """SVG over the video: an outline for the face, green if the frame counts, and the landmarks."""
    if view.progress.decision is not None or not all(view.size):
        return ""
    width, height = view.size
    evidence, points, kind = view.evidence, "", "seen"
    if evidence is not None:
        kind = "bad" if evidence.face_count != 1 else "good" if view.progress.counted else "seen"
        points = "".join(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3"/>' for x, y in evidence.landmarks)
    return (
        f'<svg class="overlay {kind}" viewBox="0 0 {width} {height}" aria-hidden="true">'
        f'<ellipse cx="{width / 2:.0f}" cy="{height * 0.48:.0f}" rx="{height * 0.31:.0f}" ry="{height * 0.42:.0f}"/>'
        f"{points}</svg>"
    )


def scores(decision: Decision, caption: str) -> str:
    """The operator's table of a frame: similarity with its threshold, and the probability of every expression."""
    rows = []
    if decision.similarity is not None and decision.threshold is not None:
        rows.append(("similarity", decision.similarity, f" (threshold {decision.threshold:.3f})"))
    rows += [(name, probability, "") for name, probability in decision.expression_probabilities.items()]
    cells = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td><b style="width:{max(value, 0):.0%}"></b></td>'
        f"<td>{value:.3f}{note}</td></tr>"
        for name, value, note in rows
    )
    return f'<table class="scores"><caption>{escape(caption)}</caption>{cells}</table>'


WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 210, 36, 20, 24  # of the timeline, and of its margins


def timeline(moments: list[Moment], threshold: float | None, operator: bool, title: str = words.TIMELINE) -> str:
    """Similarity and the requested expression's probability over time, with the frames that counted.

    Args:
        operator: whether to show scores; otherwise only the requested actions and the frames that counted.
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

    elements = []
    band_start = 0
    for number, moment in enumerate(moments):  # a band for each requested action
        is_last = number + 1 == len(moments)
        if is_last or moments[number + 1].asked != moment.asked:
            start_x, end_x = x(moments[band_start].seconds), x(moments[number if is_last else number + 1].seconds)
            kind = "neutral" if moment.asked == "neutral" else "expression"
            label = escape(words.SHOWN.get(moment.asked, moment.asked))
            elements.append(
                f'<rect class="band {kind}" x="{start_x:.1f}" y="{TOP}" width="{end_x - start_x:.1f}" '
                f'height="{base - TOP}"/><text x="{start_x:.1f}" y="{TOP - 6}">{label}</text>'
            )
            band_start = number + 1
    for moment in moments:
        if moment.counted:
            passed = " passed" if moment.passed else ""
            elements.append(f'<circle class="counted{passed}" cx="{x(moment.seconds):.1f}" cy="{base - 6}" r="4"/>')
    legend = [("counted", words.TIMELINE_COUNTED)]
    if operator:
        for name in ("similarity", "probability"):
            for run in _runs(moments, name):
                points = " ".join(f"{x(seconds):.1f},{y(value):.1f}" for seconds, value in run)
                elements.append(f'<polyline class="{name}" points="{points}"/>')
        if threshold is not None:
            level = f"{y(threshold):.1f}"
            elements.append(f'<line class="threshold" x1="{LEFT}" x2="{WIDTH - 8}" y1="{level}" y2="{level}"/>')
        elements += [f'<text x="4" y="{y(value) + 4:.0f}">{value:g}</text>' for value in (0, 0.5, 1)]
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
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{"".join(elements + ticks)}</svg>'
        f'<div class="legend">{keys}</div></figure>'
    )


def _runs(moments: list[Moment], name: str) -> list[list[tuple[float, float]]]:
    """(seconds, value) of each run of moments that have a value; the curve is interrupted between runs."""
    runs = [[]]
    for moment in moments:
        value = getattr(moment, name)
        if value is not None:
            runs[-1].append((moment.seconds, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if len(run) > 1]
