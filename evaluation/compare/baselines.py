"""Baselines: other face features of the same images, as `Embeddings`, so that every protocol can evaluate them.

* LBP and SVM, trained here, which is the classical baseline of the paper's Table 4: histograms of local binary patterns
  over a grid of cells (Ahonen, Hadid and Pietikäinen, PAMI 2006), and a linear support vector machine for expressions.
* Inception-ResNet-v1 with facenet-pytorch's weights: a strong network for identities only.

`run` calls these functions. Read `lbp` next.
"""

import os
import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, Image
from PIL import Image as Picture
from scipy.special import softmax
from sklearn.decomposition import PCA
from sklearn.svm import LinearSVC
from tqdm import tqdm

from evaluation.compare.lbp import lbp_histograms_of_all
from evaluation.embeddings.table import Embeddings
from evaluation.training_record import TrainingSummary
from face_data.table import CORPUS_EXPRESSIONS, column, splits_by_source

PENALTIES = (0.01, 0.03, 0.1)  # candidates for C of the support vector machine; one is chosen on validation images
PRINCIPAL_COMPONENTS = 200  # on LFW fold 9 AUC 0.825; 0.743 without them, 0.818 with 100, 0.820 with 400
INCEPTION_SIZE = 160


def lbp_features(corpus: Dataset) -> np.ndarray:
    """`lbp.lbp_histograms` of every face of a prepared corpus: (n, 2891) float32. Uses one process per core."""
    encoded = corpus.select_columns("image").cast_column("image", Image(decode=False))
    return lbp_histograms_of_all((row["image"]["bytes"] for row in encoded), len(encoded))


@dataclass(frozen=True)
class LbpSvm:
    """The trained classical baseline.

    projection: whitened principal components of the histograms, for identities. svm: classifies expressions from the
    histograms. classes: its expressions, in the paper's order. record: how it was trained, with the chosen penalty C.
    """

    projection: PCA
    svm: LinearSVC
    classes: tuple[str, ...]
    record: TrainingSummary


def train_lbp_svm(train: Sequence[Dataset], validation: Sequence[Dataset], seed: int = 0) -> LbpSvm:
    """Fit the classical baseline; about five minutes for 32,000 labelled images on two cores.

    Args:
        train: prepared corpora. Expressions are learnt from their labelled images, principal components from the images
            with an identity (from all images if there are none).
        validation: labelled prepared corpora of other people, on which the penalty is chosen.

    Raises:
        ValueError: fewer than two expressions to learn, or no validation image is labelled with one of them.
    """
    started = time.monotonic()
    features, labels, has_identity = _training_set(train)
    classes = tuple(name for name in CORPUS_EXPRESSIONS if name in labels)
    if len(classes) < 2:
        raise ValueError(
            f"the training images have {len(classes)} expressions to learn; a classifier needs at least two"
        )
    validation_features, validation_labels, _ = _training_set(validation)
    has_known_label = np.isin(validation_labels, classes)
    if not has_known_label.any():
        raise ValueError(f"cannot choose the penalty: no validation image is labelled {' or '.join(classes)}")
    rows = np.isin(labels, classes)
    accuracies, svms = {}, {}
    for penalty in tqdm(PENALTIES, desc="SVM", unit="C"):
        svms[penalty] = LinearSVC(C=penalty, random_state=seed).fit(features[rows], labels[rows])
        accuracies[penalty] = float(
            np.mean(svms[penalty].predict(validation_features[has_known_label]) == validation_labels[has_known_label])
        )
    best_penalty = max(accuracies, key=accuracies.get)  # if several are equally good: the strongest regularisation
    faces = features[has_identity] if has_identity.any() else features
    components = min(PRINCIPAL_COMPONENTS, len(faces) - 1, faces.shape[1])
    projection = PCA(components, whiten=True, svd_solver="randomized", random_state=seed).fit(faces)
    record = TrainingSummary(
        tasks=["verification", "expression"],
        photographs_seen=len(features),
        trained_on=splits_by_source(train),
        minutes=round((time.monotonic() - started) / 60, 1),
        device=f"CPU, {os.cpu_count()} processes",
        penalty=best_penalty,
        validation_accuracy={str(penalty): accuracy for penalty, accuracy in accuracies.items()},
    )
    return LbpSvm(projection, svms[best_penalty], classes, record)


def _training_set(corpora: Sequence[Dataset]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Histograms (n, 2891); labels (n,), "" where missing; (n,) bool, true for images with an identity."""
    features = np.concatenate([lbp_features(corpus) for corpus in corpora])
    labels = [name or "" for corpus in corpora for name in _expressions(corpus)]
    identities = [identity for corpus in corpora for identity in column(corpus, "identity")]
    return features, np.array(labels), np.array([identity is not None for identity in identities])


def embed_lbp_svm(baseline: LbpSvm, corpus: Dataset) -> Embeddings:
    """Embeddings of 200 numbers, and a softmax of the SVM's margins in place of probabilities.

    The class with the largest value is the prediction. The values are not calibrated, so thresholds are meaningless.
    """
    features = lbp_features(corpus)
    margins = baseline.svm.decision_function(features)
    if margins.ndim == 1:  # with two classes: the margin of the second one
        margins = np.stack([-margins, margins], 1)
    order = [list(baseline.svm.classes_).index(name) for name in baseline.classes]
    return _to_embeddings(
        corpus, baseline.projection.transform(features), softmax(margins[:, order], axis=1), baseline.classes
    )


@torch.inference_mode()
def embed_inception_resnet_v1(
    weights: str | Path, corpus: Dataset, *, device: str = "cpu", batch_size: int = 64
) -> Embeddings:
    """facenet-pytorch's InceptionResnetV1 over a prepared corpus: embeddings of 512 numbers.

    It has no expressions: `classes` is empty and expression_probabilities has shape (n, 0).

    Args:
        weights: a `.pt` file of its state dict, as facenet-pytorch publishes them for VGGFace2 and CASIA-WebFace:
            https://github.com/timesler/facenet-pytorch#pretrained-models. Only tensors are read from the file.

    Raises:
        FileNotFoundError: no such file. ImportError: facenet-pytorch is not installed. ValueError: the file holds
            weights of another network.
    """
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; download 20180402-114759-vggface2.pt from facenet-pytorch")
    try:
        from facenet_pytorch import InceptionResnetV1
    except ImportError as error:
        raise ImportError("InceptionResnetV1 needs facenet-pytorch: pip install -r requirements.txt") from error
    network = InceptionResnetV1()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict({name: value for name, value in state.items() if not name.startswith("logits.")})
    except (RuntimeError, AttributeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} does not hold an InceptionResnetV1 of facenet-pytorch: {error}") from None
    network = network.to(device).eval()
    size, vectors = (INCEPTION_SIZE, INCEPTION_SIZE), []
    with tqdm(total=len(corpus), unit="face", desc="Inception-ResNet-v1") as progress:
        for batch in corpus.select_columns("image").iter(batch_size):
            faces = [
                np.asarray(face.convert("RGB").resize(size, Picture.Resampling.BILINEAR)) for face in batch["image"]
            ]
            pixels = torch.from_numpy(np.stack(faces)).to(device).permute(0, 3, 1, 2)  # (b, 3, 160, 160)
            vectors.append(network((pixels.float() - 127.5) / 128).cpu().numpy())  # its fixed_image_standardization
            progress.update(len(faces))
    vectors = np.concatenate(vectors)
    return _to_embeddings(corpus, vectors, np.empty((len(vectors), 0)), ())


def _to_embeddings(
    corpus: Dataset, vectors: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]
) -> Embeddings:
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    embeddings = (vectors / lengths).astype(np.float32)
    return Embeddings.from_corpus(corpus, embeddings, embeddings, probabilities.astype(np.float32), classes)


def _expressions(corpus: Dataset) -> list[str | None]:
    names = corpus.features["expression"].names
    return [None if label is None else names[label] for label in column(corpus, "expression")]
