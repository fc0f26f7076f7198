"""A sign-in in a browser: the authorization request, stored encrypted, and the redirect with its response.

An attacker may forge a redirect. A redirect counts only with the `state` of this attempt (RFC 6749 section 10.12) and
from the issuer that the browser was sent to (RFC 9207). Any other redirect leaves the attempt as it is.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from urllib.parse import parse_qs, urlsplit

from adapters.providers.error_table import (
    AUTHORIZATION_ERRORS,
    Overrides,
    described_numbers,
    read_error,
    redirect_outcome,
)
from domain.errors import InvalidValue
from domain.outcomes import AttemptOver, Transient
from domain.secret import Secret

LIFETIME_SECONDS = 900
_FIELDS_LIMIT = 32
_PARAMETERS = ("state", "iss", "code", "error", "error_subtype", "error_description")


@dataclass(frozen=True, repr=False)
class AuthorizationRequest:
    """An authorization request (RFC 6749 section 4.1.1).

    `nonce` is the nonce that the ID token must have, `issuer` the issuer that the browser was sent to.

    `names_itself` is whether this issuer puts `iss` into every redirect.
    """

    issuer: str
    names_itself: bool
    redirect_uri: str
    scope: str
    state: str
    nonce: str
    code_verifier: str

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The parts of the request that no other party may learn."""
        return Secret(self.state), Secret(self.nonce), Secret(self.code_verifier)

    def seal(self) -> Secret:
        """The request as JSON, for the vault."""
        return Secret(json.dumps(asdict(self)))

    @classmethod
    def unseal(cls, state: Secret) -> AuthorizationRequest:
        """The request in a text that `seal` made."""
        return cls(**json.loads(state.reveal()))


def new_secret() -> str:
    """A `state`, `nonce` or code verifier: 256 random bits in 43 characters (RFC 7636 section 4.1)."""
    return secrets.token_urlsafe(32)


def read_redirect(
    sign_in: AuthorizationRequest, redirected_to: str, overrides: Overrides
) -> Secret | AttemptOver | Transient:
    """The code in the redirect, or the outcome that its error means.

    Raises:
        InvalidValue: the redirect is not of this attempt, or not from its provider.
    """
    parameters = _parameters(redirected_to)
    if not secrets.compare_digest(_bytes(parameters.get("state", "")), _bytes(sign_in.state)):
        raise InvalidValue("redirect", "redirect_of_another_sign_in")
    if not _is_from(sign_in, parameters.get("iss")):
        raise InvalidValue("redirect", "redirect_of_another_provider")
    # Entra has no `error_codes` in a redirect; without a grant the description's numbers can't end one.
    numbers = described_numbers(parameters.get("error_description", ""))
    if error := read_error({**parameters, "error_codes": numbers}, {**AUTHORIZATION_ERRORS, **overrides}):
        return redirect_outcome(error)
    code = parameters.get("code", "")
    if not (code.isascii() and code.isprintable() and code):
        raise InvalidValue("redirect", "redirect_without_code")
    return Secret(code)


def _parameters(redirected_to: str) -> Mapping[str, str]:
    try:
        fields = parse_qs(urlsplit(redirected_to.strip()).query, max_num_fields=_FIELDS_LIMIT)
    except ValueError:
        fields = {}
    # A redirect with a repeated parameter is ambiguous and not allowed (RFC 6749 section 3.1).
    if any(len(fields.get(name, ())) > 1 for name in _PARAMETERS):
        return {}
    return {name: fields[name][0] for name in _PARAMETERS if name in fields}


def _is_from(sign_in: AuthorizationRequest, iss: str | None) -> bool:
    if iss is None:
        return not sign_in.names_itself
    # Entra's multi-tenant issuer has a placeholder for the person's tenant, which the ID token will name.
    pattern = re.escape(sign_in.issuer).replace(re.escape("{tenantid}"), "[0-9a-f-]{36}")
    return re.fullmatch(pattern, iss) is not None


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")
