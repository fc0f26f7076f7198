"""Sign-ins that were right, for moments: a busy client costs neither argon2 nor a round trip to the service.

No password is kept: the memory is keyed by an HMAC under a random key of this process. A wrong one is never in it.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain.catalogue import Protocol
from domain.ports import Clock
from domain.renewal import SERVING_MARGIN_SECONDS
from domain.secret import Secret
from infrastructure.clock import SystemClock

if TYPE_CHECKING:
    from adapters.relay.changes import Change
    from adapters.relay.door import Admission

_LONGEST_SECONDS = 60.0
_MOST = 10_000


@dataclass
class _Remembered:
    admission: Admission
    until: float


class RightPasswords:
    """Admissions by what was shown for them. `monotonic` is in seconds."""

    def __init__(self, clock: Clock | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock or SystemClock()
        self._monotonic = monotonic
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, _Remembered] = {}

    def proof(self, protocol: Protocol, address: str, user: str | None, password: Secret | None) -> bytes:
        """What stands for these in the memory. The address counts only where it is all that is shown."""
        shown = [protocol.value, user, password.reveal()] if password else [protocol.value, user, None, address]
        return hmac.digest(self._key, json.dumps(shown).encode(), "sha256")

    def get(self, proof: bytes) -> Admission | None:
        """The admission it was good for, moments ago."""
        remembered = self._remembered.get(proof)
        if remembered and remembered.until <= self._monotonic():
            del self._remembered[proof]
            return None
        return remembered.admission if remembered else None

    def remember(self, proof: bytes, admission: Admission) -> None:
        """Keep it for a minute, and never beyond the moment its token should be renewed."""
        left = (admission.expires_at - self._clock.now()).total_seconds()
        seconds = min(_LONGEST_SECONDS, left - SERVING_MARGIN_SECONDS)
        if seconds <= 0:
            return
        self._remembered.pop(proof, None)
        self._remembered[proof] = _Remembered(admission, self._monotonic() + seconds)
        if len(self._remembered) > _MOST:
            del self._remembered[next(iter(self._remembered))]

    def forget(self, change: Change) -> None:
        """Have those asked for anew whom a change concerns."""
        self._remembered = {
            proof: remembered
            for proof, remembered in self._remembered.items()
            if not change.concerns(remembered.admission)
        }

    def replace(self, rejected: Admission, newer: Admission | None) -> None:
        """Hand out the newer token instead of one that the mail server rejected; none is to ask the service again."""
        for proof, remembered in list(self._remembered.items()):
            if not _is_for_the_same(remembered.admission, rejected):
                continue
            if newer:
                remembered.admission = newer
            else:
                del self._remembered[proof]


def _is_for_the_same(one: Admission, other: Admission) -> bool:
    return (one.user, one.protocol, one.profile) == (other.user, other.protocol, other.profile)
