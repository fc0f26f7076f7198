"""The alarms of tokens: why a token needs a person, for a reason that is not in the event log."""

from __future__ import annotations

from uuid import UUID

import structlog

from domain.errors import VaultDamaged

log = structlog.get_logger("mailtoken")


class Alarms:
    """The alarm of each token, in memory: after a restart an alarm is raised again when its cause is met again."""

    def __init__(self) -> None:
        self.codes: dict[UUID, str] = {}
        """The code of each alarm, by token."""
        self.causes: dict[UUID, str] = {}
        """The provider's error code behind an alarm, or a code of this service such as `HTTP 503`, by token."""
        self.settings: dict[UUID, str] = {}
        """The setting of the provider to correct, by token, where it is known."""

    def begin(self, token_id: UUID, code: str, why: str, setting: str | None = None) -> None:
        """Mark a token as needing a person's attention.

        `why` is the provider's error code or one of this service; `setting` is the provider's setting to correct.
        """
        self.causes[token_id] = why
        if setting:
            self.settings[token_id] = setting
        else:
            self.settings.pop(token_id, None)
        self.codes[token_id] = code
        log.error("alarm_raised", alarm=code, token=str(token_id), why=why)

    def end(self, token_id: UUID) -> None:
        """Remove the mark of a token."""
        self.codes.pop(token_id, None)
        self.causes.pop(token_id, None)
        self.settings.pop(token_id, None)

    def quarantine(self, token_id: UUID, damaged: VaultDamaged) -> None:
        """Mark a token whose sealed row does not open as needing a person's attention; no other token is affected."""
        self.codes[token_id] = "vault_damaged"
        log.error("alarm_raised", alarm="vault_damaged", token=str(token_id), why=str(damaged))
