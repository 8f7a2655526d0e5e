"""The command line of `app.py`: its options, and the errors that can be reported before PyTorch is imported.

`app.py` calls it. Read `command` next.
"""

import argparse
import ipaddress
import math
import os
from pathlib import Path

from checkpoints import DEFAULT_MODEL, MODEL_HELP, find_checkpoint, has_to_be_downloaded, no_usable_model


class StartError(RuntimeError):
    """The demo cannot start; the message says why."""


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python app.py", description="Live face authentication in the browser.")
    parser.add_argument(
        "--model",
        default=os.environ.get("FACELIVENET_MODEL", str(DEFAULT_MODEL)),
        help=f"{MODEL_HELP} (default: the environment variable FACELIVENET_MODEL, else the shipped model; here "
        "%(default)s)",
    )
    parser.add_argument(
        "--host",
        default=os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1",
        help="address to listen on (default: GRADIO_SERVER_NAME, else 127.0.0.1; here %(default)s)",
    )
    parser.add_argument(
        "--port",
        default=os.environ.get("GRADIO_SERVER_PORT") or "7860",
        help="port to listen on, 0 for any free one (default: GRADIO_SERVER_PORT, else 7860; here %(default)s)",
    )
    parser.add_argument(
        "--root-path",
        default=os.environ.get("GRADIO_ROOT_PATH", ""),
        help="path below which a proxy serves the page, such as /face (default: GRADIO_ROOT_PATH)",
    )
    parser.add_argument(
        "--allowed-hosts",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names under which the page may be opened, besides IP addresses, localhost and this machine; * for any",
    )
    parser.add_argument(
        "--proxies",
        nargs="+",
        default=[],
        metavar="ADDRESS",
        help="addresses or networks of proxies whose X-Forwarded-For header is trusted (default: none)",
    )
    parser.add_argument("--step-seconds", type=float, help="time limit of each step (default: that of the session)")
    parser.add_argument(
        "--actions",
        nargs="+",
        metavar="ACTION",
        help="actions from which challenges are drawn: expressions, turn_left, turn_right (default: those of the "
        "model's config). Without turns, a flat photograph that is exchanged at the right time may pass",
    )
    parser.add_argument("--challenge", nargs="+", help="always request these actions; for demonstrations only")
    parser.add_argument(
        "--live-only",
        action="store_true",
        help="without the tabs for clips and photographs, which have no limit on attempts",
    )
    parser.add_argument(
        "--enrolled",
        type=Path,
        metavar="FOLDER",
        help="accept the people whose encrypted templates (NAME.template) are in FOLDER; visitors enter a name instead "
        "of a photograph",
    )
    parser.add_argument("--operator", action="store_true", help="show similarity and probabilities on the page")
    return parser.parse_args(argv)


def require_model(name: str) -> None:
    """Raise StartError if there is no such model. A model on the Hub or at an address is downloaded."""
    try:
        find_checkpoint(name)
    except OSError as error:
        raise StartError(no_usable_model(error)) from None


def require_usable(arguments: argparse.Namespace) -> None:
    """Check the arguments as far as possible without the model's config, and without a download.

    Raises:
        StartError: an argument is wrong.
    """
    if not has_to_be_downloaded(arguments.model):
        require_model(arguments.model)
    if arguments.enrolled and not arguments.enrolled.is_dir():
        raise StartError(f"--enrolled {arguments.enrolled}: no such folder")
    for proxy in arguments.proxies:
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            raise StartError(f"--proxies {proxy}: not an address or a network, such as 10.0.0.0/8") from None
    seconds = arguments.step_seconds
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise StartError(f"--step-seconds {seconds:g}: must be a number of seconds, more than 0")
