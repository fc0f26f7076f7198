"""Secrets that work once and expire: of set-up links, and of sign-ins at the organisation's provider.

Anybody may begin a sign-in, so `begin` stores nothing: the browser keeps the sealed state in a cookie.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.errors import VaultDamaged
from domain.ports import Clock
from domain.secret import Secret
from infrastructure.access.bearer_tokens import token_hash
from infrastructure.clock import instant_text, read_instant
from infrastructure.store.store import Store
from infrastructure.store.vault import Vault


@dataclass(frozen=True)
class OneTimeLink:
    """A link that is still usable. The meaning of `about` depends on its kind; `made_by` is the actor."""

    about: str
    made_by: str


class OneTimeLinks:
    """One-time links of every kind, in the store by the hash of their secret."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def add(self, secret: Secret, kind: str, about: str, made_by: str, life: timedelta) -> datetime:
        """Store a link, in place of one with the same kind and `about`; returns the instant of its expiry."""
        now = self._clock.now()
        with self._store.writing() as query:
            query.run("DELETE FROM one_time WHERE expires_at <= ?", (instant_text(now),))
            query.run("DELETE FROM one_time WHERE kind = ? AND about = ?", (kind, about))
            query.run(
                "INSERT INTO one_time (hash, kind, about, made_by, expires_at) VALUES (?, ?, ?, ?, ?)",
                (token_hash(secret), kind, about, made_by, instant_text(now + life)),
            )
        return now + life

    def find(self, kind: str, secret: Secret) -> OneTimeLink | None:
        """The link with this secret; None if the link has expired, was used, or never existed."""
        with self._store.reading() as query:
            rows = query.rows(
                "SELECT about, made_by FROM one_time WHERE hash = ? AND kind = ? AND expires_at > ?",
                (token_hash(secret), kind, instant_text(self._clock.now())),
            )
        return OneTimeLink(rows[0]["about"], rows[0]["made_by"]) if rows else None

    def use(self, kind: str, secret: Secret) -> OneTimeLink | None:
        """Find the link and use it up. Of two uses at the same time only one gets the link."""
        found = self.find(kind, secret)
        with self._store.writing() as query:
            used = query.run("DELETE FROM one_time WHERE hash = ? AND kind = ?", (token_hash(secret), kind))
        return found if used == 1 else None

    def mark_used(self, secret: Secret, kind: str, expires_at: datetime) -> bool:
        """Record that a secret is used up. The secret is stored elsewhere, and expires at `expires_at`.

        Returns whether this is the first use. Of two uses at the same time only one is the first.
        """
        with self._store.writing() as query:
            query.run("DELETE FROM one_time WHERE expires_at <= ?", (instant_text(self._clock.now()),))
            added = query.run(
                "INSERT INTO one_time (hash, kind, about, made_by, expires_at) VALUES (?, ?, '', 'service', ?) "
                "ON CONFLICT (hash) DO NOTHING",
                (token_hash(secret), kind, instant_text(expires_at)),
            )
        return added == 1


@dataclass(frozen=True)
class PendingSignIn:
    """A sign-in under way: the state of the provider's library, and the path that the person wants to see."""

    state: Secret
    next_path: str
    expires_at: datetime


class PendingSignIns:
    """Sign-ins at the organisation's provider that are under way, each sealed in its browser's cookie."""

    _KIND = "organisation sign-in"

    def __init__(self, store: Store, vault: Vault, clock: Clock) -> None:
        self._used = OneTimeLinks(store, clock)
        self._vault = vault
        self._clock = clock

    def begin(self, state: Secret, next_path: str, life: timedelta) -> Secret:
        """The value of the cookie for a new sign-in."""
        expires_at = instant_text(self._clock.now() + life)
        text = Secret(json.dumps([state.reveal(), next_path, expires_at]))
        sealed = self._vault.seal_text(self._KIND, text)
        return Secret(base64.urlsafe_b64encode(sealed.encode()).decode().rstrip("="))

    def find(self, cookie: Secret) -> PendingSignIn | None:
        """The sign-in of this cookie; None if the sign-in has expired, or the service did not make the cookie."""
        try:
            sealed = base64.urlsafe_b64decode(cookie.reveal() + "==").decode()
            state, next_path, expires_at = json.loads(self._vault.text(self._KIND, sealed).reveal())
        # A cookie may hold anything: no JSON, other JSON, or brackets within brackets.
        except (ValueError, TypeError, KeyError, RecursionError, VaultDamaged):
            return None
        pending = PendingSignIn(Secret(state), next_path, read_instant(expires_at))
        return pending if self._clock.now() < pending.expires_at else None

    def finish(self, pending: PendingSignIn) -> bool:
        """End a sign-in; returns False if it has expired or has ended before."""
        return self._clock.now() < pending.expires_at and self._used.mark_used(
            pending.state, self._KIND, pending.expires_at
        )
