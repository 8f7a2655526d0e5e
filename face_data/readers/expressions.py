"""Readers of photographs with labels of expressions: FERPlus, FER2013, the London set.

`READERS` has their names. Read `archives` next.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from face_data.readers.archives import images_of, open_tar
from face_data.readers.source import (
    CROP_BORDER,
    EXPRESSION_NAMES,
    Photograph,
    cell_value,
    images_in,
    normalised_stem,
    open_text,
    read_lines,
    table_rows,
)
from face_data.table import CORPUS_EXPRESSIONS, CorpusError

# The images of FER have 48 pixels and end inside the chin. MTCNN finds a face in 79 % of them if they are enlarged by
# 3, and in 89 % if they are enlarged by 4 and have a border.
FER_ENLARGE = 4

FER2013_EMOTIONS = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # the publisher's codes 0 to 6
FER2013_SPLITS = {"Training": "train", "PublicTest": "valid", "PrivateTest": "test"}


def read_ferplus(source: Path) -> Iterator[Photograph]:
    """FERPlus (Barsoum et al. 2016) as Microsoft's tool writes it: `FER2013Train` and `FER2013Valid`, folders or tars.

    Ten annotators voted for one of eight expressions, "unknown" or "not a face". By the publisher's rules, a single
    vote is an outlier and is ignored. `expression` is the class with more than half of the remaining votes, otherwise
    None. `votes` is the fraction of each expression. Images that most annotators could not label are not read.
    """
    for split, name in (("train", "FER2013Train"), ("valid", "FER2013Valid")):
        folder = source / name
        rows = _labels(folder) if folder.is_dir() else _labels(source / f"{name}.tar")
        for path, image in images_of(source, name, suffix=".tar"):
            row = rows.pop(normalised_stem(path), ())
            if len(row) != 10:
                refused = "label.csv holds no ten votes for it"
                yield Photograph(f"{name}/{path.name}", image, split=split, refused=refused)
                continue
            votes = [count if count > 1 else 0 for count in row]
            # the order of the classes in FERPlus
            neutral, happy, surprise, sad, anger, disgust, fear, contempt, unknown, not_a_face = votes
            counts = (neutral, anger, disgust, fear, happy, sad, surprise, contempt)
            if sum(counts) == 0 or max(unknown, not_a_face) >= max(counts):
                continue
            highest = max(counts)
            yield Photograph(
                f"{name}/{path.name}",
                image,
                expression=CORPUS_EXPRESSIONS[counts.index(highest)] if highest > sum(votes) / 2 else None,
                votes=tuple(count / sum(counts) for count in counts),
                split=split,
                enlarge=FER_ENLARGE,
                border=CROP_BORDER,
            )
        for stem in rows:
            key = f"{name}/{stem}.png"
            yield Photograph(
                key, source / name / f"{stem}.png", split=split, refused="label.csv names it: no such file"
            )


def read_fer2013(source: Path) -> Iterator[Photograph]:
    """FER2013 (Goodfellow et al. 2013): `fer2013.csv` or its folder, without identities.

    Its columns are emotion (0 to 6), pixels (48 x 48 grey levels by rows) and Usage, which becomes the split: train,
    valid (PublicTest) or test (PrivateTest). key is the row of the image, as in FERPlus: `fer0000000.png` is the first.
    """
    path = source / "fer2013.csv" if source.is_dir() else source
    with open_text(path, errors="replace") as file:
        columns = table_rows(file).fieldnames  # icml_face_data.csv has " pixels"
        if not {"emotion", "pixels", "Usage"} <= set(columns):
            raise CorpusError(f"{path}: its first line must name emotion, pixels and Usage, as in fer2013.csv")
        # line by line, so that a quotation mark that is never closed damages only its row
        lines = ((line, text) for line, text in enumerate(file, start=2) if text.strip())
        for number, (line, text) in enumerate(lines):
            image, expression, split, refused = b"", None, None, None
            try:
                row = dict(zip(columns, next(csv.reader([text]), []), strict=False))
                expression = FER2013_EMOTIONS[_code(row.get("emotion", ""))]
                split = FER2013_SPLITS[row.get("Usage", "").strip()]
                image = _grey_png(row.get("pixels", ""))
            except (ValueError, LookupError, csv.Error) as error:
                cause = f"no {error}" if isinstance(error, KeyError) else str(error)
                refused = f"a damaged row: line {line}, {cause[:80]}"
            yield Photograph(
                f"fer{number:07d}.png",
                image,
                expression=expression,
                split=split,
                enlarge=FER_ENLARGE,
                border=CROP_BORDER,
                refused=refused,
            )


def read_london(source: Path) -> Iterator[Photograph]:
    """Face Research Lab London Set (DeBruine & Jones 2017): `ID_neutral.jpg` and `ID_happy.jpg`. For tests only.

    Attributes from the publisher's `info.csv` (face_id, age, gender, ethnicity): gender, ethnicity, and age_band, which
    is the decade (18-29, 30-39, …), because groups of a single age would be too small.
    """
    with open_text(source / "info.csv") as file:
        rows = table_rows(file)
        if not {"face_id", "age", "gender", "ethnicity"} <= set(rows.fieldnames):
            raise CorpusError(f"{source / 'info.csv'}: its first line must name face_id, age, gender and ethnicity")
        people = {(row["face_id"] or "").strip(): row for row in rows}
    for path in images_in(source, deep=False):
        person, _, label = path.stem.partition("_")
        attributes, expression, refused = dict.fromkeys(("gender", "ethnicity", "age_band")), None, None
        try:
            row = people[person]
            attributes = {"gender": cell_value(row["gender"]), "ethnicity": cell_value(row["ethnicity"])}
            attributes["age_band"] = _age_band(cell_value(row["age"]))
            expression = EXPRESSION_NAMES[label.strip().lower()]
        except KeyError as error:
            refused = f"its name or info.csv is damaged: no {error}"
        except ValueError as error:
            attributes["age_band"], refused = None, f"info.csv is damaged: {error}"
        yield Photograph(path.name, path, person, expression, split="test", attributes=attributes, refused=refused)


def _age_band(age: str | None) -> str | None:
    if age is None:
        return None
    years = float(age)
    if not 18 <= years < 120:  # the set has only adults; this also refuses nan, months and years of birth
        raise ValueError(f"age {age}")
    decade = int(years) // 10 * 10
    return "18-29" if years < 30 else f"{decade}-{decade + 9}"


def _code(digits: str) -> int:
    if not digits.strip().isdigit() or int(digits) >= len(FER2013_EMOTIONS):  # int() would take -1, the last emotion
        raise ValueError(f"emotion {digits!r}")
    return int(digits)


def _grey_png(pixels: str) -> bytes:
    levels = bytes(map(int, pixels.split()))
    if len(levels) != 48 * 48:
        raise ValueError(f"{len(levels)} pixels")
    file = io.BytesIO()
    Image.frombytes("L", (48, 48), levels).save(file, "PNG")
    return file.getvalue()


def _labels(source: Path) -> dict[str, list[int]]:
    """FERPlus `label.csv` (file, box, ten counts) in a folder or tar: normalised stem -> counts, [] if damaged."""
    if source.is_dir():
        lines = read_lines(source / "label.csv")
    else:
        with open_tar(source) as archive:
            member = next((name for name in archive.getnames() if Path(name).name == "label.csv"), None)
            if member is None:
                raise CorpusError(f"{source} contains no label.csv: give FERPlus as Microsoft's tool writes it")
            lines = archive.extractfile(member).read().decode("utf-8-sig").splitlines()
    counts = {}
    for row in csv.reader(lines):
        if row and row[0].strip():
            cells = [cell.strip() for cell in row[2:]]
            counts[normalised_stem(row[0])] = list(map(int, cells)) if all(map(str.isdigit, cells)) else []
    return counts
