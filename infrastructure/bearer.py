"""Bearer secrets: 256 random bits that open something for whoever has them. Only their hash is stored.

SHA-256 without salt or work factor is enough for them: nobody guesses one of 2^256, so nobody can look one up.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from domain.secret import Secret

_BYTES = 32
LONGEST = 200
"""Characters; ours have 43. What is longer is not one, and is not worth hashing."""


def new_bearer() -> Secret:
    """A new one, in 43 characters that need no escape in a URL, cookie or header."""
    return Secret(secrets.token_urlsafe(_BYTES))


def digest(bearer: Secret) -> bytes:
    """Its SHA-256."""
    return hashlib.sha256(bearer.reveal().encode("utf-8", "surrogatepass")).digest()


def stored(bearer: Secret) -> str:
    """Its SHA-256 in hexadecimal, as a row is found by."""
    return digest(bearer).hex()


def derived(bearer: Secret, purpose: str) -> str:
    """Another secret that only this one leads to, for one purpose; it does not lead back (HMAC-SHA-256)."""
    key = bearer.reveal().encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(hmac.digest(key, purpose.encode(), "sha256")).decode().rstrip("=")
