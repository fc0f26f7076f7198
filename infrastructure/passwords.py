"""Passwords of relay users and administrators, hashed with argon2id.

The parameters are the second choice of RFC 9106 (section 4): 64 MiB for each verification. The first takes 2 GiB, which
the small machines this runs on don't have.
"""

from __future__ import annotations

import threading
from functools import cached_property

import argon2
from argon2.profiles import RFC_9106_LOW_MEMORY

from domain.errors import Unreachable
from domain.secret import Secret

_AT_ONCE = 2
_WAITING = 16


class PasswordHasher:
    """Hashes and verifies; few at once, for each takes its memory and four threads."""

    def __init__(self, parameters: argon2.Parameters = RFC_9106_LOW_MEMORY) -> None:
        self._argon2 = argon2.PasswordHasher.from_parameters(parameters)
        self._admitted = threading.BoundedSemaphore(_AT_ONCE + _WAITING)
        self._running = threading.BoundedSemaphore(_AT_ONCE)

    def hash(self, password: Secret) -> Secret:
        """The hash with its salt and parameters, as one text (PHC string format)."""
        return Secret(self._argon2.hash(_bytes(password)))

    def verify(self, hashed: Secret | None, password: Secret) -> bool:
        """Whether it is the password of this hash. Nobody's is None: never right, and it takes as long to say so.

        Raises:
            Unreachable: too many want to know at once.
        """
        if not self._admitted.acquire(blocking=False):
            raise Unreachable("too many sign-ins at once: try again")
        try:
            with self._running:
                matches = self._matches(hashed or self._of_nobody, password)
        finally:
            self._admitted.release()
        return matches and hashed is not None

    @cached_property
    def _of_nobody(self) -> Secret:
        return self.hash(Secret("nobody"))

    def _matches(self, hashed: Secret, password: Secret) -> bool:
        try:
            return self._argon2.verify(hashed.reveal(), _bytes(password))
        except argon2.exceptions.VerifyMismatchError:
            return False


def _bytes(password: Secret) -> bytes:
    # What a client sent may be no text at all; then it is wrong, and that is no error.
    return password.reveal().encode("utf-8", "surrogatepass")
