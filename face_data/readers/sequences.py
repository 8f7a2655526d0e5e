"""Readers of recorded expressions, CK+ and Oulu-CASIA: sequences from the neutral face to the full expression.

The paper selects frames by the protocol of Liu et al. (CVPR 2014): the first frame of a sequence is neutral, and the
last three show the expression. split is the person's fold, "1" to "10" (`face_data.protocol`). `READERS` has the names
of the readers. Read `face_data.expression_pairs` next.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from face_data.protocol import person_folds
from face_data.readers.source import (
    EXPRESSION_NAMES,
    Photograph,
    first_existing,
    folders_in,
    images_in,
    read_lines,
)
from face_data.table import CorpusError

# The publisher's codes 0 to 7
CKPLUS_EMOTIONS = ("neutral", "anger", "contempt", "disgust", "fear", "happy", "sad", "surprise")
CKPLUS_LABEL = re.compile(r"(S\d+)_(\d+)_\d+_emotion\.txt")


def read_ckplus(source: Path) -> Iterator[Photograph]:
    """The Extended Cohn-Kanade Dataset (Lucey et al. 2010): `cohn-kanade-images/` and `Emotion/`.

    It has 593 sequences of 123 people. Only the 327 sequences (of 118 people) with an emotion label are read.
    """
    images = first_existing(source, "cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")
    labels = first_existing(source, "Emotion", "Emotion_labels/Emotion")
    sequences = [  # the name of a label file contains person and sequence, so its folder is not important
        (*match.groups(), path)
        for path in sorted(labels.rglob("*_emotion.txt"))  # macOS's ._ files do not match the pattern
        if (match := CKPLUS_LABEL.fullmatch(path.name))
    ]
    fold_of = person_folds(person for person, _, _ in sequences)
    for person, number, label in sequences:
        try:
            emotion = _ckplus_emotion(label)
        except CorpusError as error:
            refused = str(error).removeprefix(f"{label}: ")
            yield Photograph(f"{person}/{number}/{label.name}", label, person, split=fold_of[person], refused=refused)
            continue
        yield from _frames(images / person / number, person, emotion, fold_of[person])


def read_oulucasia(source: Path) -> Iterator[Photograph]:
    """Oulu-CASIA NIR&VIS (Zhao et al. 2011), visible light, strong illumination: `OriginalImg/VL/Strong/P001/Anger/`.

    SOURCE is the publisher's folder, or any folder between it and VL. If both the original and the pre-processed
    images exist, the originals are read. 80 people show six expressions each.
    """
    folders = [folder for depth in ("", "*/", "*/*/") for folder in sorted(source.glob(f"{depth}VL*/Strong"))]
    if not folders:
        raise CorpusError(f"{source} contains no VL/Strong: give Oulu-CASIA's OriginalImg, or its parent folder")
    strong = next((folder for folder in folders if folder.parent.parent.name.endswith("OriginalImg")), folders[0])
    people = folders_in(strong)
    fold_of = person_folds(person.name for person in people)
    for person in people:
        for folder in folders_in(person):
            expression = EXPRESSION_NAMES.get(folder.name.strip().lower())
            if expression is None:
                key, refused = f"{person.name}/{folder.name}", f"unknown expression {folder.name[:40]!r}"
                yield Photograph(key, folder, person.name, split=fold_of[person.name], refused=refused)
            else:
                yield from _frames(folder, person.name, expression, fold_of[person.name])


def _frames(folder: Path, person: str, expression: str, fold: str) -> Iterator[Photograph]:
    """The first and the last three frames of a sequence, with keys such as `S005/001/S005_001_00000001.png`."""
    frames = images_in(folder) if folder.is_dir() else []
    if len(frames) < 4:
        refused = f"a damaged sequence: {len(frames)} frames, and it should have 4 or more"
        yield Photograph(f"{person}/{folder.name}", folder, person, split=fold, refused=refused)
        return
    for frame, label in zip([frames[0], *frames[-3:]], ["neutral", *[expression] * 3], strict=True):
        yield Photograph(f"{person}/{folder.name}/{frame.name}", frame, person, label, split=fold)


def _ckplus_emotion(label: Path) -> str:
    """The emotion of a label file, which contains one number such as `   3.0000000e+00`."""
    text = " ".join(read_lines(label)).strip()
    try:
        return CKPLUS_EMOTIONS[range(8).index(float(text))]
    except ValueError:
        raise CorpusError(f"{label}: expected an emotion code 0 to 7, found {text!r}") from None
