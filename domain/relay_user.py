"""A relay user: an account of the relay, and the profiles through which its mail goes.

A client signs in as the user with a password, whose hash is in the vault and never in an event. An SMTP client may be
admitted by its network instead.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from domain import aggregate
from domain.catalogue import Protocol
from domain.errors import InvalidValue, Refused
from domain.networks import read_address, read_networks
from domain.password_policy import composed
from domain.profile import Profile
from domain.profile_fields import EmailAddress

NORMALIZATIONS = ("crlf",)
_LONGEST_NAME = 64
_LONGEST_SHOWN = 255


def valid_name(name: str) -> str:
    """Return `name` in Unicode NFC if it is valid for a relay user.

    Names that differ only in case are one name (RFC 8265 section 3.3).

    Raises:
        InvalidValue: the name is too long, or contains a space, a colon, a slash or a control character.
    """
    user = composed(name)
    fits = 1 <= len(user) <= _LONGEST_NAME and user.isprintable()
    if not fits or any(character in user for character in " :/"):
        raise InvalidValue("user", "not_a_user_name", value=name[:_LONGEST_SHOWN], longest=_LONGEST_NAME)
    return user


@dataclass(frozen=True, slots=True)
class RelayUserState:
    """The state of a relay user. `profiles` are the ids of the user's profiles, one for each protocol.

    `password` numbers the current password and names the sealed row of its hash; 0 means that there is no password.
    `sender` is the address that messages get in place of their own. With `normalize` "crlf" a bare line feed becomes
    CRLF.
    """

    name: str
    profiles: Mapping[Protocol, UUID] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    password: int = 0
    removed: bool = False
    sender: str | None = None
    normalize: str | None = None


def admitted_by_network(users: Iterable[RelayUserState], address: str) -> RelayUserState | None:
    """The user with the most specific network that contains `address`; None if no network contains it.

    Raises:
        InvalidValue: `address` is not an IP address.
    """
    client = read_address(address)
    around = [
        (network.prefixlen, user)
        for user in users
        for network in map(ipaddress.ip_network, user.networks)
        if client.version == network.version and client in network
    ]
    most = max((length for length, _ in around), default=None)
    named = [user for length, user in around if length == most]
    # Two nodes can assign the same network to two users at the same moment: then the network admits neither user.
    return named[0] if len(named) == 1 else None


class RelayUser(aggregate.Aggregate[RelayUserState]):
    """An account of the relay."""

    TOPIC = "mailtoken.RelayUser.v1"

    class Event(aggregate.Event[RelayUserState]):
        """A change of a relay user, and its author."""

    class Created(Event, aggregate.Created[RelayUserState]):
        """The relay user was added."""

        TOPIC = "mailtoken.RelayUser.Created.v1"
        name: str

        def begin(self) -> RelayUserState:
            return RelayUserState(self.name)

    class Mapped(Event):
        """The user's mail of this protocol goes through this profile."""

        TOPIC = "mailtoken.RelayUser.Mapped.v1"
        protocol: str
        profile_id: UUID

        def evolve(self, state: RelayUserState) -> RelayUserState:
            return replace(state, profiles={**state.profiles, Protocol(self.protocol): self.profile_id})

    class Unmapped(Event):
        """The user no longer has a profile of this protocol."""

        TOPIC = "mailtoken.RelayUser.Unmapped.v1"
        protocol: str

        def evolve(self, state: RelayUserState) -> RelayUserState:
            left = {protocol: id for protocol, id in state.profiles.items() if protocol != self.protocol}
            return replace(state, profiles=left)

    class NetworksChanged(Event):
        """The user's networks were replaced; SMTP clients in these networks need no password."""

        TOPIC = "mailtoken.RelayUser.NetworksChanged.v1"
        networks: list[str]

        def evolve(self, state: RelayUserState) -> RelayUserState:
            return replace(state, networks=tuple(self.networks))

    class MessagesChanged(Event):
        """The user's messages are changed in another way from now on."""

        TOPIC = "mailtoken.RelayUser.MessagesChanged.v1"
        sender: str | None
        normalize: str | None

        def evolve(self, state: RelayUserState) -> RelayUserState:
            return replace(state, sender=self.sender, normalize=self.normalize)

    class PasswordChanged(Event):
        """The user has a new password; its number names the sealed row of its hash."""

        TOPIC = "mailtoken.RelayUser.PasswordChanged.v1"
        password: int

        def evolve(self, state: RelayUserState) -> RelayUserState:
            return replace(state, password=self.password)

    class Removed(Event):
        """The user was removed; another user may take the name."""

        TOPIC = "mailtoken.RelayUser.Removed.v1"

        def evolve(self, state: RelayUserState) -> RelayUserState:
            return replace(state, removed=True)

    @classmethod
    def add(
        cls,
        id: UUID,
        name: str,
        *,
        profiles: Sequence[Profile],
        networks: Iterable[str],
        password: bool,
        others: Iterable[RelayUserState],
        by: str,
        now: datetime,
    ) -> RelayUser:
        """Make a relay user with a password, with networks, or with both.

        Raises:
            InvalidValue: the name or a network is not acceptable, or two profiles are of one protocol.
            Refused: the user has neither, a network belongs to another user, or a profile could never be used.
        """
        user = cls.start(id, cls.Created, now=now, name=valid_name(name), by=by)
        _map(user, one_for_each_protocol(profiles), by, now)
        if password:
            user.change_password(by=by, now=now)
        user.set_networks(networks, others=others, by=by, now=now)
        return user

    def map(self, profiles: Sequence[Profile], *, by: str, now: datetime) -> None:
        """Replace the user's profiles by these profiles.

        Raises:
            InvalidValue: there is no profile, or two profiles are of one protocol.
            Refused: a POP or IMAP profile is given without a password, or networks without an SMTP profile.
        """
        wanted = one_for_each_protocol(profiles)
        _check_ways_in(self.state.name, wanted, self.state.networks, has_password=self.state.password > 0)
        _map(self, wanted, by, now)

    def set_networks(
        self, networks: Iterable[str], *, others: Iterable[RelayUserState], by: str, now: datetime
    ) -> None:
        """Replace the networks from which SMTP clients need no password.

        A network may lie within a network of another user: the most specific network counts.

        Raises:
            InvalidValue: a text is not a network.
            Refused: a network is another user's, there is no SMTP profile, or neither network nor password is left.
        """
        wanted = read_networks(networks)
        for other in others:
            if taken := set(wanted) & set(other.networks):
                raise Refused("network_taken", network=min(taken), user=other.name)
        _check_ways_in(self.state.name, self.state.profiles, wanted, has_password=self.state.password > 0)
        if wanted != self.state.networks:
            self.record(self.NetworksChanged, networks=list(wanted), by=by, now=now)

    def change_messages(self, *, sender: str | None, normalize: str | None, by: str, now: datetime) -> None:
        """Set what the relay changes in the user's messages; None changes nothing.

        Raises:
            InvalidValue: `sender` is no address, or `normalize` is not "crlf".
        """
        if sender is not None:
            EmailAddress().read("sender", sender)
        if normalize not in (None, *NORMALIZATIONS):
            raise InvalidValue("normalize", "unknown_normalization", value=normalize, known=list(NORMALIZATIONS))
        if (sender, normalize) != (self.state.sender, self.state.normalize):
            self.record(self.MessagesChanged, sender=sender, normalize=normalize, by=by, now=now)

    def change_password(self, *, by: str, now: datetime) -> None:
        """Record a new password; the caller seals its hash in the vault under the number in the state."""
        self.record(self.PasswordChanged, password=self.state.password + 1, by=by, now=now)

    def remove(self, *, by: str, now: datetime) -> None:
        self.record(self.Removed, by=by, now=now)


def _map(user: RelayUser, wanted: Mapping[Protocol, Profile], by: str, now: datetime) -> None:
    for protocol in [protocol for protocol in user.state.profiles if protocol not in wanted]:
        user.record(user.Unmapped, protocol=protocol.value, by=by, now=now)
    for protocol, profile in wanted.items():
        if user.state.profiles.get(protocol) != profile.id:
            user.record(user.Mapped, protocol=protocol.value, profile_id=profile.id, by=by, now=now)


def _check_ways_in(name: str, protocols: Collection[Protocol], networks: Sequence[str], *, has_password: bool) -> None:
    """Check that each protocol can be used: a network admits only SMTP clients, so POP and IMAP need a password."""
    if not networks and not has_password:
        raise Refused("password_or_network_missing", user=name)
    if networks and Protocol.SMTP not in protocols:
        raise Refused("network_without_smtp", user=name)
    if not has_password and set(protocols) != {Protocol.SMTP}:
        raise Refused("password_missing", user=name)


def one_for_each_protocol(profiles: Sequence[Profile]) -> dict[Protocol, Profile]:
    """The profiles by protocol.

    Raises:
        InvalidValue: there is no profile, or two profiles are of one protocol.
    """
    wanted: dict[Protocol, Profile] = {}
    for profile in profiles:
        other = wanted.setdefault(profile.state.protocol, profile)
        if other.id != profile.id:
            both = (other.state.name, profile.state.name)
            raise InvalidValue(
                "profiles", "two_of_a_protocol", first=both[0], second=both[1], protocol=profile.state.protocol.value
            )
    if not wanted:
        raise InvalidValue("profiles", "relay_profiles_missing")
    return wanted
