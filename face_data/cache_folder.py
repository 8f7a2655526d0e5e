"""Where what can be computed again is kept, so that it is not."""

import os
from pathlib import Path


def default_folder() -> Path:
    """$FACELIVENET_CACHE, or facelivenet in the user's cache folder."""
    own = os.environ.get("FACELIVENET_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "facelivenet"
