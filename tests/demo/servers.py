"""The demo in a process that has imported PyTorch and Gradio before it starts."""

from pathlib import Path

from programs import Program

from benchmarks.live import REPOSITORY, Server


class ForkedServer(Server):
    """Ready seconds earlier than a `Server`, with which benchmarks and test_download.py start the demo."""

    def _start(self, arguments, environment):
        return Program(arguments, REPOSITORY, environment, output=Path(self._log.name))
