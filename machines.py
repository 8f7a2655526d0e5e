"""Several processes on several machines: are they connected, do all agree, who is gone, who lacks which file.

    refuse_unconnected_launch()                 # before anything else: a launcher that connected nothing
    with Watch(process, processes) as watch:    # signs of life; ends this process soon after another one is gone
        agree(seed=0, weights=digest)           # raises, naming machine and value, where one differs
        send_folder(path, lacking)              # the main process's files, to every machine that lacks them

Nothing here imports torch before there are several processes.
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

BEAT = 1.0  # seconds from one sign of life to the next
SILENCE = 30.0  # seconds without one after which a process counts as gone
SILENCE_IN_DOUBT = 6.0  # the same once a connection of this process broke
GRACE = 5.0  # seconds in which the main thread may end by itself, and others may read why it does
PIECE = 2**26  # bytes of a file that are sent at once
FINISHED = "finished"
RESUME_HINT = "the same command goes on from the last checkpoint"
WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # those that Accelerate reads
PLACES = (
    ("RANK", "WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


class MachineError(RuntimeError):
    """Machines are not connected, differ, or are gone; the message is one sentence that names them."""


def refuse_unconnected_launch(environment: Mapping[str, str] = os.environ) -> None:
    """Raise MachineError where a launcher was asked for several processes, but each of them runs on its own.

    `accelerate launch --cpu` passes on the main process's address and connects nothing; `srun` starts copies.
    """
    world = next((int(environment[name]) for name in WORLD_SIZES if environment.get(name)), None)
    if world is None and "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment:
        raise MachineError(
            "accelerate launch was asked for several processes, but started one that knows of no other: launch with "
            "--multi_gpu (for CPUs as well, instead of --cpu), or unset MASTER_ADDR if one is what you want"
        )
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS") or 1)
    if world is None and tasks > 1 and "ACCELERATE_MIXED_PRECISION" not in environment:
        raise MachineError(
            f"srun started {tasks} copies that know nothing of one another: have it start `accelerate launch` once on "
            "each machine (train/presets/accelerate/slurm.sh)"
        )


def place(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Which of how many processes this is, by what a launcher or `srun` says, without connecting them.

    Raises:
        MachineError: a launcher was asked for several, but each of them runs on its own.
    """
    for number, of in PLACES:
        if environment.get(of):
            return int(environment.get(number) or 0), int(environment[of])
    refuse_unconnected_launch(environment)
    return 0, 1


def this_machine() -> str:
    return platform.node() or "a machine without a name"


class Watch:
    """Watches over the other processes: each gives a sign of life every second in the store they met at.

    One that is silent for too long, or has said why it ends, ends this process too: by a MachineError where the main
    thread asks (`explain`), or else, since it may wait for the dead one for ever, by leaving at once. Signs are counted
    and not dated, so clocks may differ. Alone there is nothing to watch.
    """

    def __init__(self, process: int, processes: int, name: str):
        """name: of the command, before each message."""
        self.process, self.processes, self.name = process, processes, name
        self.verdict: str | None = None  # who is gone
        self._decided, self._closed = threading.Event(), threading.Event()
        self._limit = SILENCE
        self._end_reason = ""

    def __enter__(self) -> "Watch":
        if self.processes == 1:
            return self
        from datetime import timedelta

        from torch.distributed import PrefixStore, TCPStore

        # a connection of its own: that of the process group is blocked while it waits for something
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=SILENCE), wait_for_workers=False)
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = PrefixStore(f"watch/{self.name}/{attempt}", store)
        self._keys = [str(process) for process in range(self.processes)]
        self._store.set(self._keys[self.process], self._sign(0))
        signs = self._store.multi_get(self._keys)  # waits for everybody's first
        self._machines = [json.loads(sign)["machine"] for sign in signs]
        self._signs, now = signs, time.monotonic()
        self._heard = [now] * self.processes
        self._answered = now
        for work in (self._exchange, self._judge):
            threading.Thread(target=work, name=f"watch {work.__name__}", daemon=True).start()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        """Tell the others that this process has finished, or why it ends, and give them time to read it."""
        if self.processes == 1:
            return
        if error is None:
            self._end_reason = FINISHED
            deadline = time.monotonic() + SILENCE
            # the store may be the main process's, or its launcher's: that one goes last
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
        """Raise MachineError where this error comes of another process's end; waits until that is known."""
        if self.processes == 1:
            return
        self._limit = SILENCE_IN_DOUBT
        self._decided.wait(SILENCE_IN_DOUBT + GRACE)
        if self.verdict is not None:
            raise MachineError(self.verdict) from error

    # the threads

    def _sign(self, number: int) -> str:
        return json.dumps({"number": number, "machine": this_machine(), "end_reason": self._end_reason})

    def _exchange(self) -> None:
        number = 0
        while not self._closed.wait(BEAT):
            number += 1
            try:
                self._store.set(self._keys[self.process], self._sign(number))
                signs = self._store.multi_get(self._keys)
            except RuntimeError:  # of torch.distributed: the store is gone
                self._answered = -float("inf")
                return
            now = self._answered = time.monotonic()
            self._heard = [
                now if sign != before else heard
                for sign, before, heard in zip(signs, self._signs, self._heard, strict=True)
            ]
            self._signs = signs

    def _judge(self) -> None:
        looked = time.monotonic()
        while not self._closed.wait(BEAT / 2):
            paused = time.monotonic() - looked > SILENCE_IN_DOUBT  # this process itself stood still: ask again first
            looked = time.monotonic()
            if paused and self._answered > 0:
                self._answered, self._heard = looked, [looked] * self.processes
            verdict = self._who_is_gone()
            if verdict is None:
                continue
            self.verdict = self.verdict or verdict
            self._end_reason = verdict  # others learn whom it was that ended this one
            self._decided.set()
            if self._closed.wait(GRACE + SILENCE_IN_DOUBT):
                return
            print(f"\n{self.name}: {verdict}", file=sys.stderr, flush=True)
            os._exit(2)

    def _who_is_gone(self) -> str | None:
        signs = [json.loads(sign) for sign in self._signs]
        words = [sign["end_reason"] for sign in signs]
        for process, said in enumerate(words):
            if said not in ("", FINISHED) and process != self.process:
                return said
        for process, said in enumerate(words):  # by what the store told when it last answered
            silent = self._heard[process] < self._answered - self._limit
            if silent and process != self.process and said != FINISHED:
                return f"{self.whom(process)} is gone; {RESUME_HINT}"
        if self._answered < time.monotonic() - self._limit and words[0] != FINISHED:
            return f"{self.whom(0)}, the main process, is gone; {RESUME_HINT}"
        return None

    def _all_finished(self) -> bool:
        return all(
            json.loads(sign)["end_reason"] for process, sign in enumerate(self._signs) if process != self.process
        )


def agree(accelerator, **values: str | int) -> None:
    """Raise MachineError, in every process, where a value of one of them is not that of the main process."""
    if accelerator.num_processes == 1:
        return
    from accelerate.utils import gather_object

    everybody = gather_object([{"machine": this_machine()} | values])
    for process, own in enumerate(everybody):
        for name, value in everybody[0].items():
            if name != "machine" and own[name] != value:
                raise MachineError(
                    f"process {process} on {own['machine']} has {name.replace('_', ' ')} {own[name]}, but process 0 on "
                    f"{everybody[0]['machine']} has {value}: all must start from the same files and settings"
                )


def send_folder(accelerator, folder: Path, lacking: bool) -> None:
    """The main process's files of a folder, at the same path on every machine where somebody says it is lacking.

    All processes call it, the main one with lacking=False. A folder gets its name when all its files are there; what
    was there before is removed.

    Raises:
        MachineError: a machine cannot write it, naming both.
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
                except OSError as error:  # the others are still sending
                    refused = error
    try:
        if writing and refused is None:
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
    except OSError as error:
        refused = error
    whom = f"process {accelerator.process_index} on {this_machine()}"
    failed = [
        failure for failure in gather_object([refused and f"{whom} cannot write {folder} ({refused})"]) if failure
    ]
    if failed:
        raise MachineError(failed[0])
