"""A run of one stage: what a step, a validation and a checkpoint do.

`loop.train` makes a `Run` and calls its methods. Next to read: train/data.py, train/network.py, train/validation.py,
train/checkpoint.py.
"""

import contextlib
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from timm.utils import ModelEmaV3
from torch import nn
from tqdm import tqdm

from addresses import working_folder
from machines import agree
from modeling_facelivenet import gather_from_processes
from train.augmentation import prepare
from train.checkpoint import (
    CheckpointError,
    common_checkpoint,
    contains_a_run,
    newest_checkpoint,
    save_training_state,
    try_to_save_model,
    try_to_write_record,
)
from train.config import CLIP_NORM, KEEP_CHECKPOINTS, TrainingConfig
from train.data import batches_from, label_counts, load_data, mix_and_deceive
from train.network import (
    HEADS,
    build_network,
    network_for_evaluation,
    optimizer_of,
    schedule_of,
    set_training_mode,
    weights_digest,
)
from train.progress import Progress
from train.record import run_record
from train.remote_run import RemoteRun
from train.sampled_identities import SampledIdentities
from train.validation import average_batch_norms, validate


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient is NaN or infinite. The message names the step, the losses, the photographs of the batch
    and the last good checkpoint."""


class Run:
    """Data, network, optimiser and progress of one stage, resumed from its newest checkpoint.

    Raises:
        CheckpointError: no checkpoint of OUT can be read.
        CorpusError, MachineError, TeacherError: as `load_data` and `build_network`.
    """

    def __init__(self, config: TrainingConfig, accelerator: Accelerator):
        self.config, self.accelerator, self.out = config, accelerator, working_folder(config.out)
        self.progress = Progress(config, self.out, accelerator.num_processes)
        self.remote = RemoteRun(config.out) if accelerator.is_main_process else None
        checkpoint = self._open_folder()
        self.data = load_data(config, accelerator)
        self.network = build_network(config, self.data, accelerator)
        self._make_optimizer()
        set_seed(config.seed, device_specific=True)  # from here each process has its own random augmentation
        if checkpoint:
            self._resume(checkpoint)
        agree(accelerator, step=self.progress.step, weights=weights_digest(self.network))
        self.batches = batches_from(self.progress.step, self.data, config, accelerator)
        if config.tracker != "none":
            accelerator.init_trackers(config.tracker, {name: str(value) for name, value in asdict(config).items()})
        self.bar = tqdm(
            total=config.steps,
            initial=self.progress.step,
            desc="train",
            unit="step",
            disable=not accelerator.is_main_process,
            smoothing=0.1,
        )
        set_training_mode(self.network, config.freeze_shared)

    def _open_folder(self) -> Path | None:
        """Create OUT, and find the checkpoint to resume from."""
        if self.accelerator.is_main_process:
            if self.config.resume:
                self.remote.fetch()
            self.progress.open_folder()
            self.remote.upload()  # an address that cannot be written is reported before the training
        self.accelerator.wait_for_everyone()
        if not self.config.resume:
            return None
        checkpoint = common_checkpoint(self.accelerator, self.out)
        if checkpoint is None and self.accelerator.is_main_process and contains_a_run(self.out):
            raise CheckpointError(
                f"no checkpoint in {self.out} is undamaged; --resume false removes the run and starts again"
            )
        return checkpoint

    def _make_optimizer(self) -> None:
        """The optimiser and its schedule, the average of the weights, and the sample of the identities."""
        config, network = self.config, self.network
        optimizer = optimizer_of(network, config)
        self.schedule = schedule_of(optimizer, config)
        self.model, self.optimizer = self.accelerator.prepare(network, optimizer)
        self.parts = nn.ModuleDict({name: part for name, part in network.named_children() if name not in HEADS})
        self.average = ModelEmaV3(self.parts, decay=config.ema_decay, use_warmup=True) if config.ema_decay else None
        self.sampled = None
        if "verification" in network.config.tasks:
            network.identity_head.batches_per_step = config.accumulation
            if network.config.sampled_identities:
                self.sampled = SampledIdentities(network.identity_head, self.optimizer.optimizer, config.seed)
        for stateful in filter(None, (self.progress, self.average, self.sampled)):
            self.accelerator.register_for_checkpointing(stateful)
        self.accelerator.register_for_checkpointing(self.schedule)

    def _resume(self, checkpoint: Path) -> None:
        self.accelerator.load_state(str(checkpoint))
        if self.accelerator.is_main_process:
            self.progress.remove_later_rows()
        self.accelerator.print(f"resumed from {checkpoint}" + (": finished already" if self.finished else ""))

    @property
    def finished(self) -> bool:
        return self.progress.step >= self.config.steps

    def is_due(self, every: int) -> bool:
        """Whether to do now what is done after every `every` steps, and after the last step."""
        return self.finished or self.progress.step % every == 0

    def step(self) -> None:
        """Forward and backward passes of `accumulation` batches, and a step of the optimiser."""
        accelerator, progress = self.accelerator, self.progress
        with progress.waiting():
            batches = [next(self.batches) for _ in range(self.config.accumulation)]
        if self.sampled:
            people = torch.cat([batch.identity for batch in batches]).to(accelerator.device)
            self.sampled.draw(progress.step, gather_from_processes(people))
        rate = self.optimizer.param_groups[0]["lr"]
        batches = [
            mix_and_deceive(batch.to(accelerator.device), self.data, self.config, accelerator) for batch in batches
        ]
        counts = label_counts(batches, accelerator)
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self.model):
                pixel_values = prepare(batch.faces, self.config, self.data.processor.whiten)
                with accelerator.autocast():
                    output = self.model(
                        pixel_values.to(memory_format=torch.channels_last),
                        batch.identity,
                        batch.expression,
                        batch.targets,
                        **counts,
                    )
                accelerator.backward(output.loss / len(batches))
            progress.add_batch(output, batch, rate)
        progress.add_gradient_norm(accelerator.clip_grad_norm_(self.model.parameters(), CLIP_NORM))
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        if self.sampled:
            self.sampled.put_back()
        progress.finish_step()
        if self.average:
            self.average.update(self.parts, progress.step)
        self.bar.update()

    def report(self) -> None:
        """Write the log of the steps since the last report.

        Raises:
            NonFiniteLossError: the loss or its gradient is NaN or infinite.
        """
        rows, problem = self.progress.flush(self.accelerator)
        if problem:
            last_good = newest_checkpoint(self.out) or "none was saved yet"
            raise NonFiniteLossError(f"{problem}\nlast good checkpoint: {last_good}")
        if self.accelerator.is_main_process:
            self.bar.set_postfix(self.progress.summary(rows[-1]))
            for row in rows:
                self._track({name: row[name] for name in row if name != "step"}, row["step"])

    def validate(self) -> None:
        """Validate the network, and save it as OUT/last, and as OUT/best if no validation before was better."""
        progress, accelerator = self.progress, self.accelerator
        with progress.paused():
            network = network_for_evaluation(self.network, self.average)
            average_batch_norms(network)
            whiten, tasks = self.data.processor.whiten, self.network.config.tasks
            numbers = validate(network, whiten, self.config, tasks, accelerator)
            if not accelerator.is_main_process:
                return
            is_best = progress.add_validation(numbers)
            self.bar.write(f"step {progress.step}: " + ", ".join(f"{k} {v:.3f}" for k, v in numbers.items()))
            if numbers:
                self._track(numbers, progress.step)
            record = self.record()
            for folder in ("last", "best") if is_best else ("last",):
                try_to_save_model(network, self.data.processor, self.out / folder, record)

    def save(self, required: bool) -> Path | None:
        """Save a training state, and upload it if OUT is an address. Returns its folder; None if it was not written.

        Raises:
            CheckpointError: it is required, and was not written or not uploaded.
        """
        with self.progress.paused():
            # a resumed run has the statistics of the main process in all processes: average them, so that an
            # uninterrupted run continues with the same ones
            for network in filter(None, (self.network, self.average and self.average.module)):
                average_batch_norms(network)
            saved = save_training_state(self.accelerator, self.out, self.progress.step, KEEP_CHECKPOINTS)
        if saved is None and (required or self.finished):
            raise CheckpointError("the last training state could not be written")
        if self.accelerator.is_main_process:
            try_to_write_record(self.record(), self.out)  # a stage that starts from here needs it
            with self.progress.paused():
                uploaded = self.remote.try_to_upload()
            if required and not uploaded:
                raise CheckpointError(
                    f"the last checkpoint was not uploaded from {self.out}: the same command uploads it"
                )
        return saved

    def end(self) -> dict:
        """Write the record and the figures, and return the record."""
        self.bar.close()
        for tracker in self.accelerator.trackers:
            tracker.finish()
        record = self.record()
        if self.accelerator.is_main_process:
            try_to_write_record(record, self.out)
            from train.figures import draw_curves  # imports matplotlib, which only the end of a run needs

            draw_curves(self.out)
            self.remote.upload()
        self.accelerator.wait_for_everyone()
        return record

    def record(self) -> dict:
        """The content of training.json."""
        teachers = self.data.expression_teachers
        return run_record(
            self.config,
            self.accelerator,
            self.progress,
            self.data.labels,
            self.network,
            self.data.teacher,
            teachers.records if teachers else (),
        )

    def _track(self, numbers: dict[str, float], step: int) -> None:
        if self.config.tracker != "none":
            self.accelerator.log(numbers, step=step)
