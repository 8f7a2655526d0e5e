"""The demo in a process that has imported PyTorch and Gradio before it starts."""

from pathlib import Path

from programs import Program

from benchmarks.live import REPOSITORY, Server


class ForkedServer(Server):
    """Starts some seconds faster than `Server`, which benchmarks and test_download.py use."""

    def _start(self, arguments, environment):
        return Program(arguments, REPOSITORY, environment, output=Path(self._log.name))
