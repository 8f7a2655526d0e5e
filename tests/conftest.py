"""Fixtures every room's tests share."""

import os
from pathlib import Path

import pytest


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
def drawn_corpus(tmp_path_factory) -> Path:
    """A prepared corpus of 40 drawn people, seven expressions, three pictures each; 32 people to train on."""
    from face_data.__main__ import main

    out = tmp_path_factory.mktemp("corpora") / "drawn"
    assert main(["synthesize", str(out)]) == 0
    return out


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """What tests compute stays out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIVENET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
