"""Pairs in the file of the publisher, pairs in the prepared corpus, and generated pairs."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from face_data.pairs import Pair, generate_pairs, lfw_pairs, read_pairs, write_pairs
from face_data.readers.lfw import lfw_folds
from face_data.table import CorpusError

SMALL = "2\t1\nAnna_Berg\t1\t12\nAnna_Berg\t2\tCem_Kaya\t1\nDana_Li\t3\t4\nDana_Li\t3\tEve_Roy\t10\n"


def test_lfw_file_is_parsed_by_fold_and_kind(tmp_path):
    (tmp_path / "pairs.txt").write_text(SMALL)
    assert lfw_pairs(tmp_path / "pairs.txt") == [
        Pair(1, "Anna_Berg/Anna_Berg_0001.jpg", "Anna_Berg/Anna_Berg_0012.jpg", True),
        Pair(1, "Anna_Berg/Anna_Berg_0002.jpg", "Cem_Kaya/Cem_Kaya_0001.jpg", False),
        Pair(2, "Dana_Li/Dana_Li_0003.jpg", "Dana_Li/Dana_Li_0004.jpg", True),
        Pair(2, "Dana_Li/Dana_Li_0003.jpg", "Eve_Roy/Eve_Roy_0010.jpg", False),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL.rsplit("\n", 2)[0], "3 pairs, but its first line says 2 x 2 x 1"),
        (SMALL.replace("Anna_Berg\t1\t12", "Anna_Berg\t1\tCem_Kaya\t1"), "pair 1: expected `name n1 n2`"),
        ("one two\n", "line 1"),
        ("", "line 1"),
    ],
)
def test_damaged_lfw_files_are_refused(tmp_path, text, message):
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(CorpusError, match=message):
        lfw_pairs(tmp_path / "pairs.txt")


def test_written_pairs_are_read_back(tmp_path):
    (tmp_path / "pairs.txt").write_text(SMALL)
    pairs = lfw_pairs(tmp_path / "pairs.txt")
    written = Path(write_pairs(tmp_path, pairs)).read_text()
    assert written.startswith("fold,first,second,same\n1,Anna_Berg/Anna_Berg_0001.jpg,")
    assert read_pairs(tmp_path) == pairs


@pytest.mark.parametrize("row", ["1,a,b", "1,a,b,yes", "x,a,b,1"])
def test_damaged_rows_are_named(tmp_path, row):
    (tmp_path / "pairs.csv").write_text(f"fold,first,second,same\n1,a,b,1\n{row}\n")
    with pytest.raises(CorpusError, match="line 3"):
        read_pairs(tmp_path)


def test_missing_pairs_are_reported(tmp_path):
    with pytest.raises(CorpusError, match=r"pairs\.csv is missing"):
        read_pairs(tmp_path)
    assert read_pairs(tmp_path, missing_ok=True) == []
    (tmp_path / "pairs.csv").write_text("fold,first,second,same\n1,a,b,perhaps\n")
    with pytest.raises(CorpusError, match="line 2"):
        read_pairs(tmp_path, missing_ok=True)  # missing_ok does not accept a damaged file


PEOPLE = {"a": 4, "b": 3, "c": 1, "d": 2}
KEYS = [f"{person}{number}" for person, count in PEOPLE.items() for number in range(count)]
IDENTITIES = [key[0] for key in KEYS]


def test_all_pairs_of_a_small_corpus_are_generated():
    pairs = generate_pairs([*KEYS, "x"], [*IDENTITIES, None], impostors=1000, seed=0)
    truth = {frozenset(pair): pair[0][0] == pair[1][0] for pair in combinations(KEYS, 2)}
    assert {frozenset((pair.first, pair.second)): pair.same for pair in pairs} == truth
    assert len(pairs) == len(truth)


def test_generated_pairs_depend_on_the_seed_and_not_on_the_order():
    def generate(seed, step):
        return generate_pairs(KEYS[::step], IDENTITIES[::step], impostors=5, seed=seed)

    assert generate(0, 1) == generate(0, -1)
    assert generate(0, 1) != generate(1, 1)
    assert len({frozenset(pair[1:3]) for pair in generate(0, 1)}) == len(generate(0, 1)) == 10 + 5


def test_the_number_of_genuine_pairs_of_a_person_is_limited():
    pairs = generate_pairs(KEYS, IDENTITIES, impostors=0, seed=0, genuine_per_person=2)
    assert Counter(pair.first[0] for pair in pairs) == {"a": 2, "b": 2, "d": 1}


def test_people_with_few_and_many_photographs_are_impostors_equally_often():
    keys = [f"a{number}" for number in range(300)] + [f"{person}0" for person in "bcdefghijk"]
    keys += [f"{person}{number}" for person in "bcdefghijk" for number in range(1, 20)]
    pairs = generate_pairs(keys, [key[0] for key in keys], impostors=2000, seed=0)
    people_in_impostors = Counter(key[0] for pair in pairs if not pair.same for key in pair[1:3])
    # a third if photographs were drawn instead of people
    assert people_in_impostors["a"] / sum(people_in_impostors.values()) == pytest.approx(1 / 11, abs=0.02)


@pytest.mark.real_data
def test_real_lfw_pairs_are_in_the_folds_of_their_people(real_data):
    """pairs.txt and people.txt have the same people in each fold, so a fold outside the training has unknown people."""
    fold_of = lfw_folds(real_data / "lfw" / "people.txt")
    assert len(fold_of) == 5749 and set(fold_of.values()) == {str(fold) for fold in range(1, 11)}
    for pair in lfw_pairs(real_data / "lfw" / "pairs.txt"):
        assert [fold_of[key.split("/")[0]] for key in pair[1:3]] == [str(pair.fold)] * 2


@pytest.mark.real_data
def test_real_lfw_pairs(real_data):
    pairs = lfw_pairs(real_data / "lfw" / "pairs.txt")
    assert len(pairs) == len(set(pairs)) == 6000
    folds = range(1, 11)
    assert Counter((pair.fold, pair.same) for pair in pairs) == {(f, s): 300 for f in folds for s in (True, False)}
    people = {fold: set() for fold in folds}
    for pair in pairs:
        first, second = pair.first.split("/")[0], pair.second.split("/")[0]
        assert (first == second) is pair.same
        people[pair.fold] |= {first, second}
    assert all(people[first].isdisjoint(people[second]) for first, second in combinations(people, 2))
