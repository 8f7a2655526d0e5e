"""What a run learns from: images and labels, the teacher's targets, and the batches of a step.

Called by `run`. Next to read: train/photographs.py, train/batches.py, train/deceptions.py.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from face_data.corpus import on_hub
from face_data.table import CorpusError, load_corpus, read_summary, split_corpus
from image_processing_facelivenet import FaceLiveNetImageProcessor
from machines import agree
from modeling_facelivenet import EXPRESSIONS, IGNORE
from train.batches import Batch, DrawnBatches, TrainingFaces, no_collate, row_weights
from train.config import SHUFFLE_BUFFER, TrainingConfig
from train.deceptions import deceive, mix
from train.expression_teachers import ExpressionTeachers, load_expression_teachers
from train.labels import LABEL_COLUMNS, Labels
from train.photographs import Photographs
from train.streaming import StreamedFaces
from train.teacher import Standardisation, Teacher, load_teacher


@dataclass(frozen=True)
class TrainingData:
    """The data of a run.

    faces: the images and their labels; None if they are streamed.
    labels: the labels of all images.
    processor: of the corpora, at the image size of the network.
    teacher, standardisation: None without a teacher.
    expression_teachers: None without them.
    """

    faces: TrainingFaces | None
    labels: Labels
    processor: FaceLiveNetImageProcessor
    teacher: Teacher | None
    standardisation: Standardisation | None
    expression_teachers: ExpressionTeachers | None

    @property
    def num_identities(self) -> int:
        """Number of people, composite ones included."""
        return self.labels.num_identities if self.faces is None else self.faces.num_identities


def load_data(config: TrainingConfig, accelerator: Accelerator) -> TrainingData:
    """Open the corpora, and compute the teacher's targets.

    Raises:
        CorpusError: a corpus cannot be used, or corpora are aligned in different ways.
        MachineError: the processes have different photographs.
        TeacherError: a teacher cannot be loaded.
    """
    expressions = tuple(config.network.get("id2label", dict(enumerate(EXPRESSIONS))).values())
    faces = None if config.streaming else _faces(config, expressions)
    labels = _labels(config, expressions) if faces is None else faces.labels
    for text in config.validation:  # report a missing corpus before the first step
        load_corpus(*split_corpus(text), LABEL_COLUMNS)
    agree(accelerator, photographs=_labels_digest(labels))  # other labels would mean other networks
    processor = _processor_of(config)
    teacher, standardisation = None, None
    if config.teacher:
        teacher = load_teacher(config.teacher).to(accelerator.device)
        standardisation = faces.photographs.compute_targets(teacher, accelerator)
        accelerator.print(f"learning from {teacher.record.name}")
    expression_teachers = None
    if config.expression_teachers:
        expression_teachers = load_expression_teachers(config.expression_teachers, expressions, processor.alignment)
        expression_teachers.to(accelerator.device)
        agree(accelerator, expression_teachers=expression_teachers.revisions)
        accelerator.print(f"learning expressions from {', '.join(config.expression_teachers)}")
    return TrainingData(faces, labels, processor, teacher, standardisation, expression_teachers)


def _faces(config: TrainingConfig, expressions: tuple[str, ...]) -> TrainingFaces:
    landmarks = bool(config.composites or config.teacher or config.mixing_share or config.deception_share)
    return TrainingFaces(Photographs(config.train, expressions, landmarks), config.composites, config.seed)


def _labels(config: TrainingConfig, expressions: tuple[str, ...]) -> Labels:
    if not config.train:
        raise CorpusError("no corpus to read: name at least one")
    parts = [load_corpus(*split_corpus(text), LABEL_COLUMNS) for text in config.train]
    return Labels(parts, expressions)


def _processor_of(config: TrainingConfig) -> FaceLiveNetImageProcessor:
    """The image processor with the alignment of the corpora, and the image size of the network.

    Raises:
        CorpusError: corpora are aligned in different ways: the network would learn to distinguish them.
    """
    alignments = set()
    for text in config.train:
        folder = split_corpus(text)[0]
        if not on_hub(folder):
            alignments.add(read_summary(folder)["options"]["alignment"])
    if len(alignments) > 1:
        raise CorpusError(f"the training corpora are aligned differently ({', '.join(sorted(alignments))})")
    return FaceLiveNetImageProcessor(size=config.image_size, alignment=(alignments or {"margin"}).pop())


def _labels_digest(labels: Labels) -> str:
    """The number of photographs, and 12 digits of a hash of their labels in their order, which batches depend on."""
    digest = hashlib.sha256(labels.identity.tobytes() + labels.expression.tobytes())
    return f"{len(labels.identity)} ({digest.hexdigest()[:12]})"


def batches_from(first: int, data: TrainingData, config: TrainingConfig, accelerator: Accelerator) -> Iterator[Batch]:
    """The batches from step `first` on. Rows depend only on seed and step, so earlier steps need not be repeated."""
    weights = config.train_weights or [1.0] * len(config.train)
    settings = {
        "num_workers": config.workers,
        "collate_fn": no_collate,
        "pin_memory": accelerator.device.type == "cuda",
        "generator": torch.Generator().manual_seed(config.seed),  # the global one belongs to the training
    }
    if data.faces is None:
        stream = StreamedFaces(
            config.train,
            weights,
            data.labels,
            batch_size=config.batch_size,
            seed=config.seed,
            buffer=SHUFFLE_BUFFER,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
            first_batch=first * config.accumulation,
            workers=config.workers,
        )
        batches = iter(DataLoader(stream, batch_size=None, **settings))
        for _ in range(stream.left_over):
            next(batches)
        return batches
    shape = (config.accumulation, accelerator.num_processes, config.batch_size)
    probabilities = row_weights(data.faces, weights, config.composite_share)
    sampler = DrawnBatches(probabilities, config.seed, first, config.steps, shape, accelerator.process_index)
    return iter(DataLoader(data.faces, batch_sampler=sampler, **settings))


def label_counts(batches: list[Batch], accelerator: Accelerator) -> dict[str, float]:
    """For a step of several batches, the mean numbers of identity and expression labels in a batch of all processes."""
    if len(batches) == 1:
        return {}  # the network counts the labels of its batch
    identities = sum(int((batch.identity != IGNORE).sum()) for batch in batches)
    expressions = sum(int((batch.expression.sum(dim=1) > 0).sum()) for batch in batches)
    counts = accelerator.reduce(torch.tensor([identities, expressions], device=accelerator.device)) / len(batches)
    return dict(zip(("known_identities", "known_expressions"), counts.tolist(), strict=True))


@torch.no_grad()
def mix_and_deceive(batch: Batch, data: TrainingData, config: TrainingConfig, accelerator: Accelerator) -> Batch:
    """Add mixtures and deceptions to a batch, before augmentation.

    Here the teacher computes the targets of composites and mixtures, and the expression teachers those of all faces.
    """
    faces, landmarks, identity, expression = batch.faces, batch.landmarks, batch.identity, batch.expression
    targets = batch.targets
    if config.mixing_share:
        new_shapes = data.teacher is not None
        faces, landmarks, expression, mixed = mix(faces, landmarks, expression, config.mixing_share, new_shapes)
        identity = identity.masked_fill(mixed, IGNORE)
        if targets is not None:
            targets = targets.masked_fill(mixed[:, None], torch.nan)
    if data.teacher is not None:
        missing = targets.isnan().any(dim=1).nonzero().squeeze(1)
        if len(missing):
            with accelerator.autocast():
                vectors = data.teacher(faces[missing], landmarks[missing])
            targets = targets.index_copy(0, missing, data.standardisation(vectors))
    if data.expression_teachers is not None:
        with accelerator.autocast():
            expression = data.expression_teachers.targets(faces, expression)
    if config.deception_share:
        share = config.deception_share
        faces, identity, expression, targets = deceive(faces, landmarks, identity, expression, targets, share)
    return replace(batch, faces=faces, identity=identity, expression=expression, targets=targets)
