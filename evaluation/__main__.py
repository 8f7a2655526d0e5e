"""Evaluate a checkpoint: verification, expression recognition, authentication; and calibrate its thresholds.

    python -m evaluation calibrate --model pretrained --data corpora/lfw:9 --far 0.01
    python -m evaluation calibrate --model runs/mine --data corpora/lfw:9 corpora/ferplus:valid --far 0.001
    python -m evaluation all --model pretrained --data corpora/lfw --out results
    python -m evaluation expression --model pretrained --data corpora/ferplus --splits valid --out results
    python -m evaluation verification --model runs/new --data corpora/lfw --splits 9 --out results/fold9
    python -m evaluation compare --model runs/dynamic runs/static_1_1 --data corpora/lfw:9 corpora/ferplus:valid
    python -m evaluation folds --model runs/paper_dynamic --data corpora/ckplus
    accelerate launch --num_processes 4 -m evaluation all --model pretrained --data corpora/lfw

MODEL is a folder, `owner/name` or `owner/name@revision` on the Hub, or an exported .onnx file; CORPUS is a folder that
`python -m face_data prepare` wrote, or the Hub id of one. Each protocol prints its tables, adds its results to
OUT/results.json, draws figures into the same folder and writes a report, OUT/report.html. `compare` writes
OUT/comparison.json. `calibrate` writes into the model's config.json.

Thresholds are chosen on fold 9 (`calibrate`). Verification and decisions are reported on fold 10; expressions and
sessions on both folds, because they have few labels. During development use fold 9 (--splits 9) as often as you like.
Evaluate fold 10 once, at the end.
"""

import argparse
import sys
from pathlib import Path

from addresses import cache_folder
from checkpoints import MODEL_HELP, find_checkpoint
from face_data.corpus import require_corpus, split_corpus
from face_data.protocol import LFW
from startup import large_imports

COMMANDS = {
    "verification": "LFW View 2 in ten folds; fold 10 with thresholds from fold 9; generated pairs and hard pairs",
    "expression": "accuracy, recall, confusion matrix, calibration (default: folds 9 and 10, or valid and test)",
    "authentication": "identity and expression in one decision per trial (default: fold 10, or valid and test)",
    "sessions": "simulated challenge sessions, BPCER and APCER (default: folds 9 and 10, or valid and test)",
    "degradations": "strangers accepted when both images are covered, blurred, dark or turned (default: fold 10)",
    "all": "the five protocols above, and the same figures for each group of people in the corpus",
    "folds": "a `--fold all` run: each fold evaluated by its own network, at thresholds of its validation fold",
    "compare": "several models and baselines on the same images: tables, paired tests, ROC, DET, t-SNE",
    "calibrate": "choose both thresholds on people not used for training, and store them in MODEL/config.json",
    "page": "write OUT/report.html and results.md from OUT/results.json; with --pages only the Markdown pages",
    "schema": "print the JSON schema of results.json",
}


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        _require_inputs(arguments)
        with large_imports():
            from evaluation.command import run  # imports PyTorch: a missing file was reported before

        run(arguments)
    except (OSError, ValueError) as error:
        print(f"evaluation: {error}", file=sys.stderr)
        return 2
    return 0


def _require_inputs(arguments) -> None:
    """Raise OSError or CorpusError if the model or a corpus does not exist."""
    if isinstance(getattr(arguments, "model", None), str) and arguments.command not in ("folds", "calibrate"):
        find_checkpoint(arguments.model)
    if arguments.command == "calibrate" and not Path(arguments.model).is_dir():
        raise FileNotFoundError(f"{arguments.model}: no such folder; `calibrate` needs a model folder to write into")
    data = getattr(arguments, "data", [])
    for corpus in [data] if isinstance(data, str) else data:
        require_corpus(split_corpus(corpus)[0])
    if arguments.command == "page" and not arguments.out.is_dir():
        raise FileNotFoundError(f"{arguments.out}: no such folder")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == "page":
            command.add_argument("--out", type=Path, required=True, help="folder of results.json")
            text = "write the tables that these pages have a place for, and OUT/results.md"
            command.add_argument("--pages", type=Path, nargs="+", metavar="FILE.md", help=text)
        elif name != "schema":
            _add_inputs(command, name)
            {"calibrate": _add_calibration, "compare": _add_comparison}.get(name, _add_protocol)(command)
    return parser


def _add_inputs(command: argparse.ArgumentParser, name: str) -> None:
    several = {} if name == "folds" else {"nargs": "+"}
    if name == "compare":
        command.add_argument(
            "--model", required=True, nargs="+", help=f"{MODEL_HELP}; the folder of a run stands for its last model"
        )
    else:
        help_text = {"folds": "folder of the run", "calibrate": "model folder"}.get(name, MODEL_HELP)
        command.add_argument("--model", required=True, help=help_text)
    data = "prepared corpus: a folder or a Hub id"
    if name in ("compare", "calibrate"):
        data += ", with :SPLIT,SPLIT to choose splits"
    command.add_argument("--data", required=True, metavar="CORPUS", help=data, **several)
    command.add_argument("--far", type=_rate, default=0.01, help="false accept rate at which to report (default 0.01)")
    command.add_argument("--seed", type=int, default=0, help="for generated pairs, trials and bootstrap (default 0)")
    command.add_argument("--batch-size", type=int, default=64, help="faces per batch (default 64)")
    command.add_argument("--device", help="cpu or cuda (default: cuda where there is a GPU)")
    text = "directory of the embedding cache (default: %(default)s)"
    command.add_argument("--cache", type=Path, default=cache_folder(), metavar="FOLDER", help=text)
    command.add_argument("--no-cache", dest="cache", action="store_const", const=None, help="do not cache embeddings")


def _add_protocol(command: argparse.ArgumentParser) -> None:
    name = command.prog.split()[-1]
    command.set_defaults(splits=None, classes=(), required=(), slices=())
    command.add_argument("--out", type=Path, default=Path("results"), help="folder for results.json (default results)")
    if name != "folds":
        text = "splits of the corpus to evaluate"
        if name in ("verification", "all"):
            text += "; verification then uses generated pairs of these splits instead of View 2"
        command.add_argument("--splits", nargs="+", metavar="SPLIT", help=text)
    if name in ("expression", "all", "folds"):
        text = "6, 7, 8 or class names; LABEL=CLASS counts a label as another class (default: the model's classes)"
        command.add_argument("--classes", nargs="+", metavar="CLASS", help=text)
    if name in ("authentication", "sessions", "all", "folds"):
        text = "expressions to request (default: the checkpoint's challenge_expressions)"
        command.add_argument("--required", nargs="+", metavar="EXPRESSION", help=text)
    if name == "all":
        text = "also report by these columns of the corpus, such as gender (default: all columns)"
        command.add_argument("--slices", nargs="*", metavar="COLUMN", default=None, help=text)


def _add_calibration(command: argparse.ArgumentParser) -> None:
    text = f"for corpora that are named without splits (default {' '.join(LFW.validation)})"
    command.add_argument("--splits", nargs="+", default=LFW.validation, help=text)
    text = "expressions that a session may request; stored in the config (default: its challenge_expressions)"
    command.add_argument("--challenge", nargs="+", metavar="EXPRESSION", help=text)


def _add_comparison(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, default=Path("results/comparison"), help="folder for comparison.json")
    command.add_argument("--reference", metavar="NAME", help="model to compare the others with (default: the first)")
    text = "corpora on which to train the classical baseline: histograms of local binary patterns and an SVM"
    command.add_argument("--lbp-svm", nargs="+", metavar="CORPUS", default=[], help=text)
    text = "corpora on which to choose the SVM's penalty"
    command.add_argument("--lbp-validation", nargs="+", metavar="CORPUS", default=[], help=text)
    text = "weights of facenet-pytorch's InceptionResnetV1, which is then compared as another model"
    command.add_argument("--inception", metavar="FILE.pt", help=text)


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a rate between 0 and 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
