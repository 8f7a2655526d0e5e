"""Ten folds by person, and the splits on which a run trains, validates and tests.

The protocol the paper cites for CK+ and Oulu-CASIA (Liu et al., CVPR 2014): people in ascending order of their id,
every tenth of them in the same fold. Nobody is in two folds. Called by readers, `train.folds` and the evaluation.
"""

from collections.abc import Iterable

FOLDS = 10


def person_folds(people: Iterable[str], folds: int = FOLDS) -> dict[str, str]:
    """Person -> fold "1".."10": the first by id is in fold 1, the eleventh too. They may come in any order."""
    return {person: str(place % folds + 1) for place, person in enumerate(sorted(set(people)))}


def fold_splits(fold: int, folds: int = FOLDS) -> tuple[list[str], list[str], list[str]]:
    """The splits to train, validate and test on when `fold` is the one that is tested.

    Validation is the next fold (after the last the first): epochs and thresholds are chosen there, never on the test
    fold. With fold 3 of 10: train on 1, 2 and 5 to 10, validate on 4, test on 3.

    Args:
        fold: 1 to folds.

    Returns:
        names of splits as a prepared corpus has them; each of the folds is in exactly one of the three.

    Raises:
        ValueError: no such fold, or fewer than three folds.
    """
    if folds < 3:
        raise ValueError(f"folds must be at least 3, to train, to validate and to test on, not {folds}")
    if not 1 <= fold <= folds:
        raise ValueError(f"fold must be 1 to {folds}, not {fold}")
    validation = fold % folds + 1
    train = [str(other) for other in range(1, folds + 1) if other not in (fold, validation)]
    return train, [str(validation)], [str(fold)]
