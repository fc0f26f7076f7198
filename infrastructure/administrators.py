"""Who may sign in: the service's own administrators, and the links with which they choose a password.

Root on the Unix socket needs none of this, so nobody is locked out for good. There is no default password: without an
administrator a one-time link is what lets the first one in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import structlog

from domain.administrator import ROLES, Administrator, AdministratorState
from domain.errors import NotFound, NotPermitted, Refused, VaultDamaged
from domain.ports import Clock
from domain.relay_user import check_password, comparable
from domain.secret import Secret
from infrastructure.bearer import new_bearer
from infrastructure.lockout import Lockout
from infrastructure.log import EventLog
from infrastructure.one_time import OneTime, OneTimeSecrets
from infrastructure.passwords import PasswordHasher
from infrastructure.rows import administrator_state
from infrastructure.sessions import Sessions
from infrastructure.store import Alongside, Query
from infrastructure.vault import Vault

log = structlog.get_logger("mailtoken")

_WRONG = "wrong name or password"
_NO_LINK = "this link is not good any more: mailtoken administrator link gives a new one"
_LINK = "set-up link"
_LINK_LIFE = timedelta(hours=1)


@dataclass(frozen=True)
class ListedAdministrator:
    """An administrator as others see them."""

    name: str
    roles: tuple[str, ...]
    has_password: bool


@dataclass(frozen=True)
class SetUpLink:
    """The secret of a link, whose password it sets (None: it makes the first administrator), and when it ends."""

    secret: Secret
    administrator: str | None
    expires_at: datetime


@dataclass(frozen=True)
class _Stored:
    id: UUID
    version: int
    state: AdministratorState


class Administrators:
    """The use cases around administrators."""

    def __init__(
        self, events: EventLog, vault: Vault, clock: Clock, passwords: PasswordHasher, sessions: Sessions
    ) -> None:
        self._events = events
        self._vault = vault
        self._clock = clock
        self._passwords = passwords
        self._sessions = sessions
        self._links = OneTimeSecrets(events.store, clock)
        self._lockout = Lockout(clock)

    # What an administrator does

    def administrators(self) -> list[ListedAdministrator]:
        """Every administrator, in the order of their names."""
        states = (one.state for one in self._all())
        listed = (ListedAdministrator(one.name, one.roles, one.password > 0) for one in states)
        return sorted(listed, key=lambda one: one.name)

    def add(self, name: str, roles: Iterable[str], password: Secret | None, by: str) -> None:
        """Add an administrator; without a password they need a link to choose one.

        Raises:
            InvalidValue: not a name, roles or a password.
            Refused: the name is taken.
        """
        hashed = self._hash(password) if password else None
        administrator = Administrator.add(uuid4(), name, roles, by=by, now=self._clock.now())
        if self._stored_as(name):
            raise Refused(f"{name}: there is an administrator with this name already")
        self._save(administrator, hashed, by)

    def set_roles(self, name: str, roles: Iterable[str], by: str) -> None:
        """Let an administrator hold these roles and no others, at once, also where they are signed in.

        Raises:
            NotFound: no such administrator.
            InvalidValue: not roles.
        """
        administrator = self._administrator(name)
        administrator.set_roles(roles, by=by, now=self._clock.now())
        self._events.save(administrator)

    def set_password(self, name: str, password: Secret, by: str) -> None:
        """Give an administrator a new password; wherever they are signed in they are not any more.

        Raises:
            NotFound: no such administrator.
            InvalidValue: not a password.
        """
        hashed = self._hash(password)
        self._save(self._administrator(name), hashed, by)
        self._lockout.forgive(name)

    def remove(self, name: str, by: str) -> None:
        """Let an administrator in no more; wherever they are signed in they are not any more.

        Raises:
            NotFound: no such administrator.
        """
        administrator = self._administrator(name)
        administrator.remove(by=by, now=self._clock.now())
        self._events.save(administrator)
        self._sessions.end_all(administrator.id)
        self._events.store.forget()

    # Links

    def link(self, name: str | None, by: str) -> SetUpLink:
        """A link with which an administrator chooses a password; without a name, with which the first one is made.

        It is good for an hour and once, and those made before for the same are not any more.

        Raises:
            NotFound: no such administrator.
            Refused: no name, and there are administrators.
        """
        if name is None and self._all():
            raise Refused("there are administrators already: name the one who is to choose a new password")
        about = str(self._administrator(name).id) if name is not None else ""
        bearer = new_bearer()
        return SetUpLink(bearer, name, self._links.keep(bearer, _LINK, about, by, _LINK_LIFE))

    def first_link(self) -> SetUpLink | None:
        """The link that makes the first administrator; None if there is one already."""
        return None if self._all() else self.link(None, "service")

    def whose_link(self, secret: Secret) -> str | None:
        """Whose password the link sets; None if it makes the first administrator.

        Raises:
            NotPermitted: it is over, was used, or never was one.
        """
        found = self._look(secret)
        return self._name_of(UUID(found.about)) if found.about else None

    def use_link(self, secret: Secret, name: str, password: Secret) -> Secret:
        """Choose a password with a link, and sign in; returns what the browser is to show from now on.

        With a link for the first administrator `name` becomes that, with every role.

        Raises:
            NotPermitted: the link is over, was used, or never was one.
            InvalidValue: not a name or a password; the link stays good.
        """
        whose, by = self.whose_link(secret), f"link:{self._look(secret).made_by}"
        hashed = self._hash(password)
        if whose is None:
            administrator = Administrator.add(uuid4(), name, ROLES, by=by, now=self._clock.now())
        else:
            administrator = self._administrator(whose)
        if self._links.use(_LINK, secret) is None or (whose is None and self._all()):
            raise NotPermitted(_NO_LINK)
        self._save(administrator, hashed, by)
        self._lockout.forgive(administrator.state.name)
        return self._sessions.begin(administrator.id, administrator.state)

    def _look(self, secret: Secret) -> OneTime:
        found = self._links.look(_LINK, secret)
        if found is None:
            raise NotPermitted(_NO_LINK)
        return found

    # Signing in

    def sign_in(self, name: str, password: Secret, address: str) -> Secret:
        """Sign in from `address`; returns what the browser is to show from now on.

        Raises:
            NotPermitted: wrong name or password, whichever.
            LockedOut: too many wrong ones; nothing was looked at.
            Unreachable: too many sign in at once.
        """
        self._lockout.try_one(name, address)
        stored = self._stored_as(name)
        right = self._passwords.verify(self._hash_of(stored), comparable(password))
        if not stored or not right:
            log.warning("sign_in_refused", address=address)
            raise NotPermitted(_WRONG)
        self._lockout.forgive(name, address)
        # Of the password that was verified: by now there may be a new one, and then this session is over already.
        return self._sessions.begin(stored.id, stored.state)

    # Shared

    def _save(self, administrator: Administrator, hashed: Secret | None, by: str) -> None:
        put = []
        if hashed:
            administrator.change_password(by=by, now=self._clock.now())
            put = [self._vault.seal_sign_in_hash(administrator.id, administrator.state.password, hashed)]
        self._events.save(administrator, beside=Alongside(put=put))
        self._sessions.end_all(administrator.id)
        self._events.store.forget()

    def _hash(self, password: Secret) -> Secret:
        check_password(password)
        return self._passwords.hash(comparable(password))

    def _hash_of(self, stored: _Stored | None) -> Secret | None:
        if not stored or not stored.state.password:
            return None
        try:
            with self._events.store.reading() as query:
                return self._vault.sign_in_hash(query, stored.id, stored.state.password)
        except VaultDamaged as damaged:
            log.error("vault_damaged", why=str(damaged))
            return None

    def _administrator(self, name: str) -> Administrator:
        stored = self._stored_as(name)
        if not stored:
            raise NotFound(f"no administrator is called {name!r}: see mailtoken administrator list")
        return self._events.load(Administrator, stored.id)

    def _name_of(self, id: UUID) -> str:
        names = [one.state.name for one in self._all() if one.id == id]
        if not names:
            raise NotPermitted("this link is not good any more: its administrator was removed")
        return names[0]

    def _stored_as(self, name: str) -> _Stored | None:
        return next((one for one in self._all() if one.state.name == name), None)

    def _all(self) -> list[_Stored]:
        with self._events.store.reading() as query:
            return _stored(query)


def _stored(query: Query) -> list[_Stored]:
    rows = query.rows("SELECT * FROM administrator")
    return [_Stored(UUID(row["id"]), row["version"], administrator_state(row)) for row in rows]
