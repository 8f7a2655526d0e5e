"""Build the model's folder for the Hub, publish it, or export the model to ONNX.

    python -m hub_card build --model pretrained --results docs/results --out runs/hub
    python -m hub_card push runs/hub OWNER/NAME --private --dry-run
    python -m hub_card push runs/hub OWNER/NAME --space
    python -m hub_card onnx --model pretrained --out runs/facelivenet.onnx

Exit status: 0 done, 2 refused or failed, with the reason on stderr.
"""

import argparse
import sys
from pathlib import Path

from checkpoints import WEIGHTS_HELP, find_checkpoint
from hub_card.folder import PushError
from startup import large_imports


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    from huggingface_hub.errors import StrictDataclassError

    try:
        for line in arguments.act(arguments):
            print(line)
    except (OSError, ValueError, PushError, StrictDataclassError) as error:
        print(f"hub_card: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hub_card", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("build", help="build the folder from a checkpoint and its results")
    command.add_argument("--model", required=True, help=WEIGHTS_HELP)
    command.add_argument(
        "--results",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder that `python -m evaluation all --out DIR` wrote",
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    command.set_defaults(act=_build)

    command = commands.add_parser("push", help="publish the folder in one commit")
    command.add_argument("folder", type=Path, metavar="DIR", help="folder that `build` wrote")
    command.add_argument("repo_id", metavar="REPO_ID", help="owner/name on the Hub")
    command.add_argument("--space", action="store_true", help="also publish the demo with these weights, as a Space")
    command.add_argument("--private", action="store_true", help="make the repository private if it has to be created")
    command.add_argument("--dry-run", action="store_true", help="check everything and list the files, but send nothing")
    command.set_defaults(act=_push)

    command = commands.add_parser("onnx", help="export the inference graph for ONNX Runtime")
    command.add_argument("--model", required=True, help=WEIGHTS_HELP)
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help=".onnx file to write")
    command.add_argument("--int8", action="store_true", help="weights in 8 bits, a quarter of the size")
    command.set_defaults(act=_onnx)
    return parser


def _build(arguments) -> list[str]:
    find_checkpoint(arguments.model)  # fail at once if it does not exist
    with large_imports():
        from hub_card.package import build  # takes seconds to import, and is not needed for publishing

    build(arguments.model, arguments.results, arguments.out)
    files = [path for path in arguments.out.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    return [f"{arguments.out}: {len(files)} files, {total / 1e6:.1f} MB; read {arguments.out / 'README.md'} first"]


def _push(arguments) -> list[str]:
    options = {"private": arguments.private, "space": arguments.space, "dry_run": arguments.dry_run}
    from hub_card.push import push

    lines = push(arguments.folder, arguments.repo_id, **options)
    return [*lines, "nothing was sent (--dry-run)"] if arguments.dry_run else lines


def _onnx(arguments) -> list[str]:
    find_checkpoint(arguments.model)
    with large_imports():
        from hub_card.onnx_export import export, quantise

    difference = export(arguments.model, arguments.out)
    if arguments.int8:
        quantise(arguments.out, arguments.out)
    size = arguments.out.stat().st_size
    return [f"{arguments.out}: {size / 1e6:.1f} MB; in float32 it differs from PyTorch by at most {difference:.1g}"]


if __name__ == "__main__":
    sys.exit(main())
