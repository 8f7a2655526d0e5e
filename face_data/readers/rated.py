"""Readers of photographs with expressions rated by annotators, without identities: RAF-DB, AffectNet, EmoNet-Face.

`READERS` has their names. Read `generic` next.
"""

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from face_data.readers.generic import read_hub
from face_data.readers.source import (
    CROP_BORDER,
    Photograph,
    existing,
    file_finder,
    first_existing,
    images_in,
    is_system_name,
    normalised_stem,
    open_text,
    read_lines,
    require,
)
from face_data.table import CorpusError

RAF_EMOTIONS = dict(enumerate(("surprise", "fear", "disgust", "happy", "sad", "anger", "neutral"), start=1))

# The publisher's codes 0 to 7; the codes 8 to 10 mean none of these, uncertain, and no face
AFFECTNET_EMOTIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
AFFECTNET_CODES = 11
AFFECTNET_COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
AFFECTNET_LISTS = {"train": "training.csv", "valid": "validation.csv"}

# Categories of EmoNet-Face -> expression. Photographs of the other categories (of forty) are counted as skipped
EMONET_EXPRESSIONS = {
    "amusement": "happy",
    "elation": "happy",
    "astonishment/surprise": "surprise",
    "fear": "fear",
    "sadness": "sad",
    "anger": "anger",
    "disgust": "disgust",
    "contempt": "contempt",
}


def read_raf_db(source: Path) -> Iterator[Photograph]:
    """RAF-DB's basic set (Li et al. 2017): `EmoLabel/list_patition_label.txt` and `Image/original` or `Image/aligned`.

    SOURCE is the folder `basic`, or its parent folder. If both the original and the aligned images
    (`train_00001_aligned.jpg`, 100 x 100 pixels) exist, the originals are read. split is train or test.
    """
    labels = first_existing(
        source,
        "EmoLabel/list_patition_label.txt",
        "basic/EmoLabel/list_patition_label.txt",
        "list_patition_label.txt",
        "basic/list_patition_label.txt",
    )
    parents = ("Image/", "basic/Image/", "", "basic/")
    images = first_existing(source, *(f"{parent}{kind}" for kind in ("original", "aligned") for parent in parents))
    suffix, crop = ("_aligned", {"enlarge": 2, "border": CROP_BORDER}) if images.name == "aligned" else ("", {})
    find, labelled = file_finder(images), set()
    for number, line in enumerate(read_lines(labels), start=1):
        if not (words := line.split()):
            continue
        split = words[0].partition("_")[0]
        if len(words) != 2 or split not in ("train", "test") or words[1] not in map(str, RAF_EMOTIONS):
            refused = f"a damaged row: line {number}, expected `train_00001.jpg 5`, found {line[:80]!r}"
            yield Photograph(f"{labels.name}, line {number}", images, split="train", refused=refused, **crop)
            continue
        name = Path(words[0])
        path = find(f"{name.stem}{suffix}{name.suffix}")
        labelled.add(path)
        yield Photograph(path.name, path, expression=RAF_EMOTIONS[int(words[1])], split=split, **crop)
    for path in images_in(images, deep=False):
        if path not in labelled:
            yield Photograph(path.name, path, split="train", refused=f"{labels.name} does not name it", **crop)


def read_affectnet(source: Path) -> Iterator[Photograph]:
    """AffectNet (Mollahosseini et al. 2017) in either form: with the publisher's csv files, or with `.npy` annotations.

    The first form has `training.csv` and `validation.csv`, in `Manually_Annotated_file_lists` or beside the folder of
    images, `Manually_Annotated_Images`. The second form has `train_set` and `val_set`, each with `images/0.jpg` and
    `annotations/0_exp.npy`. One of the splits is enough; they become train and valid. Photographs with the labels none,
    uncertain and no face are not read. Contempt, the eighth class, is read; a network with seven classes ignores it.
    """
    if any((source / name).is_dir() for name in ("train_set", "val_set")):
        yield from _affectnet_arrays(source)
        return
    lists = [
        (split, labels)
        for split, name in AFFECTNET_LISTS.items()
        if (labels := existing(source, name, f"Manually_Annotated_file_lists/{name}"))
    ]
    if not lists:
        raise CorpusError(
            f"{source} contains neither training.csv, validation.csv nor train_set: give AffectNet's folder"
        )
    folders = ("", "Manually_Annotated/", "Manually_Annotated_compressed/")
    images = first_existing(source, *(f"{folder}Manually_Annotated_Images" for folder in folders))
    for split, path in lists:
        with open_text(path) as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if header[:1] != ["subDirectory_filePath"]:  # validation.csv of some releases has no header
                rows, header = itertools.chain([header], rows), list(AFFECTNET_COLUMNS)
            if not {"subDirectory_filePath", "expression"} <= set(header):
                raise CorpusError(f"{path}: its first line must name subDirectory_filePath and expression")
            name_column, label_column = header.index("subDirectory_filePath"), header.index("expression")
            find = file_finder(images)
            for number, row in enumerate(filter(None, rows), start=1):
                if len(row) <= max(name_column, label_column):
                    refused = f"a damaged row: photograph {number}, {len(row)} columns instead of {len(header)}"
                    yield Photograph(f"{path.name}, photograph {number}", images, split=split, refused=refused)
                    continue
                name = row[name_column].strip().replace("\\", "/")
                yield from _affectnet_photograph(name, find(name), row[label_column], split)


def _affectnet_arrays(source: Path) -> Iterator[Photograph]:
    for split, folder in (("train", "train_set"), ("valid", "val_set")):
        if not (source / folder).is_dir():
            continue
        labels = [
            path for path in require(source / folder / "annotations").glob("*_exp.npy") if not is_system_name(path.name)
        ]
        images = source / folder / "images"
        image_of = {normalised_stem(path): path for path in images_in(images, deep=False)} if images.is_dir() else {}
        for path in sorted(labels, key=lambda path: (len(path.name), path.name)):  # 2 before 10
            name = path.name.removesuffix("_exp.npy") + ".jpg"
            image = image_of.pop(normalised_stem(name), images / name)
            try:
                code = str(np.load(path, allow_pickle=False))
            except (ValueError, OSError, EOFError) as error:
                code = f"damaged: {error}"
            yield from _affectnet_photograph(f"{folder}/{name}", image, code, split, border=CROP_BORDER)
        for path in image_of.values():
            yield Photograph(
                f"{folder}/{path.name}", path, split=split, refused="it has no annotation of an expression"
            )


def _affectnet_photograph(key: str, image: Path, code: str, split: str, border: float = 0.0) -> Iterator[Photograph]:
    """One photograph, refused if its label is damaged; none if the label is not an expression."""
    try:
        number = range(AFFECTNET_CODES).index(float(code))
    except ValueError:
        yield Photograph(key, image, split=split, refused=f"a damaged label: {code[:40]!r} is no number from 0 to 10")
        return
    if number < len(AFFECTNET_EMOTIONS):
        yield Photograph(key, image, expression=AFFECTNET_EMOTIONS[number], split=split, border=border)


def read_emonet_face(
    source: str | Path, revision: str | None = None, config: str | None = None, split: str | None = None
) -> Iterator[Photograph]:
    """EmoNet-Face (LAION 2025), generated: `laion/emonet-face-hq`, `-binary` or `-big` of the Hub, or its folder.

    Annotators rated forty categories. The label is the category with the highest rating if EMONET_EXPRESSIONS has it.
    The other photographs are skipped, and counted by category.
    """
    yield from read_hub(
        source,
        expression_column="annotations",
        revision=revision,
        config=config,
        split=split,
        expression_map=",".join(f"{category}={name}" for category, name in EMONET_EXPRESSIONS.items()),
    )
