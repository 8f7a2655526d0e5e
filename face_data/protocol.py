"""Which splits of a corpus are for training, validation and test, and ten folds by person.

Readers, training and evaluation call it; no other file decides what a split is for. Read `readers.sequences` next.
"""

from collections.abc import Iterable
from dataclasses import dataclass

FOLDS = 10


@dataclass(frozen=True)
class Protocol:
    """Names of splits of a prepared corpus; no person is in two of them.

    training: for the weights. validation: for the choice of epochs, recipes and thresholds. test: only reported, never
    used for a choice.
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def held_out(self) -> tuple[str, ...]:
        """The splits with people who were not used for training."""
        return self.validation + self.test


LFW = Protocol(tuple(str(fold) for fold in range(1, 9)), ("9",), ("10",))  # the folds of View 2
NAMED_SPLITS = Protocol(("train",), ("valid",), ("test",))  # FERPlus, drawn people and others


def fold_protocol(fold: int) -> Protocol:
    """The protocol of the cross-validation step that tests on `fold`.

    The validation fold is the next one (after the last fold, the first). For fold 3 of 10: training on 1, 2 and 5 to
    10, validation on 4, test on 3.

    Raises:
        ValueError: no such fold.
    """
    if not 1 <= fold <= FOLDS:
        raise ValueError(f"fold must be 1 to {FOLDS}, not {fold}")
    validation = fold % FOLDS + 1
    training = tuple(str(other) for other in range(1, FOLDS + 1) if other not in (fold, validation))
    return Protocol(training, (str(validation),), (str(fold),))


def person_folds(people: Iterable[str]) -> dict[str, str]:
    """Person -> fold "1".."10". In the order of their ids, the first and the eleventh person are in fold 1.

    This is the protocol that the paper cites for CK+ and Oulu-CASIA (Liu et al., CVPR 2014): the people are sorted by
    id, and every tenth person is in the same fold.

    Args:
        people: ids in any order.
    """
    return {person: str(number % FOLDS + 1) for number, person in enumerate(sorted(set(people)))}
