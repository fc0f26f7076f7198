"""A relay user: who may send and receive through the relay, as which profiles, and how they show who they are.

By a password, whose hash is sealed in the vault and never here, or for SMTP by the network they are in, or by either.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from eventsourcing.domain import Aggregate

from domain.catalogue import Protocol
from domain.errors import InvalidValue, Refused
from domain.profile import Profile
from domain.secret import Secret

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LONGEST_NAME = 64
_SHORTEST_PASSWORD, _LONGEST_PASSWORD = 12, 255
_LONGEST_TO_COMPOSE = 4096
# The private networks of RFC 1918 begin at /8; a site's of RFC 4193 and a provider's allocation are no larger than /32.
_WIDEST = {4: 8, 6: 32}


def valid_name(name: str) -> str:
    """`name`, composed (NFC), if it can name a relay user; as RFC 8265 compares them, a letter's case counts.

    Raises:
        InvalidValue: too long, or with a space, a colon, a slash or a control character.
    """
    composed = _composed(name)
    fits = 1 <= len(composed) <= _LONGEST_NAME and composed.isprintable()
    if not fits or any(character in composed for character in " :/"):
        shown = name[:_LONGEST_PASSWORD]
        raise InvalidValue(
            "user", f"{shown!r} is not 1 to {_LONGEST_NAME} printable characters without spaces, ':' and '/'"
        )
    return composed


def comparable(password: Secret) -> Secret:
    """The password as it is hashed and compared: composed (RFC 8265 section 4.2)."""
    return Secret(_composed(password.reveal()))


def _composed(text: str) -> str:
    # To compose takes the square of the length: what is far too long for anything stays as it is.
    return unicodedata.normalize("NFC", text) if len(text) <= _LONGEST_TO_COMPOSE else text


def check_password(password: Secret) -> None:
    """See whether a new password can be guessed too easily, or can't be sent by every protocol.

    Raises:
        InvalidValue: too short, too long, or with a control character.
    """
    text = comparable(password).reveal()
    if not _SHORTEST_PASSWORD <= len(text) <= _LONGEST_PASSWORD or not text.isprintable():
        raise InvalidValue(
            "password", f"it is not {_SHORTEST_PASSWORD} to {_LONGEST_PASSWORD} characters without control characters"
        )


def read_networks(texts: Iterable[str]) -> tuple[str, ...]:
    """Networks in their canonical form, each once; an address alone is a network of one.

    Raises:
        InvalidValue: not a network, or so wide that it names nobody.
    """
    return tuple(dict.fromkeys(str(_network(text)) for text in texts))


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise InvalidValue("network", _no_network(text)) from None
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.scope_id:
        raise InvalidValue("network", f"{text} has a zone: name the network alone")
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        raise InvalidValue("network", f"{text} is an IPv4 network in disguise: write it as one")
    widest = _WIDEST[network.version]
    if network.prefixlen < widest:
        raise InvalidValue("network", f"{text} is too wide: name the clients' own networks, /{widest} or narrower")
    return network


def _no_network(text: str) -> str:
    try:
        return f"{text} has host bits set: is {ipaddress.ip_network(text, strict=False)} meant?"
    except ValueError:
        return f"{text!r} is not a network like 10.20.30.0/24 or 2001:db8:1::/48"


def read_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A client's address; one that reached an IPv6 socket by IPv4 is the IPv4 address (RFC 4291 section 2.5.5.2).

    Raises:
        InvalidValue: not an IP address.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidValue("address", f"{text!r} is not an IP address") from None
    return getattr(address, "ipv4_mapped", None) or address


@dataclass(frozen=True, slots=True)
class RelayUserState:
    """What the events of a relay user add up to. `profiles` are the ids of those they send and receive as.

    `password` counts the passwords there were; it names the sealed row of the one that holds, 0 is none.
    """

    name: str
    profiles: Mapping[Protocol, UUID] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    password: int = 0
    removed: bool = False


def admitted_by_network(users: Iterable[RelayUserState], address: str) -> RelayUserState | None:
    """Who a client at `address` is: the user with the most specific network around it, None if nobody's is.

    Raises:
        InvalidValue: not an IP address.
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
    # Two nodes could give the same network to two users at the same moment: then it names nobody.
    return named[0] if len(named) == 1 else None


class RelayUser(Aggregate):
    """Somebody whom the relay lets in."""

    TOPIC = "mailtoken.RelayUser.v1"

    if TYPE_CHECKING:
        state: RelayUserState

    class Event(Aggregate.Event):
        """Something that happened to a relay user, and who did it."""

        by: str

        def evolve(self, state: RelayUserState) -> RelayUserState:
            """The state after this event."""
            raise NotImplementedError

        def apply(self, user: RelayUser) -> None:
            """Fold this event into the aggregate."""
            user.state = self.evolve(user.state)

    class Created(Event, Aggregate.Created):
        """The relay user was added."""

        TOPIC = "mailtoken.RelayUser.Created.v1"
        name: str

        def begin(self) -> RelayUserState:
            """Let in nowhere yet."""
            return RelayUserState(self.name)

        def apply(self, user: RelayUser) -> None:
            """Begin."""
            user.state = self.begin()

    class Mapped(Event):
        """Their mail of this protocol goes through this profile."""

        TOPIC = "mailtoken.RelayUser.Mapped.v1"
        protocol: str
        profile_id: UUID

        def evolve(self, state: RelayUserState) -> RelayUserState:
            """In the place of another one, if there was one."""
            return replace(state, profiles={**state.profiles, Protocol(self.protocol): self.profile_id})

    class Unmapped(Event):
        """They have no profile of this protocol any more."""

        TOPIC = "mailtoken.RelayUser.Unmapped.v1"
        protocol: str

        def evolve(self, state: RelayUserState) -> RelayUserState:
            """One less."""
            left = {protocol: id for protocol, id in state.profiles.items() if protocol != self.protocol}
            return replace(state, profiles=left)

    class NetworksChanged(Event):
        """The networks from which they need no sign-in; none is a sign-in from everywhere."""

        TOPIC = "mailtoken.RelayUser.NetworksChanged.v1"
        networks: list[str]

        def evolve(self, state: RelayUserState) -> RelayUserState:
            """The new ones."""
            return replace(state, networks=tuple(self.networks))

    class PasswordChanged(Event):
        """They have a new password; the hash of it is sealed under this number."""

        TOPIC = "mailtoken.RelayUser.PasswordChanged.v1"
        password: int

        def evolve(self, state: RelayUserState) -> RelayUserState:
            """The one before is no good any more."""
            return replace(state, password=self.password)

    class Removed(Event):
        """They are gone; the name is free."""

        TOPIC = "mailtoken.RelayUser.Removed.v1"

        def evolve(self, state: RelayUserState) -> RelayUserState:
            """Removed."""
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
        """A relay user with a password, with networks, or with both.

        Raises:
            InvalidValue: not a name, not networks, or two profiles of a protocol.
            Refused: with neither, a network is somebody else's, or a profile that they could never use.
        """
        user = cls._create(cls.Created, id=id, timestamp=now, name=valid_name(name), by=by)
        _map(user, _one_for_each_protocol(profiles), by, now)
        if password:
            user.change_password(by=by, now=now)
        user.set_networks(networks, others=others, by=by, now=now)
        return user

    def map(self, profiles: Sequence[Profile], *, by: str, now: datetime) -> None:
        """Send and receive as these profiles and no others.

        Raises:
            InvalidValue: none, or two of a protocol.
            Refused: one to receive as and no password, or networks and none to send as.
        """
        wanted = _one_for_each_protocol(profiles)
        _check_ways_in(self.state.name, wanted, self.state.networks, has_password=self.state.password > 0)
        _map(self, wanted, by, now)

    def set_networks(
        self, networks: Iterable[str], *, others: Iterable[RelayUserState], by: str, now: datetime
    ) -> None:
        """Need no sign-in from these networks. One may be within another user's: the most specific counts.

        Raises:
            InvalidValue: not networks.
            Refused: one is another user's, there is no profile to send as, or none is left and there is no password.
        """
        wanted = read_networks(networks)
        for other in others:
            if taken := set(wanted) & set(other.networks):
                raise Refused(f"{min(taken)} is a network of relay user {other.name} already: take it from them first")
        _check_ways_in(self.state.name, self.state.profiles, wanted, has_password=self.state.password > 0)
        if wanted != self.state.networks:
            self.trigger_event(self.NetworksChanged, networks=list(wanted), by=by, timestamp=now)

    def change_password(self, *, by: str, now: datetime) -> None:
        """Have a new password; its hash goes into the vault under the number in the state."""
        self.trigger_event(self.PasswordChanged, password=self.state.password + 1, by=by, timestamp=now)

    def remove(self, *, by: str, now: datetime) -> None:
        """Go."""
        self.trigger_event(self.Removed, by=by, timestamp=now)


def _map(user: RelayUser, wanted: Mapping[Protocol, Profile], by: str, now: datetime) -> None:
    for protocol in [protocol for protocol in user.state.profiles if protocol not in wanted]:
        user.trigger_event(user.Unmapped, protocol=protocol.value, by=by, timestamp=now)
    for protocol, profile in wanted.items():
        if user.state.profiles.get(protocol) != profile.id:
            user.trigger_event(user.Mapped, protocol=protocol.value, profile_id=profile.id, by=by, timestamp=now)


def _check_ways_in(name: str, protocols: Collection[Protocol], networks: Sequence[str], *, has_password: bool) -> None:
    """See that there is a way in for each protocol. By network it is for SMTP alone: others always sign in."""
    if not networks and not has_password:
        raise Refused(f"relay user {name} needs a password or a network to be let in by")
    if networks and Protocol.SMTP not in protocols:
        raise Refused(
            f"relay user {name}: a network lets in by SMTP alone, for POP3 and IMAP clients always sign in: give them a"
            " password and no networks, or an SMTP setting too"
        )
    if not has_password and set(protocols) != {Protocol.SMTP}:
        raise Refused(
            f"relay user {name}: POP3 and IMAP clients always sign in, from every network: give them a password too, or"
            " an SMTP setting alone"
        )


def _one_for_each_protocol(profiles: Sequence[Profile]) -> dict[Protocol, Profile]:
    wanted: dict[Protocol, Profile] = {}
    for profile in profiles:
        other = wanted.setdefault(profile.state.protocol, profile)
        if other.id != profile.id:
            raise InvalidValue(
                "profiles",
                f"{other.state.name} and {profile.state.name} are both {profile.state.protocol} settings: a relay user"
                " has one for each protocol",
            )
    if not wanted:
        raise InvalidValue("profiles", "there is none: name the settings to send and receive as")
    return wanted
