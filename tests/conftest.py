"""Fixtures for the tests of all packages, and the order in which pytest-xdist distributes the test files."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from startup import large_imports

# The slowest test files, the slowest first. `make test` distributes whole files to its processes in this order. If a
# slow file came last, the other processes would wait for it.
LONGEST = (
    "train/test_training.py",
    "demo/test_live_browser.py",
    "demo/test_endpoints.py",  # runs after the file above in the same process, and uses the same server
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
    """Accelerate keeps one state per process, which has one precision. Each test begins without this state."""
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs. Without it the test is skipped, and the reason names the variable to set."""
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
    """A function that makes a folder once for all processes, given its name and a function that fills it.

    Other processes that need the folder wait until it is complete. Tests must not change it.
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
        assert main(["synthesize", str(out), "--workers", "1"]) == 0  # each further process would import PyTorch again

    return made_once("drawn", draw)


@pytest.fixture(scope="session", autouse=True)
def cache(common_folder):
    """Tests do not use the cache folder of the user. All processes share the exported networks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIVENET_CACHE", str(common_folder / "cache"))
        yield
