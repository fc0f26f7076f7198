"""What needs a person about the installation as a whole, and not about one token."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from domain.expiry_forecast import SOON


class StoreAttention(StrEnum):
    """The code of what needs a person."""

    ON_HOLD = "on_hold"
    LOG_BEHIND = "log_behind"
    LOG_DIFFERS = "log_differs"
    BACKUP_OLD = "backup_old"
    ROW_ALTERED = "row_altered"
    CERTIFICATE_ENDS = "certificate_ends"
    CERTIFICATE_OVER = "certificate_over"
    PROVIDER_CLASH = "provider_clash"
    PROVIDER_SECRET_MISSING = "provider_secret_missing"  # noqa: S105 - a code
    PROVIDER_UNUSABLE = "provider_unusable"


HOLDS = (StoreAttention.ON_HOLD, StoreAttention.LOG_BEHIND, StoreAttention.LOG_DIFFERS)
"""The codes of a hold, of which there is one for each reason."""


@dataclass(frozen=True)
class ProviderNeed:
    """A stored provider that needs a person; `secrets` are those that nobody has uploaded yet."""

    name: str
    attention: StoreAttention
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class CertificateExpiry:
    """The end of a certificate of ours. `table` is the part of the configuration that names it, such as "[relay]"."""

    table: str
    at: datetime

    def attention(self, now: datetime) -> StoreAttention | None:
        """Why a person is needed for it; None if it lasts longer than a month."""
        if self.at <= now:
            return StoreAttention.CERTIFICATE_OVER
        return StoreAttention.CERTIFICATE_ENDS if self.at - now <= SOON else None
