"""The images of a corpus in a folder or in the publisher's tar archive.

The readers `lfw` and `expressions` call it. Read `lfw` next.
"""

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath, PurePosixPath

from face_data.readers.source import images_in, is_image, require
from face_data.table import CorpusError


@contextmanager
def open_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar archive; CorpusError if it is missing or damaged."""
    try:
        with tarfile.open(require(archive)) as opened:
            yield opened
            while opened.fileobj.read(2**20):  # to its end, where a packed archive has its checksum
                pass
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise CorpusError(f"{archive} is damaged or incomplete ({error}); download it again") from error


def images_of(source: Path, name: str, suffix: str = ".tgz") -> Iterator[tuple[PurePath, Path | bytes]]:
    """Relative path, and path or content, of every image in the folder `name` of source, or in the archive `name`."""
    if (source / name).is_dir():
        for path in images_in(source / name):
            yield path.relative_to(source), path
        return
    with open_tar(source / f"{name}{suffix}") as archive:
        for member in archive:
            path = PurePosixPath(member.name)  # this removes the dot of "./lfw/…"
            if is_image(path) and (member.isfile() or member.islnk() or member.issym()):
                try:
                    yield path, archive.extractfile(member).read()
                except KeyError:  # a link to a file that is not in the archive
                    yield path, Path(member.name)
