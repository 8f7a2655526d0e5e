"""Prepare a published corpus or drawn faces for training and evaluation, and describe a prepared corpus.

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

from face_data.corpus import HUB_LAYOUTS, CorpusError, read_summary
from machines import MachineError
from startup import large_imports

LAYOUTS = (  # the names in face_data.readers.READERS, which takes a second to import
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
        with large_imports():  # PyTorch among them: a missing file was reported before
            from datasets import disable_progress_bars

            from face_data import command

        disable_progress_bars()  # of `datasets`; the progress bar of the photographs stays
        getattr(command, arguments.function)(arguments)
    except (ValueError, OSError, MachineError) as error:
        print(f"face_data: {error}", file=sys.stderr)
        return 2
    return 0


def _require_inputs(arguments) -> None:
    """Raise CorpusError or OSError if a source or a corpus does not exist."""
    if arguments.function == "prepare_photographs" and arguments.layout not in HUB_LAYOUTS:
        for source in arguments.paths[:-1]:
            if not Path(source).exists():
                raise CorpusError(f"{source}: no such folder or file")
    if arguments.function in ("replace_pairs", "describe"):
        read_summary(arguments.corpus)
    if arguments.function == "replace_pairs" and not arguments.pairs_file.exists():
        raise FileNotFoundError(f"{arguments.pairs_file}: no such file")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m face_data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "prepare", help="prepare a published corpus; after an interruption, the same command continues"
    )
    command.add_argument("layout", choices=LAYOUTS, help="the name of the published corpus, or of its file layout")
    command.add_argument(
        "paths",
        nargs="+",
        metavar="SOURCE… OUT",
        help="SOURCE is the publisher's folder; for ms1m it may be the tsv, and for fer2013 the csv. lfw: a second "
        "SOURCE may be the folder of muxspace facial_expressions, for its labels. folder: a folder per person, or a "
        "csv of path,identity,expression and optionally split, whose further columns become attributes. hub, "
        "emonet_face: the id of a dataset on the Hub, or its folder. OUT is the prepared corpus, a folder or an "
        "address such as s3://bucket/lfw",
    )
    command.add_argument("--image-column", metavar="NAME", help="hub: column of the images (default image)")
    command.add_argument(
        "--identity-column", metavar="NAME", help="hub: column of the identities (default identity, if present)"
    )
    command.add_argument(
        "--expression-column", metavar="NAME", help="hub: column of the expressions (default expression, if present)"
    )
    command.add_argument("--revision", metavar="NAME", help="hub: commit, branch or tag of the dataset")
    command.add_argument("--config", metavar="NAME", help="hub: configuration of the dataset")
    command.add_argument("--split", metavar="NAME", help="hub: only this split (default: all)")
    command.add_argument(
        "--expression-map",
        metavar="LABEL=EXPRESSION,…",
        help="hub: expressions of labels, such as joy=happy; photographs with other unknown labels are skipped",
    )
    command.set_defaults(function="prepare_photographs")
    _add_processing(command)

    command = commands.add_parser("synthesize", help="prepare a corpus of drawn faces, without photographs")
    command.add_argument("out", help="folder or address of the prepared corpus")
    command.add_argument("--identities", type=int, default=40, help="number of drawn people (default 40)")
    command.add_argument("--per-expression", type=int, default=3, help="images per person and expression (default 3)")
    command.add_argument("--seed", type=int, default=0, help="of the random numbers (default 0)")
    command.set_defaults(function="synthesize")
    _add_processing(command)

    command = commands.add_parser(
        "pairs", help="replace the pairs of CK+ or Oulu-CASIA by those of a file of the paper's authors"
    )
    command.add_argument("pairs_file", type=Path, help="such as IdentitySplit_3th_10fold_ckpluspairs.txt")
    command.add_argument("corpus", help="the prepared corpus; its pairs.csv is replaced")
    command.set_defaults(function="replace_pairs")

    command = commands.add_parser("describe", help="show the content of a prepared corpus")
    command.add_argument("corpus", help="folder or address of the prepared corpus")
    command.set_defaults(function="describe")
    return parser


def _add_processing(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--alignment",
        choices=("margin", "similarity"),
        default="margin",
        help="crop of the face: the detected box with a margin, or by the landmarks (default margin)",
    )
    command.add_argument("--size", type=int, default=160, help="side of the face crops in pixels (default 160)")
    command.add_argument("--workers", type=int, help="number of processes (default: one per core)")
    command.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="device of the detector's networks (default cpu)"
    )
    command.add_argument(
        "--shard-size",
        type=int,
        default=512,
        help="photographs per file; an interruption loses only unfinished files (default 512)",
    )


if __name__ == "__main__":
    sys.exit(main())
