"""The commands of `python -m evaluation`.

`__main__` calls `run` after it has parsed the arguments. Only this module prints and writes; the protocols return
dataclasses. Read `protocols.corpus` next.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState
from transformers.utils import logging

from checkpoints import load_checkpoint
from evaluation.calibration import calibrate, store
from evaluation.compare.run import compare_checkpoints
from evaluation.compare.text import comparison_text
from evaluation.embeddings.compute import embed_checkpoint
from evaluation.protocols.corpus import PROTOCOLS, Skipped, corpus_record, evaluate_corpus
from evaluation.protocols.folds import evaluate_folds, load_folds
from evaluation.protocols.sections import Section
from evaluation.quality import calibrate_quality
from evaluation.report import figures
from evaluation.report.page import write_page
from evaluation.report.results import (
    FILE,
    ModelRecord,
    add_section,
    read_results,
    results_schema,
    results_so_far,
    write_json,
)
from evaluation.report.summary import write_results_page, write_tables
from evaluation.report.text import calibration_text, section_text
from evaluation.statistics.rates import to_json
from face_data.table import column, load_corpus, split_corpus

TSNE_PANELS = 6


def run(arguments: argparse.Namespace) -> None:
    """Run one command.

    Raises:
        OSError, ValueError: the message names the file or value, and the cause.
    """
    logging.disable_progress_bar()
    if arguments.command == "schema":
        print(json.dumps(results_schema(), indent=1))
    elif arguments.command == "page" and arguments.pages:
        write_results_page(read_results(arguments.out / FILE), arguments.out)
        for page in arguments.pages:
            write_tables(page, arguments.out)
            print(page)
    elif arguments.command == "page":
        print(write_page(arguments.out))
    else:
        if arguments.device is None:
            arguments.device = "cuda" if torch.cuda.is_available() else "cpu"
        state = PartialState(cpu=arguments.device == "cpu")
        device = state.device if arguments.device == "cuda" else arguments.device  # each process its own GPU
        handler = {"calibrate": _calibrate, "compare": _compare, "folds": _folds}.get(arguments.command, _evaluate)
        handler(arguments, device, state.is_main_process)


def _evaluate(arguments, device, is_main: bool) -> None:
    protocols = PROTOCOLS if arguments.command == "all" else (arguments.command,)
    checkpoint = load_checkpoint(arguments.model, device)
    config = checkpoint.network.config
    if {"authentication", "sessions", "degradations"} & set(protocols) and config.similarity_threshold is None:
        raise ValueError(
            f"{arguments.model} has no similarity_threshold, so nobody can be accepted: "
            "run `python -m evaluation calibrate` on it first"
        )
    record = ModelRecord(name=checkpoint.name, sha256=checkpoint.sha256)
    results_so_far(arguments.out, record)  # fails before the work if the folder has results of other weights
    for corpus_name in arguments.data:
        outcomes = evaluate_corpus(
            checkpoint,
            corpus_name,
            protocols,
            splits=arguments.splits,
            far=arguments.far,
            seed=arguments.seed,
            classes=arguments.classes,
            required=arguments.required,
            slices=arguments.slices,
            batch_size=arguments.batch_size,
            cache=arguments.cache,
        )
        for outcome in outcomes:
            if not isinstance(outcome, Skipped):
                _report(arguments.out, record, outcome.protocol, outcome.name, outcome.section, outcome.curves)
            elif len(protocols) == 1 and outcome.protocol == protocols[0]:
                raise ValueError(f"{corpus_name}: {outcome.reason}, therefore {outcome.protocol} cannot be evaluated")
            else:
                print(f"{outcome.protocol} is skipped for {corpus_name}: {outcome.reason}")
    if is_main:
        _print_page(arguments.out)


def _folds(arguments, device, is_main: bool) -> None:
    folds = load_folds(
        arguments.model, arguments.data, device=device, batch_size=arguments.batch_size, cache=arguments.cache
    )
    if not is_main:
        return
    evaluated = evaluate_folds(
        folds,
        arguments.data,
        far=arguments.far,
        seed=arguments.seed,
        classes=arguments.classes,
        required=arguments.required,
    )
    record = ModelRecord(name=f"{arguments.model}, {len(folds)} folds", sha256=evaluated.sha256)
    curves = {f"{len(folds)} folds": evaluated.scored} if evaluated.scored is not None else {}
    _report(arguments.out, record, "folds", evaluated.name, evaluated.section, curves, f"{evaluated.name} folds")
    _print_page(arguments.out)


def _compare(arguments, device, is_main: bool) -> None:
    comparisons = {}
    for compared in compare_checkpoints(
        arguments.model,
        arguments.data,
        device=device,
        far=arguments.far,
        seed=arguments.seed,
        reference=arguments.reference,
        lbp_svm=arguments.lbp_svm,
        lbp_validation=arguments.lbp_validation,
        inception=arguments.inception,
        batch_size=arguments.batch_size,
        cache=arguments.cache,
    ):
        print(f"{compared.name}\n{comparison_text(compared.comparison)}\n")
        comparisons[compared.name] = compared.comparison
        arguments.out.mkdir(parents=True, exist_ok=True)
        if compared.curves:
            stem = figures.file_stem(compared.name)
            figures.draw_roc(compared.curves, arguments.out / f"roc_{stem}.png")
            figures.draw_det(compared.curves, arguments.out / f"det_{stem}.png")
            panels = dict(list(compared.embeddings.items())[:TSNE_PANELS])
            figures.draw_embeddings(panels, arguments.out / f"tsne_{stem}.png", arguments.seed)
    if is_main:
        corpora = {name: to_json(comparison) for name, comparison in comparisons.items()}
        path = write_json(arguments.out / "comparison.json", {"schema_version": 2, "corpora": corpora})
        print(f"{path} and figures beside it")


def _calibrate(arguments, device, is_main: bool) -> None:
    checkpoint = load_checkpoint(arguments.model, device)
    config = checkpoint.network.config
    embeddings, corpora = {}, []
    for corpus_text in arguments.data:
        corpus_name, splits = split_corpus(corpus_text)
        name = corpus_record(corpus_name).name
        if name in embeddings:
            raise ValueError(f"{corpus_text}: another corpus has the same name, {name}; name it once, with all splits")
        corpus = load_corpus(corpus_name, splits or arguments.splits)
        corpora.append(corpus)
        embeddings[name] = embed_checkpoint(checkpoint, corpus, arguments.batch_size, arguments.cache)
    if not is_main:
        return
    required = arguments.challenge or config.challenge_expressions
    for name in required:
        if name not in config.expressions:
            raise ValueError(f"--challenge {name}: the model knows {', '.join(config.expressions)}")
    calibration = calibrate(
        embeddings,
        far=arguments.far,
        required=required,
        expression_threshold=config.expression_threshold,
        trained_on=checkpoint.trained_on,
        seed=arguments.seed,
    )
    if not calibration.calibration.train_splits_known:
        text = "it is not recorded on which people it was trained; these may be among them"
        print(f"{arguments.model}: {text}", file=sys.stderr)
    settings = to_json(calibration) | ({"challenge_expressions": list(required)} if arguments.challenge else {})
    # Only the corpora on which the threshold was chosen: others, such as FERPlus, have images unlike a camera's.
    with_identities = [corpus for corpus in corpora if any(column(corpus, "identity"))]
    settings["quality"], settings["calibration"]["quality"] = calibrate_quality(checkpoint, with_identities)
    settings["calibrated_weights"] = checkpoint.network.fingerprint()  # the thresholds are valid for these weights only
    path = store(settings, checkpoint.path)
    print(f"{calibration_text(calibration)}\nwritten to {path}")


def _report(
    folder: Path, record: ModelRecord, protocol: str, name: str, section: Section, curves, stem: str = ""
) -> None:
    section = replace(section, figures=figures.draw_section(section, stem or name, curves, folder))
    add_section(folder, record, protocol, name, section)
    print(section_text(section))


def _print_page(folder: Path) -> None:
    print(f"{folder / FILE}, its figures, and the report: {write_page(folder)}")
