"""The tabs for what was photographed or filmed before: a clip, and two photographs."""

from html import escape
from pathlib import Path

import gradio as gr
from PIL import Image

from authentication.attempt import Moment
from authentication.authenticator import Authenticator
from authentication.probe import JudgedFrame, decide_probe, judge_frames
from authentication.reference import examine
from authentication.template import Template
from demo import pictures, words
from demo.components import UploadedClip, UploadedImage
from image_processing_facelivenet import Face, UnreadableImageError, load_image
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
        template, problem = self._template(reference)
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
        template, problem = self._template(reference)
        if template is None:
            return _problem(problem), ""
        try:
            frame, *more = judge_frames(self.authenticator, template, probe, expression)
        except (UnreadableImageError, OSError) as error:
            return _problem(str(error).replace(str(probe), Path(probe).name)), ""
        if more:
            return _problem(words.PROBE_IS_CLIP), ""
        faces = [self._face(reference), self._face(probe)] if frame.evidence else []
        return self._verdict(frame.decision), pair_row(frame.decision, faces)

    def _template(self, reference: str | None) -> tuple[Template | None, str]:
        if not reference:
            return None, words.NO_REFERENCE
        template, (about,) = examine(self.authenticator, [reference])
        return template, words.PROBLEMS[about.problem].format(cause=about.cause) if about.problem else ""

    def _face(self, photograph: str) -> str:
        image = load_image(photograph)
        evidence = self.authenticator.evidence(image)
        face = Face(evidence.box, evidence.landmarks, evidence.detection_probability)
        return pictures.photograph(Image.fromarray(self.authenticator.processor.align(image, face)))

    def _verdict(self, decision: Decision) -> str:
        numbers = pictures.scores(decision, decision.reason) if self.operator else ""
        return pictures.verdict(decision) + numbers


def pair_row(decision: Decision, faces: list[str]) -> str:
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
    return f'<div class="pair">{"".join(faces)}<table><tr>{heads}</tr><tr>{values}</tr></table></div>'


def _problem(text: str) -> str:
    return pictures.card("idle", words.CANNOT_CHECK, text)


def build_clip(offline: Offline, expressions: list[str], examples: list[list[str]]) -> None:
    gr.HTML(f'<p class="lead">{words.CLIP_HELP.format(frames=FRAMES_TO_HOLD)}</p>')
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            reference = _photograph(words.PHOTOGRAPH, "clip-reference")
            clip = UploadedClip(label=words.CLIP, sources=["upload"], height=240, buttons=[], elem_id="clip")
            expression = _expression(expressions)
            check = gr.Button(words.CHECK, variant="primary", elem_id="check-clip")
        with gr.Column(scale=3, min_width=320):
            verdict = gr.HTML(elem_id="clip-verdict", min_height=130)
            timeline = gr.HTML(elem_id="clip-timeline")
    inputs = [reference, clip, expression]
    _wire(check, offline.on_clip, inputs, [verdict, timeline])
    gr.Examples(examples, inputs, label=words.EXAMPLES, api_visibility="private")


def build_pair(offline: Offline, expressions: list[str], examples: list[list[str]]) -> None:
    gr.HTML(f'<p class="lead">{words.PAIR_HELP}</p>')
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            with gr.Row():
                reference = _photograph(words.PHOTOGRAPH, "pair-reference")
                probe = _photograph(words.PROBE, "pair-probe")
            expression = _expression(expressions)
            check = gr.Button(words.CHECK, variant="primary", elem_id="check-pair")
        with gr.Column(scale=3, min_width=320):
            verdict = gr.HTML(elem_id="pair-verdict", min_height=130)
            row = gr.HTML(elem_id="pair-row")
    inputs = [reference, probe, expression]
    _wire(check, offline.on_pair, inputs, [verdict, row])
    gr.Examples(examples, inputs, label=words.EXAMPLES, api_visibility="private")


def _photograph(label: str, name: str) -> gr.Image:
    return UploadedImage(label=label, sources=["upload"], height=220, buttons=[], elem_id=name, min_width=140)


def _expression(expressions: list[str]) -> gr.Dropdown:
    choices = [(words.SHOWN.get(name, name), name) for name in expressions]
    chosen = "happy" if "happy" in expressions else expressions[0]
    return gr.Dropdown(choices, value=chosen, label=words.EXPRESSION)


def _wire(button: gr.Button, handler, inputs: list, outputs: list) -> None:
    button.click(handler, inputs, outputs, concurrency_limit=1, show_progress_on=outputs[:1], api_visibility="private")
