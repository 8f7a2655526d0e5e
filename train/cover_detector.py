"""Fits the detector of covered eyes and mouths after the training, on faces of the training.

Called by `export` with --faces. The network gets each face three times: unchanged, with covered eyes and with a covered
mouth (`deceptions.cover`). Two logistic regressions on the direction of the embedding distinguish these, and become the
layer of `modeling_facelivenet.CoverDetector`. Next to read: train/deceptions.py.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from tqdm import tqdm

from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import COVERED, CoverDetector, FaceLiveNetModel
from train.batches import TrainingFaces
from train.deceptions import cover
from train.photographs import Photographs

MOST_FACES = 1500  # largest number of faces of a corpus
INVERSE_REGULARISATION = 250.0  # of embeddings of length 1; ten times more or less makes little difference
HELD_OUT = 5  # every fifth face is not used for the fit, but for the numbers of the record
BATCH = 64


def fit_cover_detector(
    model: FaceLiveNetModel, processor: FaceLiveNetImageProcessor, corpora: Sequence[str]
) -> dict[str, float]:
    """Fit a `CoverDetector` and add it to the network, or replace its earlier one. The result is reproducible.

    Args:
        model: in float32, on the CPU; afterwards in evaluation mode.
        corpora: prepared corpora of the training, as FOLDER or FOLDER:SPLIT,SPLIT.

    Returns:
        the entry of the training record: the number of faces, and for eyes and mouth the share of covered faces that
        are detected, and of uncovered faces that are detected by mistake, both among the faces not used for the fit.

    Raises:
        CorpusError: there is no such corpus, or its landmarks are unknown.
    """
    without_cover_detector(model.eval())
    parts = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for text in corpora:
            faces = TrainingFaces(Photographs([text], model.config.expressions, landmarks=True))
            chosen = torch.randperm(len(faces))[:MOST_FACES].tolist()
            for start in tqdm(range(0, len(chosen), BATCH), desc=f"covers, {text}"):
                batch = faces.__getitems__(chosen[start : start + BATCH])
                parts.append(_directions(model, processor, batch.faces.float(), batch.landmarks.float()))
    directions = np.concatenate(parts)  # (faces, 3, d): unchanged, eyes covered, mouth covered
    held_out = np.arange(len(directions)) % HELD_OUT == 0
    record = {"faces": len(directions)}
    model.config.cover_detector, model.covers = True, CoverDetector(model.config)
    for number, name in enumerate(COVERED):
        labels = np.tile(np.arange(3) == 1 + number, len(directions)).reshape(-1, 3)
        fitted = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=2000)
        fitted.fit(directions[~held_out].reshape(-1, directions.shape[2]), labels[~held_out].ravel())
        with torch.no_grad():
            model.covers.covered.weight[number] = torch.from_numpy(fitted.coef_[0])
            model.covers.covered.bias[number] = float(fitted.intercept_[0])
        detected = directions[held_out] @ fitted.coef_[0] + fitted.intercept_[0] > 0
        record[name] = {
            "seen": round(float(detected[labels[held_out]].mean()), 4),
            "falsely_seen": round(float(detected[~labels[held_out]].mean()), 4),
        }
    return record


def without_cover_detector(model: FaceLiveNetModel) -> None:
    """Remove the `CoverDetector` of a network, and the quality bounds that were calibrated with it."""
    model.covers, model.config.cover_detector, model.config.quality = None, False, None


@torch.inference_mode()
def _directions(model, processor, faces: Tensor, landmarks: Tensor) -> np.ndarray:
    """(b, 3, d) directions of the embeddings of faces (b, 3, h, w): unchanged, eyes covered, mouth covered."""
    variants = (faces, cover(faces, landmarks, "eyes"), cover(faces, landmarks, "mouth"))
    embeddings = (model(processor.whiten(images)).embedding for images in variants)
    return torch.stack([F.normalize(embedding, dim=1) for embedding in embeddings], dim=1).numpy()
