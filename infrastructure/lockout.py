"""Guessing passwords is made slow: after some wrong ones an account, and an address, waits, twice as long each time.

What waits is the sign-in and nothing else: no token, session or key takes notice. Root on the Unix socket signs in
nowhere, and so is never locked out. The relay has a way of its own (`adapters.relay.guesses`): a printer with an old
password tries for ever, so there a source is slowed and an account never waits.

It is kept in memory, for each process, and not in the store: there each guess would be a commit that anybody may cause,
which is the better attack. Several nodes give a guesser as many times some ten tries an hour, a restart five more: far
too few for passwords of twelve characters and more.
"""

from __future__ import annotations

import ipaddress
import math
import threading
from dataclasses import dataclass

from domain.errors import InvalidValue, NotPermitted
from domain.ports import Clock
from domain.relay_user import read_address

_FREE = 5
"""So many wrong ones are mistakes."""
_FIRST_SECONDS, _LONGEST_SECONDS = 2.0, 900.0
_FORGOTTEN_AFTER_SECONDS = 3600.0
_MOST = 10_000
_LONGEST_NAME = 64
"""Characters; no account has such a long name, so those beyond may count as one, and none of them fills the memory."""


class LockedOut(NotPermitted):
    """Too many wrong passwords: nothing was looked at."""

    def __init__(self, seconds: float) -> None:
        self.retry_after_seconds = math.ceil(seconds)
        super().__init__(f"too many wrong passwords: wait {self.retry_after_seconds} seconds and try again")


@dataclass
class _Guesser:
    wrong: int = 0
    last_at: float = 0.0

    def left(self, now: float) -> float:
        """Seconds to wait still."""
        doublings = self.wrong - _FREE
        if doublings < 0:
            return 0.0
        return self.last_at + min(_FIRST_SECONDS * 2.0 ** min(doublings, 16), _LONGEST_SECONDS) - now


class Lockout:
    """Counts wrong passwords by account and by address, whether or not the account exists."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._guessers: dict[tuple[str, str], _Guesser] = {}
        self._lock = threading.Lock()

    def try_one(self, account: str, address: str) -> None:
        """See whether another try may be made, and count it as wrong until `forgive` says otherwise.

        Counted beforehand, so that many at once are not one.

        Raises:
            LockedOut: the account or the address has to wait.
        """
        now, keys = self._clock.elapsed(), _keys(account, address)
        with self._lock:
            wait = max(guesser.left(now) for guesser in (self._known(key, now) for key in keys))
            if wait > 0:
                raise LockedOut(wait)
            for key in keys:
                guesser = self._known(key, now)
                guesser.wrong, guesser.last_at = guesser.wrong + 1, now
                # The one that guessed last is at the end; the one that has been quiet for longest makes room.
                self._guessers.pop(key, None)
                self._guessers[key] = guesser
            while len(self._guessers) > _MOST:
                del self._guessers[next(iter(self._guessers))]

    def forgive(self, account: str, address: str | None = None) -> None:
        """The password was right, or root has given a new one; an address is forgiven the last try alone."""
        with self._lock:
            self._guessers.pop(_account(account), None)
            guesser = self._guessers.get(_keys(account, address)[1]) if address else None
            if guesser:
                guesser.wrong -= 1

    def _known(self, key: tuple[str, str], now: float) -> _Guesser:
        guesser = self._guessers.get(key)
        if guesser is None or now - guesser.last_at > _FORGOTTEN_AFTER_SECONDS:
            return _Guesser()
        return guesser


def _keys(account: str, address: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return _account(account), ("address", source_of(address))


def _account(account: str) -> tuple[str, str]:
    return "account", account[:_LONGEST_NAME]


def source_of(address: str) -> str:
    """Who has this address: of IPv6 the whole /64, for that is what one host or customer has (RFC 6177)."""
    try:
        read = read_address(address)
    except InvalidValue:
        return address
    if isinstance(read, ipaddress.IPv4Address):
        return str(read)
    return str(ipaddress.IPv6Network((int(read), 64), strict=False))
