"""Commands answer before PyTorch is imported, and their defaults match the code that imports it."""

import gc
import subprocess
import sys

import pytest

from benchmarks.start import answering_commands, user_seconds
from startup import large_imports

LARGE_PACKAGES = {"torch", "transformers", "datasets", "gradio", "accelerate"}


@pytest.mark.parametrize("arguments", answering_commands(), ids=" ".join)
def test_help_and_errors_do_not_import_pytorch(arguments, repository):
    process = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], cwd=repository, capture_output=True, text=True, timeout=240
    )
    timed = [line for line in process.stderr.splitlines() if line.startswith("import time:")]
    errors = [line for line in process.stderr.splitlines() if not line.startswith("import time:")]
    assert not LARGE_PACKAGES & {line.rpartition("|")[2].strip() for line in timed}
    if "--help" in arguments:
        assert process.returncode == 0 and process.stdout.startswith("usage: ")
    else:
        assert process.returncode in (1, 2) and "Traceback" not in process.stderr
        assert any("nothing" in line or "nowhere" in line or "at/all" in line for line in errors)


def test_garbage_collection_is_enabled_again_after_large_imports(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    frozen = gc.get_freeze_count()
    with large_imports():
        assert not gc.isenabled()
        created_by_imports = [[]]
    assert gc.isenabled() and gc.get_freeze_count() > frozen and created_by_imports
    with pytest.raises(ImportError), large_imports():
        raise ImportError
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    monkeypatch.setitem(sys.modules, "torch", object())
    with large_imports():  # PyTorch is imported already
        assert gc.isenabled()
    assert gc.get_freeze_count() <= frozen


def test_the_user_time_is_that_of_one_process():
    assert user_seconds(["-c", "pass"]) < user_seconds(["-c", "sum(range(30_000_000))"])


def test_defaults_of_the_parsers_match_the_code(capsys):
    from authentication import __main__ as authentication_main
    from benchmarks.__main__ import _parser as benchmarks_parser
    from evaluation.__main__ import _parser as evaluation_parser
    from evaluation.embeddings.compute import BATCH_SIZE
    from face_data.__main__ import LAYOUTS
    from face_data.__main__ import _parser as face_data_parser
    from face_data.prepare import SHARD_SIZE
    from face_data.readers import READERS
    from modeling_facelivenet import FEATURE_SIZE
    from pipeline_facelivenet import FRAMES_TO_HOLD

    assert authentication_main.FRAMES_TO_HOLD == FRAMES_TO_HOLD
    assert tuple(READERS) == LAYOUTS
    assert face_data_parser().parse_args(["synthesize", "out"]).shard_size == SHARD_SIZE
    assert benchmarks_parser().parse_args(["loss"]).size == FEATURE_SIZE
    assert evaluation_parser().parse_args(["all", "--model", "m", "--data", "d"]).batch_size == BATCH_SIZE
