"""People whom an operator has enrolled: their templates in a folder, encrypted, each under a name.

    FACELIVENET_TEMPLATE_KEY_FILE=template.key python -m authentication anna.jpg now.jpg --expression happy \\
        --save-template enrolled/anna.template
    FACELIVENET_TEMPLATE_KEY_FILE=template.key python app.py --enrolled enrolled

A visitor gives a name and no photograph, so *accepted* means "this is Anna" and not "this is like your photograph".
Called by `live` for `--enrolled`; files are read by `authentication.template_store`.
"""

import logging
from pathlib import Path

import numpy as np

from authentication.authenticator import Authenticator
from authentication.template import Template
from authentication.template_store import SUFFIX, TemplateStoreError, enrolled_on, load_template

logger = logging.getLogger(__name__)


class Enrolled:
    """Templates by name, read when the server starts.

    Raises:
        TemplateStoreError, OSError: no template in the folder, or one that cannot be used, with its file and the cause.
    """

    def __init__(self, folder: Path, authenticator: Authenticator):
        files = sorted(Path(folder).glob(f"*{SUFFIX}"))
        if not files:
            raise TemplateStoreError(f"--enrolled {folder}: no template (NAME{SUFFIX}) in this folder")
        size = authenticator.config.embedding_dim
        self._templates = {
            file.name.removesuffix(SUFFIX): load_template(file, authenticator.revision, size) for file in files
        }
        self._size = size
        for file in files:
            logger.info("%s: enrolled on %s", file.name, enrolled_on(file).date())

    def template(self, name: object) -> Template:
        """The template of a name; for an unknown name a random one, so that nobody learns which names there are."""
        template = self._templates.get(name) if isinstance(name, str) else None
        if template is not None:
            return template
        direction = np.random.default_rng().standard_normal(self._size)
        return Template.from_embeddings([direction / np.linalg.norm(direction)])
