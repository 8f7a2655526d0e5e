"""The demo: a reference photograph, then expressions and turns of the head drawn at random, live before the camera.

    python app.py [--model DIR] [--host HOST] [--port 7860] [--operator]

The page is in `demo/`; what it shows is decided in `authentication/`.
"""

import argparse
import ipaddress
import logging
import math
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from demo.arguments import answer_at_once, parse_arguments

if __name__ == "__main__":
    answer_at_once()  # the other imports take seconds

import gradio as gr
import uvicorn
from transformers.utils import logging as transformers_logging

from authentication.authenticator import Authenticator
from authentication.session import TURNS
from authentication.template_store import TemplateStoreError
from demo import connections, gradio_page, live, model, offline, priorities, words, zero_gpu
from demo.enrolled import Enrolled
from demo.examples import REFERENCE, draw_examples
from demo.gate import SPACES_FRAMES
from demo.server import Application
from demo.uploads import Uploads

STYLE = Path(__file__).parent / "demo" / "style.css"
SCRIPT = Path(__file__).parent / "demo" / "page.js"
SECONDS_TO_END = 3  # for requests that are open when the server is told to end
SPACES_PROXIES = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")  # a Space is reached through these alone


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
    for proxy in arguments.proxies:
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            return f"--proxies {proxy}: neither an address nor a network, such as 10.0.0.0/8"
    if not (math.isfinite(arguments.step_seconds) and arguments.step_seconds > 0):
        return f"--step-seconds {arguments.step_seconds:g}: must be a number of seconds, more than 0"
    return None


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    priorities.set_up_process()
    connections.allow_connections()
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    for name in ("authentication", "demo"):
        logging.getLogger(name).setLevel(logging.INFO)
    transformers_logging.disable_progress_bar()
    try:
        authenticator = Authenticator.from_pretrained(arguments.model)
    except OSError as error:
        print(f"no usable model: {error}. Name a trained checkpoint with --model DIR", file=sys.stderr)
        return 2
    if problem := complaint(arguments, authenticator):
        print(problem, file=sys.stderr)
        return 2
    try:
        enrolled = Enrolled(arguments.enrolled, authenticator) if arguments.enrolled else None
        sockets = [listen(arguments.host, arguments.port)]
    except (TemplateStoreError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    live_tab = live.Live(
        authenticator,
        arguments.actions or list(authenticator.actions),
        arguments.challenge,
        arguments.step_seconds,
        arguments.operator,
        enrolled,
    )
    offline_tabs = (
        None if arguments.live_only or enrolled else offline.Offline(authenticator, live_tab.frames, arguments.operator)
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # after the server has ended: all is deleted then as well
    uploads = Uploads(os.environ.get("GRADIO_TEMP_DIR"))
    try:
        serve(arguments, live_tab, offline_tabs, uploads, sockets)
    except KeyboardInterrupt:
        pass
    finally:
        uploads.close()
    return 0


def serve(
    arguments: argparse.Namespace,
    live_tab: live.Live,
    offline_tabs: offline.Offline | None,
    uploads: Uploads,
    sockets: list[socket.socket],
) -> None:
    """Until the process is told to end."""
    uploads.sweep_regularly()
    examples = uploads.folder / "examples"
    examples.mkdir()
    gradio_page.before_building(examples)
    page = build(live_tab, offline_tabs, arguments.model, examples)
    uploads.keep(gradio_page.copies(page))
    uploads.keep(examples.iterdir())
    in_a_space = bool(os.environ.get("SPACE_ID"))
    hosts = [*arguments.allowed_hosts, *(("*", os.environ.get("SPACE_HOST", "")) if in_a_space else ())]  # it is public
    application = Application(live_tab, offline_tabs, uploads)
    root = arguments.root_path.rstrip("/")
    app = application.build(root, hosts, SPACES_FRAMES if in_a_space else "")
    gradio_page.mount(app, page, root, STYLE, SCRIPT)
    # The first face takes seconds longer than the next, for nobody to wait for.
    threading.Thread(target=live_tab.authenticator.evidence, args=[examples / REFERENCE], daemon=True).start()
    proxies = [*arguments.proxies, *(SPACES_PROXIES if in_a_space else ())]
    configuration = uvicorn.Config(
        app,
        http=connections.protocol(proxies),
        ws="none",
        h11_max_incomplete_event_size=connections.MOST_HEAD_BYTES,
        log_level="warning",
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies or None,
        timeout_graceful_shutdown=SECONDS_TO_END,
    )
    host, port = sockets[0].getsockname()[:2]
    print(f"* Running on http://{f'[{host}]' if ':' in host else host}:{port}{root}", flush=True)
    server = uvicorn.Server(configuration)
    application.is_ending = lambda: server.should_exit
    zero_gpu.report_start()
    server.run(sockets=sockets)


def listen(host: str, port: str) -> socket.socket:
    """A socket that listens.

    Raises:
        ValueError: the port is no number of a port.
        OSError: the port is taken, or the address is not this machine's; the message says so.
    """
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"--port {port}: a number from 0 to 65535 is expected")
    try:
        return socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise OSError(
            f"cannot listen on {host}, port {port}: {error.strerror}. Choose another one with --host or --port"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
