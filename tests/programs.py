"""Runs `python …` in a process that has already imported PyTorch, which saves seconds per process.

The processes are forked from a server that has imported large packages and no module of this project. Like processes
of `subprocess`, each has its arguments, folder, environment, output and signals. Use `subprocess` for tests of the
start itself, and for environment variables that a package reads during its import.
"""

import atexit
import contextlib
import multiprocessing
import os
import random
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PACKAGES = ("torch", "torchvision", "transformers.pipelines", "transformers.modeling_utils", "accelerate", "datasets")
PACKAGES += ("facenet_pytorch", "gradio", "sklearn.metrics", "timm", "torch.utils.tensorboard")


class Program:
    """A running program, with some of the methods of `subprocess.Popen`.

    Args:
        arguments: the arguments of `python`: `-m` and a module, `-c` and code, or a file; then those of the program.
        folder: the working folder of the program.
        environment: all environment variables of the program; by default those of this process.
        output: the file for stdout and stderr; by default two temporary files.
    """

    def __init__(
        self,
        arguments: Sequence,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
    ):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PACKAGES))
        self._folder = tempfile.TemporaryDirectory(prefix="program-")
        self._outputs = tuple(Path(self._folder.name) / name for name in ("stdout", "stderr"))
        if output:
            self._outputs = (output, output)
        for path in self._outputs:
            path.touch()
        environment = dict(os.environ if environment is None else environment)
        call = ([str(argument) for argument in arguments], str(folder), environment, self._outputs)
        self._process = context.Process(target=_run, args=call)
        self._process.start()
        self.pid = self._process.pid
        atexit.register(self.kill)  # if a test fails, Python would wait at its exit until the process ends

    @property
    def stdout(self) -> str:
        """The output so far."""
        return self._outputs[0].read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._outputs[1].read_text(errors="replace")

    def poll(self) -> int | None:
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float = 900) -> int:
        """Wait for the end and return the exit status. Raises TimeoutError."""
        self._process.join(timeout)
        if (status := self._process.exitcode) is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s: {self.stderr[-3000:]}")
        return status

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()


def free_port() -> int:
    """A free port below those that the system chooses: another test could get one of those before this test uses it."""
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def connected(number: int) -> list[dict[str, str]]:
    """The environment variables for each of `number` connected processes, as torchrun sets them."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common |= {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number)}
    return [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(number)]


def _run(arguments: list[str], folder: str, environment: dict[str, str], outputs: tuple[Path, Path]) -> None:
    for number, path in enumerate(outputs, start=1):
        with path.open("ab") as file:
            os.dup2(file.fileno(), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    kind, sys.argv = arguments[0], arguments
    if kind == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(kind, run_name="__main__")
