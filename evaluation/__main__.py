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
`python -m face_data prepare` wrote, or the Hub id of one. Each protocol prints its tables and adds them to
OUT/results.json, draws the figures beside it and writes everything as a page, OUT/report.html; `compare` writes
OUT/comparison.json, `calibrate` the model's config.json. Thresholds are chosen on fold 9 (`calibrate`), verification
and decisions are reported on fold 10, expressions and sessions, which have few labels, on both: look at fold 9 with
--splits 9 as often as you like, at fold 10 once.
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
from evaluation.embeddings.compute import BATCH_SIZE, embed_checkpoint
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
    results_of,
    results_schema,
    write_json,
)
from evaluation.report.summary import write_summary
from evaluation.report.text import calibration_text, section_text
from evaluation.statistics.rates import to_json
from face_data.cache_folder import default_folder
from face_data.table import column, load_corpus, split_corpus

TSNE_PANELS = 6
COMMANDS = {
    "verification": "LFW View 2 in ten folds, fold 10 with thresholds from fold 9, generated and hard pairs",
    "expression": "accuracy, recall, confusion matrix, calibration (default: folds 9 and 10, or valid and test)",
    "authentication": "identity and expression in one decision per trial (default: fold 10, or valid and test)",
    "sessions": "simulated challenge sessions, BPCER and APCER (default: folds 9 and 10, or valid and test)",
    "degradations": "strangers accepted where both photographs are covered, blurred, dark or turned (default: fold 10)",
    "all": "the five protocols above, and slices by each column of the corpus",
    "folds": "a `--fold all` run: each fold evaluated by its own network, at thresholds of its validation fold",
    "compare": "several models and baselines on the same images: tables, paired tests, ROC, DET, t-SNE",
    "calibrate": "choose both thresholds on people that were not trained on, and store them in MODEL/config.json",
    "page": "write OUT/report.html again from OUT/results.json, or with --readme the results in a Markdown page",
    "schema": "print the JSON schema of results.json",
}


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    logging.disable_progress_bar()
    try:
        if arguments.command == "schema":
            print(json.dumps(results_schema(), indent=1))
        elif arguments.command == "page" and arguments.readme:
            write_summary(read_results(arguments.out / FILE), arguments.readme)
            print(arguments.readme)
        elif arguments.command == "page":
            print(write_page(arguments.out))
        else:
            state = PartialState(cpu=arguments.device == "cpu")
            device = state.device if arguments.device == "cuda" else arguments.device  # each process its own GPU
            run = {"calibrate": _calibrate, "compare": _compare, "folds": _folds}.get(arguments.command, _evaluate)
            run(arguments, device, state.is_main_process)
    except (OSError, ValueError) as error:
        print(f"evaluation: {error}", file=sys.stderr)
        return 2
    return 0


def _evaluate(arguments, device, is_main: bool) -> None:
    protocols = PROTOCOLS if arguments.command == "all" else (arguments.command,)
    checkpoint = load_checkpoint(arguments.model, device)
    config = checkpoint.network.config
    if {"authentication", "sessions", "degradations"} & set(protocols) and config.similarity_threshold is None:
        raise ValueError(
            f"{arguments.model} has no similarity_threshold, so nobody can be accepted: "
            "run `python -m evaluation calibrate` on it first"
        )
    if arguments.flip and not config.test_time_flip:
        if checkpoint.path.is_file():
            raise ValueError(f"{arguments.model}: an exported graph cannot average mirror images; export it with them")
        config.test_time_flip = True
    record = ModelRecord(name=checkpoint.name, sha256=checkpoint.sha256)
    results_of(arguments.out, record)  # a folder of other weights is refused before the work
    for data in arguments.data:
        outcomes = evaluate_corpus(
            checkpoint,
            data,
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
                raise ValueError(f"{data}: {outcome.reason}, so {outcome.protocol} cannot be evaluated")
            else:
                print(f"{outcome.protocol} is left out for {data}: {outcome.reason}")
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
    if not Path(arguments.model).is_dir():
        raise FileNotFoundError(f"{arguments.model}: no such folder; the thresholds are written into its config.json")
    checkpoint = load_checkpoint(arguments.model, device)
    config = checkpoint.network.config
    corpora, faces = {}, []
    for text in arguments.data:
        data, splits = split_corpus(text)
        name = corpus_record(data).name
        if name in corpora:
            raise ValueError(f"{text}: another corpus is called {name}, too; give all its splits together")
        corpus = load_corpus(data, splits or arguments.splits)
        faces.append(corpus)
        corpora[name] = embed_checkpoint(checkpoint, corpus, arguments.batch_size, arguments.cache)
    if not is_main:
        return
    required = arguments.challenge or config.challenge_expressions
    for name in required:
        if name not in config.expressions:
            raise ValueError(f"--challenge {name}: the model knows {', '.join(config.expressions)}")
    calibration = calibrate(
        corpora,
        far=arguments.far,
        required=required,
        expression_threshold=config.expression_threshold,
        trained_on=checkpoint.trained_on,
        seed=arguments.seed,
    )
    if not calibration.calibration.train_splits_known:
        print(
            f"{arguments.model}: it is not recorded which people it was trained on, possibly on these", file=sys.stderr
        )
    settings = to_json(calibration) | ({"challenge_expressions": list(required)} if arguments.challenge else {})
    # the people the threshold was chosen on: other corpora, such as grey thumbnails, say nothing about cameras
    of_people = [corpus for corpus in faces if any(column(corpus, "identity"))]
    settings["quality"], settings["calibration"]["quality"] = calibrate_quality(of_people)
    settings["calibrated_weights"] = checkpoint.network.fingerprint()  # with other weights none of it counts
    path = store(settings, checkpoint.path)
    print(f"{calibration_text(calibration)}\nwritten to {path}")


def _report(out: Path, record: ModelRecord, protocol: str, name: str, section: Section, curves, stem: str = "") -> None:
    section = replace(section, figures=figures.draw_section(section, stem or name, curves, out))
    add_section(out, record, protocol, name, section)
    print(section_text(section))


def _print_page(out: Path) -> None:
    print(f"{out / FILE}, figures, and everything as a page: {write_page(out)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == "page":
            command.add_argument("--out", type=Path, required=True, help="folder of results.json")
            text = "write the block of results in this Markdown page instead, such as README.md"
            command.add_argument("--readme", type=Path, metavar="FILE.md", help=text)
        elif name != "schema":
            _add_inputs(command, name)
            {"calibrate": _add_calibration, "compare": _add_comparison}.get(name, _add_protocol)(command)
    return parser


def _add_inputs(command: argparse.ArgumentParser, name: str) -> None:
    model = "folder, Hub id (owner/name or owner/name@revision) or .onnx file"
    several = {} if name == "folds" else {"nargs": "+"}
    if name == "compare":
        command.add_argument("--model", required=True, nargs="+", help=f"{model}; a run's folder means its last model")
    else:
        command.add_argument("--model", required=True, help="folder of the run" if name == "folds" else model)
    data = "prepared corpus: a folder or a Hub id"
    if name in ("compare", "calibrate"):
        data += ", with :SPLIT,SPLIT for some splits"
    command.add_argument("--data", required=True, metavar="CORPUS", help=data, **several)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    command.add_argument("--far", type=_rate, default=0.01, help="false accept rate to report at (default 0.01)")
    command.add_argument("--seed", type=int, default=0, help="of generated pairs, trials and bootstrap (default 0)")
    command.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="faces per batch (default %(default)s)")
    command.add_argument("--device", default=device, help="cpu or cuda (default here: %(default)s)")
    text = "directory of the embedding cache (default: %(default)s)"
    command.add_argument("--cache", type=Path, default=default_folder(), metavar="FOLDER", help=text)
    command.add_argument("--no-cache", dest="cache", action="store_const", const=None, help="do not cache embeddings")


def _add_protocol(command: argparse.ArgumentParser) -> None:
    name = command.prog.split()[-1]
    command.set_defaults(splits=None, classes=(), required=(), flip=False, slices=())
    command.add_argument("--out", type=Path, default=Path("results"), help="for results.json (default results)")
    if name != "folds":
        text = "splits of the corpus to evaluate"
        if name in ("verification", "all"):
            text += "; verification then uses generated pairs of their people, not View 2"
        command.add_argument("--splits", nargs="+", metavar="SPLIT", help=text)
        command.add_argument("--flip", action="store_true", help="average each face with its mirror image in any case")
    if name in ("expression", "all", "folds"):
        text = "6, 7, 8 or names, and what counts as another: 7 contempt=disgust (default: the model's own)"
        command.add_argument("--classes", nargs="+", metavar="CLASS", help=text)
    if name in ("authentication", "sessions", "all", "folds"):
        text = "expressions to request (default: the checkpoint's challenge_expressions)"
        command.add_argument("--required", nargs="+", metavar="EXPRESSION", help=text)
    if name == "all":
        text = "report by these columns of the corpus, too, such as gender (default: all it has)"
        command.add_argument("--slices", nargs="*", metavar="COLUMN", default=None, help=text)


def _add_calibration(command: argparse.ArgumentParser) -> None:
    command.add_argument("--splits", nargs="+", default=["9"], help="of corpora named without splits (default 9)")
    text = "expressions a session may request; stored in the config (default: the config's challenge_expressions)"
    command.add_argument("--challenge", nargs="+", metavar="EXPRESSION", help=text)


def _add_comparison(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, default=Path("results/comparison"), help="for comparison.json")
    command.add_argument("--reference", metavar="NAME", help="the row others are compared with (default: the first)")
    text = "train the classical baseline, histograms of local binary patterns and an SVM, on these corpora"
    command.add_argument("--lbp-svm", nargs="+", metavar="CORPUS", default=[], help=text)
    text = "corpora to choose the SVM's penalty on"
    command.add_argument("--lbp-validation", nargs="+", metavar="CORPUS", default=[], help=text)
    text = "file of facenet-pytorch's InceptionResnetV1 weights, evaluated as another row"
    command.add_argument("--inception", metavar="FILE.pt", help=text)


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a rate between 0 and 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
