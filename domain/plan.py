"""A plan: the changes that make machines, settings, groups, clients and providers as a file describes them.

Settings that a file does not name stay as they are. Tokens stay too, except where the file says `delete_token` and a
change is only permitted without a token: the plan then deletes the token first, as the manual asks a person to. A plan
with a refusal is not carried out at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from domain.catalogue import Protocol
from domain.lifecycle import TokenStatus
from domain.profile_fields import Settings
from domain.stored_provider import StoredProviderState

Place = tuple[str, ...]
"""A place in a file, as the keys that lead to it."""


# Wanted


@dataclass(frozen=True)
class WantedSetting:
    """A setting as the file describes it. `fields` are texts by name; an empty text clears a field.

    `delete_token`: the token may be deleted if a change requires that.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    absent: bool = False
    delete_token: bool = False


@dataclass(frozen=True)
class WantedMachine:
    """A machine as the file describes it. No `catalogue` means the machine's own, or `generic` for a new machine.

    `tags` are all that the machine is to have; None leaves those that it has.
    """

    catalogue: str | None = None
    settings: Mapping[str, WantedSetting] = field(default_factory=dict)
    absent: bool = False
    delete_token: bool = False
    tags: Sequence[str] | None = None


@dataclass(frozen=True)
class WantedProvider:
    """A stored provider as the file describes it. `secrets` names those that it has; a file never contains one."""

    kind: str
    fields: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """A whole file. `groups` has all members of each group, `clients` all profiles whose tokens a client may read."""

    machines: Mapping[str, WantedMachine] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    clients: Mapping[str, Sequence[str]] = field(default_factory=dict)
    providers: Mapping[str, WantedProvider] = field(default_factory=dict)


# Present


@dataclass(frozen=True)
class HeldToken:
    """The status of a token, with provider and account of the authorization that it has received, if any."""

    status: TokenStatus = TokenStatus.NOT_RETRIEVED
    provider: str | None = None
    account: str | None = None


@dataclass(frozen=True)
class PresentProfile:
    """A setting as it is. `token` is the id of its token, `relay_users` are the relay users mapped to it."""

    protocol: Protocol
    settings: Settings
    token: str
    group: str | None = None
    relay_users: Sequence[str] = ()


@dataclass(frozen=True)
class Present:
    """The present state: catalogues by machine, profiles by name, tokens by id, and the profiles each client may read.

    `providers` are the names of the providers in use, those of the configuration file among them, and `kinds` their
    kinds. `tags` are those of the machines that have some.
    """

    machines: Mapping[str, str]
    profiles: Mapping[str, PresentProfile]
    tokens: Mapping[str, HeldToken]
    clients: Mapping[str, Collection[str]]
    providers: Collection[str]
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    stored_providers: Mapping[str, StoredProviderState] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)


# Changes


@dataclass(frozen=True)
class AddProvider:
    """Add a provider with the fields `after`; somebody has to upload its secrets later."""

    KIND: ClassVar = "add provider"
    provider: str
    kind: str
    after: Mapping[str, str]
    secrets: tuple[str, ...]


@dataclass(frozen=True)
class SetProvider:
    """Set fields of a stored provider, and await further secrets; an empty text is a field not filled in."""

    KIND: ClassVar = "set provider"
    provider: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    secrets: tuple[str, ...]


@dataclass(frozen=True)
class DeleteToken:
    """Delete the token of `profile`, which all of `profiles` share."""

    KIND: ClassVar = "delete token"
    profile: str
    profiles: tuple[str, ...]


@dataclass(frozen=True)
class RemoveProfile:
    """Remove a setting."""

    KIND: ClassVar = "remove profile"
    profile: str


@dataclass(frozen=True)
class RemoveMachine:
    """Remove a machine whose settings are gone."""

    KIND: ClassVar = "remove machine"
    machine: str


@dataclass(frozen=True)
class AddMachine:
    """Add a machine with the settings of its catalogue."""

    KIND: ClassVar = "add machine"
    machine: str
    catalogue: str


@dataclass(frozen=True)
class TagMachine:
    """Give a machine these tags in place of those before."""

    KIND: ClassVar = "tag machine"
    machine: str
    tags_before: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class AddProfile:
    """Bring back a setting of the catalogue that was removed."""

    KIND: ClassVar = "add profile"
    profile: str


@dataclass(frozen=True)
class SetFields:
    """Set fields: the texts before and after, by the name of the field; an empty text is a field not filled in."""

    KIND: ClassVar = "set fields"
    profile: str
    before: Mapping[str, str]
    after: Mapping[str, str]


@dataclass(frozen=True)
class Unlink:
    """Take a setting out of its group."""

    KIND: ClassVar = "unlink"
    profile: str
    group: str


@dataclass(frozen=True)
class Link:
    """Link a setting into a group; it leaves the group that it is in."""

    KIND: ClassVar = "link"
    profile: str
    group: str


@dataclass(frozen=True)
class AddClient:
    """Add a client without a key: an administrator issues the key later, as a file never contains one."""

    KIND: ClassVar = "add client"
    client: str


@dataclass(frozen=True)
class Grant:
    """Let a client read the access token of a profile."""

    KIND: ClassVar = "grant"
    client: str
    profile: str


@dataclass(frozen=True)
class Revoke:
    """Let a client no longer read the access token of a profile."""

    KIND: ClassVar = "revoke"
    client: str
    profile: str


Change = (
    AddProvider
    | SetProvider
    | DeleteToken
    | RemoveProfile
    | RemoveMachine
    | AddMachine
    | TagMachine
    | AddProfile
    | SetFields
    | Unlink
    | Link
    | AddClient
    | Grant
    | Revoke
)


@dataclass(frozen=True)
class Refusal:
    """Why a part of the file can't be carried out: its place, and the code and facts of an error."""

    place: Place
    code: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The changes in the order in which they are made, deletions of tokens first, and the refusals."""

    changes: tuple[Change, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def as_json(change: Change) -> dict[str, Any]:
    """A change as an object of JSON: its kind and its fields."""
    return {"change": change.KIND, **{one.name: getattr(change, one.name) for one in fields(change)}}
