"""A built folder -> a repository on the Hub, in one commit; on demand a Space that runs the demo with these weights.

The repository then holds this folder and nothing else: what an earlier push or anybody else left there is removed.

Nothing goes that `build` does not write: training states, photographs and tokens have no place in the folder, and a
folder that holds more, or whose card has no results, is refused. An upload that was cut off is simply repeated: what
the Hub has already is not sent again.
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
ATTEMPTS = 4  # each waits twice as long as the one before: 1, 2, 4 seconds


def push(folder: Path, repo_id: str, private: bool = False, space: bool = False, dry_run: bool = False) -> list[str]:
    """Publish a folder that `build` wrote.

    Args:
        repo_id: "owner/name"; the Space has the same.
        private: whether a repository that has to be created is private.
        space: also publish the demo, with these weights in it, as a Space.
        dry_run: check everything, send nothing.

    Returns:
        lines for people: what was, or would be, sent where.

    Raises:
        PushError: the folder is refused, or the Hub did not take it.
    """
    if not re.fullmatch(r"[\w-]+/[\w.-]+", repo_id):
        raise PushError(f"{repo_id!r} is not the id of a repository: owner/name")
    check_folder(folder)
    lines, api = [], HfApi()
    for kind, stage in (("model", _stage_model), *([("space", stage_space)] if space else [])):
        with tempfile.TemporaryDirectory() as temporary:
            staged = Path(temporary)
            stage(folder, repo_id, staged)
            files = sorted(path for path in staged.rglob("*") if path.is_file())
            about = " (private)" * private + f" (on {HARDWARE}, where it is new)" * (kind == "space")
            lines += [f"{kind} {repo_id}{about}:"]
            lines += [f"  {path.stat().st_size:>12,}  {path.relative_to(staged)}" for path in files]
            if not dry_run:
                lines.append(_publish(api, staged, repo_id, kind, private))
    return lines


def check_folder(folder: Path) -> None:
    """
    Raises:
        PushError: the folder is not as `build` writes it, its card lacks results, or something in it must not go.
    """
    if not folder.is_dir() or not is_built(folder):
        raise PushError(f"{folder} is not a folder that `python -m hub_card build` wrote")
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        raise PushError(f"{folder} lacks {', '.join(missing)}: build it again")
    card = ModelCard.load(folder / "README.md")
    shown = {f"figures/{name}" for name in re.findall(r"\]\(figures/([\w.]+\.png)\)", card.content)}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or (path.is_file() and name not in ALLOWED | shown):
            raise PushError(
                f"{path}: not one of the files that belong to the model on the Hub (training states, photographs and "
                "whatever else lies here stay at home): remove it, or build again"
            )
        if path.is_file() and path.suffix != ".safetensors" and TOKEN.search(path.read_bytes()):
            raise PushError(f"{path}: holds what looks like an access token of the Hub; remove it")
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
    _with_patience(
        lambda: api.create_repo(repo_id, repo_type=kind, private=private or None, exist_ok=True, **sdk), repo_id
    )
    commit = _with_patience(
        lambda: api.upload_folder(
            repo_id=repo_id,
            repo_type=kind,
            folder_path=folder,
            commit_message="Model, code and card",
            delete_patterns="*",  # a figure or module of an earlier push that this folder has no more
        ),
        repo_id,
    )
    return f"published: {commit.commit_url}"


def _with_patience(act: Callable, repo_id: str):
    """Call the Hub; where it is at fault or busy, again; where the caller is, say what to do.

    Raises:
        PushError
    """
    for attempt in range(ATTEMPTS):
        try:
            return act()
        except LocalTokenNotFoundError:
            raise PushError("no access token: run `hf auth login`, or set HF_TOKEN") from None
        except ValueError as error:  # the Hub's checks of the card, and 400
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
            again = status is None or status >= 500 or status in (409, 429)
            if not again or attempt == ATTEMPTS - 1:
                advice = "; what was sent is kept, so run the same command again" if again else ""
                raise PushError(f"the Hub did not take {repo_id} ({_line(error)}){advice}") from error
            print(f"hub_card: {_line(error)}; trying again", file=sys.stderr)
            time.sleep(2**attempt)


def _line(error: BaseException) -> str:
    """The innermost cause in one line."""
    while error.__cause__ is not None and isinstance(error, RuntimeError):
        error = error.__cause__
    return " ".join(str(error).split())


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error; None where the connection broke."""
    while error is not None:
        if isinstance(error, HfHubHTTPError):
            return error.response.status_code
        error = error.__cause__
    return None
