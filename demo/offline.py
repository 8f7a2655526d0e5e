"""The tabs for what was photographed or filmed before: a clip, and two photographs."""

from collections.abc import Callable
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np

from authentication.attempt import Moment
from authentication.authenticator import Authenticator
from authentication.probe import JudgedFrame, decide_probe, judge_frames
from authentication.reference import examine
from authentication.template import Template
from demo import pictures, words
from demo.components import UploadedClip, UploadedImage
from demo.uploads import Uploads
from image_processing_facelivenet import UnreadableImageError, load_image
from pipeline_facelivenet import FRAMES_TO_HOLD, Decision


class Offline:
    """The handlers of both tabs. operator: show scores."""

    def __init__(self, authenticator: Authenticator, operator: bool = False):
        self.authenticator = authenticator
        self.operator = operator

    def on_clip(self, reference: str | None, clip: str | None, expression: str, progress=gr.Progress()):  # noqa: B008
        """The decision about a clip: its card and the timeline."""
        if not clip:
            return _problem(words.CLIP_FIRST), ""
        template, problem, _ = self._template(reference)
        if template is None:
            return _problem(problem), ""
        frames: list[JudgedFrame] = []
        try:
            for frame in judge_frames(self.authenticator, template, clip, expression):
                frames.append(frame)
                progress((len(frames), None), desc=words.CLIP_READING, unit="frames")
        except (UnreadableImageError, OSError) as error:
            return _problem(str(error).replace(str(clip), Path(clip).name)), ""
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
        return self._verdict(decision), timeline

    def on_pair(self, reference: str | None, probe: str | None, expression: str):
        """The decision about a photograph: its card, the row of what was asked and seen, and both aligned faces."""
        if not probe:
            return _problem(words.PROBE_FIRST), ""
        template, problem, face = self._template(reference)
        if template is None:
            return _problem(problem), ""
        try:
            frame = next(judge_frames(self.authenticator, template, probe, expression))
            if frame.seconds is not None:
                return _problem(words.PROBE_IS_CLIP), ""
            picture = load_image(probe)
        except (UnreadableImageError, OSError) as error:
            return _problem(str(error).replace(str(probe), Path(probe).name)), ""
        faces = [face, self.authenticator.crop(picture, frame.evidence)] if frame.evidence else []
        return self._verdict(frame.decision), pair_row(frame.decision, faces)

    def _template(self, reference: str | None) -> tuple[Template | None, str, np.ndarray | None]:
        """The template, or what is wrong with the photograph; and its aligned face."""
        if not reference:
            return None, words.NO_REFERENCE, None
        template, (about,) = examine(self.authenticator, [reference])
        problem = words.PROBLEMS[about.problem].format(cause=about.cause) if about.problem else ""
        return template, problem, about.face

    def _verdict(self, decision: Decision) -> str:
        numbers = pictures.scores(decision, decision.reason) if self.operator else ""
        return pictures.verdict(decision) + numbers


def pair_row(decision: Decision, faces: list[np.ndarray]) -> str:
    """A row as in the paper's Table 6: the two faces, same person or not, asked and seen expression, the decision."""
    person = (
        words.NOT_KNOWN if decision.similarity is None else words.SAME if decision.same_identity else words.NOT_SAME
    )
    seen = words.SHOWN.get(decision.expression, decision.expression) if decision.expression else words.NOT_KNOWN
    cells = {
        words.ROW_PERSON: person,
        words.ROW_ASKED: words.SHOWN.get(decision.required_expression, decision.required_expression),
        words.ROW_SEEN: seen,
        words.ROW_DECISION: words.ACCEPTED if decision.accepted else words.REJECTED,
    }
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in cells)
    values = "".join(f"<td>{escape(value)}</td>" for value in cells.values())
    shown = "".join(map(pictures.photograph, faces))
    return f'<div class="pair">{shown}<table><tr>{heads}</tr><tr>{values}</tr></table></div>'


def _problem(text: str) -> str:
    return pictures.card("idle", words.CANNOT_CHECK, text)


def build_clip(offline: Offline, uploads: Uploads, expressions: list[str], examples: list[list[str]]) -> None:
    def media() -> list[gr.components.Component]:
        reference = _photograph(words.PHOTOGRAPH, "clip-reference")
        return [reference, UploadedClip(label=words.CLIP, sources=["upload"], height=240, buttons=[], elem_id="clip")]

    help_text = words.CLIP_HELP.format(frames=FRAMES_TO_HOLD)
    _build("clip", help_text, media, uploads, expressions, offline.on_clip, examples)


def build_pair(offline: Offline, uploads: Uploads, expressions: list[str], examples: list[list[str]]) -> None:
    def media() -> list[gr.components.Component]:
        with gr.Row():
            return [_photograph(words.PHOTOGRAPH, "pair-reference"), _photograph(words.PROBE, "pair-probe")]

    _build("pair", words.PAIR_HELP, media, uploads, expressions, offline.on_pair, examples)


def _build(
    name: str,
    help_text: str,
    media: Callable[[], list[gr.components.Component]],
    uploads: Uploads,
    expressions: list[str],
    handler: Callable,
    examples: list[list[str]],
) -> None:
    """A tab: what `media` makes, an expression and a button; beside them the card and what else the handler returns."""
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
        file.change(
            uploads.on_change,
            file,
            trigger_mode="multiple",  # of two in a row the first is a file as well
            show_progress="hidden",
            api_visibility="private",
        )
    check.click(
        handler,
        inputs,
        [verdict, details],
        concurrency_limit=1,
        show_progress_on=[verdict],
        api_visibility="private",
    )
    gr.Examples(examples, inputs, label=words.EXAMPLES, api_visibility="private")


def _photograph(label: str, name: str) -> gr.Image:
    return UploadedImage(label=label, sources=["upload"], height=220, buttons=[], elem_id=name, min_width=140)


def _expression(expressions: list[str]) -> gr.Dropdown:
    choices = [(words.SHOWN.get(name, name), name) for name in expressions]
    chosen = "happy" if "happy" in expressions else expressions[0]
    return gr.Dropdown(choices, value=chosen, label=words.EXPRESSION)
