"""What `python -m face_data` does once its arguments are read: prepare, synthesize, pairs, describe.

Next: `readers`, `prepare`.
"""

import inspect
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch

from face_data.drawn import drawn_plan
from face_data.expected import PUBLISHED, comparison
from face_data.expression_pairs import authors_pairs, expression_pairs
from face_data.pairs import Pair, lfw_pairs, write_pairs, ytf_pairs
from face_data.prepare import prepare
from face_data.readers import BINS, READERS, Photograph
from face_data.readers.insightface_bins import bin_pairs
from face_data.table import CORPUS_EXPRESSIONS, CorpusError, attributes_of, column, load_corpus, read_summary
from image_processing_facelivenet import FaceLiveNetImageProcessor
from machines import place

PAIRS = {"lfw": ("pairs.txt", lfw_pairs), "ytf": ("splits.txt", ytf_pairs)}  # layout -> the publisher's file of pairs
FROM_HUB = ("hub", "emonet_face")
FILMED = ("ckplus", "oulucasia")  # their publishers ship no pairs: they are made of the sequences
HUB_COLUMNS = (
    "image_column",
    "identity_column",
    "expression_column",
    "revision",
    "config",
    "split",
    "expression_map",
)


def prepare_photographs(arguments) -> None:
    *sources, out = arguments.paths
    sources = list(map(Path, sources))
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
    if summary is not None and pairs:
        write_pairs(out, pairs)
    _report_if_finished(out, summary)


def _pairs(layout: str, source: Path) -> list[Pair]:
    """The pairs of a corpus, as its publisher ships them or made of its sequences; none for the other layouts."""
    if layout in BINS:
        return bin_pairs(source)
    if layout in FILMED:
        return expression_pairs(photograph for photograph in READERS[layout](source) if not photograph.refused)
    name, parsed = PAIRS.get(layout, ("", None))
    return parsed(source / name) if name and (source / name).exists() else []


def take_pairs(arguments) -> None:
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


def synthesize(arguments) -> None:
    settings = {name: getattr(arguments, name) for name in ("identities", "per_expression", "seed")}
    photographs = [Photograph(**row) for row in drawn_plan(**settings)]
    summary = _run(arguments, photographs, arguments.out, "drawn", settings, total=len(photographs))
    _report_if_finished(arguments.out, summary)


def _run(
    arguments, photographs: Iterable[Photograph], out: str, layout: str, settings: dict, total=None
) -> dict | None:
    processor = FaceLiveNetImageProcessor(size=arguments.size, alignment=arguments.alignment)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch finds no GPU here")
    processor.detector_device = arguments.device
    return prepare(
        photographs,
        out,
        layout=layout,
        processor=processor,
        total=total,
        workers=arguments.workers,
        shard_size=arguments.shard_size,
        settings=settings,
        place=place(),
    )


def describe(arguments) -> None:
    _report(arguments.corpus, read_summary(arguments.corpus))


def _report_if_finished(folder: str, summary: dict | None) -> None:
    if summary is None:
        print(f"{folder}: this process's shards are finished; the last process to finish writes corpus.json")
    else:
        _report(folder, summary)


def _report(folder: str, summary: dict) -> None:
    """What is in a corpus: counts by split and expression, people, and what was skipped."""
    labels = ["key", "split", "identity", "expression", *(summary.get("attributes") or ())]
    corpus = load_corpus(folder, columns=labels)  # refuses an unfinished one
    print(f"{folder}: {summary['layout']}, {summary['prepared']:,} of {summary['photographs']:,} photographs prepared")
    for reason, count in summary["skipped_by_reason"].items():
        print(f"  skipped {count:,}: {reason} (each named in {folder}/corpus.json)")
    if whole := summary.get("whole_pictures"):
        print(f"  {whole:,} without a found face are whole pictures, cut out by their publisher")
    print(f"  {summary['several_faces']:,} photographs show several faces; the largest and most central was taken")
    columns = {name: column(corpus, name) for name in ("split", "identity", "expression")}
    splits = sorted(set(columns["split"]), key=lambda split: (len(split), split))
    print(
        f"  {'split':<8}{'faces':>8}{'people':>8}"
        + "".join(f"{name:>10}" for name in (*CORPUS_EXPRESSIONS, "no label"))
    )
    for split in splits:
        rows = [row for row, value in enumerate(columns["split"]) if value == split]
        people = {columns["identity"][row] for row in rows} - {None}
        count = Counter(columns["expression"][row] for row in rows)
        cells = [count[index] for index in range(len(CORPUS_EXPRESSIONS))] + [count[None]]
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
    shown = Counter(CORPUS_EXPRESSIONS[index] for index in columns["expression"] if index is not None)
    shown += Counter(row["expression"] for row in skipped if row.get("expression"))
    videos = {key.rpartition("/")[0] for key in keys}  # of YouTube Faces, whose keys end with the frame
    return {"photographs": len(keys), "people": len(people), "videos": len(videos), **shown}
