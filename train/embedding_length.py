"""Fits the length of the embeddings after the training, on the people of the training.

Called by `export` with --people. For each photograph the mean similarity to the NEAREST most similar strangers is
computed, with one photograph of each person. A ridge regression predicts this value, the crowding, from the direction
of the embedding, and `modeling_facelivenet.EmbeddingLength` computes a length from it. Speaker recognition makes the
same correction with the strangers themselves (adaptive score normalisation: Matejka et al., Interspeech 2017). The
prediction needs 1,793 numbers in the checkpoint instead of the embeddings of people, and the similarity is still a dot
product. Next to read: train/export.py.
"""

from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from sklearn.linear_model import Ridge

from face_data.table import CorpusError, column, load_corpus, split_corpus
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import EmbeddingLength, FaceLiveNetModel
from train.validation import network_outputs

NEAREST = 100  # strangers; with 20 and 300 verification is as good or slightly worse
RIDGE = 0.1  # penalty of the regression; 0.01 to 10 make little difference
LONGEST_SHARE = 0.001  # share of the photographs whose embedding gets length 1: those with the smallest crowding
BATCH = 64


def fit_embedding_length(
    model: FaceLiveNetModel, processor: FaceLiveNetImageProcessor, corpora: Sequence[str]
) -> dict[str, float]:
    """Fit an `EmbeddingLength` and add it to the network, or replace its earlier one.

    Args:
        model: in float32, on the CPU; afterwards in evaluation mode.
        corpora: prepared corpora of the training, as FOLDER or FOLDER:SPLIT,SPLIT. Each photograph without an identity
            counts as one more person.

    Returns:
        the entry of the training record: the numbers of photographs and people, the mean crowding, its standard
        deviation, and its correlation with the prediction.

    Raises:
        CorpusError: fewer than 2 · NEAREST people, or the strangers are not similar enough for a fit.
    """
    without_embedding_length(model.eval())
    directions, people = _directions(model, processor, corpora)
    names, person = np.unique(people, return_inverse=True)
    if len(names) < 2 * NEAREST:
        raise CorpusError(f"--people: {len(names)} people are too few to fit a length on, {2 * NEAREST} are needed")
    _, first = np.unique(people, return_index=True)
    similarities = directions @ directions[first].T  # (photographs, people)
    similarities[np.arange(len(person)), person] = -np.inf
    crowding = np.partition(similarities, -NEAREST, axis=1)[:, -NEAREST:].mean(axis=1)
    fitted = Ridge(RIDGE).fit(directions, crowding)
    predicted = fitted.predict(directions)
    smallest = float(np.quantile(predicted, LONGEST_SHARE))
    if not smallest > 0:
        raise CorpusError("--people: strangers are not similar enough for this network to fit a length on them")
    model.config.embedding_length = True
    model.length = EmbeddingLength(model.config)
    with torch.no_grad():
        model.length.crowding.weight.copy_(torch.from_numpy(fitted.coef_ / smallest)[None])
        model.length.crowding.bias.fill_(float(fitted.intercept_) / smallest)
    return {
        "photographs": len(people),
        "people": len(names),
        "crowding": round(float(crowding.mean()), 4),
        "deviation": round(float(crowding.std()), 4),
        "correlation": round(float(np.corrcoef(predicted, crowding)[0, 1]), 4),
    }


def without_embedding_length(model: FaceLiveNetModel) -> None:
    """Remove the `EmbeddingLength` of a network: all embeddings have length 1 again."""
    model.length, model.config.embedding_length = None, False


def _directions(model, processor, corpora: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) embeddings of length 1 and (n,) names of people."""
    accelerator, parts, people = Accelerator(cpu=True), [], []
    for text in corpora:
        folder, splits = split_corpus(text)
        corpus = load_corpus(folder, splits, ["image", "identity", "split"])
        identities = column(corpus, "identity")
        people += [f"{folder}/{row if name is None else name}" for row, name in enumerate(identities)]
        task = f"lengths, {folder}"
        parts.append(network_outputs(model, processor.whiten, corpus, accelerator, BATCH, workers=0, task=task)[0])
    return np.concatenate(parts).astype(np.float64), np.array(people)
