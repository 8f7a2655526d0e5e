"""Summarises the training record of a checkpoint (`training.json`): how the network was trained.

`compare.run` and `protocols.folds` use the summary. Read `checkpoints.training_stages` next.
"""

from checkpoints import training_stages
from evaluation.statistics.rates import result

TASKS = ("verification", "expression")


@result
class TrainingSummary:
    """How a network was trained; None for everything that is not recorded.

    tasks: those of the last stage. A stage with a single task changes the shared layers without the other branch. The
    output of that branch is then meaningless, even if an earlier stage trained it. If the stage kept the shared layers
    (`freeze_shared`), the tasks of the stage before are included. weighting: of the losses of the last stage. w1, w2:
    the weights; if they are learnt, the mean of the last steps. minutes_before: of the stages before the last.
    photographs_seen: training samples of the last stage. trained_on: source of images -> splits. penalty,
    validation_accuracy: only of the classical baseline.
    """

    tasks: list[str]
    weighting: str | None = None
    w1: float | None = None
    w2: float | None = None
    steps: int | None = None
    minutes: float | None = None
    minutes_before: float | None = None
    photographs_seen: int | None = None
    device: str | None = None
    parameters: int | None = None
    trained_on: dict[str, list[str]] | None = None
    penalty: float | None = None
    validation_accuracy: dict[str, float] | None = None


def summarise_training(record: dict) -> TrainingSummary:
    """The summary of a `training.json`, empty for a model without one (then both tasks are assumed)."""
    weighting = weighting_of(record) if record else None
    stages = training_stages(record)
    minutes_before, stage_number = 0.0, stages[-1]["started_from"]
    while stage_number:
        stage = stages[stage_number - 1]
        minutes_before += stage.get("minutes", 0.0)
        stage_number = stage["started_from"]
    recorded = ("steps", "minutes", "photographs_seen", "device", "parameters", "trained_on")
    final = record.get("final", {})
    return TrainingSummary(
        tasks=[task for task in TASKS if task in _trained_tasks(stages)],
        weighting=weighting,
        w1=final.get("w1"),
        w2=final.get("w2"),
        minutes_before=minutes_before,
        **{name: record.get(name) for name in recorded},
    )


def _trained_tasks(stages: list[dict]) -> set[str]:
    """The tasks of the last stage, and of the stages before as long as the shared layers are the same."""
    stage, tasks = stages[-1], set()
    while True:
        weighting = weighting_of(stage)
        tasks |= {weighting} if weighting in TASKS else set(TASKS)
        if not stage.get("config", {}).get("freeze_shared"):
            return tasks
        if not stage["started_from"]:
            return set(TASKS)  # the stage before has no record
        stage = stages[stage["started_from"] - 1]


def weighting_of(stage: dict) -> str:
    """The weighting of the losses in a stage; without a record the default of the network's config."""
    settings = stage.get("config", {}).get("network", {}) | stage.get("network", {})
    return settings.get("weighting", "dynamic")
