"""The commands of `python -m face_data`: prepare, synthesize, pairs, describe.

`__main__` reads the arguments and calls them. Read `readers` and `prepare` next.
"""

import inspect
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch

from face_data.corpus import HUB_LAYOUTS
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

PAIR_FILES = {"lfw": ("pairs.txt", lfw_pairs), "ytf": ("splits.txt", ytf_pairs)}  # layout -> publisher's file, parser
SEQUENCE_LAYOUTS = ("ckplus", "oulucasia")  # their publishers ship no pairs, so pairs are generated
HUB_OPTIONS = ("image_column", "identity_column", "expression_column", "revision", "config", "split", "expression_map")


def prepare_photographs(arguments) -> None:
    *sources, out = arguments.paths
    sources = list(map(Path, sources))
    if not sources:
        raise CorpusError(
            "give at least one SOURCE and then OUT, for example: prepare ferplus ../data/ferplus corpora/ferplus"
        )
    if len(sources) > (2 if arguments.layout == "lfw" else 1):
        raise CorpusError(f"{arguments.layout} has one SOURCE (lfw may have a second, for labels), not {len(sources)}")
    from_hub = arguments.layout in HUB_LAYOUTS
    options = {name: getattr(arguments, name) for name in HUB_OPTIONS if getattr(arguments, name)}
    accepted = inspect.signature(READERS[arguments.layout]).parameters
    if unknown := [name for name in options if name not in accepted]:
        raise CorpusError(f"--{unknown[0].replace('_', '-')} is for hub; {arguments.layout} has no such option")
    photographs = READERS[arguments.layout](*sources, **options)
    settings = {"sources": [str(source) if from_hub else source.resolve().name for source in sources]} | options
    pairs = _pairs(arguments.layout, sources[0])  # before the preparation, so a damaged file is reported at once
    summary = _prepare(arguments, photographs, out, arguments.layout, settings)
    if summary is not None and pairs:
        write_pairs(out, pairs)
    _report_if_finished(out, summary)


def _pairs(layout: str, source: Path) -> list[Pair]:
    """The pairs of a corpus, from the file of its publisher or generated; none for the other layouts."""
    if layout in BINS:
        return bin_pairs(source)
    if layout in SEQUENCE_LAYOUTS:
        return expression_pairs(photograph for photograph in READERS[layout](source) if not photograph.refused)
    name, parse = PAIR_FILES.get(layout, ("", None))
    return parse(source / name) if name and (source / name).exists() else []


def replace_pairs(arguments) -> None:
    corpus, skipped = load_corpus(arguments.corpus), read_summary(arguments.corpus)["skipped"]
    skipped = {row["key"] for row in skipped}
    pairs = authors_pairs(arguments.pairs_file, [*column(corpus, "key"), *skipped])
    path = write_pairs(arguments.corpus, pairs)
    genuine = sum(pair.same for pair in pairs)
    identical = sum(pair.first == pair.second for pair in pairs)
    repeated = len(pairs) - len({(pair.first, pair.second) for pair in pairs})
    without_face = sum(pair.first in skipped or pair.second in skipped for pair in pairs)
    print(f"{path}: {genuine:,} genuine and {len(pairs) - genuine:,} impostor pairs, distributed to ten folds in turn")
    print(f"  {repeated:,} repeat an earlier pair (for another required expression)")
    print(f"  {identical:,} compare a photograph with itself")
    print(f"  {without_face:,} have a photograph in which no face was found")


def synthesize(arguments) -> None:
    settings = {name: getattr(arguments, name) for name in ("identities", "per_expression", "seed")}
    photographs = [Photograph(**row) for row in drawn_plan(**settings)]
    summary = _prepare(arguments, photographs, arguments.out, "drawn", settings, total=len(photographs))
    _report_if_finished(arguments.out, summary)


def _prepare(
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
        rank_and_size=place(),
    )


def describe(arguments) -> None:
    _report(arguments.corpus, read_summary(arguments.corpus))


def _report_if_finished(folder: str, summary: dict | None) -> None:
    if summary is None:
        print(f"{folder}: this process's shards are finished; the last process to finish writes corpus.json")
    else:
        _report(folder, summary)


def _report(folder: str, summary: dict) -> None:
    """Print the counts of a corpus by split and expression, its people, and the skipped photographs."""
    labels = ["key", "split", "identity", "expression", *(summary.get("attributes") or ())]
    corpus = load_corpus(folder, columns=labels)  # raises an error if the corpus is not complete
    print(f"{folder}: {summary['layout']}, {summary['prepared']:,} of {summary['photographs']:,} photographs prepared")
    for reason, count in summary["skipped_by_reason"].items():
        print(f"  skipped {count:,}: {reason} ({folder}/corpus.json lists them)")
    if complete := summary.get("whole_images", summary.get("whole_pictures")):  # the latter in earlier versions
        print(f"  {complete:,} without a detected face are used completely, because their publisher cropped the face")
    if turned := summary.get("turned"):
        print(f"  {turned:,} lay on their side or upside down and were turned")
    print(f"  {summary['several_faces']:,} photographs show several faces; the largest and most central one was used")
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
        print(f"  {name}: {_counts_text(column(corpus, name))}")
    if summary["layout"] in PUBLISHED:
        print("  compared with the published numbers, including skipped photographs:")
        keys = column(corpus, "key") + [row["key"] for row in summary["skipped"]]
        for sentence in comparison(summary["layout"], _source_counts(keys, columns, summary["skipped"])):
            print(f"    {sentence}")


def _counts_text(values: list[str | None], limit: int = 20) -> str:
    """Number of photographs for each value, sorted by value: `female 10, male 14, not known 2`."""
    count = Counter(values)
    unknown = count.pop(None, 0)
    parts = [f"{value} {count[value]:,}" for value in sorted(count)]
    parts = parts[:limit] + [f"and {len(parts) - limit:,} more values"] * (len(parts) > limit)
    return ", ".join(parts + [f"not known {unknown:,}"] * (unknown > 0))


def _source_counts(keys: list[str], columns: dict[str, list], skipped: list[dict]) -> dict[str, int]:
    """The counts of the source, as `expected.PUBLISHED` names them: prepared and skipped photographs together."""
    people = {*columns["identity"], *(row.get("identity") for row in skipped)} - {None}
    expressions = Counter(CORPUS_EXPRESSIONS[index] for index in columns["expression"] if index is not None)
    expressions += Counter(row["expression"] for row in skipped if row.get("expression"))
    videos = {key.rpartition("/")[0] for key in keys}  # the keys of YouTube Faces end with the frame
    return {"photographs": len(keys), "people": len(people), "videos": len(videos), **expressions}
