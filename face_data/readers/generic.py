"""Readers of corpora without a publisher's layout: folders of people, csv tables, and datasets of the Hub.

`READERS` has their names, and `rated` reads EmoNet-Face with `read_hub`. Read `face_data.prepare` next.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
from datasets import ClassLabel, Image, load_dataset

from face_data.corpus import one_line
from face_data.readers.source import (
    EXPRESSION_NAMES,
    Photograph,
    cell_value,
    composed,
    contains_images,
    expression_from_name,
    file_finder,
    folders_in,
    images_in,
    open_text,
    require,
    table_rows,
)
from face_data.table import FEATURES, CorpusError

SPLIT = re.compile(
    r"(train|training|val|valid|validation|dev|eval|test|testing)([ _-]?(set|data|images?|imgs?|pictures|faces))?",
    re.IGNORECASE,
)


def read_folder(source: Path) -> Iterator[Photograph]:
    """A folder per person, or a csv file with the header `path,identity,expression` and optionally `split`.

    Folders: `train`, `test`, … that contain the folders of people become splits, otherwise the split is "all". The
    outer folders of an archive are ignored. The folder of a person may contain folders of sessions. Images beside the
    folders of people are counted as skipped.

    A csv: paths are relative to the file. Identity and expression may be empty. The split is "all" if it is missing.
    Damaged rows are counted as skipped. Further columns become attributes of the photographs.

    Raises:
        CorpusError: the folders seem to be groups of people (`adults/NAME/…, children/NAME/…`), or splits without
            folders of people.
    """
    if source.is_file():
        yield from _table(source)
        return
    people = _without_wrapper(source)
    folders = _folders_with_images(people)
    groups = [("all", people)]
    named_splits = [folder for folder in folders if SPLIT.fullmatch(folder.name)]
    if (len(named_splits) > 1 or named_splits == folders) and all(map(_folders_with_images, folders)):
        groups = [(folder.name.lower(), _without_repeated_folder(folder)) for folder in folders]
    elif len(named_splits) > 1 and named_splits == folders:
        raise CorpusError(
            f"{folders[0]}: contains no person's folder, but seems to be a split: give a csv of "
            "path,identity,expression, or use the layout `unlabelled` if no identity is known"
        )
    outer = {folder for _, group in groups for folder in (group, *group.parents) if source in (folder, *folder.parents)}
    for path in sorted(path for folder in outer for path in images_in(folder, deep=False)):
        yield Photograph(_key(path, people), path, split="all", refused="it lies in no person's folder")
    for split, group in groups:
        _require_people(group)
        _require_different_names(folders_in(group))
        for person in folders_in(group):
            images = images_in(person)
            for path in images:
                yield Photograph(_key(path, people), path, person.name, split=split)
            if not images:
                yield Photograph(_key(person, people), person, split=split, refused="a folder without a photograph")


def _key(path: Path, people: Path) -> str:
    """The path relative to the folder of the people; only the name if the image is not inside it."""
    return path.relative_to(people).as_posix() if people in path.parents else path.name


def _without_wrapper(source: Path) -> Path:
    """The folder of the people, inside the outer folders of an archive (`people/people/NAME/…`)."""
    while len(inner := _folders_with_images(source)) == 1:
        subfolders = _folders_with_images(inner[0])
        is_one_person = len(subfolders) < (1 if _contains_only_folders(inner[0]) else 2)
        if is_one_person or SPLIT.fullmatch(inner[0].name):
            break
        source = inner[0]
    return source


def _without_repeated_folder(split: Path) -> Path:
    """The folder of the people of a split, inside folders with the same name (`train/train/NAME/…`)."""
    while [folder.name for folder in _folders_with_images(split)] == [split.name]:
        split /= split.name
    return split


def _contains_only_folders(folder: Path) -> bool:
    """Whether a folder contains only folders and no images. Then it may be a group of people."""
    return bool(folders_in(folder)) and not images_in(folder, deep=False)


def _folders_with_images(folder: Path) -> list[Path]:
    return [inner for inner in folders_in(folder) if contains_images(inner)]


def _require_people(group: Path) -> None:
    """Raise CorpusError if the folders seem to be groups of people.

    Groups contain more different names than there are groups. Folders of sessions have a few names, which are the same
    for all people (`anna/day, ben/day`).
    """
    outer = [folder for folder in folders_in(group) if _contains_only_folders(folder)]
    names = {inner.name for folder in outer for inner in _folders_with_images(folder)}
    if len(names) > len(outer):
        raise CorpusError(
            f"{outer[0]}: contains only folders ({', '.join(sorted(names)[:3])}, …), which may be people. Give this "
            "folder as SOURCE, a folder per person, or a csv of path,identity,expression"
        )


def _require_different_names(folders: list[Path]) -> None:
    """Raise CorpusError if two folders differ only in upper and lower case: they may show the same person."""
    seen: dict[str, Path] = {}
    for folder in folders:
        other = seen.setdefault(composed(folder.name).casefold(), folder)
        if composed(other.name) != composed(folder.name):
            raise CorpusError(
                f"{other} and {folder.name}: if they are one person, put their photographs together; "
                "otherwise rename one"
            )


def read_unlabelled(source: Path) -> Iterator[Photograph]:
    """Any folder of face photographs, with its subfolders, without identities and expressions.

    They are for training with a teacher (`--teacher`), which needs no labels. The split is the name of the folder, so
    that training records and model cards can name the corpus.
    """
    for path in images_in(require(source)):
        yield Photograph(path.relative_to(source).as_posix(), path, split=source.resolve().name)


def _table(path: Path) -> Iterator[Photograph]:
    with open_text(path) as file:
        rows, find, keys = table_rows(file), file_finder(path.parent), set()
        header = rows.fieldnames
        if twice := [name for name in ("path", "identity", "expression", "split") if header.count(name) > 1]:
            raise CorpusError(f"{path}: the column {twice[0]} is there twice; remove one")
        extra_columns = [name for name in header if name not in ("path", "identity", "expression", "split")]
        if conflicts := [
            name for name in extra_columns if name in FEATURES or not name.strip() or header.count(name) > 1
        ]:
            raise CorpusError(
                f"{path}: {conflicts[0]!r} cannot be the name of a further column; rename or remove this column"
            )
        if not {"path", "identity", "expression"} <= set(header):
            raise CorpusError(
                f"{path}: its first line must be path,identity,expression, with or without split; "
                f"found {','.join(header)[:80]!r}"
            )
        for row in rows:
            where, key, refused = f"line {rows.line_num + 1}", (row["path"] or "").strip(), None
            expression = cell_value(row["expression"])
            if None in row.values() or None in row or not key:
                refused = f"a damaged row: {where}, expected {len(header)} fields, the path not empty"
            elif key in keys:
                refused = f"named twice: {where}"
            elif expression and expression.lower() not in EXPRESSION_NAMES:
                refused = f"unknown expression {expression[:40]!r}"
            yield Photograph(
                f"{path.name}, {where}" if not key or key in keys else key,
                find(key),
                cell_value(row["identity"]),
                expression_from_name(expression, where) if expression and not refused else None,
                split=cell_value(row.get("split")) or "all",
                attributes={name: cell_value(row[name]) for name in extra_columns},
                refused=refused,
            )
            keys.add(key)


def read_hub(
    source: str | Path,
    image_column: str = "image",
    identity_column: str | None = None,
    expression_column: str | None = None,
    revision: str | None = None,
    config: str | None = None,
    split: str | None = None,
    expression_map: str | None = None,
) -> Iterator[Photograph]:
    """An image dataset that `datasets.load_dataset` opens, from the Hub (`user/name`) or a local folder, as a stream.

    Splits keep their names and are read in the order of their names; a key is `split/number of the row`. The column of
    identities is `identity` by default, and that of expressions `expression`; a dataset may have neither. A field
    inside a column, as in WebDataset, is named with a dot: `json.identity`.

    Args:
        revision: commit, branch or tag of a dataset on the Hub.
        config: the configuration of the dataset.
        split: read only this split.
        expression_map: pairs `label=name of this project,…`, such as `joy=happy,calm=neutral`. Photographs with other
            unknown labels, and damaged rows, are counted as skipped.
    """
    names = EXPRESSION_NAMES | _expression_map(expression_map)
    try:
        splits = load_dataset(str(source), config, revision=revision, streaming=True)
        if split is not None and split not in splits:
            raise CorpusError(f"{source}: no split {split}; it has {', '.join(sorted(splits))}")
        for name in sorted(splits) if split is None else [split]:
            yield from _rows(source, name, splits[name], image_column, identity_column, expression_column, names)
    except CorpusError:
        raise
    except Exception as error:  # archives, Parquet, JSON and the Hub raise many unrelated types
        raise CorpusError(
            f"{source}: `datasets.load_dataset` cannot read it ({one_line(error)}); give the id of a dataset "
            "on the Hub, or its folder"
        ) from error


def _expression_map(text: str | None) -> dict[str, str]:
    """`joy=happy,calm=neutral` as a dictionary from labels in lower case to names in CORPUS_EXPRESSIONS."""
    names = {}
    for part in text.split(",") if text is not None else ():
        label, equals, name = part.partition("=")
        if not equals or not label.strip():
            raise CorpusError(f"--expression-map {part!r}: expected label=expression, such as joy=happy")
        names[label.strip().lower()] = expression_from_name(name, f"--expression-map {part!r}")
    return names


def _rows(
    source, split, rows, image_column, identity_column, expression_column, expression_map
) -> Iterator[Photograph]:
    features = rows.features or next(({key: None for key in row} for row in rows.take(1)), {})
    identity_column = identity_column or ("identity" if "identity" in features else None)
    expression_column = expression_column or ("expression" if "expression" in features else None)
    columns = {name: name.partition(".")[0] for name in (image_column, identity_column, expression_column) if name}
    if missing := [name for name, top in columns.items() if name not in features and top not in features]:
        raise CorpusError(
            f"{source}, split {split}: no column {', '.join(missing)}; it has {', '.join(features)}; "
            "name them with --image-column, --identity-column or --expression-column"
        )
    if image_column not in features:
        raise CorpusError(
            f"{source}, split {split}: --image-column {image_column}: an image inside another column cannot be read; "
            f"name one of {', '.join(features)}"
        )
    if isinstance(features[image_column], Image):  # keep the encoded bytes, because the worker processes decode them
        rows = rows.cast_column(image_column, Image(decode=False))
    used = dict.fromkeys(name if name in features else top for name, top in columns.items())
    for number, row in enumerate(rows.select_columns(list(used))):
        where = f"{source}, split {split}, row {number}"
        image, identity, expression, refused = b"", None, None, None
        try:
            identity = _cell_text(row, identity_column, features, where)
            label = _cell_text(row, expression_column, features, where, _highest_rated)
            image = _bytes(row[image_column], where)
        except _DamagedRow as error:
            refused = f"a damaged row: {error}"
        else:
            expression = expression_map.get(label.strip().lower()) if label is not None else None
            if label is not None and expression is None:
                refused = f"unknown expression {label[:40]!r}"
        yield Photograph(f"{split}/{number:08d}", image, identity, expression, split=split, refused=refused)


class _DamagedRow(Exception):
    """A row has no usable value, so it is skipped. The message names the value."""


def _cell_text(
    row: dict, column: str | None, features: dict, where: str, choose: Callable[[object], str | None] | None = None
) -> str | None:
    """The text of a cell, or the name of a class label; None if the cell is empty (-1 for class labels).

    Args:
        choose: selects one of several values in a cell, or returns None; without it, such a cell is an error.
    """
    if column is None:
        return None
    if column in features:
        value, feature = row.get(column), features[column]
    else:
        top, _, field = column.partition(".")
        value, feature = row.get(top), None
        try:
            value = json.loads(value) if isinstance(value, (str, bytes)) else value
        except ValueError as error:
            raise _DamagedRow(f"{top} is no JSON ({error})") from None
        for name in field.split("."):
            if value is not None and (not isinstance(value, dict) or name not in value):
                if where.endswith(" row 0"):  # the name may be mistyped; in a later row, the value is unknown
                    raise CorpusError(f"{where}: {top} has no field {field}")
                value = None
            value = None if value is None else value[name]
    if value is None or value in ("", []):
        return None
    if isinstance(value, list) and len(value) == 1:  # a dataset may have lists of labels
        value = value[0]
        feature = getattr(feature, "feature", None)
    if isinstance(feature, ClassLabel) and isinstance(value, int):
        if value >= feature.num_classes:
            raise _DamagedRow(f"label {value} of {column}, which has {feature.num_classes}")
        return feature.int2str(value) if value >= 0 else None
    if choose is not None and (chosen := choose(value)) is not None:
        return chosen
    if isinstance(value, list):
        raise _DamagedRow(f"{column} holds {len(value)} values")
    if isinstance(value, dict):
        fields = ", ".join(f"{column}.{name}" for name in list(value)[:5])
        raise CorpusError(f"{where}: {column} holds several values: name one of them ({fields})")
    return cell_value(str(value))


def _highest_rated(ratings: object) -> str | None:
    """The label with the highest mean among `{label: number}`, lists of these, or lists of `{emotion, intensity}`.

    The ratings may be JSON text, and groups may precede a label, as in `negative|Anger`. None if there is no rating,
    "ambiguous" if two labels have the same highest mean.
    """
    if isinstance(ratings, str) and ratings[:1] in "[{":
        try:
            ratings = json.loads(ratings)
        except json.JSONDecodeError:
            return None
    numbers = defaultdict(list)
    for rating in ratings if isinstance(ratings, list) else [ratings]:
        if not isinstance(rating, dict):
            return None
        if isinstance(rating.get("emotion"), str):
            rating = {rating["emotion"]: rating.get("intensity")}
        for name, value in rating.items():
            if isinstance(value, (int, float)):
                numbers[name.rpartition("|")[2].strip()].append(float(value))
    means = {name: sum(values) / len(values) for name, values in numbers.items()}
    highest = [name for name, mean in means.items() if mean == max(means.values()) > 0]
    return None if not highest else highest[0] if len(highest) == 1 else "ambiguous"


def _bytes(cell: dict | bytes | None, where: str) -> bytes:
    if isinstance(cell, bytes):
        return cell
    if cell is None or (isinstance(cell, dict) and not (cell.get("bytes") or cell.get("path"))):
        raise _DamagedRow("no image in its image column")
    if not isinstance(cell, dict):
        raise CorpusError(f"{where}: no image in its image column, but {type(cell).__name__}; is it another column?")
    if cell["bytes"]:
        return cell["bytes"]
    try:
        with fsspec.open(cell["path"], "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise _DamagedRow(f"no such file as {cell['path']}") from None
