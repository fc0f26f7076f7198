"""The login throttle: after a few wrong passwords the next try has to wait, and the wait doubles with each.

The pages refuse a try before its wait is over (`LoginThrottle`). The relay holds the try until then, in its open
connection. Both count with `WrongTries`, each under a rule of its own.

The throttle slows only sign-ins by password; tokens, sessions and keys are not affected. Root on the Unix socket needs
no password, and so is never locked out. The relay counts by address alone: a printer with an old password tries for
ever, and must not lock its own account.

The counts are in the memory of each process. In the store each guess would cause a commit, so guessing would overload
the store. An attacker gets some ten tries an hour from each node, and five more after a restart: far too few for
passwords of at least twelve characters. The places from which somebody has signed in before are in the log, and are
read from it once somebody has to wait.
"""

from __future__ import annotations

import ipaddress
import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from cachetools import TTLCache

from domain.errors import InvalidValue, TooManyRequests
from domain.networks import read_address
from domain.ports import Clock

_MOST_DOUBLINGS = 16
"""More doublings than any rule's longest wait takes, and few enough for a float."""
_LONGEST_NAME = 64
"""Characters, the longest name of an account. Longer names are cut here, so they can't fill the memory."""

_MOST_PLACES = 10_000
PLACE_LIFE = timedelta(days=30)
"""How many pairs of an account and a source are remembered after a sign-in, and for how long."""

Places = Callable[[], Iterable[tuple[str, str]]]
"""The accounts and addresses of the sign-ins before this process, not older than `PLACE_LIFE`."""


@dataclass(frozen=True)
class ThrottleRule:
    """The wait that wrong tries impose on the next try.

    The first `free_tries` wrong tries impose no wait. The next imposes `first_seconds`, and each later one twice the
    wait before it, up to `longest_seconds`. After `forgotten_after_seconds` without a wrong try the count is 0.
    """

    free_tries: int
    first_seconds: float
    longest_seconds: float
    forgotten_after_seconds: float

    def wait_seconds(self, wrong_tries: int) -> float:
        """The wait of the next try, counted from the last wrong try."""
        doublings = wrong_tries - self.free_tries
        if doublings < 0:
            return 0.0
        return min(self.first_seconds * 2.0 ** min(doublings, _MOST_DOUBLINGS), self.longest_seconds)


@dataclass
class _Count:
    wrong_tries: int
    last_at: float
    before_at: float
    """When the try before the last one was, for a last try that turns out to be right."""


class WrongTries:
    """Wrong tries by account or by source, under one rule. Not to be shared between threads without a lock.

    `monotonic` is in seconds. At most `most` names are kept: a new name replaces the name
    whose last wrong try is the oldest.
    """

    def __init__(self, rule: ThrottleRule, monotonic: Callable[[], float], most: int = 10_000) -> None:
        self._rule = rule
        self._monotonic = monotonic
        self._counts: TTLCache[str, _Count] = TTLCache(most, rule.forgotten_after_seconds, monotonic)

    def wait_seconds(self, name: str) -> float:
        """The whole wait of the next try; 0 if there is no wait."""
        count = self._counts.get(name)
        return self._rule.wait_seconds(count.wrong_tries) if count else 0.0

    def remaining_seconds(self, name: str) -> float:
        """The part of that wait that is still ahead; 0 if the wait is over."""
        count = self._counts.get(name)
        if count is None:
            return 0.0
        return max(0.0, count.last_at + self._rule.wait_seconds(count.wrong_tries) - self._monotonic())

    def add(self, name: str) -> None:
        """Count a wrong try."""
        count, now = self._counts.get(name), self._monotonic()
        self._counts[name] = _Count(count.wrong_tries + 1, now, count.last_at) if count else _Count(1, now, now)

    def take_back(self, name: str) -> None:
        """Uncount a try that turned out to be right."""
        if count := self._counts.get(name):
            count.wrong_tries -= 1
            count.last_at = count.before_at

    def forget(self, name: str) -> None:
        """Set the count of this name to 0."""
        self._counts.pop(name, None)


class LoginThrottle:
    """Refuses sign-ins to an account, or from a source, after too many wrong passwords. Safe to share between threads.

    Names without an account are counted too. An account has a count of its own for each source from which somebody has
    signed in to it, so guesses from elsewhere do not keep its owner out, also after a restart: `places` are those of
    earlier processes.
    """

    def __init__(self, clock: Clock, places: Places = tuple) -> None:
        rule = ThrottleRule(free_tries=5, first_seconds=2.0, longest_seconds=900.0, forgotten_after_seconds=3600.0)
        self._accounts = WrongTries(rule, clock.elapsed)
        self._sources = WrongTries(rule, clock.elapsed)
        self._signed_in: TTLCache[str, None] = TTLCache(_MOST_PLACES, PLACE_LIFE.total_seconds(), clock.elapsed)
        self._places: Places | None = places
        self._lock = threading.Lock()

    def begin(self, account: str, address: str) -> None:
        """Admit another try, and count it as wrong until `succeeded` is called.

        The count comes before the check of the password, so it includes tries that run at the same time.

        Raises:
            TooManyRequests: the account or the address has to wait.
            PersistenceError: the store can't be read.
        """
        source = source_of(address)
        self._learn_places(account)
        with self._lock:
            account = self._counted(account, source)
            wait = max(self._accounts.remaining_seconds(account), self._sources.remaining_seconds(source))
            if wait > 0:
                raise TooManyRequests("too_many_wrong_passwords", math.ceil(wait))
            self._accounts.add(account)
            self._sources.add(source)

    def succeeded(self, account: str, address: str) -> None:
        """The password was right: the account's count becomes 0, and the address loses only the count of this try."""
        source = source_of(address)
        with self._lock:
            self._accounts.forget(self._counted(account, source))
            self._sources.take_back(source)
            self._signed_in[_place(account, source)] = None

    def take_back(self, account: str, address: str) -> None:
        """The password was right, and the sign-in goes on with a code: this try alone is uncounted."""
        source = source_of(address)
        with self._lock:
            self._accounts.take_back(self._counted(account, source))
            self._sources.take_back(source)

    def forget(self, account: str) -> None:
        """Set the account's count to 0, after a new password."""
        with self._lock:
            self._accounts.forget(account[:_LONGEST_NAME])
            for place in [place for place in self._signed_in if place.startswith(_place(account, ""))]:
                self._accounts.forget(place)

    def _learn_places(self, account: str) -> None:
        """Read the places of earlier processes, once: when an account has to wait for the first time."""
        with self._lock:
            if self._places is None or not self._accounts.remaining_seconds(account[:_LONGEST_NAME]):
                return
            read, self._places = self._places, None
        try:
            learnt = [_place(name, source_of(address)) for name, address in read()]
        except BaseException:
            self._places = read
            raise
        with self._lock:
            for place in learnt:
                self._signed_in[place] = None

    def _counted(self, account: str, source: str) -> str:
        """The name under which tries to this account from this source are counted."""
        place = _place(account, source)
        return place if place in self._signed_in else account[:_LONGEST_NAME]


def _place(account: str, source: str) -> str:
    # No account's name has a line break.
    return f"{account[:_LONGEST_NAME]}\n{source[:_LONGEST_NAME]}"


@lru_cache(maxsize=256)
def source_of(address: str) -> str:
    """The source under which tries from this address are counted: for IPv6 the whole /64 network (RFC 6177).

    A single host or customer usually has a /64. Text that is not an address is a source of its own.
    """
    try:
        read = read_address(address)
    except InvalidValue:
        return address
    if isinstance(read, ipaddress.IPv4Address):
        return str(read)
    return str(ipaddress.IPv6Network((int(read), 64), strict=False))
