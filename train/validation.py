"""How the network does on people it does not learn from, while it learns: a few honest numbers, no tables."""

from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import DataLoader

from face_data.pairs import Pair, generate_pairs, read_pairs
from face_data.table import EXPRESSIONS, load_corpus
from train.config import TrainingConfig, split_corpus

GENUINE_PER_PERSON = 50  # so that the few much-photographed people do not decide


@torch.inference_mode()
def validate(
    model: nn.Module, whiten, config: TrainingConfig, expressions: tuple[str, ...], device
) -> dict[str, float]:
    """Run the network over every validation corpus.

    Args:
        whiten: faces (b, 3, h, w) -> the network's input, the image processor's.

    Returns:
        by corpus: `verification_accuracy` (threshold chosen on these very pairs: for comparing epochs, not for
        reporting) and `verification_auc` where the corpus knows people; `expression_accuracy` and the recall of each
        expression with at least 20 photographs where it knows expressions.
    """
    was_training = model.training
    model.eval()
    results = {}
    for text in config.validation:
        folder, splits = split_corpus(text)
        corpus = load_corpus(folder, splits)
        embeddings, predictions = _forward(model, whiten, corpus, config, device)
        numbers = _expression_numbers(predictions, corpus["expression"][:], expressions)
        numbers |= _verification_numbers(embeddings, _pairs(corpus, folder, splits), corpus["key"][:])
        results |= {f"{Path(folder).name}_{name}": value for name, value in numbers.items()}
    model.train(was_training)
    return results


def _forward(model, whiten, corpus, config: TrainingConfig, device) -> tuple[np.ndarray, np.ndarray]:
    def collate(rows):
        return torch.stack([torch.from_numpy(np.array(row["image"])).permute(2, 0, 1) for row in rows])

    faces_only = corpus.select_columns("image")  # reading whole rows takes many times as long
    loader = DataLoader(faces_only, config.batch_size, collate_fn=collate, num_workers=config.workers)
    embeddings, predictions = [], []
    for faces in loader:
        output = model(whiten(faces.to(device)))
        embeddings.append(output.embedding.float().cpu())
        predictions.append(output.expression_logits.argmax(dim=1).cpu())
    return torch.cat(embeddings).numpy(), torch.cat(predictions).numpy()


def _pairs(corpus, folder: str, splits: list[str] | None) -> list[Pair]:
    """The publisher's pairs within these splits; where it ships none, pairs of the people the corpus knows."""
    if (Path(folder) / "pairs.csv").exists():
        return [pair for pair in read_pairs(folder) if splits is None or str(pair.fold) in splits]
    if not any(corpus["identity"][:]):
        return []
    return generate_pairs(
        corpus["key"][:], corpus["identity"][:], impostors=2000, seed=0, genuine_per_person=GENUINE_PER_PERSON
    )


def _verification_numbers(embeddings: np.ndarray, pairs: list[Pair], keys: list[str]) -> dict[str, float]:
    row = {key: index for index, key in enumerate(keys)}
    pairs = [pair for pair in pairs if pair.first in row and pair.second in row]
    same = np.array([pair.same for pair in pairs], dtype=bool)
    if not same.any() or same.all():
        return {}
    similarity = np.array([embeddings[row[pair.first]] @ embeddings[row[pair.second]] for pair in pairs])
    accuracy = max(((similarity >= threshold) == same).mean() for threshold in similarity)
    return {"verification_accuracy": float(accuracy), "verification_auc": float(roc_auc_score(same, similarity))}


def _expression_numbers(predictions: np.ndarray, labels: list[int | None], expressions: tuple[str, ...]) -> dict:
    names = [None if label is None else EXPRESSIONS[label] for label in labels]
    known = [row for row, name in enumerate(names) if name in expressions]
    if not known:
        return {}
    truth = np.array([expressions.index(names[row]) for row in known])
    correct = predictions[known] == truth
    numbers = {"expression_accuracy": float(correct.mean())}
    for index, name in enumerate(expressions):
        if (truth == index).sum() >= 20:
            numbers[f"{name}_recall"] = float(correct[truth == index].mean())
    return numbers
