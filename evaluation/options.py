"""The command line of `python -m evaluation`: what each command is told."""

import argparse
from pathlib import Path

import torch

from face_data.cache_folder import default_folder

COMMANDS = {
    "verification": "LFW View 2 in ten folds, fold 10 with thresholds from fold 9, generated and hard pairs",
    "expression": "accuracy, recall, confusion matrix, calibration (default: folds 9 and 10, or valid and test)",
    "authentication": "identity and expression in one decision per trial (default: fold 10, or valid and test)",
    "sessions": "challenge sessions, BPCER and APCER of rendered attacks (default: folds 9 and 10, or valid and test)",
    "all": "the four protocols above with one pass of the network",
    "folds": "a `--fold all` run: each fold judged by its own network, at thresholds of its validation fold",
    "compare": "several models and baselines on the same photographs: tables, paired tests, ROC, DET, t-SNE",
    "calibrate": "choose both thresholds on people nobody trained on and store them in MODEL/config.json",
}
PROTOCOL_COMMANDS = ("verification", "expression", "authentication", "sessions", "all")


def parser(description: str) -> argparse.ArgumentParser:
    """The whole command line; `description` is what `--help` begins with."""
    whole = argparse.ArgumentParser(
        prog="python -m evaluation", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        _add_subject(command, name)
        _add_running(command)
        if name == "calibrate":
            command.add_argument("--splits", nargs="+", default=["9"], help="splits of the corpus (default 9)")
        elif name == "compare":
            _add_comparison(command)
        else:
            _add_protocol(command, name)
    return whole


def _add_subject(command: argparse.ArgumentParser, name: str) -> None:
    """What is judged, on what."""
    text = "folder of a saved model, or its Hub id"
    if name == "compare":
        command.add_argument("--model", required=True, nargs="+", help=f"{text}; a run's folder stands for its last")
    else:
        command.add_argument("--model", required=True, help="folder of the run" if name == "folds" else text)
    text = "prepared corpus: a folder or a Hub id"
    if name == "compare":
        text += ", FOLDER:SPLIT,SPLIT for some splits; several are judged in turn"
        command.add_argument("--data", required=True, nargs="+", metavar="CORPUS", help=text)
    elif name in PROTOCOL_COMMANDS:
        text += "; several are judged in turn"
        command.add_argument("--data", required=True, nargs="+", metavar="CORPUS", help=text)
    else:
        command.add_argument("--data", required=True, metavar="CORPUS", help=text)
    if name in ("verification", "all", "folds", "compare", "calibrate"):
        command.add_argument("--far", type=_rate, default=0.01, help="false accept rate to aim at (default 0.01)")


def _add_running(command: argparse.ArgumentParser) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    command.add_argument("--seed", type=int, default=0, help="of generated pairs, trials and bootstrap (default 0)")
    command.add_argument("--batch-size", type=int, default=64, help="faces per pass of the network (default 64)")
    command.add_argument("--device", default=device, help="cpu or cuda (default here: %(default)s)")
    text = "keeps what the network said, so that no face passes it twice (default: %(default)s)"
    command.add_argument("--cache", type=Path, default=default_folder(), metavar="FOLDER", help=text)
    text = "neither use nor keep that"
    command.add_argument("--no-cache", dest="cache", action="store_const", const=None, help=text)


def _add_protocol(command: argparse.ArgumentParser, name: str) -> None:
    command.set_defaults(splits=None, classes=None, required=None, flip=False)
    command.add_argument("--out", type=Path, default=Path("results"), help="for results.json (default results)")
    if name != "folds":
        text = "splits of the corpus to judge"
        if name in ("verification", "all"):
            text += "; verification then judges generated pairs of their people, not View 2"
        command.add_argument("--splits", nargs="+", metavar="SPLIT", help=text)
        command.add_argument("--flip", action="store_true", help="average each face with its mirror image in any case")
    if name in ("expression", "all", "folds"):
        text = "6, 7, 8 or names, and what counts as another: 7 contempt=disgust (default: the model's own)"
        command.add_argument("--classes", nargs="+", metavar="CLASS", help=text)
    if name in ("authentication", "sessions", "all", "folds"):
        text = "expressions asked for (default: the checkpoint's challenge_expressions)"
        command.add_argument("--required", nargs="+", metavar="EXPRESSION", help=text)
    if name == "sessions":
        text = "people of each corpus whom attacks before a camera are rendered for (default %(default)s)"
        command.add_argument("--people", type=int, default=60, help=text)
    if name == "all":
        text = "the figures of each part, too, by these columns of the corpus, such as gender (default: all it has)"
        command.add_argument("--slices", nargs="*", metavar="COLUMN", help=text)


def _add_comparison(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, default=Path("results/comparison"), help="for comparison.json")
    command.add_argument("--reference", metavar="NAME", help="the row others are compared with (default: the first)")
    text = "train the classical baseline, histograms of local binary patterns and an SVM, on these corpora"
    command.add_argument("--lbp-svm", nargs="+", metavar="CORPUS", default=[], help=text)
    text = "corpora to choose the SVM's penalty on"
    command.add_argument("--lbp-validation", nargs="+", metavar="CORPUS", default=[], help=text)
    text = "weights of facenet-pytorch's InceptionResnetV1 on disk: a row of its own"
    command.add_argument("--inception", metavar="FILE.pt", help=text)


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no rate between 0 and 1")
    return value
