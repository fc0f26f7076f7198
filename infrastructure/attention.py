"""What wants a person's attention, and why: the reason in the log, an alarm of this run, or what is about to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.forecast import Cause, Ending, forecast
from domain.lifecycle import Held
from domain.ports import Clock
from domain.renewal import GrantLimits
from domain.token import TokenState
from infrastructure.clock import instant_text
from infrastructure.status import SettingStatus, attention_of
from infrastructure.token_service import TokenService

VAULT_DAMAGED = "vault_damaged"
OF_PROVIDERS = frozenset({"client_registration", Cause.CLIENT_SECRET_EXPIRES.value})
"""What is wrong with a provider of the configuration, and so with each of its tokens."""


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
        return self._code(id, token, self._tokens.alarms, self.ending(token), self._clock.now())

    def now(self) -> datetime:
        """The instant as of which things are looked at."""
        return self._clock.now()

    def alarms(self) -> list[UUID]:
        """The tokens that this run has an alarm about."""
        return list(self._tokens.alarms)

    def inactivity(self) -> Iterator[tuple[str, timedelta]]:
        """By provider, how long a grant lasts that is not used."""
        return ((name, limits.inactivity) for name, limits in self._limits.items() if limits.inactivity)

    def client_secrets_end_by(self, instant: datetime) -> list[str]:
        """The providers whose client secret expires by then."""
        return [name for name, ends in self._client_secrets_expire_at.items() if ends and ends <= instant]

    def _of(self, status: SettingStatus, alarms: Mapping[UUID, str], now: datetime) -> Attended:
        ending = self.ending(status.token)
        return Attended(status, ending, self._code(status.profile.token_id, status.token, alarms, ending, now))

    def _code(
        self, id: UUID, token: TokenState, alarms: Mapping[UUID, str], ending: Ending | None, now: datetime
    ) -> str | None:
        near = ending.cause if ending and ending.is_near(now) else None
        code = attention_of(token) or alarms.get(id) or near
        return str(code) if code else None

    def ending(self, token: TokenState) -> Ending | None:
        """What will end this token first, and when."""
        provider = token.provider or ""
        limits = self._limits.get(provider, GrantLimits())
        return forecast(token, limits, self._client_secrets_expire_at.get(provider))
