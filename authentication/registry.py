"""Keeps the open attempts of a server under tokens that cannot be guessed. The browser only gets the token.

`demo.live` and the examples call it. Read `attempt` next.
"""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image

from authentication.attempt import Attempt, View


class UnknownSessionError(LookupError):
    """No open attempt has this token: it was never issued, or the attempt has expired, was closed or is decided."""


class RegistryFullError(RuntimeError):
    """The server does not allow more open attempts."""


@dataclass
class _Entry:
    attempt: Attempt
    opened: float
    timer: threading.Timer
    on_unused: Callable[[], None]
    had_frame: bool = False  # a readable frame has arrived
    lock: threading.Lock = field(default_factory=threading.Lock)


class SessionRegistry:
    """Open attempts by token. Their number is limited, they expire, and each ends with one decision.

    Template and challenge stay on the server, and its clock counts. When the registry is full, new attempts are
    refused, so nobody can remove the attempts of others.

    Args:
        limit: largest number of open attempts.
        lifetime: seconds after which an attempt and its template are deleted in any case.
        clock: monotonic time in seconds.
    """

    def __init__(self, limit: int = 100, lifetime: float = 180.0, clock: Callable[[], float] = time.monotonic):
        self.limit = limit
        self.lifetime = lifetime
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def open(self, attempt: Attempt, on_unused: Callable[[], None] = lambda: None) -> str:
        """Register an attempt and return its token.

        Args:
            on_unused: called if the attempt ends without a readable frame, for example because the camera was refused.

        Raises:
            RegistryFullError: `limit` attempts are open.
        """
        with self._lock:
            self._drop_expired()
            if len(self._entries) >= self.limit:
                raise RegistryFullError(f"{self.limit} attempts are open already")
            token = secrets.token_urlsafe(32)
            timer = threading.Timer(self.lifetime, self.close, (token,))
            timer.daemon = True  # so that it does not keep the process alive
            timer.start()
            self._entries[token] = _Entry(attempt, self._clock(), timer, on_unused)
            return token

    def observe(self, token: str, image: Image.Image) -> View:
        """Pass a frame to an attempt.

        If it decides the attempt, the attempt is removed and its token becomes invalid. Frames of one attempt are
        judged one after the other, frames of different attempts concurrently.

        Raises:
            UnknownSessionError: no open attempt has this token.
        """
        entry = self._find(token)
        with entry.lock:
            self._find(token)  # the attempt may have ended while this frame waited
            view = entry.attempt.observe(image, self._clock())
            entry.had_frame = entry.had_frame or view.size != (0, 0)
            if view.progress.decision is not None:
                self.close(token)
            return view

    def close(self, token: str) -> None:
        """Delete an attempt and its template, if it is still open."""
        with self._lock:
            entry = self._entries.pop(token, None) if isinstance(token, str) else None
        if entry is not None:
            self._end(entry)

    def knows(self, token: str) -> bool:
        """Whether an open attempt has this token."""
        with self._lock:
            return token in self._entries

    def _find(self, token: str) -> _Entry:
        with self._lock:
            self._drop_expired()
            entry = self._entries.get(token) if isinstance(token, str) else None
        if entry is None:
            raise UnknownSessionError("no open attempt has this token")
        return entry

    def _drop_expired(self) -> None:
        now = self._clock()
        for token in [token for token, entry in self._entries.items() if now - entry.opened > self.lifetime]:
            self._end(self._entries.pop(token))

    @staticmethod
    def _end(entry: _Entry) -> None:
        entry.timer.cancel()
        if not entry.had_frame:
            entry.on_unused()
