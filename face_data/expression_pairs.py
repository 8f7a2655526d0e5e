"""Pairs of photographs with different expressions, for CK+ and Oulu-CASIA: generated, or from files of the authors.

The paper's Table 3 verifies faces across expressions, but does not list its pairs. In the pair files of its authors, an
input with an expression is compared with a neutral reference, as in an authentication. The generated pairs do the same.
`face_data.command` calls this module. Read `readers.sequences` next.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from face_data.pairs import Pair
from face_data.protocol import FOLDS
from face_data.readers import Photograph
from face_data.table import CorpusError

AUTHORS_FIELDS = 8
FRAME = re.compile(r"(\d+)\.\w+")  # both S085_002_00000012.png and 012.jpeg are frame 12


def expression_pairs(photographs: Iterable[Photograph], seed: int = 0) -> list[Pair]:
    """Verification pairs within each fold: one genuine and one impostor pair for every photograph of an expression.

    This photograph is the input, `first`. The reference, `second`, is neutral. In the genuine pair it is of the same
    person, and of another sequence if there is one, because the neutral frame of the same sequence was recorded only a
    second earlier, with the same light and hair. In the impostor pair it is of another person of the fold, with equal
    probability for each. So genuine and impostor pairs have the same inputs, and differ only in the identity.

    Args:
        photographs: of sequences, with keys `person/sequence/frame`, identity, expression, and the fold as split.

    Returns:
        pairs by fold, then by input; the same for the same photographs and seed. A fold with one person has none.
    """
    neutral = defaultdict(lambda: defaultdict(list))  # fold -> person -> keys
    expressive = defaultdict(list)  # fold -> photographs
    for photograph in sorted(photographs, key=lambda photograph: photograph.key):
        if photograph.expression == "neutral":
            neutral[int(photograph.split)][photograph.identity].append(photograph.key)
        else:
            expressive[int(photograph.split)].append(photograph)
    rng = np.random.default_rng(seed)
    pairs = []
    for fold, inputs in sorted(expressive.items()):
        references = neutral[fold]
        if len(references) < 2:
            continue
        for photograph in inputs:
            genuine = references[photograph.identity]
            sequence = photograph.key.rpartition("/")[0]
            genuine = [key for key in genuine if key.rpartition("/")[0] != sequence] or genuine
            others = [person for person in references if person != photograph.identity]
            impostor = references[others[rng.integers(len(others))]]
            pairs.append(Pair(fold, photograph.key, genuine[rng.integers(len(genuine))], True))
            pairs.append(Pair(fold, photograph.key, impostor[rng.integers(len(impostor))], False))
    return pairs


def authors_pairs(pairs_file: str | Path, keys: Iterable[str]) -> list[Pair]:
    """Parse a pair file of the paper's authors, such as `IdentitySplit_3th_10fold_ckpluspairs.txt`.

    The first line has the names of the columns. The others have number, input, reference, `True` or `False` for the
    same person, and four columns about the expression. Input and reference are paths on the authors' machine. Their
    person, sequence and frame number identify a key of the corpus.

    Such a file has the people of one fold, so all its parts have the same people, and its genuine pairs come first. The
    authors divide it into ten parts in the order of its lines, so some parts have pairs of only one kind. Here the
    genuine pairs are distributed to the folds 1 to 10 in turn, and so are the impostor pairs. These folds are not
    related to the splits of the corpus.

    Args:
        keys: of all photographs of the corpus, including skipped ones.

    Raises:
        CorpusError: no such file; a line of another form, one that contradicts its paths, or one with a photograph that
            the corpus does not have; or fewer than ten pairs of a kind. The message names file and line.
    """
    path = Path(pairs_file)
    if not path.is_file():
        raise CorpusError(f"{path}: no such file; give a pair file as the paper's authors publish it")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or len(lines[0].split()) != AUTHORS_FIELDS or not lines[0].startswith("No."):
        raise CorpusError(f"{path}, line 1: expected the names of {AUTHORS_FIELDS} columns, `No. Input_img Ref_img …`")
    key_of = {frame: key for key in keys if (frame := _frame(key))}
    counts, pairs = Counter(), []  # genuine or impostor -> number of pairs
    for number, line in enumerate(lines[1:], start=2):
        where, fields = f"{path}, line {number}", line.split()
        if not fields:
            continue
        if len(fields) != AUTHORS_FIELDS or fields[3] not in ("True", "False"):
            raise CorpusError(f"{where}: expected `number input reference True …` in {AUTHORS_FIELDS} columns: {line}")
        frames = [_frame(name) for name in fields[1:3]]
        for name, frame in zip(fields[1:3], frames, strict=True):
            if frame not in key_of:
                raise CorpusError(f"{where}: the corpus has no photograph {name}; was it prepared from another one?")
        same = fields[3] == "True"
        if same != (frames[0][0] == frames[1][0]):
            raise CorpusError(f"{where}: says {same} of the people {frames[0][0]} and {frames[1][0]}")
        pairs.append(Pair(counts[same] % FOLDS + 1, *(key_of[frame] for frame in frames), same))
        counts[same] += 1
    if min(counts[True], counts[False]) < FOLDS:
        raise CorpusError(
            f"{path}: {counts[True]} genuine and {counts[False]} impostor pairs do not fill {FOLDS} folds"
        )
    return pairs


def _frame(path: str) -> tuple[str, str, int] | None:
    """Person, sequence and number of a frame, such as `("S085", "002", 12)`; None if the path does not name them."""
    parts = path.replace("\\", "/").split("/")[-3:]
    number = FRAME.search(parts[-1])
    return (parts[0].upper(), parts[1].lower(), int(number[1])) if len(parts) == 3 and number else None
