"""Password sign-in from the server's side: SASL PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login).

A user name or password with a character that ends a line or a field in another protocol is a syntax error.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from domain.secret import Secret

RESPONSE_LIMIT_OCTETS = 12_288
"""The limit for a line of an exchange, also for the command with an initial response (RFC 4954 section 4)."""
_USER_PROMPT = b"VXNlcm5hbWU6"
_PASSWORD_PROMPT = b"UGFzc3dvcmQ6"
_LONGEST = 1024
_FORBIDDEN = re.compile("[\r\n\0\x01]")


class MalformedCredentials(Exception):
    """The client's response is not in the form that the mechanism requires."""


class OtherIdentity(MalformedCredentials):
    """The authorization identity is not the user who signs in, and nobody may act for another user here."""


OTHER_IDENTITY = "the authorization identity is another user than the user name: leave it empty"
"""The reply to it, for a person at the client."""


@dataclass(frozen=True)
class Credentials:
    """The user name and the password of a client."""

    user: str
    password: Secret


async def by_mechanism(
    mechanism: bytes, initial_response: bytes | None, ask: Callable[[bytes], Awaitable[bytes]]
) -> Credentials | None:
    """The client's credentials by a mechanism, None if it is unknown. `ask` sends a prompt and returns the answer.

    Raises:
        MalformedCredentials: a response is not in the form that the mechanism requires.
    """
    match mechanism.upper():
        case b"PLAIN":
            return plain(initial_response or await ask(b""))
        case b"LOGIN":
            user = initial_response or await ask(_USER_PROMPT)
            return login(user, await ask(_PASSWORD_PROMPT))
        case _:
            return None


def plain(response: bytes) -> Credentials:
    """Read a response of PLAIN, in base64: authorization identity, user and password.

    Raises:
        OtherIdentity: the authorization identity is another user.
        MalformedCredentials: the response is malformed.
    """
    parts = decoded(response).split("\0")
    if len(parts) != 3:
        raise MalformedCredentials
    authorization_identity, user, password = parts
    if authorization_identity and authorization_identity.casefold() != user.casefold():
        raise OtherIdentity
    return credentials(user, password)


def login(user: bytes, password: bytes) -> Credentials:
    """Read the two responses of LOGIN, in base64.

    Raises:
        MalformedCredentials: a response is malformed.
    """
    return credentials(decoded(user), decoded(password))


def credentials(user: str, password: str) -> Credentials:
    """Check a user name and password, received by SASL or in a command.

    Raises:
        MalformedCredentials: a CR, LF, NUL or ^A in a value, an empty user name, or a value that is far too long.
    """
    if not user or _FORBIDDEN.search(user) or _FORBIDDEN.search(password) or max(len(user), len(password)) > _LONGEST:
        raise MalformedCredentials
    return Credentials(user, Secret(password))


def decoded(response: bytes) -> str:
    """The text of one response; "=" stands for an empty one (RFC 4954 section 4).

    Raises:
        MalformedCredentials: the response is not base64, or its content is not UTF-8.
    """
    try:
        return "" if response == b"=" else b64decode(response, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise MalformedCredentials from None
