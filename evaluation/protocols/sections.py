"""The sections of results.json: the result of each protocol, and the circumstances of the measurement.

`corpus` makes them; `report.results` writes and reads them.
"""

from evaluation.protocols.decisions import DecisionsReport
from evaluation.protocols.degradations import DegradationsReport
from evaluation.protocols.expression import ExpressionReport
from evaluation.protocols.sessions import SessionsReport
from evaluation.protocols.slices import SlicesReport
from evaluation.protocols.verification import VerificationResult
from evaluation.statistics.rates import result


@result
class CorpusRecord:
    """The corpus's name, and how many images its preparation skipped; a corpus on the Hub only has its id."""

    name: str
    photographs: int | None = None
    prepared: int | None = None
    skipped_by_reason: dict[str, int] | None = None


@result
class Section:
    """One result of one protocol, and its circumstances.

    train_splits: the corpus's splits on which the network was trained; None if that is not recorded. warnings: why the
    result may not hold for new people. figures: kind -> file name of a PNG in the folder of results.json. seconds: of
    the network and the protocol together. versions: package -> version.
    """

    corpus: CorpusRecord
    splits: list[str]
    seed: int
    image_size: int
    train_splits: list[str] | None
    warnings: list[str]
    figures: dict[str, str]
    seconds: float | None = None
    date: str
    versions: dict[str, str]


@result
class VerificationSection(Section, VerificationResult):
    """The figures of verification."""


@result
class ExpressionSection(Section):
    """The figures of expression recognition."""

    report: ExpressionReport


@result
class AuthenticationSection(Section):
    """The figures of the joint decision, and the record of the thresholds' calibration from the checkpoint's config."""

    report: DecisionsReport
    calibration: dict | None


@result
class SessionsSection(Section):
    """The figures of simulated sessions."""

    report: SessionsReport


@result
class DegradationsSection(Section):
    """The figures of degraded images."""

    report: DegradationsReport


@result
class SlicesSection(Section):
    """The figures of each group of a corpus."""

    report: SlicesReport
