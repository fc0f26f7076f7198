"""What is good for one use and for a while: a set-up link, and a sign-in at the organisation's provider under way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.ports import Clock
from domain.secret import Secret
from infrastructure.bearer import new_bearer, stored
from infrastructure.clock import instant_text
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

    def keep(
        self, bearer: Secret, kind: str, about: str, made_by: str, life: timedelta, *, only_one: bool = False
    ) -> datetime:
        """Make this a one-time secret; with `only_one` the others of its kind about the same are no good any more.

        Returns when it ends.
        """
        now = self._clock.now()
        with self._store.writing() as query:
            query.run("DELETE FROM one_time WHERE expires_at <= ?", (instant_text(now),))
            if only_one:
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


@dataclass(frozen=True)
class BegunSignIn:
    """What the provider's library remembers of a sign-in, and the path the person came for."""

    state: Secret
    came_for: str


class BegunSignIns:
    """Sign-ins at the organisation's provider that are under way: what to remember of each, sealed, by its browser."""

    _KIND = "organisation sign-in"

    def __init__(self, store: Store, vault: Vault, clock: Clock) -> None:
        self._secrets = OneTimeSecrets(store, clock)
        self._vault = vault

    def begin(self, state: Secret, came_for: str, life: timedelta) -> Secret:
        """Remember these; returns what the browser is to show when it comes back."""
        browser = new_bearer()
        text = Secret(json.dumps([state.reveal(), came_for]))
        self._secrets.keep(browser, self._KIND, self._vault.seal_text(stored(browser), text), "service", life)
        return browser

    def look(self, browser: Secret) -> BegunSignIn | None:
        """What was to be remembered; None if it is over, was finished, or was begun by another browser."""
        found = self._secrets.look(self._KIND, browser)
        if found is None:
            return None
        state, came_for = json.loads(self._vault.text(stored(browser), found.about).reveal())
        return BegunSignIn(Secret(state), came_for)

    def finish(self, browser: Secret) -> bool:
        """Whether it was under way until now: it is finished once."""
        return self._secrets.use(self._KIND, browser) is not None
