"""Why a token needs a person: the reason in the log, an alarm of the running service, or an expiry that is near.

Only tokens that may need a person are read in full. The store selects candidates by a few columns, some more than
needed, and the domain decides about each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

from domain.attention import urgency_of
from domain.expiry_forecast import SOON, Cause, Expiry, first_expiry, forecast, used_since
from domain.lifecycle import Held, TokenStatus
from domain.outcomes import GrantWarning, ProviderReply
from domain.ports import Clock
from domain.renewal import GrantLimits
from domain.store_attention import HOLDS, StoreAttention
from domain.token_state import TokenState, concern
from infrastructure.clock import instant_text, read_instant
from infrastructure.queries.setting_status import SettingStatus, read_status_pages, read_statuses, read_statuses_called
from infrastructure.queries.store_state import read_hold_code
from infrastructure.store.query import Query, rows_in
from infrastructure.store.row_macs import UNREADABLE
from infrastructure.store.rows import GENERATION_COLUMNS, generation, token_state
from infrastructure.store.store import Store

VAULT_DAMAGED = "vault_damaged"
ROW_ALTERED = StoreAttention.ROW_ALTERED.value
PROVIDER_LEFT = "provider_left"
OF_PROVIDERS = frozenset({"client_registration", PROVIDER_LEFT, Cause.CLIENT_SECRET_EXPIRES.value})
"""Codes about a configured provider; they affect each of its tokens."""
OF_STORE = frozenset(map(str, HOLDS))
"""Codes about the store as a whole; they affect each live token."""
_NO_LIMITS = GrantLimits()
_COLUMNS = f"id, status, since, provider, dead, warning, sign_in_seconds, attempt_expires_at, {GENERATION_COLUMNS}"
_FEW_COLUMNS = f"SELECT {_COLUMNS} FROM token"  # noqa: S608


def works(attention: str | None) -> bool:
    """Whether a live token can be served in spite of this attention."""
    return attention not in {VAULT_DAMAGED, ROW_ALTERED}


def cause_of(code: str, provider: str | None, token_id: UUID | str) -> str:
    """The key of a cause: that of a provider or of the store is one for all of its tokens."""
    if code in OF_STORE:
        return code
    return f"{code} {provider}" if code in OF_PROVIDERS else f"{code} {token_id}"


@dataclass(frozen=True)
class StatusWithAttention:
    """A setting's status, its token's first expiry, and the reason code if the token needs a person.

    `attention_code` is the provider's error code behind an alarm, or a code of this service such as `HTTP 503`.
    `attention_setting` is the provider's setting to correct, where it is known. `provider_reply` has the provider's own
    words about the last refusal in this run. `provider_stored`: the provider is not of the configuration file.
    """

    status: SettingStatus
    expiry: Expiry | None
    attention: str | None
    attention_code: str | None = None
    attention_setting: str | None = None
    provider_reply: ProviderReply | None = None
    provider_stored: bool = False

    @property
    def works(self) -> bool:
        """Whether its token can still be served."""
        return self.status.token.held is Held.LIVE and works(self.attention)

    @property
    def cause(self) -> str | None:
        """The key of the cause, which is the same for every setting that needs a person for it."""
        return self.attention and cause_of(self.attention, self.status.token.provider, self.status.profile.token_id)

    def as_json(self) -> dict[str, Any]:
        """The status in JSON, with the alarm and the forecast that only the running service knows."""
        expiry = self.expiry and {"cause": self.expiry.cause.value, "at": instant_text(self.expiry.at)}
        of_now = {
            "attention": self.attention,
            "attention_code": self.attention_code,
            "attention_setting": self.attention_setting,
            "provider_stored": self.provider_stored,
            "urgency": urgency_of(self.attention) if self.attention else None,
            "cause": self.cause,
            "provider_reply": self.provider_reply and asdict(self.provider_reply),
            "forecast": expiry,
        }
        return {**self.status.as_json(), **of_now}


@dataclass(frozen=True, slots=True)
class TokenWithAttention:
    """The facts about a token for counting and sorting, its first expiry, and the code of why it needs a person."""

    id: str
    status: TokenStatus
    since: datetime
    provider: str | None
    expiry: Expiry | None
    attention: str | None
    is_live: bool = True

    @property
    def cause(self) -> str:
        """The key of the cause, which is the same for every token that needs a person for it."""
        return cause_of(self.attention or "", self.provider, self.id)


class Attention:
    """Judges statuses by the running service's alarms and by the configuration of each provider.

    `alarms` has codes by token id; the running service adds and removes them. `alarm_causes` has the provider's error
    code of an alarm, if there is one, and `alarm_settings` the setting to correct. `last_refusal` has the provider's
    words about a token, by its id. A live token of a provider that is not in `providers` needs a person; None stands
    for every provider. `is_stored` says whether a provider is in the store, by its name.
    """

    def __init__(
        self,
        store: Store,
        alarms: Mapping[UUID, str],
        clock: Clock,
        limits: Mapping[str, GrantLimits],
        client_secrets_expire_at: Mapping[str, datetime | None],
        *,
        alarm_causes: Mapping[UUID, str] = MappingProxyType({}),
        alarm_settings: Mapping[UUID, str] = MappingProxyType({}),
        last_refusal: Callable[[UUID], ProviderReply | None] = lambda _: None,
        providers: Collection[str] | None = None,
        is_stored: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._store = store
        self._running_alarms = alarms
        self._alarm_causes = alarm_causes
        self._alarm_settings = alarm_settings
        self._last_refusal = last_refusal
        self._clock = clock
        self._limits = limits
        self._client_secrets_expire_at = client_secrets_expire_at
        self._providers = providers
        self._is_stored = is_stored

    def statuses(self, after: str = "", limit: int | None = None) -> list[StatusWithAttention]:
        """Every setting as of now, or the next `limit` after the name `after`."""
        with self._store.reading() as query:
            statuses = read_statuses(query, self._clock.now(), after, limit)
            hold = read_hold_code(query)
        return self.of_all(statuses, hold)

    def every_status(self) -> Iterator[StatusWithAttention]:
        """Every setting as of now, in one snapshot; no more than some hundreds are in memory at once."""
        with self._store.reading() as query:
            hold = read_hold_code(query)
            for page in read_status_pages(query, self._clock.now()):
                yield from self.of_all(page, hold)

    def statuses_in_need(self) -> list[StatusWithAttention]:
        """Every setting that needs a person as of now; only the tokens that may need one are read."""
        with self._store.reading() as query:
            now, hold = self._clock.now(), read_hold_code(query)
            tokens = [one.id for one in self.soon(query, now) if one.attention]
            rows = [
                *rows_in(query, "SELECT name FROM profile WHERE token_id IN", tokens),
                *rows_in(query, "SELECT name FROM profile WHERE id IN", [str(id) for id in self._altered()]),
            ]
            names = list({row["name"] for row in rows})
            statuses = read_statuses_called(query, names, now)
        return [one for one in self.of_all(statuses, hold) if one.attention]

    def of(self, status: SettingStatus, hold: str | None = None) -> StatusWithAttention:
        """The status with the code of why it needs a person."""
        [judged] = self.of_all([status], hold)
        return judged

    def of_all(self, statuses: Iterable[SettingStatus], hold: str | None = None) -> list[StatusWithAttention]:
        """All statuses of one snapshot, each with the code of why it needs a person.

        `hold` is the code of the hold, on which each token in hand needs a person before it can be renewed.
        """
        # The alarms and the clock are read once: settings that share a token must not disagree.
        alarms, now = self._altered() | dict(self._running_alarms), self._clock.now()
        judged = [self._of(status, alarms, now) for status in statuses]
        if hold:
            return [replace(one, attention=hold, attention_code=None) if one.works else one for one in judged]
        return judged

    def of_token(self, id: UUID, token: TokenState) -> str | None:
        """The code of why this token needs a person; None if it does not."""
        alarm = self._alarm(self._running_alarms.get(id), token.provider, is_live=token.held is Held.LIVE)
        return _code(token.attention, alarm, self.expiry(token), self._clock.now())

    def now(self) -> datetime:
        """The instant that statuses are judged at."""
        return self._clock.now()

    def alarms(self) -> list[UUID]:
        """The ids of the tokens with an alarm."""
        return list(self._running_alarms)

    def out_of_date(self, query: Query, now: datetime) -> list[str]:
        """The ids of the tokens whose row is out of date: an attempt or a credential has expired since."""
        condition = "attempt_expires_at <= ? OR (dead IS NULL AND renewable = 0 AND expires_at <= ?)"
        return [row["id"] for row in query.rows(f"SELECT id FROM token WHERE {condition}", [instant_text(now)] * 2)]  # noqa: S608

    def near(self, query: Query, now: datetime) -> Iterator[TokenWithAttention]:
        """The tokens whose row may be out of date, or whose expiry may be near."""
        condition, parameters = self._may_end(now, lambda inactivity: used_since(inactivity, now))
        return self._judged(query, query.rows(f"{_FEW_COLUMNS} WHERE {condition}", parameters), self._alarms(), now)

    def soon(self, query: Query, now: datetime) -> Iterator[TokenWithAttention]:
        """The tokens that may need a person, or may expire within `SOON`; each live one while the store is on hold."""
        if hold := read_hold_code(query):
            tokens = self._judged(query, query.rows(_FEW_COLUMNS), self._alarms(), now)
            return (replace(one, attention=hold) if one.is_live and works(one.attention) else one for one in tokens)
        condition, parameters = self._may_end(now, lambda inactivity: now + SOON - inactivity)
        rows = query.rows(f"{_FEW_COLUMNS} WHERE status = ? OR {condition}", [TokenStatus.INVALID.value, *parameters])
        alarms = self._alarms()
        others = list(alarms.keys() - {row["id"] for row in rows})
        return self._judged(query, [*rows, *rows_in(query, f"{_FEW_COLUMNS} WHERE id IN", others)], alarms, now)

    def _alarm(self, running: str | None, provider: str | None, *, is_live: bool) -> str | None:
        """The alarm of the running service, or that no renewal is possible because the provider is not configured."""
        has_left = is_live and self._providers is not None and provider not in self._providers
        return running or (PROVIDER_LEFT if has_left else None)

    def _alarms(self) -> dict[str, str]:
        return {str(id): code for id, code in (self._altered() | dict(self._running_alarms)).items()}

    def _altered(self) -> dict[UUID, str]:
        """The alarm of each token and profile whose row was altered, by its id."""
        altered = [row.id for row in self._store.row_checks.altered if row.table in ("token", "profile")]
        return {UUID(id): ROW_ALTERED for id in altered if _is_id(id)}

    def _may_end(self, now: datetime, unused_since: Callable[[timedelta], datetime]) -> tuple[str, list[str]]:
        """The SQL condition for tokens that may have expired or may expire within `SOON`, and its parameters.

        A grant that ends by inactivity counts if its last use is before `unused_since(inactivity)`.
        """
        ends = ["renewable = 0", "warning IS NOT NULL", "sign_in_seconds IS NOT NULL", "grant_expires_at <= ?"]
        parameters = [instant_text(now), instant_text(now + SOON)]
        for provider, limits in self._limits.items():
            if limits.inactivity:
                ends.append("(provider = ? AND issued_at <= ?)")
                parameters += [provider, instant_text(unused_since(limits.inactivity))]
        for provider, secret_expires_at in self._client_secrets_expire_at.items():
            if secret_expires_at and secret_expires_at <= now + SOON:
                ends.append("provider = ?")
                parameters.append(provider)
        if self._providers is not None:
            others = ", ".join("?" * len(self._providers))
            ends.append(f"provider NOT IN ({others})" if others else "provider IS NOT NULL")
            parameters += self._providers
        return f"(attempt_expires_at <= ? OR (dead IS NULL AND ({' OR '.join(ends)})))", parameters

    def _judged(
        self, query: Query, rows: Iterable[Mapping[str, Any]], alarms: Mapping[str, str], now: datetime
    ) -> Iterator[TokenWithAttention]:
        instant, over = instant_text(now), list[str]()
        for row in rows:
            # An altered row may hold anything.
            with suppress(*UNREADABLE):
                if _may_be_over(row, instant):
                    over.append(row["id"])
                else:
                    yield self._of_row(row, alarms, now)
        for row in rows_in(query, "SELECT * FROM token WHERE id IN", over):
            try:
                id, token = row["id"], token_state(row).at(now)
            except UNREADABLE:
                continue
            expiry = self.expiry(token)
            is_live = token.held is Held.LIVE
            code = _code(token.attention, self._alarm(alarms.get(id), token.provider, is_live=is_live), expiry, now)
            yield TokenWithAttention(id, token.status, token.since, token.provider, expiry, code, is_live)

    def _of_row(self, row: Mapping[str, Any], alarms: Mapping[str, str], now: datetime) -> TokenWithAttention:
        id, status, provider, dead = row["id"], TokenStatus(row["status"]), row["provider"], row["dead"]
        credential = None if dead else generation(row)
        limits, sign_in_seconds = self._limits_of(provider), row["sign_in_seconds"]
        expiry = first_expiry(credential, sign_in_seconds, *limits) if credential else None
        warning = GrantWarning(row["warning"]) if row["warning"] else None
        reason = concern(credential, warning) if credential else dead if status is TokenStatus.INVALID else None
        alarm = self._alarm(alarms.get(id), provider, is_live=credential is not None)
        code = _code(reason, alarm, expiry, now)
        is_live = credential is not None
        return TokenWithAttention(id, status, read_instant(row["since"]), provider, expiry, code, is_live)

    def _of(self, status: SettingStatus, alarms: Mapping[UUID, str], now: datetime) -> StatusWithAttention:
        token, id, expiry = status.token, status.profile.token_id, self.expiry(status.token)
        running = alarms.get(id) or alarms.get(status.profile_id)
        alarm = self._alarm(running, token.provider, is_live=token.held is Held.LIVE)
        code = _code(token.attention, alarm, expiry, now)
        return self.with_details(StatusWithAttention(status, expiry, code))

    def with_details(self, judged: StatusWithAttention) -> StatusWithAttention:
        """The status with what this run knows beside its code: the cause of an alarm and the provider's words."""
        id = judged.status.profile.token_id
        is_alarm = judged.attention and judged.attention == self._running_alarms.get(id)
        cause, setting = (self._alarm_causes.get(id), self._alarm_settings.get(id)) if is_alarm else (None, None)
        return replace(
            judged,
            attention_code=cause,
            attention_setting=setting,
            provider_reply=self._last_refusal(id),
            provider_stored=self._is_stored(
                judged.status.token.provider or judged.status.profile.settings.provider or ""
            ),
        )

    def expiry(self, token: TokenState) -> Expiry | None:
        """The first expiry of this token; None if none is known."""
        return forecast(token, *self._limits_of(token.provider))

    def _limits_of(self, provider: str | None) -> tuple[GrantLimits, datetime | None]:
        name = provider or ""
        return self._limits.get(name, _NO_LIMITS), self._client_secrets_expire_at.get(name)


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _may_be_over(row: Mapping[str, Any], instant: str) -> bool:
    """Whether the row is out of date: its attempt has expired, or its access token has and can't be renewed."""
    attempt_ends, expires = row["attempt_expires_at"], row["expires_at"]
    return bool((attempt_ends and attempt_ends <= instant) or (expires and not row["renewable"] and expires <= instant))


def _code(reason: str | None, alarm: str | None, expiry: Expiry | None, now: datetime) -> str | None:
    """The most urgent code: the reason of an Invalid token, an alarm, a warning about a credential, a near expiry."""
    warning = reason if isinstance(reason, GrantWarning) else None
    dead = None if warning else reason
    code = dead or alarm or warning or (expiry.cause if expiry and expiry.is_near(now) else None)
    return str(code) if code else None
