"""Attacks on live sessions, and genuine sessions, both with rendered camera frames (terms of ISO/IEC 30107-3).

    python -m evaluation.attacks --model pretrained --data corpora/lfw:9,10 corpora/london --out results

Every kind of attack is rendered from photographs of people (`evaluation.attacks.renderings`). The rendered frames are
detected and aligned like those of a camera, and the shipped session gets ten of them a second. The attacker holds up a
photograph, sees the prompt, and does the best that this kind of attack allows. Examples: a strip of paper slides over
the mouth when an expression is requested; the sheet is turned or bent when a turn of the head is requested. Frames
between two rendered ones are interpolated. So every change is gradual, except where two photographs are exchanged. This
favours the attacker. The reference is the same photograph that is held up, which is the attacker's best case: the rates
measure the challenge alone.

There are three challenges: a single expression, a single turn, and one drawn as in the product. APCER is the share of
attacks of one kind that pass. BPCER is the share of genuine sessions that the challenge refuses, with the identity
check switched off. Genuine sessions are composed of photographs of one person: a neutral one, one of the expression,
and one with the head turned (mirrored for the other side). Photographs cannot show what a face does between them or how
its upper half moves. These two checks are measured on films instead (docs/demo.md).
"""

import argparse
import sys
from pathlib import Path

from addresses import cache_folder
from checkpoints import MODEL_HELP, find_checkpoint
from face_data.corpus import require_corpus, split_corpus
from startup import large_imports


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        find_checkpoint(arguments.model)
        for corpus in arguments.data:
            require_corpus(split_corpus(corpus)[0])
        with large_imports():
            from evaluation.attacks.command import run  # imports PyTorch: a missing file was reported before

        run(arguments)
    except (OSError, ValueError) as error:
        print(f"evaluation.attacks: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.attacks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help=MODEL_HELP)
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="CORPUS[:SPLIT,…]",
        help="prepared corpora of people that the model was not trained on",
    )
    parser.add_argument(
        "--actions", nargs="+", help="actions that a session may request (default: those of the model's config)"
    )
    parser.add_argument(
        "--people", type=int, default=60, help="at most so many people of each corpus (default %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for attacks.json (default results)")
    parser.add_argument("--seed", type=int, default=0, help="for challenges, noise and bootstrap (default %(default)s)")
    text = "directory of the cache of network outputs (default: %(default)s)"
    parser.add_argument("--cache", type=Path, default=cache_folder(), metavar="FOLDER", help=text)
    parser.add_argument("--no-cache", dest="cache", action="store_const", const=None, help="no cache")
    return parser


if __name__ == "__main__":
    sys.exit(main())
