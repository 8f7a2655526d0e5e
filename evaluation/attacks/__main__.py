"""Attacks on live sessions before a rendered camera, and how genuine people fare there (terms of ISO/IEC 30107-3).

    python -m evaluation.attacks --model pretrained --data corpora/lfw:9,10 corpora/london --out results

Every kind of attack is rendered from photographs of people (`evaluation.attacks.renderings`), detected, aligned and
judged as a camera's frame would be, and shown to the shipped session at ten frames a second. The attacker holds the
photograph, sees the prompt, and does the best this kind of attack can: a strip of paper slides over the mouth when an
expression is requested, the sheet is turned or bent when a turn is. Frames between two rendered pictures are
interpolated, so that everything but an exchange comes gradually, to the attacker's favour. The reference is the very
photograph that is held up, the attacker's best case, so an attack's rate is that of the challenge.

Three challenges: a single expression, a single turn, and one drawn as the product draws it. APCER is the share of
attacks of a kind that pass, BPCER the share of genuine sessions that the challenge refuses, whoever they are taken for.
Genuine sessions are composed of photographs of one person: one neutral, one of the expression, one with the head turned
(mirrored for the other side). What a face does in between, and how its upper half moves, photographs cannot show, so
these two checks are judged on films elsewhere (docs/demo.md).
"""

import argparse
import sys
from pathlib import Path

from addresses import cache_folder
from checkpoints import find_checkpoint
from face_data.named import require_corpus, split_corpus


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        find_checkpoint(arguments.model)
        for corpus in arguments.data:
            require_corpus(split_corpus(corpus)[0])
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
    parser.add_argument("--model", required=True, help="folder of a saved model, its Hub id, or an exported graph")
    parser.add_argument(
        "--data", required=True, nargs="+", metavar="CORPUS[:SPLIT,…]", help="prepared corpora of people not trained on"
    )
    parser.add_argument(
        "--actions", nargs="+", help="what a session may ask for (default: what the model's config says)"
    )
    parser.add_argument("--people", type=int, default=60, help="people of each corpus at most (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="for attacks.json (default results)")
    parser.add_argument("--seed", type=int, default=0, help="of challenges, noise and bootstrap (default %(default)s)")
    text = "directory of the network outputs for rendered pictures (default: %(default)s)"
    parser.add_argument("--cache", type=Path, default=cache_folder(), metavar="FOLDER", help=text)
    parser.add_argument("--no-cache", dest="cache", action="store_const", const=None, help="neither use nor keep that")
    return parser


if __name__ == "__main__":
    sys.exit(main())
