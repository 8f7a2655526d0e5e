"""The detector of covered eyes and mouths: fitted after the training, on faces the network has learnt from.

`train.export --faces` calls it. Each face is shown to the network as it is, with its eyes covered and with its mouth
covered (`deceptions.cover`), and two logistic regressions on the embedding's direction tell these apart. They become
the layer of `modeling_facelivenet.CoverDetector`.
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

MOST_FACES = 1500  # of a corpus
INVERSE_REGULARISATION = 250.0  # of embeddings of length 1; ten times more or less makes little difference
HELD_OUT = 5  # every fifth face is kept for the record
BATCH = 64


def fit_cover_detector(
    model: FaceLiveNetModel, processor: FaceLiveNetImageProcessor, corpora: Sequence[str]
) -> dict[str, float]:
    """Give the network a `CoverDetector`, in place of any it has. The same faces give the same detector.

    Args:
        model: in float32, on the CPU; left in evaluation mode.
        corpora: prepared ones as FOLDER or FOLDER:SPLIT,SPLIT, which the network was trained on.

    Returns:
        for the training record: how many faces, and of those held out the share of covered eyes and mouths that is seen
        and of others that is taken for covered.

    Raises:
        CorpusError: no such corpus, or it does not know where the faces' landmarks are.
    """
    without_cover_detector(model.eval())
    parts = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for text in corpora:
            faces = TrainingFaces([text], model.config.expressions, landmarks=True)
            chosen = torch.randperm(len(faces))[:MOST_FACES].tolist()
            for start in tqdm(range(0, len(chosen), BATCH), desc=f"covers, {text}"):
                batch = faces.__getitems__(chosen[start : start + BATCH])
                parts.append(_directions(model, processor, batch.faces.float(), batch.landmarks.float()))
    directions = np.concatenate(parts)  # (faces, 3, d): bare, eyes covered, mouth covered
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
        seen = directions[held_out] @ fitted.coef_[0] + fitted.intercept_[0] > 0
        record[name] = {
            "seen": round(float(seen[labels[held_out]].mean()), 4),
            "falsely_seen": round(float(seen[~labels[held_out]].mean()), 4),
        }
    return record


def without_cover_detector(model: FaceLiveNetModel) -> None:
    """Remove the network's `CoverDetector`, and the quality bounds that were calibrated with it."""
    model.covers, model.config.cover_detector, model.config.quality = None, False, None


@torch.inference_mode()
def _directions(model, processor, faces: Tensor, landmarks: Tensor) -> np.ndarray:
    """(b, 3, d) directions of the embeddings of faces (b, 3, h, w) as they are, with eyes and with mouth covered."""
    shown = (faces, cover(faces, landmarks, "eyes"), cover(faces, landmarks, "mouth"))
    outputs = (model(processor.whiten(pictures)).embedding for pictures in shown)
    return torch.stack([F.normalize(embedding, dim=1) for embedding in outputs], dim=1).numpy()
