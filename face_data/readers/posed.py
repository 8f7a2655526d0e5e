"""Readers of expressions posed in a laboratory, KDEF and JAFFE: the file names contain person and expression.

`READERS` has their names. Read `face_data.protocol` next, which divides the people into folds.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from face_data.protocol import person_folds
from face_data.readers.source import Photograph, existing, images_in, require
from face_data.table import CorpusError

# session A or B, F or M and the person's number, expression, angle
KDEF_NAME = re.compile(r"([AB])(?P<person>[FM]\d\d)(AF|AN|DI|HA|NE|SA|SU)(FL|HL|S|HR|FR)")
# the codes that KDEF and JAFFE have in common
CODES = {"AN": "anger", "DI": "disgust", "HA": "happy", "NE": "neutral", "SA": "sad", "SU": "surprise"}
KDEF_EXPRESSIONS = CODES | {"AF": "fear"}
KDEF_ANGLES = {"FL": "full left", "HL": "half left", "S": "straight", "HR": "half right", "FR": "full right"}

# person, expression and its number, number of the photograph
JAFFE_NAME = re.compile(r"\s*(?P<person>[A-Z]{2})\.(AN|DI|FE|HA|NE|SA|SU)(\d)\.(\d+)\s*")
JAFFE_EXPRESSIONS = CODES | {"FE": "fear"}


def read_kdef(source: Path) -> Iterator[Photograph]:
    """The Karolinska Directed Emotional Faces (Lundqvist et al. 1998): `KDEF/AF01/AF01AFS.JPG`, from five angles.

    Both sessions of a person, A and B, have one identity (`F01`). gender and angle are attributes; split is the
    person's fold, "1" to "10" (`face_data.protocol`). The averaged faces of AKDEF show no person and are not read.
    """
    folder = existing(source, "KDEF_and_AKDEF/KDEF", "KDEF") or source
    matched, fold_of = _matched_names(folder, KDEF_NAME, "AF01AFS.JPG: give KDEF's folder")
    for path, name in matched:
        key = path.relative_to(folder).as_posix()
        if name is None:
            unknown = {"gender": None, "angle": None}
            yield Photograph(key, path, attributes=unknown, refused="its name says no person, expression and angle")
            continue
        _, person, expression, angle = name.groups()
        attributes = {"gender": "female" if person[0] == "F" else "male", "angle": KDEF_ANGLES[angle]}
        yield Photograph(key, path, person, KDEF_EXPRESSIONS[expression], split=fold_of[person], attributes=attributes)


def read_jaffe(source: Path) -> Iterator[Photograph]:
    """Japanese Female Facial Expression (Lyons et al. 1998): `KA.AN1.39.tiff`, 213 photographs of ten women.

    split is the person's fold, "1" to "10", with one woman in each.
    """
    folder = existing(source, "jaffe", "jaffedbase") or source
    matched, fold_of = _matched_names(folder, JAFFE_NAME, "KA.AN1.39.tiff: give JAFFE's folder")
    for path, name in matched:
        key = path.relative_to(folder).as_posix()
        if name is None:
            yield Photograph(key, path, refused="its name says no person and expression")
        else:
            yield Photograph(key, path, name[1], JAFFE_EXPRESSIONS[name[2]], split=fold_of[name[1]])


def _matched_names(folder: Path, pattern: re.Pattern, example: str) -> tuple[list[tuple[Path, re.Match | None]], dict]:
    """Each image with the match of its file name (None if the name does not match), and the fold of each person."""
    matched = [(path, pattern.fullmatch(path.stem.upper())) for path in images_in(require(folder))]
    fold_of = person_folds(name["person"] for _, name in matched if name)
    if not fold_of:
        raise CorpusError(f"{folder} contains no photograph with a name such as {example}")
    return matched, fold_of
