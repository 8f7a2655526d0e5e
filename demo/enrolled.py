"""The enrolled people: a folder of encrypted templates, one for each name.

    FACELIVENET_TEMPLATE_KEY_FILE=template.key python -m authentication anna.jpg now.jpg --expression happy \\
        --save-template enrolled/anna.template
    FACELIVENET_TEMPLATE_KEY_FILE=template.key python app.py --enrolled enrolled

A visitor enters a name instead of a photograph. So *accepted* means "this is Anna", not "this is the person on your
photograph". `command` makes it for `--enrolled`, and `live` calls it. Read `authentication.template_store` next.
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
        TemplateStoreError, OSError: the folder has no template, or one cannot be used; the message says why.
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
        """The template of a name; for an unknown name a random template, so that existing names stay secret."""
        template = self._templates.get(name) if isinstance(name, str) else None
        if template is not None:
            return template
        direction = np.random.default_rng().standard_normal(self._size)
        return Template.from_embeddings([direction / np.linalg.norm(direction)])
