"""Readers of corpora with many people and without labels of expressions, for face verification.

`READERS` has their names. Read `recordio` next.
"""

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path

from face_data.pairs import ytf_pairs
from face_data.readers.recordio import read_recordio
from face_data.readers.source import (
    Photograph,
    existing,
    file_finder,
    first_existing,
    folders_in,
    images_in,
    photographs_of_people,
    read_lines,
)
from face_data.table import CorpusError

MS1M_TSV = "FaceImageCroppedWithAlignment.tsv"
CELEBA_SPLITS = {"0": "train", "1": "valid", "2": "test"}


def read_ms1m(source: Path) -> Iterator[Photograph]:
    """MS-Celeb-1M (Guo et al. 2016), aligned, in any of its published forms.

    Microsoft's `FaceImageCroppedWithAlignment.tsv` (or its folder), a folder per Freebase MID (`m.0107_f/`), or
    InsightFace's `train.rec`, where people have numbers.
    """
    folders = ("", "aligned_face_images/", "data/aligned_face_images/")
    tsv = source if source.is_file() else existing(source, *(f"{folder}{MS1M_TSV}" for folder in folders))
    if tsv:
        yield from _ms1m_rows(tsv)
    elif (source / "train.rec").exists():
        yield from read_recordio(source / "train.rec")
    else:
        yield from photographs_of_people(source, r"m\.\w+", "a Freebase MID", "train")


def read_casia_webface(source: Path) -> Iterator[Photograph]:
    """CASIA-WebFace (Yi et al. 2014): a folder per numbered person, `0000045/001.jpg`, or InsightFace's `train.rec`."""
    if (source / "train.rec").exists():
        yield from read_recordio(source / "train.rec")
    else:
        inner = source / "CASIA-WebFace"
        yield from photographs_of_people(inner if inner.is_dir() else source, r"\d+", "the number of a person", "train")


def read_vggface2(source: Path) -> Iterator[Photograph]:
    """VGGFace2 (Cao et al. 2018): `train/n000002/0001_01.jpg`, and other people in `test/`; one folder is enough."""
    data = first_existing(source, "train", "test", "data", "VGG-Face2/data")
    data = data.parent if data.name in ("train", "test") else data
    if not any((data / split).is_dir() for split in ("train", "test")):
        raise CorpusError(f"{data} contains neither train nor test: give VGGFace2 as its publisher ships it")
    for split in ("train", "test"):
        if (data / split).is_dir():
            yield from photographs_of_people(data / split, r"n\d{6}", "the number of a person such as n000002", split)


def read_celeba(source: Path) -> Iterator[Photograph]:
    """CelebA (Liu et al. 2015): `identity_CelebA.txt`, `list_eval_partition.txt`, and the images that they name.

    The text files may be in the publisher's folders Anno and Eval, the images in Img. If both the original images
    (`img_celeba`) and the aligned ones (`img_align_celeba`) exist, the originals are read.
    """
    folder = first_existing(
        source,
        "img_celeba",
        "Img/img_celeba",
        "img_align_celeba",
        "Img/img_align_celeba",
        "img_align_celeba_png",
        "Img/img_align_celeba_png",
    )
    inner = folder / folder.name  # some archives create it
    find = file_finder(inner if inner.is_dir() else folder)
    identities = first_existing(source, "identity_CelebA.txt", "Anno/identity_CelebA.txt")
    partition = first_existing(source, "list_eval_partition.txt", "Eval/list_eval_partition.txt")
    split_of = {words[0]: words[1] for _, words in _words(partition) if len(words) == 2}
    for number, words in _words(identities):
        if len(words) != 2:
            refused = f"a damaged row: line {number}, expected an image and a number, found {' '.join(words)[:80]!r}"
            yield Photograph(f"{identities.name}, line {number}", folder, refused=refused)
            continue
        name, identity = words
        split = CELEBA_SPLITS.get(split_of.get(name))
        refused = None if split else f"{partition.name} has no 0, 1 or 2 for it"
        yield Photograph(name, find(name), identity, split=split, refused=refused)


def read_ytf(source: Path) -> Iterator[Photograph]:
    """YouTube Faces (Wolf et al. 2011): every frame of `frame_images_DB/Name/0/`, or of `aligned_images_DB`.

    key is `Name/0/0.123.jpg`: person, video, frame. split is the person's fold in `splits.txt`, "1" to "10", or
    "unpaired" for a person who is not in the file. It is "all" if the file is missing or a person is in two folds.
    """
    folder = first_existing(source, "frame_images_DB", "aligned_images_DB")
    fold_of = _ytf_folds(source / "splits.txt")
    default_split = "unpaired" if fold_of else "all"
    for path in images_in(folder, deep=False):
        yield Photograph(path.name, path, split=default_split, refused="it lies in no person's folder")
    for person in folders_in(folder):
        for path in images_in(person):
            key = path.relative_to(folder).as_posix()
            yield Photograph(key, path, person.name, split=fold_of.get(person.name, default_split))


def _ytf_folds(splits_txt: Path) -> dict[str, str]:
    """Person -> fold; empty if the file is missing or two folds share a person."""
    fold_of = {}
    for pair in ytf_pairs(splits_txt) if splits_txt.exists() else ():
        for video in (pair.first, pair.second):
            if fold_of.setdefault(video.split("/")[0], str(pair.fold)) != str(pair.fold):
                return {}
    return fold_of


def _ms1m_rows(tsv: Path) -> Iterator[Photograph]:
    """Rows of MID, search rank, image URL, page URL, face id, rectangle and JPEG, the last two in base64.

    key is `MID/rank-face id.jpg`, as in the published lists of clean photographs.
    """
    with tsv.open("rb") as file:
        for number, line in enumerate(file, start=1):
            fields = line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n").split(b"\t")
            try:
                mid, rank, _, _, face, _, encoded = fields
                name = f"{mid.decode()}/{rank.decode()}-{face.decode()}.jpg"
                image = base64.b64decode(encoded, validate=True)
            except (ValueError, binascii.Error) as error:
                expected = f"expected 7 columns, from a Freebase MID to an image in base64 ({error})"
                if number == 1 or not line.endswith(b"\n"):  # not the right file, or it ends early
                    raise CorpusError(f"{tsv}, line {number:,}: {expected}; download it again") from None
                refused = f"a damaged row: line {number}, {expected}"
                yield Photograph(f"{tsv.name}, line {number}", b"", split="train", refused=refused)
                continue
            yield Photograph(name, image, mid.decode(), split="train")


def _words(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and words of every line that is not blank."""
    for number, line in enumerate(read_lines(path), start=1):
        if words := line.split():
            yield number, words
