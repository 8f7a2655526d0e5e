"""How often somebody may try: failed attempts are counted by address and by face, and make the next wait longer.

An attempt counts as failed from the moment it is asked for until it is accepted: for its address before any photograph
is looked at, for the face as soon as that is known. Who breaks off because the challenge does not suit a prepared video
has therefore tried once, as has who was rejected. A success takes back its own attempt and no other: a reference that
is the mean of two faces must not clear one person's record with the other's success.

An address stands for whoever has it. A customer of IPv6 is given a network of at least 2**64 addresses, so all of those
count as one.

Faces are compared by a short random projection of their templates (Johnson and Lindenstrauss), whose matrix is drawn
when the server starts and never leaves it: enough to notice the same person, useless for anything else, and forgotten
after FORGET_SECONDS without an attempt.
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

if TYPE_CHECKING:  # the demo's first page does without PyTorch, and sets NumPy's threads before that is imported
    import numpy as np

    from authentication.template import Template

FREE_ATTEMPTS_PER_FACE = 5  # failed ones, before the first wait
FREE_ATTEMPTS_PER_ADDRESS = 20  # more: a family or an office has one
FIRST_WAIT_SECONDS = 10.0  # doubled by every further failed attempt
LONGEST_WAIT_SECONDS = 600.0
FORGET_SECONDS = 3600.0
MOST_REMEMBERED = 2000  # faces, and addresses; then the one that tried longest ago is forgotten
PROJECTED_SIZE = 512  # cosines are kept to about 0.04


class TooManyAttemptsError(RuntimeError):
    """This address or this face has failed too often; `seconds` until it may try again."""

    def __init__(self, seconds: float):
        super().__init__(f"too many failed attempts; the next one in {seconds:.0f} s")
        self.seconds = seconds


@dataclass(frozen=True)
class _Record:
    failed: int = 0
    newest: float = 0.0  # seconds of the newest attempt

    def wait(self, free: int, now: float) -> float:
        """Seconds until the next attempt; 0 or less: now."""
        over = self.failed - free
        if over < 0:
            return 0.0
        return self.newest + min(FIRST_WAIT_SECONDS * 2 ** min(over, 30), LONGEST_WAIT_SECONDS) - now


@dataclass
class Ticket:
    """One attempt, as it was counted; given back when it was accepted or did not take place.

    address: the visitor that tried, and began: seconds at which.
    faces: the records it counts for, once its face is known.
    before: of each record, when it was tried before.
    """

    address: str
    began: float
    faces: list[bytes] = field(default_factory=list)
    before: dict[str | bytes, float] = field(default_factory=dict)


class AttemptLimiter:
    """Counts failed attempts, in memory. Safe to share between threads.

    Args:
        similarity: cosine from which two templates count as the same face: the checkpoint's threshold.
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
        """Count an attempt of this address, whose face is not known yet.

        Raises:
            TooManyAttemptsError: it has to wait; nothing is counted then.
        """
        with self._lock:
            ticket = Ticket(visitor_of(address), self._clock())
            self._forget(self._addresses, ticket.began)
            self._wait(self._addresses, [ticket.address], FREE_ATTEMPTS_PER_ADDRESS, ticket.began)
            self._count(self._addresses, ticket.address, ticket)
            return ticket

    def name_face(self, ticket: Ticket, template: Template) -> None:
        """Count it for the face as well, under whatever photographs that has been tried before.

        Raises:
            TooManyAttemptsError: this face has to wait. The attempt counts for the address alone then: looking for a
                face has cost the server its time.
        """
        with self._lock:
            self._forget(self._faces, ticket.began)
            faces = self._similar_faces(self._project(template))
            self._wait(self._faces, faces, FREE_ATTEMPTS_PER_FACE, ticket.began)
            for face in faces:
                self._count(self._faces, face, ticket)
            ticket.faces = faces

    def accepted(self, ticket: Ticket) -> None:
        """The attempt succeeded: it does not count as a failure."""
        with self._lock:
            self._give_back(self._addresses, ticket.address)
            for face in ticket.faces:
                self._give_back(self._faces, face)

    def withdraw(self, ticket: Ticket) -> None:
        """The attempt did not take place: it counts neither for the face nor for the address."""
        with self._lock:
            for records, keys in ((self._addresses, [ticket.address]), (self._faces, ticket.faces)):
                for key in keys:
                    self._give_back(records, key)
                    if key in records and records[key].newest == ticket.began:
                        records[key] = replace(records[key], newest=ticket.before[key])

    @staticmethod
    def _wait(records: OrderedDict, keys: list, free: int, now: float) -> None:
        wait = max((records.get(key, _Record()).wait(free, now) for key in keys), default=0.0)
        if wait > 0:
            raise TooManyAttemptsError(wait)

    @staticmethod
    def _count(records: OrderedDict, key: str | bytes, ticket: Ticket) -> None:
        record = records.get(key, _Record())
        ticket.before[key] = record.newest
        records[key] = _Record(record.failed + 1, ticket.began)
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
        projected = self._projection @ template.embedding.astype(np.float32)
        return (projected / np.linalg.norm(projected)).astype(np.float32)

    def _similar_faces(self, face: np.ndarray) -> list[bytes]:
        """All remembered faces similar to this one, which may be the mean of several; if there are none, this one."""
        import numpy as np

        if self._faces:
            remembered = np.frombuffer(b"".join(self._faces), np.float32).reshape(len(self._faces), -1)
            alike = np.flatnonzero(remembered @ face >= self.similarity)
            if len(alike):
                faces = list(self._faces)
                return [faces[number] for number in alike]
        return [face.tobytes()]

    def _forget(self, records: OrderedDict, now: float) -> None:
        """Delete old records, and the oldest if there are MOST_REMEMBERED; the newest are at the end."""
        while records:
            oldest = next(iter(records))
            if now - records[oldest].newest <= FORGET_SECONDS and len(records) < MOST_REMEMBERED:
                return
            del records[oldest]


@lru_cache(maxsize=4096)  # it is asked several times for each request
def visitor_of(address: str) -> str:
    """The visitor of an address: itself, or the network of an IPv6 address; other text is returned unchanged."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.IPv6Network((int(parsed), 64), strict=False))
