"""Prepared corpora from the command line.

python -m face_data prepare lfw ../data/lfw ../data/facial_expressions corpora/lfw
python -m face_data prepare ferplus ../data/ferplus corpora/ferplus
python -m face_data prepare folder people.csv corpora/people
python -m face_data prepare hub user/faces corpora/faces --identity-column name
python -m face_data synthesize corpora/drawn --identities 60
python -m face_data pairs IdentitySplit_3th_10fold_ckpluspairs.txt corpora/ckplus
python -m face_data describe corpora/lfw
"""

import argparse
import sys
from pathlib import Path

from face_data.named import CorpusError, read_summary
from machines import MachineError
from startup import large_imports

LAYOUTS = (  # those of face_data.readers, which takes a second to import
    "lfw",
    "facial_expressions",
    "ferplus",
    "fer2013",
    "ckplus",
    "oulucasia",
    "ms1m",
    "casia_webface",
    "vggface2",
    "celeba",
    "ytf",
    "london",
    "raf_db",
    "affectnet",
    "kdef",
    "jaffe",
    "emonet_face",
    "lfw_bin",
    "cfp_fp_bin",
    "agedb_30_bin",
    "calfw_bin",
    "cplfw_bin",
    "digiface",
    "dcface",
    "hsface",
    "folder",
    "unlabelled",
    "hub",
)


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        _require_inputs(arguments)
        with large_imports():  # of PyTorch: a missing file was reported before
            from datasets import disable_progress_bars

            from face_data import command

        disable_progress_bars()  # those of `datasets`; the one over the photographs stays
        getattr(command, arguments.act)(arguments)
    except (ValueError, OSError, MachineError) as error:
        print(f"face_data: {error}", file=sys.stderr)
        return 2
    return 0


def _require_inputs(arguments) -> None:
    """Raise CorpusError or OSError for a source or a corpus that is not there."""
    if arguments.act == "prepare_photographs" and arguments.layout not in ("hub", "emonet_face"):
        for source in arguments.paths[:-1]:
            if not Path(source).exists():
                raise CorpusError(f"{source}: no such folder or file")
    if arguments.act in ("take_pairs", "describe"):
        read_summary(arguments.corpus)
    if arguments.act == "take_pairs" and not arguments.pairs_file.exists():
        raise FileNotFoundError(f"{arguments.pairs_file}: no such file")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m face_data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "prepare", help="a prepared corpus from a published one; run again to go on after a stop"
    )
    command.add_argument("layout", choices=LAYOUTS, help="the corpus's own name")
    command.add_argument(
        "paths",
        nargs="+",
        metavar="SOURCE… OUT",
        help="the publisher's folder (for lfw also muxspace facial_expressions, for its labels; for ms1m also the tsv, "
        "for fer2013 the csv; for folder a folder per person, or a csv of path,identity,expression and perhaps split, "
        "its further columns being attributes; for hub and emonet_face a dataset's id on the Hub or its folder), then "
        "the corpus: a folder, or an address such as s3://bucket/lfw",
    )
    command.add_argument("--image-column", metavar="NAME", help="hub: its column of pictures (default image)")
    command.add_argument("--identity-column", metavar="NAME", help="hub: who it is (default identity, if it is there)")
    command.add_argument(
        "--expression-column", metavar="NAME", help="hub: the expression shown (default expression, if it is there)"
    )
    command.add_argument("--revision", metavar="NAME", help="hub: commit, branch or tag of the dataset")
    command.add_argument("--config", metavar="NAME", help="hub: which of its configurations")
    command.add_argument("--split", metavar="NAME", help="hub: this split alone (default: all)")
    command.add_argument(
        "--expression-map", metavar="THEIRS=OURS,…", help="hub: our names of its labels; what is unknown is skipped"
    )
    command.set_defaults(act="prepare_photographs")
    _add_processing(command)

    command = commands.add_parser("synthesize", help="a prepared corpus of drawn faces, where no photographs are")
    command.add_argument("out", help="folder or address")
    command.add_argument("--identities", type=int, default=40, help="how many people are drawn (default 40)")
    command.add_argument("--per-expression", type=int, default=3, help="pictures per person and expression (default 3)")
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(act="synthesize")
    _add_processing(command)

    command = commands.add_parser(
        "pairs", help="give CK+ or Oulu-CASIA the pairs of a file of the paper's authors, instead of its own"
    )
    command.add_argument("pairs_file", type=Path, help="such as IdentitySplit_3th_10fold_ckpluspairs.txt")
    command.add_argument("corpus", help="the prepared corpus; its pairs.csv is replaced")
    command.set_defaults(act="take_pairs")

    command = commands.add_parser("describe", help="what is in a prepared corpus")
    command.add_argument("corpus", help="folder or address")
    command.set_defaults(act="describe")
    return parser


def _add_processing(command: argparse.ArgumentParser) -> None:
    command.add_argument("--alignment", choices=("margin", "similarity"), default="margin")
    command.add_argument("--size", type=int, default=160, help="side of the face crops in pixels (default 160)")
    command.add_argument("--workers", type=int, help="processes (default: one per core)")
    command.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where the detector's networks run (default cpu)"
    )
    command.add_argument(
        "--shard-size",
        type=int,
        default=512,
        help="photographs per file, which is what an interruption can cost (default 512)",
    )


if __name__ == "__main__":
    sys.exit(main())
