"""Judges a probe, which is a photograph or a clip: each frame, then all frames together.

The command line and `demo.offline` call it. Read `video` next, which reads the frames.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from authentication.authenticator import Authenticator, Evidence
from authentication.template import Template
from authentication.video import read_frames
from pipeline_facelivenet import FRAMES_TO_HOLD, Decision, decide_frames


@dataclass(frozen=True)
class JudgedFrame:
    """seconds: from the start of the clip; None for a photograph. evidence: None without a face."""

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
    """Judge a photograph or the sampled frames of a clip. on_decoded: see `read_frames`.

    Raises:
        UnreadableImageError: the message names the file and the cause.
    """
    for seconds, image in read_frames(path, on_decoded=on_decoded):
        evidence = authenticator.evidence(image)
        yield JudgedFrame(seconds, authenticator.decide(template, evidence, expression), evidence)


def decide_probe(frames: list[JudgedFrame], expression: str) -> Decision:
    """The decision for one probe, from all of its judged frames."""
    is_photograph = len(frames) == 1 and frames[0].seconds is None
    hold = 1 if is_photograph else FRAMES_TO_HOLD
    embeddings = [frame.evidence.embedding if frame.evidence else None for frame in frames]
    return decide_frames([frame.decision for frame in frames], expression, hold, embeddings)
