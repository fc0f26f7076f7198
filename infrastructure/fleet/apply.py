"""Applies a file that describes the whole fleet, and exports the fleet as such a file.

Tokens that the file allows to be deleted are deleted first, each in a transaction of its own; all other changes are one
transaction. If the service stops between them, applying the file again carries out the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import assert_never
from uuid import UUID

from domain.catalogue import catalogue
from domain.errors import Conflict, NotFound, NotPermitted, Outdated, Refused
from domain.plan import (
    AddClient,
    AddMachine,
    AddProfile,
    AddProvider,
    Change,
    DeleteToken,
    Grant,
    HeldToken,
    Link,
    Plan,
    Present,
    PresentProfile,
    RemoveMachine,
    RemoveProfile,
    Revoke,
    SetFields,
    SetProvider,
    TagMachine,
    Unlink,
    Wanted,
    WantedMachine,
    WantedProvider,
    WantedSetting,
    as_json,
)
from domain.planner import plan
from domain.ports import Clock
from domain.profile_fields import FIELDS, Settings, texts_of
from domain.provider_fields import PROVIDER_FIELDS
from domain.stored_provider import StoredProviderState
from domain.token_state import TokenState
from infrastructure.fleet.changes import FleetChanges, relay_users_by_profile
from infrastructure.queries.setting_status import SettingStatus, read_statuses
from infrastructure.store.event_log import EventLog
from infrastructure.store.query import Query
from infrastructure.store.row_macs import readable
from infrastructure.store.rows import api_client_state
from infrastructure.store.stored_provider_rows import read_stored_states
from infrastructure.tokens.token_service import TokenService


class Applier:
    """Plans and carries out the changes that a file asks for, and exports the present settings.

    `providers` are the names of those in use, and `kinds` their kinds. `check_provider` raises InvalidValue for one
    that could not be used.
    """

    def __init__(
        self,
        events: EventLog,
        tokens: TokenService,
        clock: Clock,
        providers: Collection[str],
        check_provider: Callable[[StoredProviderState], object],
        kinds: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._events = events
        self._tokens = tokens
        self._clock = clock
        self._providers = providers
        self._check_provider = check_provider
        self._kinds = kinds

    def plan(self, wanted: Wanted) -> Plan:
        """The changes that applying would make; nothing is changed."""
        with self._events.store.reading() as query:
            return plan(wanted, _present(query, self._clock.now(), self._providers, self._kinds))

    def apply(self, wanted: Wanted, by: str, operator: str | None, only_if: str | None = None) -> Plan:
        """Carry out the whole plan or, if a part of it is refused, nothing; returns the plan.

        `operator` is the author of token deletions; None if the caller is not permitted to delete tokens.

        Raises:
            NotPermitted: a token has to be deleted, and `operator` is None.
            Outdated: the fingerprint of the plan is not `only_if`: the settings have changed since.
            Refused: the plan has refusals, or the state of a token has changed since the plan was made.
            Conflict: somebody else changed the same aggregates at the same moment.
            InvalidValue: a provider of the file could not be used.
        """
        planned = self.plan(wanted)
        if only_if is not None and fingerprint(planned) != only_if:
            raise Outdated("plan_outdated")
        if planned.refusals:
            first, *others = planned.refusals
            raise Refused(first.code, **{**first.fields, "place": ".".join(first.place), "others": len(others)})
        self._delete_tokens([change for change in planned.changes if isinstance(change, DeleteToken)], operator)
        changes = FleetChanges(self._events, by, self._clock.now())
        try:
            for change in planned.changes:
                _carry_out(changes, change)
        except NotFound:
            raise Conflict("removed_meanwhile") from None
        for provider in changes.providers:
            self._check_provider(provider.state)
        changes.save()
        for change in planned.changes:
            if isinstance(change, SetProvider) and any(PROVIDER_FIELDS[one].of_registration for one in change.after):
                self._tokens.end_for_changed_client(change.provider)
        return planned

    def _delete_tokens(self, deletions: Sequence[DeleteToken], operator: str | None) -> None:
        for deletion in deletions:
            if operator is None:
                raise NotPermitted("only_operators_delete_tokens", profile=deletion.profile)
            self._tokens.delete(deletion.profile, operator)

    def export(self) -> Wanted:
        """The description that, applied to an empty store, gives this store without its tokens and client keys."""
        with self._events.store.reading() as query:
            present = _present(query, self._clock.now(), self._providers, self._kinds)
        return Wanted(
            {name: _machine(name, model, present) for name, model in sorted(present.machines.items())},
            _groups(present),
            {name: sorted(profiles) for name, profiles in sorted(present.clients.items())},
            {name: _provider(state) for name, state in present.stored_providers.items()},
        )


def fingerprint(planned: Plan) -> str:
    """A SHA-256 digest of the changes, in hexadecimal."""
    changes = json.dumps([as_json(change) for change in planned.changes], sort_keys=True)
    return hashlib.sha256(changes.encode()).hexdigest()


# The present settings


def _present(query: Query, now: datetime, providers: Collection[str], kinds: Mapping[str, str]) -> Present:
    statuses = read_statuses(query, now)
    names = {status.profile_id: status.profile.name for status in statuses}
    mapped = relay_users_by_profile(query)
    clients = list(readable(api_client_state, query.rows("SELECT * FROM client")))
    machines = query.rows("SELECT name, catalogue, tags FROM machine")
    return Present(
        {row["name"]: row["catalogue"] for row in machines},
        {status.profile.name: _profile(status, mapped) for status in statuses},
        {str(status.profile.token_id): _held(status.token) for status in statuses},
        {client.name: {names[id] for id in client.profiles if id in names} for client in clients},
        providers,
        {row["name"]: row["tags"].split() for row in machines if row["tags"]},
        {state.name: state for state in read_stored_states(query)},
        kinds,
    )


def _profile(status: SettingStatus, mapped: Mapping[UUID, Sequence[str]]) -> PresentProfile:
    state = status.profile
    users = mapped.get(status.profile_id, ())
    return PresentProfile(state.protocol, state.settings, str(state.token_id), status.group, users)


def _held(token: TokenState) -> HeldToken:
    return HeldToken(token.status, *token.authorization)


# Export


def _machine(name: str, model: str, present: Present) -> WantedMachine:
    settings = {}
    for setting in catalogue(model).settings:
        profile = present.profiles.get(f"{name}/{setting.name}")
        if profile is None:
            settings[setting.name] = WantedSetting(absent=True)
        elif filled := _filled_in(profile.settings):
            settings[setting.name] = WantedSetting(filled)
    return WantedMachine(model, settings, tags=present.tags.get(name))


def _provider(state: StoredProviderState) -> WantedProvider:
    fields = {name: state.fields[name] for name in PROVIDER_FIELDS if name in state.fields}
    return WantedProvider(state.kind, fields, tuple(sorted(state.secrets)))


def _filled_in(settings: Settings) -> dict[str, str]:
    texts = texts_of(settings)
    return {name: texts[name] for name, field in FIELDS.items() if getattr(settings, name) != field.default}


def _groups(present: Present) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, profile in sorted(present.profiles.items()):
        if profile.group:
            groups.setdefault(profile.group, []).append(name)
    for name, model in present.machines.items():
        # Adding a machine of this model creates its group; here the group has been dissolved.
        if name not in groups and catalogue(model).has_linked_settings:
            groups[name] = []
    return dict(sorted(groups.items()))


# Carrying out a plan


def _carry_out(changes: FleetChanges, change: Change) -> None:
    match change:
        case DeleteToken():
            pass  # The token is deleted already, in a transaction of its own.
        case AddProvider() | SetProvider():
            _carry_out_provider(changes, change)
        case AddMachine():
            changes.add_machine(change.machine, catalogue(change.catalogue))
        case TagMachine():
            changes.tag_machine(change.machine, change.tags)
        case RemoveMachine():
            changes.remove_machine(change.machine)
        case AddProfile():
            changes.add_profile(change.profile)
        case RemoveProfile():
            changes.remove_profile(change.profile)
        case SetFields():
            changes.set_fields(change.profile, change.after)
        case Link():
            changes.link(change.profile, change.group)
        case Unlink():
            changes.unlink(change.profile)
        case AddClient() | Grant() | Revoke():
            _carry_out_for_client(changes, change)
        case _:
            assert_never(change)


def _carry_out_for_client(changes: FleetChanges, change: AddClient | Grant | Revoke) -> None:
    match change:
        case AddClient():
            changes.add_client(change.client)
        case Grant():
            changes.grant(change.client, change.profile)
        case Revoke():
            changes.revoke(change.client, change.profile)


def _carry_out_provider(changes: FleetChanges, change: AddProvider | SetProvider) -> None:
    if isinstance(change, AddProvider):
        changes.add_provider(change.provider, change.kind, change.after, change.secrets)
    else:
        changes.set_provider(change.provider, change.after, change.secrets)
