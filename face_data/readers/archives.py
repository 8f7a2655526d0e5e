"""Pictures in a folder, or in the tar archive that its publisher packed it in."""

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from face_data.readers.source import require
from face_data.table import CorpusError


@contextmanager
def opened_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(require(archive)) as opened:
            yield opened
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise CorpusError(f"{archive} is damaged or incomplete ({error}); download it again") from error


def pictures_of(source: Path, name: str, suffix: str = ".tgz") -> Iterator[tuple[Path, Path | bytes]]:
    """Relative path and content of every picture in folder `name` of source, or in the archive of that name."""
    if (source / name).is_dir():
        for path in sorted((source / name).rglob("*")):
            if path.suffix in (".jpg", ".png"):
                yield path.relative_to(source), path
        return
    with opened_tar(source / f"{name}{suffix}") as archive:
        for member in archive:
            path = Path(member.name)
            if member.isfile() and path.suffix in (".jpg", ".png"):
                yield path, archive.extractfile(member).read()
