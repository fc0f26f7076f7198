"""State that a browser keeps for the service between two requests: sealed, for one purpose, and with an end.

The store has no row of it, so anybody may begin what has such a state.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from domain.errors import VaultDamaged
from domain.ports import Clock
from domain.secret import Secret
from infrastructure.clock import instant_text, read_instant
from infrastructure.store.vault import Vault


@dataclass(frozen=True)
class KeptState:
    """The values that were sealed, and their end."""

    values: Sequence[Any]
    expires_at: datetime

    def __repr__(self) -> str:
        return f"KeptState(***, expires_at={self.expires_at!r})"


class BrowserState:
    """Seals states of one purpose, and opens them until they expire."""

    def __init__(self, purpose: str, vault: Vault, clock: Clock) -> None:
        self._purpose = purpose
        self._vault = vault
        self._clock = clock

    def seal(self, values: Sequence[Any], life: timedelta) -> Secret:
        """The values as one text, for a cookie or a hidden field."""
        text = Secret(json.dumps([*values, instant_text(self._clock.now() + life)]))
        sealed = self._vault.seal_text(self._purpose, text)
        return Secret(base64.urlsafe_b64encode(sealed.encode()).decode().rstrip("="))

    def open(self, text: Secret) -> KeptState | None:
        """The values of a text; None if they have expired, or the service did not make the text for this purpose."""
        try:
            sealed = base64.urlsafe_b64decode(text.reveal() + "==").decode()
            *values, expires_at = json.loads(self._vault.text(self._purpose, sealed).reveal())
        # A browser may send anything: no JSON, other JSON, or brackets within brackets.
        except (ValueError, TypeError, KeyError, RecursionError, VaultDamaged):
            return None
        kept = KeptState(values, read_instant(expires_at))
        return kept if self._clock.now() < kept.expires_at else None
