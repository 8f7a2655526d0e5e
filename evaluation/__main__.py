"""Judge a checkpoint: verification, expression recognition, authentication; and calibrate its thresholds.

    python -m evaluation calibrate --model pretrained --data corpora/lfw --splits 9 --far 0.01
    python -m evaluation all --model pretrained --data corpora/lfw --out results
    python -m evaluation expression --model pretrained --data corpora/ferplus --splits valid --out results
    python -m evaluation verification --model runs/new --data corpora/lfw --splits 9 --out results/fold9

MODEL is the folder of a saved model or its Hub id, CORPUS a folder that `python -m face_data prepare` wrote, or the Hub
id of one. Each command prints a table and adds its section to OUT/results.json, with figures beside it. Thresholds come
from fold 9 (`calibrate`), reports are about fold 10: look at fold 9 with --splits 9 as often as you like, at 10 once.
"""

import argparse
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from transformers.utils import logging

from evaluation import report
from evaluation.calibration import calibrate, store
from evaluation.embeddings import cache_for, embed, load_checkpoint
from evaluation.protocols import PROTOCOLS, corpus_record, judge_corpus
from face_data.cache_folder import default_folder
from face_data.table import load_corpus


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    logging.disable_progress_bar()
    state = PartialState(cpu=arguments.device == "cpu")
    arguments.speaks = state.is_main_process
    if arguments.device == "cuda":
        arguments.device = state.device  # each process its own
    try:
        (_calibrate if arguments.command == "calibrate" else _evaluate)(arguments)
    except (OSError, ValueError) as error:
        print(f"evaluation: {error}", file=sys.stderr)
        return 2
    return 0


def _evaluate(arguments) -> None:
    protocols = PROTOCOLS if arguments.command == "all" else (arguments.command,)
    checkpoint = load_checkpoint(arguments.model, arguments.device)
    if "authentication" in protocols and checkpoint.model.config.similarity_threshold is None:
        raise ValueError(
            f"{arguments.model} has no similarity_threshold, so nobody can be accepted: "
            "run `python -m evaluation calibrate` on it first"
        )
    report.read_results(arguments.out, checkpoint)  # a folder of other weights is refused now, not after the work
    checkpoint.model.config.test_time_flip |= arguments.flip
    for data in arguments.data:
        path = judge_corpus(arguments, checkpoint, data, protocols)
    if arguments.speaks:
        print(f"{path} and figures beside it")


def _calibrate(arguments) -> None:
    if not Path(arguments.model).is_dir():
        raise FileNotFoundError(f"{arguments.model}: no such folder; the thresholds are written into its config.json")
    checkpoint = load_checkpoint(arguments.model, arguments.device)
    corpus = load_corpus(arguments.data, arguments.splits)
    config = checkpoint.model.config
    cache = cache_for(checkpoint, arguments.cache) if arguments.cache else None
    embeddings = embed(checkpoint.model, checkpoint.processor, corpus, batch_size=arguments.batch_size, cache=cache)
    if not arguments.speaks:
        return
    section = calibrate(
        embeddings,
        far=arguments.far,
        corpus=corpus_record(arguments.data)["name"],
        required=config.challenge_expressions,
        expression_threshold=config.expression_threshold,
        train_splits=checkpoint.train_splits,
        seed=arguments.seed,
    )
    path = store(section, checkpoint.folder)
    print(report.calibration_text(section))
    print(f"written to {path}")


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no rate between 0 and 1")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    helps = {
        "verification": "LFW View 2 in ten folds, fold 10 with thresholds from fold 9, generated pairs of fold 10",
        "expression": "accuracy, recall per class, confusion matrix (default: folds 9 and 10, or valid and test)",
        "authentication": "identity and expression in one decision per trial (default: fold 10, or valid and test)",
        "all": "the three protocols above with one pass of the network",
        "calibrate": "choose both thresholds on people nobody trained on and store them in MODEL/config.json",
    }
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name, text in helps.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--model", required=True, help="folder of a saved model, or its Hub id")
        several = {} if name == "calibrate" else {"nargs": "+"}
        text = "prepared corpus: a folder or a Hub id" + ("; several are judged in turn" if several else "")
        command.add_argument("--data", required=True, metavar="CORPUS", help=text, **several)
        if name in ("verification", "all", "calibrate"):
            command.add_argument("--far", type=_rate, default=0.01, help="false accept rate to aim at (default 0.01)")
        command.add_argument("--seed", type=int, default=0, help="of generated pairs, trials and bootstrap (default 0)")
        command.add_argument("--batch-size", type=int, default=64, help="faces per pass of the network (default 64)")
        command.add_argument("--device", default=device, help="cpu or cuda (default here: %(default)s)")
        text = (
            "keeps what the network said, so that no face passes it twice (default $FACELIVENET_CACHE or %(default)s)"
        )
        command.add_argument("--cache", type=Path, default=default_folder(), metavar="FOLDER", help=text)
        command.add_argument(
            "--no-cache", dest="cache", action="store_const", const=None, help="neither use nor keep that"
        )
        if name == "calibrate":
            command.add_argument("--splits", nargs="+", default=["9"], help="splits of the corpus (default 9)")
            continue
        text = "splits of the corpus to judge"
        if name in ("verification", "all"):
            text += "; verification then judges generated pairs of their people, not View 2"
        command.add_argument("--splits", nargs="+", metavar="SPLIT", help=text)
        command.add_argument("--out", type=Path, default=Path("results"), help="for results.json (default results)")
        command.add_argument("--flip", action="store_true", help="average each face with its mirror image in any case")
        if name in ("authentication", "all"):
            text = "expressions asked for (default: the checkpoint's challenge_expressions)"
            command.add_argument("--required", nargs="+", metavar="EXPRESSION", help=text)
    return parser


if __name__ == "__main__":
    sys.exit(main())
