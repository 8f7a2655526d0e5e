"""Open attempts, kept by the server under tokens that cannot be guessed; the browser holds the token alone.

Called by `demo.live` and the examples. Next: `attempt`.
"""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image

from authentication.attempt import Attempt, View


class UnknownSessionError(LookupError):
    """No open attempt has this token: never issued, expired, closed, or decided already."""


class RegistryFullError(RuntimeError):
    """As many attempts as this server allows are open."""


@dataclass
class _Entry:
    attempt: Attempt
    opened: float
    timer: threading.Timer
    on_unused: Callable[[], None]
    used: bool = False  # a picture has been seen
    lock: threading.Lock = field(default_factory=threading.Lock)


class SessionRegistry:
    """Open attempts by token: bounded in number, expiring, each good for one decision.

    Template and challenge stay here, and the clock is the server's. When the registry is full a new attempt is refused;
    nobody can push out those of others.

    Args:
        limit: most attempts open at once.
        lifetime: seconds from opening after which an attempt and its template are gone, decided or not, whether
            anybody comes by or not.
        clock: monotonic seconds.
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
            on_unused: called when the attempt ends without a single picture: the camera was refused, say.

        Raises:
            RegistryFullError: `limit` attempts are open.
        """
        with self._lock:
            self._drop_expired()
            if len(self._entries) >= self.limit:
                raise RegistryFullError(f"{self.limit} attempts are open already")
            token = secrets.token_urlsafe(32)
            timer = threading.Timer(self.lifetime, self.close, (token,))
            timer.daemon = True  # a server that ends does not wait for it
            timer.start()
            self._entries[token] = _Entry(attempt, self._clock(), timer, on_unused)
            return token

    def observe(self, token: str, image: Image.Image) -> View:
        """Show an attempt one frame.

        The attempt that is decided by it is removed: its token is worth nothing from then on. Frames of one attempt are
        judged one after the other, those of different attempts at the same time.

        Raises:
            UnknownSessionError: the token is unknown, expired or used.
        """
        entry = self._find(token)
        with entry.lock:
            self._find(token)  # decided, closed or expired while this frame waited
            view = entry.attempt.observe(image, self._clock())
            entry.used = entry.used or view.size != (0, 0)
            if view.progress.decision is not None:
                self.close(token)
            return view

    def close(self, token: str) -> None:
        """Forget an attempt and its template, if it is still open."""
        with self._lock:
            entry = self._entries.pop(token, None) if isinstance(token, str) else None
        if entry is not None:
            entry.timer.cancel()
            if not entry.used:
                entry.on_unused()

    def knows(self, token: str) -> bool:
        """Whether an open attempt has this token."""
        with self._lock:
            return token in self._entries

    def __len__(self) -> int:
        with self._lock:
            self._drop_expired()
            return len(self._entries)

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
            entry = self._entries.pop(token)
            entry.timer.cancel()
            if not entry.used:
                entry.on_unused()
