"""Fixtures every room's tests share, and the order in which pytest-xdist hands out the files of tests."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from startup import large_imports

# The files that take longest, the longest first. Whole files go to the processes of `make test` in this order: one
# that came last would leave the other processes idle.
LONGEST = (
    "train/test_training.py",
    "demo/test_live_browser.py",
    "demo/test_endpoints.py",  # shares the server of the file before, in the same process
    "demo/test_hostile.py",
    "train/test_machines.py",
    "train/test_interrupted_runs.py",
    "test_addresses.py",
    "benchmarks/test_benchmarks.py",
    "evaluation/test_evaluation_command.py",
    "train/test_teacher.py",
    "hub_card/test_download.py",
    "demo/test_enrolled.py",
    "benchmarks/test_startup.py",
    "test_transformers_common.py",
    "train/test_cross_validation.py",
    "train/test_distributed.py",
    "face_data/test_prepare.py",
)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    with large_imports():  # the test files import PyTorch
        return (yield)


def pytest_collection_modifyitems(items):
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """Accelerate keeps one state in a process, with one precision; each test begins without it."""
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs, or a skip that says how to get there."""
    folder = os.environ.get("FACELIVENET_DATA")
    if not folder:
        pytest.skip(
            "FACELIVENET_DATA is not set: it names the folder with lfw/, ferplus/, facial_expressions/, london/, clips/"
        )
    path = Path(folder).resolve()
    if not path.is_dir():
        pytest.fail(f"FACELIVENET_DATA={folder} is not a folder")
    return path


@pytest.fixture(scope="session")
def common_folder(tmp_path_factory) -> Path:
    """A folder that all processes of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "common"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def made_once(common_folder) -> Callable[[str, Callable[[Path], None]], Path]:
    """Makes a folder in the first process that needs it: call with its name and what fills it. It is not to be changed.

    While it is being made, other processes that need it wait.
    """

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder, done = common_folder / name, common_folder / f"{name}.done"
        with FileLock(common_folder / f"{name}.lock"):
            if not done.exists():
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def drawn_corpus(made_once) -> Path:
    """A prepared corpus of 40 drawn people, seven expressions, three pictures each; 32 people to train on."""
    from face_data.__main__ import main

    def draw(out: Path) -> None:
        assert main(["synthesize", str(out), "--workers", "1"]) == 0  # further processes would import PyTorch again

    return made_once("drawn", draw)


@pytest.fixture(scope="session", autouse=True)
def cache(common_folder):
    """What tests compute stays out of the user's cache folder; the exported networks are common to all processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIVENET_CACHE", str(common_folder / "cache"))
        yield
