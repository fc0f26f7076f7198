"""Passwords of relay users and administrators, hashed with argon2id.

The parameters are the second choice of RFC 9106 (section 4): 64 MiB for each verification. The first choice takes
2 GiB, which a small server does not have.
"""

from __future__ import annotations

import threading
from functools import cached_property

import argon2
from argon2.profiles import RFC_9106_LOW_MEMORY

from domain.errors import Unreachable
from domain.password_policy import comparable
from domain.secret import Secret

_AT_ONCE = 2
_WAITING = 16


class PasswordHasher:
    """Hashes and verifies passwords, few at a time: each operation takes 64 MiB and four threads."""

    parameters = RFC_9106_LOW_MEMORY

    def __init__(self) -> None:
        self._argon2 = argon2.PasswordHasher.from_parameters(self.parameters)
        self._admitted = threading.BoundedSemaphore(_AT_ONCE + _WAITING)
        self._running = threading.BoundedSemaphore(_AT_ONCE)

    def hash(self, password: Secret) -> Secret:
        """The hash with its salt and parameters, as one text (PHC string format)."""
        return Secret(self._argon2.hash(_bytes(password)))

    def verify(self, hashed: Secret | None, password: Secret) -> bool:
        """Whether `password` has this hash. Without a hash the answer is False, and takes as long.

        Raises:
            Unreachable: too many verifications run at the same time.
        """
        if not self._admitted.acquire(blocking=False):
            raise Unreachable("too_many_sign_ins")
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
    # A client may send halves of surrogate pairs. Such a password is wrong, like any other; encoding it must not fail.
    return comparable(password).reveal().encode("utf-8", "surrogatepass")
