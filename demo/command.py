"""What `python app.py` does behind its first page: the model is loaded and the demo made ready for its visitors."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import fastapi
import gradio as gr
from transformers.utils import logging as transformers_logging

from authentication.authenticator import Authenticator
from authentication.session import TURNS
from authentication.template_store import TemplateStoreError
from demo import gradio_page, live, model, offline, words
from demo.arguments import StartError
from demo.enrolled import Enrolled
from demo.examples import REFERENCE, draw_examples
from demo.server import Application
from demo.uploads import Uploads

STYLE = Path(__file__).with_name("style.css")
SCRIPT = Path(__file__).with_name("page.js")


def load(
    arguments: argparse.Namespace, uploads: Uploads, root: str, hosts: Sequence[str], framed_by: str
) -> tuple[Application, fastapi.FastAPI]:
    """The handlers of all requests, and the application that calls them, with its page.

    The model has seen its first face by then, which takes seconds longer than the next.

    Args:
        uploads: keeps the examples too.
        root, hosts, framed_by: see `demo.gate.Gate`.

    Raises:
        StartError: the model cannot be loaded, or cannot serve these arguments, or no enrolled template can be used.
    """
    transformers_logging.disable_progress_bar()
    try:
        authenticator = Authenticator.from_pretrained(arguments.model)
    except OSError as error:
        raise StartError(f"no usable model: {error}. Name a trained checkpoint with --model DIR") from error
    if problem := complaint(arguments, authenticator):
        raise StartError(problem)
    try:
        enrolled = Enrolled(arguments.enrolled, authenticator) if arguments.enrolled else None
    except (TemplateStoreError, OSError) as error:
        raise StartError(str(error)) from error
    actions = arguments.actions or list(authenticator.actions)
    live_tab = live.Live(
        authenticator, actions, arguments.challenge, arguments.step_seconds, arguments.operator, enrolled
    )
    with_tabs = not (arguments.live_only or enrolled)
    offline_tabs = offline.Offline(authenticator, live_tab.frames, arguments.operator) if with_tabs else None

    examples = uploads.folder / "examples"
    examples.mkdir()
    gradio_page.before_building(examples)
    page = build(live_tab, offline_tabs, arguments.model, examples)
    uploads.keep(gradio_page.copies(page))
    uploads.keep(examples.iterdir())
    application = Application(live_tab, offline_tabs, uploads)
    app = application.build(root, hosts, framed_by)
    gradio_page.mount(app, page, root, STYLE, SCRIPT)
    authenticator.evidence(examples / REFERENCE)
    return application, app


def build(live_tab: live.Live, offline_tabs: offline.Offline | None, model_name: str, examples: Path) -> gr.Blocks:
    """The whole page. examples: a folder for the drawn ones."""
    authenticator = live_tab.authenticator
    expressions = list(authenticator.config.expressions)
    clips, pairs = draw_examples(examples)
    with gr.Blocks(title=words.TITLE, analytics_enabled=False) as page:
        gr.HTML(f"<h1>{words.TITLE}</h1><p>{words.SUBTITLE}</p>", elem_id="title")
        with gr.Tabs():
            with gr.Tab(words.TABS["live"]):
                live.build(live_tab, page)
            if offline_tabs is not None:
                with gr.Tab(words.TABS["clip"]):
                    offline.build_clip(expressions, clips)
                with gr.Tab(words.TABS["pair"]):
                    offline.build_pair(expressions, pairs)
            with gr.Tab(words.TABS["model"]):
                model.build(model_name, authenticator)
    return page


def complaint(arguments: argparse.Namespace, authenticator: Authenticator) -> str | None:
    """Why this model cannot serve these arguments."""
    config = authenticator.config
    if "neutral" not in config.expressions:
        return f"{arguments.model}: knows no neutral face, which every challenge starts from"
    asked = list(dict.fromkeys([*(arguments.challenge or []), *(arguments.actions or authenticator.actions)]))
    known = [name for name in (*config.expressions, *TURNS) if name != "neutral"]
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        return f"cannot ask for {', '.join(unknown) or 'any action'}: with this model there are {', '.join(known)}"
    if unsaid := [name for name in asked if name not in words.ASK]:
        return f"cannot ask for {', '.join(unsaid)}: demo/words.py has no sentence for it"
    if config.similarity_threshold is None:
        return f"{arguments.model}: has no calibrated threshold, so nobody could be accepted"
    return None
