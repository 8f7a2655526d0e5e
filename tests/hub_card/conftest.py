"""Fixtures: the folder for the Hub, a Hub on the loopback device, and processes without the project."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub

from face_data.drawn import drawn_photograph
from hub_card.package import build


@pytest.fixture(scope="session")
def built(tmp_path_factory, repository) -> Path:
    return build(repository / "pretrained", repository / "docs/results", tmp_path_factory.mktemp("hub") / "built")


@pytest.fixture
def hub():
    with LoopbackHub() as running:
        yield running


@pytest.fixture
def photograph_folder(tmp_path) -> Path:
    """A folder with two photographs of a drawn person and nothing else."""
    folder = tmp_path / "somewhere"
    folder.mkdir()
    for name, expression in (("reference", "neutral"), ("probe", "happy")):
        drawn_photograph(1, expression, 0, seed=0).resize((360, 360)).save(folder / f"{name}.jpg", quality=95)
    return folder


@pytest.fixture
def run_python(photograph_folder):
    """Run Python code in a new process. Neither its folder nor its path contains the project."""

    def run(code: str, **environment) -> subprocess.CompletedProcess:
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))}
        variables |= {
            "HF_HOME": str(photograph_folder.parent / "cache"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",  # the loopback Hub knows only the LFS protocol
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
        }
        return subprocess.run(
            [sys.executable, "-P", "-c", code],
            cwd=photograph_folder,
            env=variables | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
