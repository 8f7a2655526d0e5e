"""Guard of the stream: the frames are those of a camera, new ones, without gaps, and enough of them.

Next: `person`, the guard of who is seen in them.
"""

from collections import deque

FROZEN_SECONDS = 1.5
REPEATED_FRAMES = 6  # with a face, shown before and not just now: a looped video gives dozens
GAP_SECONDS = 3.0
MIN_FRAMES_PER_SECOND = 1.5
RATE_SECONDS = 5.0  # over which frames are counted for it


class StreamGuard:
    """Shown every frame's fingerprint; says for which reason the session has to end, if for any."""

    def __init__(self):
        self._times: deque[float] = deque()  # of the newest frames
        self._last: bytes | None = None
        self._seen: set[bytes] = set()
        self._frozen_since: float | None = None
        self._repeated = 0

    def is_new(self, fingerprint: bytes) -> bool:
        return fingerprint not in self._seen

    def check(self, fingerprint: bytes, has_face: bool, now: float, gap: float) -> str | None:
        """Args: now and gap are seconds: of this frame, and since the one before."""
        again = fingerprint == self._last
        self._repeated += not self.is_new(fingerprint) and not again and has_face
        self._frozen_since = (now if self._frozen_since is None else self._frozen_since) if again else None
        self._last = fingerprint
        self._seen.add(fingerprint)
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
        self._seen = set()
