"""Folds by person, and the splits for training, validation and test."""

import random
from collections import Counter

import pytest

from face_data.protocol import LFW, NAMED_SPLITS, Protocol, fold_protocol, person_folds

PEOPLE = [f"S{number:03d}" for number in range(5, 123)]  # 118 people, the number of labelled people in CK+


def test_every_tenth_person_is_in_the_same_fold():
    folds = person_folds(PEOPLE)
    assert [folds[person] for person in PEOPLE[:12]] == ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "1", "2"]
    assert Counter(folds.values()) == {str(fold): 12 if fold <= 8 else 11 for fold in range(1, 11)}
    assert set(folds) == set(PEOPLE)


def test_folds_do_not_depend_on_the_order_of_files():
    shuffled = PEOPLE * 3  # a person occurs once for each photograph
    random.Random(0).shuffle(shuffled)
    assert person_folds(shuffled) == person_folds(PEOPLE)


def test_training_validation_and_test_folds_do_not_overlap():
    all_folds = [str(fold) for fold in range(1, 11)]
    validated, tested = [], []
    for fold in range(1, 11):
        protocol = fold_protocol(fold)
        assert sorted(protocol.training + protocol.validation + protocol.test, key=int) == all_folds
        assert protocol.test == (str(fold),) and len(protocol.validation) == 1
        validated += protocol.validation
        tested += protocol.test
    assert sorted(validated, key=int) == tested == all_folds  # each fold is the validation fold once


def test_validation_is_the_next_fold():
    assert fold_protocol(3) == Protocol(("1", "2", "5", "6", "7", "8", "9", "10"), ("4",), ("3",))
    assert fold_protocol(10).held_out == ("1", "10")


@pytest.mark.parametrize("fold", [0, 11])
def test_folds_that_do_not_exist_are_refused(fold):
    with pytest.raises(ValueError, match=f"1 to 10, not {fold}"):
        fold_protocol(fold)


def test_no_split_has_two_roles_in_a_protocol():
    for protocol in (LFW, NAMED_SPLITS):
        splits = protocol.training + protocol.held_out
        assert len(set(splits)) == len(splits)
    assert sorted(LFW.training + LFW.held_out, key=int) == [str(fold) for fold in range(1, 11)]
