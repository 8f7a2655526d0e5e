"""Runs the training that `python -m train` was called for, and reports expected errors in one sentence.

Called by `__main__`. Next to read: train/folds.py, or train/loop.py for a single run.
"""

import sys

from accelerate import PartialState
from safetensors import SafetensorError

from face_data.corpus import CorpusError
from machines import MachineError, Watch
from startup import keep_freed_memory
from train.checkpoint import CheckpointError
from train.config import TrainingConfig
from train.folds import train_folds
from train.lock import FolderInUseError
from train.loop import Stopped, train
from train.run import NonFiniteLossError

EXPECTED = (
    CorpusError,
    CheckpointError,
    NonFiniteLossError,
    FolderInUseError,
    MachineError,
    OSError,
    SafetensorError,
    ValueError,
)


def run(config: TrainingConfig) -> int:
    """Train, and return the exit status: 0 finished, 2 failed, 130 stopped after a checkpoint was saved."""
    keep_freed_memory()
    try:
        state = PartialState(cpu=config.cpu)
        with Watch(state.process_index, state.num_processes, "train") as watch:
            status = _watched(config, watch)
        state.destroy_process_group()
    except EXPECTED as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    return status


def _watched(config: TrainingConfig, watch: Watch) -> int:
    try:
        train_folds(config) if config.fold else train(config)
    except Stopped as stopped:
        print(f"train: {stopped}", file=sys.stderr)
        return 130
    except EXPECTED:
        raise
    except RuntimeError as error:  # raised by gloo or NCCL if a connection is lost
        watch.explain(error)
        raise
    return 0
