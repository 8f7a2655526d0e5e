"""Dynamic multi-task training (section 4.2 of the paper) with Accelerate.

    accelerate launch -m train --config train/presets/dynamic.yaml
    python -m train --config train/presets/drawn.yaml --steps 300

Writes to OUT: log.jsonl (losses, w1, w2, learning rate at every step; validation where there was one), state/ (to go on
from with --resume), best/ (the model that validated best) and last/, both ready for `FaceLiveNetModel.from_pretrained`.
"""

import json
import math
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path

import accelerate
import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from face_data.table import CorpusError, read_summary
from image_processing_facelivenet import FaceLiveNetImageProcessor
from modeling_facelivenet import EXPRESSIONS, FaceLiveNetConfig, FaceLiveNetModel
from train.augmentation import augment
from train.batches import TrainingFaces
from train.checkpoint import save_model, save_training_state, start_from
from train.config import TrainingConfig, parse_config, split_corpus
from train.validation import validate


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; the message names the step and each part."""


def main(argv: list[str] | None = None) -> int:
    config = parse_config(argv)
    try:
        train(config)
    except (CorpusError, FileNotFoundError, NonFiniteLossError, ValueError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    return 0


def train(config: TrainingConfig) -> dict:
    """Run one stage from beginning to end and return its record, the content of training.json."""
    set_seed(config.seed)
    accelerator = Accelerator(cpu=config.cpu, mixed_precision=_precision(config))
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)

    expressions = tuple(config.network.get("id2label", dict(enumerate(EXPRESSIONS))).values())
    faces = TrainingFaces(config.train, expressions, config.minimum_photographs)
    processor = _processor_of(config)
    network = FaceLiveNetConfig(image_size=config.image_size, num_identities=faces.num_identities, **config.network)
    model = FaceLiveNetModel(network)
    if config.start_from:
        anew = start_from(model, config.start_from)
        accelerator.print(f"started from {config.start_from}; anew: {', '.join(anew) or 'nothing'}")
    model.to(memory_format=torch.channels_last)  # what convolutions are fastest on, on CPUs and GPUs alike

    optimizer = _optimizer(model, config)
    schedule = _schedule(optimizer, config)
    generator = torch.Generator().manual_seed(config.seed)
    samples = config.steps * config.batch_size * accelerator.num_processes
    sampler = faces.sampler(config.train_weights or [1.0] * len(config.train), samples, generator)
    loader = DataLoader(
        faces, config.batch_size, sampler=sampler, num_workers=config.workers, drop_last=True,
        persistent_workers=config.workers > 0,
    )  # fmt: skip
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    plain = accelerator.unwrap_model(model)
    progress = Progress(config, out)
    accelerator.register_for_checkpointing(progress)
    if config.resume and (out / "state").is_dir():
        accelerator.load_state(str(out / "state"))
    elif accelerator.is_main_process:
        (out / "log.jsonl").unlink(missing_ok=True)

    device = accelerator.device
    done = progress.step
    batches = accelerator.skip_first_batches(loader, done) if done else loader
    bar = tqdm(batches, total=config.steps, initial=done, desc="train", disable=not accelerator.is_main_process)
    started = time.monotonic()
    model.train()
    for pixels, identity, expression in bar:
        pixel_values = processor.whiten(augment(pixels.to(device), config)).to(memory_format=torch.channels_last)
        with accelerator.autocast():
            output = model(pixel_values, identity.to(device), expression.to(device))
        progress.step += 1
        _check_finite(output, progress.step)
        accelerator.backward(output.loss)
        accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
        rate = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

        if accelerator.is_main_process:
            row = progress.log(output, rate)
            bar.set_postfix(
                L1=f"{row['verification_loss']:.2f}", L2=f"{row['expression_loss']:.2f}", w1=f"{row['w1']:.2f}"
            )
        last = progress.step == config.steps
        if last or progress.step % config.validate_every == 0:
            progress.seconds += time.monotonic() - started
            numbers = validate(plain, processor.whiten, config, expressions, device)
            if accelerator.is_main_process:
                better = progress.validated(numbers)
                bar.write(f"step {progress.step}: " + ", ".join(f"{key} {value:.3f}" for key, value in numbers.items()))
                record = _record(config, accelerator, progress, faces)
                for folder in ["last"] + ["best"] * better:
                    save_model(plain, processor, out / folder, record)
                (out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            started = time.monotonic()
        if last or progress.step % config.save_every == 0:
            save_training_state(accelerator, out / "state")
    accelerator.end_training()
    return _record(config, accelerator, progress, faces)


class Progress:
    """Where a run stands, kept in its checkpoints: step, seconds of training, the validations so far."""

    def __init__(self, config: TrainingConfig, out: Path):
        self.step = 0
        self.seconds = 0.0
        self.validations: list[dict] = []
        self.log_file = out / "log.jsonl"

    def state_dict(self) -> dict:
        return {"step": self.step, "seconds": self.seconds, "validations": self.validations}

    def load_state_dict(self, state: dict) -> None:
        self.step, self.seconds, self.validations = state["step"], state["seconds"], state["validations"]
        if self.log_file.exists():  # what was logged after the checkpoint will be logged again
            rows = self.log_file.read_text(encoding="utf-8").splitlines(keepends=True)
            rows = [row for row in rows if row.endswith("\n") and json.loads(row)["step"] <= self.step]
            self.log_file.write_text("".join(rows), encoding="utf-8")

    def log(self, output, learning_rate: float) -> dict:
        w1, w2 = output.task_weights.tolist()
        row = {"step": self.step, "learning_rate": learning_rate, "w1": w1, "w2": w2} | {
            name: round(getattr(output, name).item(), 6)
            for name in ("loss", "verification_loss", "softmax_loss", "triplet_loss", "expression_loss")
        }
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        return row

    def validated(self, numbers: dict[str, float]) -> bool:
        """Note a validation; True where it is the best so far, by the mean of its AUCs and expression accuracies."""
        scores = [
            value for name, value in numbers.items() if name.endswith(("verification_auc", "expression_accuracy"))
        ]
        score = sum(scores) / len(scores) if scores else float(self.step)  # without validation the newest is the best
        best = max((row["score"] for row in self.validations), default=-math.inf)
        self.validations.append({"step": self.step, "score": score} | numbers)
        return score > best


def _processor_of(config: TrainingConfig) -> FaceLiveNetImageProcessor:
    """The image processor that prepared the first corpus, at the size the network is trained at.

    Corpora that were aligned in different ways are refused: the network would learn where they come from.
    """
    alignments = set()
    for text in config.train:
        folder = split_corpus(text)[0]
        if Path(folder).is_dir():
            alignments.add(read_summary(folder)["options"]["alignment"])
    if len(alignments) > 1:
        raise CorpusError(f"the training corpora are aligned differently ({', '.join(sorted(alignments))})")
    return FaceLiveNetImageProcessor(size=config.image_size, alignment=(alignments or {"margin"}).pop())


def _precision(config: TrainingConfig) -> str:
    if config.mixed_precision != "auto":
        return config.mixed_precision
    if torch.cuda.is_available() and not config.cpu:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return (
        "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"
    )  # without the instructions bf16 is emulated, slowly


def _optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.optimizer == "rmsprop":  # epsilon 1.0 as in the authors' code; with a small one 0.1 diverges at once
        return torch.optim.RMSprop(groups, config.learning_rate, momentum=config.momentum, alpha=0.9, eps=1.0)
    return torch.optim.AdamW(groups, config.learning_rate)


def _schedule(optimizer, config: TrainingConfig):
    if config.schedule == "cosine":
        return get_cosine_schedule_with_warmup(optimizer, config.warmup_steps, config.steps)
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, config.milestones, gamma=0.1)


def _check_finite(output, step: int) -> None:
    if not torch.isfinite(output.loss):
        parts = {name: output[name].item() for name in ("softmax_loss", "triplet_loss", "expression_loss")}
        raise NonFiniteLossError(f"the loss is {output.loss.item()} at step {step} ({parts}): lower --learning-rate")


def _earlier(config: TrainingConfig) -> dict | None:
    """The record of the checkpoint this run started from, if it left one."""
    if not config.start_from:
        return None
    source = Path(config.start_from)
    record = (source.parent if source.name == "state" else source) / "training.json"
    return json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None


def _record(config: TrainingConfig, accelerator: Accelerator, progress: Progress, faces: TrainingFaces) -> dict:
    cuda = accelerator.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name()
        if cuda
        else f"CPU, {torch.get_num_threads()} threads, {platform.machine()}",
        "processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
        "minutes": round(progress.seconds / 60, 1),
        "steps": progress.step,
        "photographs_seen": progress.step * config.batch_size * accelerator.num_processes,
        "photographs": len(faces),
        "identities": faces.num_identities,
        "train_splits": faces.splits,
        "started_from": _earlier(config),
        "config": asdict(config),
        "validations": progress.validations,
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "accelerate": accelerate.__version__,
        },
    }


if __name__ == "__main__":
    sys.exit(main())
