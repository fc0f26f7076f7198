"""Work that takes a process of the tests much of its time, and shows nothing."""

from __future__ import annotations

import ssl

import argon2.profiles

from infrastructure.access.password_hashing import PasswordHasher

ARGON2_OF_THE_PROGRAM = PasswordHasher.parameters


def spare_work() -> None:
    """Let this process have cheap hashes of passwords, and none of the system's certificate authorities.

    A hash takes 0.3 s of CPU. Reading the authorities, which vouch for no server of the tests, takes 30 ms for each
    service and relay that starts.
    """
    PasswordHasher.parameters = argon2.profiles.CHEAPEST
    none = ssl.get_default_verify_paths()._replace(openssl_cafile="/nowhere", openssl_capath="/nowhere")
    setattr(ssl, "get_default_verify_paths", lambda: none)  # noqa: B010
