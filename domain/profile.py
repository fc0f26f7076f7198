"""A profile: the values of a mail setting of a machine, under the name `machine/setting`.

All values are checked before any is changed. The fields have the manual's names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from domain import aggregate
from domain.catalogue import PROTOCOLS, Protocol
from domain.errors import NotFound, Refused
from domain.profile_fields import Settings, changed_fields

SERVER_FIELDS = ("server", "port", "tls")
"""The fields that say where a setting's mail server is."""
_NEEDED = ("server", "provider", "account")


@dataclass(frozen=True, slots=True)
class ProfileState:
    """The state that the events of a profile add up to. `token_id` is its token, `group_id` its SMTP group."""

    machine_id: UUID
    machine: str
    setting: str
    protocol: Protocol
    token_id: UUID
    group_id: UUID | None
    settings: Settings
    removed: bool = False

    @property
    def name(self) -> str:
        """`machine/setting`."""
        return f"{self.machine}/{self.setting}"

    @property
    def mailbox(self) -> str | None:
        """The SASL user: the account unless another mailbox is set."""
        return self.settings.mailbox or self.settings.account

    @property
    def port(self) -> int:
        """The port in use: the configured port, or else the protocol's standard port."""
        return self.settings.port or self.default_port

    @property
    def default_port(self) -> int:
        """The protocol's standard port in this TLS mode."""
        return PROTOCOLS[self.protocol].default_port(self.settings.tls)

    @property
    def missing(self) -> tuple[str, ...]:
        """The fields without which the setting can't be used for mail, and which are not filled in."""
        return tuple(field for field in _NEEDED if not getattr(self.settings, field))

    @property
    def settings_in_use(self) -> Settings:
        """The settings, with the port and the mailbox in use filled in."""
        return replace(self.settings, port=self.port, mailbox=self.mailbox)


def server_to_copy(profile: ProfileState, others: Iterable[ProfileState]) -> ProfileState | None:
    """The first of the settings that share its token and that has the mail server which `profile` lacks."""
    if profile.settings.server:
        return None
    alike = (one for one in others if one.protocol is profile.protocol and one.token_id == profile.token_id)
    return next((one for one in alike if one.settings.server), None)


class Profile(aggregate.Aggregate[ProfileState]):
    """The values of a mail setting of a machine."""

    TOPIC = "mailtoken.Profile.v1"

    class Event(aggregate.Event[ProfileState]):
        """A change of a profile, and its author."""

    class Created(Event, aggregate.Created[ProfileState]):
        """The profile was made for a setting of a machine."""

        TOPIC = "mailtoken.Profile.Created.v1"
        machine_id: UUID
        machine: str
        setting: str
        protocol: str
        token_id: UUID
        group_id: UUID | None

        def begin(self) -> ProfileState:
            return ProfileState(
                self.machine_id,
                self.machine,
                self.setting,
                Protocol(self.protocol),
                self.token_id,
                self.group_id,
                Settings(),
            )

    class Configured(Event):
        """Fields were filled in or cleared."""

        TOPIC = "mailtoken.Profile.Configured.v1"
        changes: dict[str, Any]

        def evolve(self, state: ProfileState) -> ProfileState:
            return replace(state, settings=replace(state.settings, **self.changes))

    class MachineRenamed(Event):
        """The machine of the setting got another name; `previous` is the name before."""

        TOPIC = "mailtoken.Profile.MachineRenamed.v1"
        machine: str
        previous: str

        def evolve(self, state: ProfileState) -> ProfileState:
            return replace(state, machine=self.machine)

    class TokenReceived(Event):
        """The profile's token was obtained, through this setting or a linked setting."""

        TOPIC = "mailtoken.Profile.TokenReceived.v1"
        token_id: UUID
        generation: int
        provider: str
        account: str

        def evolve(self, state: ProfileState) -> ProfileState:
            """The token's provider and account replace those of the setting."""
            settings = replace(state.settings, provider=self.provider, account=self.account)
            return replace(state, token_id=self.token_id, settings=settings)

    class TokenDeleted(Event):
        """The profile's token was deleted, through this setting or a linked setting."""

        TOPIC = "mailtoken.Profile.TokenDeleted.v1"
        token_id: UUID

        def evolve(self, state: ProfileState) -> ProfileState:
            """Provider and account stay, and may now be changed."""
            return state

    class Linked(Event):
        """The profile joined an SMTP group and uses the group's token."""

        TOPIC = "mailtoken.Profile.Linked.v1"
        group_id: UUID
        token_id: UUID
        provider: str | None
        account: str | None

        def evolve(self, state: ProfileState) -> ProfileState:
            settings = in_concert(state.settings, self.provider, self.account)
            return replace(state, group_id=self.group_id, token_id=self.token_id, settings=settings)

    class Unlinked(Event):
        """The profile left its SMTP group and has a token of its own."""

        TOPIC = "mailtoken.Profile.Unlinked.v1"
        token_id: UUID

        def evolve(self, state: ProfileState) -> ProfileState:
            return replace(state, group_id=None, token_id=self.token_id)

    class Removed(Event):
        """The profile was removed; another profile may take the name."""

        TOPIC = "mailtoken.Profile.Removed.v1"

        def evolve(self, state: ProfileState) -> ProfileState:
            return replace(state, removed=True)

    @classmethod
    def create(
        cls,
        id: UUID,
        *,
        machine_id: UUID,
        machine: str,
        setting: str,
        protocol: Protocol,
        token_id: UUID,
        group_id: UUID | None,
        by: str,
        now: datetime,
    ) -> Profile:
        """Make a profile whose fields are all empty."""
        return cls.start(
            id,
            cls.Created,
            now=now,
            machine_id=machine_id,
            machine=machine,
            setting=setting,
            protocol=protocol.value,
            token_id=token_id,
            group_id=group_id,
            by=by,
        )

    def changes(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Check `texts` and return the values that differ from the present settings.

        Raises:
            InvalidValue: a field does not accept its text; the error names the field and the accepted values.
        """
        return changed_fields(self.state.protocol, self.state.settings, texts)

    def configure(self, changes: Mapping[str, Any], *, by: str, now: datetime) -> None:
        """Apply the `changes` that the method `changes` has checked."""
        self.record(self.Configured, changes=dict(changes), by=by, now=now)

    def rename_machine(self, machine: str, *, by: str, now: datetime) -> None:
        """Follow the machine's new name."""
        self.record(self.MachineRenamed, machine=machine, previous=self.state.machine, by=by, now=now)

    def receive_token(self, generation: int, *, provider: str, account: str, by: str, now: datetime) -> None:
        """Record that the setting's token was obtained."""
        self.record(
            self.TokenReceived,
            token_id=self.state.token_id,
            generation=generation,
            provider=provider,
            account=account,
            by=by,
            now=now,
        )

    def lose_token(self, *, by: str, now: datetime) -> None:
        """Record that the setting's token was deleted."""
        self.record(self.TokenDeleted, token_id=self.state.token_id, by=by, now=now)

    def link(
        self,
        *,
        group_id: UUID,
        token_id: UUID,
        provider: str | None,
        account: str | None,
        by: str,
        now: datetime,
    ) -> None:
        """Join a group; `provider` and `account` are those of the group's authorization, or None if it has none."""
        self.record(
            self.Linked,
            group_id=group_id,
            token_id=token_id,
            provider=provider,
            account=account,
            by=by,
            now=now,
        )

    def unlink(self, token_id: UUID, *, by: str, now: datetime) -> None:
        """Leave the group; the profile uses the token `token_id` of its own."""
        self.record(self.Unlinked, token_id=token_id, by=by, now=now)

    def remove(self, *, by: str, now: datetime) -> None:
        """Remove the profile."""
        self.record(self.Removed, by=by, now=now)


def in_concert(settings: Settings, provider: str | None, account: str | None) -> Settings:
    """Settings with the provider and the account of their group's authorization, if the group has received one."""
    return replace(settings, provider=provider, account=account) if provider and account else settings


def check_provider(provider: str | None, configured: Collection[str]) -> None:
    """Check that a provider that a setting is to have is in the configuration.

    Raises:
        NotFound: it is not.
    """
    if provider and provider not in configured:
        raise NotFound("provider_not_configured", provider=provider, configured=list(configured))


def check_unmapped(name: str, relay_users: Sequence[str]) -> None:
    """Check that no relay user is mapped to a profile that is to be removed.

    Raises:
        Refused: names the first of the relay users.
    """
    if relay_users:
        raise Refused("relay_user_mapped", profile=name, user=relay_users[0])
