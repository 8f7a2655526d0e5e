"""Limits attempts: failed attempts are counted by address and by face, and each one makes the next wait longer.

An attempt counts as failed from its start until it is accepted. It is counted for the address before any photograph is
read, and for the face as soon as the face is known. So an attacker who aborts an attempt, because a prepared video does
not fit the challenge, has used one attempt. A success removes only its own attempt from the count. Otherwise a
reference that is the mean of two faces could clear the record of one person with the success of the other.

A customer of IPv6 has a network of at least 2**64 addresses, so all addresses of such a network count as one.

Faces are compared by a short random projection of their templates (Johnson and Lindenstrauss). Its matrix is drawn when
the server starts and stays in memory. The projection is enough to recognise the same person, and useless for anything
else. It is deleted after FORGET_SECONDS without an attempt.

`demo.live` and the examples call `AttemptLimiter`.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the demo's first page needs no PyTorch, and sets the number of threads before NumPy is imported
    import numpy as np

    from authentication.template import Template

FREE_ATTEMPTS_PER_FACE = 5  # failed attempts before the first wait
FREE_ATTEMPTS_PER_ADDRESS = 20  # more, because a family or an office shares an address
FIRST_WAIT_SECONDS = 10.0  # every further failed attempt doubles it
LONGEST_WAIT_SECONDS = 600.0
FORGET_SECONDS = 3600.0
MAX_REMEMBERED = 2000  # faces, and also addresses; beyond that the one with the oldest attempt is deleted
PROJECTED_SIZE = 512  # keeps similarities to about 0.04


class TooManyAttemptsError(RuntimeError):
    """This address or this face has failed too often. seconds: until the next attempt is allowed."""

    def __init__(self, seconds: float):
        super().__init__(f"too many failed attempts; the next one in {seconds:.0f} s")
        self.seconds = seconds


@dataclass(frozen=True)
class _Record:
    failed: int = 0
    newest: float = 0.0  # time of the newest attempt in seconds

    def wait(self, free: int, now: float) -> float:
        """Seconds until the next attempt is allowed; 0 or less if it is allowed now."""
        excess = self.failed - free
        if excess < 0:
            return 0.0
        return self.newest + min(FIRST_WAIT_SECONDS * 2 ** min(excess, 30), LONGEST_WAIT_SECONDS) - now


@dataclass
class Ticket:
    """One counted attempt. It is removed from the count when it was accepted or did not take place.

    address: of the visitor. started: time in seconds.
    faces: keys of the face records for which it counts; empty until the face is known.
    previous: key of a record -> time of its attempt before this one.
    """

    address: str
    started: float
    faces: list[bytes] = field(default_factory=list)
    previous: dict[str | bytes, float] = field(default_factory=dict)


class AttemptLimiter:
    """Counts failed attempts in memory. Threads may share it.

    Args:
        similarity: templates with at least this dot product count as the same face; the checkpoint's threshold.
        clock: monotonic seconds.
    """

    def __init__(self, similarity: float, clock: Callable[[], float] = time.monotonic):
        self.similarity = similarity
        self._clock = clock
        self._addresses: OrderedDict[str, _Record] = OrderedDict()
        self._faces: OrderedDict[bytes, _Record] = OrderedDict()  # projected template, as bytes -> its record
        self._projection: np.ndarray | None = None
        self._lock = threading.Lock()

    def begin(self, address: str) -> Ticket:
        """Count an attempt of this address. Its face is not known yet.

        Raises:
            TooManyAttemptsError: the address has to wait; nothing is counted.
        """
        with self._lock:
            ticket = Ticket(visitor_of(address), self._clock())
            self._forget(self._addresses, ticket.started)
            self._wait(self._addresses, [ticket.address], FREE_ATTEMPTS_PER_ADDRESS, ticket.started)
            self._count(self._addresses, ticket.address, ticket)
            return ticket

    def name_face(self, ticket: Ticket, template: Template) -> None:
        """Count the attempt for the face as well, together with earlier attempts with other photographs of this face.

        Raises:
            TooManyAttemptsError: this face has to wait. The attempt still counts for the address, because finding the
                face has used the server's time.
        """
        with self._lock:
            self._forget(self._faces, ticket.started)
            faces = self._similar_faces(self._project(template))
            self._wait(self._faces, faces, FREE_ATTEMPTS_PER_FACE, ticket.started)
            for face in faces:
                self._count(self._faces, face, ticket)
            ticket.faces = faces

    def accepted(self, ticket: Ticket) -> None:
        """The attempt succeeded, so it does not count as failed."""
        with self._lock:
            for records, key in self._records_of(ticket):
                self._give_back(records, key)

    def withdraw(self, ticket: Ticket) -> None:
        """The attempt did not take place, so it counts neither for the face nor for the address."""
        with self._lock:
            for records, key in self._records_of(ticket):
                self._give_back(records, key)
                if key in records and records[key].newest == ticket.started:
                    records[key] = replace(records[key], newest=ticket.previous[key])

    def _records_of(self, ticket: Ticket) -> list[tuple[OrderedDict, str | bytes]]:
        return [(self._addresses, ticket.address), *((self._faces, face) for face in ticket.faces)]

    @staticmethod
    def _wait(records: OrderedDict, keys: list, free: int, now: float) -> None:
        wait = max((records.get(key, _Record()).wait(free, now) for key in keys), default=0.0)
        if wait > 0:
            raise TooManyAttemptsError(wait)

    @staticmethod
    def _count(records: OrderedDict, key: str | bytes, ticket: Ticket) -> None:
        record = records.get(key, _Record())
        ticket.previous[key] = record.newest
        records[key] = _Record(record.failed + 1, ticket.started)
        records.move_to_end(key)

    @staticmethod
    def _give_back(records: OrderedDict, key) -> None:
        if key in records:
            records[key] = replace(records[key], failed=records[key].failed - 1)

    def _project(self, template: Template) -> np.ndarray:
        import numpy as np

        if self._projection is None:
            size = (PROJECTED_SIZE, len(template.embedding))
            self._projection = np.random.default_rng().standard_normal(size).astype(np.float32)
        # not normalised: the length of an embedding belongs to its similarities
        return (self._projection @ template.embedding.astype(np.float32) / PROJECTED_SIZE**0.5).astype(np.float32)

    def _similar_faces(self, face: np.ndarray) -> list[bytes]:
        """All remembered faces that are similar to this one, which may be a mean of several; else only this one."""
        import numpy as np

        if self._faces:
            remembered = np.frombuffer(b"".join(self._faces), np.float32).reshape(len(self._faces), -1)
            alike = np.flatnonzero(remembered @ face >= self.similarity)
            if len(alike):
                faces = list(self._faces)
                return [faces[number] for number in alike]
        return [face.tobytes()]

    def _forget(self, records: OrderedDict, now: float) -> None:
        """Delete old records, and the oldest one if there are MAX_REMEMBERED. The newest are at the end."""
        while records:
            oldest = next(iter(records))
            if now - records[oldest].newest <= FORGET_SECONDS and len(records) < MAX_REMEMBERED:
                return
            del records[oldest]


@lru_cache(maxsize=4096)  # called several times for each request
def visitor_of(address: str) -> str:
    """The key of a visitor: the address, or the network of an IPv6 address; other text is returned unchanged."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.IPv6Network((int(parsed), 64), strict=False))
