"""Pairs across expressions: generated pairs of CK+ and Oulu-CASIA, and pair files of the paper's authors."""

from collections import Counter, defaultdict

import pytest

from face_data.__main__ import main
from face_data.expression_pairs import authors_pairs, expression_pairs
from face_data.pairs import Pair, read_pairs
from face_data.readers import Photograph
from face_data.readers.sequences import read_ckplus
from face_data.table import CorpusError


def frames_of_sequence(person: str, number: int, expression: str, fold: int) -> list[Photograph]:
    """A neutral frame, then two frames of the expression."""
    shown = ("neutral", expression, expression)
    return [
        Photograph(f"{person}/{number:03d}/{person}_{number:03d}_{frame:08d}.png", b"", person, name, split=str(fold))
        for frame, name in enumerate(shown, start=1)
    ]


def sequences_of_people(count: int, fold: int, sequences: int = 2) -> list[Photograph]:
    return [
        photograph
        for person in range(count)
        for number in range(1, sequences + 1)
        for photograph in frames_of_sequence(f"S{fold}{person:02d}", number, ("happy", "sad", "fear")[number % 3], fold)
    ]


def test_each_input_has_one_genuine_and_one_impostor_reference():
    photographs = sequences_of_people(3, fold=2) + sequences_of_people(4, fold=10)
    of_key = {photograph.key: photograph for photograph in photographs}
    pairs = expression_pairs(photographs)
    assert [pair.fold for pair in pairs] == [2] * 3 * 4 * 2 + [10] * 4 * 4 * 2
    inputs = {photograph.key for photograph in photographs if photograph.expression != "neutral"}
    for same in (True, False):
        assert Counter(pair.first for pair in pairs if pair.same is same) == Counter(inputs)
    for pair in pairs:
        shown, reference = of_key[pair.first], of_key[pair.second]
        assert shown.expression != "neutral" and reference.expression == "neutral"
        assert shown.split == reference.split == str(pair.fold)
        assert (shown.identity == reference.identity) is pair.same
        assert pair.first.rpartition("/")[0] != pair.second.rpartition("/")[0]  # from different sequences


def test_a_person_with_one_sequence_is_compared_with_the_neutral_frame_of_it():
    pairs = expression_pairs(sequences_of_people(2, fold=1, sequences=1))
    genuine = [pair for pair in pairs if pair.same]
    assert {pair.second for pair in genuine} == {
        "S100/001/S100_001_00000001.png",
        "S101/001/S101_001_00000001.png",
    }
    assert len(genuine) == 4


def test_pairs_depend_only_on_the_photographs_and_the_seed():
    photographs = sequences_of_people(6, fold=1, sequences=3)
    assert expression_pairs(photographs) == expression_pairs(reversed(photographs))
    assert expression_pairs(photographs) != expression_pairs(photographs, seed=1)


def test_impostors_are_drawn_from_all_other_people_of_the_fold():
    pairs = expression_pairs(sequences_of_people(5, fold=1, sequences=3))
    impostors_of = defaultdict(set)
    for pair in pairs:
        if not pair.same:
            impostors_of[pair.first.split("/")[0]].add(pair.second.split("/")[0])
    assert all(len(others) >= 3 and person not in others for person, others in impostors_of.items())


def test_a_fold_with_one_person_has_no_pairs():
    assert expression_pairs(sequences_of_people(1, fold=3)) == []
    assert {
        pair.fold for pair in expression_pairs(sequences_of_people(1, fold=3) + sequences_of_people(2, fold=4))
    } == {4}


def test_a_complete_ckplus_has_ten_balanced_folds(ckplus):
    pairs = expression_pairs(read_ckplus(ckplus))
    counts = Counter((pair.fold, pair.same) for pair in pairs)
    assert sorted(counts) == sorted((fold, same) for fold in range(1, 11) for same in (True, False))
    assert all(counts[fold, True] == counts[fold, False] > 0 for fold in range(1, 11))
    assert len(pairs) == 2 * 3 * 327  # three photographs of an expression in each labelled sequence
    assert len(set(pairs)) == len(pairs)


HEADER = (
    "No.  Input_img    Ref_img    IdentityIssame     Expression_actual    Expression_require    Expression_ref    "
    "ExpressionIsrequire"
)
CKPLUS_ROOT = "/home/somebody/CK+/CK+_mtcnnpy_182_160"


def ckplus_key(person: str, number: str, frame: int) -> str:
    return f"{person}/{number}/{person}_{number}_{frame:08d}.png"


def authors_file(folder, rows) -> str:
    """Write a pair file. rows: (input, reference, same person), with the paths of the authors' computer."""
    lines = [
        f"{number}  {shown}  {reference}  {same}  5  5  0  True" for number, (shown, reference, same) in enumerate(rows)
    ]
    path = folder / "pairs.txt"
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return str(path)


KEYS = [
    ckplus_key(person, number, frame)
    for person in ("S010", "S011")
    for number in ("001", "002")
    for frame in (1, 12, 13)
]
GENUINE = [
    (f"{CKPLUS_ROOT}/{ckplus_key('S010', '001', 12)}", f"{CKPLUS_ROOT}/{ckplus_key('S010', '002', 1)}", True)
] * 12
IMPOSTORS = [
    (f"{CKPLUS_ROOT}/{ckplus_key('S011', '001', 13)}", f"{CKPLUS_ROOT}/{ckplus_key('S010', '002', 1)}", False)
] * 11


def test_the_authors_file_is_parsed_and_distributed_to_ten_folds(tmp_path):
    pairs = authors_pairs(authors_file(tmp_path, GENUINE + IMPOSTORS), KEYS)
    assert pairs[0] == Pair(1, ckplus_key("S010", "001", 12), ckplus_key("S010", "002", 1), True)
    assert pairs[12] == Pair(1, ckplus_key("S011", "001", 13), ckplus_key("S010", "002", 1), False)
    assert [pair.fold for pair in pairs] == [*range(1, 11), 1, 2, *range(1, 11), 1]


def test_frames_of_oulucasia_in_the_authors_file_are_found_by_their_number(tmp_path):
    root = "/home/somebody/Oulu-Casia/VL_Strong_mtcnnpy_182_160"
    rows = [(f"{root}/P022/Happiness/P022_Happiness_023.png", f"{root}/P022/Anger/P022_Anger_000.png", True)] * 10
    rows += [(f"{root}/P043/Surprise/P043_Surprise_022.png", f"{root}/P022/Anger/P022_Anger_000.png", False)] * 10
    keys = ["P022/Happiness/023.jpeg", "P022/Anger/000.jpeg", "P043/Surprise/022.jpeg", "P043/Surprise/000.jpeg"]
    pairs = authors_pairs(authors_file(tmp_path, rows), keys)
    assert pairs[0][1:] == ("P022/Happiness/023.jpeg", "P022/Anger/000.jpeg", True)
    assert pairs[10][1:] == ("P043/Surprise/022.jpeg", "P022/Anger/000.jpeg", False)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", "line 1: expected the names of 8 columns"),
        (lambda text: text.replace("No.", "10"), "line 1"),
        (lambda text: text.replace("  True  5", "  yes  5", 1), "line 2: expected `number input reference True"),
        (lambda text: text.replace("  5  5  0  True", "", 1), "line 2: expected"),
        (
            lambda text: text.replace("S010_001_00000012", "S010_001_00000099", 1),
            "line 2: the corpus has no photograph",
        ),
        (lambda text: text.replace(f"{CKPLUS_ROOT}/S010/001/", "", 1), "line 2: the corpus has no photograph S010_001"),
        (lambda text: text.replace("  False", "  True", 1), "line 14: says True of the people S011 and S010"),
        (lambda text: text.rsplit("\n", 3)[0], "12 genuine and 9 impostor pairs do not fill 10 folds"),
    ],
)
def test_damaged_authors_files_are_refused(tmp_path, damage, message):
    path = authors_file(tmp_path, GENUINE + IMPOSTORS)
    (tmp_path / "pairs.txt").write_text(damage((tmp_path / "pairs.txt").read_text()))
    with pytest.raises(CorpusError, match=rf"pairs\.txt.*{message}"):
        authors_pairs(path, KEYS)


def test_a_missing_authors_file_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="no such file; give a pair file as the paper's authors publish it"):
        authors_pairs(tmp_path / "pairs.txt", KEYS)


@pytest.fixture
def prepared_ckplus(tmp_path, faces):
    """A prepared CK+ with eleven people. Two people have two sequences, the others one."""
    source = tmp_path / "CK+"
    for person, face in (("S010", faces[0]), ("S020", faces[1]), *((f"S{n}", faces[2]) for n in range(101, 110))):
        for number in ("001", "002") if person < "S100" else ("001",):
            images, labels = source / "cohn-kanade-images" / person / number, source / "Emotion" / person / number
            images.mkdir(parents=True)
            labels.mkdir(parents=True)
            for frame in range(1, 5):
                (images / f"{person}_{number}_{frame:08d}.png").write_bytes(face)
            (labels / f"{person}_{number}_00000004_emotion.txt").write_text("   5.0000000e+00\n")
    out = tmp_path / "corpus"
    assert main(["prepare", "ckplus", str(source), str(out), "--size", "64", "--workers", "1"]) == 0
    return out


def test_the_authors_pairs_replace_the_generated_pairs_of_ckplus(prepared_ckplus, tmp_path, capsys):
    generated = read_pairs(prepared_ckplus)
    # eleven people in ten folds: only fold 1 has two people, the first and the eleventh
    assert {pair.fold for pair in generated} == {1}
    assert Counter(pair.same for pair in generated) == {True: 9, False: 9}
    assert all((pair.first[:4] == pair.second[:4]) is pair.same for pair in generated)

    rows = [
        (f"{CKPLUS_ROOT}/{ckplus_key('S010', '001', 3)}", f"{CKPLUS_ROOT}/{ckplus_key('S010', '002', 1)}", True)
    ] * 10
    rows += [(f"{CKPLUS_ROOT}/{ckplus_key('S010', '001', 1)}", f"{CKPLUS_ROOT}/{ckplus_key('S010', '001', 1)}", True)]
    rows += [
        (f"{CKPLUS_ROOT}/{ckplus_key('S020', '001', 3)}", f"{CKPLUS_ROOT}/{ckplus_key('S010', '002', 1)}", False)
    ] * 10
    assert main(["pairs", authors_file(tmp_path, rows), str(prepared_ckplus)]) == 0
    printed = capsys.readouterr().out
    assert "pairs.csv: 11 genuine and 10 impostor pairs, distributed to ten folds in turn" in printed
    assert "18 repeat an earlier pair (for another required expression)" in printed
    assert "1 compare a photograph with itself" in printed
    assert len(read_pairs(prepared_ckplus)) == 21

    assert (
        main(
            [
                "pairs",
                authors_file(tmp_path, [(f"{CKPLUS_ROOT}/S999/001/S999_001_00000001.png", "b", True)]),
                str(prepared_ckplus),
            ]
        )
        == 2
    )
    assert "line 2: the corpus has no photograph" in capsys.readouterr().err
    assert len(read_pairs(prepared_ckplus)) == 21  # a damaged file changes nothing
