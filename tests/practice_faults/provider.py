"""The practice provider with faults that a test injects, and a record of what it was asked and issued."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from authlib.oauth2.rfc6749 import InvalidGrantError
from flask import Response, jsonify, request
from joserfc import jws
from joserfc.jwk import RSAKey

from adapters.practice.authorization_server import SIGNING_ALGORITHM, AuthorizationServer, new_signing_key
from adapters.practice.ca import PracticeCA
from adapters.practice.provider import DEVICE_CODE_GRANT, Endpoint, PracticeProvider
from adapters.practice.registry import Registry, Token, same_account
from practice_faults.fault_injection import FaultInjection, InjectedFault
from practice_faults.provider_faults import (
    IdToken,
    Instead,
    NoAnswer,
    PauseBeforeAnswer,
    PauseBeforeWork,
    SignIn,
    Spoil,
    fault,
)

__all__ = ["DEVICE_CODE_GRANT", "Endpoint", "FaultyProvider", "RequestRecord"]


class AccountDisabled(InvalidGrantError):  # type: ignore[misc]
    """The reply for a disabled account, as Entra words it: `invalid_grant` with AADSTS50057."""

    description = "AADSTS50057: The user account is disabled."

    def get_body(self) -> list[tuple[str, object]]:
        """Add the number to the usual fields."""
        return [*super().get_body(), ("error_codes", [50057])]


@dataclass
class RecordingRegistry(Registry):
    """The provider's memory, with all that was ever issued and the accounts that are disabled."""

    disabled_accounts: set[str] = field(default_factory=set)
    issued_secrets: list[str] = field(default_factory=list)
    issued_user_codes: list[str] = field(default_factory=list)

    def new_secret(self, length: int) -> str:
        value = super().new_secret(length)
        self.issued_secrets.append(value)
        return value

    def add_device_code(self, device_code: str, user_code: str, client_id: str, scope: str) -> None:
        self.issued_user_codes.append(user_code)
        super().add_device_code(device_code, user_code, client_id, scope)

    def introspected(self, access_token: str) -> Token | None:
        token = super().introspected(access_token)
        return None if token and self.is_disabled(token.family.account) else token

    def is_disabled(self, account: str | None) -> bool:
        """Whether an administrator has disabled the account."""
        return account is not None and account.casefold() in self.disabled_accounts


_numbers = itertools.count()


@cache
def _key(number: int) -> RSAKey:
    return new_signing_key()


def _one_of_two_keys() -> RSAKey:
    """A signing key that the provider before this one did not have; making a key takes long."""
    return _key(next(_numbers) % 2)


class FaultyAuthorizationServer(AuthorizationServer):
    """Authlib's server, in which somebody else may sign in and an ID token may be wrong."""

    new_signing_key = staticmethod(_one_of_two_keys)
    registry: RecordingRegistry

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.faults = FaultInjection()

    def signed_in(self, account: str, grant_type: str) -> str:
        if self.registry.is_disabled(account):
            raise AccountDisabled
        wrong = self.faults.meet(SignIn, "token", grant_type)
        if wrong is None:
            return account
        others = (other for other in self.accounts if not same_account(other, account))
        return wrong.account or next(others, f"someone.else@{account.rpartition('@')[2]}")

    def sign_id_token(self, claims: Mapping[str, Any], grant_type: str) -> str:
        wrong = self.faults.meet(IdToken, "token", grant_type)
        if wrong is None:
            return super().sign_id_token(claims, grant_type)
        if wrong.payload is not None:
            header = {"alg": SIGNING_ALGORITHM, "kid": self.signing_key.kid}
            return jws.serialize_compact(header, wrong.payload, self.signing_key, [SIGNING_ALGORITHM])
        return self.signed({**claims, **wrong.claims}, new_signing_key() if wrong.forged else self.signing_key)


@dataclass
class RequestRecord:
    """One request the provider received.

    `outcome` is the `error` it was answered with, else the HTTP status; "no answer" if the connection was closed
    without one; None while it is being served.
    """

    endpoint: Endpoint
    grant_type: str | None
    at: datetime
    outcome: str | None = None


class FaultyProvider(PracticeProvider):
    """The practice provider. It answers as that does until a fault is injected."""

    registry_class = RecordingRegistry
    authorization_server_class = FaultyAuthorizationServer
    _registry: RecordingRegistry
    _oauth: FaultyAuthorizationServer

    def __init__(self, ca: PracticeCA, **options: Any) -> None:
        self.userinfo: Mapping[str, object] = {}
        """The claims at `/userinfo`, for any access token; the discovery document does not name the endpoint."""
        super().__init__(ca, **options)
        self.requests: list[RequestRecord] = []

    def close(self) -> None:
        """Let go of every request that waits, cut every connection, stop listening."""
        self.clear_faults()
        super().close()

    # What it was asked and issued

    @property
    def issued_secrets(self) -> list[str]:
        """Every access token, refresh token, device code and authorization code ever issued."""
        return list(self._registry.issued_secrets)

    @property
    def issued_user_codes(self) -> list[str]:
        """Every user code ever issued: people read these, so they aren't secrets."""
        return list(self._registry.issued_user_codes)

    @property
    def grant_counts(self) -> Counter[str]:
        """How many requests the token endpoint received, by `grant_type`."""
        return Counter(record.grant_type for record in list(self.requests) if record.grant_type)

    # What happens to accounts

    def disable_account(self, account: str) -> None:
        """Refuse the account with AADSTS50057 until it is enabled again; its grants stay."""
        self._registry.disabled_accounts.add(account.casefold())

    def enable_account(self, account: str) -> None:
        """Undo `disable_account`."""
        self._registry.disabled_accounts.discard(account.casefold())

    def spend_refresh_tokens(self, account: str) -> None:
        """Mark the account's refresh tokens as used, as if somebody else had used them."""
        with self._registry.lock:
            for token in self._registry.live_refresh_tokens(account):
                self._registry.spend_refresh_token(token)

    def expire_access_tokens(self, account: str) -> None:
        """End the account's access tokens now, whatever was promised."""
        with self._registry.lock:
            for value in self.live_access_tokens(account):
                self._registry.access_tokens[value].expires_at = self._registry.now()

    # What goes wrong

    def inject_fault(
        self,
        mode: str,
        *,
        endpoint: Endpoint = "token",
        grant_type: str | None = None,
        times: int | None = 1,
        **details: Any,
    ) -> InjectedFault:
        """Let the next `times` matching requests go wrong, or all until `clear_faults` if `times` is None.

        `mode` is a key of `provider_faults.MODES` or the name of an OAuth error; `details` are the fields of the
        fault that it makes. Faults that spoil an answer pass by the requests that are refused anyway.
        """
        return self._oauth.faults.inject(InjectedFault(fault(mode, **details), endpoint, grant_type, times))

    def hold(
        self, *, endpoint: Endpoint = "token", grant_type: str | None = None, before_work: bool = False
    ) -> InjectedFault:
        """Hold the next matching request: its answer after the work is done, or all of it if `before_work`.

        Then `wait_until_held` and `release`.
        """
        pause = PauseBeforeWork() if before_work else PauseBeforeAnswer()
        return self._oauth.faults.inject(InjectedFault(pause, endpoint, grant_type, 1))

    def clear_faults(self) -> None:
        """End every fault, and let go of the requests that wait."""
        self._oauth.faults.clear()

    def _route(self) -> None:
        super()._route()
        self._app.add_url_rule(f"/{self.tenant}/userinfo", "userinfo", self._userinfo)

    def _userinfo(self) -> Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        known = token in self._registry.access_tokens
        return jsonify(self.userinfo) if known else Response("invalid_token", 401)

    def _serve(self, endpoint: Endpoint, work: Callable[[], Response]) -> Response:
        record = RequestRecord(endpoint, request.form.get("grant_type"), self._registry.now())
        self.requests.append(record)
        answer = self._answer(endpoint, record.grant_type, work)
        record.outcome = _outcome(answer)
        return answer

    def _answer(self, endpoint: Endpoint, grant_type: str | None, work: Callable[[], Response]) -> Response:
        meet = self._oauth.faults.meet
        if pause := meet(PauseBeforeWork, endpoint, grant_type):
            pause.hold()
        if instead := meet(Instead, endpoint, grant_type):
            return instead.answer()
        answer = super()._serve(endpoint, work)
        if answer.status_code >= 400:
            return answer
        if spoil := meet(Spoil, endpoint, grant_type):
            answer = spoil.spoil(answer)
        if pause_before_answer := meet(PauseBeforeAnswer, endpoint, grant_type):
            pause_before_answer.hold()
        return answer


def _outcome(answer: Response) -> str:
    if isinstance(answer, NoAnswer):
        return "no answer"
    body = answer.get_json(silent=True) if answer.status_code >= 400 else None
    return str(body["error"]) if body else str(answer.status_code)
