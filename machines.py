"""Checks for a training on several machines, and the transfer of files between them.

    refuse_unconnected_launch()                 # call it first: refuses a launcher that does not connect the processes
    with Watch(process, processes, name) as watch:  # ends this process soon after another process has ended
        agree(accelerator, seed=0)              # raises an error if a process has another value
        send_folder(accelerator, folder, lacking)  # copies files of the main process to machines without them

This module imports PyTorch only if there are several processes.
"""

import contextlib
import json
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

BEAT = 1.0  # seconds between two signs of life of a process
SILENCE = 30.0  # after so many seconds without a sign of life, a process counts as gone
SILENCE_IN_DOUBT = 6.0  # the same, after a connection of this process broke
GRACE = 5.0  # seconds for the main thread to end by itself, and for other processes to read the reason
PIECE = 2**26  # bytes of a file in one message
FINISHED = "finished"
RESUME_HINT = "the same command goes on from the last checkpoint"
# variables that Accelerate reads
WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
PLACES = (
    ("RANK", "WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


class MachineError(RuntimeError):
    """Machines are not connected, have different settings, or are gone. The message names them in one sentence."""


def refuse_unconnected_launch(environment: Mapping[str, str] = os.environ) -> None:
    """Raise MachineError if a launcher had to start several processes, but they are not connected.

    `accelerate launch --cpu` sets the address of the main process, but does not connect the processes. `srun` starts
    independent copies.
    """
    world = next((int(environment[name]) for name in WORLD_SIZES if environment.get(name)), None)
    if world is None and "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment:
        raise MachineError(
            "accelerate launch was asked for several processes, but started one that is not connected to others: "
            "launch with --multi_gpu (also for CPUs, instead of --cpu), or unset MASTER_ADDR to train with one process"
        )
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS") or 1)
    if world is None and tasks > 1 and "ACCELERATE_MIXED_PRECISION" not in environment:
        raise MachineError(
            f"srun started {tasks} copies that are not connected: let it start `accelerate launch` once on each "
            "machine (train/presets/accelerate/slurm.sh)"
        )


def place(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """The number of this process, and the number of processes, from the variables of a launcher or of `srun`.

    The processes are not connected by this function.

    Raises:
        MachineError: a launcher had to start several processes, but they are not connected.
    """
    for number, of in PLACES:
        if environment.get(of):
            return int(environment.get(number) or 0), int(environment[of])
    refuse_unconnected_launch(environment)
    return 0, 1


def this_machine() -> str:
    return platform.node() or "a machine without a name"


class Watch:
    """Ends this process if another process has ended, because a collective operation would wait for it for ever.

    Every process writes a sign of life to a common store every second. A process is gone if its sign does not change
    for some time, or if its sign contains the reason of its end. Then `explain` raises MachineError in the main thread.
    If the main thread does not leave the context in time, this process exits. A sign contains a counter and no time,
    so the clocks of the machines may differ. With one process, this class does nothing.
    """

    def __init__(self, process: int, processes: int, name: str):
        """name: of the command; it precedes the messages."""
        self.process, self.processes, self.name = process, processes, name
        self.verdict: str | None = None  # the message about the process that is gone
        self._decided, self._closed = threading.Event(), threading.Event()
        self._limit = SILENCE
        self._end_reason = ""

    def __enter__(self) -> "Watch":
        if self.processes == 1:
            return self
        from datetime import timedelta

        from torch.distributed import PrefixStore, TCPStore

        # a separate connection, because the connection of the process group is blocked while it waits
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=SILENCE), wait_for_workers=False)
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = PrefixStore(f"watch/{self.name}/{attempt}", store)
        self._keys = [str(process) for process in range(self.processes)]
        self._store.set(self._keys[self.process], self._sign(0))
        signs = self._store.multi_get(self._keys)  # waits for the first sign of every process
        self._machines = [json.loads(sign)["machine"] for sign in signs]
        self._signs, now = signs, time.monotonic()
        self._heard = [now] * self.processes
        self._answered = now
        for work in (self._exchange, self._check_others):
            threading.Thread(target=work, name=f"watch {work.__name__}", daemon=True).start()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        """Write to the store that this process has finished, or why it ends, and wait until the others can read it."""
        if self.processes == 1:
            return
        if error is None:
            self._end_reason = FINISHED
            deadline = time.monotonic() + SILENCE
            # the main process or its launcher may run the store, so the main process ends last
            while self.process == 0 and time.monotonic() < deadline and not self._all_finished():
                time.sleep(BEAT / 4)
            self._closed.set()
            with contextlib.suppress(RuntimeError):
                self._store.set(self._keys[self.process], self._sign(-1))
            return
        self._end_reason = self.verdict or f"{self.whom(self.process)} ended: {str(error) or kind.__name__}"
        time.sleep(GRACE)
        self._closed.set()

    def whom(self, process: int) -> str:
        return f"process {process} on {self._machines[process]}"

    def explain(self, error: BaseException) -> None:
        """Raise MachineError if the end of another process caused this error. Waits until this is certain."""
        if self.processes == 1:
            return
        self._limit = SILENCE_IN_DOUBT
        self._decided.wait(SILENCE_IN_DOUBT + GRACE)
        if self.verdict is not None:
            raise MachineError(self.verdict) from error

    # functions of the two threads

    def _sign(self, number: int) -> str:
        return json.dumps({"number": number, "machine": this_machine(), "end_reason": self._end_reason})

    def _exchange(self) -> None:
        number = 0
        while not self._closed.wait(BEAT):
            number += 1
            try:
                self._store.set(self._keys[self.process], self._sign(number))
                signs = self._store.multi_get(self._keys)
            except RuntimeError:  # torch.distributed raises it if the store is gone
                self._answered = -float("inf")
                return
            now = self._answered = time.monotonic()
            self._heard = [
                now if sign != before else heard
                for sign, before, heard in zip(signs, self._signs, self._heard, strict=True)
            ]
            self._signs = signs

    def _check_others(self) -> None:
        last_check = time.monotonic()
        while not self._closed.wait(BEAT / 2):
            # if this process itself was paused, the others are not silent: wait for new signs
            paused = time.monotonic() - last_check > SILENCE_IN_DOUBT
            last_check = time.monotonic()
            if paused and self._answered > 0:
                self._answered, self._heard = last_check, [last_check] * self.processes
            verdict = self._who_is_gone()
            if verdict is None:
                continue
            self.verdict = self.verdict or verdict
            self._end_reason = verdict  # other processes report the same cause
            self._decided.set()
            if self._closed.wait(GRACE + SILENCE_IN_DOUBT):
                return
            print(f"\n{self.name}: {verdict}", file=sys.stderr, flush=True)
            os._exit(2)

    def _who_is_gone(self) -> str | None:
        signs = [json.loads(sign) for sign in self._signs]
        end_reasons = [sign["end_reason"] for sign in signs]
        for process, end_reason in enumerate(end_reasons):
            if end_reason not in ("", FINISHED) and process != self.process:
                return end_reason
        for process, end_reason in enumerate(end_reasons):  # relative to the last answer of the store
            silent = self._heard[process] < self._answered - self._limit
            if silent and process != self.process and end_reason != FINISHED:
                return f"{self.whom(process)} is gone; {RESUME_HINT}"
        if self._answered < time.monotonic() - self._limit and end_reasons[0] != FINISHED:
            return f"{self.whom(0)}, the main process, is gone; {RESUME_HINT}"
        return None

    def _all_finished(self) -> bool:
        return all(
            json.loads(sign)["end_reason"] for process, sign in enumerate(self._signs) if process != self.process
        )


def agree(accelerator, **values: str | int) -> None:
    """Raise MachineError in every process if a value of a process differs from that of the main process."""
    if accelerator.num_processes == 1:
        return
    from accelerate.utils import gather_object

    processes = gather_object([{"machine": this_machine()} | values])
    main = processes[0]
    for number, process in enumerate(processes):
        for name, value in main.items():
            if name != "machine" and process[name] != value:
                raise MachineError(
                    f"process {number} on {process['machine']} has {name.replace('_', ' ')} {process[name]}, but "
                    f"process 0 on {main['machine']} has {value}: all must start from the same files and settings"
                )


def send_folder(accelerator, folder: Path, lacking: bool) -> None:
    """Copy a folder of the main process to the same path on every machine that lacks it.

    All processes call this function, the main process with lacking=False. A copy gets the name of the folder when all
    files are complete. An earlier folder with this name is removed.

    Raises:
        MachineError: a machine cannot write the folder. The message names machine and folder.
    """
    if accelerator.num_processes == 1:
        return
    import torch
    from accelerate.utils import broadcast, broadcast_object_list, gather_object

    if not any(gather_object([lacking])):
        return
    names = []
    if accelerator.is_main_process:
        names = [
            (str(path.relative_to(folder)), path.stat().st_size) for path in sorted(folder.rglob("*")) if path.is_file()
        ]
    [names] = broadcast_object_list([names])
    writing, refused = lacking and accelerator.is_local_main_process, None
    temporary = folder.with_name(f"{folder.name}.received.tmp")
    if writing:
        shutil.rmtree(temporary, ignore_errors=True)
    for name, size in names:
        for start in range(0, size, PIECE):
            piece = torch.empty(min(PIECE, size - start), dtype=torch.uint8)
            if accelerator.is_main_process:
                with (folder / name).open("rb") as file:
                    file.seek(start)
                    piece = torch.frombuffer(bytearray(file.read(len(piece))), dtype=torch.uint8)
            piece = broadcast(piece.to(accelerator.device)).cpu()
            if writing and refused is None:
                try:
                    (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                    with (temporary / name).open("ab") as file:
                        file.write(piece.numpy().tobytes())
                except OSError as error:  # the other processes still take part in the broadcast
                    refused = error
    try:
        if writing and refused is None:
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
    except OSError as error:
        refused = error
    writer = f"process {accelerator.process_index} on {this_machine()}"
    failed = [
        failure for failure in gather_object([refused and f"{writer} cannot write {folder} ({refused})"]) if failure
    ]
    if failed:
        raise MachineError(failed[0])
