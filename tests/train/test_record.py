"""Whom a checkpoint was trained on, over everything it comes from."""

import json

from train.record import all_splits, record_of


def test_what_several_trainings_saw_is_the_union_and_unknown_where_one_is():
    one, other = {"lfw": ["1", "2"], "ferplus": ["train"]}, {"lfw": ["2", "3"], "drawn": ["train"]}
    assert all_splits([one, other]) == {"drawn": ["train"], "ferplus": ["train"], "lfw": ["1", "2", "3"]}
    assert all_splits([one]) == one
    assert all_splits([one, None]) is None


def test_the_record_of_a_run_is_that_of_its_end_or_of_its_last_model(tmp_path):
    assert record_of(str(tmp_path)) is None and record_of("user/model") is None
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "training.json").write_text(json.dumps({"steps": 1}))
    assert record_of(str(tmp_path)) == {"steps": 1}
    (tmp_path / "training.json").write_text(json.dumps({"steps": 2}))
    assert record_of(str(tmp_path)) == {"steps": 2}
