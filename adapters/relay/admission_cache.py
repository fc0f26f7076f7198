"""Admissions kept for a minute, so that a busy client costs neither an argon2 hash nor a round trip to the service.

No password is kept: the key of an entry is an HMAC under a random key of this process. A wrong password has no entry.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import TLRUCache

from adapters.relay.admission import Admission, AdmissionChange
from domain.catalogue import Protocol
from domain.ports import Clock
from domain.renewal import SERVING_MARGIN_SECONDS
from domain.secret import Secret
from infrastructure.clock import SystemClock

_LONGEST_SECONDS = 60.0
_ENTRIES = 10_000


@dataclass(frozen=True)
class _Entry:
    admission: Admission
    until: float


class AdmissionCache:
    """Admissions by the credentials, or the network address, that they were given for. `monotonic` is in seconds."""

    def __init__(self, clock: Clock | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock or SystemClock()
        self._monotonic = monotonic
        self._hmac_key = secrets.token_bytes(32)
        self._entries: TLRUCache[bytes, _Entry] = TLRUCache(_ENTRIES, lambda _, entry, __: entry.until, timer=monotonic)

    def key(self, protocol: Protocol, address: str, user: str | None, password: Secret | None) -> bytes:
        """The key of a sign-in. The address is a part of it only where there is no password."""
        presented = [protocol.value, user, password.reveal()] if password else [protocol.value, user, None, address]
        return hmac.digest(self._hmac_key, json.dumps(presented).encode(), "sha256")

    def get(self, key: bytes) -> Admission | None:
        """The admission that was kept under `key`, if it is still valid."""
        try:
            return self._entries[key].admission
        except KeyError:
            return None

    def put(self, key: bytes, admission: Admission) -> None:
        """Keep an admission for a minute, but not beyond the moment at which its token should be renewed."""
        left = (admission.expires_at - self._clock.now()).total_seconds()
        seconds = min(_LONGEST_SECONDS, left - SERVING_MARGIN_SECONDS)
        self._entries[key] = _Entry(admission, self._monotonic() + seconds)

    def forget(self, change: AdmissionChange) -> None:
        """Forget the admissions that a change ends."""
        for key, entry in self._current():
            if change.concerns(entry.admission):
                self._entries.pop(key, None)

    def replace(self, rejected: Admission, newer: Admission | None) -> None:
        """Keep the newer admission in place of one whose token the mail server rejected, or forget it if None."""
        for key, entry in self._current():
            if not _is_for_the_same(entry.admission, rejected):
                continue
            if newer:
                self._entries[key] = _Entry(newer, entry.until)
            else:
                self._entries.pop(key, None)

    def _current(self) -> list[tuple[bytes, _Entry]]:
        # An entry may expire between the two look-ups.
        return [(key, entry) for key in self._entries if (entry := self._entries.get(key))]


def _is_for_the_same(one: Admission, other: Admission) -> bool:
    return (one.user, one.protocol, one.profile) == (other.user, other.protocol, other.profile)
