"""Judge a checkpoint: verification, expression recognition, authentication; and calibrate its thresholds.

    python -m evaluation calibrate --model pretrained --data corpora/lfw --splits 9 --far 0.01
    python -m evaluation all --model pretrained --data corpora/lfw --out results
    python -m evaluation expression --model pretrained --data corpora/ferplus --splits valid --out results
    python -m evaluation verification --model runs/new --data corpora/lfw --splits 9 --out results/fold9
    python -m evaluation compare --model runs/dynamic runs/static_1_1 --data corpora/lfw:9 corpora/ferplus:valid
    python -m evaluation folds --model runs/paper_dynamic --data corpora/ckplus
    accelerate launch --num_processes 4 -m evaluation all --model pretrained --data corpora/lfw

MODEL is the folder of a saved model or its Hub id, CORPUS a folder that `python -m face_data prepare` wrote, or the Hub
id of one. Each protocol prints its tables and adds them to OUT/results.json, draws the figures beside it and writes the
whole as a page, OUT/report.html; `compare` writes OUT/comparison.json, `calibrate` the model's config.json. Thresholds
come from fold 9 (`calibrate`), verification and decisions are reported on fold 10, expressions and sessions, whose
labels are few, on both: look at fold 9 with --splits 9 as often as you like, at 10 once.
"""

import sys
from pathlib import Path

from accelerate import PartialState
from transformers.utils import logging

from evaluation import report
from evaluation.calibration import calibrate, store
from evaluation.comparison_run import run_comparison
from evaluation.cross_validation import judge_folds
from evaluation.embeddings import embed_checkpoint, load_checkpoint, training_warning
from evaluation.options import parser
from evaluation.page import write_page
from evaluation.protocols import PROTOCOLS, corpus_record, judge_corpus
from evaluation.quality import calibrate_quality
from face_data.table import load_corpus


def main(argv: list[str] | None = None) -> int:
    arguments = parser(__doc__).parse_args(argv)
    logging.disable_progress_bar()
    state = PartialState(cpu=arguments.device == "cpu")
    arguments.speaks = state.is_main_process
    if arguments.device == "cuda":
        arguments.device = state.device  # each process its own
    try:
        {"calibrate": _calibrate, "compare": _compare, "folds": _folds}.get(arguments.command, _evaluate)(arguments)
    except (OSError, ValueError) as error:
        print(f"evaluation: {error}", file=sys.stderr)
        return 2
    return 0


def _evaluate(arguments) -> None:
    protocols = PROTOCOLS if arguments.command == "all" else (arguments.command,)
    checkpoint = load_checkpoint(arguments.model, arguments.device)
    if {"authentication", "sessions"} & set(protocols) and checkpoint.model.config.similarity_threshold is None:
        raise ValueError(
            f"{arguments.model} has no similarity_threshold, so nobody can be accepted: "
            "run `python -m evaluation calibrate` on it first"
        )
    report.read_results(arguments.out, checkpoint.record)  # a folder of other weights is refused before the work
    checkpoint.model.config.test_time_flip |= arguments.flip
    for data in arguments.data:
        path = judge_corpus(arguments, checkpoint, data, protocols)
    if arguments.speaks:
        print(f"{path}, figures, and all of it as a page: {write_page(arguments.out)}")


def _calibrate(arguments) -> None:
    if not Path(arguments.model).is_dir():
        raise FileNotFoundError(f"{arguments.model}: no such folder; the thresholds are written into its config.json")
    checkpoint = load_checkpoint(arguments.model, arguments.device)
    corpus = load_corpus(arguments.data, arguments.splits)
    config = checkpoint.model.config
    embeddings = embed_checkpoint(checkpoint, corpus, arguments.batch_size, arguments.cache)
    if not arguments.speaks:
        return
    seen = embeddings.seen_splits(checkpoint.trained_on)
    section = calibrate(
        embeddings,
        far=arguments.far,
        corpus=corpus_record(arguments.data)["name"],
        required=config.challenge_expressions,
        expression_threshold=config.expression_threshold,
        seen=seen,
        seed=arguments.seed,
    )
    section["quality"], section["calibration"]["quality"] = calibrate_quality(corpus)
    if warning := training_warning(seen, embeddings.splits):
        print(f"{arguments.model}: {warning}", file=sys.stderr)
    path = store(section, checkpoint.folder, checkpoint.model.fingerprint())
    print(report.calibration_text(section))
    print(f"written to {path}")


def _folds(arguments) -> None:
    path = judge_folds(arguments)
    if arguments.speaks:
        print(f"{path}, figures, and all of it as a page: {write_page(arguments.out)}")


def _compare(arguments) -> None:
    path = run_comparison(arguments)
    if arguments.speaks:
        print(f"{path} and figures beside it")


if __name__ == "__main__":
    sys.exit(main())
