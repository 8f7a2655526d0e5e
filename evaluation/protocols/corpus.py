"""Evaluates all protocols over one corpus: selects the images, runs the network, and records the circumstances.

The command calls `evaluate_corpus`. Each protocol is a module in this folder. Read `verification` next.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

from accelerate import PartialState
from datasets import Dataset

from checkpoints import Checkpoint
from evaluation.embeddings.compute import BATCH_SIZE, embed_checkpoint
from evaluation.embeddings.table import Embeddings, training_warning
from evaluation.protocols.decisions import evaluate_decisions
from evaluation.protocols.degradations import evaluate_degradations
from evaluation.protocols.expression import class_mapping, expression_report
from evaluation.protocols.pairs import ScoredPairs
from evaluation.protocols.sections import (
    AuthenticationSection,
    CorpusRecord,
    DegradationsSection,
    ExpressionSection,
    Section,
    SessionsSection,
    SlicesSection,
    VerificationSection,
)
from evaluation.protocols.sessions import session_report
from evaluation.protocols.slices import evaluate_slices
from evaluation.protocols.verification import evaluate_verification
from evaluation.statistics.rates import InsufficientDataError
from face_data.corpus import on_hub
from face_data.pairs import Pair, pairs_of_complete_folds, read_pairs
from face_data.protocol import LFW, NAMED_SPLITS
from face_data.table import column, load_corpus, read_summary

PROTOCOLS = ("verification", "expression", "authentication", "sessions", "degradations")
DEFAULT_SPLITS = {  # the first group of which the corpus has a split is evaluated
    "verification": (LFW.test, NAMED_SPLITS.test),  # for generated pairs; View 2 has its own folds
    "expression": (LFW.held_out, NAMED_SPLITS.held_out),
    "authentication": (LFW.test, NAMED_SPLITS.held_out),
    "sessions": (LFW.held_out, NAMED_SPLITS.held_out),
    "degradations": (LFW.test, NAMED_SPLITS.held_out),
}
PACKAGES = ("torch", "torchvision", "transformers", "datasets", "scikit-learn", "numpy", "pillow")


@dataclass(frozen=True)
class Evaluated:
    """A section of results.json, to be stored under `protocol` and `name`. curves: title -> pairs, for the figures."""

    protocol: str
    name: str
    section: Section
    curves: Mapping[str, ScoredPairs]


@dataclass(frozen=True)
class Skipped:
    """A protocol for which the corpus lacks data, and the reason."""

    protocol: str
    reason: str


def evaluate_corpus(
    checkpoint: Checkpoint,
    data: str,
    protocols: Sequence[str],
    *,
    splits: Sequence[str] | None = None,
    far: float = 0.01,
    seed: int = 0,
    classes: Sequence[str] = (),
    required: Sequence[str] = (),
    slices: Sequence[str] | None = (),
    batch_size: int = BATCH_SIZE,
    cache: Path | None = None,
) -> Iterator[Evaluated | Skipped]:
    """Run the network once over every image that the protocols need, then evaluate one protocol after the other.

    Every process must exhaust the iterator; only the main process gets results.

    Args:
        data: a prepared corpus's folder or Hub id.
        protocols: some of PROTOCOLS. Those for which the corpus has no labels are skipped.
        splits: of the corpus; None takes DEFAULT_SPLITS, and the publisher's pairs for verification.
        far: false accept rate at which verification is reported.
        classes: see `protocols.expression.class_mapping`; empty takes the model's classes.
        required: expressions to request; empty takes the checkpoint's.
        slices: columns of the corpus by which images are grouped; None takes all attributes.
        cache: folder of the embedding cache; None disables it.

    Raises:
        ValueError: the corpus, or a requested split, class or column, does not exist.
    """
    start = time.perf_counter()
    corpus = load_corpus(data, splits)
    labels = {name: column(corpus, name) for name in ("key", "identity", "expression", "split")}
    published_pairs = read_pairs(data, missing_ok=True) if "verification" in protocols and not splits else []
    skipped = [
        Skipped(protocol, reason)
        for protocol in protocols
        if (reason := _missing_data(protocol, labels, bool(published_pairs)))
    ]
    protocols = [protocol for protocol in protocols if protocol not in {skip.protocol for skip in skipped}]
    existing = set(labels["split"])
    splits_by_protocol = {protocol: list(splits or _default_splits(protocol, existing)) for protocol in protocols}
    pairs, absent_photographs = pairs_of_complete_folds(published_pairs, data, labels["key"])
    if "verification" in protocols and not published_pairs and not splits_by_protocol["verification"]:
        raise ValueError(f"{data}: its pairs.csv is missing; name --splits, then pairs of their people are generated")
    embeddings = _embed(checkpoint, corpus, labels, splits_by_protocol, pairs, batch_size, cache) if protocols else None
    if not PartialState().is_main_process:
        return
    yield from skipped
    if embeddings is None:
        return

    network_seconds = time.perf_counter() - start
    record = corpus_record(data)
    config = checkpoint.network.config
    trained = embeddings.trained_splits(checkpoint.trained_on)
    thresholds = {
        "similarity_threshold": config.similarity_threshold,
        "expression_threshold": config.expression_threshold,
    }
    required = list(required or config.challenge_expressions)
    slice_columns = list(embeddings.attributes) if slices is None else slices
    all_splits = sorted({split for protocol_splits in splits_by_protocol.values() for split in protocol_splits})
    evaluations = [(protocol, None, splits_by_protocol[protocol]) for protocol in protocols]
    evaluations += [("slices", slice_column, all_splits) for slice_column in slice_columns]
    for protocol, slice_column, evaluated_splits in evaluations:
        start, curves = time.perf_counter(), {}
        selected = embeddings.in_splits(evaluated_splits)
        try:
            if protocol == "verification":
                verification = evaluate_verification(
                    embeddings,
                    selected,
                    pairs,
                    absent_photographs=absent_photographs,
                    far=far,
                    shipped_threshold=config.similarity_threshold,
                    trained=trained,
                    seed=seed,
                )
                section_type, figures = VerificationSection, vars(verification.result)
                curves = verification.curves
            elif protocol == "expression":
                mapping = class_mapping(classes, selected.classes) if classes else None
                section_type, figures = ExpressionSection, {"report": expression_report(selected, seed, mapping)}
            elif protocol == "authentication":
                report = evaluate_decisions(selected, **thresholds, required=required, seed=seed)
                section_type = AuthenticationSection
                figures = {"report": report, "calibration": config.calibration}
            elif protocol == "sessions":
                report = session_report(selected, **thresholds, challenges=required, seed=seed)
                section_type, figures = SessionsSection, {"report": report}
            elif protocol == "degradations":
                rows = [row for row, split in enumerate(labels["split"]) if split in evaluated_splits]
                report = evaluate_degradations(checkpoint, corpus.select(rows), seed, batch_size)
                section_type, figures = DegradationsSection, {"report": report}
            else:
                report = evaluate_slices(selected, slice_column, **thresholds, required=required, seed=seed)
                section_type, figures = SlicesSection, {"report": report}
        except InsufficientDataError as error:
            yield Skipped(protocol, str(error))
            continue
        section = section_type(
            **circumstances(checkpoint, record, evaluated_splits, seed),
            train_splits=None if trained is None else sorted(trained),
            warnings=_warnings(checkpoint, trained, protocol, record.name, evaluated_splits),
            seconds=network_seconds + time.perf_counter() - start,
            **figures,
        )
        name = _section_name(record.name, protocol, slice_column, evaluated_splits, bool(published_pairs), classes)
        yield Evaluated(protocol, name, section, curves)


def corpus_record(data: str) -> CorpusRecord:
    """The record of a prepared corpus in a folder or on the Hub."""
    if on_hub(data):
        return CorpusRecord(name=data)
    summary = read_summary(data)
    counts = {key: summary[key] for key in ("photographs", "prepared", "skipped_by_reason")}
    return CorpusRecord(name=summary["layout"], **counts)


def circumstances(checkpoint: Checkpoint, corpus: CorpusRecord, splits: Sequence[str], seed: int) -> dict:
    """The fields of a Section that every protocol shares; figures are added when they are drawn."""
    return {
        "corpus": corpus,
        "splits": list(splits),
        "seed": seed,
        "image_size": checkpoint.processor.size,
        "figures": {},
        "date": date.today().isoformat(),
        "versions": {package: version(package) for package in PACKAGES},
    }


def _embed(
    checkpoint: Checkpoint,
    corpus: Dataset,
    labels: Mapping[str, list],
    splits_by_protocol: Mapping[str, Sequence[str]],
    pairs: Sequence[Pair],
    batch_size: int,
    cache: Path | None,
) -> Embeddings:
    """Embed the images of the protocols' splits and of the pairs, in which a folder of images stands for a video."""
    paired = {key for pair in pairs for key in (pair.first, pair.second)}
    wanted_splits = {split for splits in splits_by_protocol.values() for split in splits}
    rows = [
        row
        for row, (key, split) in enumerate(zip(labels["key"], labels["split"], strict=True))
        if split in wanted_splits or key in paired or key.rpartition("/")[0] in paired
    ]
    are_compared = bool(pairs) or bool(splits_by_protocol.keys() & {"verification", "authentication", "sessions"})
    return embed_checkpoint(checkpoint, corpus.select(rows), batch_size, cache, are_compared)


def _missing_data(protocol: str, labels: Mapping[str, list], published_pairs: bool) -> str | None:
    """Why the protocol cannot evaluate this corpus; None if it can."""
    images = Counter(name for name in labels["identity"] if name is not None)
    if protocol == "verification" and published_pairs:
        return None  # the pairs say who is the same person, so identities are not needed
    if protocol == "degradations" and len(images) > 1:
        return None
    if protocol != "expression" and (len(images) < 2 or max(images.values()) < 2):
        return "it needs identities: at least two people, one of them with two images"
    if protocol != "verification" and not any(label is not None for label in labels["expression"]):
        return "none of its images is labelled with an expression"
    return None


def _default_splits(protocol: str, present: set[str]) -> list[str]:
    for group in DEFAULT_SPLITS[protocol]:
        if present & set(group):
            return [split for split in group if split in present]
    if protocol == "verification":
        return []
    raise ValueError(f"name the splits to evaluate with --splits; the corpus has {', '.join(sorted(present))}")


def _section_name(
    corpus: str, protocol: str, slice_column: str | None, splits: Sequence[str], has_pairs: bool, classes: Sequence[str]
) -> str:
    """The key of a section: the corpus's name, followed by splits, column or classes unless these are the defaults."""
    if slice_column:
        return f"{corpus} by {slice_column}"
    name = corpus if protocol == "verification" and has_pairs else f"{corpus} {'+'.join(splits)}"
    return f"{name}, {' '.join(classes)} classes" if protocol == "expression" and classes else name


def _warnings(
    checkpoint: Checkpoint, trained: frozenset[str] | None, protocol: str, corpus: str, splits: Sequence[str]
) -> list[str]:
    """Why the result may not hold for new people."""
    warnings = [training_warning(trained, splits)]
    calibrated = (checkpoint.network.config.calibration or {}).get("corpora", {})
    if protocol != "expression" and set(calibrated.get(corpus, ())) & set(splits):
        warnings.append("OPTIMISTIC: the checkpoint's thresholds were chosen on some of these people")
    return [warning for warning in warnings if warning]
