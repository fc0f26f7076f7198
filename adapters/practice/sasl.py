"""The server's side of SASL XOAUTH2 and OAUTHBEARER: parses a client's response, and makes the error challenge.

Sources: RFC 7628; Google's "OAuth 2.0 Mechanism" page for XOAUTH2.
"""

import json
import re
from dataclasses import dataclass
from typing import Literal

Mechanism = Literal["XOAUTH2", "OAUTHBEARER"]
MECHANISMS: tuple[Mechanism, ...] = ("XOAUTH2", "OAUTHBEARER")

_XOAUTH2 = re.compile(r"user=(?P<user>[^\x00\x01\r\n]+)\x01auth=Bearer (?P<token>[\x21-\x7e]+)\x01\x01", re.ASCII)
# RFC 7628 section 3.1: gs2-header kvsep *kvpair kvsep; the keys host and port may come before auth or after it.
_OAUTHBEARER = re.compile(
    r"n,(?:a=(?P<user>[^\x00\x01,]+))?,\x01"
    r"(?:(?:host|port)=[^\x00\x01]*\x01)*"
    r"auth=Bearer (?P<token>[\x21-\x7e]+)\x01"
    r"(?:(?:host|port)=[^\x00\x01]*\x01)*\x01",
    re.ASCII | re.IGNORECASE,
)


class MalformedResponse(Exception):
    """The client's response isn't in the form that its mechanism requires."""


@dataclass(frozen=True)
class BearerResponse:
    """A client's user and token; without a user the token's own account is meant."""

    user: str | None
    token: str

    def __repr__(self) -> str:
        return f"BearerResponse(user={self.user!r}, token=***)"


def parse(mechanism: Mechanism, response: bytes) -> BearerResponse:
    """Read an initial client response, already decoded from base64.

    Raises:
        MalformedResponse: the response isn't in the form that the mechanism requires.
    """
    pattern = _XOAUTH2 if mechanism == "XOAUTH2" else _OAUTHBEARER
    found = pattern.fullmatch(response.decode("utf-8", errors="replace"))
    if found is None:
        raise MalformedResponse(mechanism)
    user = found["user"]
    return BearerResponse(user and _plain_saslname(user, mechanism), found["token"])


def refusal(mechanism: Mechanism, *, issuer: str) -> bytes:
    """The error challenge: the reason, as JSON, why a token is refused (RFC 7628 section 3.2.2)."""
    if mechanism == "XOAUTH2":
        return json.dumps({"status": "401", "schemes": "bearer", "scope": "https://mail.google.com/"}).encode()
    configuration = f"{issuer}/.well-known/openid-configuration"
    return json.dumps({"status": "invalid_token", "openid-configuration": configuration}).encode()


def _plain_saslname(user: str, mechanism: Mechanism) -> str:
    # RFC 5801 section 4 escapes the two characters that a gs2-header can't hold.
    return user.replace("=2C", ",").replace("=3D", "=") if mechanism == "OAUTHBEARER" else user
