"""Which splits of a corpus are for training, for choices and for the test, and ten folds by person.

Called by readers, the training and the evaluation: no other file says what a split is for.
"""

from collections.abc import Iterable
from dataclasses import dataclass

FOLDS = 10


@dataclass(frozen=True)
class Protocol:
    """Names of splits, as a prepared corpus has them; nobody is in two of them.

    training: for the weights. choices: for epochs, recipes and thresholds. test: reported once, never chosen on.
    """

    training: tuple[str, ...]
    choices: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def held_out(self) -> tuple[str, ...]:
        """All people that the weights have not seen."""
        return self.choices + self.test


LFW = Protocol(tuple(str(fold) for fold in range(1, 9)), ("9",), ("10",))  # the folds of View 2
NAMED = Protocol(("train",), ("valid",), ("test",))  # FERPlus, drawn people and others whose splits have names


def fold_protocol(fold: int, folds: int = FOLDS) -> Protocol:
    """The protocol of cross-validation when `fold` is the one that is tested.

    Choices are made on the next fold (after the last the first). With fold 3 of 10: train on 1, 2 and 5 to 10, choose
    on 4, test on 3.

    Args:
        fold: 1 to folds.

    Raises:
        ValueError: no such fold, or fewer than three folds.
    """
    if folds < 3:
        raise ValueError(f"folds must be at least 3, to train, to validate and to test on, not {folds}")
    if not 1 <= fold <= folds:
        raise ValueError(f"fold must be 1 to {folds}, not {fold}")
    choices = fold % folds + 1
    training = tuple(str(other) for other in range(1, folds + 1) if other not in (fold, choices))
    return Protocol(training, (str(choices),), (str(fold),))


def person_folds(people: Iterable[str], folds: int = FOLDS) -> dict[str, str]:
    """Person -> fold "1".."10": the first by id is in fold 1, the eleventh too. They may come in any order.

    The protocol that the paper cites for CK+ and Oulu-CASIA (Liu et al., CVPR 2014): people in ascending order of their
    id, every tenth of them in the same fold.
    """
    return {person: str(place % folds + 1) for place, person in enumerate(sorted(set(people)))}
