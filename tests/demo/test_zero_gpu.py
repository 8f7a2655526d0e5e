"""A Space on ZeroGPU: the real package `spaces` with a local server in place of the hardware."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

REPORT = "from demo import zero_gpu; zero_gpu.report_start(); print(hasattr(zero_gpu.lent_gpu, 'zerogpu'))"


def run(repository, code: str, **variables) -> str:
    """The output of a new process, because the package reads its variables only when it is imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPACE")} | variables
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def hardware():
    """The address of the server, and the paths of its requests."""
    requested = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            requested.append(self.path.partition("?")[0])
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requested
    server.shutdown()


def test_a_space_on_zerogpu_reports_its_start_and_one_function(repository, hardware):
    pytest.importorskip("spaces")
    url, requested = hardware
    output = run(repository, REPORT, SPACE_ID="user/faces", SPACES_ZERO_GPU="true", SPACES_ZERO_DEVICE_API_URL=url)
    assert output == "True\n" and "/startup-report" in requested


def test_outside_zerogpu_the_package_is_inactive_and_optional(repository):
    without = f"import sys; sys.modules['spaces'] = None; {REPORT}"
    for code in (REPORT, without):
        assert run(repository, code, SPACE_ID="user/faces") == "False\n"
