"""SASL with bearer tokens, from the client's side and without I/O: XOAUTH2 and OAUTHBEARER (RFC 7628).

A value with a byte that could end its field early is refused before a response is made of it.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from domain.errors import InvalidValue
from domain.secret import Secret

# Lone surrogates stand for bytes of the original text that were not UTF-8.
_SEPARATORS = re.compile("[\r\n\0\x01\ud800-\udfff]")
# RFC 6749 appendix A.12: access-token = 1*VSCHAR.
_ACCESS_TOKEN = re.compile(r"[\x20-\x7e]+")


class Mechanism(StrEnum):
    """A SASL mechanism that carries an access token."""

    XOAUTH2 = "XOAUTH2"
    OAUTHBEARER = "OAUTHBEARER"


@dataclass(frozen=True)
class ErrorChallenge:
    """A server's reason for refusing a token (RFC 7628 section 3.2.2).

    `status` is a code such as `invalid_token`, an HTTP status from Gmail, or "" if the challenge can't be read; `scope`
    is the scope that a token would need.
    """

    status: str
    scope: str | None = None


def choose(offered: Iterable[str], preferred: Mechanism = Mechanism.XOAUTH2) -> Mechanism | None:
    """The preferred mechanism if the server offers it, else the other mechanism; None if the server offers neither.

    XOAUTH2 is preferred by default: Exchange offers only XOAUTH2, and Gmail offers both.
    """
    names = {name.upper() for name in offered}
    return next((mechanism for mechanism in (preferred, *Mechanism) if mechanism in names), None)


def client_responses(user: str, host: str, port: int, access_token: Secret) -> dict[Mechanism, bytes]:
    """The client's response of each mechanism, not yet in base64. XOAUTH2 has no field for `host` and `port`.

    Sources: RFC 7628 section 3.1; https://developers.google.com/workspace/gmail/imap/xoauth2-protocol.

    Raises:
        InvalidValue: CR, LF, NUL, ^A or broken UTF-8 in `user` or `host`, or a token with characters
            that RFC 6749 appendix A.12 doesn't allow.
    """
    for field, text in (("mailbox", user), ("server", host)):
        if not text or _SEPARATORS.search(text):
            raise InvalidValue(field, "not_for_sasl", value=text)
    token = access_token.reveal()
    if not _ACCESS_TOKEN.fullmatch(token):
        raise InvalidValue("access token", "access_token_malformed")
    bearer = f"auth=Bearer {token}\x01\x01"
    return {
        Mechanism.XOAUTH2: f"user={user}\x01{bearer}".encode(),
        Mechanism.OAUTHBEARER: f"n,a={_saslname(user)},\x01host={host}\x01port={port}\x01{bearer}".encode(),
    }


def _saslname(user: str) -> str:
    """The user name with its commas and equals signs escaped (RFC 5801 section 4)."""
    return user.replace("=", "=3D").replace(",", "=2C")


def closing_response(mechanism: Mechanism) -> bytes:
    """The response that ends a refused exchange: a lone ^A (RFC 7628 section 3.2.3), an empty response for XOAUTH2."""
    return b"\x01" if mechanism is Mechanism.OAUTHBEARER else b""


def read_error(challenge: bytes) -> ErrorChallenge:
    """Read an error challenge, in base64 as the server sent it."""
    try:
        error = json.loads(b64decode(challenge.strip(), validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return ErrorChallenge("")
    if not isinstance(error, dict):
        return ErrorChallenge("")
    scope = error.get("scope")
    return ErrorChallenge(str(error.get("status", "")), scope if isinstance(scope, str) else None)


class ClientExchange:
    """One exchange of a mechanism, for every protocol: the command, then an answer to each challenge.

    `error` is the server's reason for refusing the token, if it gave one. `responded` is whether the token was sent.
    """

    def __init__(self, mechanism: Mechanism, response: bytes) -> None:
        self.mechanism = mechanism
        self.error: ErrorChallenge | None = None
        self.responded = False
        self._response = b64encode(response)

    def command(self, verb: str, limit_octets: int, *, initial_response: bool = True) -> bytes:
        """The line that begins the exchange, without CRLF; with the response if the line stays within the limit.

        Servers cut or refuse a longer line. A long token therefore waits for the first challenge.
        """
        bare = f"{verb} {self.mechanism}".encode()
        line = bare + b" " + self._response
        if not initial_response or len(line) + len(b"\r\n") > limit_octets:
            return bare
        self.responded = True
        return line

    def answer(self, challenge: bytes) -> bytes:
        """The line, without CRLF, that answers a challenge; both in base64.

        The first challenge asks for the response. The next is an error challenge, answered by the closing response.
        A third challenge has no meaning; its answer is `*`, which cancels the exchange (RFC 4954 section 4).
        """
        if not self.responded:
            self.responded = True
            return self._response
        if self.error is None:
            self.error = read_error(challenge)
            return b64encode(closing_response(self.mechanism))
        return b"*"
