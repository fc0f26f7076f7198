"""What is good for one use and for a while: a set-up link, and a sign-in at the organisation's provider under way.

Anybody may begin a sign-in, so beginning one stores nothing: the browser keeps what is to be remembered, sealed.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.errors import VaultDamaged
from domain.ports import Clock
from domain.secret import Secret
from infrastructure.bearer import stored
from infrastructure.clock import instant_text, read_instant
from infrastructure.store import Store
from infrastructure.vault import Vault


@dataclass(frozen=True)
class OneTime:
    """What a one-time secret stands for: `about` is its kind's own, `made_by` who made it."""

    about: str
    made_by: str


class OneTimeSecrets:
    """One-time secrets of every kind, in the store by their hash."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def keep(self, bearer: Secret, kind: str, about: str, made_by: str, life: timedelta) -> datetime:
        """Make this a one-time secret; the others of its kind about the same are no good any more.

        Returns when it ends.
        """
        now = self._clock.now()
        with self._store.writing() as query:
            query.run("DELETE FROM one_time WHERE expires_at <= ?", (instant_text(now),))
            query.run("DELETE FROM one_time WHERE kind = ? AND about = ?", (kind, about))
            query.run(
                "INSERT INTO one_time VALUES (?, ?, ?, ?, ?)",
                (stored(bearer), kind, about, made_by, instant_text(now + life)),
            )
        return now + life

    def look(self, kind: str, bearer: Secret) -> OneTime | None:
        """What it stands for, and it stays; None if it is over, was used, or never was one."""
        with self._store.reading() as query:
            rows = query.rows(
                "SELECT about, made_by FROM one_time WHERE hash = ? AND kind = ? AND expires_at > ?",
                (stored(bearer), kind, instant_text(self._clock.now())),
            )
        return OneTime(rows[0]["about"], rows[0]["made_by"]) if rows else None

    def use(self, kind: str, bearer: Secret) -> OneTime | None:
        """The same, and it is used up: of two who come with it at once, one gets it."""
        found = self.look(kind, bearer)
        with self._store.writing() as query:
            used = query.run("DELETE FROM one_time WHERE hash = ? AND kind = ?", (stored(bearer), kind))
        return found if used == 1 else None

    def spend(self, secret: Secret, kind: str, expires_at: datetime) -> bool:
        """Note that a secret which was not kept here, and is over by itself at `expires_at`, is used up.

        Returns whether it was not until now: of two who come with it at once, one hears so.
        """
        with self._store.writing() as query:
            query.run("DELETE FROM one_time WHERE expires_at <= ?", (instant_text(self._clock.now()),))
            noted = query.run(
                "INSERT INTO one_time VALUES (?, ?, '', 'service', ?) ON CONFLICT (hash) DO NOTHING",
                (stored(secret), kind, instant_text(expires_at)),
            )
        return noted == 1


@dataclass(frozen=True)
class BegunSignIn:
    """What the provider's library remembers of a sign-in, the path the person came for, and when it is over."""

    state: Secret
    came_for: str
    expires_at: datetime


class BegunSignIns:
    """Sign-ins at the organisation's provider that are under way: what to remember of each, sealed, in its browser."""

    _KIND = "organisation sign-in"

    def __init__(self, store: Store, vault: Vault, clock: Clock) -> None:
        self._secrets = OneTimeSecrets(store, clock)
        self._vault = vault
        self._clock = clock

    def begin(self, state: Secret, came_for: str, life: timedelta) -> Secret:
        """Remember these; returns what the browser is to show when it comes back, in characters fit for a cookie."""
        expires_at = instant_text(self._clock.now() + life)
        text = Secret(json.dumps([state.reveal(), came_for, expires_at]))
        sealed = self._vault.seal_text(self._KIND, text)
        return Secret(base64.urlsafe_b64encode(sealed.encode()).decode().rstrip("="))

    def look(self, browser: Secret) -> BegunSignIn | None:
        """What was to be remembered; None if it is over, or was not begun by this browser."""
        try:
            sealed = base64.urlsafe_b64decode(browser.reveal() + "==").decode()
            state, came_for, expires_at = json.loads(self._vault.text(self._KIND, sealed).reveal())
        # It may be anything: no JSON, other JSON, or brackets within brackets.
        except (ValueError, TypeError, KeyError, RecursionError, VaultDamaged):
            return None
        begun = BegunSignIn(Secret(state), came_for, read_instant(expires_at))
        return begun if self._clock.now() < begun.expires_at else None

    def finish(self, begun: BegunSignIn) -> bool:
        """Whether it was under way until now: it is finished once."""
        return self._clock.now() < begun.expires_at and self._secrets.spend(begun.state, self._KIND, begun.expires_at)
