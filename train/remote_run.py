"""A run whose `--out` is an address: it works in a folder of this machine, and is uploaded at every checkpoint.

A checkpoint's manifest is uploaded after everything else, and a checkpoint without one does not count: whenever a run
is killed, the address holds the last checkpoint that was uploaded whole. What else was uploaded by then, such as best/,
is made again when the run goes on from it.

Called by `loop` and `folds`, in the main process alone.
"""

import re
import shutil
import sys
from pathlib import Path

from addresses import Remote, is_address, working_folder
from train.checkpoint import MANIFEST, newest_checkpoint

SETTINGS = "run.json"
OWN = re.compile(r"(checkpoints|best|last|tensorboard)/.*|(log\.jsonl|(run|training|test)\.json|(weights|losses)\.png)")
SEALED = re.compile(rf"checkpoints/(step-\d{{8}})/{MANIFEST}")


class RemoteRun:
    """The files of OUT at its address. Where OUT is a folder, there is nothing to do."""

    def __init__(self, out: str):
        self.folder = working_folder(out)
        self.remote = Remote(out) if is_address(out) else None
        self._uploaded: dict[str, tuple[int, int]] = {}  # name -> size and time of change

    def fetch(self) -> None:
        """Make the working folder what is at the address.

        It stays as it is where it has a later checkpoint of the same run: then an upload failed.
        """
        if self.remote is None:
            return
        there = [name for name in self.remote.files() if OWN.fullmatch(name)]
        sealed = {seal[1] for name in there if (seal := SEALED.fullmatch(name))}
        if self._holds_more_than(max(sealed, default="")):
            print(f"train: {self.folder} goes on, of which a checkpoint was not uploaded", file=sys.stderr)
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        halves = [name for name in there if name.startswith("checkpoints/") and name.split("/")[1] not in sealed]
        self.remote.download([name for name in there if name not in halves], self.folder)
        self._uploaded = self._state()

    def _holds_more_than(self, newest: str) -> bool:
        own = newest_checkpoint(self.folder) if self.folder.exists() else None
        if own is None or own.name <= newest or not (self.folder / SETTINGS).is_file():
            return False
        return self.remote.read(SETTINGS) == (self.folder / SETTINGS).read_bytes()

    def upload(self) -> None:
        """Upload what has changed, manifests last, and then remove at the address what is no longer here.

        Raises:
            AddressError: it cannot be written; what was there before still counts.
        """
        if self.remote is None:
            return
        state = self._state()
        changed = [name for name in state if self._uploaded.get(name) != state[name]]
        self.remote.upload(self.folder, sorted(changed, key=lambda name: (bool(SEALED.fullmatch(name)), name)))
        gone = [name for name in self.remote.files() if OWN.fullmatch(name) and name not in state]
        self.remote.remove(sorted(gone, key=lambda name: not SEALED.fullmatch(name)))
        self._uploaded = state

    def try_to_upload(self) -> bool:
        """`upload`. If it fails, stderr gives the error and training goes on.

        Returns:
            whether it was uploaded.
        """
        try:
            self.upload()
        except OSError as error:
            print(f"train: not uploaded ({error}); it is in {self.folder}", file=sys.stderr)
            return False
        return True

    def _state(self) -> dict[str, tuple[int, int]]:
        """The finished files of the working folder: name -> size and time of change."""
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        names = {path: path.relative_to(self.folder).as_posix() for path in files}
        return {
            name: (path.stat().st_size, path.stat().st_mtime_ns)
            for path, name in names.items()
            if not any(part.endswith((".tmp", ".old")) for part in Path(name).parts)
        }
