"""The demo: a reference photograph, then expressions and turns of the head drawn at random, live before the camera.

    python app.py [--model DIR] [--host HOST] [--port 7860] [--operator]

The page is in `demo/`; what it shows is decided in `authentication/`.
"""

import argparse
import contextlib
import ctypes
import logging
import math
import os
import sys
import tempfile
import threading
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware
from transformers.utils import logging as transformers_logging

from authentication.authenticator import DEFAULT_MODEL, Authenticator
from authentication.session import STEP_SECONDS, TURNS
from demo import live, model, offline, words
from demo.components import refuse_downloads
from demo.examples import REFERENCE, draw_examples
from demo.routes import UsedRoutes
from demo.uploads import UPLOAD_SECONDS, Uploads

STYLE = Path(__file__).parent / "demo" / "style.css"


def build(live_tab: live.Live, offline_tabs: offline.Offline | None, model_name: str, examples: Path) -> gr.Blocks:
    """The whole page. examples: a folder for the drawn ones."""
    authenticator, uploads = live_tab.authenticator, live_tab.uploads
    expressions = list(authenticator.config.expressions)
    clips, pairs = draw_examples(examples)
    with gr.Blocks(title=words.TITLE, analytics_enabled=False, delete_cache=(60, UPLOAD_SECONDS)) as page:
        gr.HTML(f"<h1>{words.TITLE}</h1><p>{words.SUBTITLE}</p>", elem_id="title")
        with gr.Tabs():
            with gr.Tab(words.TABS["live"]):
                live.build(live_tab, page)
            if offline_tabs is not None:
                with gr.Tab(words.TABS["clip"]):
                    offline.build_clip(offline_tabs, uploads, expressions, clips)
                with gr.Tab(words.TABS["pair"]):
                    offline.build_pair(offline_tabs, uploads, expressions, pairs)
            with gr.Tab(words.TABS["model"]):
                model.build(model_name, authenticator)
        page.unload(uploads.on_leave)
    uploads.keep(file for block in page.blocks.values() for file in block.keep_in_cache)
    return page


def keep_memory_flat() -> None:
    """glibc gives each thread a heap of its own; frames that pass through dozens of them leave all full of holes."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").mallopt(-8, 2)  # M_ARENA_MAX


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python app.py", description="Face authentication live before the camera.")
    parser.add_argument(
        "--model",
        default=os.environ.get("FACELIVENET_MODEL", str(DEFAULT_MODEL)),
        help="model folder, Hub id (owner/name@commit) or exported .onnx file (default: what FACELIVENET_MODEL, a "
        "Space's variable, names, or the shipped one; here %(default)s)",
    )
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1, or GRADIO_SERVER_NAME)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--step-seconds", type=float, default=STEP_SECONDS, help="time for each step (default: %(default)g)"
    )
    parser.add_argument(
        "--actions",
        nargs="+",
        metavar="ACTION",
        help="draw from these: expressions, turn_left, turn_right (default: what the model's config lists). Without "
        "turns a flat photograph that is changed in the right moment may pass",
    )
    parser.add_argument(
        "--challenge", nargs="+", help="ask for these actions instead of drawing them; for demonstrations only"
    )
    parser.add_argument(
        "--live-only", action="store_true", help="leave out the tabs for clips and photographs, which count no attempts"
    )
    parser.add_argument("--operator", action="store_true", help="show similarity and probabilities on the page")
    return parser.parse_args(argv)


def complaint(arguments: argparse.Namespace, authenticator: Authenticator) -> str | None:
    """Why this model cannot serve these arguments."""
    config = authenticator.config
    if "neutral" not in config.expressions:
        return f"{arguments.model}: knows no neutral face, which every challenge starts from"
    asked = [*(arguments.challenge or []), *(arguments.actions or authenticator.actions)]
    known = [name for name in (*config.expressions, *TURNS) if name != "neutral"]
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        return f"cannot ask for {', '.join(unknown) or 'any action'}: with this model there are {', '.join(known)}"
    if unsaid := [name for name in asked if name not in words.ASK]:
        return f"cannot ask for {', '.join(unsaid)}: demo/words.py has no sentence for it"
    if config.similarity_threshold is None:
        return f"{arguments.model}: has no calibrated threshold, so nobody could be accepted"
    if not (math.isfinite(arguments.step_seconds) and arguments.step_seconds > 0):
        return f"--step-seconds {arguments.step_seconds:g}: must be a number of seconds, more than 0"
    return None


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    keep_memory_flat()
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("authentication").setLevel(logging.INFO)
    transformers_logging.disable_progress_bar()
    try:
        authenticator = Authenticator.from_pretrained(arguments.model)
    except OSError as error:
        print(f"no usable model: {error}. Name a trained checkpoint with --model DIR", file=sys.stderr)
        return 2
    if problem := complaint(arguments, authenticator):
        print(problem, file=sys.stderr)
        return 2
    live_tab = live.Live(
        authenticator,
        arguments.actions or list(authenticator.actions),
        Uploads(),
        arguments.challenge,
        arguments.step_seconds,
        arguments.operator,
    )
    with tempfile.TemporaryDirectory(prefix="facelivenet-") as examples:
        offline_tabs = None if arguments.live_only else offline.Offline(authenticator, arguments.operator)
        refuse_downloads()
        page = build(live_tab, offline_tabs, arguments.model, Path(examples))
        # The first face takes seconds longer than the next, for nobody to wait for.
        threading.Thread(target=authenticator.evidence, args=[Path(examples) / REFERENCE], daemon=True).start()
        page.queue(max_size=64).launch(
            server_name=arguments.host,
            server_port=arguments.port,
            css_paths=[STYLE],
            theme=gr.themes.Soft(primary_hue="blue", font=["system-ui", "sans-serif"]),
            footer_links=[],
            run_history=False,
            max_file_size="20mb",
            app_kwargs={"middleware": [Middleware(UsedRoutes)]},
            allowed_paths=[examples],
            state_session_capacity=live.STREAMS * 2,  # pages whose last values Gradio keeps in memory
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
