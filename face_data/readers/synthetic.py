"""Readers of synthetic people, generated to train face recognition: DigiFace-1M, DCFace and HSFace."""

from collections.abc import Iterator
from pathlib import Path

from face_data.readers.recordio import read_records, unpack_record
from face_data.readers.source import (
    CUT_BORDER,
    Photograph,
    first_existing,
    folders_in,
    is_foreign,
    pictures_in,
    read_lines,
)
from face_data.table import CorpusError

TIGHT_CROP = {"enlarge": 2, "border": CUT_BORDER}  # all three are published as crops of 112 x 112 pixels


def read_digiface(source: Path) -> Iterator[Photograph]:
    """DigiFace-1M (Bae et al. 2023): `subjects_0-1999_72_imgs/0/0.png`, a folder per numbered person in several parts.

    SOURCE is the folder of the parts, or one part. No number occurs in two parts of the publisher's.
    """
    parts = [folder for folder in folders_in(source) if folder.name.startswith("subjects_")] or [source]
    part_of: dict[str, Path] = {}
    for part in parts:
        people = folders_in(part)
        if people and not any(person.name.isdigit() for person in people):
            raise CorpusError(f"{people[0]} is not the number of a person; for other names take the layout `folder`")
        for path in pictures_in(part, deep=False):
            key = path.relative_to(source).as_posix()
            yield Photograph(key, path, split="train", refused="it lies in no person's folder", **TIGHT_CROP)
        for person in people:
            if not person.name.isdigit():
                for path in pictures_in(person):
                    key, refused = path.relative_to(source).as_posix(), "its folder is not the number of a person"
                    yield Photograph(key, path, split="train", refused=refused, **TIGHT_CROP)
                continue
            if part_of.setdefault(person.name, part) != part:
                raise CorpusError(f"{person}: person {person.name} is in {part_of[person.name].name} too")
            for path in pictures_in(person):
                yield Photograph(path.relative_to(source).as_posix(), path, person.name, split="train", **TIGHT_CROP)


def read_dcface(source: Path) -> Iterator[Photograph]:
    """DCFace (Kim et al. 2023): RecordIO with a list, `record/file.rec`, `file.idx` and `list.txt`.

    The records hold no names; `list.txt` has `number of the record<tab>person/picture.jpg`, and `file.idx` where
    each record begins. SOURCE is `record`, or the folder it lies in.
    """
    records = first_existing(source, "file.rec", "record/file.rec")
    paths = dict(_pairs_of(records.with_name("list.txt")))
    index = _pairs_of(records.with_name("file.idx"))
    number_at = {int(position): number for number, position in index if position.isdigit()}
    seen = 0
    for position, content in read_records(records):
        name = paths.get(number_at.get(position, ""))
        seen += name is not None
        person = Path(name).parent.name if name else None
        if not person:
            refused = "list.txt names no person's picture for it"
            yield Photograph(f"record at byte {position}", b"", split="train", refused=refused, **TIGHT_CROP)
            continue
        yield Photograph(name, unpack_record(records, position, content)[1], person, split="train", **TIGHT_CROP)
    if seen < len(paths):
        raise CorpusError(f"{records} ends after {seen:,} of {len(paths):,} pictures; download it again")


def read_hsface(source: Path) -> Iterator[Photograph]:
    """HSFace (Wu et al. 2025, drawn by Vec2Face): an LMDB, a file such as `hsface10k.lmdb` or a folder of `data.mdb`.

    Each value is MessagePack: the encoded picture, then perhaps a feature, and last the number of the person.
    """
    try:
        import lmdb
        import msgpack
    except ImportError as error:
        raise CorpusError(f"HSFace is an LMDB of MessagePack: pip install lmdb msgpack ({error})") from None
    path = source
    if source.is_dir() and not (source / "data.mdb").exists():
        found = sorted(path for path in source.glob("*.lmdb") if not is_foreign(path.name))
        path = found[0] if found else source / "data.mdb"
    try:
        # without its lock file nothing is written beside the publisher's file
        database = lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, create=False)
        with database, database.begin() as transaction:
            if (keys := transaction.get(b"__keys__")) is None:
                raise CorpusError(f"{path}: no __keys__ in this LMDB; give HSFace as its publisher ships it")
            for key in msgpack.loads(keys):
                key = key if isinstance(key, bytes) else key.encode()
                fields = _unpack_fields(msgpack, transaction.get(key))
                if fields is None:
                    refused = "no picture with the number of a person"
                    yield Photograph(key.decode(errors="replace"), b"", split="train", refused=refused, **TIGHT_CROP)
                    continue
                person = str(fields[-1])
                yield Photograph(f"{person}/{key.decode()}", fields[0], person, split="train", **TIGHT_CROP)
    except (lmdb.Error, msgpack.UnpackException, ValueError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"{path}: no LMDB of pictures, or damaged ({error}); download it again") from None


def _unpack_fields(msgpack, value: bytes | None) -> list | None:
    """A picture first and the number of a person last; None where it is anything else."""
    try:
        fields = msgpack.loads(value) if value is not None else None
    except (msgpack.UnpackException, ValueError):
        return None
    is_whole = isinstance(fields, list) and fields and isinstance(fields[0], bytes) and type(fields[-1]) is int
    return fields if is_whole else None


def _pairs_of(path: Path) -> Iterator[tuple[str, str]]:
    """The two columns of a table between tabs, without the lines that are damaged.

    Raises:
        CorpusError: none is whole, so it is another file.
    """
    lines = read_lines(path)
    pairs = [(first.strip(), second.strip()) for first, _, second in (line.partition("\t") for line in lines)]
    whole = [(first, second) for first, second in pairs if first.isdigit() and second]
    if not whole:
        raise CorpusError(f"{path}: expected lines of a number, a tab and more, found {''.join(lines[:1])[:80]!r}")
    return iter(whole)
