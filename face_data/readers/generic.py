"""Corpora that nobody published in a layout of their own: folders, tables, and datasets of the Hub."""

import csv
from collections.abc import Iterator
from pathlib import Path

import fsspec
from datasets import ClassLabel, Image, load_dataset

from face_data.readers.source import Photograph, expression_named, folders_in, opened_text, pictures_in, require
from face_data.table import FEATURES, CorpusError


def read_folder(source: Path) -> Iterator[Photograph]:
    """A folder per person, or a csv file with the header `path,identity,expression` and, if wanted, `split`.

    Paths in the csv are relative to it; identity and expression may be empty. Without a split all are in "all". Further
    columns become attributes of the photographs.
    """
    if source.is_file():
        yield from _table(source)
        return
    for person in folders_in(source):
        for path in pictures_in(person):
            yield Photograph(path.relative_to(source).as_posix(), path, person.name, split="all")


def read_unlabelled(source: Path) -> Iterator[Photograph]:
    """Any folder of face photographs, folders in it too, of which neither person nor expression is known.

    They serve to learn from a teacher (`--teacher`), which needs no labels. The folder's name becomes the split, by
    which records and cards tell one such corpus from another.
    """
    for path in pictures_in(require(source)):
        yield Photograph(path.relative_to(source).as_posix(), path, split=source.resolve().name)


def _table(path: Path) -> Iterator[Photograph]:
    with opened_text(path) as file:
        rows = csv.DictReader(file)
        header = rows.fieldnames or []
        further = [name for name in header if name not in ("path", "identity", "expression", "split")]
        if taken := [name for name in further if name in FEATURES or not name.strip() or header.count(name) > 1]:
            raise CorpusError(f"{path}: {taken[0]!r} cannot be the name of a further column; rename or remove it")
        if not {"path", "identity", "expression"} <= set(header):
            raise CorpusError(
                f"{path}: its first line must be path,identity,expression, with or without split; "
                f"found {','.join(header)[:80]!r}"
            )
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            if None in row.values() or None in row or not row["path"]:
                raise CorpusError(f"{where}: expected {len(header)} fields, the path not empty")
            expression = expression_named(row["expression"], where) if row["expression"].strip() else None
            yield Photograph(
                row["path"], path.parent / row["path"], row["identity"] or None, expression,
                split=row.get("split") or "all", attributes={name: row[name] or None for name in further},
            )  # fmt: skip


def read_hub(
    source: str | Path,
    image_column: str = "image",
    identity_column: str | None = None,
    expression_column: str | None = None,
) -> Iterator[Photograph]:
    """An image dataset that `datasets.load_dataset` opens, from the Hub (`user/name`) or a local folder, streamed.

    Every split of it keeps its name, in the order of the names; key is `split/number of the row`. A column that is not
    named is `identity` or `expression` where the dataset has it; one of the two it must have.
    """
    try:
        splits = load_dataset(str(source), streaming=True)
        for split in sorted(splits):
            yield from _rows(source, split, splits[split], image_column, identity_column, expression_column)
    except CorpusError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # what datasets, the Hub and Arrow raise
        raise CorpusError(
            f"{source}: `datasets.load_dataset` cannot read it ({error}); give a dataset's id on the Hub or its folder"
        ) from error


def _rows(source, split, rows, image_column, identity_column, expression_column) -> Iterator[Photograph]:
    features = rows.features or {}
    known = ", ".join(features)
    identity_column = identity_column or ("identity" if "identity" in features else None)
    expression_column = expression_column or ("expression" if "expression" in features else None)
    if identity_column is None and expression_column is None:
        raise CorpusError(
            f"{source}, split {split}: neither identity nor expression among its columns {known}; "
            "name them with --identity-column or --expression-column"
        )
    wanted = [name for name in (image_column, identity_column, expression_column) if name is not None]
    if missing := [name for name in wanted if name not in features]:
        raise CorpusError(f"{source}, split {split}: no column {', '.join(missing)}; it has {known}")
    if isinstance(features[image_column], Image):  # its bytes as they are: the preparing processes decode them
        rows = rows.cast_column(image_column, Image(decode=False))
    for number, row in enumerate(rows.select_columns(list(dict.fromkeys(wanted)))):  # one may be named twice
        where = f"{source}, split {split}, row {number}"
        expression = _named(row, expression_column, features)
        yield Photograph(
            f"{split}/{number:08d}", _bytes(row[image_column], where), _named(row, identity_column, features),
            expression and expression_named(expression, where), split=split,
        )  # fmt: skip


def _named(row: dict, column: str | None, features: dict) -> str | None:
    """A cell as text; class labels by their names, nothing where there is none (-1 among class labels)."""
    value = row.get(column)
    if value is None or value == "":
        return None
    if isinstance(features[column], ClassLabel):
        return features[column].int2str(value) if value >= 0 else None
    return str(value)


def _bytes(cell: dict | bytes | None, where: str) -> bytes:
    if isinstance(cell, bytes):
        return cell
    if not isinstance(cell, dict) or not (cell.get("bytes") or cell.get("path")):
        raise CorpusError(f"{where}: no picture in its image column, but {type(cell).__name__}; is it another column?")
    if cell["bytes"]:
        return cell["bytes"]
    with fsspec.open(cell["path"], "rb") as file:
        return file.read()
