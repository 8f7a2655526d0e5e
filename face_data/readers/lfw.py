"""Readers of Labeled Faces in the Wild, and of muxspace's `facial_expressions`, which also labels photographs of LFW.

`READERS` has their names. Read `face_data.pairs` next.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from face_data.readers.archives import images_of
from face_data.readers.source import (
    EXPRESSION_NAMES,
    Photograph,
    cell_value,
    images_in,
    normalised_stem,
    open_text,
    read_lines,
    require,
    table_rows,
)
from face_data.table import CorpusError

LFW_PHOTOGRAPH = re.compile(r".+_\d{4}\.jpe?g", re.IGNORECASE)


def read_lfw(source: Path, labels: Path | None = None) -> Iterator[Photograph]:
    """Labeled Faces in the Wild (UMass Amherst TR 07-49): `lfw-deepfunneled.tgz` or its folder, and `people.txt`.

    split is the person's fold of View 2, "1" to "10".

    Args:
        labels: the folder of muxspace `facial_expressions`, whose `data/legend.csv` labels some LFW photographs. If its
            rows contradict each other, a photograph has no label.
    """
    fold_of = lfw_folds(source / "people.txt")
    expressions = _legend(labels) if labels else {}
    for path, image in images_of(source, "lfw-deepfunneled"):
        person, file = path.parts[-2:]
        key = f"{person}/{path.stem}.jpg"  # the publisher's name, as in pairs.txt
        if person not in fold_of:
            refused = "people.txt names no such person" if len(path.parts) > 2 else "it lies in no person's folder"
            yield Photograph(key, image, refused=refused)
            continue
        labels_of = expressions.get(normalised_stem(file), ())
        expression = next(iter(labels_of)) if len(labels_of) == 1 else None
        yield Photograph(key, image, person, EXPRESSION_NAMES.get(expression), split=fold_of[person])


def lfw_folds(people_txt: Path) -> dict[str, str]:
    """Person -> fold "1".."10" of LFW View 2, from the publisher's `people.txt`."""
    lines = iter(read_lines(people_txt))
    fold_of = {}
    try:
        for fold in range(1, int(next(lines)) + 1):
            for _ in range(int(next(lines))):
                fold_of[next(lines).split()[0]] = str(fold)
    except (StopIteration, ValueError, IndexError):
        raise CorpusError(f"{people_txt} is damaged: a count does not match the lines after it") from None
    return fold_of


def read_facial_expressions(source: Path) -> Iterator[Photograph]:
    """muxspace `facial_expressions` (Apache-2.0 labels): its `images/`, with the labels of `data/legend.csv`.

    The file names of stills contain the actor's name; other photographs have no identity. The publisher's folder also
    contains LFW photographs, which are omitted here, because `read_lfw` reads them with their folds.
    """
    expressions = _legend(source)
    for path in images_in(require(source / "images"), deep=False):
        if LFW_PHOTOGRAPH.fullmatch(path.name):
            continue
        actor = path.stem.rpartition("_")[0]
        identity = actor if actor and "-" not in actor else None
        labels = expressions.get(normalised_stem(path), ())
        unknown = sorted(name for name in labels if name not in EXPRESSION_NAMES)
        yield Photograph(
            path.name,
            path,
            identity,
            EXPRESSION_NAMES.get(next(iter(labels))) if len(labels) == 1 else None,
            split="train",
            refused=f"unknown expression {unknown[0][:40]!r}" if unknown else None,
        )


def _legend(source: Path) -> dict[str, set[str]]:
    """Normalised stem of a photograph -> the expressions of its rows in muxspace's `legend.csv`."""
    labels_of = defaultdict(set)
    with open_text(source / "data" / "legend.csv") as file:
        rows = table_rows(file)
        if not {"image", "emotion"} <= set(rows.fieldnames):
            raise CorpusError(f"{file.name}: its first line must name image and emotion")
        for row in rows:
            image, emotion = cell_value(row["image"]), cell_value(row["emotion"])
            if image and emotion:  # an incomplete row is ignored
                labels_of[normalised_stem(image)].add(EXPRESSION_NAMES.get(emotion.lower(), emotion.lower()))
    return labels_of
