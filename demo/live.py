"""The live tab: the visitor's photographs, the challenge of the server, the camera, and the decision.

The browser has a token, and sends photographs and frames. Template, challenge, clock and decision stay in
`authentication/`. Frames are judged in memory and never written to disk. `server` calls the handlers. Read
`authentication.registry` next.
"""

import json
from functools import partial
from html import escape
from pathlib import Path
from threading import Event

import gradio as gr

from authentication.attempt import Attempt, Moment, View
from authentication.authenticator import Authenticator
from authentication.limits import AttemptLimiter, TooManyAttemptsError
from authentication.reference import Reference, examine
from authentication.registry import RegistryFullError, SessionRegistry, UnknownSessionError
from authentication.session import STEP_SECONDS, Challenge, ChallengeSession, draw_challenge, with_pauses
from authentication.template import Template
from demo import pictures, words
from demo.bounded import photograph_reader
from demo.enrolled import Enrolled
from demo.priorities import LiveFrames
from demo.uploads import UPLOAD_SECONDS

FRAME_SECONDS = 0.1  # between the frames that the browser sends, if the server is fast enough
MAX_REFERENCES = 5


class Live:
    """The handlers of the tab's requests. The state of an attempt is in the registry, under a token of the server.

    Args:
        actions: expressions and turns from which challenges are drawn.
        fixed: actions to request instead, for demonstrations.
        step_seconds: time limit of each step.
        operator: whether to show scores.
        enrolled: templates by name. With it, a visitor enters a name instead of a photograph.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        actions: list[str],
        fixed: list[str] | None = None,
        step_seconds: float = STEP_SECONDS,
        operator: bool = False,
        enrolled: Enrolled | None = None,
    ):
        self.authenticator = authenticator
        self.actions = actions
        self.fixed = fixed
        self.step_seconds = step_seconds
        self.operator = operator
        self.enrolled = enrolled
        self.frames = LiveFrames()
        self.sessions = SessionRegistry()
        self.limiter = AttemptLimiter(authenticator.config.similarity_threshold)

    def on_reference(self, photographs: list[Path], has_left: Event) -> list:
        """HTML: for each photograph its aligned face, and whether it can be used."""
        return [self._examine(photographs, has_left)[1] if photographs else ""]

    def on_start(self, photographs_or_name: list[Path] | str, token: str, address: str, has_left: Event) -> list:
        """Open an attempt: its token, the instruction, the steps, and the note below the photographs.

        The attempt is counted for the address before any photograph is read, so one without a face counts as well.

        Args:
            photographs_or_name: photographs, or the name of an enrolled person.
            token: of the visitor's previous attempt, which is closed.
            address: of the visitor.
            has_left: set when the visitor has left.
        """
        self.sessions.close(token)
        if not photographs_or_name:
            instruction_text = words.NO_NAME if self.enrolled else words.NO_REFERENCE
            return ["", pictures.card("idle", words.WELCOME, instruction_text), "", _note("bad", instruction_text)]
        note = None
        try:
            ticket = self.limiter.begin(address)
            if self.enrolled:
                template, note = self.enrolled.template(photographs_or_name), ""
            else:
                template, note = self._examine(photographs_or_name, has_left)
            if template is None:
                return ["", pictures.card("idle", words.CANNOT_USE, words.SEE_NOTE), "", note]
            self.limiter.name_face(ticket, template)
            session = ChallengeSession(self._challenge(), self.step_seconds, alternatives=self.actions)
            attempt = Attempt(self.authenticator, template, session, partial(self.limiter.accepted, ticket))
            token = self.sessions.open(attempt, partial(self.limiter.withdraw, ticket))
        except TooManyAttemptsError as error:
            wait = f"{error.seconds / 60:.0f} minutes" if error.seconds > 90 else f"{error.seconds:.0f} seconds"
            return ["", pictures.card("idle", words.WAIT, words.WAIT_HELP.format(wait=wait)), "", note]
        except RegistryFullError:
            self.limiter.withdraw(ticket)
            return ["", pictures.card("idle", words.FULL, words.FULL_HELP), "", note]
        progress = session.progress()
        return [token, pictures.instruction(progress), pictures.steps(progress), note]

    def on_frame(self, frame: bytes, token: str) -> list:
        """Judge one frame: the token, instruction, steps, overlay, the operator's numbers, and the timeline."""
        try:
            with self.frames.judging():
                view = self.sessions.observe(token, frame)
        except UnknownSessionError:
            return self.closed()
        progress, decision = view.progress, view.progress.decision
        timeline = ""
        if decision is not None:
            token = ""
            timeline = pictures.timeline(view.moments, decision.threshold, self.operator)
        return [
            token,
            pictures.instruction(progress),
            pictures.steps(progress, view.advice),
            pictures.overlay(view),
            self._numbers(view) if self.operator else None,
            timeline,
        ]

    def closed(self) -> list:
        """The answer to a frame whose attempt is not open."""
        return ["", pictures.card("idle", words.OVER, words.OVER_HELP), "", "", None, None]

    def _challenge(self) -> Challenge:
        return with_pauses(self.fixed) if self.fixed else draw_challenge(self.actions)

    def _examine(self, photographs: list[Path], has_left: Event) -> tuple[Template | None, str]:
        if len(photographs) > MAX_REFERENCES:
            return None, _note("bad", words.TOO_MANY_REFERENCES.format(most=MAX_REFERENCES))
        template, references = examine(self.authenticator, photographs, photograph_reader(has_left, self.frames))
        return template, "".join(map(_reference_note, references))

    def _numbers(self, view: View) -> str:
        decision = view.progress.decision or view.progress.frame
        caption = words.OPERATOR_FRAME.format(reason=decision.reason, rate=frame_rate(view.moments))
        return pictures.scores(decision, caption)


def frame_rate(moments: list[Moment], seconds: float = 2.0) -> float:
    """Frames per second during the last seconds."""
    recent = [moment.seconds for moment in moments[-100:] if moments[-1].seconds - moment.seconds <= seconds]
    return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 and recent[-1] > recent[0] else 0.0


def _reference_note(reference: Reference) -> str:
    """HTML: the aligned face of a photograph, and whether it can be used."""
    if reference.problem:
        return _note("bad", words.PROBLEMS[reference.problem].format(cause=reference.cause))
    advice = "; ".join(words.ADVICE[name] for name in reference.advice)
    text = words.USABLE_BUT.format(advice=advice) if advice else words.GOOD
    return _note("fair" if advice else "good", text, pictures.face_image(reference.face))


def _note(kind: str, text: str, face: str = "") -> str:
    return f'<div class="note {kind}">{face}<p>{escape(text)}</p></div>'


def build(live: Live, page: gr.Blocks) -> None:
    """Create the tab's components; `page.js` handles their events and sends the token with every frame."""
    token = gr.Textbox(visible="hidden", elem_id="token")
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            if live.enrolled:
                reference = gr.Textbox(label=words.NAME, info=words.NAME_HELP, max_lines=1, elem_id="name")
            else:
                reference = gr.Gallery(
                    label=words.REFERENCE,
                    sources=["upload", "webcam"],
                    file_types=["image"],
                    columns=2,
                    height=300,
                    buttons=[],
                    interactive=True,
                    elem_id="reference",
                )
            help_text = "" if live.enrolled else f'<p class="small">{words.REFERENCE_HELP}</p>'
            note = gr.HTML(help_text, elem_id="note")
            start = gr.Button(words.START, variant="primary", size="lg", elem_id="start")
            minutes = UPLOAD_SECONDS // 60
            privacy = words.PRIVACY_ENROLLED if live.enrolled else words.PRIVACY.format(minutes=minutes)
            gr.HTML(f'<p class="small">{privacy}</p>')
            numbers = gr.HTML(visible=live.operator, elem_id="numbers")
        with gr.Column(scale=3, min_width=320):
            instruct = gr.HTML(pictures.card("idle", words.WELCOME, words.WELCOME_HELP), elem_id="instruction")
            steps = gr.HTML(pictures.coming(live.fixed or live.actions), elem_id="progress")
            with gr.Column(elem_id="stage"):
                gr.HTML(f'<video id="camera" muted playsinline aria-label="{escape(words.CAMERA)}"></video>')
                overlay = gr.HTML(elem_id="overlay")
            timeline = gr.HTML(elem_id="timeline")
    texts = {
        "deleted": pictures.card("idle", words.CANNOT_USE, words.DELETED),
        "busy": pictures.card("idle", words.BUSY, words.BUSY_HELP),
        "loading": pictures.card("idle", words.LOADING, words.LOADING_HELP),
        "none": pictures.card("idle", words.NO_ANSWER, words.NO_ANSWER_HELP),
        **pictures.camera_problems(),
    }
    page.load(None, js=f"() => faceLiveNet.opened({1000 * FRAME_SECONDS:g}, {json.dumps(texts)})")
    if not live.enrolled:
        reference.change(None, reference, note, js="(photographs) => faceLiveNet.reference(photographs)")
    outputs = [token, instruct, steps, overlay, numbers, timeline]
    start.click(None, [reference, token], [token, instruct, steps, note], js="(...all) => faceLiveNet.start(...all)")
    # The loop of frames runs outside of Gradio's events. It presses this button to show the answers.
    gr.Button(visible="hidden", elem_id="show").click(None, None, outputs, js="() => faceLiveNet.shown")
