"""The folder for the Hub: names of its files, and checks. `package` writes the folder, `push` publishes it."""

import json
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
REPO_PLACEHOLDER = "OWNER/NAME"  # in the card until `push` knows the repository's id
CODE = ("modeling_facelivenet.py", "image_processing_facelivenet.py", "pipeline_facelivenet.py")
OPTIONAL_RESULTS = ("inference.json", "onnx.json")  # of `python -m benchmarks`


class PushError(RuntimeError):
    """Nothing, or not everything, was published; the message says why and what to do."""


def check_results(results: dict, path: Path, weights: str) -> None:
    """Check that results belong to these weights and have the three protocols of the card.

    Raises:
        ValueError: they do not.
    """
    evaluated = results.get("model", {}).get("sha256", "")
    if evaluated != weights:
        raise ValueError(
            f"{path} is of other weights (sha256 {evaluated[:12]}…, these are {weights[:12]}…): evaluate these first"
        )
    missing = [name for name in ("verification", "expression", "authentication") if not results.get(name)]
    if missing:
        raise ValueError(f"{path} lacks {' and '.join(missing)}: run `python -m evaluation all` on this model first")


def is_built(folder: Path) -> bool:
    """Whether `build` wrote this folder."""
    path = folder / "config.json"
    return path.is_file() and "custom_pipelines" in read_json(path) and (folder / "README.md").is_file()


def read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
