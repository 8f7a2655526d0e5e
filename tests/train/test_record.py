"""Whom a checkpoint was trained on, over everything it comes from."""

import json

from checkpoints import training_stages
from train.record import all_splits, averaged_record, record_of


def stage(name: str, **more) -> dict:
    """A stage as one of several, without what it has in a file of its own."""
    return {"config": {"out": name}, "minutes": 2.5, "validations": [{"step": 2}]} | more


def test_a_record_of_older_versions_has_every_stage_once():
    """They nest each earlier stage whole, as often as others stand on it."""

    def nested(name: str, start: dict | None, *others: dict) -> dict:
        more = {"averaged_with": list(others), "shares": [0.7, 0.3]} if others else {}
        return stage(name, started_from=start, validations=[{"step": 1}, {"step": 2}], **more)

    first = nested("first", None)
    second, other = nested("second", first), nested("other", first)
    record = nested("last", nested("third", second, other, first))
    stages = [
        stage("first", started_from=None),
        stage("second", started_from=1),
        stage("other", started_from=1),
    ]
    alone = stage("third", started_from=2)
    mean = averaged_record([alone | {"earlier_stages": stages[:2]}, stage("other", started_from=first)], [0.7, 0.3])
    assert training_stages(mean) == [*stages, alone | {"averaged_with": [3], "shares": [0.7, 0.3], "trained_on": None}]
    told = training_stages(record)
    assert [one["config"]["out"] for one in told] == ["first", "second", "other", "third", "last"]
    assert [one["started_from"] for one in told] == [None, 1, 1, 2, 4]
    assert told[3]["averaged_with"] == [3, 1] and told[3]["shares"] == [0.7, 0.3]
    assert all(one["validations"] == [{"step": 2}] and one["minutes"] == 2.5 for one in told)
    assert training_stages({}) == [{"started_from": None}]


def test_the_stages_of_two_records_become_one_list():
    """What both started from stands in it once, whatever number it has in each."""
    base = stage("base", started_from=None)
    one = stage("one", started_from=1, earlier_stages=[base])
    other = stage("other", started_from=2, earlier_stages=[stage("before", started_from=None), base])
    mean = averaged_record([one, other], [0.5, 0.5])
    assert mean["started_from"] == 1 and mean["averaged_with"] == [3]
    names = ["base", "before", "other"]
    assert [earlier["config"]["out"] for earlier in mean["earlier_stages"]] == names
    assert mean["earlier_stages"][2]["started_from"] == 1
    again = training_stages(mean)
    assert [found["config"]["out"] for found in again] == [*names, "one"] and again[:3] == mean["earlier_stages"]


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
