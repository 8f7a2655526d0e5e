"""Pairs of photographs that differ in expression, for CK+ and Oulu-CASIA: made here, and from the authors' files.

The paper's Table 3 verifies faces across expressions and does not print its pairs. In the pairs files that its authors
publish, an input with some expression is compared with a neutral reference, as at an authentication; so here, too.
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
FRAME = re.compile(r"(\d+)\.\w+")  # S085_002_00000012.png is frame 12, and so is 012.jpeg


def expression_pairs(photographs: Iterable[Photograph], seed: int = 0) -> list[Pair]:
    """Verification pairs within each fold, one genuine and one impostor for every photograph of an expression.

    The photograph is the input, `first`. In its genuine pair the reference, `second`, is a neutral photograph of the
    same person, from another sequence wherever there is one: the neutral frame of its own was filmed a second earlier,
    under the same light and hair. In its impostor pair it is a neutral photograph of another person of the fold, each
    as likely as any other. So both kinds show the same inputs, equally often, and nothing but identity parts them.

    Args:
        photographs: of sequences, with keys `person/sequence/frame`, identity, expression and, as split, the fold.

    Returns:
        pairs by fold, then by input; the same for the same photographs and seed. A fold of one person has none.
    """
    neutral, shown = defaultdict(lambda: defaultdict(list)), defaultdict(list)  # fold -> person -> keys; fold -> inputs
    for photograph in sorted(photographs, key=lambda photograph: photograph.key):
        if photograph.expression == "neutral":
            neutral[int(photograph.split)][photograph.identity].append(photograph.key)
        else:
            shown[int(photograph.split)].append(photograph)
    rng = np.random.default_rng(seed)
    pairs = []
    for fold, inputs in sorted(shown.items()):
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
    """Parse a pairs file of the paper's authors (`IdentitySplit_3th_10fold_ckpluspairs.txt` and its like).

    After a line of column names come lines of number, input, reference, `True` or `False` for the same person, and four
    columns about the expression. Input and reference are paths on the authors' machine, of which person, sequence and
    the frame's number are looked up among the corpus's keys.

    Such a file is of the people of one fold, so that no part of it is free of the people of another, and its genuine
    pairs come first. The authors cut it into ten in the order of its lines, which leaves tenths of one kind; here the
    pairs of each kind are dealt to the folds 1 to 10 in turn. These folds say nothing about a corpus's splits.

    Args:
        keys: all of the corpus, also of photographs that were skipped.

    Raises:
        CorpusError: no such file, a line that is none of these, that contradicts its own paths or names a photograph
            the corpus does not know, or fewer than ten pairs of a kind; names file and line.
    """
    path = Path(pairs_file)
    if not path.is_file():
        raise CorpusError(f"{path}: no such file; give a pairs file as the paper's authors publish it")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or len(lines[0].split()) != AUTHORS_FIELDS or not lines[0].startswith("No."):
        raise CorpusError(f"{path}, line 1: expected the names of {AUTHORS_FIELDS} columns, `No. Input_img Ref_img …`")
    key_of = {frame: key for key in keys if (frame := _frame(key))}
    dealt, pairs = Counter(), []
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
        pairs.append(Pair(dealt[same] % FOLDS + 1, *(key_of[frame] for frame in frames), same))
        dealt[same] += 1
    if min(dealt[True], dealt[False]) < FOLDS:
        raise CorpusError(f"{path}: {dealt[True]} genuine and {dealt[False]} impostor pairs do not fill {FOLDS} folds")
    return pairs


def _frame(path: str) -> tuple[str, str, int] | None:
    """Person, sequence and number of a frame, `("S085", "002", 12)`; None where a path is too short to name them."""
    parts = path.replace("\\", "/").split("/")[-3:]
    number = FRAME.search(parts[-1])
    return (parts[0].upper(), parts[1].lower(), int(number[1])) if len(parts) == 3 and number else None
