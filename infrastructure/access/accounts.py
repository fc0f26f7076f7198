"""The accounts of administrators and of relay users: each has a unique name, and may have a password.

The hash of a password is sealed in the vault, under the number of the password in the account's state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import structlog

from domain.administrator import Administrator, AdministratorState
from domain.errors import InvalidValue, NotFound, Refused, VaultDamaged
from domain.machine import valid_name as valid_administrator_name
from domain.password_policy import check_password
from domain.relay_user import RelayUser, RelayUserState
from domain.relay_user import valid_name as valid_relay_user_name
from domain.secret import Secret
from infrastructure.access.password_hashing import PasswordHasher
from infrastructure.store.event_log import EventLog
from infrastructure.store.row_macs import UNREADABLE, AlteredRow
from infrastructure.store.rows import administrator_state, relay_user_state
from infrastructure.store.vault import PASSWORD, SIGN_IN_PASSWORD, Vault, VaultRow

log = structlog.get_logger("mailtoken")


class AccountState(Protocol):
    """The part of a state that both kinds have. A `password` of 0 means that the account has no password."""

    @property
    def name(self) -> str:
        """The account's name."""
        ...

    @property
    def password(self) -> int:
        """The number of passwords that the account has had so far."""
        ...


TAggregate = TypeVar("TAggregate", Administrator, RelayUser)
TState = TypeVar("TState", bound=AccountState)


@dataclass(frozen=True)
class Account(Generic[TState]):
    """An account as it is stored; `altered` is its row if that was altered by something else than this program."""

    id: UUID
    version: int
    state: TState
    altered: AlteredRow | None = None


@dataclass(frozen=True)
class AccountKind(Generic[TAggregate, TState]):
    """Administrators or relay users: their aggregate, their table and their rows in the vault.

    `read_name` returns a name as it is stored, and raises InvalidValue for text that can't be a name. Codes of
    errors begin with `table`. With `ignores_case` a name in another case is the same name.
    """

    aggregate: type[TAggregate]
    table: str
    vault_row: str
    read_state: Callable[[Mapping[str, Any]], TState]
    read_name: Callable[[str], str]
    ignores_case: bool = False


ADMINISTRATOR: AccountKind[Administrator, AdministratorState] = AccountKind(
    Administrator,
    "administrator",
    SIGN_IN_PASSWORD,
    administrator_state,
    partial(valid_administrator_name, "administrator"),
)
RELAY_USER: AccountKind[RelayUser, RelayUserState] = AccountKind(
    RelayUser, "relay_user", PASSWORD, relay_user_state, valid_relay_user_name, ignores_case=True
)


class Accounts(Generic[TAggregate, TState]):
    """The accounts of one kind."""

    def __init__(
        self, kind: AccountKind[TAggregate, TState], events: EventLog, vault: Vault, passwords: PasswordHasher
    ) -> None:
        self._kind: AccountKind[TAggregate, TState] = kind
        self._events = events
        self._vault = vault
        self._passwords = passwords

    def all(self) -> list[Account[TState]]:
        """Every account, in the order of their names."""
        return sorted(self._read(""), key=lambda account: account.state.name)

    def find(self, name: str) -> Account[TState] | None:
        """The account of this name; None if no account has it, or the text can't be a name."""
        try:
            name = self._kind.read_name(name)
        except InvalidValue:
            return None
        found = self._read(" WHERE name = ?", name)
        if not found and self._kind.ignores_case:
            found = [account for account in self._read("") if account.state.name.casefold() == name.casefold()]
        # An older store may have two names that differ in case: each is then found as it is written.
        return found[0] if len(found) == 1 else None

    def with_id(self, id: UUID) -> Account[TState] | None:
        """The account with this id; None if there is none."""
        found = self._read(" WHERE id = ?", str(id))
        return found[0] if found else None

    def load(self, name: str) -> TAggregate:
        """The aggregate of the account with this name, for a change.

        Raises:
            NotFound: no account has this name.
        """
        account = self.find(name)
        if account is None:
            raise NotFound(f"{self._kind.table}_not_found", name=name)
        return self._events.load(self._kind.aggregate, account.id)

    def check_free(self, name: str) -> None:
        """Check that no account has this name.

        Raises:
            Refused: an account has this name.
        """
        if self.find(name):
            raise Refused(f"{self._kind.table}_exists", name=name)

    def check_new_name(self, name: str) -> None:
        """Check that an account can be added with this name.

        Raises:
            InvalidValue: the text can't be a name.
            Refused: an account has this name.
        """
        self._kind.read_name(name)
        self.check_free(name)

    def hash(self, password: Secret) -> Secret:
        """The hash of a new password.

        Raises:
            InvalidValue: the password is too easy to guess, or some protocol can't transmit it.
        """
        check_password(password)
        return self._passwords.hash(password)

    def seal(self, account: TAggregate, hashed: Secret) -> VaultRow:
        """The vault's row for the account's newest password; save it in the transaction that records the change."""
        return self._vault.seal_password_hash(self._kind.vault_row, account.id, account.state.password, hashed)

    def verify(self, account: Account[TState] | None, password: Secret) -> bool:
        """Whether this is the account's password. The answer for an unknown account, None, takes as long.

        Raises:
            Unreachable: too many sign-ins run at the same time.
            Refused: it is the password, and the account's row was altered.
        """
        is_right = self._passwords.verify(self._hash_of(account), password)
        if is_right and account and account.altered:
            raise account.altered.refusal()
        return is_right

    def _hash_of(self, account: Account[TState] | None) -> Secret | None:
        if account is None or not account.state.password:
            return None
        try:
            with self._events.store.reading() as query:
                return self._vault.password_hash(query, self._kind.vault_row, account.id, account.state.password)
        except VaultDamaged as damaged:
            log.error("vault_row_damaged", error=str(damaged))
            return None

    def _read(self, condition: str, *parameters: str) -> list[Account[TState]]:
        with self._events.store.reading() as query:
            events = query.last_version("id")
            statement = f"SELECT *, {events} AS events FROM {self._kind.table}{condition}"  # noqa: S608 - ours
            rows = query.rows(statement, parameters)
        return [account for row in rows if (account := self._account(row))]

    def _account(self, row: Mapping[str, Any]) -> Account[TState] | None:
        """The account of a row; None for an altered row from which no state can be read."""
        altered = self._events.store.row_checks.altered_row(self._kind.table, row, row["events"])
        try:
            return Account(UUID(row["id"]), row["version"], self._kind.read_state(row), altered)
        except UNREADABLE:
            if altered:
                return None
            raise
