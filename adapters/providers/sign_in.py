"""One sign-in in a browser: what is sealed when it begins, and what the browser brings back.

Whoever has the redirect may be an attacker: it counts only with the `state` of this attempt (RFC 6749 section 10.12)
and from the issuer the browser was sent to (RFC 9207). One that does not count ends nothing.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from urllib.parse import parse_qs, urlsplit

from adapters.providers.errors import AUTHORIZATION_ERRORS, Overrides, read_error, redirect_outcome
from domain.errors import InvalidValue
from domain.outcomes import AttemptOver, Transient
from domain.secret import Secret

LIFETIME_SECONDS = 900
_FIELDS_LIMIT = 32
_PARAMETERS = ("state", "iss", "code", "error", "error_subtype")


@dataclass(frozen=True, repr=False)
class SignIn:
    """An authorization request. `nonce` is what its ID token must have, `issuer` whom the browser was sent to.

    `names_itself` says that this issuer puts `iss` into every redirect.
    """

    issuer: str
    names_itself: bool
    redirect_uri: str
    scope: str
    state: str
    nonce: str
    code_verifier: str

    def seal(self) -> Secret:
        """As it is kept."""
        return Secret(json.dumps(asdict(self)))

    @classmethod
    def unseal(cls, state: Secret) -> SignIn:
        """As it was."""
        return cls(**json.loads(state.reveal()))


def new_secret() -> str:
    """A `state`, `nonce` or code verifier: 256 random bits in 43 characters (RFC 7636 section 4.1)."""
    return secrets.token_urlsafe(32)


def read_redirect(sign_in: SignIn, redirected_to: str, overrides: Overrides) -> Secret | AttemptOver | Transient:
    """The code, or what the error in its place means.

    Raises:
        InvalidValue: the redirect is not of this attempt or not of its provider.
    """
    parameters = _parameters(redirected_to)
    if not secrets.compare_digest(_bytes(parameters.get("state", "")), _bytes(sign_in.state)):
        raise InvalidValue("redirect", "it is not of this sign-in: open the sign-in page again, and finish there")
    if not _is_from(sign_in, parameters.get("iss")):
        raise InvalidValue("redirect", "it is not of the provider the browser was sent to, so it was not used")
    if error := read_error(parameters, {**AUTHORIZATION_ERRORS, **overrides}):
        return redirect_outcome(error)
    code = parameters.get("code", "")
    if not (code.isascii() and code.isprintable() and code):
        raise InvalidValue("redirect", "it has neither a code nor an error: give the whole address")
    return Secret(code)


def _parameters(redirected_to: str) -> Mapping[str, str]:
    try:
        fields = parse_qs(urlsplit(redirected_to.strip()).query, max_num_fields=_FIELDS_LIMIT)
    except ValueError:
        fields = {}
    # A parameter must not be there twice (RFC 6749 section 3.1): which one would count?
    if any(len(fields.get(name, ())) > 1 for name in _PARAMETERS):
        return {}
    return {name: fields[name][0] for name in _PARAMETERS if name in fields}


def _is_from(sign_in: SignIn, iss: str | None) -> bool:
    if iss is None:
        return not sign_in.names_itself
    # Entra's multi-tenant issuer has a place for the person's tenant, which the ID token will name.
    pattern = re.escape(sign_in.issuer).replace(re.escape("{tenantid}"), "[0-9a-f-]{36}")
    return re.fullmatch(pattern, iss) is not None


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")
