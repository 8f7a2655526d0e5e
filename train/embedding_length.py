"""The length of the embeddings: fitted after the training, on the people the network has learnt from.

`train.export --people` calls it. For every photograph of many people it asks how alike the NEAREST most alike strangers
are, one photograph of each person; a ridge regression predicts that from the embedding's direction, and
`modeling_facelivenet.EmbeddingLength` turns it into a length. The same correction is made in speaker recognition with
the strangers themselves (adaptive score normalisation: Matejka et al., Interspeech 2017); predicted, it takes 1,793
numbers instead of a cohort of people's embeddings in the checkpoint, and the similarity stays a dot product.
"""

from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from sklearn.linear_model import Ridge

from face_data.table import CorpusError, column, load_corpus, split_corpus
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import EmbeddingLength, FaceLiveNetModel
from train.validation import run_over

NEAREST = 100  # strangers; 20 and 300 verify as well or slightly worse
RIDGE = 0.1  # 0.01 to 10 make little difference
LONGEST_SHARE = 0.001  # of the photographs have length 1: the least crowded ones
BATCH = 64


def fit_embedding_length(
    model: FaceLiveNetModel, processor: FaceLiveNetImageProcessor, corpora: Sequence[str]
) -> dict[str, float]:
    """Give the network an `EmbeddingLength`, in place of any it has.

    Args:
        model: in float32, on the CPU; left in evaluation mode.
        corpora: prepared ones as FOLDER or FOLDER:SPLIT,SPLIT, which the network was trained on. Each photograph
            without a name counts as one more person.

    Returns:
        for the training record: how many photographs and people, the mean similarity to the nearest strangers, its
        standard deviation, and the correlation of the prediction with it.

    Raises:
        CorpusError: fewer than 2 · NEAREST people.
    """
    without_embedding_length(model.eval())
    directions, people = _directions(model, processor, corpora)
    names, person = np.unique(people, return_inverse=True)
    if len(names) < 2 * NEAREST:
        raise CorpusError(f"--people: {len(names)} people are too few to fit a length on, {2 * NEAREST} are needed")
    _, first = np.unique(people, return_index=True)
    alike = directions @ directions[first].T  # (photographs, people)
    alike[np.arange(len(person)), person] = -np.inf
    crowding = np.partition(alike, -NEAREST, axis=1)[:, -NEAREST:].mean(axis=1)
    fitted = Ridge(RIDGE).fit(directions, crowding)
    predicted = fitted.predict(directions)
    least = float(np.quantile(predicted, LONGEST_SHARE))
    if not least > 0:
        raise CorpusError("--people: strangers are not alike enough for this network to fit a length on them")
    model.config.embedding_length = True
    model.length = EmbeddingLength(model.config)
    with torch.no_grad():
        model.length.crowding.weight.copy_(torch.from_numpy(fitted.coef_ / least)[None])
        model.length.crowding.bias.fill_(float(fitted.intercept_) / least)
    return {
        "photographs": len(people),
        "people": len(names),
        "crowding": round(float(crowding.mean()), 4),
        "deviation": round(float(crowding.std()), 4),
        "correlation": round(float(np.corrcoef(predicted, crowding)[0, 1]), 4),
    }


def without_embedding_length(model: FaceLiveNetModel) -> None:
    """Every embedding has length 1 again."""
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
        parts.append(run_over(model, processor.whiten, corpus, accelerator, BATCH, workers=0, task=task)[0])
    return np.concatenate(parts).astype(np.float64), np.array(people)
