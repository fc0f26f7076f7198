"""Bearer tokens: 256 random bits in a session's cookie, a client's key or a one-time link. Only their hash is stored.

SHA-256 without salt or work factor is enough: nobody can try 2^256 values.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from domain.secret import Secret

_BYTES = 32
LONGEST = 200
"""Characters. A token has 43 characters; longer text is no token and is not hashed."""


def new_token() -> Secret:
    """A new token: 43 characters that need no escape in a URL, cookie or header."""
    return Secret(secrets.token_urlsafe(_BYTES))


def token_digest(token: Secret) -> bytes:
    """The token's SHA-256."""
    return hashlib.sha256(_bytes(token)).digest()


def token_hash(token: Secret) -> str:
    """The token's SHA-256 in hexadecimal: the key of its row."""
    return token_digest(token).hex()


def derived_token(token: Secret, purpose: str) -> str:
    """A token for one purpose, derived one-way from this one (HMAC-SHA-256)."""
    derived = hmac.digest(_bytes(token), purpose.encode(), "sha256")
    return base64.urlsafe_b64encode(derived).decode().rstrip("=")


def _bytes(token: Secret) -> bytes:
    # A client may send halves of surrogate pairs. Such a token is wrong, like any other; encoding it must not fail.
    return token.reveal().encode("utf-8", "surrogatepass")
