"""Pairs of photographs for face verification: pairs of the publisher in `pairs.csv`, and generated pairs.

`pairs.csv` of a prepared corpus has the header `fold,first,second,same`. Folds count from 1. first and second are keys
of photographs, including skipped ones. same is 1 for a genuine pair (one person) and 0 for an impostor pair. The pairs
of YouTube Faces compare videos: the key of a video, such as `Name/0`, is the beginning of the keys of its frames.

`face_data.command` writes the pairs; the training and the evaluation read and generate pairs. Read `expression_pairs`
next, which makes the pairs of CK+ and Oulu-CASIA.
"""

import csv
import io
import itertools
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from addresses import join, write_text
from face_data.corpus import corpus_folder
from face_data.table import CorpusError, hub_file, read_summary

FILE = "pairs.csv"
YTF_VIDEO = re.compile(r"[^/]+/\d+")
HEADER = ["fold", "first", "second", "same"]


class Pair(NamedTuple):
    """Two photographs by key, whether they show the same person, and the fold (0 for generated pairs)."""

    fold: int
    first: str
    second: str
    same: bool


def lfw_pairs(pairs_txt: str | Path) -> list[Pair]:
    """Parse LFW's `pairs.txt` (View 2: a first line `10<tab>300`, then per fold 300 genuine and 300 impostor lines).

    Genuine lines are `name n1 n2`, impostor lines `name1 n1 name2 n2`; keys become `Name/Name_0001.jpg`.

    Raises:
        CorpusError: the file is missing, has too few or too many lines, or a wrong line; the message names the line.
    """
    path = Path(pairs_txt)
    if not path.is_file():
        raise CorpusError(f"{path}: no such file; give pairs.txt as LFW's publisher ships it")
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise CorpusError(f"{path} is not UTF-8 text; download it again") from None
    try:
        folds, per_kind = map(int, lines[0])
    except (IndexError, ValueError):
        raise CorpusError(f"{path}, line 1: expected the numbers of folds and of pairs, such as `10 300`") from None
    if len(lines) - 1 != folds * per_kind * 2:
        raise CorpusError(f"{path}: {len(lines) - 1} pairs, but its first line says {folds} x 2 x {per_kind}")
    pairs = []
    for number, fields in enumerate(lines[1:]):
        fold, number_in_fold = divmod(number, 2 * per_kind)
        same = number_in_fold < per_kind
        numbers = fields[1:] if same else fields[1::2]
        if len(fields) != (3 if same else 4) or not all(number.isdigit() for number in numbers):
            form = "name n1 n2" if same else "name1 n1 name2 n2"
            raise CorpusError(f"{path}, pair {number + 1}: expected `{form}`, found `{' '.join(fields)}`")
        first, first_number, second, second_number = [fields[0], fields[1], fields[0], fields[2]] if same else fields
        pairs.append(Pair(fold + 1, _lfw_key(first, first_number), _lfw_key(second, second_number), same))
    return pairs


def ytf_pairs(splits_txt: str | Path) -> list[Pair]:
    """Parse YouTube Faces' `splits.txt`: a header, then lines `1, 1, Anna_Berg/2, Cem_Kaya/0, 0`.

    The fields are the fold, the number of the pair in it (which may be missing), two videos, and 1 for the same person.

    Raises:
        CorpusError: the file is missing or has a wrong line; the message names the line.
    """
    path = Path(splits_txt)
    if not path.is_file():
        raise CorpusError(f"{path}: no such file; give splits.txt as YouTube Faces' publisher ships it")
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    pairs = []
    for number, line in enumerate(lines[1:], start=2):
        fields = [field.strip() for field in line.split(",")]
        if fields == [""]:
            continue
        videos = fields[-3:-1]
        if (
            len(fields) not in (4, 5)
            or not fields[0].isdigit()
            or not all(map(YTF_VIDEO.fullmatch, videos))
            or (fields[-1] not in ("0", "1"))
        ):
            raise CorpusError(f"{path}, line {number}: expected `split, pair, Name/0, Name/1, 0 or 1`, found `{line}`")
        pairs.append(Pair(int(fields[0]), *videos, fields[-1] == "1"))
    return pairs


def _lfw_key(person: str, number: str) -> str:
    return f"{person}/{person}_{int(number):04d}.jpg"


def write_pairs(corpus: str | Path, pairs: Iterable[Pair]) -> str:
    """Write `pairs.csv` to the folder or address of a prepared corpus, and return its path."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows((pair.fold, pair.first, pair.second, int(pair.same)) for pair in pairs)
    write_text(corpus, FILE, text.getvalue())
    return join(corpus, FILE)


def read_pairs(corpus: str | Path, missing_ok: bool = False) -> list[Pair]:
    """The pairs in `pairs.csv` of a prepared corpus.

    Args:
        corpus: folder, address or id of a dataset on the Hub.
        missing_ok: return no pairs if the file is missing; otherwise this is an error.

    Raises:
        CorpusError: the file is missing or has a wrong row; the message names file and row.
    """
    folder = corpus_folder(corpus)
    path = folder / FILE
    if not folder.is_dir():
        path = hub_file(corpus, FILE)
        if path is None and not missing_ok:
            raise CorpusError(f"{corpus}: this corpus has no pairs.csv")
    if missing_ok and (path is None or not path.exists()):
        return []
    if not path.is_file():
        raise CorpusError(
            f"{path} is missing: this corpus has no pairs; `prepare` writes those of LFW, YTF, CK+, Oulu-CASIA and the "
            "bin files"
        )
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if not rows or rows[0] != HEADER:
        raise CorpusError(f"{path}: its first line must be {','.join(HEADER)}")
    pairs = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != 4 or not row[0].isdigit() or row[3] not in ("0", "1"):
            raise CorpusError(f"{path}, line {number}: {','.join(row)} is not fold,first,second,0 or 1")
        pairs.append(Pair(int(row[0]), row[1], row[2], row[3] == "1"))
    return pairs


def pairs_of_splits(corpus: str | Path, splits: Sequence[str] | None, keys: Iterable[str]) -> list[Pair]:
    """The publisher's pairs of some folds; none if the corpus has no pairs.

    Args:
        splits: the folds; None means all.
        keys: of the photographs of the corpus.

    Raises:
        CorpusError: the corpus lacks photographs of these pairs; the message names the folds.
    """
    pairs = [pair for pair in read_pairs(corpus, missing_ok=True) if splits is None or str(pair.fold) in splits]
    complete, missing = pairs_of_complete_folds(pairs, corpus, keys)
    if missing:
        raise CorpusError(f"{corpus}: {missing_text(missing, complete)}")
    return pairs


def pairs_of_complete_folds(
    pairs: Sequence[Pair], corpus: str | Path, keys: Iterable[str]
) -> tuple[list[Pair], dict[int, int]]:
    """The pairs of the folds with all photographs, and the number of missing photographs in each other fold.

    A photograph without a detected face is an error of the detector, so the evaluation counts it. A photograph that was
    not in the source is no error of the system, so its fold is not evaluated.

    Args:
        corpus: its `corpus.json` lists the skipped photographs.
        keys: of its photographs; a video of YouTube Faces (`Name/0`) is present if one of its frames is present.

    Returns:
        pairs of complete folds, and a dictionary from each incomplete fold to the number of missing photographs.
    """
    present = {*keys, *_skipped(corpus)} if pairs else set()
    present |= {key.rpartition("/")[0] for key in present}
    missing = defaultdict(set)
    for pair in pairs:
        missing[pair.fold].update({pair.first, pair.second} - present)
    counts = {fold: len(names) for fold, names in sorted(missing.items()) if names}
    return [pair for pair in pairs if pair.fold not in counts], counts


def missing_text(missing: Mapping[int, int], complete: Collection[Pair]) -> str:
    """A sentence about the folds that cannot be evaluated; the arguments are results of `pairs_of_complete_folds`."""
    complete_folds = ", ".join(map(str, sorted({pair.fold for pair in complete}))) or "none"
    incomplete_folds = ", ".join(map(str, missing))
    return (
        f"the corpus lacks {sum(missing.values()):,} photographs that pairs.csv names in fold {incomplete_folds}, so "
        f"these folds are not evaluated; complete folds: {complete_folds}. Prepare the complete corpus"
    )


def _skipped(corpus: str | Path) -> list[str]:
    """Keys of the photographs that the preparation skipped; none if there is no corpus.json."""
    folder = corpus_folder(corpus)
    if not folder.is_dir():
        record = hub_file(corpus, "corpus.json")
        folder = record.parent if record else folder
    return [row["key"] for row in read_summary(folder)["skipped"]] if (folder / "corpus.json").exists() else []


def generate_pairs(
    keys: Sequence[str],
    identities: Sequence[str | None],
    *,
    impostors: int,
    seed: int,
    genuine_per_person: int | None = None,
) -> list[Pair]:
    """All genuine pairs of photographs, and a sample of impostor pairs; the same for the same photographs and seed.

    An impostor pair is drawn as in LFW's View 2: two different people with equal probability for each, then one
    photograph of each. Otherwise the few people with hundreds of photographs would determine the false accept rate.

    Args:
        keys, identities: one per photograph; photographs without identity are ignored.
        impostors: number of different impostor pairs; if there are fewer, all of them.
        genuine_per_person: largest number of genuine pairs of one person, sampled; None means all. n photographs of a
            person make n (n - 1) / 2 pairs, so one person with many photographs can have more pairs than all others.

    Returns:
        pairs with fold 0, genuine ones first.
    """
    photographs = defaultdict(list)
    for key, identity in sorted(zip(keys, identities, strict=True), key=lambda row: row[0]):
        if identity is not None:
            photographs[identity].append(key)
    people = [photographs[identity] for identity in sorted(photographs)]
    rng = np.random.default_rng(seed)

    genuine = []
    for keys_of_person in people:
        pairs = list(itertools.combinations(keys_of_person, 2))
        if genuine_per_person is not None and len(pairs) > genuine_per_person:
            pairs = [pairs[index] for index in np.sort(rng.choice(len(pairs), genuine_per_person, replace=False))]
        genuine += pairs

    sizes = np.array([len(keys_of_person) for keys_of_person in people])
    available = (sizes.sum() ** 2 - (sizes**2).sum()) // 2
    if available <= 2 * impostors:  # so few that random draws would repeat pairs often
        different = [pair for two in itertools.combinations(people, 2) for pair in itertools.product(*two)]
        different = [different[index] for index in rng.permutation(len(different))[:impostors]]
    else:
        drawn = {}
        while len(drawn) < impostors:
            first, second = sorted(rng.choice(len(people), 2, replace=False, shuffle=False))
            drawn[(people[first][rng.integers(sizes[first])], people[second][rng.integers(sizes[second])])] = None
        different = list(drawn)
    return [Pair(0, *pair, True) for pair in genuine] + [Pair(0, *pair, False) for pair in different]
