"""A run whose `--out` is an address: it works in a folder of this machine, which is uploaded at each checkpoint.

The manifest of a checkpoint is uploaded last, and a checkpoint without manifest is ignored. So if a run is killed, the
address has the last checkpoint that was uploaded completely. Other files, such as best/, are written again when the run
is resumed.

Called by `run`, only in the main process. Next to read: addresses.py.
"""

import re
import shutil
import sys
from pathlib import Path

from addresses import Remote, is_address, working_folder
from train.checkpoint import MANIFEST, newest_checkpoint

SETTINGS = "run.json"
FILES = re.compile(
    r"(checkpoints|best|last|tensorboard)/.*|(log\.jsonl|(run|training|test)\.json|(weights|losses)\.png)"
)
MANIFESTS = re.compile(rf"checkpoints/(step-\d{{8}})/{MANIFEST}")


class RemoteRun:
    """The files of OUT at its address. If OUT is a folder, all methods do nothing."""

    def __init__(self, out: str):
        self.folder = working_folder(out)
        self.remote = Remote(out) if is_address(out) else None
        self._uploaded: dict[str, tuple[int, int]] = {}  # name -> size and time of change

    def fetch(self) -> None:
        """Replace the working folder by the files at the address.

        If the folder has a later checkpoint of the same run, because an upload failed, it is not changed.
        """
        if self.remote is None:
            return
        remote_names = [name for name in self.remote.files() if FILES.fullmatch(name)]
        complete = {match[1] for name in remote_names if (match := MANIFESTS.fullmatch(name))}
        if self._has_later_checkpoint(max(complete, default="")):
            print(
                f"train: the run continues in {self.folder}, because its last checkpoint was not uploaded",
                file=sys.stderr,
            )
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        incomplete = {
            name for name in remote_names if name.startswith("checkpoints/") and name.split("/")[1] not in complete
        }
        self.remote.download([name for name in remote_names if name not in incomplete], self.folder)
        self._uploaded = self._state()

    def _has_later_checkpoint(self, remote_name: str) -> bool:
        checkpoint = newest_checkpoint(self.folder) if self.folder.exists() else None
        if checkpoint is None or checkpoint.name <= remote_name or not (self.folder / SETTINGS).is_file():
            return False
        return self.remote.read(SETTINGS) == (self.folder / SETTINGS).read_bytes()

    def upload(self) -> None:
        """Upload all changed files, manifests last, and then remove those at the address that no longer exist here.

        Raises:
            AddressError: the address cannot be written; its earlier checkpoints remain valid.
        """
        if self.remote is None:
            return
        state = self._state()
        changed = [name for name in state if self._uploaded.get(name) != state[name]]
        self.remote.upload(self.folder, sorted(changed, key=lambda name: (bool(MANIFESTS.fullmatch(name)), name)))
        removed = [name for name in self.remote.files() if FILES.fullmatch(name) and name not in state]
        self.remote.remove(sorted(removed, key=lambda name: not MANIFESTS.fullmatch(name)))
        self._uploaded = state

    def try_to_upload(self) -> bool:
        """Like `upload`, but if it fails, the error is printed to stderr.

        Returns:
            whether the upload succeeded.
        """
        try:
            self.upload()
        except OSError as error:
            print(f"train: the upload failed ({error}); the files are in {self.folder}", file=sys.stderr)
            return False
        return True

    def _state(self) -> dict[str, tuple[int, int]]:
        """The complete files of the working folder: name -> size and time of change."""
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        names = {path: path.relative_to(self.folder).as_posix() for path in files}
        return {
            name: (path.stat().st_size, path.stat().st_mtime_ns)
            for path, name in names.items()
            if not any(part.endswith((".tmp", ".old")) for part in Path(name).parts)
        }
