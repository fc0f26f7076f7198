"""Who is signed in with a browser: the session of a request, and the cookie that stands for it.

The cookie holds 256 random bits; the store holds their hash. What a form has to show, the CSRF token, is derived from
the same bits, so it is of this session and no other.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from adapters.http.callers import Caller

COOKIE = "__Host-mailtoken"
"""The prefix has browsers refuse it without Secure, with a Domain, or with another Path (RFC 6265bis section 4.1.3)."""


@dataclass(frozen=True)
class Session:
    """A person who is signed in. `csrf_token` goes into each form as `csrf`, or into the header X-CSRF-Token."""

    caller: Caller
    csrf_token: str


def session_of(request: Request) -> Session | None:
    """The session this request came with; None for a client key, and on the Unix socket."""
    session: Session | None = getattr(request.state, "session", None)
    return session
