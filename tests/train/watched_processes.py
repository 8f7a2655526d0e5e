"""Groups of three processes that watch one another with `machines.Watch`, for tests/train/test_machines.py.

python watched_processes.py OUT: runs every case of CASES and writes OUT/results.json: case -> exit status and stderr of
each process. The processes are forked, because each import of PyTorch takes seconds.
"""

import json
import os
import signal
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.extend(str(folder) for folder in Path(__file__).parents[1:3])

from programs import free_port

from machines import MachineError, Watch

PROCESSES = 3
CASES = {"0 is killed": 0, "1 is killed": 1, "1 fails": None}  # -> the process that is killed
TIMEOUT = 1200  # seconds; long, because the machine may be busy


def run_process(process: int, failing: bool, mark: Path) -> None:
    """Processes 0 and 1 compute together. Process 2 waits for something else, possibly for ever."""
    dist.init_process_group("gloo", rank=process, world_size=PROCESSES, timeout=timedelta(seconds=TIMEOUT / 4))
    pair = dist.new_group([0, 1])
    try:
        with Watch(process, PROCESSES, "watched") as watch:
            mark.touch()
            if process == 2:
                time.sleep(TIMEOUT)
            if failing and process == 1:
                raise ValueError("no corpus here")
            try:
                while True:
                    dist.all_reduce(torch.ones(1), group=pair)
                    time.sleep(0.01)
            except RuntimeError as error:
                watch.explain(error)
                raise
    except (MachineError, ValueError) as error:
        print(f"said: {error}", file=sys.stderr, flush=True)
        os._exit(2)


def run_case(folder: Path, killed: int | None) -> list[tuple[int, str]]:
    """The exit status and stderr of each process. A negative status is the number of a signal."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    folder.mkdir()
    marks = [folder / f"{process}.watching" for process in range(PROCESSES)]
    started = []
    for process, mark in enumerate(marks):
        child = os.fork()
        if child == 0:
            os.dup2(os.open(folder / f"{process}.txt", os.O_CREAT | os.O_WRONLY), 2)
            try:
                run_process(process, killed is None, mark)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        started.append(child)
    try:
        deadline = time.monotonic() + TIMEOUT
        while killed is not None and not all(mark.exists() for mark in marks):
            if time.monotonic() > deadline or any(os.waitpid(child, os.WNOHANG)[0] for child in started):
                raise RuntimeError("a process ended before all were watching")
            time.sleep(0.01)
        if killed is not None:
            os.kill(started[killed], signal.SIGKILL)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in started]
    except BaseException:
        for child in started:
            os.kill(child, signal.SIGKILL)
        raise
    return [(status, (folder / f"{process}.txt").read_text()) for process, status in enumerate(statuses)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    out, runners = Path(sys.argv[1]), {}
    for name, killed in CASES.items():  # all at the same time, because they mostly wait
        if runner := os.fork():
            runners[name] = runner
            continue
        (out / f"{name}.json").write_text(json.dumps(run_case(out / name, killed)))
        os._exit(0)
    for name, runner in runners.items():
        if os.waitpid(runner, 0)[1]:
            sys.exit(f"the case {name!r} could not be played")
    results = {name: json.loads((out / f"{name}.json").read_text()) for name in CASES}
    (out / "results.json").write_text(json.dumps(results))
