"""The baselines: features of known images, training on drawn faces, and the protocols that compare them."""

import sys

import numpy as np
import pytest
import torch
from datasets import concatenate_datasets

from evaluation.compare import baselines
from evaluation.compare.baselines import embed_inception_resnet_v1, embed_lbp_svm, lbp_features, train_lbp_svm
from evaluation.compare.lbp import BINS, CHUNK, lbp_histograms
from evaluation.compare.models import balanced_pairs, compare
from evaluation.protocols.expression import expression_report
from evaluation.protocols.pairs import generated_pairs
from evaluation.statistics.curves import roc
from evaluation.training_record import TrainingSummary
from face_data.table import load_corpus

UNIFORM_ALL = BINS - 2  # the pattern where all eight neighbours are at least as bright


def cell_histograms(face):
    return (lbp_histograms(face) ** 2).reshape(7, 7, BINS)


def test_a_uniform_face_has_one_pattern_in_all_cells():
    cells = cell_histograms(np.full((112, 112), 90, np.uint8))
    np.testing.assert_allclose(cells.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(cells[:, :, UNIFORM_ALL], 1, atol=1e-5)  # also at the border
    with pytest.raises(ValueError, match=r"\(112, 112\) gray pixels, not \(112, 112, 3\)"):
        lbp_histograms(np.zeros((112, 112, 3), np.uint8))


def test_a_pattern_counts_in_the_histogram_of_its_cell():
    face = np.zeros((112, 112), np.uint8)
    face[3 * 16 + 8, 2 * 16 + 8] = 255  # one bright point: none of its neighbours is as bright
    cells = cell_histograms(face)
    changed = np.abs(cells - cell_histograms(np.zeros((112, 112), np.uint8))).sum(-1) > 1e-6
    assert np.argwhere(changed).tolist() == [[3, 2]]
    assert cells[3, 2, 0] == pytest.approx(1 / 256)  # pattern 00000000 at the point itself
    # All other points have only neighbours that are at least as bright.
    assert cells[3, 2, UNIFORM_ALL] > 0.9


def test_the_pattern_is_not_rotation_invariant():
    ramp = np.tile(np.arange(112, dtype=np.uint8) * 2, (112, 1))
    right, down = cell_histograms(ramp)[3, 3], cell_histograms(ramp.T.copy())[3, 3]
    assert right.max() == down.max() == pytest.approx(1)
    assert right.argmax() != down.argmax()


def test_brightness_does_not_change_the_histograms():
    face = np.random.default_rng(0).integers(0, 100, (112, 112)).astype(np.uint8)
    np.testing.assert_array_equal(lbp_histograms(face), lbp_histograms(face + np.uint8(100)))


@pytest.fixture(scope="module")
def trained(drawn_corpus):
    return train_lbp_svm([load_corpus(drawn_corpus, ["train"])], [load_corpus(drawn_corpus, ["valid"])])


def test_the_svm_recognises_drawn_faces_of_people_outside_its_training(trained, drawn_corpus):
    """Guessing has an accuracy of 1/7. The SVM is not trained on the eight people, but they chose its penalty."""
    embeddings = embed_lbp_svm(trained, load_corpus(drawn_corpus, ["valid"]))
    assert expression_report(embeddings, seed=0).accuracy.value > 0.6
    np.testing.assert_allclose(embeddings.expression_probabilities.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings.embeddings, axis=1), 1, atol=1e-5)
    pairs = generated_pairs(embeddings, seed=0)
    assert roc(pairs.scores, pairs.same).auc > 0.75
    assert trained.classes[:2] == ("neutral", "anger") and len(trained.classes) == 7
    accuracies = trained.record.validation_accuracy
    assert accuracies[str(trained.record.penalty)] == max(accuracies.values())
    assert list(trained.record.trained_on.values()) == [["train"]]
    assert trained.record.tasks == ["verification", "expression"]


def test_features_keep_the_order_of_the_corpus_with_several_processes(drawn_corpus):
    corpus = load_corpus(drawn_corpus, ["valid"])
    faces = concatenate_datasets([corpus.select(range(3, CHUNK)), corpus.select([3, 0, 7, 5])])  # for two processes
    features = lbp_features(faces)
    assert features.shape == (CHUNK + 1, 7 * 7 * BINS)
    for row in (0, 30, CHUNK - 1, CHUNK):
        face = faces[row]["image"].convert("L").resize((112, 112), 2)  # bilinear
        np.testing.assert_array_equal(features[row], lbp_histograms(np.asarray(face)))


def test_training_on_fewer_than_two_expressions_is_refused(drawn_corpus):
    corpus = load_corpus(drawn_corpus, ["valid"])
    happy = corpus.filter(
        lambda label: label == corpus.features["expression"].str2int("happy"), input_columns="expression"
    )
    with pytest.raises(ValueError, match="have 1 expressions"):
        train_lbp_svm([happy], [corpus])


@pytest.fixture
def weights(tmp_path):
    """A random InceptionResnetV1, saved like the weights of facenet-pytorch, with the layer that classifies people."""
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    network = InceptionResnetV1(classify=True, num_classes=10)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt", network.eval()


def test_inception_resnet_v1_has_the_outputs_of_facenet_pytorch(weights, corpus):
    from facenet_pytorch import fixed_image_standardization

    path, network = weights
    faces = load_corpus(corpus, ["9"])
    embeddings = embed_inception_resnet_v1(path, faces, batch_size=16)
    assert embeddings.embeddings.shape == (24, 512)
    assert (embeddings.classes, embeddings.expression_probabilities.shape) == ((), (24, 0))
    pixels = np.asarray(faces[17]["image"].resize((160, 160), 2), np.float32).transpose(2, 0, 1)
    network.classify = False
    with torch.no_grad():
        expected = network(fixed_image_standardization(torch.tensor(pixels))[None])[0].numpy()
    np.testing.assert_allclose(embeddings.embeddings[17], expected, atol=1e-4)
    records = {"network": TrainingSummary(tasks=["verification"])}
    pairs = balanced_pairs(embeddings, seed=0)
    settings = {"pairs": pairs, "far": 0.1, "resamples": 20}
    section = compare({"network": embeddings}, records, {"verification": "network"}, **settings)
    assert section.verification.rows[0].cells["accuracy"].counts.total == len(pairs)
    with pytest.raises(ValueError, match="cannot be the reference for expression"):
        compare({"network": embeddings}, records, {"expression": "network"})


def test_other_weights_are_refused(tmp_path, corpus):
    faces = load_corpus(corpus, ["9"])
    with pytest.raises(FileNotFoundError, match="no such file; download"):
        embed_inception_resnet_v1(tmp_path / "none.pt", faces)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt does not hold an InceptionResnetV1"):
        embed_inception_resnet_v1(tmp_path / "other.pt", faces)
    torch.save(baselines.PCA(), tmp_path / "code.pt")  # an object instead of tensors: loading it would run code
    with pytest.raises(ValueError, match=r"code\.pt does not hold an InceptionResnetV1"):
        embed_inception_resnet_v1(tmp_path / "code.pt", faces)


def test_missing_packages_are_named(monkeypatch, tmp_path, corpus):
    faces = load_corpus(corpus, ["9"])
    (tmp_path / "weights.pt").touch()
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(ImportError, match=r"facenet-pytorch: pip install -r requirements\.txt"):
        embed_inception_resnet_v1(tmp_path / "weights.pt", faces)
    with pytest.raises(ImportError, match=r"scikit-image: pip install -r requirements-dev\.txt"):
        lbp_features(faces)
