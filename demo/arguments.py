"""The command line of `app.py`: its options, and the errors that can be reported before PyTorch is imported.

Called by `app.py`; next: `server`.
"""

import argparse
import ipaddress
import math
import os
from pathlib import Path

from checkpoints import DEFAULT_MODEL, find_checkpoint, has_to_be_downloaded

STEP_SECONDS = 12.0  # that of authentication.session, which imports PyTorch


class StartError(RuntimeError):
    """Why the demo cannot start, in a sentence."""


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python app.py", description="Face authentication live before the camera.")
    parser.add_argument(
        "--model",
        default=os.environ.get("FACELIVENET_MODEL", str(DEFAULT_MODEL)),
        help="model folder, Hub id (owner/name@commit) or exported .onnx file (default: what FACELIVENET_MODEL, a "
        "Space's variable, names, or the shipped one; here %(default)s)",
    )
    parser.add_argument(
        "--host",
        default=os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1",
        help="address to listen on (default: what GRADIO_SERVER_NAME says, or 127.0.0.1; here %(default)s)",
    )
    parser.add_argument(
        "--port",
        default=os.environ.get("GRADIO_SERVER_PORT") or "7860",
        help="port to listen on, 0 for any free one (default: what GRADIO_SERVER_PORT says, or 7860; here %(default)s)",
    )
    parser.add_argument(
        "--root-path",
        default=os.environ.get("GRADIO_ROOT_PATH", ""),
        help="path below which a proxy serves the page, such as /face (default: what GRADIO_ROOT_PATH says)",
    )
    parser.add_argument(
        "--allowed-hosts",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names under which the page may be opened, besides addresses, localhost and this machine's own; * for any",
    )
    parser.add_argument(
        "--proxies",
        nargs="+",
        default=[],
        metavar="ADDRESS",
        help="addresses or networks of proxies whose X-Forwarded-For is believed (default: of none)",
    )
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
    parser.add_argument(
        "--enrolled",
        type=Path,
        metavar="FOLDER",
        help="let in the people whose encrypted templates (NAME.template) are in FOLDER; visitors give a name and no "
        "photograph of their own",
    )
    parser.add_argument("--operator", action="store_true", help="show similarity and probabilities on the page")
    return parser.parse_args(argv)


def require_model(name: str) -> None:
    """Raise StartError where there is no such model. One on the Hub or at an address is downloaded."""
    try:
        find_checkpoint(name)
    except OSError as error:
        raise StartError(f"no usable model: {error}. Name a trained checkpoint with --model DIR") from None


def require_usable(arguments: argparse.Namespace) -> None:
    """Find what is wrong with the arguments as far as that is known without the model's config, or its download.

    Raises:
        StartError: in a sentence.
    """
    if not has_to_be_downloaded(arguments.model):
        require_model(arguments.model)
    if arguments.enrolled and not arguments.enrolled.is_dir():
        raise StartError(f"--enrolled {arguments.enrolled}: no such folder")
    for proxy in arguments.proxies:
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            raise StartError(f"--proxies {proxy}: neither an address nor a network, such as 10.0.0.0/8") from None
    if not (math.isfinite(arguments.step_seconds) and arguments.step_seconds > 0):
        raise StartError(f"--step-seconds {arguments.step_seconds:g}: must be a number of seconds, more than 0")
