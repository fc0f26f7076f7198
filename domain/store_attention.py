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


HOLDS = (StoreAttention.ON_HOLD, StoreAttention.LOG_BEHIND, StoreAttention.LOG_DIFFERS)
"""The codes of a hold, of which there is one for each reason."""


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
