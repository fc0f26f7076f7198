"""What can go wrong at the practice provider: each fault is a small strategy that a request meets.

The point at which a request can meet a fault is the fault's base class: `Instead` of the provider's work,
`Spoil` its answer after the work is done, at the `SignIn` of an account, at the making of an `IdToken`.
A `Pause` holds the request before or after the work and changes nothing.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask import Response

from practice_faults.fault_injection import Fault, Waiting

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LOGIN_PAGE = "<!doctype html><title>Sign in to the network</title><p>Please sign in to the guest network.</p>"


class NoAnswer(Response):
    """Closes the connection instead of saying anything."""

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """End the thread that serves the connection, and so the connection."""
        raise ConnectionAbortedError


class Instead(Fault):
    """Answers in place of the provider, which does no work."""

    def answer(self) -> Response:
        """Give the answer."""
        raise NotImplementedError


class Spoil(Fault):
    """Changes a successful answer after the work behind it, such as a rotation, is done."""

    def spoil(self, answer: Response) -> Response:
        """Give what reaches the client instead of `answer`."""
        raise NotImplementedError


@dataclass(frozen=True)
class SignIn(Fault):
    """Another account signs in than the one the person chose; by default the next one the provider knows."""

    account: str | None = None


@dataclass(frozen=True)
class IdToken(Fault):
    """The id_token says something else, or is signed by a key the provider doesn't publish.

    With a `payload`, these bytes are signed in place of claims.
    """

    claims: Mapping[str, object] = field(default_factory=dict)
    forged: bool = False
    payload: bytes | None = None


@dataclass(frozen=True)
class OAuthError(Instead):
    """An error reply (RFC 6749 section 5.2), with Entra's `error_codes` (AADSTS numbers) and `suberror` if given."""

    error: str
    status: int = 400
    error_codes: tuple[int, ...] = ()
    suberror: str | None = None
    description: str = "The practice provider was told to say so."
    headers: Mapping[str, str] = field(default_factory=dict)

    def answer(self) -> Response:
        """Give the error as JSON."""
        numbers = "".join(f"AADSTS{code}: " for code in self.error_codes)
        body: dict[str, object] = {"error": self.error, "error_description": numbers + self.description}
        if self.error_codes:
            body["error_codes"] = self.error_codes
        if self.suberror is not None:
            body["suberror"] = self.suberror
        return Response(json.dumps(body), self.status, self.headers, mimetype="application/json")


@dataclass(frozen=True)
class Page(Instead):
    """An answer that isn't OAuth at all: a captive portal's page, a broken proxy's, a redirect."""

    status: int = 200
    body: str = LOGIN_PAGE
    headers: Mapping[str, str] = field(default_factory=dict)

    def answer(self) -> Response:
        """Give the page as HTML."""
        return Response(self.body, self.status, self.headers, mimetype="text/html")


@dataclass(frozen=True)
class Hang(Waiting, Instead):
    """The request is accepted and never answered: until `release`, or for `seconds`, then the connection closes."""

    seconds: float | None = None

    def answer(self) -> Response:
        """Wait, then close."""
        wait([self.released], self.seconds)
        return NoAnswer()


@dataclass(frozen=True)
class Edit(Spoil):
    """A JSON answer with some fields set to other values and others left out."""

    fields: Mapping[str, object] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def spoil(self, answer: Response) -> Response:
        """Give the edited JSON."""
        body = {**json.loads(answer.get_data()), **self.fields}
        for name in self.without:
            body.pop(name, None)
        return Response(json.dumps(body), answer.status_code, mimetype="application/json")


@dataclass(frozen=True)
class Truncated(Spoil):
    """Half of the JSON, announced as if it were whole."""

    def spoil(self, answer: Response) -> Response:
        """Give the first half."""
        body = answer.get_data()
        return Response(body[: len(body) // 2], answer.status_code, mimetype="application/json")


@dataclass(frozen=True)
class AnswerLost(Spoil):
    """The work is done, then the connection closes: the client never learns what it was given."""

    def spoil(self, answer: Response) -> Response:
        """Say nothing."""
        return NoAnswer()


@dataclass(frozen=True)
class Trickle(Waiting, Spoil):
    """The answer comes in small pieces, so that no single read ever times out; the rest at once after `release`."""

    seconds_a_piece: float = 0.05
    piece_bytes: int = 1

    def spoil(self, answer: Response) -> Response:
        """Give the same answer, slowly."""
        body = answer.get_data()
        headers = {"Content-Length": str(len(body))}
        return Response(self._slowly(body), answer.status_code, headers, mimetype="application/json")

    def _slowly(self, body: bytes) -> Iterator[bytes]:
        for at in range(0, len(body), self.piece_bytes):
            wait([self.released], self.seconds_a_piece)
            yield body[at : at + self.piece_bytes]


@dataclass(frozen=True)
class Oversized(Spoil):
    """The answer with so much white space around it that a client had better stop reading."""

    size_bytes: int = 10_000_000

    def spoil(self, answer: Response) -> Response:
        """Give the same JSON, padded."""
        return Response(answer.get_data().ljust(self.size_bytes), answer.status_code, mimetype="application/json")


@dataclass(frozen=True)
class Pause(Waiting):
    """Holds a request and changes nothing; a test does things meanwhile."""

    def hold(self) -> None:
        """Wait for `release`."""
        wait([self.released])


class PauseBeforeWork(Pause):
    """Holds a request that has arrived."""


class PauseBeforeAnswer(Pause):
    """Holds an answer, after the work behind it is done."""


def _rate_limited(retry_after: int | str = 30) -> OAuthError:
    return OAuthError("temporarily_unavailable", status=429, headers={"Retry-After": str(retry_after)})


def _temporarily_unavailable(retry_after: int | str | None = None) -> OAuthError:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return OAuthError("temporarily_unavailable", status=503, headers=headers)


def _redirect(location: str) -> Page:
    return Page(status=302, body="", headers={"Location": location})


# RFC 6749 sections 4.1.2.1 and 5.2, RFC 8628 section 3.5, OpenID Connect Core section 3.1.2.6, Entra, Google.
OAUTH_ERRORS = frozenset(
    {
        "access_denied",
        "admin_policy_enforced",
        "authorization_declined",
        "authorization_pending",
        "bad_verification_code",
        "consent_required",
        "expired_token",
        "interaction_required",
        "invalid_client",
        "invalid_grant",
        "invalid_rapt",
        "invalid_request",
        "invalid_scope",
        "login_required",
        "org_internal",
        "slow_down",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_token_type",
    }
)

MODES: Mapping[str, Callable[..., Fault]] = {
    "error": OAuthError,
    "server_error": lambda: Page(status=500, body="<h1>Internal Server Error</h1>"),
    "temporarily_unavailable": _temporarily_unavailable,
    "rate_limited": _rate_limited,
    "garbage": Page,
    "redirect": _redirect,
    "hang": Hang,
    "answer_lost": AnswerLost,
    "truncated": Truncated,
    "trickle": Trickle,
    "oversized": Oversized,
    "edit": Edit,
    "expires_in": lambda value: Edit(fields={"expires_in": value}),
    "no_expires_in": lambda: Edit(without=("expires_in",)),
    "no_refresh_token": lambda: Edit(without=("refresh_token",)),
    "no_access_token": lambda: Edit(without=("access_token",)),
    "no_id_token": lambda: Edit(without=("id_token",)),
    "wrong_account": SignIn,
    "id_token": IdToken,
}


def fault(mode: str, **details: Any) -> Fault:
    """Make the fault a mode names: one of `MODES`, or an OAuth error by its own name.

    Raises:
        ValueError: there is no such mode; an error of another name is `fault("error", error=name)`.
    """
    if mode in MODES:
        return MODES[mode](**details)
    if mode in OAUTH_ERRORS:
        return OAuthError(mode, **details)
    raise ValueError(f"no such fault: {mode}")
