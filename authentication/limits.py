"""How often somebody may try: failed attempts are counted by address and by face, and make the next wait longer.

An attempt counts as failed from the moment it is opened until it is accepted. Who breaks off because the challenge does
not suit a prepared video has therefore tried once, as has who was rejected.

An address stands for whoever has it. A customer of IPv6 is given a network of at least 2**64 addresses, so all of those
count as one.

Faces are compared by a short random projection of their templates (Johnson and Lindenstrauss), whose matrix is drawn
when the server starts and never leaves it: enough to notice the same person, useless for anything else, and forgotten
after FORGET_SECONDS without an attempt.
"""

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Ticket:
    """Permission for one attempt; given back when it was accepted.

    began: seconds at which it was given. before: of the newest attempts before it, of the address and of the face.
    """

    address: str
    face: bytes
    began: float
    before: tuple[float, float]


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

    def begin(self, address: str, template: Template) -> Ticket:
        """Count an attempt of this address at this face.

        Raises:
            TooManyAttemptsError: one of the two has to wait; nothing is counted then.
        """
        with self._lock:
            now, address = self._clock(), _network(address)
            self._forget(self._addresses, now)
            self._forget(self._faces, now)
            face = self._known(self._project(template))
            tried = self._addresses.get(address, _Record()), self._faces.get(face, _Record())
            free = FREE_ATTEMPTS_PER_ADDRESS, FREE_ATTEMPTS_PER_FACE
            wait = max(record.wait(number, now) for record, number in zip(tried, free, strict=True))
            if wait > 0:
                raise TooManyAttemptsError(wait)
            for records, key, record in ((self._addresses, address, tried[0]), (self._faces, face, tried[1])):
                records[key] = _Record(record.failed + 1, now)
                records.move_to_end(key)
            return Ticket(address, face, now, (tried[0].newest, tried[1].newest))

    def accepted(self, ticket: Ticket) -> None:
        """The attempt was no failure: the face starts afresh, and the address has this one back."""
        with self._lock:
            self._faces.pop(ticket.face, None)
            self._give_back(self._addresses, ticket.address)

    def withdraw(self, ticket: Ticket) -> None:
        """The attempt did not take place: neither the face nor the address has tried."""
        with self._lock:
            kept = (self._addresses, ticket.address), (self._faces, ticket.face)
            for (records, key), before in zip(kept, ticket.before, strict=True):
                self._give_back(records, key)
                if key in records and records[key].newest == ticket.began:
                    records[key] = replace(records[key], newest=before)

    @staticmethod
    def _give_back(records: OrderedDict, key) -> None:
        if key in records:
            records[key] = replace(records[key], failed=records[key].failed - 1)

    def _project(self, template: Template) -> np.ndarray:
        if self._projection is None:
            size = (PROJECTED_SIZE, len(template.embedding))
            self._projection = np.random.default_rng().standard_normal(size).astype(np.float32)
        projected = self._projection @ template.embedding.astype(np.float32)
        return (projected / np.linalg.norm(projected)).astype(np.float32)

    def _known(self, face: np.ndarray) -> bytes:
        """The remembered face that is this one, or this one."""
        if self._faces:
            known = np.frombuffer(b"".join(self._faces), np.float32).reshape(len(self._faces), -1)
            similarities = known @ face
            if similarities.max() >= self.similarity:
                return list(self._faces)[int(similarities.argmax())]
        return face.tobytes()

    def _forget(self, records: OrderedDict, now: float) -> None:
        """The old, and the oldest where there is no room for one more; the newest stand at the end."""
        while records:
            oldest = next(iter(records))
            if now - records[oldest].newest <= FORGET_SECONDS and len(records) < MOST_REMEMBERED:
                return
            del records[oldest]


def _network(address: str) -> str:
    """The address, or the network that counts as one; what is no address stands for itself."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if known.version == 4:
        return str(known)
    return str(known.ipv4_mapped or ipaddress.IPv6Network((int(known), 64), strict=False))
