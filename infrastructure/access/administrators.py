"""Administrators: the people who sign in with a password that the service keeps, and the links that set it.

Root on the Unix socket needs no account, so an organisation is never locked out for good. There is no default
password: a one-time link creates the first administrator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import structlog

from domain.administrator import ROLES, Administrator, AdministratorState
from domain.errors import Conflict, NotPermitted, Refused
from domain.one_time_link import OneTimeLink
from domain.ports import Clock
from domain.secret import Secret
from domain.session import SessionEnd
from infrastructure.access.accounts import ADMINISTRATOR, Account, Accounts
from infrastructure.access.bearer_tokens import new_token
from infrastructure.access.browser_state import BrowserState
from infrastructure.access.login_throttle import LoginThrottle
from infrastructure.access.one_time_links import OneTimeLinks, UsableLink
from infrastructure.access.password_hashing import PasswordHasher
from infrastructure.access.second_factors import SecondFactors
from infrastructure.access.sessions import Sessions
from infrastructure.store.event_log import CONFLICTS, EventLog
from infrastructure.store.store import UnitOfWork
from infrastructure.store.vault import Vault

log = structlog.get_logger("mailtoken")

_LINK_LIFE = timedelta(hours=1)
_SIGN_IN_LIFE = timedelta(minutes=15)


@dataclass(frozen=True)
class ListedAdministrator:
    """An administrator in the list."""

    name: str
    roles: tuple[str, ...]
    has_password: bool
    has_second_factor: bool = False
    machines: tuple[str, ...] = ()


@dataclass(frozen=True)
class CodeNeeded:
    """A sign-in that goes on with a code of the second factor; `state` is for the browser to send back with it."""

    state: Secret


@dataclass(frozen=True)
class SetUpLink:
    """A link that sets the password of `administrator`; None stands for the first administrator."""

    secret: Secret
    administrator: str | None
    expires_at: datetime


class Administrators:
    """The use cases around administrators."""

    def __init__(
        self, events: EventLog, vault: Vault, clock: Clock, passwords: PasswordHasher, sessions: Sessions
    ) -> None:
        self._events = events
        self._clock = clock
        self._accounts = Accounts(ADMINISTRATOR, events, vault, passwords)
        self._sessions = sessions
        self._links = OneTimeLinks(events, clock)
        self._throttle = LoginThrottle(clock, sessions.places)
        self._sign_ins = BrowserState("sign-in with a code", vault, clock)
        self.second_factors = SecondFactors(events, vault, clock, self._accounts, self._throttle, sessions)

    # Administration

    def administrators(self) -> list[ListedAdministrator]:
        """Every administrator, in the order of their names."""
        return [_listed(account.state) for account in self._accounts.all()]

    def administrator(self, name: str) -> ListedAdministrator:
        """The administrator of this name.

        Raises:
            NotFound: no such administrator.
        """
        return _listed(self._accounts.load(name).state)

    def check_new_name(self, name: str) -> None:
        """Check that an administrator can be added with this name.

        Raises:
            InvalidValue: the text can't be a name.
            Refused: the name is taken.
        """
        self._accounts.check_new_name(name)

    def add(
        self, name: str, roles: Iterable[str], password: Secret | None, by: str, machines: Iterable[str] = ()
    ) -> None:
        """Add an administrator. Without a password the administrator needs a link to choose a password.

        `machines` are the patterns of the machines that the administrator is limited to.

        Raises:
            InvalidValue: the name, a role, a pattern or the password is not valid.
            Refused: the name is taken.
        """
        hashed = self._accounts.hash(password) if password else None
        administrator = Administrator.add(uuid4(), name, roles, by=by, now=self._clock.now())
        administrator.limit(machines, by=by, now=self._clock.now())
        self._accounts.check_free(name)
        self._save(administrator, hashed, by)

    def set_roles(self, name: str, roles: Iterable[str], by: str) -> None:
        """Give an administrator these roles and no others. Sessions that are open get the roles at once.

        Raises:
            NotFound: no such administrator.
            InvalidValue: a role is unknown, or `roles` is empty.
            Refused: nobody who can sign in would be an administrator any more.
        """
        wanted, now = list(roles), self._clock.now()
        self._change_beside_others(name, lambda one, others: one.set_roles(wanted, others=others, by=by, now=now))

    def limit(self, name: str, machines: Iterable[str], by: str) -> None:
        """Limit an administrator to the machines of these patterns; without patterns, end the limit.

        Sessions that are open have the limit at once.

        Raises:
            NotFound: no such administrator.
            InvalidValue: a pattern is not valid, or the administrator has the role administrator.
        """
        administrator = self._accounts.load(name)
        administrator.limit(machines, by=by, now=self._clock.now())
        self._events.save(administrator)

    def set_password(self, name: str, password: Secret, by: str) -> None:
        """Give an administrator a new password, which ends their sessions.

        Raises:
            NotFound: no such administrator.
            InvalidValue: the password is not acceptable.
        """
        hashed = self._accounts.hash(password)
        self._save(self._accounts.load(name), hashed, by)
        self._throttle.forget(name)

    def remove(self, name: str, by: str) -> None:
        """Remove an administrator, which ends their sessions.

        Raises:
            NotFound: no such administrator.
            Refused: nobody who can sign in would be an administrator any more.
        """
        now = self._clock.now()
        administrator = self._change_beside_others(name, lambda one, others: one.remove(others=others, by=by, now=now))
        self._sessions.end_all(administrator.id, SessionEnd.REMOVED, by)
        self._events.store.forget()

    def _change_beside_others(
        self, name: str, change: Callable[[Administrator, Sequence[AdministratorState]], None]
    ) -> Administrator:
        """Save a change of an administrator that depends on the other administrators; returns the changed one.

        The others must still have the versions that were read. So of two administrators who remove each other at the
        same time one stays.
        """
        for _ in range(CONFLICTS):
            administrator = self._accounts.load(name)
            others = [one for one in self._accounts.all() if one.id != administrator.id and not one.altered]
            change(administrator, [one.state for one in others])
            with suppress(Conflict):
                work = UnitOfWork(expects={one.id: one.version for one in others if one.state.administers})
                self._events.save(administrator, unit_of_work=work)
                return administrator
        raise Conflict("changed_meanwhile")

    # Links

    def link(self, name: str | None, by: str) -> SetUpLink:
        """A link with which an administrator chooses a password; without a name, the link of the first administrator.

        The link works once, within an hour, and replaces the earlier link.

        Raises:
            NotFound: no such administrator.
            Refused: `name` is None, and administrators exist already.
        """
        if name is None and self._are_there_any():
            raise Refused("administrators_exist")
        id = self._accounts.load(name).id if name is not None else None
        secret = new_token()
        return SetUpLink(secret, name, self._links.add(secret, id, by, _LINK_LIFE))

    def has_any(self) -> bool:
        """Whether there is an administrator."""
        return self._are_there_any()

    def first_link(self) -> SetUpLink | None:
        """The link of the first administrator; None if there is an administrator already."""
        return None if self._are_there_any() else self.link(None, "service")

    def whose_link(self, secret: Secret) -> str | None:
        """The name of the administrator whose password the link sets; None if it makes the first administrator.

        Raises:
            NotPermitted: the link is over, was used, or never existed.
            Refused: the administrator's row was altered.
        """
        return self._whose(self._find_link(secret))

    def use_link(self, secret: Secret, name: str, password: Secret, address: str | None = None) -> Secret | CodeNeeded:
        """Choose a password with a link, and sign in from `address`; returns the token for the browser's cookie.

        With a second factor the sign-in goes on with a code of it.

        The link of the first administrator makes an administrator called `name`, with every role.

        Raises:
            NotPermitted: the link is over, was used, or never existed.
            InvalidValue: the name or the password is not valid; the link stays usable.
        """
        link = self._find_link(secret)
        whose, by = self._whose(link), f"link:{link.made_by}"
        hashed = self._accounts.hash(password)
        if whose is None:
            administrator = Administrator.add(uuid4(), name, ROLES, by=by, now=self._clock.now())
        else:
            administrator = self._accounts.load(whose)
        if whose is None and self._are_there_any():
            raise NotPermitted("set_up_link_over")
        try:
            self._save(administrator, hashed, by, link)
        except Conflict:
            # Another use of the link came first, or a change of the administrator.
            self._find_link(secret)
            raise
        self._throttle.forget(administrator.state.name)
        account = Account(administrator.id, administrator.version, administrator.state)
        return self._goes_on(account) or self._begin_session(account, address)

    def _find_link(self, secret: Secret) -> UsableLink:
        found = self._links.find(secret)
        if found is None:
            raise NotPermitted("set_up_link_over")
        return found

    def _whose(self, link: UsableLink) -> str | None:
        return self._name_of(link.administrator_id) if link.administrator_id else None

    # Signing in

    def sign_in(self, name: str, password: Secret, address: str) -> Secret | CodeNeeded:
        """Sign in from `address`; returns the token for the browser's cookie.

        With a second factor the sign-in goes on with a code of it.

        Raises:
            NotPermitted: wrong name or password; the error does not say which.
            TooManyRequests: too many wrong passwords came before; this password was not verified.
            Unreachable: too many sign-ins run at the same time.
            Conflict: the administrator was changed at the same time.
        """
        self._throttle.begin(name, address)
        account = self._accounts.find(name)
        is_right = self._accounts.verify(account, password)
        if account is None or not is_right:
            log.warning("sign_in_refused", address=address)
            raise NotPermitted("wrong_name_or_password")
        if code_needed := self._goes_on(account):
            self._throttle.take_back(name, address)
            return code_needed
        self._throttle.succeeded(name, address)
        return self._begin_session(account, address)

    def sign_in_with_code(self, state: Secret, code: str, address: str) -> Secret:
        """Finish a sign-in with a code of the second factor; returns the token for the browser's cookie.

        Raises:
            NotPermitted: the sign-in is over, or the code is wrong.
            TooManyRequests: too many wrong codes or passwords came before; this code was not verified.
            Conflict: the administrator was changed at the same time.
        """
        account = self._account_in(state)
        self._throttle.begin(account.state.name, address)
        try:
            self.second_factors.check(account, code)
        except NotPermitted:
            log.warning("sign_in_refused", address=address)
            raise
        self._throttle.succeeded(account.state.name, address)
        # A recovery code has changed the administrator.
        return self._begin_session(self._account_in(state), address)

    def _goes_on(self, account: Account[AdministratorState]) -> CodeNeeded | None:
        """The second step of a sign-in, whose password was right; None without a second factor."""
        checked = account.state
        if not checked.second_factor:
            return None
        return CodeNeeded(
            self._sign_ins.seal([str(account.id), checked.password, checked.second_factor], _SIGN_IN_LIFE)
        )

    def _account_in(self, state: Secret) -> Account[AdministratorState]:
        """The account whose sign-in goes on, if it still has the password and the second factor of the first step."""
        kept = self._sign_ins.open(state)
        account = self._accounts.with_id(UUID(kept.values[0])) if kept else None
        if not kept or not account or [account.state.password, account.state.second_factor] != kept.values[1:]:
            raise NotPermitted("sign_in_over")
        return account

    def _begin_session(self, account: Account[AdministratorState], address: str | None) -> Secret:
        return self._sessions.begin(account.id, account.version, account.state, address)

    # Shared

    def _save(
        self, administrator: Administrator, hashed: Secret | None, by: str, link: UsableLink | None = None
    ) -> None:
        work, used = UnitOfWork(), list[OneTimeLink]()
        if hashed:
            administrator.change_password(by=by, now=self._clock.now())
            work = replace(work, put=[self._accounts.seal(administrator, hashed)])
        if link:
            aggregate, forget = self._links.use(link, administrator.state.name, by)
            used, work = [aggregate], replace(work, statements=[forget])
        self._events.save(administrator, *used, unit_of_work=work)
        self._sessions.end_all(administrator.id, SessionEnd.PASSWORD_CHANGED, by)
        self._events.store.forget()

    def _are_there_any(self) -> bool:
        """Whether there are administrators, by their rows or by the log: somebody may have deleted the rows."""
        if self._accounts.all():
            return True
        with self._events.store.reading() as query:
            statement = "SELECT count(*) AS events FROM stored_events WHERE topic = ?"
            topics = (Administrator.Created.TOPIC, Administrator.Removed.TOPIC)
            added, removed = (query.rows(statement, (topic,))[0]["events"] for topic in topics)
        return int(added) > int(removed)

    def _name_of(self, id: UUID) -> str:
        found = [account for account in self._accounts.all() if account.id == id]
        if not found:
            raise NotPermitted("set_up_link_without_administrator")
        if found[0].altered:
            raise found[0].altered.refusal()
        return found[0].state.name


def _listed(state: AdministratorState) -> ListedAdministrator:
    return ListedAdministrator(state.name, state.roles, state.password > 0, state.second_factor > 0, state.machines)
