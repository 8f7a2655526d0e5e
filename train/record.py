"""The training record, training.json: the settings, data, duration and validations of a checkpoint.

Called by `run` and `export`. The evaluation and the model card read in it on which people a network was trained. Next
to read: checkpoints.py, which reads the stages of a record.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import accelerate
import numpy as np
import torch
import transformers
from accelerate import Accelerator

from addresses import local_copy
from checkpoints import TRAINING_RECORD, add_stages
from modeling_facelivenet import FaceLiveNetModel
from train.config import TrainingConfig
from train.labels import Labels
from train.progress import Progress
from train.teacher import Teacher


def run_record(
    config: TrainingConfig,
    accelerator: Accelerator,
    progress: Progress,
    labels: Labels,
    model: FaceLiveNetModel,
    teacher: Teacher | None = None,
    expression_teachers: Sequence[dict] = (),
) -> dict:
    """The content of training.json at the current step of a run.

    "trained_on" is source of photographs -> splits, of this stage, all earlier ones and the expression teachers; None
    if one of them has no record. "earlier_stages" has the form that `checkpoints.training_stages` describes.

    Args:
        expression_teachers: their records, empty if they have none.
    """
    cuda = accelerator.device.type == "cuda"
    cpu = f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"
    seen = progress.seen
    earlier, started_from, parts = [], None, [labels.splits]
    if config.start_from:
        source = record_of(config.start_from) or {}
        started_from = add_stages(earlier, source) if source else None
        parts.append(source.get("trained_on"))
    parts += [teaching.get("trained_on") for teaching in expression_teachers]
    taught_by = [add_stages(earlier, teaching) if teaching else None for teaching in expression_teachers]
    return {
        "device": torch.cuda.get_device_name() if cuda else cpu,
        "processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
        "minutes": round(progress.seconds / 60, 1),
        "images_per_second": round(seen / progress.seconds, 1) if progress.seconds else None,
        "share_waiting_for_data": round(progress.waited / progress.seconds, 4) if progress.seconds else None,
        "steps": progress.step,
        "photographs_seen": seen,
        "photographs": len(labels.identity),
        "unreadable_photographs": progress.unreadable,
        "identities": labels.num_identities,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trained_on": all_splits(parts),
        "teacher": None if teacher is None else asdict(teacher.record),
        "expression_teachers": taught_by,
        "started_from": started_from,
        "config": asdict(config),
        "network": {
            name: value for name, value in model.config.to_diff_dict().items() if name != "transformers_version"
        },
        "final": progress.final,
        "validations": progress.validations,
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "accelerate": accelerate.__version__,
            "numpy": np.__version__,
        },
        "earlier_stages": earlier,
    }


def record_of(source: str) -> dict | None:
    """The record of a checkpoint to start from: of a saved model or a run; None if there is none."""
    folder = local_copy(source)
    for path in (folder / TRAINING_RECORD, folder / "last" / TRAINING_RECORD):
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    return None


def averaged_record(records: Sequence[dict], shares: Sequence[float]) -> dict:
    """The record of the mean of the weights of several checkpoints: that of the first, with all stages of the others.

    Args:
        shares: of each checkpoint in the mean; they sum to 1.
    """
    stages: list[dict] = []
    add_stages(stages, records[0])
    first = stages.pop()  # the entry of the first record itself
    others = [add_stages(stages, record) for record in records[1:]]
    return records[0] | {
        **{name: first[name] for name in ("started_from", "expression_teachers") if name in first},
        "averaged_with": others,
        "shares": list(shares),
        "trained_on": all_splits([record.get("trained_on") for record in records]),
        "earlier_stages": stages,
    }


def all_splits(parts: Sequence[Mapping[str, Sequence[str]] | None]) -> dict[str, list[str]] | None:
    """Source -> splits that at least one of several trainings used; None if those of one are unknown."""
    if any(part is None for part in parts):
        return None
    sources = sorted({source for part in parts for source in part})
    return {source: sorted({split for part in parts for split in part.get(source, ())}) for source in sources}
