"""Loads the model and builds the demo, while `app.py` shows its first page.

`app.py` calls `load`. Read `server` next.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import fastapi
import gradio as gr
from transformers.utils import logging as transformers_logging

from authentication.authenticator import Authenticator
from authentication.session import STEP_SECONDS, TURNS
from authentication.template_store import TemplateStoreError
from checkpoints import no_usable_model
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

    The model has judged one face by then, because the first one takes seconds longer.

    Args:
        uploads: also serves the examples.
        root, hosts, framed_by: see `demo.gate.Gate`.

    Raises:
        StartError: the model cannot be loaded or does not fit the arguments, or an enrolled template cannot be used.
    """
    transformers_logging.disable_progress_bar()
    try:
        authenticator = Authenticator.from_pretrained(arguments.model)
    except OSError as error:
        raise StartError(no_usable_model(error)) from error
    if problem := find_problem(arguments, authenticator):
        raise StartError(problem)
    try:
        enrolled = Enrolled(arguments.enrolled, authenticator) if arguments.enrolled else None
    except (TemplateStoreError, OSError) as error:
        raise StartError(str(error)) from error
    actions = arguments.actions or list(authenticator.actions)
    live_tab = live.Live(
        authenticator,
        actions,
        arguments.challenge,
        arguments.step_seconds or STEP_SECONDS,
        arguments.operator,
        enrolled,
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
    """The whole page. examples: folder into which the examples are drawn."""
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


def find_problem(arguments: argparse.Namespace, authenticator: Authenticator) -> str | None:
    """Why the model does not fit the arguments; None if it does."""
    config = authenticator.config
    if "neutral" not in config.expressions:
        return f"{arguments.model}: has no neutral expression, with which every challenge starts"
    requested = list(dict.fromkeys([*(arguments.challenge or []), *(arguments.actions or authenticator.actions)]))
    actions = [name for name in (*config.expressions, *TURNS) if name != "neutral"]
    unknown = [name for name in requested if name not in actions]
    if unknown or not requested:
        return f"cannot request {', '.join(unknown) or 'any action'}: this model has {', '.join(actions)}"
    if without_sentence := [name for name in requested if name not in words.ASK]:
        return f"cannot request {', '.join(without_sentence)}: demo/words.py has no sentence for it"
    if config.similarity_threshold is None:
        return f"{arguments.model}: has no calibrated threshold, so nobody could be accepted"
    return None
