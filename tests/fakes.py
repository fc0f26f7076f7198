"""Hand-written fakes at the ports, and the services wired over them as `adapters.bootstrap` does it."""

from __future__ import annotations

import itertools
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from domain.catalogue import catalogue as catalogue_of
from domain.errors import InvalidValue, Unreachable
from domain.outcomes import (
    AcquisitionOutcome,
    AttemptOver,
    BrowserAuthorization,
    ClientFault,
    Credential,
    DeviceAuthorization,
    GrantDead,
    Granted,
    Identity,
    InDoubt,
    Pending,
    Reason,
    RenewalOutcome,
    Transient,
)
from domain.ports import Clock, Exchange, Provider, Reply
from domain.secret import Secret
from infrastructure.access.administrators import Administrators, CodeNeeded
from infrastructure.access.api_clients import ApiClients
from infrastructure.access.password_hashing import PasswordHasher
from infrastructure.access.relay_users import RelayUsers
from infrastructure.access.sessions import Sessions
from infrastructure.encryption.envelope import Sealer
from infrastructure.fleet.settings import SettingsService
from infrastructure.queries.audit import Audit
from infrastructure.queries.history import History
from infrastructure.queries.setting_status import SettingStatus
from infrastructure.store.event_log import EventLog
from infrastructure.store.store import Store
from infrastructure.store.vault import Vault
from infrastructure.tokens.access_token_cache import AccessTokenCache
from infrastructure.tokens.claims import Claims
from infrastructure.tokens.escrow import Escrow
from infrastructure.tokens.exchange import TokenExchange
from infrastructure.tokens.renewal import ServedAccessToken
from infrastructure.tokens.token_service import TokenService

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
SCANNER = "scan@contoso.com"
FAX = "fax@contoso.com"
SCOPE = "https://outlook.office.com/SMTP.Send offline_access"


class FakeClock:
    """Stands still until it is stepped, forward or back."""

    def __init__(self, instant: datetime = START) -> None:
        self.instant = instant
        self._elapsed = 0.0

    def now(self) -> datetime:
        return self.instant

    def step(self, **span: float) -> datetime:
        """Go on by this `timedelta`."""
        self._elapsed += timedelta(**span).total_seconds()
        return self.jump(**span)

    def jump(self, **span: float) -> datetime:
        """Show another time by this `timedelta`, which has not passed."""
        self.instant += timedelta(**span)
        return self.instant

    def elapsed(self) -> float:
        return self._elapsed


@dataclass(frozen=True)
class Answer:
    """A token endpoint's answer, told before it is asked."""

    status: int
    body: bytes


def error(code: str, status: int = 400) -> Answer:
    """An OAuth error (RFC 6749 section 5.2)."""
    return Answer(status, json.dumps({"error": code}).encode())


SERVER_ERROR = Answer(503, b"<html>Service Unavailable</html>")
GARBAGE = Answer(200, b"<html>Welcome</html>")
NOTHING = None
"""No answer at all."""


class FakeProvider:
    """An authorization server in memory, with refresh token rotation: it keeps the reply before it reads it.

    It answers `authorization_pending` until a person approves, and renews any refresh token it gave last. `answers`
    says otherwise for the next requests of the token endpoint, `meanwhile` does something while one is under way.
    """

    client_id = "mailtoken-at-contoso"

    def __init__(self, name: str = "contoso") -> None:
        self.name = name
        self.flows: Sequence[str] = ("device", "browser", "app")
        self.client_faults: Mapping[str, ClientFault] = {}
        self.revokes_one_grant = False
        self.reachable = True
        self.lifetime_seconds = 3600
        self.interval_seconds = 5
        self.renewable = True
        self.requests: list[str] = []
        self.revoked: list[str] = []
        self._signed_in: str | None = None
        self._live: set[str] = set()
        self._answers: deque[Answer | None] = deque()
        self._meanwhile: deque[Callable[[], object]] = deque()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    # What a test says

    def approve(self, account: str = SCANNER) -> None:
        """The person signs in: the next poll brings the token."""
        self._signed_in = account

    def answers(self, *answers: Answer | None) -> None:
        """Answer the next requests of the token endpoint so; None is no answer."""
        self._answers.extend(answers)

    def meanwhile(self, act: Callable[[], object]) -> None:
        """Do this once, after the next request of the token endpoint has arrived and before its reply leaves."""
        self._meanwhile.append(act)

    def kill_grants(self) -> None:
        """Forget every refresh token there is."""
        self._live.clear()

    def grant(self, account: str, **changes: Any) -> Answer:
        """A grant for this account that works from now on; a change to None leaves a field out."""
        with self._lock:
            return Answer(200, json.dumps(self._grant(account, **changes)).encode())

    # The port

    def scopes(self, protocol: str, flow: str = "device") -> Sequence[str]:
        return (f"https://outlook.office.com/{protocol.upper()}", "offline_access")

    def request_device_code(self, scopes: Sequence[str], now: datetime) -> DeviceAuthorization:
        self._request("device_code")
        number = next(self._numbers)
        uri = "https://login.contoso.com/device"
        return DeviceAuthorization(
            user_code=f"CODE-{number:04}",
            verification_uri=uri,
            verification_uri_complete=f"{uri}?code=CODE-{number:04}",
            interval_seconds=self.interval_seconds,
            expires_at=now + timedelta(minutes=15),
            state=Secret(f"device-code-in-clear-{number}"),
        )

    def redeem_device_code(self, pending: DeviceAuthorization, exchange: Exchange, now: datetime) -> AcquisitionOutcome:
        return _acquisition(self._exchange("poll", exchange, now, self._sign_in), pending.interval_seconds)

    def request_browser(
        self, scopes: Sequence[str], redirect_uri: str, account: str, now: datetime
    ) -> BrowserAuthorization:
        self._request("browser")
        state = f"state-{next(self._numbers)}"
        uri = f"https://login.contoso.com/authorize?login_hint={account}&redirect_uri={redirect_uri}&state={state}"
        return BrowserAuthorization(uri, now + timedelta(minutes=15), Secret(state))

    def redeem_code(
        self, pending: BrowserAuthorization, redirected_to: str | None, exchange: Exchange, now: datetime
    ) -> AcquisitionOutcome:
        if redirected_to is not None and f"state={pending.state.reveal()}" not in redirected_to:
            raise InvalidValue("redirect", "redirect_of_another_sign_in")
        return _acquisition(self._exchange("code", exchange, now, lambda: self._sign_in("invalid_grant")), 0)

    def request_app_token(
        self, scopes: Sequence[str], account: str, exchange: Exchange, now: datetime
    ) -> RenewalOutcome:
        reply = self._exchange("app", exchange, now, lambda: self._grant(account, refresh_token=None))
        outcome = _renewal(reply, None)
        if isinstance(outcome, Granted):
            return replace(outcome, identity=Identity(account, self.client_id, None))
        return outcome

    def refresh(self, credential: Credential, exchange: Exchange, now: datetime) -> RenewalOutcome:
        reply = self._exchange("refresh", exchange, now, lambda: self._refresh(credential))
        return _renewal(reply, credential.refresh_token)

    def read_grant(self, reply: Reply) -> Credential | None:
        grant = _read(reply)
        return _credential(grant, reply, None) if isinstance(grant, dict) else None

    def revoke(self, credential: Credential) -> bool:
        self.requests.append("revoke")
        if not self.reachable or credential.refresh_token is None:
            return False
        self.revoked.append(credential.refresh_token.reveal())
        self._live.discard(self.revoked[-1])
        return True

    # The authorization server

    def _request(self, request: str) -> None:
        self.requests.append(request)
        if not self.reachable:
            raise Unreachable("provider_unreachable", provider=self.name, why="no_answer_in_time")

    def _exchange(
        self, request: str, exchange: Exchange, now: datetime, answer: Callable[[], dict[str, Any] | Answer]
    ) -> Reply | None:
        if exchange.reply:
            return exchange.reply
        with self._lock:
            self.requests.append(request)
            if not self.reachable:
                return None
            told = self._answers.popleft() if self._answers else answer
            act = self._meanwhile.popleft() if self._meanwhile else None
            answered = told() if callable(told) else told
        if act:
            act()
        if answered is None:
            return None
        if isinstance(answered, dict):
            answered = Answer(200, json.dumps(answered).encode())
        reply = Reply(answered.status, (), answered.body, now)
        exchange.keep(reply)
        return reply

    def _sign_in(self, otherwise: str = "authorization_pending") -> dict[str, Any] | Answer:
        account, self._signed_in = self._signed_in, None
        return self._grant(account) if account else error(otherwise)

    def _refresh(self, credential: Credential) -> dict[str, Any] | Answer:
        refresh_token = credential.refresh_token and credential.refresh_token.reveal()
        if refresh_token not in self._live:
            return error("invalid_grant")
        self._live.discard(refresh_token)
        return self._grant(None)

    def _grant(self, account: str | None, **changes: Any) -> dict[str, Any]:
        number = next(self._numbers)
        grant = {
            "access_token": f"access-token-in-clear-{number}",
            "refresh_token": f"refresh-token-in-clear-{number}" if self.renewable else None,
            "expires_in": self.lifetime_seconds,
            "account": account,
            **changes,
        }
        if grant["refresh_token"]:
            self._live.add(grant["refresh_token"])
        return {name: value for name, value in grant.items() if value is not None}


def _acquisition(reply: Reply | None, interval_seconds: int) -> AcquisitionOutcome:
    if reply is None:
        return Transient("no_answer_in_time")
    match _read(reply):
        case dict() as grant:
            return Granted(_credential(grant, reply, None), _identity(grant))
        case "authorization_pending":
            return Pending(interval_seconds)
        case "slow_down":
            return Pending(interval_seconds + 5)
        case "access_denied" | "expired_token" as code:
            return AttemptOver(Reason(code), code)
        case "invalid_client" as code:
            return ClientFault(code, "client_id")
        case str() as code:
            return AttemptOver(Reason.CODE_REJECTED, code)
        case other:
            return other


def _renewal(reply: Reply | None, old: Secret | None) -> RenewalOutcome:
    if reply is None:
        return Transient("no_answer_in_time")
    match _read(reply):
        case dict() as grant:
            return Granted(_credential(grant, reply, old), None)
        case "invalid_client" as code:
            return ClientFault(code, "client_id")
        case "unheard_of" as code:
            return Transient(code, is_known=False)
        case str() as code:
            return GrantDead(Reason.INVALID_GRANT, code)
        case other:
            return other


def _read(reply: Reply) -> dict[str, Any] | str | Transient | InDoubt:
    """The grant, the code of an error, or what the reply is instead."""
    if reply.status >= 500:
        return Transient(f"HTTP {reply.status}")
    try:
        document = json.loads(reply.body)
    except ValueError:
        return InDoubt("not_json")
    grant_or_code: dict[str, Any] | str = document.get("error", document)
    return grant_or_code


def _credential(grant: dict[str, Any], reply: Reply, old: Secret | None) -> Credential:
    expires_at = reply.received_at + timedelta(seconds=grant["expires_in"])
    refresh_token = Secret(grant["refresh_token"]) if "refresh_token" in grant else old
    return Credential(Secret(grant["access_token"]), refresh_token, SCOPE, reply.received_at, expires_at)


def _identity(grant: dict[str, Any]) -> Identity:
    return Identity(grant["account"], grant.get("subject", f"subject-of-{grant['account']}"), "contoso-tenant")


def session_of(result: Secret | CodeNeeded) -> Secret:
    """The session that a sign-in without a second factor began."""
    assert isinstance(result, Secret)
    return result


@dataclass
class Services:
    """The services on one store, with what they are made of. Making them again is what a restart does."""

    store: Store
    sealer: Sealer
    store_id: str
    directory: Path
    clock: Clock
    providers: Mapping[str, Provider]
    events: EventLog = field(init=False)
    vault: Vault = field(init=False)
    escrow: Escrow = field(init=False)
    claims: Claims = field(init=False)
    tokens: TokenService = field(init=False)
    settings: SettingsService = field(init=False)
    audit: Audit = field(init=False)
    history: History = field(init=False)
    relay_users: RelayUsers = field(init=False)
    sessions: Sessions = field(init=False)
    administrators: Administrators = field(init=False)
    clients: ApiClients = field(init=False)
    access_token_cache: AccessTokenCache = field(init=False)

    def __post_init__(self) -> None:
        self.events = EventLog(self.store)
        self.vault = Vault(self.sealer, self.store_id)
        self.escrow = Escrow(self.directory / "escrow", self.sealer, self.store_id)
        self.claims = Claims(self.store, str(self.directory / "escrow"))
        exchange = TokenExchange(self.events, self.vault, self.escrow, self.claims, self.providers, self.clock)
        self.tokens = TokenService(exchange)
        self.settings = SettingsService(self.events, self.clock, self.providers)
        self.audit = Audit(self.events, self.vault)
        self.history = History(self.events)
        hasher = PasswordHasher()
        self.relay_users = RelayUsers(self.events, self.vault, self.tokens, self.clock, hasher)
        self.sessions = Sessions(self.events, self.clock, timedelta(hours=12))
        self.administrators = Administrators(self.events, self.vault, self.clock, hasher, self.sessions)
        self.clients = ApiClients(self.events, self.vault, self.clock)
        self.access_token_cache = AccessTokenCache(self.events, self.tokens, self.clock)

    def restart(self) -> Services:
        """The services of the next run of the program, before it recovers anything."""
        return Services(self.store, self.sealer, self.store_id, self.directory, self.clock, self.providers)

    def add_machine(self, name: str = "office-mfp", catalogue: str = "sharp-bp", account: str = SCANNER) -> list[str]:
        """A machine, with provider and account filled in everywhere."""
        changes = self.settings._changes("administrator")
        names = [profile.state.name for profile in changes.add_machine(name, catalogue_of(catalogue))]
        for one in names:
            changes.set_fields(one, {"provider": next(iter(self.providers)), "account": account})
        changes.save()
        return names

    def get_token(self, name: str, account: str = SCANNER) -> SettingStatus:
        """Get Token, with a person who signs in at once."""
        self.tokens.request(name, None, "administrator")
        provider = self.providers[self.tokens.status(name).profile.settings.provider or ""]
        assert isinstance(provider, FakeProvider)
        provider.approve(account)
        self.tokens.poll(self.tokens.status(name).profile.token_id)
        return self.tokens.status(name)

    def label(self, name: str) -> str:
        """What the setting displays under "Token"."""
        return self.tokens.status(name).token.status.value

    def access_token(self, name: str, min_ttl_seconds: int | None = None) -> ServedAccessToken:
        return self.tokens.access_token(name, min_ttl_seconds, "client")
