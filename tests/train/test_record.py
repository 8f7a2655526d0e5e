"""The record of a checkpoint covers all stages and models from which it was made."""

import json

from checkpoints import training_stages
from train.record import all_splits, averaged_record, record_of


def stage(name: str, **more) -> dict:
    """A stage in a list of stages, without the fields that only a separate file has."""
    return {"config": {"out": name}, "minutes": 2.5, "validations": [{"step": 2}]} | more


def test_the_stages_of_an_averaged_record_are_listed_once():
    stages = [stage("first", started_from=None), stage("second", started_from=1)]
    third = stage("third", started_from=2, validations=[{"step": 1}, {"step": 2}])
    other = stage("other", started_from=1, earlier_stages=stages[:1])
    listed = training_stages(averaged_record([third | {"earlier_stages": stages}, other], [0.7, 0.3]))
    assert [entry["config"]["out"] for entry in listed] == ["first", "second", "other", "third"]
    assert [entry["started_from"] for entry in listed] == [None, 1, 1, 2]
    assert listed[3]["averaged_with"] == [3] and listed[3]["shares"] == [0.7, 0.3]
    assert all(entry["validations"] == [{"step": 2}] and entry["minutes"] == 2.5 for entry in listed)
    assert training_stages({}) == [{"started_from": None}]


def test_the_stages_of_two_records_are_merged_into_one_list():
    """A stage from which both started is listed once, although its numbers differ in the two records."""
    base = stage("base", started_from=None)
    first = stage("one", started_from=1, expression_teachers=[1, None], earlier_stages=[base])
    second = stage("other", started_from=2, earlier_stages=[stage("before", started_from=None), base])
    mean = averaged_record([first, second], [0.5, 0.5])
    assert mean["started_from"] == 1 and mean["averaged_with"] == [3] and mean["expression_teachers"] == [1, None]
    names = ["base", "before", "other"]
    assert [earlier["config"]["out"] for earlier in mean["earlier_stages"]] == names
    assert mean["earlier_stages"][2]["started_from"] == 1
    stages = training_stages(mean)
    assert [entry["config"]["out"] for entry in stages] == [*names, "one"] and stages[:3] == mean["earlier_stages"]


def test_the_splits_of_several_trainings_are_united_and_unknown_if_one_is_unknown():
    first, second = {"lfw": ["1", "2"], "ferplus": ["train"]}, {"lfw": ["2", "3"], "drawn": ["train"]}
    assert all_splits([first, second]) == {"drawn": ["train"], "ferplus": ["train"], "lfw": ["1", "2", "3"]}
    assert all_splits([first]) == first
    assert all_splits([first, None]) is None


def test_the_record_of_a_run_is_read_from_its_folder_or_its_last_model(tmp_path):
    assert record_of(str(tmp_path)) is None and record_of("user/model") is None
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "training.json").write_text(json.dumps({"steps": 1}))
    assert record_of(str(tmp_path)) == {"steps": 1}
    (tmp_path / "training.json").write_text(json.dumps({"steps": 2}))
    assert record_of(str(tmp_path)) == {"steps": 2}
