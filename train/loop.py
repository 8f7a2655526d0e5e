"""The training loop of one stage.

Called by `command`, `folds` and the benchmarks. Next to read: train/run.py, which has the parts of the loop.
"""

import contextlib
import signal
import sys
from dataclasses import asdict

from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import set_seed

from addresses import working_folder
from machines import agree
from train.checkpoint import any_process
from train.config import LOG_EVERY, TrainingConfig
from train.lock import RunLock
from train.network import precision_of
from train.run import Run

MAY_DIFFER = {"out", "workers", "tracker"}  # settings that may differ between the machines of a run


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
    set_seed(config.seed)
    accelerator = Accelerator(
        cpu=config.cpu,
        mixed_precision=precision_of(config),
        log_with=None if config.tracker == "none" else config.tracker,
        project_dir=str(working_folder(config.out)),
        # no broadcast: centres are equal in all processes, and batch norms are averaged before they are used
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    settings = {name: str(value) for name, value in asdict(config).items() if name not in MAY_DIFFER}
    agree(accelerator, **settings)
    with RunLock(config.out) if accelerator.is_main_process else contextlib.nullcontext():
        run = Run(config, accelerator)
        with _stop_signals() as stop:
            _loop(run, stop)
        return run.end()


def _loop(run: Run, stop: "_StopSignals") -> None:
    config, accelerator = run.config, run.accelerator
    run.progress.start_clock()
    while not run.finished:
        run.step()
        validating, saving = run.is_due(config.validate_every), run.is_due(config.save_every)
        stopping = stop.received and accelerator.num_processes == 1
        if validating or saving or stopping or run.is_due(LOG_EVERY):
            run.report()
            stopping = any_process(accelerator, stop.received)  # several processes stop at a common step
        if validating:
            run.validate()
        if saving or stopping:
            saved = run.save(required=stopping)
        if stopping and not run.finished:
            raise Stopped(f"stopped after step {run.progress.step}; the same command continues from {saved}")


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
