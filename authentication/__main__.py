"""The command line: does a probe show the person of the reference, with the requested expression?

    python -m authentication REFERENCE PROBE… --expression happy

Exit status: 0 accepted, 1 rejected, 2 unusable input, with the reason on stderr. Read `command` next.
"""

import argparse
import os
import re
import sys

from checkpoints import DEFAULT_MODEL, MODEL_HELP, find_checkpoint, no_usable_model
from startup import large_imports

FRAMES_TO_HOLD = 3  # as in pipeline_facelivenet, which takes seconds to import
DESCRIPTION = f"""\
Accepts a person whose face matches the reference photograph and shows the requested expression; rejects all others.

REFERENCE is a photograph of one person, with nobody else on it, or an encrypted template (--save-template).
Each PROBE is a photograph or a video clip.
  A photograph is accepted if its face matches and shows the expression.
  A clip is accepted if {FRAMES_TO_HOLD} consecutive sampled frames (four a second) are accepted and it shows nobody
  else: at least half of its faces match, and fewer than {FRAMES_TO_HOLD} of them are clearly of another person.
  Several probes are accepted if at least one is accepted and all of them show the same person.
  A probe with a second face is rejected. Probes that cannot be read are reported and skipped."""

EXAMPLES = """\
examples:
  python -m authentication anna.jpg today.jpg --expression happy
  python -m authentication anna.jpg today.mp4 --expression surprise --json --show-frames
  python -m authentication anna.jpg --reference anna2.jpg --reference anna3.jpg today.jpg --expression neutral

exit status: 0 accepted, 1 rejected, 2 unusable input (the reason is on stderr)"""


def _may_exist(name: str) -> bool:
    # Addresses and encoded data are checked when they are opened. An image in base64 must not be printed.
    return os.path.lexists(name) or ":" in name or re.fullmatch(r"[\w+/\s=-]{64,}", name) is not None


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m authentication",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first_reference", metavar="REFERENCE", help="photograph of the person, with nobody else on it")
    parser.add_argument("probes", metavar="PROBE", nargs="+", help="photograph or clip to check")
    parser.add_argument("--expression", required=True, help="the requested expression, such as happy")
    parser.add_argument(
        "--reference", metavar="MORE", action="append", default=[], help="a further reference photograph (repeatable)"
    )
    parser.add_argument(
        "--allow-unlike", action="store_true", help="accept references that seem to be of different people"
    )
    parser.add_argument(
        "--model",
        default=str(DEFAULT_MODEL),
        help=f"{MODEL_HELP} (default: the shipped one, %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the decision as JSON")
    parser.add_argument(
        "--save-template",
        metavar="FILE",
        help="save the references as an encrypted template, NAME.template; see `authentication.template_store`",
    )
    parser.add_argument("--show-frames", action="store_true", help="also print the evidence of every frame")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = parse_arguments(argv)
    try:
        find_checkpoint(arguments.model)
    except OSError as error:
        print(no_usable_model(error), file=sys.stderr)
        return 2
    for reference in (arguments.first_reference, *arguments.reference):
        if not _may_exist(reference):
            print(f"the reference cannot be used: {reference}: no such file", file=sys.stderr)
            return 2
    if not any(map(_may_exist, arguments.probes)):
        for probe in arguments.probes:
            print(f"skipped: {probe}: no such file", file=sys.stderr)
        print("no probe can be used", file=sys.stderr)
        return 2
    with large_imports():
        from authentication.command import run  # imports PyTorch: a missing file was reported before
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
