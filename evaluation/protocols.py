"""The protocols run over a corpus: which photographs each asks for, its section of results.json and its figures."""

import argparse
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evaluation import figures, report
from evaluation.attacks import judge_attacks
from evaluation.embeddings import Checkpoint, Embeddings, embed_checkpoint, training_warning
from evaluation.expression import class_mapping, expression_report
from evaluation.hard_pairs import hard_report
from evaluation.holistic import authentication_report
from evaluation.metrics import TooLittleError
from evaluation.sessions import session_report, sessions_text
from evaluation.slices import slice_report, slices_text
from evaluation.verification import REPORT_FOLD, generated_pairs, generated_report, score_pairs, single_fold, ten_folds
from face_data.pairs import Pair, read_pairs
from face_data.table import column, load_corpus, read_summary

PROTOCOLS = ("verification", "expression", "authentication", "sessions")
DEFAULT_SPLITS = {  # the first group of which the corpus has any is judged
    "verification": ((str(REPORT_FOLD),), ("test",)),  # of its generated pairs; View 2 has its own folds
    "expression": (("9", "10"), ("valid", "test")),
    "authentication": (("10",), ("valid", "test")),
    "sessions": (("9", "10"), ("valid", "test")),
}


class Figures:
    """Draws the figures of one section and remembers their names: `draw("roc", …)` is `figures.draw_roc(…, path)`.

    files: kind -> name of the PNG in OUT.
    """

    def __init__(self, out: Path, name: str):
        self.out, self.name, self.files = out, re.sub("[^a-zA-Z0-9]+", "_", name), {}

    def __call__(self, kind: str, *content) -> None:
        """kind: `roc`, or `rates_far` for one of several that are drawn alike."""
        path = getattr(figures, f"draw_{kind.partition('_')[0]}")(*content, self.out / f"{kind}_{self.name}.png")
        self.files[kind] = path.name


def judge_corpus(arguments: argparse.Namespace, checkpoint: Checkpoint, data: str, protocols: Sequence[str]) -> Path:
    """Run the network once over what the protocols ask for, judge, print the tables, write results and figures.

    Args:
        data: a prepared corpus's folder or Hub id.
        protocols: of PROTOCOLS. Of several, those that this corpus has no labels for are left out, and said to be; a
            single one is an error then.

    Returns:
        path of results.json; in processes other than the first nothing is judged or written.
    """
    began = time.perf_counter()
    corpus = load_corpus(data, arguments.splits)
    labels = {name: column(corpus, name) for name in ("key", "identity", "expression", "split")}
    lacking = {protocol: _lacking(protocol, labels) for protocol in protocols}
    for protocol, reason in lacking.items():
        if reason and len(protocols) == 1:
            raise ValueError(f"{data}: {reason}, so {protocol} cannot be judged")
        if reason and arguments.speaks:
            print(f"{protocol} is left out for {data}: {reason}")
    protocols = [protocol for protocol in protocols if not lacking[protocol]]
    splits = {protocol: arguments.splits or _default_splits(protocol, set(labels["split"])) for protocol in protocols}
    pairs = []
    if "verification" in protocols and not arguments.splits:
        pairs = read_pairs(data, missing_ok=True)
        if not pairs and not splits["verification"]:
            raise ValueError(f"{data}: its pairs.csv is missing; name the --splits whose people make pairs instead")

    # One pass of the network over every photograph that any of the protocols asks for.
    videos = {key for pair in pairs for key in (pair.first, pair.second)}
    wanted_splits = {split for own in splits.values() for split in own}
    rows = [
        row
        for row, (key, split) in enumerate(zip(labels["key"], labels["split"], strict=True))
        if split in wanted_splits or key in videos or key.rpartition("/")[0] in videos
    ]
    embeddings = embed_checkpoint(checkpoint, corpus.select(rows), arguments.batch_size, arguments.cache)
    path = arguments.out / "results.json"
    if not arguments.speaks:
        return path

    arguments.out.mkdir(parents=True, exist_ok=True)
    about = corpus_record(data)
    network_seconds = time.perf_counter() - began
    parts = [(protocol, None, splits[protocol]) for protocol in protocols]
    if arguments.command == "all":
        columns = list(embeddings.attributes) if arguments.slices is None else arguments.slices
        parts += [("slices", by, sorted(wanted_splits)) for by in columns]
    for protocol, by, own_splits in parts:
        began = time.perf_counter()
        name = about["name"]
        if by:
            name = f"{name} by {by}"
        elif not (protocol == "verification" and pairs):  # pairs.csv has the corpus's name to itself
            name = f"{name} {'+'.join(own_splits)}"
        if protocol == "expression" and arguments.classes:
            name = f"{name}, {' '.join(arguments.classes)} classes"
        draw = Figures(arguments.out, name)
        job = Judged(arguments, checkpoint, embeddings, embeddings.of_splits(own_splits), pairs, draw, data)
        judge, text = (partial(_slices, by=by), slices_text) if by else RUNS[protocol]
        try:
            section = circumstances(arguments, checkpoint, about, own_splits) | judge(job)
        except TooLittleError as error:
            if len(parts) == 1:
                raise
            print(f"{protocol} is left out for {data}: {error}")
            continue
        section |= {
            "train_splits": None if job.seen is None else sorted(job.seen),
            "warnings": _warnings(job, protocol, about["name"], own_splits),
            "figures": draw.files,
            "seconds": network_seconds + time.perf_counter() - began,
        }
        path = report.write_results(arguments.out, checkpoint.record, protocol, name, section)
        print(text(section))
    return path


def _lacking(protocol: str, labels: dict[str, list]) -> str | None:
    """What this corpus lacks for the protocol."""
    photographs = Counter(name for name in labels["identity"] if name is not None)
    if protocol != "expression" and (len(photographs) < 2 or max(photographs.values()) < 2):
        return "it does not say who is who, or has no two people and nobody twice"
    if protocol != "verification" and not any(label is not None for label in labels["expression"]):
        return "none of its photographs is labelled with an expression"
    return None


@dataclass(frozen=True)
class Judged:
    """What a protocol looks at. everything: all embedded photographs, pairs.csv's among them; chosen: those of the
    protocol's splits; data: the corpus's folder or Hub id."""

    arguments: argparse.Namespace
    checkpoint: Checkpoint
    everything: Embeddings
    chosen: Embeddings
    pairs: list[Pair]
    draw: Figures
    data: str

    @property
    def seen(self) -> frozenset[str] | None:
        """The corpus's splits that the network was trained on; None where nobody recorded it."""
        return self.everything.seen_splits(self.checkpoint.trained_on)

    @property
    def decision(self) -> tuple[float | None, float, list[str]]:
        """Both thresholds of the checkpoint, and the expressions asked for."""
        config = self.checkpoint.model.config
        required = list(self.arguments.required or config.challenge_expressions)
        return config.similarity_threshold, config.expression_threshold, required


def _verification(job: Judged) -> dict:
    far, seed, threshold = job.arguments.far, job.arguments.seed, job.checkpoint.model.config.similarity_threshold
    section, curves = {}, {}
    if job.pairs:
        scored = score_pairs(job.pairs, job.everything)
        section["ten_folds"] = ten_folds(scored, job.seen, seed)
        section["single_fold"] = single_fold(scored, far, threshold, seed)
        judged = scored.where(scored.folds == REPORT_FOLD)
        curves[f"fold {REPORT_FOLD}, pairs.csv"] = (judged.scores, judged.same)
    if len(job.chosen):
        scored = generated_pairs(job.chosen, seed)
        section["generated"] = generated_report(scored, far, threshold, seed)
        curves["generated pairs"] = (scored.scores, scored.same)
        section["hard"] = hard_report(job.chosen, far, threshold, seed)
        job.draw("scores", scored.scores, scored.same, threshold)
    job.draw("roc", curves)
    job.draw("det", curves)
    return section


def _expression(job: Judged) -> dict:
    mapping = class_mapping(job.arguments.classes, job.chosen.classes) if job.arguments.classes else None
    result = expression_report(job.chosen, job.arguments.seed, mapping)
    job.draw("confusion", result["confusion_matrix"], result["classes"])
    job.draw("reliability", result["calibration"]["bins"])
    return {"report": result}


def _authentication(job: Judged) -> dict:
    result = authentication_report(job.chosen, *job.decision, job.arguments.seed)
    return {"report": result, "calibration": job.checkpoint.model.config.calibration}


def _sessions(job: Judged) -> dict:
    section = {"report": session_report(job.chosen, *job.decision, job.arguments.seed)}
    if job.arguments.command == "sessions":  # rendering takes minutes; `all` leaves it out
        run = job.arguments
        splits = sorted(set(job.chosen.splits))
        section["attacks"] = judge_attacks(job.checkpoint, job.data, splits, run.people, run.seed, run.cache)
    return section


def _slices(job: Judged, by: str) -> dict:
    result = slice_report(job.chosen, by, *job.decision, job.arguments.seed)
    titles = {"far": "FAR within the group", "frr": "FRR", "accuracy": "accuracy of expressions"}
    for kind, title in titles.items():
        part = "expression" if kind == "accuracy" else "verification"
        rates = {value: own[part][kind] for value, own in result["slices"].items() if kind in (own[part] or {})}
        if any(rate["value"] is not None for rate in rates.values()):
            job.draw(f"rates_{kind}", rates, title)
    return {"report": result}


RUNS = {  # protocol -> what judges it, and its table
    "verification": (_verification, report.verification_text),
    "expression": (_expression, report.expression_text),
    "authentication": (_authentication, report.authentication_text),
    "sessions": (_sessions, sessions_text),
}


def _default_splits(protocol: str, present: set[str]) -> list[str]:
    for group in DEFAULT_SPLITS[protocol]:
        if present & set(group):
            return [split for split in group if split in present]
    if protocol == "verification":
        return []
    raise ValueError(f"name the splits to judge with --splits; the corpus has {', '.join(sorted(present))}")


def corpus_record(data: str) -> dict:
    """What the corpus is called, and what its preparation skipped; a corpus on the Hub is known by its id."""
    if not Path(data).is_dir():
        return {"name": data}
    summary = read_summary(data)
    counts = {key: summary[key] for key in ("photographs", "prepared", "skipped_by_reason")}
    return {"name": summary["layout"]} | counts


def circumstances(arguments, checkpoint: Checkpoint, corpus: dict, splits: Sequence[str]) -> dict:
    """What a result depends on beside the people the network was trained on."""
    return {
        "corpus": corpus,
        "splits": list(splits),
        "seed": arguments.seed,
        "image_size": checkpoint.processor.size,
        "flip": checkpoint.model.config.test_time_flip,
    }


def _warnings(job: Judged, protocol: str, corpus: str, splits: Sequence[str]) -> list[str]:
    """Why the result is not one about people never seen before."""
    warnings = [training_warning(job.seen, splits)]
    calibrated = job.checkpoint.model.config.calibration or {"corpus": None, "splits": []}
    if protocol != "expression" and calibrated["corpus"] == corpus and set(calibrated["splits"]) & set(splits):
        warnings.append("OPTIMISTIC: the checkpoint's thresholds were chosen on some of these people")
    return [warning for warning in warnings if warning]
