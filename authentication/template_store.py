"""Templates on disk: encrypted, and bound to the weights that made them.

    python -m authentication.template_store template.key          # a new key file, readable by its owner only
    FACELIVENET_TEMPLATE_KEY_FILE=template.key python -m authentication anna.jpg now.jpg --expression happy \\
        --save-template anna.template
    FACELIVENET_TEMPLATE_KEY_FILE=template.key python -m authentication anna.template later.jpg --expression happy
    FACELIVENET_TEMPLATE_KEY_FILE=template.key python -m authentication.template_store --revoke anna.template

A template identifies a person for life, so it is never written without encryption. The file is one Fernet token
(AES-128 in CBC mode with HMAC-SHA256, github.com/fernet/spec), so any change of it is detected. The token contains:

* the revision of the weights, because the embeddings of other weights cannot be compared with it;
* the name of the file: Ben's template is refused if the file is renamed to Anna's;
* the time of enrolment (`enrolled_on`). A second file in the key's folder (`newest`) records the newest time for each
  name. A template that was replaced or revoked is therefore refused if somebody restores the old file. If the key
  itself is in an environment variable, this file does not exist and restored templates are not detected.

Called by the command line, `demo.enrolled` and the examples of docs/api.md. Read `newest` next.
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

FORMAT = 2  # format 1 had no name
SUFFIX = ".template"
KEY, KEY_FILE = "FACELIVENET_TEMPLATE_KEY", "FACELIVENET_TEMPLATE_KEY_FILE"  # environment variables


class TemplateStoreError(ValueError):
    """No key, a wrong key, or a template that cannot be used; the message names the file and says what to do."""


def save_template(
    template: Template, path: Path, revision: str | None, key: bytes | None = None, newest: Path | None = None
) -> None:
    """Write an encrypted template atomically, readable by its owner only.

    Args:
        path: its name without the suffix is the person's name, which is stored inside; a renamed file is refused.
        revision: of the weights that made the template (`Authenticator.revision`).
        key: by default that of the environment (`read_key`).
        newest: file that records the newest templates; by default in the folder of the environment's key file. With
            `key` and without `newest` there is no such file.

    Raises:
        OSError: the file cannot be written.
        TemplateStoreError: no key, no revision, or a `newest` that cannot be used.
    """
    if not revision:
        raise TemplateStoreError(f"{path}: the model has no revision to bind the template to")
    path, name, enrolled = Path(path), _name(path), int(time.time())
    fernet, newest_times = _open_store(key, newest)
    if newest_times:
        with _store_errors():
            enrolled = newest_times.next_time(name, enrolled)
    record = {
        "format": FORMAT,
        "name": name,
        "enrolled": enrolled,
        "revision": revision,
        "photographs": template.photographs,
        "embedding": base64.b64encode(template.embedding.astype("<f8").tobytes()).decode(),
    }
    write_private(path, fernet.encrypt(json.dumps(record).encode()))
    if newest_times:
        with _store_errors():
            newest_times.record_time(name, enrolled)


def load_template(
    path: Path, revision: str | None, size: int, key: bytes | None = None, newest: Path | None = None
) -> Template:
    """Read an encrypted template that weights of this revision made.

    Args:
        size: of the network's embedding (`FaceLiveNetConfig.embedding_dim`).
        key, newest: as for `save_template`.

    Raises:
        OSError: there is no such file.
        TemplateStoreError: another key, changed bytes, another revision, name or format, no template inside, or not the
            newest template of this name.
    """
    fernet, newest_times = _open_store(key, newest)
    record = _read(path, fernet)
    if record["revision"] != revision:
        raise TemplateStoreError(
            f"{path}: made by weights {record['revision']}, but the model has {revision}: enrol the person again"
        )
    embedding, photographs = record["embedding"], record["photographs"]
    if len(embedding) != size or not 0 < np.linalg.norm(embedding) < 1 + 1e-4 or photographs < 1:
        raise TemplateStoreError(
            f"{path}: contains no embedding of {size} numbers and length 1 or less: enrol the person again"
        )
    if newest_times:
        with _store_errors():
            latest = newest_times.record_time(record["name"], record["enrolled"])
        if latest > record["enrolled"]:
            raise TemplateStoreError(
                f"{path}: saved on {_date(record['enrolled'])}, but {record['name']!r} was enrolled again or revoked "
                f"on {_date(latest)}: an old template was restored"
            )
    return Template(embedding, photographs)


def enrolled_on(path: Path, key: bytes | None = None) -> datetime:
    """When a template was saved, by the clock of that machine. Raises the errors of `load_template`."""
    return _date(_read(path, _open_store(key, None)[0])["enrolled"])


def revoke_template(path: Path, key: bytes | None = None, newest: Path | None = None) -> None:
    """Delete a template if the file exists, and refuse all earlier templates of its name, such as copies.

    Args:
        key, newest: as for `save_template`.

    Raises:
        OSError: the file cannot be deleted.
        TemplateStoreError: no key, or no file that could record the revocation.
    """
    path, name = Path(path), _name(path)
    fernet, newest_times = _open_store(key, newest)
    if newest_times is None:
        raise TemplateStoreError(f"{path}: cannot record the revocation: keep the key in a file, named by {KEY_FILE}")
    with _store_errors():
        with contextlib.suppress(OSError, TemplateStoreError):  # it may have been saved by a clock that is ahead
            newest_times.record_time(name, _read(path, fernet)["enrolled"])
        newest_times.record_time(name, newest_times.next_time(name, int(time.time())))
    path.unlink(missing_ok=True)


def _open_store(key: bytes | None, newest: Path | None) -> tuple[Fernet, Newest | None]:
    """The cipher, and the record of the newest templates if there is one."""
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
    """The content of a template file, with the embedding as (d,) float64."""
    token = Path(path).read_bytes()
    try:
        record = json.loads(fernet.decrypt(token))
        format_number = record["format"]
    except InvalidToken:
        raise TemplateStoreError(f"{path}: not encrypted with this key, or changed since") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise TemplateStoreError(f"{path}: contains no template: enrol the person again") from None
    if format_number != FORMAT:
        raise TemplateStoreError(
            f"{path}: has format {format_number!r}, but this program reads {FORMAT}: enrol the person again"
        )
    kinds = {"name": str, "enrolled": int, "revision": str, "photographs": int, "embedding": str}
    if any(type(record.get(name)) is not kind for name, kind in kinds.items()):
        raise TemplateStoreError(f"{path}: contains no template: enrol the person again")
    if record["name"] != _name(path):
        raise TemplateStoreError(
            f"{path}: is the template of {record['name']!r}; a template cannot be used under another name"
        )
    try:
        embedding = np.frombuffer(base64.b64decode(record["embedding"], validate=True), "<f8").astype(np.float64)
    except ValueError:
        raise TemplateStoreError(f"{path}: contains no template: enrol the person again") from None
    return record | {"embedding": embedding}


def _name(path: Path) -> str:
    return Path(path).name.removesuffix(SUFFIX)


def read_key() -> bytes:
    """The key in the environment, or in the file that the environment names.

    Raises:
        TemplateStoreError: there is no key, or other users may read or write its file.
    """
    if os.environ.get(KEY):
        return os.environ[KEY].strip().encode()
    if not os.environ.get(KEY_FILE):
        raise TemplateStoreError(
            f"no key for templates: set {KEY_FILE} to a file made by `python -m authentication.template_store FILE`, "
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
        raise TemplateStoreError(
            f"{path}: other users may read or change this key: make a new one, and chmod 600 {path}"
        )
    return key


def new_key_file(path: Path) -> None:
    """Write a new random key, readable by its owner only.

    Raises:
        FileExistsError: the file exists. Overwriting a key would make all its templates unreadable.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(Fernet.generate_key() + b"\n")


def _fernet(key: bytes) -> Fernet:
    try:
        return Fernet(key)
    except ValueError:
        raise TemplateStoreError(
            "the key for templates is not valid: `python -m authentication.template_store FILE` makes a key"
        ) from None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m authentication.template_store",
        description="Makes a key for encrypted templates, which only you can read, or revokes a template (--revoke). "
        "Keep the key apart from the templates.",
    )
    parser.add_argument("file", type=Path, help="the new key file, which must not exist; with --revoke, the template")
    parser.add_argument(
        "--revoke",
        action="store_true",
        help=f"delete the template FILE and refuse copies of it in future (needs {KEY_FILE})",
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
