"""What a checkpoint's training record says about how it was trained, for comparisons and for runs over folds."""

from checkpoints import training_stages
from evaluation.statistics.rates import result

TASKS = ("verification", "expression")


@result
class TrainingSummary:
    """How a network was trained; None for everything that is not recorded.

    tasks: those it was trained for. A single-task stage trains the shared layers without the other branch, whose output
    is then meaningless, whatever an earlier stage had taught it. weighting: of the losses. w1, w2: the weights, the
    mean of the last steps where they are learnt. minutes_before: of the stages it started from. photographs_seen:
    samples of this stage. trained_on: source of images -> splits. penalty, validation_accuracy: of the classical
    baseline alone.
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
    network = record.get("config", {}).get("network", {}) | record.get("network", {})
    weighting = network.get("weighting", "dynamic") if record else None  # the default of the network's config
    stages = training_stages(record)
    before, number = 0.0, stages[-1]["started_from"]
    while number:
        before, number = before + stages[number - 1].get("minutes", 0.0), stages[number - 1]["started_from"]
    recorded = ("steps", "minutes", "photographs_seen", "device", "parameters", "trained_on")
    final = record.get("final", {})
    return TrainingSummary(
        tasks=[weighting] if weighting in TASKS else list(TASKS),
        weighting=weighting,
        w1=final.get("w1"),
        w2=final.get("w2"),
        minutes_before=before,
        **{name: record.get(name) for name in recorded},
    )
