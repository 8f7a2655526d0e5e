"""Runs several checkpoints and baselines over the same corpora and compares them: Tables 2 to 5, Figures 3 and 4.

    python -m evaluation compare --model runs/dynamic runs/static_1_1 runs/single_expression \\
        --data corpora/lfw:9 corpora/ferplus:valid --out results/comparison

The folder of a run stands for its last model (`last`), so the choice does not depend on any evaluation. `command` calls
`compare_checkpoints`. Read `models` next. `python -m train.figures` draws the paper's Figures 6 and 7, the weights and
losses of several runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState

from addresses import local_copy
from checkpoints import load_checkpoint
from evaluation.compare import baselines
from evaluation.compare.models import balanced_pairs, compare
from evaluation.compare.results import Comparison
from evaluation.compare.seeds import first_seed_of_each
from evaluation.embeddings.compute import BATCH_SIZE, embed_checkpoint
from evaluation.embeddings.table import Embeddings
from evaluation.protocols.pairs import ScoredPairs, draw_pairs, score_pairs
from evaluation.training_record import TrainingSummary, summarise_training
from face_data.pairs import pairs_of_splits
from face_data.table import load_corpus, split_corpus

LBP, INCEPTION = "LBP+SVM", "Inception-ResNet-v1"


@dataclass(frozen=True)
class ComparedCorpus:
    """name: as in `--data`. curves (label -> pairs), embeddings (label -> table): for figures, with one seed of each
    network (`seeds.first_seed_of_each`); both are empty if verification was not compared."""

    name: str
    comparison: Comparison
    curves: dict[str, ScoredPairs]
    embeddings: dict[str, Embeddings]


def compare_checkpoints(
    models: Sequence[str],
    data: Sequence[str],
    *,
    device: str,
    far: float,
    seed: int,
    reference: str | None = None,
    lbp_svm: Sequence[str] = (),
    lbp_validation: Sequence[str] = (),
    inception: str | None = None,
    batch_size: int = BATCH_SIZE,
    cache: Path | None = None,
) -> Iterator[ComparedCorpus]:
    """Compare on every corpus. Every process must exhaust the iterator; only the main process gets results.

    Args:
        models: names of checkpoints, or folders of runs.
        data: corpora, with splits as in `corpora/lfw:9,10`.
        reference: label of the row with which the others are compared; None takes the first one trained for the task.
        lbp_svm, lbp_validation: corpora on which the classical baseline is trained and validated; without corpora it
            is not compared.
        inception: file of InceptionResnetV1 weights; None compares without it.

    Raises:
        ValueError: two models have the same label, there is no such reference, or a corpus has no labels for any task
            of these models.
    """
    is_main = PartialState().is_main_process
    checkpoints = {label: load_checkpoint(name, device) for label, name in _labelled(models).items()}
    trained = {label: summarise_training(checkpoint.training) for label, checkpoint in checkpoints.items()}
    lbp_baseline = None
    if lbp_svm and is_main:
        train = [load_corpus(*split_corpus(corpus_text)) for corpus_text in lbp_svm]
        validation = [load_corpus(*split_corpus(corpus_text)) for corpus_text in lbp_validation]
        lbp_baseline = baselines.train_lbp_svm(train, validation, seed=seed)
        trained[LBP] = lbp_baseline.record
    if inception:
        trained[INCEPTION] = TrainingSummary(tasks=["verification"])
    if reference and reference not in trained and (is_main or reference != LBP):
        raise ValueError(f"--reference {reference}: no such row; there are {', '.join(trained)}")
    for corpus_text in data:
        corpus = load_corpus(*split_corpus(corpus_text))
        tables = {
            label: embed_checkpoint(checkpoint, corpus, batch_size, cache) for label, checkpoint in checkpoints.items()
        }
        if not is_main:
            continue
        if lbp_baseline is not None:
            tables[LBP] = baselines.embed_lbp_svm(lbp_baseline, corpus)
        if inception:
            tables[INCEPTION] = baselines.embed_inception_resnet_v1(
                inception, corpus, device=device, batch_size=batch_size
            )
        yield _compare_on(corpus_text, tables, trained, reference, far, seed)


def _compare_on(
    text: str,
    tables: dict[str, Embeddings],
    trained: dict[str, TrainingSummary],
    reference: str | None,
    far: float,
    seed: int,
) -> ComparedCorpus:
    first_table = next(iter(tables.values()))
    labels = {"verification": first_table.identities, "expression": first_table.expressions}
    references = {}
    for task, values in labels.items():
        candidates = [label for label, summary in trained.items() if task in summary.tasks]
        if candidates and any(label_value is not None for label_value in values):
            references[task] = reference if reference in candidates else candidates[0]
    if not references:
        raise ValueError(f"{text}: it has no labels for any task of these models")
    pairs, curve_pairs, curves, figure_embeddings = [], [], {}, {}
    if "verification" in references:
        pairs = pairs_of_splits(*split_corpus(text), first_table.keys) or balanced_pairs(first_table, seed)
        curve_pairs = draw_pairs(first_table, seed)
        candidates = {label: table for label, table in tables.items() if "verification" in trained[label].tasks}
        figure_embeddings = {label: candidates[label] for label in first_seed_of_each(list(candidates))}
        curves = {label: score_pairs(curve_pairs, table) for label, table in figure_embeddings.items()}
    comparison = compare(tables, trained, references, pairs=pairs, curve_pairs=curve_pairs, far=far, seed=seed)
    return ComparedCorpus(text, comparison, curves, figure_embeddings)


def _labelled(models: Sequence[str]) -> dict[str, str]:
    """Label -> name of the model. The label of `runs/dynamic` and of `runs/dynamic/last` is `dynamic`."""
    names = {}
    for model in models:
        path, folder = Path(model), local_copy(model)
        name = str(folder / "last") if (folder / "last").is_dir() else model
        label = (path.parent.name if path.name in ("last", "best") else path.name) or model
        if label in names:
            raise ValueError(f"{model}: another model has the same label, {label}; rename one of the folders")
        names[label] = name
    return names
