"""Readers of corpora without a publisher's layout: folders of people, csv tables, and datasets of the Hub.

`READERS` names them; `rated` reads EmoNet-Face with `read_hub`.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
from datasets import ClassLabel, Image, load_dataset

from face_data.readers.source import (
    EXPRESSION_NAMES,
    Photograph,
    cell_value,
    composed,
    expression_named,
    finder,
    folders_in,
    holds_pictures,
    opened_text,
    pictures_in,
    require,
    table_in,
)
from face_data.table import FEATURES, CorpusError

SPLIT = re.compile(
    r"(train|training|val|valid|validation|dev|eval|test|testing)([ _-]?(set|data|images?|imgs?|pictures|faces))?",
    re.IGNORECASE,
)


def read_folder(source: Path) -> Iterator[Photograph]:
    """A folder per person, or a csv file with the header `path,identity,expression` and, if wanted, `split`.

    Folders `train`, `test`, … of such folders become splits, and an archive's outer folder is skipped. A person's
    folder may hold folders of sessions. Pictures beside the people's folders are skipped, and counted. Paths in the csv
    are relative to it; identity and expression may be empty; rows that are damaged are skipped, and counted. Without a
    split all are in "all". Further columns become attributes of the photographs.

    Raises:
        CorpusError: the folders seem to be groups of people (`adults/NAME/…, children/NAME/…`), or splits of nobody.
    """
    if source.is_file():
        yield from _table(source)
        return
    people = _without_wrapper(source)
    folders = _folders_with_pictures(people)
    groups = [("all", people)]
    named_splits = [folder for folder in folders if SPLIT.fullmatch(folder.name)]
    if (len(named_splits) > 1 or named_splits == folders) and all(map(_folders_with_pictures, folders)):
        groups = [(folder.name.lower(), _within_its_double(folder)) for folder in folders]
    elif len(named_splits) > 1 and named_splits == folders:
        raise CorpusError(
            f"{folders[0]}: holds no person's folder, but seems to be a split: give a csv of path,identity,expression, "
            "or take the layout `unlabelled` where nobody is known"
        )
    above = {place for _, group in groups for place in (group, *group.parents) if source in (place, *place.parents)}
    for path in sorted(path for place in above for path in pictures_in(place, deep=False)):
        yield Photograph(_key(path, people), path, split="all", refused="it lies in no person's folder")
    for split, group in groups:
        _require_people(group)
        _require_different_names(folders_in(group))
        for person in folders_in(group):
            pictures = pictures_in(person)
            for path in pictures:
                yield Photograph(_key(path, people), path, person.name, split=split)
            if not pictures:
                yield Photograph(_key(person, people), person, split=split, refused="a folder without a photograph")


def _key(path: Path, people: Path) -> str:
    """Its place below the folder of the people; its name alone where it lies above."""
    return path.relative_to(people).as_posix() if people in path.parents else path.name


def _without_wrapper(source: Path) -> Path:
    """The folder of the people, where an archive wrapped it in further folders (`people/people/NAME/…`)."""
    while len(inner := _folders_with_pictures(source)) == 1:
        within = _folders_with_pictures(inner[0])
        is_one_person = len(within) < (1 if _holds_folders_alone(inner[0]) else 2)
        if is_one_person or SPLIT.fullmatch(inner[0].name):
            break
        source = inner[0]
    return source


def _within_its_double(split: Path) -> Path:
    """The folder of a split's people, where it was unpacked into a folder of its own name (`train/train/NAME/…`)."""
    while [folder.name for folder in _folders_with_pictures(split)] == [split.name]:
        split /= split.name
    return split


def _holds_folders_alone(folder: Path) -> bool:
    """Whether it holds folders and no picture itself: then it is not a person's folder."""
    return bool(folders_in(folder)) and not pictures_in(folder, deep=False)


def _folders_with_pictures(folder: Path) -> list[Path]:
    return [inner for inner in folders_in(folder) if holds_pictures(inner)]


def _require_people(group: Path) -> None:
    """Refuse what would make one person of many: more names within the folders than there are folders.

    Folders of sessions have the same few names in all of them (`anna/day, ben/day`).
    """
    outer = [folder for folder in folders_in(group) if _holds_folders_alone(folder)]
    names = {inner.name for folder in outer for inner in _folders_with_pictures(folder)}
    if len(names) > len(outer):
        raise CorpusError(
            f"{outer[0]}: holds folders alone ({', '.join(sorted(names)[:3])}, …): is it one person's, or are these "
            "people? Give one of these folders as SOURCE, a folder per person, or a csv of path,identity,expression"
        )


def _require_different_names(folders: list[Path]) -> None:
    """Refuse folders whose names differ in capitals alone: one person would be two, who are then told apart."""
    seen: dict[str, Path] = {}
    for folder in folders:
        other = seen.setdefault(composed(folder.name).casefold(), folder)
        if composed(other.name) != composed(folder.name):
            raise CorpusError(
                f"{other} and {folder.name}: if they are one person, put their photographs together; "
                "otherwise rename one"
            )


def read_unlabelled(source: Path) -> Iterator[Photograph]:
    """Any folder of face photographs, folders in it too, of which neither person nor expression is known.

    They serve to learn from a teacher (`--teacher`), which needs no labels. The folder's name becomes the split, by
    which records and cards tell one such corpus from another.
    """
    for path in pictures_in(require(source)):
        yield Photograph(path.relative_to(source).as_posix(), path, split=source.resolve().name)


def _table(path: Path) -> Iterator[Photograph]:
    with opened_text(path) as file:
        rows, find, seen = table_in(file), finder(path.parent), set()
        header = rows.fieldnames
        if twice := [name for name in ("path", "identity", "expression", "split") if header.count(name) > 1]:
            raise CorpusError(f"{path}: the column {twice[0]} is there twice; remove one")
        extra_columns = [name for name in header if name not in ("path", "identity", "expression", "split")]
        if conflicts := [
            name for name in extra_columns if name in FEATURES or not name.strip() or header.count(name) > 1
        ]:
            raise CorpusError(f"{path}: {conflicts[0]!r} cannot be the name of a further column; rename or remove it")
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
            elif key in seen:
                refused = f"named twice: {where}"
            elif expression and expression.lower() not in EXPRESSION_NAMES:
                refused = f"unknown expression {expression[:40]!r}"
            yield Photograph(
                f"{path.name}, {where}" if not key or key in seen else key,
                find(key),
                cell_value(row["identity"]),
                expression_named(expression, where) if expression and not refused else None,
                split=cell_value(row.get("split")) or "all",
                attributes={name: cell_value(row[name]) for name in extra_columns},
                refused=refused,
            )
            seen.add(key)


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
    """An image dataset that `datasets.load_dataset` opens, from the Hub (`user/name`) or a local folder, streamed.

    Splits keep their names and are read in the order of their names; key is `split/number of the row`. A column that is
    not named is `identity` or `expression` where the dataset has it; a dataset with neither is read as unlabelled. A
    field within a column, as WebDataset has them, is named with a dot: `json.identity`.

    Args:
        revision: commit, branch or tag of a dataset on the Hub.
        config: which of its configurations.
        split: this split alone.
        expression_map: `their name=ours,…`, such as `joy=happy,calm=neutral`. Labels that are neither in it nor known,
            and rows that are damaged, are counted as skipped.
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
    except Exception as error:  # each format has its own: of archives, of Parquet, of JSON, of the Hub
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        raise CorpusError(
            f"{source}: `datasets.load_dataset` cannot read it ({cause}); give a dataset's id on the Hub or its folder"
        ) from error


def _expression_map(text: str | None) -> dict[str, str]:
    """`joy=happy,calm=neutral` as their names in lower case -> ours."""
    names = {}
    for part in text.split(",") if text is not None else ():
        theirs, equals, ours = part.partition("=")
        if not equals or not theirs.strip():
            raise CorpusError(f"--expression-map {part!r}: expected their name=ours, such as joy=happy")
        names[theirs.strip().lower()] = expression_named(ours, f"--expression-map {part!r}")
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
            f"{source}, split {split}: --image-column {image_column}: a picture within a column is not read; "
            f"name one of {', '.join(features)}"
        )
    if isinstance(features[image_column], Image):  # keep the encoded bytes: the worker processes decode them
        rows = rows.cast_column(image_column, Image(decode=False))
    used = dict.fromkeys(name if name in features else top for name, top in columns.items())
    for number, row in enumerate(rows.select_columns(list(used))):
        where = f"{source}, split {split}, row {number}"
        image, identity, expression, refused = b"", None, None, None
        try:
            identity = _cell_text(row, identity_column, features, where)
            label = _cell_text(row, expression_column, features, where, _rated_highest)
            image = _bytes(row[image_column], where)
        except _DamagedRow as error:
            refused = f"a damaged row: {error}"
        else:
            expression = expression_map.get(label.strip().lower()) if label is not None else None
            if label is not None and expression is None:
                refused = f"unknown expression {label[:40]!r}"
        yield Photograph(f"{split}/{number:08d}", image, identity, expression, split=split, refused=refused)


class _DamagedRow(Exception):
    """What a row of a dataset lacks: the row is skipped."""


def _cell_text(
    row: dict, column: str | None, features: dict, where: str, choose: Callable[[object], str | None] | None = None
) -> str | None:
    """The text of a cell, of a class label its name; None if the cell is empty (-1 for class labels).

    Args:
        choose: picks one of several values in a cell, or gives None; without it such a cell is an error.
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
                if where.endswith(" row 0"):  # perhaps mistyped; a later row without it says that nobody knows
                    raise CorpusError(f"{where}: {top} has no field {field}")
                value = None
            value = None if value is None else value[name]
    if value is None or value in ("", []):
        return None
    if isinstance(value, list) and len(value) == 1:  # of a dataset with several labels in a row, one here
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


def _rated_highest(ratings: object) -> str | None:
    """The label with the highest mean among `{label: number}`, lists of these, or lists of `{emotion, intensity}`.

    The ratings may be JSON text, and a label may follow its groups, as in `negative|Anger`. None if nothing is rated,
    "ambiguous" if two labels share the highest mean.
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
        raise _DamagedRow("no picture in its image column")
    if not isinstance(cell, dict):
        raise CorpusError(f"{where}: no picture in its image column, but {type(cell).__name__}; is it another column?")
    if cell["bytes"]:
        return cell["bytes"]
    try:
        with fsspec.open(cell["path"], "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise _DamagedRow(f"no such file as {cell['path']}") from None
