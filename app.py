"""The demo: a reference photograph, a neutral face, then an expression drawn at random, live before the camera.

    python app.py [--model DIR] [--host HOST] [--port 7860] [--operator]

The browser sends a photograph and frames and shows HTML. Template, challenge, clock and decision stay in
`authentication/`; frames are judged in memory and never written to disk.
"""

import argparse
import sys
from functools import partial
from html import escape
from pathlib import Path

import gradio as gr
from transformers.utils import logging as transformers_logging

from authentication.authenticator import DEFAULT_MODEL, Authenticator, SeveralFacesError
from authentication.registry import RegistryFullError, SessionRegistry, UnknownSessionError
from authentication.session import TIMEOUT_SECONDS, ChallengeSession, Progress, draw_challenge
from authentication.template import Template
from image_processing_facelivenet import NoFaceError, UnreadableImageError
from pipeline_facelivenet import FRAMES_TO_HOLD, Decision, reject

FRAME_SECONDS = 0.25  # between the frames the browser sends
STREAM_SECONDS = 300  # then the browser has to start the camera again, so that nobody holds a place for ever
UPLOAD_SECONDS = 600  # then the server deletes the reference photograph
STREAMS = 8  # people before their cameras at the same time

ASK = {
    "neutral": "Look into the camera with a neutral face",
    "anger": "Now look angry: draw your brows together, press your lips",
    "disgust": "Now look disgusted: wrinkle your nose",
    "fear": "Now look frightened: open your eyes wide, stretch your lips",
    "happy": "Now smile broadly",
    "sad": "Now look sad: pull the corners of your mouth down",
    "surprise": "Now look surprised: raise your brows, open your mouth",
    "contempt": "Now look contemptuous: raise one corner of your mouth",
}
HINTS = {
    "no_face": "No face in view: come closer, face the camera, and let light fall on you.",
    "several_faces": "More than one face in view: be alone before the camera.",
    "different_person": "The face does not match the reference yet: look straight ahead, without a mask or sunglasses.",
    "wrong_expression": "Hold the expression a little more clearly.",
    "no_frames": "The camera's picture could not be read.",
    "accepted": "Good. Hold it.",
}
MOUTHS = {  # in the middle of a 100 x 100 face
    "neutral": "M32 66 H68",
    "happy": "M28 58 Q50 88 72 58 Z",
    "surprise": "M50 60 a9 11 0 1 0 .1 0 Z",
    "sad": "M30 74 Q50 54 70 74",
    "anger": "M34 70 Q50 60 66 70",
}
EYES = '<circle class="eye" cx="35" cy="40" r="5"/><circle class="eye" cx="65" cy="40" r="5"/>'
TICK, CROSS = '<path d="M28 52 L44 68 L72 36"/>', '<path d="M33 33 L67 67 M67 33 L33 67"/>'


def icon(inside: str) -> str:
    return f'<svg viewBox="0 0 100 100" aria-hidden="true"><circle cx="50" cy="50" r="45"/>{inside}</svg>'


def card(kind: str, title: str, text: str, picture: str = "") -> str:
    """The large box that says what to do, or what was decided; kind is a CSS class."""
    return f'<div class="card {kind}">{picture}<div><h2>{escape(title)}</h2><p>{escape(text)}</p></div></div>'


WELCOME = card("idle", "Give a reference photograph", "Then press Start. You will be asked for two expressions.")


def instruction(progress: Progress) -> str:
    """What the person has to do now, or the decision with its reason; it changes only when that does."""
    decision = progress.decision
    if decision is None:
        text = "Hold it for a moment." if progress.step != "start" else "Allow the camera if asked."
        mouth = MOUTHS.get(progress.required_expression)
        face = icon(f'{EYES}<path d="{mouth}"/>') if mouth else ""
        return card("ask", ASK[progress.required_expression], text, face)
    if decision.accepted:
        return card("accepted", "Accepted", "You are the person on the reference photograph.", icon(TICK))
    return card("rejected", "Rejected", f"{decision.message} Press Start to try again.", icon(CROSS))


def meter(progress: Progress) -> str:
    """Both steps with the frames held, a hint about the newest frame, and the time left."""
    done = {"start": 0, "neutral": 0, "expression": 1, "decided": 2}[progress.step]
    if progress.decision is not None and not progress.decision.accepted:
        done = 0
    steps = []
    for number, name in enumerate(("neutral", progress.challenge)):
        held = FRAMES_TO_HOLD if number < done else progress.held if number == done else 0
        dots = "".join(f'<i class="{"on" if dot < held else ""}"></i>' for dot in range(FRAMES_TO_HOLD))
        hidden = number == 1 and progress.step in ("start", "neutral")  # the challenge is a surprise until its turn
        steps.append(f'<span class="step">{number + 1} · {"?" if hidden else escape(name)} {dots}</span>')
    hint = time = ""
    if progress.decision is None and progress.frame is not None:
        reason = progress.frame.reason
        hint = HINTS.get(reason, HINTS["different_person"] if "different_person" in reason else "")
        time = f"{progress.seconds_left:.0f} s left"
    return (
        f'<div class="meter">{"".join(steps)}<span class="time">{time}</span></div><p class="hint">{escape(hint)}</p>'
    )


def scores(progress: Progress) -> str:
    """The operator's table, of the newest frame: similarity against the threshold, every expression's probability."""
    decision = progress.decision or progress.frame
    if decision is None:
        return ""
    known = decision.similarity is not None and decision.threshold is not None
    rows = [("similarity", decision.similarity, f" (threshold {decision.threshold:.3f})")] if known else []
    rows += [(name, probability, "") for name, probability in decision.expression_probabilities.items()]
    cells = "".join(
        f'<tr><th>{escape(name)}</th><td><b style="width:{max(value, 0):.0%}"></b></td><td>{value:.3f}{note}</td></tr>'
        for name, value, note in rows
    )
    return f'<table class="scores"><caption>{escape(decision.reason)}</caption>{cells}</table>'


class Demo:
    """The handlers of the page's events. Everything that counts is in the registry, under a token the server made."""

    def __init__(self, authenticator: Authenticator, challenges: list[str], timeout: float, operator: bool):
        self.authenticator = authenticator
        self.challenges = challenges
        self.timeout = timeout
        self.operator = operator
        self.sessions = SessionRegistry(lifetime=timeout + 90)

    def template(self, reference: str | None) -> tuple[Template | None, str]:
        """The template of the reference photograph, or None, and what to tell about it."""
        if not reference:
            return None, "Please give a reference photograph first."
        if not Path(reference).is_file():
            return None, "The photograph has been deleted by now. Please give it again."
        try:
            return self.authenticator.template([reference]), "One face found. This photograph can be used."
        except NoFaceError:
            return None, "No face was found. Use a frontal photograph in good light."
        except SeveralFacesError:
            return None, "Several faces were found. Use a photograph of one person alone."
        except UnreadableImageError as error:
            cause = str(error).removeprefix(f"{reference}: ")
            return None, f"The photograph cannot be read ({cause})."
        except ValueError:  # the network's own: no usable embedding
            return None, "The photograph cannot be used. Try another one."

    def on_reference(self, reference: str | None) -> str:
        if not reference:
            return ""
        template, message = self.template(reference)
        return f'<p class="note {"good" if template else "bad"}">{escape(message)}</p>'

    def on_start(self, reference: str | None, token: str):
        """Open a session: returns its token, the instruction, the meter and the note below the photograph."""
        self.sessions.close(token)
        template, message = self.template(reference)
        if template is None:
            note = f'<p class="note bad">{escape(message)}</p>'
            return "", card("idle", "The reference photograph cannot be used", message), "", note
        session = ChallengeSession(draw_challenge(self.challenges), self.timeout)
        try:
            token = self.sessions.open(session, template)
        except RegistryFullError:
            return "", card("idle", "Too many people at once", "Please try again in a minute."), "", gr.skip()
        progress = session.progress(0.0)
        return token, instruction(progress), meter(progress), gr.skip()

    def on_frame(self, frame, token: str):
        """Judge one frame (PIL image): returns the token, the instruction, the meter and the operator's numbers."""
        if not token or frame is None:
            return gr.skip(), gr.skip(), gr.skip(), gr.skip()
        try:
            progress = self.sessions.observe(token, partial(self.judge, frame))
        except UnknownSessionError:
            return "", card("idle", "This attempt is over", "Press Start for a new one."), "", gr.skip()
        token = "" if progress.decision else token
        return token, instruction(progress), meter(progress), scores(progress) if self.operator else gr.skip()

    def judge(self, frame, template: Template, required_expression: str) -> Decision:
        try:
            return self.authenticator.judge(template, frame, required_expression)
        except UnreadableImageError:
            return reject("no_frames", required_expression)


CSS = """
.gradio-container { max-width: 1180px !important; margin: auto; }
.html-container { padding: 0 !important; }
[data-testid=status-tracker], #camera .top-panel, #reference:not(:has(img)) .top-panel { display: none !important; }
#title h1 { font-size: 2rem; margin: .4rem 0 .1rem; }
#title p { font-size: 1.1rem; margin: 0; }
.small { opacity: .75; font-size: .9rem; margin: 0; }
.card { display: flex; align-items: center; gap: 1.2rem; min-height: 124px; padding: 1.1rem 1.5rem; border-radius: 14px;
  border: 2px solid var(--border-color-primary); background: var(--background-fill-secondary); }
.card * { color: inherit !important; }
.card h2 { font-size: 1.55rem; line-height: 1.25; margin: 0 0 .3rem; }
.card p { font-size: 1.05rem; margin: 0; }
.card svg { width: 84px; flex: none; fill: none; stroke: currentColor; stroke-width: 5; stroke-linecap: round; }
.card svg .eye { fill: currentColor; stroke: none; }
.card.ask { background: #eef4ff; border-color: #3b6fd4; color: #17356e; }
.card.accepted { background: #e7f6ec; border-color: #1d8348; color: #0f5129; }
.card.rejected { background: #fdecea; border-color: #b8332a; color: #7c1d16; }
.meter { display: flex; gap: 1.6rem; align-items: center; font-size: 1rem; min-height: 1.6rem; }
.meter .time { margin-left: auto; font-variant-numeric: tabular-nums; }
.meter i { display: inline-block; width: .8rem; height: .8rem; margin-left: .25rem; border-radius: 50%;
  border: 2px solid #3b6fd4; vertical-align: -.08rem; }
.meter i.on { background: #3b6fd4; }
.hint { margin: .4rem 0 0 !important; font-size: 1rem; }
#progress { min-height: 3.6rem; }
#note { min-height: 1.6rem; }
.note { margin: 0 !important; font-weight: 600; }
.note.good { color: #1d8348; } .note.bad { color: #b8332a; }
.scores { width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; } .scores caption { text-align: left; }
.scores, .scores * { border: 0 !important; text-align: left; font-weight: 400; }
.scores th, .scores td { padding: 0 .4rem !important; }
.scores td:nth-child(2) { width: 35%; } .scores b { display: block; height: .7rem; background: #3b6fd4; }
"""

# The instruction is read out when it changes; start and end of an attempt switch the recording on and off.
ANNOUNCE = "() => document.getElementById('instruction').setAttribute('aria-live', 'assertive')"
START_CAMERA = """async (html) => {
  const find = (title) => document.querySelector(`#camera [title="${title}"]`);
  if (!html.includes('card ask')) return;
  find('grant webcam access')?.querySelector('button').click();
  for (let tries = 0; tries < 300 && !find('stop recording'); tries++) {
    find('start recording')?.closest('button').click();
    await new Promise((done) => setTimeout(done, 200));
  }
}"""
STOP_CAMERA = """(html) => {
  const stop = document.querySelector('#camera [title="stop recording"]');
  if (html.includes('card accepted') || html.includes('card rejected')) stop?.closest('button').click();
}"""


def build(demo: Demo) -> gr.Blocks:
    """The page, its components wired to the demo's handlers."""
    with gr.Blocks(title="FaceLiveNet+", analytics_enabled=False, delete_cache=(60, UPLOAD_SECONDS)) as page:
        gr.HTML(
            "<h1>FaceLiveNet+</h1><p>You are let in when your face matches the reference photograph "
            "<em>and</em> you show the expressions you are asked for.</p>",
            elem_id="title",
        )
        token = gr.State("")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                reference = gr.Image(
                    label="1 · Reference photograph", sources=["upload"], height=380, buttons=[], elem_id="reference"
                )
                # The upload is handed on as the file it is: the image processor reads it, with errors for people.
                reference.preprocess = lambda payload: payload.path if payload else None
                note = gr.HTML(elem_id="note")
                start = gr.Button("2 · Start", variant="primary", size="lg", elem_id="start")
                gr.HTML(
                    '<p class="small">The camera\'s pictures are judged at once and never stored. '
                    f"The photograph is deleted after {UPLOAD_SECONDS // 60} minutes.</p>"
                )
                numbers = gr.HTML(visible=demo.operator)
            with gr.Column(scale=3, min_width=480):
                instruct = gr.HTML(WELCOME, elem_id="instruction")
                progress = gr.HTML(elem_id="progress")
                camera = gr.Image(
                    label="3 · Camera",
                    sources=["webcam"],
                    streaming=True,
                    type="pil",
                    height=420,
                    webcam_options=gr.WebcamOptions(
                        mirror=False, constraints={"video": {"width": {"ideal": 640}, "height": {"ideal": 480}}}
                    ),
                    elem_id="camera",
                )
        page.load(None, js=ANNOUNCE)
        reference.change(demo.on_reference, reference, note, show_progress="hidden", api_visibility="private")
        started = start.click(
            demo.on_start,
            [reference, token],
            [token, instruct, progress, note],
            show_progress="hidden",
            api_visibility="private",
        )
        started.then(None, instruct, js=START_CAMERA)
        instruct.change(None, instruct, js=STOP_CAMERA)
        camera.stream(
            demo.on_frame,
            [camera, token],
            [token, instruct, progress, numbers],
            stream_every=FRAME_SECONDS,
            time_limit=STREAM_SECONDS,
            concurrency_limit=STREAMS,
            show_progress="hidden",
            api_visibility="private",
        )
    return page


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python app.py", description="Face authentication live before the camera.")
    parser.add_argument("--model", default=str(DEFAULT_MODEL), help="model folder or Hub id (default: %(default)s)")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1, or GRADIO_SERVER_NAME)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, help="seconds for one attempt (%(default)s)")
    parser.add_argument("--challenge", help="ask for this expression instead of drawing one; for demonstrations only")
    parser.add_argument("--operator", action="store_true", help="show similarity and probabilities on the page")
    arguments = parser.parse_args(argv)
    transformers_logging.disable_progress_bar()
    try:
        authenticator = Authenticator.from_pretrained(arguments.model)
    except OSError as error:
        print(f"no usable model: {error}. Name a trained checkpoint with --model DIR", file=sys.stderr)
        return 2
    challenges = [arguments.challenge] if arguments.challenge else list(authenticator.challenges)
    unknown = [name for name in challenges if name not in authenticator.config.expressions or name == "neutral"]
    if unknown or not challenges:
        known = ", ".join(name for name in authenticator.config.expressions if name != "neutral")
        print(f"cannot ask for {unknown or 'any expression'}: this model knows {known}", file=sys.stderr)
        return 2
    if authenticator.config.similarity_threshold is None:
        print(f"{arguments.model}: has no calibrated threshold, so nobody could be accepted", file=sys.stderr)
        return 2
    page = build(Demo(authenticator, challenges, arguments.timeout, arguments.operator))
    page.launch(
        server_name=arguments.host,
        server_port=arguments.port,
        css=CSS,
        theme=gr.themes.Soft(primary_hue="blue", font=["system-ui", "sans-serif"]),
        footer_links=[],
        run_history=False,
        max_file_size="20mb",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
