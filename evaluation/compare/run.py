"""Several checkpoints and baselines run over the same corpora and compared: Tables 2 to 5, Figures 3 and 4.

    python -m evaluation compare --model runs/dynamic runs/static_1_1 runs/single_expression \\
        --data corpora/lfw:9 corpora/ferplus:valid --out results/comparison

A run's folder stands for its last model (`last`), chosen before anything was evaluated. The paper's Figures 6 and 7,
the weights and losses of runs side by side, are drawn by `python -m train.figures`.
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
from evaluation.compare.seeds import first_of_each
from evaluation.embeddings.compute import BATCH_SIZE, embed_checkpoint
from evaluation.embeddings.table import Embeddings
from evaluation.protocols.pairs import ScoredPairs, draw_pairs, score_pairs
from evaluation.training_record import TrainingSummary, summarise_training
from face_data.pairs import pairs_of_splits
from face_data.table import load_corpus, split_corpus

LBP, INCEPTION = "LBP+SVM", "Inception-ResNet-v1"


@dataclass(frozen=True)
class ComparedCorpus:
    """name: as `--data` has it. For the figures, of one network per name (`seeds.first_of_each`): label -> pairs, and
    label -> embeddings; both empty where verification was not compared."""

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
    """Compare on every corpus. With several processes all must exhaust the iterator; only the first gets results.

    Args:
        models: names of checkpoints, or folders of runs.
        data: corpora, with splits as in `corpora/lfw:9,10`.
        reference: label of the row the others are compared with; None takes the first one trained for the task.
        lbp_svm, lbp_validation: corpora to train and validate the classical baseline on; none leaves it out.
        inception: file of InceptionResnetV1 weights; None leaves it out.

    Raises:
        ValueError: two models have the same label, there is no such reference, or a corpus has no labels for anything
            these models were trained for.
    """
    is_main = PartialState().is_main_process
    checkpoints = {label: load_checkpoint(name, device) for label, name in _labelled(models).items()}
    trained = {label: summarise_training(checkpoint.training) for label, checkpoint in checkpoints.items()}
    classical = None
    if lbp_svm and is_main:
        train = [load_corpus(*split_corpus(text)) for text in lbp_svm]
        validation = [load_corpus(*split_corpus(text)) for text in lbp_validation]
        classical = baselines.train_lbp_svm(train, validation, seed=seed)
        trained[LBP] = classical.record
    if inception:
        trained[INCEPTION] = TrainingSummary(tasks=["verification"])
    if reference and reference not in trained and (is_main or reference != LBP):
        raise ValueError(f"--reference {reference}: no such row; there are {', '.join(trained)}")
    for text in data:
        corpus = load_corpus(*split_corpus(text))
        tables = {
            label: embed_checkpoint(checkpoint, corpus, batch_size, cache) for label, checkpoint in checkpoints.items()
        }
        if not is_main:
            continue
        if classical is not None:
            tables[LBP] = baselines.embed_lbp_svm(classical, corpus)
        if inception:
            tables[INCEPTION] = baselines.embed_inception_resnet_v1(
                inception, corpus, device=device, batch_size=batch_size
            )
        yield _compare_on(text, tables, trained, reference, far, seed)


def _compare_on(
    text: str,
    tables: dict[str, Embeddings],
    trained: dict[str, TrainingSummary],
    reference: str | None,
    far: float,
    seed: int,
) -> ComparedCorpus:
    first = next(iter(tables.values()))
    labels = {"verification": first.identities, "expression": first.expressions}
    references = {}
    for task, values in labels.items():
        candidates = [label for label, summary in trained.items() if task in summary.tasks]
        if candidates and any(value is not None for value in values):
            references[task] = reference if reference in candidates else candidates[0]
    if not references:
        raise ValueError(f"{text}: it has no labels for anything these models were trained for")
    pairs, curve_pairs, curves, drawn = [], [], {}, {}
    if "verification" in references:
        pairs = pairs_of_splits(*split_corpus(text), first.keys) or balanced_pairs(first, seed)
        curve_pairs = draw_pairs(first, seed)
        candidates = {label: table for label, table in tables.items() if "verification" in trained[label].tasks}
        drawn = {label: candidates[label] for label in first_of_each(list(candidates))}
        curves = {label: score_pairs(curve_pairs, table) for label, table in drawn.items()}
    comparison = compare(tables, trained, references, pairs=pairs, curve_pairs=curve_pairs, far=far, seed=seed)
    return ComparedCorpus(text, comparison, curves, drawn)


def _labelled(models: Sequence[str]) -> dict[str, str]:
    """A label for each model's row -> its name: `runs/dynamic` and `runs/dynamic/last` are dynamic."""
    names = {}
    for model in models:
        path, folder = Path(model), local_copy(model)
        name = str(folder / "last") if (folder / "last").is_dir() else model
        label = (path.parent.name if path.name in ("last", "best") else path.name) or model
        if label in names:
            raise ValueError(f"{model}: another model is called {label}, too; rename one of the folders")
        names[label] = name
    return names
