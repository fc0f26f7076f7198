"""The session of a person's browser, and the cookie that identifies it.

The cookie holds 256 random bits; the store holds their hash. A form's CSRF token is derived from the same bits, so it
belongs to this session and no other.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from adapters.http.principal import Principal

COOKIE = "__Host-mailtoken"
"""Browsers refuse this prefix without Secure, with a Domain, or with another Path (RFC 6265bis section 4.1.3)."""


@dataclass(frozen=True)
class BrowserSession:
    """A signed-in person's session. `csrf_token` goes into each form as `csrf`, or into the header X-CSRF-Token.

    A member of the organisation (`is_member`) is no local administrator.
    """

    principal: Principal
    csrf_token: str
    is_member: bool = False


def browser_session(request: Request) -> BrowserSession | None:
    """The session of a request; None with a client's key, and on the Unix socket."""
    session: BrowserSession | None = getattr(request.state, "session", None)
    return session
