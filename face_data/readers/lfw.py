"""Readers of Labeled Faces in the Wild and of muxspace's `facial_expressions`, which labels expressions in LFW too."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from face_data.readers.archives import pictures_of
from face_data.readers.source import (
    Photograph,
    cell_value,
    expression_named,
    opened_text,
    pictures_in,
    read_lines,
    require,
)
from face_data.table import CorpusError

LFW_PHOTOGRAPH = re.compile(r".+_\d{4}\.jpe?g", re.IGNORECASE)


def read_lfw(source: Path, labels: Path | None = None) -> Iterator[Photograph]:
    """Labeled Faces in the Wild (UMass Amherst TR 07-49): `lfw-deepfunneled.tgz` or its folder, and `people.txt`.

    split is the person's fold of View 2, "1" to "10". labels is the muxspace `facial_expressions` folder, whose
    `data/legend.csv` names LFW photographs among others; where its rows contradict each other there is no label.
    """
    fold_of = lfw_folds(source / "people.txt")
    expressions = _legend(labels) if labels else {}
    for path, image in pictures_of(source, "lfw-deepfunneled"):
        person, file = path.parts[-2:]
        if person not in fold_of:
            raise CorpusError(f"{source / 'people.txt'} names no {person}, who is on {path}")
        yield Photograph(f"{person}/{file}", image, person, expressions.get(file), split=fold_of[person])


def lfw_folds(people_txt: Path) -> dict[str, str]:
    """Person -> fold "1".."10" of LFW View 2, from the publisher's `people.txt`."""
    lines = iter(read_lines(people_txt))
    fold_of = {}
    try:
        for fold in range(1, int(next(lines)) + 1):
            for _ in range(int(next(lines))):
                fold_of[next(lines).split()[0]] = str(fold)
    except (StopIteration, ValueError, IndexError):
        raise CorpusError(f"{people_txt} is damaged: a count does not fit what follows it") from None
    return fold_of


def read_facial_expressions(source: Path) -> Iterator[Photograph]:
    """muxspace `facial_expressions` (Apache-2.0 labels): its `images/`, with the labels of `data/legend.csv`.

    The actor stills carry the actor's name in the file name; other pictures have no identity. The publisher's folder
    also holds LFW photographs, which are left out: `read_lfw` reads them, with the folds that keep people apart.
    """
    expressions = _legend(source)
    for path in pictures_in(require(source / "images"), deep=False):
        if LFW_PHOTOGRAPH.fullmatch(path.name):
            continue
        actor = path.stem.rpartition("_")[0]
        identity = actor if actor and "-" not in actor else None
        yield Photograph(path.name, path, identity, expressions.get(path.name), split="train")


def _legend(source: Path) -> dict[str, str]:
    """File name -> expression from muxspace's `legend.csv`; files whose rows disagree are left out."""
    labels_of = defaultdict(set)
    with opened_text(source / "data" / "legend.csv") as file:
        for row in csv.DictReader(file):
            if not {"image", "emotion"} <= row.keys():
                raise CorpusError(f"{file.name}: its first line must name image and emotion")
            image, emotion = cell_value(row["image"]), cell_value(row["emotion"])
            if image and emotion:  # an unfinished row labels nothing
                labels_of[image].add(expression_named(emotion, file.name))
    return {image: names.pop() for image, names in labels_of.items() if len(names) == 1}
