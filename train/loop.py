"""A complete stage of training: data, network, optimiser, and the steps with validation and checkpoints.

Called by `command`, `folds` and the benchmarks. Next to read: train/batches.py, train/validation.py,
train/checkpoint.py.
"""

import contextlib
import hashlib
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import set_seed
from timm.optim import param_groups_weight_decay
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from addresses import working_folder, write_text
from checkpoints import load_checkpoint
from face_data.corpus import on_hub
from face_data.table import CorpusError, load_corpus, read_summary, split_corpus
from image_processing_facelivenet import FaceLiveNetImageProcessor
from machines import agree
from modeling_facelivenet import EXPRESSIONS, IGNORE, FaceLiveNetConfig, FaceLiveNetModel, gather_from_processes
from train.augmentation import prepare
from train.batches import Batch, DrawnBatches, TrainingFaces, no_collate, row_weights
from train.checkpoint import (
    CheckpointError,
    any_process,
    common_checkpoint,
    common_model,
    contains_a_run,
    newest_checkpoint,
    save_training_state,
    try_to_save_model,
    try_to_write_record,
    without_identities,
)
from train.config import CLIP_NORM, KEEP_CHECKPOINTS, SHUFFLE_BUFFER, TrainingConfig
from train.deceptions import deceive, mix
from train.labels import LABEL_COLUMNS, Labels
from train.lock import RunLock
from train.photographs import Photographs
from train.progress import Progress
from train.record import run_record
from train.remote_run import RemoteRun
from train.sampled_identities import SampledIdentities
from train.start import start_from, transfer_branch
from train.streaming import StreamedFaces
from train.teacher import Standardisation, Teacher, load_teacher
from train.validation import average_batch_norms, validate

MAY_DIFFER = {"out", "workers", "tracker"}  # settings that may differ between the machines of a run
HEADS = ("identity_head", "teacher_head")  # needed only for training: neither averaged nor saved


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient is NaN or infinite. The message names the step, the losses, the photographs of the batch
    and the last good checkpoint."""


class Stopped(Exception):
    """The run was stopped by Ctrl-C or SIGTERM, after it saved a checkpoint."""


def train(config: TrainingConfig) -> dict:
    """Run one stage and return its record, the content of training.json.

    Raises:
        FolderInUseError: another run writes to OUT.
        MachineError: the processes of this run differ in settings, photographs or weights.
        CheckpointError: no checkpoint of OUT can be read, or the last one cannot be written.
        CorpusError: a corpus cannot be used, or has no labels for a task.
        TeacherError: the teacher cannot be loaded.
        NonFiniteLossError: the loss is NaN or infinite.
        Stopped: by Ctrl-C or SIGTERM.
    """
    # seed, processes, folder
    set_seed(config.seed)
    accelerator = Accelerator(
        cpu=config.cpu,
        mixed_precision=_precision(config),
        log_with=None if config.tracker == "none" else config.tracker,
        project_dir=str(working_folder(config.out)),
        # no broadcast: centres are equal in all processes, and batch norms are averaged before they are used
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    settings = {name: str(value) for name, value in asdict(config).items() if name not in MAY_DIFFER}
    agree(accelerator, **settings)
    with RunLock(config.out) if accelerator.is_main_process else contextlib.nullcontext():
        return _train(config, accelerator)


def _train(config: TrainingConfig, accelerator: Accelerator) -> dict:
    device, out = accelerator.device, working_folder(config.out)
    progress = Progress(config, out, accelerator.num_processes)
    if accelerator.is_main_process:
        remote = RemoteRun(config.out)
        if config.resume:
            remote.fetch()
        progress.open_folder()
        remote.upload()  # an address that cannot be written is reported before the training
    accelerator.wait_for_everyone()
    resumed = common_checkpoint(accelerator, out) if config.resume else None
    if config.resume and resumed is None and accelerator.is_main_process and contains_a_run(out):
        raise CheckpointError(f"no checkpoint in {out} is undamaged; --resume false removes the run and starts again")

    # data
    expressions = tuple(config.network.get("id2label", dict(enumerate(EXPRESSIONS))).values())
    faces = _faces(config, expressions)
    labels = faces if isinstance(faces, Labels) else faces.labels
    for text in config.validation:  # report a missing corpus before the first step
        load_corpus(*split_corpus(text), LABEL_COLUMNS)
    agree(accelerator, photographs=_labels_digest(labels))  # other labels would mean other networks
    processor = _processor_of(config)
    teacher, standardisation = None, None
    if config.teacher:
        teacher = load_teacher(config.teacher).to(device)
        standardisation = faces.photographs.compute_targets(teacher, accelerator)
        accelerator.print(f"learning from {teacher.record.name}")

    # network
    network = {"image_size": config.image_size, "num_identities": faces.num_identities} | config.network
    network["teacher_size"] = len(standardisation.mean) if standardisation else 0
    model = FaceLiveNetModel(FaceLiveNetConfig(**network))
    _check_labels(model, labels)
    if config.start_from:
        initialised = start_from(model, config.start_from)
        accelerator.print(f"started from {config.start_from}; initialised: {', '.join(initialised) or 'nothing'}")
    if config.transfer_branch:
        transfer_branch(model)
    freeze_untrained_parts(model)
    model.to(memory_format=torch.channels_last)  # the fastest format for convolutions, on CPUs and GPUs
    if config.compile:
        for part in (model.shared, model.verification, model.expression):
            part.compile()

    # optimiser
    optimizer = optimizer_of(model, config)
    schedule = _schedule(optimizer, config)
    unwrapped = model
    model, optimizer = accelerator.prepare(model, optimizer)
    parts = nn.ModuleDict({name: part for name, part in unwrapped.named_children() if name not in HEADS})
    average = ModelEmaV3(parts, decay=config.ema_decay, use_warmup=True) if config.ema_decay else None
    head = unwrapped.identity_head if "verification" in unwrapped.config.tasks else None
    sampled = None
    if head is not None:
        head.batches_per_step = config.accumulation
        if unwrapped.config.sampled_identities:
            sampled = SampledIdentities(head, optimizer.optimizer, config.seed)
    for stateful in filter(None, (progress, average, sampled)):
        accelerator.register_for_checkpointing(stateful)
    accelerator.register_for_checkpointing(schedule)
    set_seed(config.seed, device_specific=True)  # from here each process has its own random augmentation
    if resumed:
        accelerator.load_state(str(resumed))
        if accelerator.is_main_process:
            progress.remove_later_rows()
        accelerator.print(f"resumed from {resumed}" + (": finished already" if progress.step >= config.steps else ""))

    agree(accelerator, step=progress.step, weights=_weights_digest(unwrapped))

    batches = _batches(config, faces, labels, accelerator, progress.step)
    trackers = config.tracker != "none"
    if trackers:
        settings = {name: str(value) for name, value in asdict(config).items()}
        accelerator.init_trackers(config.tracker, settings)
    bar = tqdm(
        total=config.steps,
        initial=progress.step,
        desc="train",
        unit="step",
        disable=not accelerator.is_main_process,
        smoothing=0.1,
    )
    model.train()
    with _stop_signals() as stop:
        progress.start_clock()
        while progress.step < config.steps:
            with progress.waiting():
                step_batches = [next(batches) for _ in range(config.accumulation)]
            label_counts = _label_counts(step_batches, accelerator)
            if sampled:
                people = torch.cat([batch.identity for batch in step_batches]).to(device)
                sampled.draw(progress.step, gather_from_processes(people))
            rate = optimizer.param_groups[0]["lr"]
            for number, batch in enumerate(step_batches):
                last = number == config.accumulation - 1
                with contextlib.nullcontext() if last else accelerator.no_sync(model):
                    changed = mix_and_deceive(batch.to(device), config, teacher, standardisation, accelerator)
                    pixel_values = prepare(changed.faces, config, processor.whiten)
                    with accelerator.autocast():
                        output = model(
                            pixel_values.to(memory_format=torch.channels_last),
                            changed.identity,
                            changed.expression,
                            changed.targets,
                            **label_counts,
                        )
                    accelerator.backward(output.loss / config.accumulation)
                progress.add_batch(output, batch, rate)
            progress.add_gradient_norm(accelerator.clip_grad_norm_(model.parameters(), CLIP_NORM))
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if sampled:
                sampled.put_back()
            progress.finish_step()
            if average:
                average.update(parts, progress.step)
            bar.update()

            finished = progress.step == config.steps
            validating = finished or progress.step % config.validate_every == 0
            saving = finished or progress.step % config.save_every == 0
            stopping = accelerator.num_processes == 1 and stop.received
            if validating or saving or stopping or progress.step % config.log_every == 0:
                rows, problem = progress.flush(accelerator)
                if problem:
                    last_good = newest_checkpoint(out) or "none was saved yet"
                    raise NonFiniteLossError(f"{problem}\nlast good checkpoint: {last_good}")
                if accelerator.is_main_process:
                    bar.set_postfix(progress.summary(rows[-1]))
                    if trackers:
                        for row in rows:
                            accelerator.log({name: row[name] for name in row if name != "step"}, step=row["step"])
                stopping = any_process(accelerator, stop.received)
            if validating:
                with progress.paused():
                    evaluated = _network_for_evaluation(unwrapped, average)
                    average_batch_norms(evaluated)
                    numbers = validate(evaluated, processor.whiten, config, unwrapped.config.tasks, accelerator)
                    if accelerator.is_main_process:
                        is_best = progress.add_validation(numbers)
                        bar.write(f"step {progress.step}: " + ", ".join(f"{k} {v:.3f}" for k, v in numbers.items()))
                        if trackers and numbers:
                            accelerator.log(numbers, step=progress.step)
                        record = run_record(config, accelerator, progress, labels, unwrapped, teacher)
                        for folder in ("last", "best") if is_best else ("last",):
                            try_to_save_model(evaluated, processor, out / folder, record)
            if saving or stopping:
                with progress.paused():
                    # a resumed run has the statistics of the main process in all processes: average them, so that an
                    # uninterrupted run continues with the same ones
                    for network in filter(None, (unwrapped, average and average.module)):
                        average_batch_norms(network)
                    saved = save_training_state(accelerator, out, progress.step, KEEP_CHECKPOINTS)
                if (finished or stopping) and saved is None:
                    raise CheckpointError("the last training state could not be written")
                if accelerator.is_main_process:  # the record of a stage that starts from here needs this one
                    try_to_write_record(run_record(config, accelerator, progress, labels, unwrapped, teacher), out)
                    with progress.paused():
                        uploaded = remote.try_to_upload()
                    if stopping and not uploaded:
                        raise CheckpointError(
                            f"the last checkpoint was not uploaded from {out}: the same command uploads it"
                        )
            if stopping and not finished:
                raise Stopped(f"stopped after step {progress.step}; the same command continues from {saved}")
    bar.close()
    for tracker in accelerator.trackers:
        tracker.finish()
    record = run_record(config, accelerator, progress, labels, unwrapped, teacher)
    if accelerator.is_main_process:
        try_to_write_record(record, out)
        from train.figures import draw_curves  # imports matplotlib, which only the end of a run needs

        draw_curves(out)
        remote.upload()
    accelerator.wait_for_everyone()
    return record


def test(config: TrainingConfig, corpora: list[str]) -> dict[str, float]:
    """Evaluate OUT/best on the test corpora, with the thresholds of the validation corpora, and write OUT/test.json.

    Returns:
        the numbers of `validate`.
    """
    accelerator = Accelerator(cpu=config.cpu, mixed_precision=_precision(config))
    best = load_checkpoint(common_model(accelerator, working_folder(config.out) / "best"), accelerator.device)
    model, processor = best.network, best.processor
    tasks = FaceLiveNetConfig(**config.network).tasks
    validation = validate(model, processor.whiten, config, tasks, accelerator)
    end = "_verification_threshold"
    thresholds = {name.removesuffix(end): value for name, value in validation.items() if name.endswith(end)}
    numbers = validate(model, processor.whiten, replace(config, validation=corpora), tasks, accelerator, thresholds)
    if accelerator.is_main_process:
        text = json.dumps({"corpora": corpora} | numbers, indent=1)
        write_text(config.out, "test.json", text + "\n")
    return numbers


# data


@torch.no_grad()
def mix_and_deceive(
    batch: Batch,
    config: TrainingConfig,
    teacher: Teacher | None,
    standardisation: Standardisation | None,
    accelerator: Accelerator,
) -> Batch:
    """Add mixtures and deceptions to a batch, before augmentation.

    Here the teacher also computes the targets of composites and mixtures.
    """
    faces, landmarks, identity, expression = batch.faces, batch.landmarks, batch.identity, batch.expression
    targets = batch.targets
    if config.mixing_share:
        faces, landmarks, mixed = mix(faces, landmarks, config.mixing_share)
        identity, expression = identity.masked_fill(mixed, IGNORE), expression.masked_fill(mixed[:, None], 0)
        targets = targets.masked_fill(mixed[:, None], torch.nan)
    if teacher is not None:
        missing = targets.isnan().any(dim=1).nonzero().squeeze(1)
        if len(missing):
            with accelerator.autocast():
                vectors = teacher(faces[missing], landmarks[missing])
            targets = targets.index_copy(0, missing, standardisation(vectors))
    if config.deception_share:
        share = config.deception_share
        faces, identity, expression, targets = deceive(faces, landmarks, identity, expression, targets, share)
    return replace(batch, faces=faces, identity=identity, expression=expression, targets=targets)


def _faces(config: TrainingConfig, expressions: tuple[str, ...]) -> TrainingFaces | Labels:
    """The training images; for streams only their labels."""
    if not config.streaming:
        landmarks = bool(config.composites or config.teacher or config.deception_share)
        photographs = Photographs(config.train, expressions, config.minimum_photographs, config.soft_labels, landmarks)
        return TrainingFaces(photographs, config.composites, config.seed)
    if not config.train:
        raise CorpusError("no corpus to read: name at least one")
    parts = [load_corpus(*split_corpus(text), LABEL_COLUMNS) for text in config.train]
    return Labels(parts, expressions, config.minimum_photographs, config.soft_labels)


def _batches(config: TrainingConfig, faces, labels: Labels, accelerator: Accelerator, first: int) -> Iterator[Batch]:
    """The batches from step `first` on. Rows depend only on seed and step, so earlier steps need not be repeated."""
    weights = config.train_weights or [1.0] * len(config.train)
    settings = {
        "num_workers": config.workers,
        "collate_fn": no_collate,
        "pin_memory": accelerator.device.type == "cuda",
        "generator": torch.Generator().manual_seed(config.seed),  # the global one belongs to the training
    }
    if isinstance(faces, Labels):
        stream = StreamedFaces(
            config.train,
            weights,
            labels,
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
    probabilities = row_weights(faces, weights, config.identity_balance, config.composite_share)
    sampler = DrawnBatches(probabilities, config.seed, first, config.steps, shape, accelerator.process_index)
    return iter(DataLoader(faces, batch_sampler=sampler, **settings))


def _label_counts(batches: list[Batch], accelerator: Accelerator) -> dict[str, float]:
    """For a step of several batches, the mean numbers of identity and expression labels in a batch of all processes."""
    if len(batches) == 1:
        return {}  # the network counts the labels of its batch
    identities = sum(int((batch.identity != IGNORE).sum()) for batch in batches)
    expressions = sum(int((batch.expression.sum(dim=1) > 0).sum()) for batch in batches)
    counts = accelerator.reduce(torch.tensor([identities, expressions], device=accelerator.device)) / len(batches)
    return dict(zip(("known_identities", "known_expressions"), counts.tolist(), strict=True))


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


# network and optimiser


def _weights_digest(model: nn.Module) -> str:
    """12 digits of a hash of all weights, centres and statistics."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def _check_labels(model: FaceLiveNetModel, labels: Labels) -> None:
    has_targets = labels.num_identities or model.config.teacher_size
    missing = {"verification": not has_targets, "expression": not labels.expression.any()}
    for task in model.config.tasks:
        if missing[task]:
            other = "expression" if task == "verification" else "verification"
            raise CorpusError(
                f"no corpus of --train has labels for {task}: add one, or train only {other} "
                f"(--network.weighting {other})"
            )


def freeze_untrained_parts(model: FaceLiveNetModel) -> None:
    """Switch off gradients of parts that the weighting does not train: DistributedDataParallel would wait for them."""
    config = model.config
    trained = {"shared", *config.tasks}
    trained |= {"expression_head"} if "expression" in config.tasks else set()
    trained |= set(HEADS) if "verification" in config.tasks else set()
    trained |= {"dynamic_weight_unit"} if config.weighting in ("dynamic", "inverse_loss") else set()
    trained |= {"uncertainty"} if config.weighting == "uncertainty" else set()
    for name, part in model.named_children():
        part.requires_grad_(name in trained)


def _precision(config: TrainingConfig) -> str:
    if config.mixed_precision != "auto":
        return config.mixed_precision
    if torch.cuda.is_available() and not config.cpu:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    # without these instructions bf16 is emulated, which is slow
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def optimizer_of(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser of all parameters that require a gradient; biases and norms have no weight decay."""
    # parameters with weight decay come first, as in training states of earlier versions
    groups = param_groups_weight_decay(model, config.weight_decay)[::-1]
    if config.optimizer == "rmsprop":  # eps as in the authors' code; with a small one a learning rate of 0.1 diverges
        return torch.optim.RMSprop(groups, config.learning_rate, momentum=config.momentum, alpha=0.9, eps=1.0)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)
    return torch.optim.AdamW(groups, config.learning_rate)


def _schedule(optimizer, config: TrainingConfig):
    if config.schedule == "cosine":
        return get_cosine_schedule_with_warmup(optimizer, config.warmup_steps, config.steps)
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, config.milestones, gamma=0.1)


def _network_for_evaluation(model: FaceLiveNetModel, average: ModelEmaV3 | None) -> FaceLiveNetModel:
    """The network that is validated and saved: with averaged weights, if there are any."""
    if average is None:
        return model
    averaged = without_identities(model.config, average.module.state_dict())
    return averaged.to(model.device, memory_format=torch.channels_last)


# stopping, reporting


class _StopSignals:
    received = False


@contextlib.contextmanager
def _stop_signals():
    """Record Ctrl-C and SIGTERM, so that the run can save a checkpoint and stop. A second signal stops it at once."""
    state = _StopSignals()

    def receive(number, frame):
        if state.received:
            raise KeyboardInterrupt
        state.received = True
        print("\ntrain: stopping after this step; a second signal stops at once", file=sys.stderr)

    try:
        before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, where signals cannot be received
        before = {}
    try:
        yield state
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
