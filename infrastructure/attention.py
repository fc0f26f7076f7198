"""What wants a person's attention, and why: the reason in the log, an alarm of this run, or what is about to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.forecast import Cause, Ending, forecast
from domain.lifecycle import Held
from domain.ports import Clock
from domain.renewal import GrantLimits
from infrastructure.clock import instant_text
from infrastructure.status import SettingStatus
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

    def statuses(self) -> list[Attended]:
        """Every setting now."""
        statuses = self._tokens.statuses()
        # One look at the alarms and the clock for all: settings that share a token must not disagree.
        alarms, now = dict(self._tokens.alarms), self._clock.now()
        return [self._of(status, alarms, now) for status in statuses]

    def of(self, status: SettingStatus) -> Attended:
        """What this status wants."""
        return self._of(status, self._tokens.alarms, self._clock.now())

    def _of(self, status: SettingStatus, alarms: Mapping[UUID, str], now: datetime) -> Attended:
        ending = self._ending(status)
        near = ending.cause if ending and ending.is_near(now) else None
        code = status.attention or alarms.get(status.profile.token_id) or near
        return Attended(status, ending, str(code) if code else None)

    def _ending(self, status: SettingStatus) -> Ending | None:
        provider = status.token.provider or ""
        limits = self._limits.get(provider, GrantLimits())
        return forecast(status.token, limits, self._client_secrets_expire_at.get(provider))
