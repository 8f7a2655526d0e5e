"""Pairs of photographs for face verification: the publisher's, in `pairs.csv` of a prepared corpus, and generated ones.

`pairs.csv` has the header `fold,first,second,same`: fold counts from 1, first and second are keys of photographs (also
of those the preparation skipped), same is 1 for two photographs of one person (genuine) and 0 otherwise (impostor).
YouTube Faces pairs videos: there first and second are `Name/0`, with which the keys of a video's frames begin. CK+ and
Oulu-CASIA have pairs across expressions, which `face_data.expression_pairs` makes.
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
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from addresses import join, write_text
from face_data.named import corpus_folder
from face_data.table import CorpusError, read_summary

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
        CorpusError: the file is missing, ends early, goes on too long, or holds a line that is neither; names the line.
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
        raise CorpusError(f"{path}: {len(lines) - 1} pairs, but its first line promises {folds} x 2 x {per_kind}")
    pairs = []
    for number, fields in enumerate(lines[1:]):
        fold, within = divmod(number, 2 * per_kind)
        same = within < per_kind
        numbers = fields[1:] if same else fields[1::2]
        if len(fields) != (3 if same else 4) or not all(number.isdigit() for number in numbers):
            form = "name n1 n2" if same else "name1 n1 name2 n2"
            raise CorpusError(f"{path}, pair {number + 1}: expected `{form}`, found `{' '.join(fields)}`")
        first, first_number, second, second_number = [fields[0], fields[1], fields[0], fields[2]] if same else fields
        pairs.append(Pair(fold + 1, _lfw_key(first, first_number), _lfw_key(second, second_number), same))
    return pairs


def ytf_pairs(splits_txt: str | Path) -> list[Pair]:
    """Parse YouTube Faces' `splits.txt`: a header, then lines `1, 1, Anna_Berg/2, Cem_Kaya/0, 0`.

    They are the split, the pair's number in it (which may be missing), two videos and whether the person is the same.

    Raises:
        CorpusError: the file is missing or holds another line; names the line.
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
    """Write `pairs.csv` into the folder of a prepared corpus, or to its address; returns its path."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows((pair.fold, pair.first, pair.second, int(pair.same)) for pair in pairs)
    write_text(corpus, FILE, text.getvalue())
    return join(corpus, FILE)


def read_pairs(corpus: str | Path, missing_ok: bool = False) -> list[Pair]:
    """The pairs of a prepared corpus's pairs.csv, from a folder, an address or a Hub dataset id.

    Args:
        missing_ok: a corpus without the file has no pairs; otherwise that is an error.

    Raises:
        CorpusError: there is no such file, or a row cannot be read; names file and row.
    """
    folder = corpus_folder(corpus)
    path = folder / FILE
    if not folder.is_dir():
        path = _from_hub(corpus, FILE)
        if path is None and not missing_ok:
            raise CorpusError(f"{corpus}: this corpus has no pairs.csv")
    if missing_ok and (path is None or not path.exists()):
        return []
    if not path.is_file():
        raise CorpusError(
            f"{path} is missing: this corpus ships no pairs; LFW's, YTF's, CK+'s and Oulu-CASIA's are written with the "
            "corpus"
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


def _from_hub(dataset: str | Path, name: str) -> Path | None:
    try:
        return Path(hf_hub_download(str(dataset), name, repo_type="dataset"))
    except EntryNotFoundError:
        return None


def pairs_of_splits(corpus: str | Path, splits: Sequence[str] | None, keys: Iterable[str]) -> list[Pair]:
    """The publisher's pairs whose fold is one of these splits; None takes all. Empty where the corpus ships none.

    Args:
        keys: of the corpus's photographs.

    Raises:
        CorpusError: it lacks photographs of these pairs; names the folds.
    """
    pairs = [pair for pair in read_pairs(corpus, missing_ok=True) if splits is None or str(pair.fold) in splits]
    whole, absent = pairs_of_whole_folds(pairs, corpus, keys)
    if absent:
        raise CorpusError(f"{corpus}: {absent_text(absent, whole)}")
    return pairs


def pairs_of_whole_folds(
    pairs: Sequence[Pair], corpus: str | Path, keys: Iterable[str]
) -> tuple[list[Pair], dict[int, int]]:
    """The pairs of those folds whose photographs the corpus all has, or had and found no face in; and of each other
    fold, how many are absent.

    A photograph without a face is the detector's failure and counts against a system. One that was never there says
    nothing, so that a fold which lacks any is not judged.

    Args:
        corpus: its `corpus.json` names what the preparation skipped.
        keys: of its photographs; a video of the pairs (YouTube Faces' `Name/0`) is there if any of its frames is.
    """
    known = {*keys, *_skipped(corpus)} if pairs else set()
    known |= {key.rpartition("/")[0] for key in known}
    absent = defaultdict(set)
    for pair in pairs:
        absent[pair.fold].update({pair.first, pair.second} - known)
    counts = {fold: len(names) for fold, names in sorted(absent.items()) if names}
    return [pair for pair in pairs if pair.fold not in counts], counts


def absent_text(absent: Mapping[int, int], whole: Collection[Pair]) -> str:
    """Why the pairs of these folds cannot be judged, and which can be; both as `pairs_of_whole_folds` returns them."""
    able = ", ".join(map(str, sorted({pair.fold for pair in whole}))) or "none"
    lacking = ", ".join(map(str, absent))
    return (
        f"the corpus lacks {sum(absent.values()):,} photographs that pairs.csv names in fold {lacking}, so these are "
        f"not judged; folds that can be: {able}. Prepare the whole corpus"
    )


def _skipped(corpus: str | Path) -> list[str]:
    """Keys of the photographs in which the preparation found no face; none where that is not recorded."""
    folder = corpus_folder(corpus)
    if not folder.is_dir():
        record = _from_hub(corpus, "corpus.json")
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
    """All genuine pairs and a sample of impostor pairs among photographs, the same for the same photographs and seed.

    An impostor pair is drawn as in LFW's View 2: two different people, each as likely as any other, then one photograph
    of each; so the false accept rate speaks of strangers, not of the few people with hundreds of photographs.

    Args:
        keys, identities: one per photograph; photographs without identity are left out.
        impostors: how many impostor pairs, without repetition; all there are where there are fewer.
        genuine_per_person: at most so many genuine pairs of one person, sampled; None takes all. n photographs of a
            person make n (n - 1) / 2 pairs, so that one much photographed person can outnumber everybody else.

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
    if available <= 2 * impostors:  # so few that random draws would mostly repeat
        strangers = [pair for two in itertools.combinations(people, 2) for pair in itertools.product(*two)]
        strangers = [strangers[index] for index in rng.permutation(len(strangers))[:impostors]]
    else:
        drawn = {}
        while len(drawn) < impostors:
            first, second = sorted(rng.choice(len(people), 2, replace=False, shuffle=False))
            drawn[(people[first][rng.integers(sizes[first])], people[second][rng.integers(sizes[second])])] = None
        strangers = list(drawn)
    return [Pair(0, *pair, True) for pair in genuine] + [Pair(0, *pair, False) for pair in strangers]
