"""What wants a person's attention, and why: the reason in the log, an alarm of this run, or what is about to end.

Of a large fleet only the tokens are read that may want somebody: the store finds them by a few columns, and maybe some
more of them, and the domain judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.forecast import SOON, Cause, Ending, first_ending, forecast, used_since
from domain.lifecycle import Held, TokenStatus
from domain.ports import Clock
from domain.renewal import GrantLimits
from domain.token import TokenState
from infrastructure.clock import instant_text, read_instant
from infrastructure.rows import GENERATION_COLUMNS, generation, token_state
from infrastructure.status import SettingStatus, attention_of
from infrastructure.store import Query, rows_in
from infrastructure.token_service import TokenService

VAULT_DAMAGED = "vault_damaged"
OF_PROVIDERS = frozenset({"client_registration", Cause.CLIENT_SECRET_EXPIRES.value})
"""What is wrong with a provider of the configuration, and so with each of its tokens."""
_NO_LIMITS = GrantLimits()
_FEW_COLUMNS = (
    f"SELECT id, status, since, provider, dead, sign_in_seconds, attempt_expires_at, {GENERATION_COLUMNS} FROM token"  # noqa: S608
)


@dataclass(frozen=True)
class Attended:
    """A setting's status, what will end its token first, and a code for what wants attention."""

    status: SettingStatus
    ending: Ending | None
    attention: str | None

    @property
    def works(self) -> bool:
        """Whether its token can still be handed out."""
        return self.status.token.held is Held.LIVE and self.attention != VAULT_DAMAGED

    def as_json(self) -> dict[str, Any]:
        """The status with what only the running service knows."""
        ending = self.ending and {"cause": self.ending.cause.value, "at": instant_text(self.ending.at)}
        return {**self.status.as_json(), "attention": self.attention, "forecast": ending}


@dataclass(frozen=True, slots=True)
class AttendedToken:
    """What counting and ordering take of a token, what will end it first, and a code for what wants attention."""

    id: str
    status: TokenStatus
    since: datetime
    provider: str | None
    ending: Ending | None
    attention: str | None


class Attention:
    """Looks at statuses with what the configuration says of each provider."""

    def __init__(
        self,
        tokens: TokenService,
        clock: Clock,
        limits: Mapping[str, GrantLimits],
        client_secrets_expire_at: Mapping[str, datetime | None],
    ) -> None:
        self._tokens = tokens
        self._clock = clock
        self._limits = limits
        self._client_secrets_expire_at = client_secrets_expire_at

    def statuses(self, after: str = "", limit: int | None = None) -> list[Attended]:
        """Every setting now, or the next `limit` behind a name."""
        return self.of_all(self._tokens.statuses(after, limit))

    def of(self, status: SettingStatus) -> Attended:
        """What this status wants."""
        return self._of(status, self._tokens.alarms, self._clock.now())

    def of_all(self, statuses: Iterable[SettingStatus]) -> list[Attended]:
        """What these statuses of one snapshot want."""
        # One look at the alarms and the clock for all: settings that share a token must not disagree.
        alarms, now = dict(self._tokens.alarms), self._clock.now()
        return [self._of(status, alarms, now) for status in statuses]

    def of_token(self, id: UUID, token: TokenState) -> str | None:
        """The code for what wants attention about this token."""
        return _code(attention_of(token), self._tokens.alarms.get(id), self.ending(token), self._clock.now())

    def now(self) -> datetime:
        """The instant as of which things are looked at."""
        return self._clock.now()

    def alarms(self) -> list[UUID]:
        """The tokens that this run has an alarm about."""
        return list(self._tokens.alarms)

    def near(self, query: Query, now: datetime) -> Iterator[AttendedToken]:
        """The tokens that may not be what their rows say any more, or may be near their end."""
        ending, parameters = self._may_end(now, lambda inactivity: used_since(inactivity, now))
        return self._judged(query, query.rows(f"{_FEW_COLUMNS} WHERE {ending}", parameters), self._alarms(), now)

    def soon(self, query: Query, now: datetime) -> Iterator[AttendedToken]:
        """The tokens that may want a person, or may end within `SOON`."""
        ending, parameters = self._may_end(now, lambda inactivity: now + SOON - inactivity)
        rows = query.rows(f"{_FEW_COLUMNS} WHERE status = ? OR {ending}", [TokenStatus.INVALID.value, *parameters])
        alarms = self._alarms()
        others = list(alarms.keys() - {row["id"] for row in rows})
        return self._judged(query, [*rows, *rows_in(query, f"{_FEW_COLUMNS} WHERE id IN", others)], alarms, now)

    def _alarms(self) -> dict[str, str]:
        return {str(id): code for id, code in dict(self._tokens.alarms).items()}

    def _may_end(self, now: datetime, unused_since: Callable[[timedelta], datetime]) -> tuple[str, list[str]]:
        """The condition for tokens whose time may be over, or that may end within `SOON`.

        A grant that ends when it is not used counts if it was used last before `unused_since` of its inactivity.
        """
        ends = ["renewable = 0", "sign_in_seconds IS NOT NULL", "grant_expires_at <= ?"]
        parameters = [instant_text(now), instant_text(now + SOON)]
        for provider, limits in self._limits.items():
            if limits.inactivity:
                ends.append("(provider = ? AND issued_at <= ?)")
                parameters += [provider, instant_text(unused_since(limits.inactivity))]
        for provider, secret_expires_at in self._client_secrets_expire_at.items():
            if secret_expires_at and secret_expires_at <= now + SOON:
                ends.append("provider = ?")
                parameters.append(provider)
        return f"(attempt_expires_at <= ? OR (dead IS NULL AND ({' OR '.join(ends)})))", parameters

    def _judged(
        self, query: Query, rows: Iterable[Mapping[str, Any]], alarms: Mapping[str, str], now: datetime
    ) -> Iterator[AttendedToken]:
        instant, over = instant_text(now), list[str]()
        for row in rows:
            if _may_be_over(row, instant):
                over.append(row["id"])
            else:
                yield self._of_row(row, alarms, now)
        for row in rows_in(query, "SELECT * FROM token WHERE id IN", over):
            id, token = row["id"], token_state(row).at(now)
            ending = self.ending(token)
            code = _code(attention_of(token), alarms.get(id), ending, now)
            yield AttendedToken(id, token.status, token.since, token.provider, ending, code)

    def _of_row(self, row: Mapping[str, Any], alarms: Mapping[str, str], now: datetime) -> AttendedToken:
        id, status, provider, dead = row["id"], TokenStatus(row["status"]), row["provider"], row["dead"]
        credential = None if dead else generation(row)
        limits, sign_in_seconds = self._limits_of(provider), row["sign_in_seconds"]
        ending = first_ending(credential, sign_in_seconds, *limits) if credential else None
        code = _code(dead if status is TokenStatus.INVALID else None, alarms.get(id), ending, now)
        return AttendedToken(id, status, read_instant(row["since"]), provider, ending, code)

    def _of(self, status: SettingStatus, alarms: Mapping[UUID, str], now: datetime) -> Attended:
        token, ending = status.token, self.ending(status.token)
        return Attended(status, ending, _code(attention_of(token), alarms.get(status.profile.token_id), ending, now))

    def ending(self, token: TokenState) -> Ending | None:
        """What will end this token first, and when."""
        return forecast(token, *self._limits_of(token.provider))

    def _limits_of(self, provider: str | None) -> tuple[GrantLimits, datetime | None]:
        name = provider or ""
        return self._limits.get(name, _NO_LIMITS), self._client_secrets_expire_at.get(name)


def _may_be_over(row: Mapping[str, Any], instant: str) -> bool:
    """Whether this is not what its row says any more: its attempt ran out, or the token, which nothing renews."""
    attempt_ends, expires = row["attempt_expires_at"], row["expires_at"]
    return bool((attempt_ends and attempt_ends <= instant) or (expires and not row["renewable"] and expires <= instant))


def _code(dead: str | None, alarm: str | None, ending: Ending | None, now: datetime) -> str | None:
    code = dead or alarm or (ending.cause if ending and ending.is_near(now) else None)
    return str(code) if code else None
