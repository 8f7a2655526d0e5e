"""One small function per published corpus: from the publisher's folder or archive to a stream of photographs.

To add a corpus, write a function that yields `Photograph`s and name it in READERS.
"""

import csv
import re
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from face_data.table import EXPRESSIONS, CorpusError

LFW_PHOTOGRAPH = re.compile(r".+_\d{4}\.jpg")

# The spellings of the publishers, lower-cased.
EXPRESSION_NAMES = {name: name for name in EXPRESSIONS} | {"happiness": "happy", "sadness": "sad"}


@dataclass(frozen=True)
class Photograph:
    """One photograph before anything was looked for in it.

    key: the publisher's name of it, unique in the corpus. image: where it lies, its encoded bytes, or (drawn faces)
    a function that makes it, called in the process that prepares it.
    votes: 8 probabilities in the order of EXPRESSIONS. enlarge, border: how a face cropped too tight for the detector
    is shown to it: scaled by `enlarge`, then its border pixels repeated over `border` times its side.
    """

    key: str
    image: Path | bytes | Callable[[], Image.Image]
    identity: str | None = None
    expression: str | None = None
    votes: tuple[float, ...] | None = None
    split: str | None = None
    enlarge: int = 1
    border: float = 0.0


def read_lfw(source: Path, labels: Path | None = None) -> Iterator[Photograph]:
    """Labeled Faces in the Wild (UMass Amherst TR 07-49): `lfw-deepfunneled.tgz` or its folder, and `people.txt`.

    split is the person's fold of View 2, "1" to "10". labels is the muxspace `facial_expressions` folder, whose
    `data/legend.csv` names LFW photographs among others; where its rows contradict each other there is no label.
    """
    fold_of = lfw_folds(source / "people.txt")
    expressions = _legend(labels) if labels else {}
    for path, image in _pictures(source, "lfw-deepfunneled"):
        person, file = path.parts[-2:]
        if person not in fold_of:
            raise CorpusError(f"{source / 'people.txt'} names no {person}, who is on {path}")
        yield Photograph(f"{person}/{file}", image, person, expressions.get(file), split=fold_of[person])


def lfw_folds(people_txt: Path) -> dict[str, str]:
    """Person -> fold "1".."10" of LFW View 2, from the publisher's `people.txt`."""
    lines = iter(_require(people_txt).read_text(encoding="utf-8").splitlines())
    fold_of = {}
    try:
        for fold in range(1, int(next(lines)) + 1):
            for _ in range(int(next(lines))):
                fold_of[next(lines).split("\t")[0]] = str(fold)
    except (StopIteration, ValueError):
        raise CorpusError(f"{people_txt} is damaged: a count does not fit what follows it") from None
    return fold_of


def read_facial_expressions(source: Path) -> Iterator[Photograph]:
    """muxspace `facial_expressions` (Apache-2.0 labels): its `images/`, with the labels of `data/legend.csv`.

    The actor stills carry the actor's name in the file name; other pictures have no identity. The publisher's folder
    also holds LFW photographs, which are left out: `read_lfw` reads them, with the folds that keep people apart.
    """
    expressions = _legend(source)
    for path in sorted(_require(source / "images").glob("*.jpg")):
        if LFW_PHOTOGRAPH.fullmatch(path.name):
            continue
        actor = path.stem.rpartition("_")[0]
        identity = actor if actor and "-" not in actor else None
        yield Photograph(path.name, path, identity, expressions.get(path.name), split="train")


def read_ferplus(source: Path) -> Iterator[Photograph]:
    """FERPlus (Barsoum et al. 2016) as Microsoft's tool writes it: `FER2013Train` and `FER2013Valid`, folders or tars.

    Ten annotators voted among eight expressions, "unknown" and "not a face". By the publisher's rules a single vote is
    an outlier and is dropped; `expression` is the class with more than half of what remains, otherwise null;
    `votes` shares the expressions' votes. Pictures that most annotators could not name have neither, and are not read.
    """
    for split, name in (("train", "FER2013Train"), ("valid", "FER2013Valid")):
        folder = source / name
        rows = _labels(folder) if folder.is_dir() else _labels(source / f"{name}.tar")
        for path, image in _pictures(source, name, suffix=".tar"):
            if len(rows.get(path.name, ())) != 10:
                raise CorpusError(f"{source / name}: label.csv holds no ten votes for {path.name}")
            votes = [count if count > 1 else 0 for count in rows[path.name]]
            # FERPlus orders the classes its own way
            neutral, happy, surprise, sad, anger, disgust, fear, contempt, unknown, not_a_face = votes
            named = (neutral, anger, disgust, fear, happy, sad, surprise, contempt)
            if sum(named) == 0 or max(unknown, not_a_face) >= max(named):
                continue
            top = max(named)
            yield Photograph(
                f"{name}/{path.name}",
                image,
                expression=EXPRESSIONS[named.index(top)] if top > sum(votes) / 2 else None,
                votes=tuple(count / sum(named) for count in named),
                split=split,
                enlarge=4,  # 48 pixels, cut inside the chin: MTCNN finds 79 % as they are at threefold size, 89 % so
                border=0.3,
            )


def read_london(source: Path) -> Iterator[Photograph]:
    """Face Research Lab London Set (DeBruine & Jones 2017): `ID_neutral.jpg` and `ID_happy.jpg`. For tests only."""
    for path in sorted(source.glob("*_*.jpg")):
        person, expression = path.stem.split("_")
        yield Photograph(path.name, path, person, expression, split="test")


READERS = {
    "lfw": read_lfw,
    "facial_expressions": read_facial_expressions,
    "ferplus": read_ferplus,
    "london": read_london,
}


def _require(path: Path) -> Path:
    if not path.exists():
        raise CorpusError(f"{path} is missing: give the folder as its publisher ships it")
    return path


def _legend(source: Path) -> dict[str, str]:
    """File name -> expression from muxspace's `legend.csv`; files whose rows disagree are left out."""
    named = defaultdict(set)
    with _require(source / "data" / "legend.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                named[row["image"]].add(EXPRESSION_NAMES[row["emotion"].lower()])
            except (KeyError, AttributeError):
                raise CorpusError(f"{file.name}: no image with a known emotion in {row}") from None
    return {image: names.pop() for image, names in named.items() if len(names) == 1}


def _labels(source: Path) -> dict[str, list[int]]:
    """FERPlus `label.csv` (file, box, ten counts), from a folder or a tar: file name -> counts."""
    if source.is_dir():
        text = _require(source / "label.csv").read_text(encoding="utf-8")
    else:
        with _opened(source) as archive:
            member = next((name for name in archive.getnames() if Path(name).name == "label.csv"), None)
            if member is None:
                raise CorpusError(f"{source} holds no label.csv: give FERPlus as Microsoft's tool writes it")
            text = archive.extractfile(member).read().decode()
    return {row[0]: list(map(int, row[2:])) for row in csv.reader(text.splitlines()) if row}


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(_require(archive)) as opened:
            yield opened
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise CorpusError(f"{archive} is damaged or incomplete ({error}); download it again") from error


def _pictures(source: Path, name: str, suffix: str = ".tgz") -> Iterator[tuple[Path, Path | bytes]]:
    """Relative path and content of every picture in folder `name` of source, or in the archive of that name."""
    if (source / name).is_dir():
        for path in sorted((source / name).rglob("*")):
            if path.suffix in (".jpg", ".png"):
                yield path.relative_to(source), path
        return
    with _opened(source / f"{name}{suffix}") as archive:
        for member in archive:
            path = Path(member.name)
            if member.isfile() and path.suffix in (".jpg", ".png"):
                yield path, archive.extractfile(member).read()
