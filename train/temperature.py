"""Fits the temperature of the expression logits after the training, so that their probabilities are calibrated.

Called by `export` with --expressions. All logits are divided by one number, which minimises the cross-entropy on faces
that were not trained on ("On Calibration of Modern Neural Networks", arXiv 1706.04599). The recognised expressions stay
the same. Networks that are trained with votes, mixtures or teachers have small logits, and a live session compares
how much a logit rises with a number, which has the same meaning for all networks only at the same temperature. Next to
read: authentication/session/challenge.py.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor
from tqdm import tqdm

from face_data.corpus import CorpusError
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import FaceLiveNetModel
from train.batches import TrainingFaces
from train.photographs import Photographs

RANGE = (0.1, 10.0)  # of the temperature
BATCH = 64


def fit_temperature(
    model: FaceLiveNetModel, processor: FaceLiveNetImageProcessor, corpora: Sequence[str]
) -> dict[str, float]:
    """Divide the expression logits of the network by their best temperature, in its last layer.

    Args:
        model: in float32, on the CPU; afterwards in evaluation mode.
        corpora: prepared corpora of the validation, as FOLDER or FOLDER:SPLIT,SPLIT. Each counts the same.

    Returns:
        the entry of the training record: the temperature, the number of faces, and the mean cross-entropy before and
        after, in nats.

    Raises:
        CorpusError: there is no such corpus, or it has no expressions of the network.
    """
    parts = [_logits_and_labels(model.eval(), processor, text) for text in corpora]

    def loss(temperature: float) -> float:
        losses = [F.cross_entropy(logits / temperature, labels) for logits, labels in parts]
        return float(torch.stack(losses).mean())

    temperature = float(minimize_scalar(loss, bounds=RANGE, method="bounded").x)
    with torch.no_grad():
        for value in model.expression_head.classifier.parameters():
            value /= temperature
    return {
        "temperature": round(temperature, 4),
        "faces": sum(len(labels) for _, labels in parts),
        "loss_before": round(loss(1.0), 4),
        "loss": round(loss(temperature), 4),
    }


@torch.inference_mode()
def _logits_and_labels(model, processor, text: str) -> tuple[Tensor, Tensor]:
    """(m, n) logits and (m,) class indices of the labelled faces of a corpus."""
    faces = TrainingFaces(Photographs([text], model.config.expressions, soft_labels=False))
    labelled = np.flatnonzero(faces.labels.expression.any(axis=1)).tolist()
    if not labelled:
        raise CorpusError(f"{text} has no labels of {', '.join(model.config.expressions)}")
    logits, labels = [], []
    for start in tqdm(range(0, len(labelled), BATCH), desc=f"temperature, {text}"):
        batch = faces.__getitems__(labelled[start : start + BATCH])
        logits.append(model(processor.whiten(batch.faces)).expression_logits)
        labels.append(batch.expression.argmax(dim=1))
    return torch.cat(logits).double(), torch.cat(labels)
