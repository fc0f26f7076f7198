"""Relay users: the use cases of administrators, and those of the relay, which admits relay users to mail servers.

A wrong sign-in changes nothing, and gets the same answer for a wrong user, password or network.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from domain.catalogue import Protocol
from domain.errors import NotPermitted, Refused, Unreachable, about
from domain.ports import Clock
from domain.profile import Profile, ProfileState
from domain.relay_user import RelayUser, RelayUserState, admitted_by_network, one_for_each_protocol
from domain.secret import Secret
from domain.token_state import served
from infrastructure.access.accounts import RELAY_USER, Account, Accounts
from infrastructure.access.password_hashing import PasswordHasher
from infrastructure.store.event_log import EventLog
from infrastructure.store.hash_chain import last_position
from infrastructure.store.row_macs import readable
from infrastructure.store.rows import profile_state
from infrastructure.store.store import UnitOfWork
from infrastructure.store.vault import Vault
from infrastructure.tokens.renewal import ServedAccessToken
from infrastructure.tokens.token_service import TokenService

# Without letters that look alike, since people type it at a printer's panel. 20 of 31 are 99 bits.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_LENGTH = 20
_FORCED_RENEWAL_EVERY = timedelta(minutes=10)
"""A mail server that rejects a newly renewed token would reject the next too: the cause is a wrong setting there."""


@dataclass(frozen=True)
class ListedUser:
    """A relay user in the list. `profiles` are names by protocol; `sender` and `normalize` change their messages."""

    name: str
    profiles: Mapping[Protocol, str]
    networks: tuple[str, ...]
    has_password: bool
    sender: str | None = None
    normalize: str | None = None


@dataclass(frozen=True)
class Admission:
    """An admitted relay user, the mail server for their mail, and the access token for it.

    `position` is a position of the log: whatever it has up to there, the decision has taken into account.
    `sender` and `normalize` are what the relay changes in their messages.
    """

    user: str
    profile: ProfileState
    server: str
    token: ServedAccessToken
    position: int
    sender: str | None = None
    normalize: str | None = None


@dataclass(frozen=True, order=True)
class MailServerAddress:
    """A mail server for the mail of relay users."""

    server: str
    port: int
    tls: str
    protocol: Protocol


@dataclass(frozen=True)
class _Forced:
    """A generation that a mail server rejected, and the instant of the renewal that followed."""

    generation: int
    at: datetime


def generated_password() -> Secret:
    """A random password for a relay user."""
    return Secret("".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)))


class RelayUsers:
    """The use cases around relay users."""

    def __init__(
        self, events: EventLog, vault: Vault, tokens: TokenService, clock: Clock, passwords: PasswordHasher
    ) -> None:
        self._events = events
        self._tokens = tokens
        self._clock = clock
        self._accounts = Accounts(RELAY_USER, events, vault, passwords)
        self._giving_networks = threading.Lock()
        self._forced: dict[UUID, _Forced] = {}

    # Administration

    def users(self) -> list[ListedUser]:
        """Every relay user, in the order of their names."""
        return self._listed(account.state for account in self._accounts.all())

    def find(self, name: str) -> ListedUser:
        """The relay user of this name.

        Raises:
            NotFound: there is none.
            Refused: their row was altered.
        """
        [user] = self._listed([self._accounts.load(name).state])
        return user

    def _listed(self, users: Iterable[RelayUserState]) -> list[ListedUser]:
        with self._events.store.reading() as query:
            names = {UUID(row["id"]): row["name"] for row in query.rows("SELECT id, name FROM profile")}
        return [
            ListedUser(
                user.name,
                {protocol: names[id] for protocol, id in sorted(user.profiles.items()) if id in names},
                user.networks,
                user.password > 0,
                user.sender,
                user.normalize,
            )
            for user in users
        ]

    def check_new_name(self, name: str) -> None:
        """Check that a relay user can be added with this name.

        Raises:
            InvalidValue: the text can't be a name.
            Refused: the name is taken.
        """
        self._accounts.check_new_name(name)

    def check_profiles(self, profiles: Sequence[str]) -> None:
        """Check that a relay user can be mapped to these profiles.

        Raises:
            NotFound: no such profile.
            InvalidValue: there is no profile, or two profiles have the same protocol.
        """
        one_for_each_protocol([self._events.profile_called(profile) for profile in profiles])

    def add(
        self, name: str, profiles: Sequence[str], networks: Iterable[str], password: Secret | None, by: str
    ) -> None:
        """Add a relay user with a password, with networks, or with both.

        Raises:
            InvalidValue: a name, password or network is not valid, or two profiles have the same protocol.
            NotFound: no such profile.
            Refused: the name or a network is taken, there is neither password nor network, or a profile could never
                be used: a POP or IMAP profile needs a password.
        """
        mapped = [self._events.profile_called(profile) for profile in profiles]
        hashed = self._accounts.hash(password) if password else None
        with self._giving_networks:
            self._accounts.check_free(name)
            others = self._accounts.all()
            user = RelayUser.add(
                uuid4(),
                name,
                profiles=mapped,
                networks=networks,
                password=hashed is not None,
                others=[other.state for other in others],
                by=by,
                now=self._clock.now(),
            )
            put = [self._accounts.seal(user, hashed)] if hashed else []
            self._events.save(user, unit_of_work=UnitOfWork(put=put, expects=_expected(mapped, others)))

    def map(self, name: str, profiles: Sequence[str], by: str) -> None:
        """Map a relay user to these profiles and no others.

        Raises:
            NotFound: no such relay user or profile.
            InvalidValue: `profiles` is empty, or two profiles have the same protocol.
            Refused: a POP or IMAP profile needs a password that the user lacks, or the user's networks an SMTP profile.
        """
        user, mapped = self._accounts.load(name), [self._events.profile_called(profile) for profile in profiles]
        user.map(mapped, by=by, now=self._clock.now())
        if user.pending_events:
            self._events.save(user, unit_of_work=UnitOfWork(expects=_expected(mapped)))

    def set_networks(self, name: str, networks: Iterable[str], by: str) -> None:
        """Admit SMTP clients in these networks, and no others, as a relay user without a password.

        Raises:
            NotFound: no such relay user.
            InvalidValue: a text is not a network.
            Refused: a network is another user's, there is no SMTP profile, or neither network nor password is left.
        """
        with self._giving_networks:
            user = self._accounts.load(name)
            others = [other for other in self._accounts.all() if other.id != user.id]
            user.set_networks(networks, others=[other.state for other in others], by=by, now=self._clock.now())
            if user.pending_events:
                self._events.save(user, unit_of_work=UnitOfWork(expects=_expected((), others)))

    def change_messages(self, name: str, changes: Mapping[str, str | None], by: str) -> None:
        """Change what the relay does to a user's messages: `sender`, `normalize` or both; None ends it.

        Raises:
            NotFound: no such relay user.
            InvalidValue: `sender` is no address, or `normalize` is not "crlf".
        """
        user = self._accounts.load(name)
        wanted = {"sender": user.state.sender, "normalize": user.state.normalize, **changes}
        user.change_messages(**wanted, by=by, now=self._clock.now())
        if user.pending_events:
            self._events.save(user)

    def set_password(self, name: str, password: Secret, by: str) -> None:
        """Give a relay user a new password; the hash of the earlier password is erased.

        Raises:
            NotFound: no such relay user.
            InvalidValue: the password is not acceptable.
        """
        hashed, user = self._accounts.hash(password), self._accounts.load(name)
        user.change_password(by=by, now=self._clock.now())
        sealed = self._accounts.seal(user, hashed)
        self._events.save(user, unit_of_work=UnitOfWork(put=[sealed]))
        self._events.store.forget()

    def remove(self, name: str, by: str) -> None:
        """Remove a relay user; the hash of their password is erased.

        Raises:
            NotFound: no such relay user.
        """
        user = self._accounts.load(name)
        user.remove(by=by, now=self._clock.now())
        self._events.save(user)
        self._events.store.forget()

    # Admission to a mail server

    def admit(self, protocol: Protocol, address: str, name: str | None, password: Secret | None) -> Admission:
        """Admit a client by user and password, or for SMTP by its network if both are None.

        Raises:
            InvalidValue: `address` is not an IP address.
            NotPermitted: wrong user, password or network.
            Refused: the user has no profile of this protocol, or its token can't be served; on hold also if the store
                does not prove that the user may still have it.
            Unreachable: the token has expired and can't be renewed now, or too many sign-ins run at the same time.
        """
        position = self._position()
        by_network = protocol is Protocol.SMTP and name is None and password is None
        user = self._by_network(address) if by_network else self._by_password(name or "", password or Secret(""))
        if user is None:
            raise NotPermitted("wrong_user_password_or_network")
        return self._serve(user, self._mapped(user, protocol), position)

    def renewed(self, name: str, protocol: Protocol, profile_name: str, generation: int) -> Admission:
        """The admission with a newer generation of the token, after the mail server rejected generation `generation`.

        The token is renewed unless a newer generation exists already.

        Raises:
            NotPermitted: there is no such relay user, or the profile is not theirs any more.
            Refused: the token can't be served, or was renewed for the same reason just now.
            Unreachable: the token can't be renewed now.
        """
        position = self._position()
        account = self._accounts.find(name)
        if account and account.altered:
            raise account.altered.refusal()
        profile = self._mapped(account.state, protocol) if account else None
        if not account or not profile or profile.name != profile_name:
            raise NotPermitted("wrong_user_password_or_network")
        with about(profile.name):
            self._renew_rejected(profile, generation)
        return self._serve(account.state, profile, position)

    def servers(self) -> list[MailServerAddress]:
        """The mail servers of the profiles that relay users are mapped to."""
        mapped = {str(id) for account in self._accounts.all() for id in account.state.profiles.values()}
        with self._events.store.reading() as query:
            rows = (row for row in query.rows("SELECT * FROM profile") if row["id"] in mapped)
            profiles = list(readable(profile_state, rows))
        return sorted(
            {
                MailServerAddress(one.settings.server, one.port, one.settings.tls, one.protocol)
                for one in profiles
                if one.settings.server
            }
        )

    def _by_network(self, address: str) -> RelayUserState | None:
        """The user whose network contains the address; a user whose row was altered is admitted from nowhere."""
        return admitted_by_network((one.state for one in self._accounts.all() if not one.altered), address)

    def _by_password(self, name: str, password: Secret) -> RelayUserState | None:
        account = self._accounts.find(name)
        is_right = self._accounts.verify(account, password)
        return account.state if account and is_right else None

    def _mapped(self, user: RelayUserState, protocol: Protocol) -> ProfileState:
        with self._events.store.reading() as query:
            statement = f"SELECT *, {query.last_version('id')} AS events FROM profile WHERE id = ?"  # noqa: S608
            rows = query.rows(statement, (str(user.profiles.get(protocol)),))
        if not rows:
            raise Refused("relay_user_without_profile", user=user.name, protocol=protocol.value)
        self._events.store.row_checks.check("profile", rows[0], rows[0]["events"])
        return profile_state(rows[0])

    def _position(self) -> int:
        with self._events.store.reading() as query:
            return last_position(query)

    def _serve(self, user: RelayUserState, profile: ProfileState, position: int) -> Admission:
        self._tokens.holds.check_clients()
        if not profile.settings.server:
            raise Refused("server_not_set", profile=profile.name)
        token = self._tokens.access_token(profile.name, None, f"relay:{user.name}")
        return Admission(user.name, profile, profile.settings.server, token, position, user.sender, user.normalize)

    def _renew_rejected(self, profile: ProfileState, generation: int) -> None:
        now, status = self._clock.now(), self._tokens.status(profile.name)
        newest = served(status.token, now)
        if newest.number != generation:
            return
        forced = self._forced.get(profile.token_id)
        if forced and forced.generation < generation and timedelta(0) <= now - forced.at < _FORCED_RENEWAL_EVERY:
            raise Refused("renewed_token_rejected")
        if not newest.renewable:
            raise Refused("rejected_token_not_renewable")
        if not self._tokens.backoff.acquire(profile.token_id, status.token.provider or "", now):
            raise Unreachable("rejected_token_not_renewed")
        self._tokens.renew_generation(profile.token_id, generation)
        self._forced[profile.token_id] = _Forced(generation, now)


def _expected(profiles: Iterable[Profile], others: Iterable[Account[RelayUserState]] = ()) -> dict[UUID, int]:
    """The versions that a decision relies on: the profiles must not go, nor the networks of the others change."""
    with_networks = {other.id: other.version for other in others if other.state.networks}
    return {profile.id: profile.version for profile in profiles} | with_networks
