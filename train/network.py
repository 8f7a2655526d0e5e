"""The network of a run, its optimiser, and the precision of both.

Called by `run`. Next to read: modeling_facelivenet.py, train/start.py.
"""

import hashlib

import torch
from accelerate import Accelerator
from timm.optim import param_groups_weight_decay
from timm.utils import ModelEmaV3
from torch import nn
from transformers import get_cosine_schedule_with_warmup

from face_data.table import CorpusError
from modeling_facelivenet import FaceLiveNetConfig, FaceLiveNetModel
from train.checkpoint import without_identities
from train.config import TrainingConfig
from train.data import TrainingData
from train.start import start_from, transfer_branch

HEADS = ("identity_head", "teacher_head")  # needed only for training: neither averaged nor saved


def build_network(config: TrainingConfig, data: TrainingData, accelerator: Accelerator) -> FaceLiveNetModel:
    """The network with the initial weights that the config asks for.

    Raises:
        CorpusError: no corpus has labels for a task.
        ValueError: the shared layers are frozen, but those of the start do not fit this network.
    """
    settings = {"image_size": config.image_size, "num_identities": data.num_identities} | config.network
    settings["teacher_size"] = len(data.standardisation.mean) if data.standardisation else 0
    model = FaceLiveNetModel(FaceLiveNetConfig(**settings))
    _check_labels(model, data)
    if config.start_from:
        initialised = start_from(model, config.start_from)
        accelerator.print(f"started from {config.start_from}; initialised: {', '.join(initialised) or 'nothing'}")
        missing = [name for name in initialised if name.startswith("shared.")]
        if config.freeze_shared and missing:
            raise ValueError(f"--freeze_shared: {config.start_from} does not have all shared layers: {missing[0]} …")
    if config.transfer_branch:
        transfer_branch(model)
    freeze_untrained_parts(model, config.freeze_shared)
    model.to(memory_format=torch.channels_last)  # the fastest format for convolutions, on CPUs and GPUs
    if config.compile:
        for part in (model.shared, model.verification, model.expression):
            part.compile()
    return model


def _check_labels(model: FaceLiveNetModel, data: TrainingData) -> None:
    has_targets = {
        "verification": data.labels.num_identities or data.teacher,
        "expression": data.labels.expression.any() or data.expression_teachers,
    }
    for task in model.config.tasks:
        if not has_targets[task]:
            other = "expression" if task == "verification" else "verification"
            raise CorpusError(
                f"no corpus of --train has labels for {task}: add one, or train only {other} "
                f"(--network.weighting {other})"
            )


def freeze_untrained_parts(model: FaceLiveNetModel, freeze_shared: bool = False) -> None:
    """Switch off gradients of parts that are not trained: DistributedDataParallel would wait for them.

    These are the parts that the weighting does not train, and with `freeze_shared` the shared layers.
    """
    config = model.config
    trained = {*config.tasks} if freeze_shared else {"shared", *config.tasks}
    trained |= {"expression_head"} if "expression" in config.tasks else set()
    trained |= set(HEADS) if "verification" in config.tasks else set()
    trained |= {"dynamic_weight_unit"} if config.weighting in ("dynamic", "inverse_loss") else set()
    trained |= {"uncertainty"} if config.weighting == "uncertainty" else set()
    for name, part in model.named_children():
        part.requires_grad_(name in trained)


def set_training_mode(model: FaceLiveNetModel, freeze_shared: bool) -> None:
    """The mode of a training step. Frozen shared layers stay in evaluation mode, which keeps their statistics."""
    model.train()
    model.shared.train(not freeze_shared)


def network_for_evaluation(model: FaceLiveNetModel, average: ModelEmaV3 | None) -> FaceLiveNetModel:
    """The network that is validated and saved: with averaged weights, if there are any."""
    if average is None:
        return model
    averaged = without_identities(model.config, average.module.state_dict())
    return averaged.to(model.device, memory_format=torch.channels_last)


def weights_digest(model: nn.Module) -> str:
    """12 digits of a hash of all weights, centres and statistics."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def precision_of(config: TrainingConfig) -> str:
    """The precision of the training, no or bf16. `auto` means bf16 if the device has instructions for it."""
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


def schedule_of(optimizer: torch.optim.Optimizer, config: TrainingConfig) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate of each step."""
    if config.schedule == "cosine":
        return get_cosine_schedule_with_warmup(optimizer, config.warmup_steps, config.steps)
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, config.milestones, gamma=0.1)
