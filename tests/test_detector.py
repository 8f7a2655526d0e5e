"""The detector returns facenet-pytorch's boxes and landmarks, in ONNX Runtime and PyTorch, alone and in batches."""

import functools
import io
import itertools
import tarfile

import numpy as np
import pytest
from facenet_pytorch import MTCNN
from PIL import Image

import image_processing_facelivenet
from face_data.drawn import drawn_photograph
from image_processing_facelivenet import FaceLiveNetImageProcessor, OnnxGraph, load_image

LARGEST_DIFFERENCE = 0.1  # in pixels


def pictures() -> list[Image.Image]:
    """Drawn people, one or several, complete or cut off; images without a face; sizes that match no scale."""
    first, second = (drawn_photograph(person, "happy", 0, seed=0).resize((220, 220)) for person in (1, 2))
    both = Image.new("RGB", (640, 397), (120, 130, 140))
    both.paste(first, (30, 60))
    both.paste(second, (330, 150))
    noise = np.random.default_rng(0).integers(0, 256, (300, 217, 3), np.uint8)
    sizes = [(640, 480), (49, 333), (48, 48), (47, 300), (5, 5)]
    return [
        first,
        both,
        first.crop((70, 20, 220, 220)),
        first.resize((100, 131)),
        Image.fromarray(noise),
        *(Image.new("RGB", size, "white") for size in sizes),
    ]


@functools.cache
def plain_detector(min_face_size: int, thresholds: tuple[float, ...], factor: float) -> MTCNN:
    return MTCNN(keep_all=True, min_face_size=min_face_size, thresholds=thresholds, factor=factor).eval()


def faces_of_facenet_pytorch(processor: FaceLiveNetImageProcessor, picture: Image.Image) -> list[tuple]:
    """Box, landmarks and probability of each face from MTCNN of facenet-pytorch."""
    if min(picture.size) < processor.min_face_size:  # MTCNN would raise an error
        return []
    detector = plain_detector(processor.min_face_size, tuple(processor.thresholds), processor.factor)
    boxes, probabilities, landmarks = detector.detect(picture, landmarks=True)
    if boxes is None:
        return []
    faces = zip(boxes, landmarks, probabilities, strict=True)
    return [face for face in faces if face[2] >= processor.detection_threshold]


def assert_same_faces(faces: list, expected: list[tuple]) -> None:
    assert len(faces) == len(expected)
    faces = sorted(faces, key=lambda face: tuple(face.box))
    for face, (box, landmarks, probability) in zip(
        faces, sorted(expected, key=lambda face: tuple(face[0])), strict=True
    ):
        assert np.abs(face.box - np.asarray(box, np.float64)).max() < LARGEST_DIFFERENCE
        assert np.abs(face.landmarks - np.asarray(landmarks, np.float64)).max() < LARGEST_DIFFERENCE
        assert face.probability == pytest.approx(float(probability), abs=1e-4)


@pytest.mark.parametrize("engine", ["ONNX Runtime", "PyTorch"])
def test_the_detector_finds_the_same_faces_as_facenet_pytorch(engine, monkeypatch):
    if engine == "PyTorch":
        monkeypatch.setattr(image_processing_facelivenet, "onnxruntime", None)
    processor = FaceLiveNetImageProcessor()
    counts = []
    for picture in pictures():
        expected = faces_of_facenet_pytorch(processor, picture)
        assert_same_faces(processor.detect(picture), expected)
        counts.append(len(expected))
    assert counts[:4] == [1, 2, 1, 1] and not any(counts[4:])
    assert isinstance(processor._detector.pnet.network, OnnxGraph) == (engine == "ONNX Runtime")


def test_a_batch_has_the_same_faces_as_single_images():
    processor = FaceLiveNetImageProcessor()
    single = [processor.detect(picture) for picture in pictures()]
    for faces, expected in zip(processor.detect_batch(pictures()), single, strict=True):
        assert_same_faces(faces, [(face.box, face.landmarks, face.probability) for face in expected])
    assert processor.detect_batch([]) == []


def test_images_of_one_size_are_processed_together(monkeypatch):
    """As on a GPU, but on the CPU: the first network, in PyTorch, gets several images of one size together."""
    monkeypatch.setattr(image_processing_facelivenet, "onnxruntime", None)
    processor = FaceLiveNetImageProcessor()
    person, other = pictures()[0], drawn_photograph(2, "happy", 0, seed=0).resize((220, 220))
    mixed = [person, *pictures(), other]
    single = [processor.detect(picture) for picture in mixed]
    processor._detector.batched = True
    batch_sizes, network = [], processor._detector.pnet.network
    processor._detector.pnet.network = lambda values: batch_sizes.append(len(values)) or network(values)
    for faces, expected in zip(processor.detect_batch(mixed), single, strict=True):
        assert_same_faces(faces, [(face.box, face.landmarks, face.probability) for face in expected])
    assert max(batch_sizes) == 3


@pytest.mark.real_data
def test_the_detector_finds_the_same_faces_in_500_real_photographs(real_data):
    """The detector in ONNX Runtime finds the same faces as facenet-pytorch in PyTorch."""
    processor = FaceLiveNetImageProcessor()
    with tarfile.open(real_data / "lfw" / "lfw-deepfunneled.tgz") as archive:
        photographs = (archive.extractfile(member).read() for member in archive if member.name.endswith(".jpg"))
        pictures = [load_image(io.BytesIO(photograph)) for photograph in itertools.islice(photographs, 500)]
    found = [faces for start in range(0, 500, 25) for faces in processor.detect_batch(pictures[start : start + 25])]
    for picture, faces in zip(pictures, found, strict=True):
        assert_same_faces(faces, faces_of_facenet_pytorch(processor, picture))
    assert isinstance(processor._detector.pnet.network, OnnxGraph) and sum(map(len, found)) >= 500
