"""Judges a probe, a photograph or a clip: its frames one by one, then together.

Called by the command line and by `demo.offline`. Next: `video`, which reads the frames.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from authentication.authenticator import Authenticator, Evidence
from authentication.template import Template
from authentication.video import read_frames
from pipeline_facelivenet import FRAMES_TO_HOLD, Decision, decide_frames


@dataclass(frozen=True)
class JudgedFrame:
    """seconds: from the clip's start, None for a photograph. evidence: None where there was no face."""

    seconds: float | None
    decision: Decision
    evidence: Evidence | None


def judge_frames(
    authenticator: Authenticator,
    template: Template,
    path: str,
    expression: str,
    on_decoded: Callable[[int], None] = lambda pixels: None,
) -> Iterator[JudgedFrame]:
    """Every frame of a photograph or clip that is looked at. on_decoded: see `read_frames`.

    Raises:
        UnreadableImageError: naming the file and the cause.
    """
    for seconds, image in read_frames(path, on_decoded=on_decoded):
        evidence = authenticator.look(image)
        yield JudgedFrame(seconds, authenticator.decide(template, evidence, expression), evidence)


def decide_probe(frames: list[JudgedFrame], expression: str) -> Decision:
    """The decision for one probe from all of its frames."""
    photograph = len(frames) == 1 and frames[0].seconds is None
    hold = 1 if photograph else FRAMES_TO_HOLD
    embeddings = [frame.evidence.embedding if frame.evidence else None for frame in frames]
    return decide_frames([frame.decision for frame in frames], expression, hold, embeddings)
