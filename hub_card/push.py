"""Publishes a built folder as a repository on the Hub, in one commit, and optionally the demo as a Space.

The repository then has exactly the files of this folder; all other files there are removed.

Only files that `build` writes are published. A folder with other files, such as training states, photographs and
tokens, is refused, and so is a folder whose card has no results. After an interrupted upload run the same command
again: files that the Hub already has are not sent again. `__main__` calls `push`. Read `space` next.
"""

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError

from checkpoints import WEIGHTS, file_sha256
from hub_card.folder import (
    CODE,
    OPTIONAL_RESULTS,
    REPO_PLACEHOLDER,
    PushError,
    check_results,
    is_built,
    read_json,
)
from hub_card.space import HARDWARE, stage_space

REQUIRED = (
    "README.md",
    "LICENSE.md",
    "config.json",
    WEIGHTS,
    "preprocessor_config.json",
    "results.json",
    "training.json",
    *CODE,
)
ALLOWED = {*REQUIRED, *OPTIONAL_RESULTS}
TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b")
ATTEMPTS = 4  # with waits of 1, 2 and 4 seconds in between


def push(folder: Path, repo_id: str, private: bool = False, space: bool = False, dry_run: bool = False) -> list[str]:
    """Publish a folder that `build` wrote.

    Args:
        repo_id: "owner/name"; the Space has the same id.
        private: whether to make the repository private if it has to be created.
        space: whether to publish the demo with these weights as a Space, too.
        dry_run: check everything, but send nothing.

    Returns:
        Lines of text about the files that were sent, or would be sent.

    Raises:
        PushError: the folder is refused, or the Hub did not accept it.
    """
    if not re.fullmatch(r"[\w-]+/[\w.-]+", repo_id):
        raise PushError(f"{repo_id!r} is not a repository id of the form owner/name")
    check_folder(folder)
    lines, api = [], HfApi()
    for kind, stage in (("model", _stage_model), *([("space", stage_space)] if space else [])):
        with tempfile.TemporaryDirectory() as temporary:
            staged = Path(temporary)
            stage(folder, repo_id, staged)
            files = sorted(path for path in staged.rglob("*") if path.is_file())
            details = " (private)" * private + f" (on {HARDWARE}, where it is new)" * (kind == "space")
            lines += [f"{kind} {repo_id}{details}:"]
            lines += [f"  {path.stat().st_size:>12,}  {path.relative_to(staged)}" for path in files]
            if not dry_run:
                lines.append(_publish(api, staged, repo_id, kind, private))
    return lines


def check_folder(folder: Path) -> None:
    """Check a folder before it is published.

    Raises:
        PushError: `build` did not write the folder, its card lacks results, or it has a file that must not be
            published.
    """
    if not folder.is_dir() or not is_built(folder):
        raise PushError(f"{folder} is not a folder that `python -m hub_card build` wrote")
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        raise PushError(f"{folder} lacks {', '.join(missing)}: build it again")
    card = ModelCard.load(folder / "README.md")
    figure_names = {f"figures/{name}" for name in re.findall(r"\]\(figures/([\w.]+\.png)\)", card.content)}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or (path.is_file() and name not in ALLOWED | figure_names):
            raise PushError(
                f"{path}: must not be published, because `build` does not write such a file: remove it, or build again"
            )
        if path.is_file() and path.suffix != ".safetensors" and TOKEN.search(path.read_bytes()):
            raise PushError(f"{path}: contains what looks like an access token of the Hub; remove it")
    if not card.data.eval_results:
        raise PushError(f"{folder / 'README.md'}: the card has no results (model-index): evaluate, then build again")
    try:
        check_results(read_json(folder / "results.json"), folder / "results.json", file_sha256(folder / WEIGHTS))
    except ValueError as error:
        raise PushError(f"the card lacks results of these weights: {error}") from None


def _stage_model(folder: Path, repo_id: str, out: Path) -> None:
    shutil.copytree(folder, out, dirs_exist_ok=True)
    card = out / "README.md"
    card.write_text(card.read_text(encoding="utf-8").replace(REPO_PLACEHOLDER, repo_id), encoding="utf-8")


def _publish(api: HfApi, folder: Path, repo_id: str, kind: str, private: bool) -> str:
    sdk = {"space_sdk": "gradio", "space_hardware": HARDWARE} if kind == "space" else {}
    _call_with_retries(
        lambda: api.create_repo(repo_id, repo_type=kind, private=private or None, exist_ok=True, **sdk), repo_id
    )
    commit = _call_with_retries(
        lambda: api.upload_folder(
            repo_id=repo_id,
            repo_type=kind,
            folder_path=folder,
            commit_message="Model, code and card",
            delete_patterns="*",  # removes files that are not in this folder
        ),
        repo_id,
    )
    return f"published: {commit.commit_url}"


def _call_with_retries(call_hub: Callable, repo_id: str):
    """Call the Hub, and again after an error of the Hub or the connection.

    Raises:
        PushError: the call failed; the message says what to do.
    """
    for attempt in range(ATTEMPTS):
        try:
            return call_hub()
        except LocalTokenNotFoundError:
            raise PushError("no access token: run `hf auth login`, or set HF_TOKEN") from None
        except ValueError as error:  # the Hub's check of the card, and status 400
            raise PushError(f"the Hub refuses {repo_id}: {_line(error)}") from error
        except (HTTPError, RuntimeError) as error:
            status = _status(error)
            if status == 401:
                raise PushError(
                    "the Hub does not know this access token (401): run `hf auth login`, or set HF_TOKEN to a valid one"
                ) from error
            if status == 403:
                raise PushError(
                    f"the access token may not write to {repo_id} (403): use one with write access to that owner"
                ) from error
            is_temporary = status is None or status >= 500 or status in (409, 429)
            if not is_temporary or attempt == ATTEMPTS - 1:
                advice = "; files that were sent are kept, so run the same command again" if is_temporary else ""
                raise PushError(f"the Hub did not accept {repo_id} ({_line(error)}){advice}") from error
            print(f"hub_card: {_line(error)}; trying again", file=sys.stderr)
            time.sleep(2**attempt)


def _line(error: BaseException) -> str:
    """The innermost cause of an error, in one line."""
    while error.__cause__ is not None and isinstance(error, RuntimeError):
        error = error.__cause__
    return " ".join(str(error).split())


def _status(error: BaseException | None) -> int | None:
    """The HTTP status of an error; None if the connection failed."""
    while error is not None:
        if isinstance(error, HfHubHTTPError):
            return error.response.status_code
        error = error.__cause__
    return None
