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
import re
import sys
from pathlib import Path

import torch
from transformers.utils import logging

from evaluation import figures, report
from evaluation.calibration import calibrate, store
from evaluation.embeddings import Checkpoint, Embeddings, embed, load_checkpoint
from evaluation.expression import expression_report
from evaluation.holistic import authentication_report
from evaluation.verification import REPORT_FOLD, generated_pairs, generated_report, score_pairs, single_fold, ten_folds
from face_data.pairs import Pair, read_pairs
from face_data.table import CorpusError, column, load_corpus, read_summary

PROTOCOLS = ("verification", "expression", "authentication")
DEFAULT_SPLITS = {  # the first group of which the corpus has any is judged; verification's View 2 has its own folds
    "expression": (("9", "10"), ("valid", "test")),
    "authentication": (("10",), ("valid", "test")),
}


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    logging.disable_progress_bar()
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
    corpus = load_corpus(arguments.data, arguments.splits)
    split_of = column(corpus, "split")
    splits = {protocol: arguments.splits or _default_splits(protocol, set(split_of)) for protocol in protocols}
    pairs = _view2_pairs(arguments) if "verification" in protocols and not arguments.splits else []

    report.read_results(arguments.out, checkpoint)  # a folder of other weights is refused now, not after the work

    # One pass of the network over every photograph that any of the protocols asks for.
    wanted_keys = {key for pair in pairs for key in (pair.first, pair.second)}
    wanted_splits = {split for own in splits.values() for split in own}
    named = enumerate(zip(column(corpus, "key"), split_of, strict=True))
    rows = [row for row, (key, split) in named if key in wanted_keys or split in wanted_splits]
    checkpoint.model.config.test_time_flip |= arguments.flip
    embeddings = embed(checkpoint.model, checkpoint.processor, corpus.select(rows), batch_size=arguments.batch_size)

    arguments.out.mkdir(parents=True, exist_ok=True)
    for protocol in protocols:
        chosen = embeddings.of_splits(splits[protocol])
        name = _corpus(arguments)["name"]
        if not (protocol == "verification" and pairs):  # View 2 has the corpus's name to itself
            name = f"{name} {'+'.join(splits[protocol])}"
        figure = arguments.out / f"{{}}_{re.sub('[^a-zA-Z0-9]+', '_', name)}.png"
        if protocol == "verification":
            section = _verification(arguments, checkpoint, embeddings, chosen, pairs, figure)
        elif protocol == "expression":
            section = _expression(arguments, chosen, figure)
        else:
            section = _authentication(arguments, checkpoint, chosen)
        section = _circumstances(arguments, checkpoint, protocol, splits[protocol]) | section
        path = report.write_results(arguments.out, checkpoint, protocol, name, section)
        print(getattr(report, f"{protocol}_text")(section))
    print(f"{path} and figures beside it")


def _verification(
    arguments, checkpoint: Checkpoint, embeddings: Embeddings, chosen: Embeddings, pairs: list[Pair], figure: Path
) -> dict:
    threshold, far, seed = checkpoint.model.config.similarity_threshold, arguments.far, arguments.seed
    section, curves = {}, {}
    if pairs:
        scored = score_pairs(pairs, embeddings)
        section["ten_folds"] = ten_folds(scored, checkpoint.train_splits)
        section["single_fold"] = single_fold(scored, far, threshold, seed)
        judged = scored.where(scored.folds == REPORT_FOLD)
        curves[f"fold {REPORT_FOLD}, publisher's pairs"] = (judged.scores, judged.same)
    if len(chosen):
        scored = generated_pairs(chosen, seed)
        section["generated"] = generated_report(scored, far, threshold, seed)
        curves["generated pairs"] = (scored.scores, scored.same)
        figures.draw_scores(scored.scores, scored.same, threshold, _named(figure, "scores"))
    figures.draw_roc(curves, _named(figure, "roc"))
    return section


def _expression(arguments, chosen: Embeddings, figure: Path) -> dict:
    result = expression_report(chosen, arguments.seed)
    figures.draw_confusion(result["confusion_matrix"], result["classes"], _named(figure, "confusion"))
    return {"report": result}


def _authentication(arguments, checkpoint: Checkpoint, chosen: Embeddings) -> dict:
    config = checkpoint.model.config
    required = arguments.required or config.challenge_expressions
    result = authentication_report(
        chosen, config.similarity_threshold, config.expression_threshold, required, arguments.seed
    )
    return {"report": result, "calibration": config.calibration}


def _calibrate(arguments) -> None:
    if not Path(arguments.model).is_dir():
        raise FileNotFoundError(f"{arguments.model}: no such folder; the thresholds are written into its config.json")
    checkpoint = load_checkpoint(arguments.model, arguments.device)
    corpus = load_corpus(arguments.data, arguments.splits)
    config = checkpoint.model.config
    embeddings = embed(checkpoint.model, checkpoint.processor, corpus, batch_size=arguments.batch_size)
    section = calibrate(
        embeddings,
        far=arguments.far,
        corpus=_corpus(arguments)["name"],
        required=config.challenge_expressions,
        expression_threshold=config.expression_threshold,
        train_splits=checkpoint.train_splits,
        seed=arguments.seed,
    )
    path = store(section, checkpoint.folder)
    print(report.calibration_text(section))
    print(f"written to {path}")


def _default_splits(protocol: str, present: set[str]) -> list[str]:
    if protocol == "verification":
        return [str(REPORT_FOLD)] if str(REPORT_FOLD) in present else []
    for group in DEFAULT_SPLITS[protocol]:
        if present & set(group):
            return [split for split in group if split in present]
    raise ValueError(f"name the splits to judge with --splits; the corpus has {', '.join(sorted(present))}")


def _view2_pairs(arguments) -> list[Pair]:
    try:
        return read_pairs(arguments.data)
    except CorpusError as error:
        raise CorpusError(f"{error}. To judge generated pairs instead, name the people's --splits") from None


def _corpus(arguments) -> dict:
    """What the corpus is called, and what its preparation skipped; a corpus on the Hub is known by its id."""
    if not Path(arguments.data).is_dir():
        return {"name": arguments.data}
    summary = read_summary(arguments.data)
    counts = {key: summary[key] for key in ("photographs", "prepared", "skipped_by_reason")}
    return {"name": summary["layout"]} | counts


def _circumstances(arguments, checkpoint: Checkpoint, protocol: str, splits: list[str]) -> dict:
    """Everything a result depends on, and "warnings" where it is not one about people never seen before."""
    trained, corpus, warnings = checkpoint.train_splits, _corpus(arguments), []
    if trained is None:
        warnings.append("UNKNOWN which people the network was trained on (no training.json): maybe on these")
    elif trained & set(splits):
        warnings.append(f"OPTIMISTIC: the network was trained on split {', '.join(sorted(trained & set(splits)))}")
    calibrated = checkpoint.model.config.calibration or {"corpus": None, "splits": []}
    if protocol != "expression" and calibrated["corpus"] == corpus["name"] and set(calibrated["splits"]) & set(splits):
        warnings.append("OPTIMISTIC: the checkpoint's thresholds were chosen on some of these people")
    return {
        "corpus": corpus,
        "splits": list(splits),
        "warnings": warnings,
        "seed": arguments.seed,
        "image_size": checkpoint.processor.size,
        "flip": checkpoint.model.config.test_time_flip,
        "train_splits": None if trained is None else sorted(trained),
    }


def _named(figure: Path, kind: str) -> Path:
    return figure.with_name(figure.name.format(kind))


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
        command.add_argument("--data", required=True, metavar="CORPUS", help="prepared corpus: a folder or a Hub id")
        if name in ("verification", "all", "calibrate"):
            command.add_argument("--far", type=_rate, default=0.01, help="false accept rate to aim at (default 0.01)")
        command.add_argument("--seed", type=int, default=0, help="of generated pairs, trials and bootstrap (default 0)")
        command.add_argument("--batch-size", type=int, default=64, help="faces per pass of the network (default 64)")
        command.add_argument("--device", default=device, help="cpu or cuda (default here: %(default)s)")
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
