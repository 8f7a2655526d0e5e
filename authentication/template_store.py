"""Templates on disk: encrypted, and bound to the weights they were made with.

    python -m authentication.template_store template.key          # a new key, readable by its owner alone
    FACELIVENET_TEMPLATE_KEY_FILE=template.key python -m authentication anna.jpg now.jpg --expression happy \\
        --save-template anna.template
    FACELIVENET_TEMPLATE_KEY_FILE=template.key python -m authentication anna.template later.jpg --expression happy

A template identifies a person for as long as the face lasts, so nothing of it is written in the clear. The file is one
Fernet token (AES-128 in CBC mode with HMAC-SHA256, github.com/fernet/spec): whoever changes a byte of it is noticed.
Inside are the revision of the weights, since another network's numbers mean nothing here, and the name of the file:
Ben's template renamed to Anna's is refused. The time of enrolment is there too (`enrolled_on`). A file beside the key's
(`newest.py`) remembers the newest one of each name: an old template that was put back in the place of a newer one, or
of one that was revoked, is refused. With a key in the environment itself there is no such file, and none is noticed.

    FACELIVENET_TEMPLATE_KEY_FILE=template.key python -m authentication.template_store --revoke anna.template
"""

import argparse
import base64
import contextlib
import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from cryptography.fernet import Fernet, InvalidToken

from authentication.newest import SUFFIX as NEWEST_SUFFIX
from authentication.newest import Newest, NewestError, write_private
from authentication.template import Template

FORMAT = 2  # 1 held no name
SUFFIX = ".template"
KEY, KEY_FILE = "FACELIVENET_TEMPLATE_KEY", "FACELIVENET_TEMPLATE_KEY_FILE"  # environment variables


class TemplateStoreError(ValueError):
    """No key, a wrong one, or a template that cannot be used; the message names the file and says what to do."""


def save_template(
    template: Template, path: Path, revision: str | None, key: bytes | None = None, newest: Path | None = None
) -> None:
    """Write an encrypted template, readable by its owner alone, as a whole or not at all.

    Args:
        path: its name without the suffix is the person's, and belongs to the template: a renamed file is refused.
        revision: of the weights that made it (`Authenticator.revision`).
        key: by default the one of the environment (`read_key`).
        newest: the file that remembers the newest templates; by default the one beside the environment's key file,
            none with a `key`.

    Raises:
        OSError: it cannot be written.
        TemplateStoreError: no key, no revision, or a `newest` that cannot be used.
    """
    if not revision:
        raise TemplateStoreError(f"{path}: the model has no revision to bind the template to")
    path, name, enrolled = Path(path), _name(path), int(time.time())
    fernet, known = _open(key, newest)
    if known:
        with _store_errors():
            enrolled = known.next(name, enrolled)
    record = {
        "format": FORMAT,
        "name": name,
        "enrolled": enrolled,
        "revision": revision,
        "photographs": template.photographs,
        "embedding": base64.b64encode(template.embedding.astype("<f8").tobytes()).decode(),
    }
    write_private(path, fernet.encrypt(json.dumps(record).encode()))
    if known:
        with _store_errors():
            known.raise_to(name, enrolled)


def load_template(
    path: Path, revision: str | None, size: int, key: bytes | None = None, newest: Path | None = None
) -> Template:
    """Read an encrypted template that weights of this revision made.

    Args:
        size: of the network's embedding (`FaceLiveNetConfig.embedding_dim`).
        key, newest: as for `save_template`.

    Raises:
        OSError: there is no such file.
        TemplateStoreError: another key or changed bytes, another revision, name or format, no template inside, or an
            older one than was known under this name.
    """
    fernet, known = _open(key, newest)
    record = _read(path, fernet)
    if record["revision"] != revision:
        raise TemplateStoreError(
            f"{path}: made by weights {record['revision']}, these are {revision}: enrol the person again"
        )
    embedding, photographs = record["embedding"], record["photographs"]
    if len(embedding) != size or not 0 < np.linalg.norm(embedding) < 1 + 1e-4 or photographs < 1:
        raise TemplateStoreError(
            f"{path}: holds no embedding of {size} numbers and length 1 at most: enrol the person again"
        )
    if known:
        with _store_errors():
            latest = known.raise_to(record["name"], record["enrolled"])
        if latest > record["enrolled"]:
            raise TemplateStoreError(
                f"{path}: of {_date(record['enrolled'])}, but {record['name']!r} was enrolled again or revoked on "
                f"{_date(latest)}: an old template was put back"
            )
    return Template(embedding, photographs)


def enrolled_on(path: Path, key: bytes | None = None) -> datetime:
    """When a template was saved, by the clock of the machine that did it. Raises as `load_template` does."""
    return _date(_read(path, _open(key, None)[0])["enrolled"])


def revoke_template(path: Path, key: bytes | None = None, newest: Path | None = None) -> None:
    """Delete a template, if it is there, and refuse all that were saved under its name before: copies of it, say.

    Args:
        key, newest: as for `save_template`.

    Raises:
        OSError: it cannot be deleted.
        TemplateStoreError: no key, or nothing that could remember it.
    """
    path, name = Path(path), _name(path)
    fernet, known = _open(key, newest)
    if known is None:
        raise TemplateStoreError(f"{path}: nothing would remember it: keep the key in a file, named by {KEY_FILE}")
    with _store_errors():
        with contextlib.suppress(OSError, TemplateStoreError):  # a clock that is ahead may have saved it
            known.raise_to(name, _read(path, fernet)["enrolled"])
        known.raise_to(name, known.next(name, int(time.time())))
    path.unlink(missing_ok=True)


def _open(key: bytes | None, newest: Path | None) -> tuple[Fernet, Newest | None]:
    """What decrypts, and what remembers the newest."""
    fernet = _fernet(read_key() if key is None else key)
    if key is None and newest is None and not os.environ.get(KEY):
        newest = Path(os.environ[KEY_FILE] + NEWEST_SUFFIX)
    return fernet, newest and Newest(Path(newest), fernet)


@contextlib.contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except NewestError as error:
        raise TemplateStoreError(str(error)) from None


def _date(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def _read(path: Path, fernet: Fernet) -> dict:
    """What is inside, with the embedding as (d,) float64."""
    token = Path(path).read_bytes()
    try:
        record = json.loads(fernet.decrypt(token))
        found = record["format"]
    except InvalidToken:
        raise TemplateStoreError(f"{path}: not encrypted with this key, or changed since") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise TemplateStoreError(f"{path}: holds no template: enrol the person again") from None
    if found != FORMAT:
        raise TemplateStoreError(f"{path}: of format {found!r}, this program reads {FORMAT}: enrol the person again")
    kinds = {"name": str, "enrolled": int, "revision": str, "photographs": int, "embedding": str}
    if any(type(record.get(name)) is not kind for name, kind in kinds.items()):
        raise TemplateStoreError(f"{path}: holds no template: enrol the person again")
    if record["name"] != _name(path):
        raise TemplateStoreError(
            f"{path}: is the template of {record['name']!r}, under another name: give it that back"
        )
    try:
        embedding = np.frombuffer(base64.b64decode(record["embedding"], validate=True), "<f8").astype(np.float64)
    except ValueError:
        raise TemplateStoreError(f"{path}: holds no template: enrol the person again") from None
    return record | {"embedding": embedding}


def _name(path: Path) -> str:
    return Path(path).name.removesuffix(SUFFIX)


def read_key() -> bytes:
    """The key that the environment holds, or the file it names.

    Raises:
        TemplateStoreError: there is none; or others than its owner may read or write the file.
    """
    if os.environ.get(KEY):
        return os.environ[KEY].strip().encode()
    if not os.environ.get(KEY_FILE):
        raise TemplateStoreError(
            f"no key for templates: set {KEY_FILE} to a file that `python -m authentication.template_store FILE` made, "
            f"or {KEY} to a key"
        )
    path = Path(os.environ[KEY_FILE])
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read(1000).strip()
    except OSError as error:
        raise TemplateStoreError(f"{KEY_FILE}={path}: cannot be read: {error.strerror}") from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise TemplateStoreError(f"{path}: others may read or change this key: chmod 600 {path}, and make a new one")
    return key


def new_key_file(path: Path) -> None:
    """Write a new random key, readable by its owner alone.

    Raises:
        FileExistsError: a key that is overwritten takes every template with it.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(Fernet.generate_key() + b"\n")


def _fernet(key: bytes) -> Fernet:
    try:
        return Fernet(key)
    except ValueError:
        raise TemplateStoreError(
            "the key for templates is not one: `python -m authentication.template_store FILE` makes one"
        ) from None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m authentication.template_store",
        description="Makes a key for encrypted templates, readable by you alone. Keep it apart from the templates.",
    )
    parser.add_argument("file", type=Path, help="where to write the key; must not exist")
    parser.add_argument(
        "--revoke",
        action="store_true",
        help=f"FILE is a template instead: delete it and refuse copies of it from now on (key: {KEY_FILE})",
    )
    arguments = parser.parse_args(argv)
    try:
        if arguments.revoke:
            revoke_template(arguments.file)
            return 0
        new_key_file(arguments.file)
    except TemplateStoreError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{arguments.file}: {error.strerror}", file=sys.stderr)
        return 2
    print(f"export {KEY_FILE}={arguments.file.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
