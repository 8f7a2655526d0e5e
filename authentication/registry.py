"""Live sessions, kept by the server: the browser holds nothing but an unguessable token."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from authentication.session import ChallengeSession, Progress
from authentication.template import Template
from pipeline_facelivenet import Decision


class UnknownSessionError(LookupError):
    """No open session has this token: never issued, expired, or decided already."""


class RegistryFullError(RuntimeError):
    """As many sessions as this server allows are open."""


@dataclass
class _Entry:
    session: ChallengeSession
    template: Template
    opened: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class SessionRegistry:
    """Open sessions by token: bounded in number, expiring, each good for one decision.

    Template and challenge stay here, and the clock is the server's. When the registry is full a new session is refused;
    nobody can push out the sessions of others.

    Args:
        limit: most sessions open at once.
        lifetime: seconds from opening after which a session is gone, decided or not.
        clock: monotonic seconds.
    """

    def __init__(self, limit: int = 100, lifetime: float = 120.0, clock: Callable[[], float] = time.monotonic):
        self.limit = limit
        self.lifetime = lifetime
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def open(self, session: ChallengeSession, template: Template) -> str:
        """Register a session and return its token.

        Raises:
            RegistryFullError: `limit` sessions are open.
        """
        with self._lock:
            self._drop_expired()
            if len(self._entries) >= self.limit:
                raise RegistryFullError(f"{self.limit} sessions are open already")
            token = secrets.token_urlsafe(32)
            self._entries[token] = _Entry(session, template, self._clock())
            return token

    def observe(self, token: str, judge: Callable[[Template, str], Decision]) -> Progress:
        """Judge one frame of a session: `judge(template, required_expression)` gives the frame's decision.

        The session that is decided by it is removed: its token is worth nothing from then on. Frames of one session are
        judged one after the other, those of different sessions at the same time.

        Raises:
            UnknownSessionError: the token is unknown, expired or used.
        """
        entry = self._find(token)
        with entry.lock:
            if entry.session.decision is not None:  # decided by another frame while this one waited
                raise UnknownSessionError("this session has been decided")
            frame = judge(entry.template, entry.session.required_expression)
            progress = entry.session.observe(frame, self._clock())
            if progress.decision is not None:
                self.close(token)
            return progress

    def close(self, token: str) -> None:
        """Forget a session and its template, if it is still open."""
        with self._lock:
            self._entries.pop(token, None)

    def __len__(self) -> int:
        with self._lock:
            self._drop_expired()
            return len(self._entries)

    def _find(self, token: str) -> _Entry:
        with self._lock:
            self._drop_expired()
            entry = self._entries.get(token) if isinstance(token, str) else None
        if entry is None:
            raise UnknownSessionError("no open session has this token")
        return entry

    def _drop_expired(self) -> None:
        now = self._clock()
        for token in [token for token, entry in self._entries.items() if now - entry.opened > self.lifetime]:
            del self._entries[token]
