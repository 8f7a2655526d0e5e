"""The tabs without a live camera: they judge a video clip or a photograph against a reference photograph.

`server` calls the handlers. Read `authentication.probe` next, which judges the frames.
"""

import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from threading import Event

import gradio as gr
import numpy as np

from authentication.attempt import Moment
from authentication.authenticator import Authenticator
from authentication.probe import decide_probe, judge_frames
from authentication.reference import examine
from authentication.template import Template
from authentication.video import is_clip
from demo import gradio_page, pictures, words
from demo.bounded import check_clip, clip_budget, photograph_reader
from demo.priorities import LiveFrames
from image_processing_facelivenet import UnreadableImageError
from pipeline_facelivenet import FRAMES_TO_HOLD, Decision


class Offline:
    """The handlers of both tabs.

    Args:
        live_frames: of live attempts, which have priority.
        operator: whether to show scores.
    """

    def __init__(self, authenticator: Authenticator, live_frames: LiveFrames, operator: bool = False):
        self.authenticator = authenticator
        self.live_frames = live_frames
        self.operator = operator

    def on_clip(self, reference: Path | None, clip: Path | None, expression: str, has_left: Event) -> list[str]:
        """The decision about a clip: its card and the timeline. has_left: set when the visitor has left."""
        if not clip:
            return [_problem(words.CLIP_FIRST), ""]
        if expression not in self.authenticator.config.expressions:
            return [_problem(words.NOT_KNOWN), ""]
        template, problem, _ = self._template(reference, has_left)
        if template is None:
            return [_problem(problem), ""]
        try:
            if is_clip(clip):
                check_clip(clip)
            budget = clip_budget(clip, has_left, self.live_frames)
            frames = list(judge_frames(self.authenticator, template, str(clip), expression, budget))
        except (UnreadableImageError, OSError) as error:
            return [_problem(str(error).replace(str(clip), clip.name)), ""]
        decision = decide_probe(frames, expression)
        moments = [
            Moment(
                seconds=frame.seconds or 0.0,
                asked=expression,
                similarity=frame.decision.similarity,
                probability=frame.decision.expression_probabilities.get(expression),
                counted=frame.decision.accepted,
                passed=False,
            )
            for frame in frames
        ]
        timeline = pictures.timeline(moments, decision.threshold, self.operator, words.TIMELINE_CLIP)
        return [self._verdict(decision), timeline]

    def on_pair(self, reference: Path | None, probe: Path | None, expression: str, has_left: Event) -> list[str]:
        """The decision about a photograph: its card, and a row with both aligned faces and the expressions."""
        if not probe:
            return [_problem(words.PROBE_FIRST), ""]
        if expression not in self.authenticator.config.expressions:
            return [_problem(words.NOT_KNOWN), ""]
        template, problem, face = self._template(reference, has_left)
        if template is None:
            return [_problem(problem), ""]
        try:
            if is_clip(probe):
                return [_problem(words.PROBE_IS_CLIP), ""]
            image = photograph_reader(has_left, self.live_frames)(probe)
        except (UnreadableImageError, OSError) as error:
            return [_problem(str(error).replace(str(probe), probe.name)), ""]
        evidence = self.authenticator.evidence(image)
        decision = self.authenticator.decide(template, evidence, expression)
        faces = [face, self.authenticator.crop(image, evidence)] if evidence else []
        return [self._verdict(decision), pair_row(decision, faces)]

    def _template(self, reference: Path | None, has_left: Event) -> tuple[Template | None, str, np.ndarray | None]:
        """The template or None, the problem with the photograph or "", and its aligned face."""
        if not reference:
            return None, words.NO_REFERENCE, None
        reader = photograph_reader(has_left, self.live_frames)
        template, (check,) = examine(self.authenticator, [reference], reader)
        problem = words.PROBLEMS[check.problem].format(cause=check.cause) if check.problem else ""
        return template, problem, check.face

    def _verdict(self, decision: Decision) -> str:
        numbers = pictures.scores(decision, decision.reason) if self.operator else ""
        return pictures.verdict(decision) + numbers


def pair_row(decision: Decision, faces: list[np.ndarray]) -> str:
    """HTML: a row as in the paper's Table 6: both faces, whether they are one person, both expressions, decision."""
    person = (
        words.NOT_KNOWN if decision.similarity is None else words.SAME if decision.same_identity else words.NOT_SAME
    )
    seen_expression = words.SHOWN.get(decision.expression, decision.expression or words.NOT_KNOWN)
    cells = {
        words.ROW_PERSON: person,
        words.ROW_ASKED: words.SHOWN.get(decision.required_expression, decision.required_expression),
        words.ROW_SEEN: seen_expression,
        words.ROW_DECISION: words.ACCEPTED if decision.accepted else words.REJECTED,
    }
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in cells)
    values = "".join(f"<td>{escape(value)}</td>" for value in cells.values())
    images = "".join(map(pictures.face_image, faces))
    return f'<div class="pair">{images}<table><tr>{heads}</tr><tr>{values}</tr></table></div>'


def _problem(text: str) -> str:
    return pictures.card("idle", words.CANNOT_CHECK, text)


def build_clip(expressions: list[str], examples: list[list[str]]) -> None:
    def media() -> list[gr.components.Component]:
        reference = _photograph(words.PHOTOGRAPH, "clip-reference")
        return [reference, gr.Video(label=words.CLIP, sources=["upload"], height=240, buttons=[], elem_id="clip")]

    _build("clip", words.CLIP_HELP.format(frames=FRAMES_TO_HOLD), media, expressions, examples)


def build_pair(expressions: list[str], examples: list[list[str]]) -> None:
    def media() -> list[gr.components.Component]:
        with gr.Row():
            return [_photograph(words.PHOTOGRAPH, "pair-reference"), _photograph(words.PROBE, "pair-probe")]

    _build("pair", words.PAIR_HELP, media, expressions, examples)


def _build(
    name: str,
    help_text: str,
    media: Callable[[], list[gr.components.Component]],
    expressions: list[str],
    examples: list[list[str]],
) -> None:
    """Create a tab: the components of `media`, a choice of expression and a button, next to the card and the details.

    `page.js` handles their events.

    Args:
        name: of the route and of the HTML elements.
    """
    gr.HTML(f'<p class="lead">{help_text}</p>')
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            files = media()
            inputs = [*files, _expression(expressions)]
            check = gr.Button(words.CHECK, variant="primary", elem_id=f"check-{name}")
        with gr.Column(scale=3, min_width=320):
            verdict = gr.HTML(elem_id=f"{name}-verdict", min_height=130)
            details = gr.HTML(elem_id=f"{name}-details")
    for file in files:
        file.change(None, file, js="(file) => faceLiveNet.register(file)")
    checking = json.dumps(pictures.card("idle", words.CHECKING, ""))
    check.click(None, None, [verdict, details], js=f"() => [{checking}, '']").then(
        None, inputs, [verdict, details], js=f"(...all) => faceLiveNet.check('{name}', ...all)"
    )
    values = json.dumps([[*map(gradio_page.file_value, files), expression] for *files, expression in examples])
    dataset = gr.Dataset(components=inputs, samples=examples, type="index", label=words.EXAMPLES)
    dataset.click(None, dataset, inputs, js=f"(row) => faceLiveNet.example({values}[row])")


def _photograph(label: str, name: str) -> gr.Image:
    return gr.Image(label=label, sources=["upload"], height=220, buttons=[], elem_id=name, min_width=140)


def _expression(expressions: list[str]) -> gr.Dropdown:
    choices = [(words.SHOWN.get(name, name), name) for name in expressions]
    chosen = "happy" if "happy" in expressions else expressions[0]
    return gr.Dropdown(choices, value=chosen, label=words.EXPRESSION)
