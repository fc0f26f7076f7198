"""What a client signs in with: SASL PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), from the server's side.

A user name or password that could end a line or a field somewhere else is a syntax error.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from domain.secret import Secret

RESPONSE_LIMIT_OCTETS = 12_288
"""For one line of an exchange, the command with an initial response among them (RFC 4954 section 4)."""
_USER_PROMPT = b"VXNlcm5hbWU6"
_PASSWORD_PROMPT = b"UGFzc3dvcmQ6"
_LONGEST = 1024
_FORBIDDEN = re.compile("[\r\n\0\x01]")


class MalformedCredentials(Exception):
    """Not what the mechanism asks for."""


@dataclass(frozen=True)
class Credentials:
    """Who wants in, and with which password."""

    user: str
    password: Secret


async def by_mechanism(
    mechanism: bytes, initial_response: bytes | None, ask: Callable[[bytes], Awaitable[bytes]]
) -> Credentials | None:
    """What the client gives by a mechanism, None if there is no such here. `ask` says a prompt and hears the answer.

    Raises:
        MalformedCredentials: not what the mechanism asks for.
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
        MalformedCredentials: it isn't one, or it asks to act as somebody else.
    """
    parts = decoded(response).split("\0")
    if len(parts) != 3:
        raise MalformedCredentials
    authorization_identity, user, password = parts
    if authorization_identity not in ("", user):
        raise MalformedCredentials
    return credentials(user, password)


def login(user: bytes, password: bytes) -> Credentials:
    """Read the two responses of LOGIN, in base64.

    Raises:
        MalformedCredentials: they aren't that.
    """
    return credentials(decoded(user), decoded(password))


def credentials(user: str, password: str) -> Credentials:
    """Check what came, by SASL or in a command.

    Raises:
        MalformedCredentials: a CR, LF, NUL or ^A in it, no user, or far too long.
    """
    if not user or _FORBIDDEN.search(user) or _FORBIDDEN.search(password) or max(len(user), len(password)) > _LONGEST:
        raise MalformedCredentials
    return Credentials(user, Secret(password))


def decoded(response: bytes) -> str:
    """The text of one response; "=" stands for an empty one (RFC 4954 section 4).

    Raises:
        MalformedCredentials: not base64 of UTF-8.
    """
    try:
        return "" if response == b"=" else b64decode(response, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise MalformedCredentials from None
