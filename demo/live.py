"""The live tab: photographs of oneself, a challenge drawn by the server, the camera, the decision.

The browser holds a token and sends photographs and frames; template, challenge, clock and decision stay in
`authentication/`. Frames are judged in memory and never written to disk.
"""

import json
from functools import partial
from html import escape
from pathlib import Path

import gradio as gr

from authentication.attempt import Attempt, Moment, View
from authentication.authenticator import Authenticator
from authentication.limits import AttemptLimiter, TooManyAttemptsError
from authentication.reference import Reference, examine
from authentication.registry import RegistryFullError, SessionRegistry, UnknownSessionError
from authentication.session import STEP_SECONDS, Challenge, ChallengeSession, draw_challenge, with_pauses
from authentication.template import Template
from demo import pictures, words
from demo.components import CameraFrames, UploadedPhotographs
from demo.streams import Streams
from demo.uploads import UPLOAD_SECONDS, Uploads

FRAME_SECONDS = 0.1  # between the frames the browser sends, if the server keeps up
STREAM_SECONDS = 60  # of work for one stream, and of waiting for its next frame: then the place is free again
CAMERA = {"facingMode": "user", "width": {"ideal": 640}, "height": {"ideal": 480}}
STREAMS = 32  # open at the same time, most of them waiting for a frame
MOST_REFERENCES = 5


class Live:
    """The handlers of the tab's events. Everything that counts is in the registry, under a token the server made.

    Args:
        actions: expressions and turns to draw from.
        uploads: where the photographs are remembered, to be deleted with the page.
        fixed: ask for these instead, for demonstrations.
        step_seconds: time for each step.
        operator: show scores.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        actions: list[str],
        uploads: Uploads,
        fixed: list[str] | None = None,
        step_seconds: float = STEP_SECONDS,
        operator: bool = False,
    ):
        self.authenticator = authenticator
        self.actions = actions
        self.uploads = uploads
        self.fixed = fixed
        self.step_seconds = step_seconds
        self.operator = operator
        self.sessions = SessionRegistry()
        self.streams = Streams()
        self.limiter = AttemptLimiter(authenticator.config.similarity_threshold)

    def on_reference(self, photographs: list[str], request: gr.Request) -> str:
        """What there is to say about each photograph, with its aligned face."""
        return self._examine(photographs, request)[1] if photographs else ""

    def on_start(self, photographs: list[str], token: str, request: gr.Request):
        """Open an attempt: returns its token, the instruction, the steps, and the note below the photographs."""
        self.sessions.close(token)
        template, note = self._examine(photographs, request)
        if template is None:
            if not photographs:
                return (
                    "",
                    pictures.card("idle", words.WELCOME, words.NO_REFERENCE),
                    "",
                    _note("bad", words.NO_REFERENCE),
                )
            return "", pictures.card("idle", words.CANNOT_USE, words.SEE_NOTE), "", note
        address = request.client.host if request.client else ""
        session = ChallengeSession(self._challenge(), self.step_seconds, alternatives=self.actions)
        try:
            ticket = self.limiter.begin(address, template)
            attempt = Attempt(self.authenticator, template, session, partial(self.limiter.accepted, ticket))
            token = self.sessions.open(attempt)
        except TooManyAttemptsError as error:
            wait = f"{error.seconds / 60:.0f} minutes" if error.seconds > 90 else f"{error.seconds:.0f} seconds"
            return "", pictures.card("idle", words.WAIT, words.WAIT_HELP.format(wait=wait)), "", note
        except RegistryFullError:
            self.limiter.withdraw(ticket)
            return "", pictures.card("idle", words.FULL, words.FULL_HELP), "", note
        progress = session.progress()
        return token, pictures.instruction(progress), pictures.steps(progress), note

    def on_frame(self, frame: bytes | None, token: str):
        """Judge one frame: returns the token, instruction, steps, overlay, the operator's numbers, and the timeline."""
        if not token or frame is None:
            self.streams.end()
            return [gr.skip()] * 6
        try:
            view = self.sessions.observe(token, frame)
        except UnknownSessionError:
            self.streams.end()
            return "", pictures.card("idle", words.OVER, words.OVER_HELP), "", "", gr.skip(), gr.skip()
        self.streams.keep(token)
        progress, decision = view.progress, view.progress.decision
        timeline = ""
        if decision is not None:
            self.streams.end()
            token = ""
            timeline = pictures.timeline(view.moments, decision.threshold, self.operator)
        return (
            token,
            pictures.instruction(progress),
            pictures.steps(progress, view.advice),
            pictures.overlay(view),
            self._numbers(view) if self.operator else gr.skip(),
            timeline,
        )

    def _challenge(self) -> Challenge:
        return with_pauses(self.fixed) if self.fixed else draw_challenge(self.actions)

    def _examine(self, photographs: list[str], request: gr.Request) -> tuple[Template | None, str]:
        files = [Path(photograph) for photograph in photographs or []]
        if not files:
            return None, ""
        self.uploads.remember(request.session_hash, files)
        if len(files) > MOST_REFERENCES:
            return None, _note("bad", words.TOO_MANY_REFERENCES.format(most=MOST_REFERENCES))
        if not all(file.is_file() for file in files):
            return None, _note("bad", words.DELETED)
        template, references = examine(self.authenticator, files)
        return template, "".join(map(_about, references))

    def _numbers(self, view: View) -> str:
        decision = view.progress.decision or view.progress.frame
        caption = words.OPERATOR_FRAME.format(reason=decision.reason, rate=frame_rate(view.moments))
        return pictures.scores(decision, caption)


def frame_rate(moments: list[Moment], over: float = 2.0) -> float:
    """Frames per second of the last seconds."""
    recent = [moment.seconds for moment in moments[-100:] if moments[-1].seconds - moment.seconds <= over]
    return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 and recent[-1] > recent[0] else 0.0


def _about(reference: Reference) -> str:
    """A photograph's aligned face, and whether it can be used."""
    if reference.problem:
        return _note("bad", words.PROBLEMS[reference.problem].format(cause=reference.cause))
    advice = "; ".join(words.ADVICE[name] for name in reference.advice)
    text = words.USABLE_BUT.format(advice=advice) if advice else words.GOOD
    return _note("fair" if advice else "good", text, pictures.photograph(reference.face))


def _note(kind: str, text: str, picture: str = "") -> str:
    return f'<div class="note {kind}">{picture}<p>{escape(text)}</p></div>'


# The instruction is read out when it changes; start and end of an attempt switch the recording on and off.
ON_LOAD = """() => {
  const live = {'instruction': 'assertive', 'progress': 'off', 'note': 'polite'};
  for (const [id, how] of Object.entries(live)) document.getElementById(id)?.setAttribute('aria-live', how);
}"""
CHECK_CAMERA = """async (html, token) => {
  const cards = CARDS;
  const names = {'SecurityError': 'NotAllowedError', 'OverconstrainedError': 'NotFoundError',
                 'AbortError': 'NotReadableError'};
  if (!html.includes('card ask')) return [html, token];
  try {
    if (!navigator.mediaDevices) throw {name: 'InsecureContext'};
    const stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'user'}});
    stream.getTracks().forEach((track) => track.stop());
    return [html, token];
  } catch (error) {
    return [cards[names[error.name] || error.name] || cards.other, ''];
  }
}""".replace("CARDS", json.dumps(pictures.camera_problems()))  # Gradio shows nothing where the camera is refused
START_CAMERA = """async (html) => {
  const find = (title) => document.querySelector(`#camera [title="${title}"]`);
  if (!html.includes('card ask')) return;
  document.getElementById('instruction').scrollIntoView({block: 'start'});
  find('grant webcam access')?.querySelector('button').click();
  for (let tries = 0; tries < 300 && !find('stop recording'); tries++) {
    find('start recording')?.closest('button').click();
    await new Promise((done) => setTimeout(done, 200));
  }
}"""
STOP_CAMERA = """(html) => {
  const stop = document.querySelector('#camera [title="stop recording"]');
  if (/card (accepted|rejected|idle)/.test(html)) stop?.closest('button').click();
}"""


def build(live: Live, page: gr.Blocks) -> None:
    """The tab's components, wired to their handlers."""
    # A token is sent with every frame; it is read from the page and never from the server's session state, whose key
    # is the client's own choice.
    token = gr.Textbox(visible="hidden", elem_id="token")
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            reference = UploadedPhotographs(
                label=words.REFERENCE,
                sources=["upload", "webcam"],
                file_types=["image"],
                columns=2,
                height=300,
                buttons=[],
                interactive=True,
                elem_id="reference",
            )
            note = gr.HTML(f'<p class="small">{words.REFERENCE_HELP}</p>', elem_id="note")
            start = gr.Button(words.START, variant="primary", size="lg", elem_id="start")
            gr.HTML(f'<p class="small">{words.PRIVACY.format(minutes=UPLOAD_SECONDS // 60)}</p>')
            numbers = gr.HTML(visible=live.operator, elem_id="numbers")
        with gr.Column(scale=3, min_width=320):
            instruct = gr.HTML(pictures.card("idle", words.WELCOME, words.WELCOME_HELP), elem_id="instruction")
            steps = gr.HTML(pictures.coming(live.fixed or live.actions), elem_id="progress")
            with gr.Column(elem_id="stage"):
                camera = CameraFrames(
                    label=words.CAMERA,
                    sources=["webcam"],
                    streaming=True,
                    height=420,
                    webcam_options=gr.WebcamOptions(mirror=False, constraints={"video": CAMERA}),
                    elem_id="camera",
                )
                overlay = gr.HTML(elem_id="overlay")
            timeline = gr.HTML(elem_id="timeline")
    page.load(None, js=ON_LOAD)
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    reference.change(live.on_reference, reference, note, **quiet)
    started = start.click(live.on_start, [reference, token], [token, instruct, steps, note], **quiet)
    cleared = started.then(lambda: ("", ""), None, [overlay, timeline], **quiet)
    checked = cleared.then(None, [instruct, token], [instruct, token], js=CHECK_CAMERA)
    checked.then(None, instruct, js=START_CAMERA)
    instruct.change(None, instruct, js=STOP_CAMERA)
    camera.stream(
        live.on_frame,
        [camera, token],
        [token, instruct, steps, overlay, numbers, timeline],
        stream_every=FRAME_SECONDS,
        time_limit=STREAM_SECONDS,
        concurrency_limit=STREAMS,
        **quiet,
    )
