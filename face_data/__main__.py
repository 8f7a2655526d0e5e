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
import inspect
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from datasets import disable_progress_bars

from face_data.drawn import drawn_plan
from face_data.expected import PUBLISHED, comparison
from face_data.expression_pairs import authors_pairs, expression_pairs
from face_data.pairs import Pair, lfw_pairs, write_pairs, ytf_pairs
from face_data.prepare import SHARD_SIZE, prepare
from face_data.readers import BINS, READERS, Photograph
from face_data.readers.insightface_bins import bin_pairs
from face_data.table import EXPRESSIONS, CorpusError, attributes_of, column, load_corpus, read_summary
from image_processing_facelivenet import FaceLiveNetImageProcessor

PAIRS = {"lfw": ("pairs.txt", lfw_pairs), "ytf": ("splits.txt", ytf_pairs)}  # layout -> the publisher's file of pairs
FROM_HUB = ("hub", "emonet_face")
FILMED = ("ckplus", "oulucasia")  # their publishers ship no pairs: they are made of the sequences
HUB_COLUMNS = (
    "image_column", "identity_column", "expression_column", "revision", "config", "split", "expression_map",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    disable_progress_bars()  # those of `datasets`; the one over the photographs stays
    try:
        arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"face_data: {error}", file=sys.stderr)
        return 2
    return 0


def _prepare(arguments) -> None:
    *sources, out = map(Path, arguments.paths)
    if not sources:
        raise CorpusError(
            "give at least one SOURCE and then OUT, for example: prepare ferplus ../data/ferplus corpora/ferplus"
        )
    if len(sources) > (2 if arguments.layout == "lfw" else 1):
        raise CorpusError(f"{arguments.layout} has one SOURCE (lfw may have a second, for labels), not {len(sources)}")
    from_hub = arguments.layout in FROM_HUB
    columns = {name: getattr(arguments, name) for name in HUB_COLUMNS if getattr(arguments, name)}
    takes = inspect.signature(READERS[arguments.layout]).parameters
    if unknown := [name for name in columns if name not in takes]:
        raise CorpusError(f"--{unknown[0].replace('_', '-')} is for hub; {arguments.layout} has no such choice")
    for source in sources:
        if not from_hub and not source.exists():
            raise CorpusError(f"{source}: no such folder or file")
    photographs = READERS[arguments.layout](*sources, **columns)
    settings = {"sources": [str(source) if from_hub else source.resolve().name for source in sources]} | columns
    pairs = _pairs(arguments.layout, sources[0])  # first: a damaged file must not cost the preparation
    summary = _run(arguments, photographs, out, arguments.layout, settings)
    if pairs:
        write_pairs(out, pairs)
    _report(out, summary)


def _pairs(layout: str, source: Path) -> list[Pair]:
    """The pairs of a corpus, as its publisher ships them or made of its sequences; none for the other layouts."""
    if layout in BINS:
        return bin_pairs(source)
    if layout in FILMED:
        return expression_pairs(photograph for photograph in READERS[layout](source) if not photograph.refused)
    name, parsed = PAIRS.get(layout, ("", None))
    return parsed(source / name) if name and (source / name).exists() else []


def _take_pairs(arguments) -> None:
    corpus, skipped = load_corpus(arguments.corpus), read_summary(arguments.corpus)["skipped"]
    skipped = {row["key"] for row in skipped}
    pairs = authors_pairs(arguments.pairs_file, [*column(corpus, "key"), *skipped])
    path = write_pairs(arguments.corpus, pairs)
    genuine, alone = sum(pair.same for pair in pairs), sum(pair.first == pair.second for pair in pairs)
    repeated = len(pairs) - len({(pair.first, pair.second) for pair in pairs})
    unseen = sum(pair.first in skipped or pair.second in skipped for pair in pairs)
    print(f"{path}: {genuine:,} genuine and {len(pairs) - genuine:,} impostor pairs, dealt to ten folds in turn")
    print(
        f"  {repeated:,} repeat an earlier pair (for another required expression), {alone:,} compare a photograph with"
    )
    print(f"  itself, {unseen:,} have a photograph in which no face was found")


def _synthesize(arguments) -> None:
    settings = {name: getattr(arguments, name) for name in ("identities", "per_expression", "seed")}
    photographs = [Photograph(**row) for row in drawn_plan(**settings)]
    summary = _run(arguments, photographs, arguments.out, "drawn", settings, total=len(photographs))
    _report(arguments.out, summary)


def _run(arguments, photographs: Iterable[Photograph], out: Path, layout: str, settings: dict, total=None) -> dict:
    processor = FaceLiveNetImageProcessor(size=arguments.size, alignment=arguments.alignment)
    return prepare(
        photographs, out, layout=layout, processor=processor, total=total, workers=arguments.workers,
        shard_size=arguments.shard_size, settings=settings,
    )  # fmt: skip


def _describe(arguments) -> None:
    _report(arguments.corpus, read_summary(arguments.corpus))


def _report(folder: Path, summary: dict) -> None:
    """What is in a corpus: counts by split and expression, people, and what was skipped."""
    corpus = load_corpus(folder)  # refuses an unfinished one
    print(f"{folder}: {summary['layout']}, {summary['prepared']:,} of {summary['photographs']:,} photographs prepared")
    for reason, count in summary["skipped_by_reason"].items():
        print(f"  skipped {count:,}: {reason} (each named in {folder}/corpus.json)")
    if whole := summary.get("whole_pictures"):
        print(f"  {whole:,} without a found face are whole pictures, cut out by their publisher")
    print(f"  {summary['several_faces']:,} photographs show several faces; the largest and most central was taken")
    columns = {name: column(corpus, name) for name in ("split", "identity", "expression")}
    splits = sorted(set(columns["split"]), key=lambda split: (len(split), split))
    print(f"  {'split':<8}{'faces':>8}{'people':>8}" + "".join(f"{name:>10}" for name in (*EXPRESSIONS, "no label")))
    for split in splits:
        rows = [row for row, value in enumerate(columns["split"]) if value == split]
        people = {columns["identity"][row] for row in rows} - {None}
        count = Counter(columns["expression"][row] for row in rows)
        cells = [count[index] for index in range(len(EXPRESSIONS))] + [count[None]]
        print(f"  {split:<8}{len(rows):>8,}{len(people):>8,}" + "".join(f"{cell:>10,}" for cell in cells))
    for name in attributes_of(corpus):
        print(f"  {name}: {_values_text(column(corpus, name))}")
    if summary["layout"] in PUBLISHED:
        print("  against the published numbers, skipped photographs counted too:")
        keys = column(corpus, "key") + [row["key"] for row in summary["skipped"]]
        for sentence in comparison(summary["layout"], _held(keys, columns, summary["skipped"])):
            print(f"    {sentence}")


def _values_text(values: list[str | None], most: int = 20) -> str:
    """How many photographs have each value, by its name: `female 10, male 14, not known 2`."""
    count = Counter(values)
    unknown = count.pop(None, 0)
    parts = [f"{value} {count[value]:,}" for value in sorted(count)]
    parts = parts[:most] + [f"and {len(parts) - most:,} values more"] * (len(parts) > most)
    return ", ".join(parts + [f"not known {unknown:,}"] * (unknown > 0))


def _held(keys: list[str], columns: dict[str, list], skipped: list[dict]) -> dict[str, int]:
    """What the source held: photographs, people, videos, and photographs by expression."""
    people = {*columns["identity"], *(row.get("identity") for row in skipped)} - {None}
    shown = Counter(EXPRESSIONS[index] for index in columns["expression"] if index is not None)
    shown += Counter(row["expression"] for row in skipped if row.get("expression"))
    videos = {key.rpartition("/")[0] for key in keys}  # of YouTube Faces, whose keys end with the frame
    return {"photographs": len(keys), "people": len(people), "videos": len(videos), **shown}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m face_data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "prepare", help="a prepared corpus from a published one; run again to go on after a stop"
    )
    command.add_argument("layout", choices=READERS, help="the corpus's own name")
    command.add_argument(
        "paths", nargs="+", metavar="SOURCE… OUT",
        help="the publisher's folder (for lfw also muxspace facial_expressions, for its labels; for ms1m also the tsv, "
        "for fer2013 the csv; for folder a folder per person, or a csv of path,identity,expression and perhaps split, "
        "its further columns being attributes; for hub and emonet_face a dataset's id on the Hub or its folder), then "
        "the corpus",
    )  # fmt: skip
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
    command.set_defaults(run=_prepare)
    _add_processing(command)

    command = commands.add_parser("synthesize", help="a prepared corpus of drawn faces, where no photographs are")
    command.add_argument("out", type=Path)
    command.add_argument("--identities", type=int, default=40, help="how many people are drawn (default 40)")
    command.add_argument("--per-expression", type=int, default=3, help="pictures per person and expression (default 3)")
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(run=_synthesize)
    _add_processing(command)

    command = commands.add_parser(
        "pairs", help="give CK+ or Oulu-CASIA the pairs of a file of the paper's authors, instead of its own"
    )
    command.add_argument("pairs_file", type=Path, help="such as IdentitySplit_3th_10fold_ckpluspairs.txt")
    command.add_argument("corpus", type=Path, help="the prepared corpus; its pairs.csv is replaced")
    command.set_defaults(run=_take_pairs)

    command = commands.add_parser("describe", help="what is in a prepared corpus")
    command.add_argument("corpus", type=Path)
    command.set_defaults(run=_describe)
    return parser


def _add_processing(command: argparse.ArgumentParser) -> None:
    command.add_argument("--alignment", choices=("margin", "similarity"), default="margin")
    command.add_argument("--size", type=int, default=160, help="side of the face crops in pixels (default 160)")
    command.add_argument("--workers", type=int, help="processes (default: one per core)")
    command.add_argument(
        "--shard-size", type=int, default=SHARD_SIZE,
        help=f"photographs per file, which is what an interruption can cost (default {SHARD_SIZE})",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
