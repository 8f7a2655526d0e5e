"""Several checkpoints and baselines run over the same corpora, compared, and drawn: Tables 2 to 5, Figures 3 and 4.

    python -m evaluation compare --model runs/dynamic runs/static_1_1 runs/single_expression \\
        --data corpora/lfw:9 corpora/ferplus:valid --out results/comparison

A run's folder stands for its last model (`last`), chosen before anything was judged. The paper's Figures 6 and 7, the
weights and losses of runs side by side, are drawn by `python -m train.figures`.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from evaluation import baselines, figures
from evaluation.comparison import balanced_pairs, compare, seed_of
from evaluation.comparison_table import comparison_text, training_record
from evaluation.embeddings import Embeddings, embed_checkpoint, load_checkpoint
from evaluation.report import write_json
from evaluation.verification import draw_pairs, score_pairs
from face_data.pairs import read_pairs
from face_data.table import load_corpus, split_corpus

LBP, INCEPTION = "LBP+SVM", "Inception-ResNet-v1"
MOST_PANELS = 6  # of t-SNE


def run_comparison(arguments: argparse.Namespace) -> Path:
    """Compare on every corpus, print the tables, write OUT/comparison.json and the figures; returns its path.

    The file holds "schema_version" and "corpora": what `--data` says -> the section that `comparison.compare` returns.
    """
    folders = _labelled(arguments.model)
    trained = {label: training_record(folder) for label, folder in folders.items()}
    checkpoints = {label: load_checkpoint(folder, arguments.device) for label, folder in folders.items()}
    machine = None
    if arguments.lbp_svm and arguments.speaks:
        train = [load_corpus(*split_corpus(text)) for text in arguments.lbp_svm]
        validation = [load_corpus(*split_corpus(text)) for text in arguments.lbp_validation]
        machine = baselines.train_lbp_svm(train, validation, seed=arguments.seed)
        trained[LBP] = machine.record
    if arguments.inception:
        trained[INCEPTION] = baselines.INCEPTION_RECORD
    if arguments.reference and arguments.reference not in trained:
        raise ValueError(f"--reference {arguments.reference}: no such row; there are {', '.join(trained)}")
    results = {}
    for text in arguments.data:
        corpus = load_corpus(*split_corpus(text))
        models = {
            label: embed_checkpoint(checkpoint, corpus, arguments.batch_size, arguments.cache)
            for label, checkpoint in checkpoints.items()
        }
        if not arguments.speaks:
            continue
        if machine is not None:
            models[LBP] = baselines.embed_lbp_svm(machine, corpus)
        if arguments.inception:
            models[INCEPTION] = baselines.embed_inception_resnet_v1(
                arguments.inception, corpus, device=arguments.device, batch_size=arguments.batch_size
            )
        results[text] = _judge(arguments, models, trained, text)
    path = arguments.out / "comparison.json"
    if arguments.speaks:
        write_json(path, {"schema_version": 1, "corpora": results})
    return path


def _judge(arguments, models: dict[str, Embeddings], trained: dict[str, dict], text: str) -> dict:
    """One corpus's section, printed and drawn."""
    data, splits = split_corpus(text)
    first = next(iter(models.values()))
    labelled = {"verification": first.identities, "expression": first.expressions}
    references = {
        task: reference
        for task, labels in labelled.items()
        if any(label is not None for label in labels)
        and (reference := _reference(arguments.reference, trained, task)) is not None
    }
    if not references:
        raise ValueError(f"{text}: it has no labels for anything these models were trained for")
    pairs, curve_pairs = [], []
    if "verification" in references:
        pairs = [pair for pair in read_pairs(data, missing_ok=True) if splits is None or str(pair.fold) in splits]
        pairs = pairs or balanced_pairs(first, arguments.seed)
        curve_pairs = draw_pairs(first, arguments.seed)
    section = compare(
        models, trained, references, pairs=pairs, curve_pairs=curve_pairs, far=arguments.far, seed=arguments.seed
    )
    print(f"{text}\n{comparison_text(section)}\n")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if "verification" in references:
        able = {label: own for label, own in models.items() if "verification" in trained[label]["tasks"]}
        able = {label: able[label] for label in one_of_each(able)}
        name = re.sub("[^a-zA-Z0-9]+", "_", text).strip("_")
        scored = {label: score_pairs(curve_pairs, own) for label, own in able.items()}
        curves = {label: (own.scores, own.same) for label, own in scored.items()}
        figures.draw_roc(curves, arguments.out / f"roc_{name}.png")
        figures.draw_det(curves, arguments.out / f"det_{name}.png")
        panels = dict(list(able.items())[:MOST_PANELS])
        figures.draw_embeddings(panels, arguments.out / f"tsne_{name}.png", arguments.seed)
    return section


def one_of_each(labels: Sequence[str]) -> list[str]:
    """The labels that are drawn: of networks that differ by their seed alone the first."""
    first = {}
    for label in labels:
        named = seed_of(label)
        first.setdefault(named[0] if named else label, label)
    return list(first.values())


def _reference(asked: str | None, trained: dict[str, dict], task: str) -> str | None:
    """The row the others are compared with: the one asked for, or the first that was trained for the task."""
    able = [label for label, record in trained.items() if task in record["tasks"]]
    return asked if asked in able else next(iter(able), None)


def _labelled(models: Sequence[str]) -> dict[str, str]:
    """A name for each model's row -> its folder: `runs/dynamic` and `runs/dynamic/last` are dynamic."""
    folders = {}
    for model in models:
        path = Path(model)
        folder = path / "last" if (path / "last").is_dir() else path
        label = (path.parent.name if path.name in ("last", "best") else path.name) or model
        if label in folders:
            raise ValueError(f"{model}: another model is called {label}, too; rename one of the folders")
        folders[label] = str(folder)
    return folders
