"""A stage of training from beginning to end: data, network, optimiser, then the steps with validation and saving.

Called by `command` and `folds`. Next: `batches`, `validation`, `checkpoint`.
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
from face_data.named import on_hub
from face_data.table import CorpusError, load_corpus, read_summary, split_corpus
from image_processing_facelivenet import FaceLiveNetImageProcessor
from machines import agree
from modeling_facelivenet import EXPRESSIONS, IGNORE, FaceLiveNetConfig, FaceLiveNetModel, gather_from_processes
from train.augmentation import prepare
from train.batches import Batch, DrawnBatches, TrainingFaces, no_collate, row_weights
from train.checkpoint import (
    CheckpointError,
    anybody,
    common_checkpoint,
    common_model,
    holds_a_run,
    newest_checkpoint,
    save_training_state,
    try_to_save_model,
    try_to_write_record,
    without_identities,
)
from train.config import CLIP_NORM, KEEP_CHECKPOINTS, SHUFFLE_BUFFER, TrainingConfig
from train.deceptions import deceive, mix
from train.figures import draw_curves
from train.labels import LABEL_COLUMNS, Labels
from train.lock import RunLock
from train.progress import Progress
from train.record import run_record
from train.remote_run import RemoteRun
from train.sampled_identities import SampledIdentities
from train.start import start_from, transfer_branch
from train.streaming import StreamedFaces
from train.teacher import Standard, Teacher, load_teacher
from train.validation import average_batch_norms, validate

MAY_DIFFER = {"out", "workers", "tracker"}  # among the machines of one run
HEADS = ("identity_head", "teacher_head")  # for training alone: neither averaged nor saved


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient became NaN or infinite; the message names step, parts, photographs and the last good
    checkpoint."""


class Stopped(Exception):
    """The run was asked to stop (Ctrl-C, SIGTERM) and did so after saving."""


def train(config: TrainingConfig) -> dict:
    """Run one stage and return its record, the content of training.json.

    Raises:
        FolderInUseError: another run writes to OUT. MachineError: the machines of this one differ.
        CheckpointError, CorpusError, NonFiniteLossError, Stopped.
    """
    # seed, processes, folder
    set_seed(config.seed)
    accelerator = Accelerator(
        cpu=config.cpu,
        mixed_precision=_precision(config),
        log_with=None if config.tracker == "none" else config.tracker,
        project_dir=str(working_folder(config.out)),
        # the centres move alike in every process and need no broadcast; batch norms are averaged where they are used
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
        remote.upload()  # what cannot be written to is known now
    accelerator.wait_for_everyone()
    resumed = common_checkpoint(accelerator, out) if config.resume else None
    if config.resume and resumed is None and accelerator.is_main_process and holds_a_run(out):
        raise CheckpointError(f"no checkpoint in {out} is whole; --resume false removes the run and begins anew")

    # data
    expressions = tuple(config.network.get("id2label", dict(enumerate(EXPRESSIONS))).values())
    faces = _faces(config, expressions)
    labels = faces if isinstance(faces, Labels) else faces.labels
    for text in config.validation:  # what is missing is reported now, not after the first thousand steps
        load_corpus(*split_corpus(text), LABEL_COLUMNS)
    agree(accelerator, photographs=_labels_digest(labels))  # networks for other people would not fit one another
    processor = _processor_of(config)
    teacher, standard = None, None
    if config.teacher:
        teacher = load_teacher(config.teacher).to(device)
        standard = faces.photographs.learn_from(teacher, accelerator)
        accelerator.print(f"learning from {teacher.record.name}")

    # network
    network = {"image_size": config.image_size, "num_identities": faces.num_identities} | config.network
    network["teacher_size"] = len(standard.mean) if standard else 0
    model = FaceLiveNetModel(FaceLiveNetConfig(**network))
    _check_labels(model, labels)
    if config.start_from:
        anew = start_from(model, config.start_from)
        accelerator.print(f"started from {config.start_from}; anew: {', '.join(anew) or 'nothing'}")
    if config.transfer_branch:
        transfer_branch(model)
    freeze_what_is_not_trained(model)
    model.to(memory_format=torch.channels_last)  # what convolutions are fastest on, on CPUs and GPUs alike
    if config.compile:
        for part in (model.shared, model.verification, model.expression):
            part.compile()

    # optimiser
    optimizer = optimizer_of(model, config)
    schedule = _schedule(optimizer, config)
    plain = model
    model, optimizer = accelerator.prepare(model, optimizer)
    parts = nn.ModuleDict({name: part for name, part in plain.named_children() if name not in HEADS})
    average = ModelEmaV3(parts, decay=config.ema_decay, use_warmup=True) if config.ema_decay else None
    head = plain.identity_head if "verification" in plain.config.tasks else None
    sampled = None
    if head is not None:
        head.batches_per_step = config.accumulation
        if plain.config.sampled_identities:
            sampled = SampledIdentities(head, optimizer.optimizer, config.seed)
    for kept in filter(None, (progress, average, sampled)):
        accelerator.register_for_checkpointing(kept)
    accelerator.register_for_checkpointing(schedule)
    set_seed(config.seed, device_specific=True)  # from here on every process draws its own augmentation
    if resumed:
        accelerator.load_state(str(resumed))
        if accelerator.is_main_process:
            progress.forget_later_rows()
        accelerator.print(f"going on from {resumed}" + (": finished already" if progress.step >= config.steps else ""))

    agree(accelerator, step=progress.step, weights=_weights_digest(plain))

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
            known = _known_labels(step_batches, accelerator)
            if sampled:
                people = torch.cat([batch.identity for batch in step_batches]).to(device)
                sampled.draw(progress.step, gather_from_processes(people))
            rate = optimizer.param_groups[0]["lr"]
            for number, batch in enumerate(step_batches):
                last = number == config.accumulation - 1
                with contextlib.nullcontext() if last else accelerator.no_sync(model):
                    shown = present(batch.to(device), config, teacher, standard, accelerator)
                    pixel_values = prepare(shown.faces, config, processor.whiten)
                    with accelerator.autocast():
                        output = model(
                            pixel_values.to(memory_format=torch.channels_last),
                            shown.identity,
                            shown.expression,
                            shown.targets,
                            **known,
                        )
                    accelerator.backward(output.loss / config.accumulation)
                progress.note(output, batch, rate)
            progress.note_gradient(accelerator.clip_grad_norm_(model.parameters(), CLIP_NORM))
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if sampled:
                sampled.put_back()
            progress.stepped()
            if average:
                average.update(parts, progress.step)
            bar.update()

            finished = progress.step == config.steps
            validating = finished or progress.step % config.validate_every == 0
            saving = finished or progress.step % config.save_every == 0
            stopping = accelerator.num_processes == 1 and stop.asked
            if validating or saving or stopping or progress.step % config.log_every == 0:
                rows, broken = progress.flush(accelerator)
                if broken:
                    last_good = newest_checkpoint(out) or "none: the run is too young"
                    raise NonFiniteLossError(f"{broken}\nlast good checkpoint: {last_good}")
                if accelerator.is_main_process:
                    bar.set_postfix(progress.summary(rows[-1]))
                    if trackers:
                        for row in rows:
                            accelerator.log({name: row[name] for name in row if name != "step"}, step=row["step"])
                stopping = anybody(accelerator, stop.asked)
            if validating:
                with progress.paused():
                    used = _eval_model(plain, average)
                    average_batch_norms(used)
                    numbers = validate(used, processor.whiten, config, plain.config.tasks, accelerator)
                    if accelerator.is_main_process:
                        better = progress.validated(numbers)
                        bar.write(f"step {progress.step}: " + ", ".join(f"{k} {v:.3f}" for k, v in numbers.items()))
                        if trackers and numbers:
                            accelerator.log(numbers, step=progress.step)
                        record = run_record(config, accelerator, progress, labels, plain, teacher)
                        for folder in ["last"] + ["best"] * better:
                            try_to_save_model(used, processor, out / folder, record)
            if saving or stopping:
                with progress.paused():
                    # a run that goes on has the main process's statistics everywhere: let one that was not stopped, too
                    for network in filter(None, (plain, average and average.module)):
                        average_batch_norms(network)
                    saved = save_training_state(accelerator, out, progress.step, KEEP_CHECKPOINTS)
                if (finished or stopping) and saved is None:
                    raise CheckpointError("the last training state could not be written")
                if accelerator.is_main_process:  # a stage may start from here, and has to know whom this one has seen
                    try_to_write_record(run_record(config, accelerator, progress, labels, plain, teacher), out)
                    with progress.paused():
                        uploaded = remote.try_to_upload()
                    if stopping and not uploaded:
                        raise CheckpointError(f"the last checkpoint is in {out} alone: the same command uploads it")
            if stopping and not finished:
                raise Stopped(f"stopped after step {progress.step}; the same command goes on from {saved}")
    bar.close()
    for tracker in accelerator.trackers:
        tracker.finish()
    record = run_record(config, accelerator, progress, labels, plain, teacher)
    if accelerator.is_main_process:
        try_to_write_record(record, out)
        draw_curves(out)
        remote.upload()
    accelerator.wait_for_everyone()
    return record


def test(config: TrainingConfig, corpora: list[str]) -> dict[str, float]:
    """Judge OUT/best once on people it was neither trained nor chosen on, with the thresholds of validation.

    Returns the numbers of `validate`, which OUT/test.json keeps.
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
def present(
    batch: Batch, config: TrainingConfig, teacher: Teacher | None, standard: Standard | None, accelerator: Accelerator
) -> Batch:
    """The batch with mixtures and deceptions, before augmentation.

    A teacher gives its vectors here for images that it has not seen before: composites and mixtures.
    """
    faces, landmarks, identity, expression = batch.faces, batch.landmarks, batch.identity, batch.expression
    targets = batch.targets
    if config.mixing_share:
        faces, landmarks, mixed = mix(faces, landmarks, config.mixing_share)
        identity, expression = identity.masked_fill(mixed, IGNORE), expression.masked_fill(mixed[:, None], 0)
        targets = targets.masked_fill(mixed[:, None], torch.nan)
    if teacher is not None:
        unseen = targets.isnan().any(dim=1).nonzero().squeeze(1)
        if len(unseen):
            with accelerator.autocast():
                vectors = teacher(faces[unseen], landmarks[unseen])
            targets = targets.index_copy(0, unseen, standard(vectors))
    if config.deception_share:
        share = config.deception_share
        faces, identity, expression, targets = deceive(faces, landmarks, identity, expression, targets, share)
    return replace(batch, faces=faces, identity=identity, expression=expression, targets=targets)


def _faces(config: TrainingConfig, expressions: tuple[str, ...]) -> TrainingFaces | Labels:
    """The training photographs; of a stream, only their labels."""
    if not config.streaming:
        return TrainingFaces(
            config.train,
            expressions,
            config.minimum_photographs,
            config.soft_labels,
            config.composites,
            config.seed,
            bool(config.teacher or config.deception_share),
        )
    if not config.train:
        raise CorpusError("no corpus to read: name at least one")
    parts = [load_corpus(*split_corpus(text), LABEL_COLUMNS) for text in config.train]
    return Labels(parts, expressions, config.minimum_photographs, config.soft_labels)


def _batches(config: TrainingConfig, faces, labels: Labels, accelerator: Accelerator, first: int) -> Iterator[Batch]:
    """From step `first` on. What is drawn depends on the seed and the step alone, so nothing has to be drawn over."""
    weights = config.train_weights or [1.0] * len(config.train)
    settings = {
        "num_workers": config.workers,
        "collate_fn": no_collate,
        "pin_memory": accelerator.device.type == "cuda",
        "generator": torch.Generator().manual_seed(config.seed),  # the global one is left to the training
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


def _known_labels(batches: list[Batch], accelerator: Accelerator) -> dict[str, float]:
    """How many people and expressions are known in a step of several batches, on average over its batches."""
    if len(batches) == 1:
        return {}  # the network counts those of its batch
    identities = sum(int((batch.identity != IGNORE).sum()) for batch in batches)
    expressions = sum(int((batch.expression.sum(dim=1) > 0).sum()) for batch in batches)
    counts = accelerator.reduce(torch.tensor([identities, expressions], device=accelerator.device)) / len(batches)
    return dict(zip(("known_identities", "known_expressions"), counts.tolist(), strict=True))


def _processor_of(config: TrainingConfig) -> FaceLiveNetImageProcessor:
    """The image processor that prepared the first corpus, at the size the network is trained at.

    Corpora that were aligned in different ways are refused: the network would learn where they come from.
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
    """How many photographs, and 12 digits of a hash of their labels in order: by row numbers batches are drawn."""
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
    named = labels.num_identities or model.config.teacher_size
    missing = {"verification": not named, "expression": not labels.expression.any()}
    for task in model.config.tasks:
        if missing[task]:
            other = "expression" if task == "verification" else "verification"
            raise CorpusError(
                f"nothing in --train is labelled for {task}: give a corpus that is, or train {other} alone "
                f"(--network.weighting {other})"
            )


def freeze_what_is_not_trained(model: FaceLiveNetModel) -> None:
    """No gradient for what the weighting leaves out, which DistributedDataParallel would wait for in vain."""
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
    # without the instructions bf16 is emulated, slowly
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def optimizer_of(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser of what requires a gradient; biases and norms do not decay."""
    # what decays comes first, as in training states of earlier versions
    groups = param_groups_weight_decay(model, config.weight_decay)[::-1]
    if config.optimizer == "rmsprop":  # epsilon 1.0 as in the authors' code; with a small one 0.1 diverges at once
        return torch.optim.RMSprop(groups, config.learning_rate, momentum=config.momentum, alpha=0.9, eps=1.0)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)
    return torch.optim.AdamW(groups, config.learning_rate)


def _schedule(optimizer, config: TrainingConfig):
    if config.schedule == "cosine":
        return get_cosine_schedule_with_warmup(optimizer, config.warmup_steps, config.steps)
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, config.milestones, gamma=0.1)


def _eval_model(model: FaceLiveNetModel, average: ModelEmaV3 | None) -> FaceLiveNetModel:
    """The network that is validated and saved: with the averaged weights where there are any."""
    if average is None:
        return model
    used = without_identities(model.config, average.module.state_dict())
    return used.to(model.device, memory_format=torch.channels_last)


# stopping, reporting


class _StopSignals:
    asked = False


@contextlib.contextmanager
def _stop_signals():
    """Ctrl-C and SIGTERM ask the run to save and stop; a second one stops it at once."""
    state = _StopSignals()

    def ask(number, frame):
        if state.asked:
            raise KeyboardInterrupt
        state.asked = True
        print("\ntrain: stopping after this step; once more stops at once", file=sys.stderr)

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever runs us handles signals
        before = {}
    try:
        yield state
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
