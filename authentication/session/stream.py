"""Guard of the stream: like those of a camera, frames must be new, frequent enough, and without long gaps.

`machine` calls it for every frame. Read `person` next, the guard of the face.
"""

from collections import deque

FROZEN_SECONDS = 1.5
REPEATED_FRAMES = 6  # with a face, and equal to an earlier frame but not the last; a looped video has dozens
GAP_SECONDS = 3.0
MIN_FRAMES_PER_SECOND = 1.5
RATE_SECONDS = 5.0  # time over which the frame rate is measured


class StreamGuard:
    """Checks every frame's fingerprint and time, and gives the reason to end the session, if there is one."""

    def __init__(self):
        self._times: deque[float] = deque()  # of the newest frames
        self._last_fingerprint: bytes | None = None
        self._fingerprints: set[bytes] = set()
        self._frozen_since: float | None = None
        self._repeated = 0

    def is_new(self, fingerprint: bytes) -> bool:
        return fingerprint not in self._fingerprints

    def check(self, fingerprint: bytes, has_face: bool, now: float, gap: float) -> str | None:
        """The reason to end the session because of this frame, or None.

        Args:
            now: seconds. gap: seconds since the previous frame.
        """
        is_same_as_last = fingerprint == self._last_fingerprint
        self._repeated += not self.is_new(fingerprint) and not is_same_as_last and has_face
        self._frozen_since = (now if self._frozen_since is None else self._frozen_since) if is_same_as_last else None
        self._last_fingerprint = fingerprint
        self._fingerprints.add(fingerprint)
        frozen = 0.0 if self._frozen_since is None else now - self._frozen_since
        if frozen >= FROZEN_SECONDS or self._repeated >= REPEATED_FRAMES:
            return "frozen_stream"
        self._times.append(now)
        slow = now - self._times[0] >= RATE_SECONDS
        while now - self._times[0] >= RATE_SECONDS:
            self._times.popleft()
        if gap >= GAP_SECONDS or (slow and len(self._times) < RATE_SECONDS * MIN_FRAMES_PER_SECOND):
            return "slow_stream"
        return None

    def forget(self) -> None:
        self._fingerprints = set()
