"""The folder of caches: everything in it can be computed again. Imports little, so that parsers can use it."""

import os
from pathlib import Path


def default_folder() -> Path:
    """$FACELIVENET_CACHE, or facelivenet in the user's cache folder."""
    folder = os.environ.get("FACELIVENET_CACHE")
    return Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "facelivenet"
