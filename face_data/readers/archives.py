"""The pictures of a corpus, in a folder or in the publisher's tar archive. The readers of LFW and FERPlus use it."""

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath, PurePosixPath

from face_data.readers.source import is_picture, pictures_in, require
from face_data.table import CorpusError


@contextmanager
def opened_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(require(archive)) as opened:
            yield opened
            while opened.fileobj.read(2**20):  # to its end, where a packed archive has its checksum
                pass
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise CorpusError(f"{archive} is damaged or incomplete ({error}); download it again") from error


def pictures_of(source: Path, name: str, suffix: str = ".tgz") -> Iterator[tuple[PurePath, Path | bytes]]:
    """Relative path and content of every picture in folder `name` of source, or in the archive of that name."""
    if (source / name).is_dir():
        for path in pictures_in(source / name):
            yield path.relative_to(source), path
        return
    with opened_tar(source / f"{name}{suffix}") as archive:
        for member in archive:
            path = PurePosixPath(member.name)  # "./lfw/…" has lost its dot
            if is_picture(path) and (member.isfile() or member.islnk() or member.issym()):
                try:
                    yield path, archive.extractfile(member).read()
                except KeyError:  # a link to what is not in the archive
                    yield path, Path(member.name)
