"""Validation during training: accuracies on people who are not used for training.

Called by `run` and `folds`, and for embeddings by `embedding_length`. The complete protocols are in evaluation/. Next
to read: face_data/pairs.py.
"""

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object
from sklearn.metrics import roc_auc_score  # here: an import during the training changes the state of `random`
from timm.utils import distribute_bn
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from face_data.pairs import Pair, generate_pairs, read_pairs
from face_data.table import CORPUS_EXPRESSIONS, column, load_corpus, split_corpus
from face_data.thresholds import accuracy, best_threshold
from train.config import TrainingConfig

GENUINE_PER_PERSON = 50  # largest number of pairs of a person, so that people with many photographs do not dominate


@torch.no_grad()
def average_batch_norms(model: nn.Module) -> None:
    """Average the running statistics of batch norm over the processes, in place: they differ, as do their batches."""
    if dist.is_available() and dist.is_initialized():
        distribute_bn(model, dist.get_world_size(), reduce=True)


@torch.inference_mode()
def validate(
    model: nn.Module,
    whiten,
    config: TrainingConfig,
    tasks: tuple[str, ...],
    accelerator: Accelerator,
    thresholds: dict[str, float] | None = None,
) -> dict[str, float]:
    """Evaluate the network on all validation corpora; each process computes a part.

    Args:
        whiten: faces (b, 3, h, w) -> the network's input: `FaceLiveNetImageProcessor.whiten`.
        tasks: the tasks that are trained: "verification", "expression" or both.
        thresholds: name of the folder of a corpus -> threshold of verification; default: the best one for each corpus.

    Returns:
        FOLDER_METRIC -> value. For a corpus with identities the metrics are `verification_accuracy` at
        `verification_threshold`, and `verification_auc`. Without `thresholds` the threshold is chosen on the same
        pairs, so the accuracy can compare epochs, but is optimistic. For a corpus with expressions the metrics are
        `expression_accuracy`, and `EXPRESSION_recall` of each expression with at least 20 photographs.
    """
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    results = {}
    for text in config.validation:
        folder, splits = split_corpus(text)
        corpus = load_corpus(folder, splits)
        embeddings, predictions = network_outputs(model, whiten, corpus, accelerator, config.batch_size, config.workers)
        numbers = {}
        if "expression" in tasks:
            numbers |= _expression_numbers(predictions, column(corpus, "expression"), model.config.expressions)
        if "verification" in tasks:
            threshold = (thresholds or {}).get(Path(folder).name)
            pairs = _pairs(corpus, folder, splits)
            numbers |= _verification_numbers(embeddings, pairs, column(corpus, "key"), threshold)
        results |= {f"{Path(folder).name}_{name}": value for name, value in numbers.items()}
    for layer, training in modes:  # frozen layers stay in evaluation mode
        layer.training = training
    return results


@torch.inference_mode()
def network_outputs(
    model: nn.Module, whiten, corpus, accelerator: Accelerator, batch_size: int, workers: int, task: str = "validate"
) -> tuple[np.ndarray, np.ndarray]:
    """(rows, embedding_dim) float32 embeddings and (rows,) predicted expressions of a corpus, in its order.

    Each process computes a part of the rows.

    Args:
        model: in evaluation mode. whiten: as for `validate`. workers: number of processes that decode images.
        task: title of the progress bar.
    """

    def collate(rows):
        return torch.stack([torch.from_numpy(np.array(row["image"])).permute(2, 0, 1) for row in rows])

    share = -(-len(corpus) // accelerator.num_processes)
    first = accelerator.process_index * share
    rows = corpus.select(range(min(first, len(corpus)), min(first + share, len(corpus))))
    images = rows.select_columns("image")  # reading complete rows takes many times as long
    loader = DataLoader(
        images,
        batch_size,
        collate_fn=collate,
        num_workers=workers,
        generator=torch.Generator(),  # otherwise it would draw from the global one, and change the training
    )
    embeddings, predictions = [np.zeros((0, model.config.embedding_dim), np.float32)], [np.zeros(0, np.int64)]
    for faces in tqdm(loader, desc=task, leave=False, disable=not accelerator.is_main_process):
        with accelerator.autocast():
            output = model(whiten(faces.to(accelerator.device)).to(memory_format=torch.channels_last))
        embeddings.append(output.embedding.float().cpu().numpy())
        predictions.append(output.expression_logits.argmax(dim=1).cpu().numpy())
    outputs_of_processes = gather_object([(np.concatenate(embeddings), np.concatenate(predictions))])
    return tuple(map(np.concatenate, zip(*outputs_of_processes, strict=True)))


def _pairs(corpus, folder: str, splits: list[str] | None) -> list[Pair]:
    """The publisher's pairs within these splits; if there are none, generated pairs of the people in the corpus."""
    if pairs := read_pairs(folder, missing_ok=True):
        return [pair for pair in pairs if splits is None or str(pair.fold) in splits]
    identities = column(corpus, "identity")
    if not any(identities):
        return []
    return generate_pairs(
        column(corpus, "key"), identities, impostors=2000, seed=0, genuine_per_person=GENUINE_PER_PERSON
    )


def _verification_numbers(
    embeddings: np.ndarray, pairs: list[Pair], keys: list[str], threshold: float | None
) -> dict[str, float]:
    row = {key: index for index, key in enumerate(keys)}
    pairs = [pair for pair in pairs if pair.first in row and pair.second in row]
    same = np.array([pair.same for pair in pairs], dtype=bool)
    if not same.any() or same.all():
        return {}
    similarity = np.array([embeddings[row[pair.first]] @ embeddings[row[pair.second]] for pair in pairs])
    if threshold is None:
        threshold = best_threshold(similarity, same)
    return {
        "verification_accuracy": accuracy(similarity, same, threshold),
        "verification_threshold": threshold,
        "verification_auc": float(roc_auc_score(same, similarity)),
    }


def _expression_numbers(predictions: np.ndarray, labels: list[int | None], expressions: tuple[str, ...]) -> dict:
    names = [None if label is None else CORPUS_EXPRESSIONS[label] for label in labels]
    labelled = [row for row, name in enumerate(names) if name in expressions]
    if not labelled:
        return {}
    truth = np.array([expressions.index(names[row]) for row in labelled])
    correct = predictions[labelled] == truth
    numbers = {"expression_accuracy": float(correct.mean())}
    for index, name in enumerate(expressions):
        if (truth == index).sum() >= 20:
            numbers[f"{name}_recall"] = float(correct[truth == index].mean())
    return numbers
