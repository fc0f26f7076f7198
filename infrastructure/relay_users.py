"""Relay users: what an administrator does with them, and how the relay lets them in. Load, decide, save once.

A wrong sign-in changes nothing, and the answer is the same whatever was wrong with it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import structlog

from domain.catalogue import Protocol
from domain.errors import InvalidValue, NotFound, NotPermitted, Refused, Unreachable, VaultDamaged, about
from domain.ports import Clock
from domain.profile import Profile, ProfileState
from domain.relay_user import (
    RelayUser,
    RelayUserState,
    admitted_by_network,
    check_password,
    comparable,
    valid_name,
)
from domain.secret import Secret
from domain.token import served
from infrastructure.log import EventLog
from infrastructure.passwords import PasswordHasher
from infrastructure.rows import profile_state, relay_user_state
from infrastructure.store import Alongside, Query
from infrastructure.token_service import HandOut, TokenService
from infrastructure.vault import Vault

log = structlog.get_logger("mailtoken")

_WRONG = "wrong user, password or network"
_FORCED_RENEWAL_EVERY = timedelta(minutes=10)
"""A mail server that rejects a token which was renewed for it rejects the next one too: a setting is wrong there."""


@dataclass(frozen=True)
class ListedUser:
    """A relay user as an administrator sees them. `profiles` are names by protocol."""

    name: str
    profiles: Mapping[Protocol, str]
    networks: tuple[str, ...]
    has_password: bool


@dataclass(frozen=True)
class Admission:
    """Who was let in, where their mail goes, and the access token for there."""

    user: str
    profile: ProfileState
    server: str
    token: HandOut


@dataclass(frozen=True, order=True)
class MailServerAddress:
    """Where mail of relay users goes."""

    server: str
    port: int
    tls: str
    protocol: Protocol


@dataclass(frozen=True)
class _Stored:
    id: UUID
    version: int
    state: RelayUserState


@dataclass(frozen=True)
class _Forced:
    """The generation a mail server rejected, and when it was renewed for that."""

    generation: int
    at: datetime


class RelayUsers:
    """The use cases around relay users."""

    def __init__(
        self, events: EventLog, vault: Vault, tokens: TokenService, clock: Clock, passwords: PasswordHasher
    ) -> None:
        self._events = events
        self._vault = vault
        self._tokens = tokens
        self._clock = clock
        self._passwords = passwords
        self._giving_networks = threading.Lock()
        self._forced: dict[UUID, _Forced] = {}

    # What an administrator does

    def users(self) -> list[ListedUser]:
        """Every relay user, in the order of their names."""
        with self._events.store.reading() as query:
            users = [one.state for one in _stored(query)]
            names = {UUID(row["id"]): row["name"] for row in query.rows("SELECT id, name FROM profile")}
        listed = (
            ListedUser(
                user.name,
                {protocol: names[id] for protocol, id in sorted(user.profiles.items())},
                user.networks,
                user.password > 0,
            )
            for user in users
        )
        return sorted(listed, key=lambda user: user.name)

    def add(
        self, name: str, profiles: Sequence[str], networks: Iterable[str], password: Secret | None, by: str
    ) -> None:
        """Add a relay user with a password, with networks, or with both.

        Raises:
            InvalidValue: not a name, a password or a network, or two profiles of a protocol.
            NotFound: no such profile.
            Refused: the name or a network is taken, there is neither password nor network, or a profile could never
                be used with what there is.
        """
        mapped = [self._events.profile_called(profile) for profile in profiles]
        hashed = self._hash(password) if password else None
        with self._giving_networks:
            others = self._others(valid_name(name))
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
            put = [self._vault.seal_password_hash(user.id, user.state.password, hashed)] if hashed else []
            self._events.save(user, beside=Alongside(put=put, expects=_expected(mapped, others)))

    def map(self, name: str, profiles: Sequence[str], by: str) -> None:
        """Let a relay user send and receive as these profiles and no others.

        Raises:
            NotFound: no such relay user or profile.
            InvalidValue: none, or two of a protocol.
            Refused: one to receive as and no password, or networks and none to send as.
        """
        user, mapped = self._user(name), [self._events.profile_called(profile) for profile in profiles]
        user.map(mapped, by=by, now=self._clock.now())
        if user.pending_events:
            self._events.save(user, beside=Alongside(expects=_expected(mapped)))

    def set_networks(self, name: str, networks: Iterable[str], by: str) -> None:
        """Let a relay user in without a sign-in from these networks and no others.

        Raises:
            NotFound: no such relay user.
            InvalidValue: not networks.
            Refused: one is another user's, there is no profile to send as, or none is left and there is no password.
        """
        with self._giving_networks:
            user = self._user(name)
            others = [other for other in self._all() if other.id != user.id]
            user.set_networks(networks, others=[other.state for other in others], by=by, now=self._clock.now())
            if user.pending_events:
                self._events.save(user, beside=Alongside(expects=_expected((), others)))

    def set_password(self, name: str, password: Secret, by: str) -> None:
        """Give a relay user a new password; the one before is forgotten.

        Raises:
            NotFound: no such relay user.
            InvalidValue: not a password.
        """
        hashed, user = self._hash(password), self._user(name)
        user.change_password(by=by, now=self._clock.now())
        sealed = self._vault.seal_password_hash(user.id, user.state.password, hashed)
        self._events.save(user, beside=Alongside(put=[sealed]))
        self._events.store.forget()

    def remove(self, name: str, by: str) -> None:
        """Let a relay user in no more; the hash of their password is forgotten.

        Raises:
            NotFound: no such relay user.
        """
        user = self._user(name)
        user.remove(by=by, now=self._clock.now())
        self._events.save(user)
        self._events.store.forget()

    # What the relay asks

    def admit(self, protocol: Protocol, address: str, name: str | None, password: Secret | None) -> Admission:
        """Let a client in by user and password, or for SMTP by the network it is in if both are None.

        Raises:
            InvalidValue: not an IP address.
            NotPermitted: wrong user, password or network.
            Refused: no profile of this protocol, or its token can't be served; says why.
            Unreachable: the token has expired and can't be renewed now, or too many sign in at once.
        """
        by_network = protocol is Protocol.SMTP and name is None and password is None
        user = self._by_network(address) if by_network else self._by_password(name or "", password or Secret(""))
        if user is None:
            raise NotPermitted(_WRONG)
        return self._serve(user, self._mapped(user, protocol))

    def renewed(self, name: str, protocol: Protocol, profile_name: str, generation: int) -> Admission:
        """The same with a newer token, after the mail server rejected this generation; renewed if it is the newest.

        Raises:
            NotPermitted: no such relay user, or this is not their profile any more.
            Refused: the token can't be served, or it was renewed for the same reason just now.
            Unreachable: it can't be renewed now.
        """
        user = self._named(name)
        profile = self._mapped(user, protocol) if user else None
        if not user or not profile or profile.name != profile_name:
            raise NotPermitted(_WRONG)
        with about(profile.name):
            self._renew_rejected(profile, generation)
        return self._serve(user, profile)

    def servers(self) -> list[MailServerAddress]:
        """The mail servers of the profiles that relay users are mapped to."""
        with self._events.store.reading() as query:
            mapped = {str(id) for user in _stored(query) for id in user.state.profiles.values()}
            profiles = [profile_state(row) for row in query.rows("SELECT * FROM profile") if row["id"] in mapped]
        return sorted(
            {
                MailServerAddress(one.settings.server, one.port, one.settings.tls, one.protocol)
                for one in profiles
                if one.settings.server
            }
        )

    def _by_network(self, address: str) -> RelayUserState | None:
        return admitted_by_network((one.state for one in self._all()), address)

    def _by_password(self, name: str, password: Secret) -> RelayUserState | None:
        hashed = None
        user = self._stored_as(name)
        if user and user.state.password:
            try:
                with self._events.store.reading() as query:
                    hashed = self._vault.password_hash(query, user.id, user.state.password)
            except VaultDamaged as damaged:
                log.error("vault_damaged", why=str(damaged))
        right = self._passwords.verify(hashed, comparable(password))
        return user.state if user and right else None

    def _mapped(self, user: RelayUserState, protocol: Protocol) -> ProfileState:
        with self._events.store.reading() as query:
            rows = query.rows("SELECT * FROM profile WHERE id = ?", (str(user.profiles.get(protocol)),))
        if not rows:
            raise Refused(
                f"relay user {user.name} has no {protocol} profile: mailtoken relay user map {user.name} PROFILE..."
            )
        return profile_state(rows[0])

    def _serve(self, user: RelayUserState, profile: ProfileState) -> Admission:
        if not profile.settings.server:
            raise Refused(f"{profile.name}: server not filled in: mailtoken profile set {profile.name} server=...")
        token = self._tokens.access_token(profile.name, None, f"relay:{user.name}")
        return Admission(user.name, profile, profile.settings.server, token)

    def _renew_rejected(self, profile: ProfileState, generation: int) -> None:
        now, status = self._clock.now(), self._tokens.status(profile.name)
        newest = served(status.token, now)
        if newest.number != generation:
            return
        forced = self._forced.get(profile.token_id)
        if forced and forced.generation < generation and timedelta(0) <= now - forced.at < _FORCED_RENEWAL_EVERY:
            raise Refused(
                "the mail server rejects a token that was renewed for it just now: "
                f"mailtoken test {profile.name} says why"
            )
        if not newest.renewable:
            raise Refused("the mail server rejects the token and there is nothing to renew it with: get it again")
        if not self._tokens.patience.may_try(profile.token_id, status.token.provider or "", now):
            raise Unreachable("the provider could not renew the token just now: try again later")
        self._tokens.renew_generation(profile.token_id, generation)
        self._forced[profile.token_id] = _Forced(generation, now)

    # Shared

    def _hash(self, password: Secret) -> Secret:
        check_password(password)
        return self._passwords.hash(comparable(password))

    def _user(self, name: str) -> RelayUser:
        stored = self._stored_as(name)
        if not stored:
            raise NotFound(f"no relay user is called {name!r}: see mailtoken relay user list")
        return self._events.load(RelayUser, stored.id)

    def _named(self, name: str) -> RelayUserState | None:
        stored = self._stored_as(name)
        return stored.state if stored else None

    def _stored_as(self, name: str) -> _Stored | None:
        try:
            name = valid_name(name)
        except InvalidValue:
            return None
        with self._events.store.reading() as query:
            return next(iter(_stored(query, name)), None)

    def _all(self) -> list[_Stored]:
        with self._events.store.reading() as query:
            return _stored(query)

    def _others(self, name: str) -> list[_Stored]:
        others = self._all()
        if any(other.state.name == name for other in others):
            raise Refused(f"{name}: there is a relay user with this name already")
        return others


def _stored(query: Query, name: str | None = None) -> list[_Stored]:
    every = "SELECT * FROM relay_user"
    rows = query.rows(every) if name is None else query.rows(every + " WHERE name = ?", (name,))
    return [_Stored(UUID(row["id"]), row["version"], relay_user_state(row)) for row in rows]


def _expected(profiles: Iterable[Profile], others: Iterable[_Stored] = ()) -> dict[UUID, int]:
    """What was read for the decision: profiles that must not go, and users whose networks must stay the same."""
    with_networks = {other.id: other.version for other in others if other.state.networks}
    return {profile.id: profile.version for profile in profiles} | with_networks
