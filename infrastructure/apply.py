"""A whole fleet from one file: what is there, what has to change, and carrying it out.

Tokens that the file lets go are deleted first, each in a transaction of its own, as one at a time would be; everything
else is one transaction. Between the two the file can be applied again: what is done already is no change any more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar, assert_never
from uuid import UUID, uuid4

from domain.catalogue import catalogue
from domain.client import Client
from domain.errors import Conflict, NotPermitted, Outdated, Refused, about
from domain.machine import Machine
from domain.plan import (
    AddClient,
    AddMachine,
    AddProfile,
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
    Unlink,
    Wanted,
    WantedMachine,
    WantedSetting,
    as_json,
    plan,
    texts_of,
)
from domain.ports import Clock
from domain.profile import AUTHORIZATION_FIELDS, Profile, Settings
from domain.smtp_group import SmtpGroup, leave
from domain.token import Token, TokenState
from infrastructure.log import AnyAggregate, EventLog
from infrastructure.rows import client_state, relay_user_state, view
from infrastructure.settings_service import assemble_machine
from infrastructure.status import SettingStatus, read_statuses
from infrastructure.store import Alongside, Query
from infrastructure.token_service import TokenService

T = TypeVar("T", Profile, SmtpGroup, Machine, Client)


class Applier:
    """Plans and carries out what a file says, and writes the file that says what is so."""

    def __init__(self, events: EventLog, tokens: TokenService, clock: Clock, providers: Collection[str]) -> None:
        self._events = events
        self._tokens = tokens
        self._clock = clock
        self._providers = providers

    def plan(self, wanted: Wanted) -> Plan:
        """What would have to change; nothing is changed."""
        with self._events.store.reading() as query:
            return plan(wanted, _present(query, self._clock.now(), self._providers))

    def apply(self, wanted: Wanted, by: str, operator: str | None, only_if: str | None = None) -> Plan:
        """Make it so, all of it or nothing; returns what was done.

        `operator` is who deletes tokens, None if the caller may not.

        Raises:
            NotPermitted: a token has to be deleted and the caller may not.
            Outdated: the plan is not the one whose fingerprint is `only_if` any more.
            Refused: the plan has refusals, or a token is not as it was planned any more.
            Conflict: somebody else changed the same at the same moment.
        """
        planned = self.plan(wanted)
        if only_if is not None and fingerprint(planned) != only_if:
            raise Outdated("what is there has changed since this was planned: look at the plan again")
        if planned.refusals:
            first, *others = planned.refusals
            more = f" (and {len(others)} more)" if others else ""
            raise Refused(f"{'.'.join(first.place)}: {first.why}{more}: nothing was changed")
        self._delete_tokens([change for change in planned.changes if isinstance(change, DeleteToken)], operator)
        work = _Work(self._events, by, self._clock.now())
        for change in planned.changes:
            work.carry_out(change)
        work.save()
        return planned

    def _delete_tokens(self, deletions: Sequence[DeleteToken], operator: str | None) -> None:
        for deletion in deletions:
            if operator is None:
                raise NotPermitted(f"{deletion.profile}: its token has to be deleted, and only an operator may do that")
            self._tokens.delete(deletion.profile, operator)

    def export(self) -> Wanted:
        """What a file would say that makes an empty store what this one is, but for tokens and keys of clients."""
        with self._events.store.reading() as query:
            present = _present(query, self._clock.now(), self._providers)
        return Wanted(
            {name: _machine(name, model, present) for name, model in sorted(present.machines.items())},
            _groups(present),
            {name: sorted(profiles) for name, profiles in sorted(present.clients.items())},
        )


def fingerprint(planned: Plan) -> str:
    """What tells one plan from another."""
    changes = json.dumps([as_json(change) for change in planned.changes], sort_keys=True)
    return hashlib.sha256(changes.encode()).hexdigest()


# What is there


def _present(query: Query, now: datetime, providers: Collection[str]) -> Present:
    statuses = read_statuses(query, now)
    names = {status.profile_id: status.profile.name for status in statuses}
    mapped: dict[UUID, list[str]] = {}
    for row in query.rows("SELECT * FROM relay_user"):
        user = relay_user_state(row)
        for id in user.profiles.values():
            mapped.setdefault(id, []).append(user.name)
    clients = [client_state(row) for row in query.rows("SELECT * FROM client")]
    return Present(
        {row["name"]: row["catalogue"] for row in query.rows("SELECT name, catalogue FROM machine")},
        {status.profile.name: _profile(status, mapped) for status in statuses},
        {str(status.profile.token_id): _held(status.token) for status in statuses},
        {client.name: {names[id] for id in client.profiles if id in names} for client in clients},
        providers,
    )


def _profile(status: SettingStatus, mapped: Mapping[UUID, Sequence[str]]) -> PresentProfile:
    state = status.profile
    users = mapped.get(status.profile_id, ())
    return PresentProfile(state.protocol, state.settings, str(state.token_id), status.group, users)


def _held(token: TokenState) -> HeldToken:
    received = token.credential is not None
    return HeldToken(token.status, token.provider if received else None, token.account if received else None)


# What a file says


def _machine(name: str, model: str, present: Present) -> WantedMachine:
    settings = {}
    for setting in catalogue(model).settings:
        profile = present.profiles.get(f"{name}/{setting.name}")
        if profile is None:
            settings[setting.name] = WantedSetting(absent=True)
        elif filled := _filled_in(profile.settings):
            settings[setting.name] = WantedSetting(filled)
    return WantedMachine(model, settings)


def _filled_in(settings: Settings) -> dict[str, str]:
    blank = texts_of(Settings())
    return {field: text for field, text in texts_of(settings).items() if text != blank[field]}


def _groups(present: Present) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, profile in sorted(present.profiles.items()):
        if profile.group:
            groups.setdefault(profile.group, []).append(name)
    for name, model in present.machines.items():
        # A machine of this model begins with a group; this one's has been dissolved.
        if name not in groups and any(setting.linked for setting in catalogue(model).settings):
            groups[name] = []
    return dict(sorted(groups.items()))


# Carrying it out


class _Work:
    """The aggregates that a plan changes, loaded once and saved together, and the tokens that have to permit it.

    Others may have changed any of them since the plan was made, or change them until it is saved.
    """

    def __init__(self, events: EventLog, by: str, now: datetime) -> None:
        self._events = events
        self._by = by
        self._now = now
        with events.store.reading() as query:
            self._profile_ids = _ids(query, "profile")
            self._group_ids = _ids(query, "smtp_group")
            self._machine_ids = _ids(query, "machine")
            self._client_ids = _ids(query, "client")
        self._profiles: dict[UUID, Profile] = {}
        self._tokens: dict[UUID, Token] = {}
        self._groups: dict[UUID, SmtpGroup] = {}
        self._machines: dict[UUID, Machine] = {}
        self._clients: dict[UUID, Client] = {}

    def carry_out(self, change: Change) -> None:
        """Decide one change.

        Raises:
            Refused: the state of a token does not permit it any more.
            Conflict: what it concerns is gone.
        """
        match change:
            case DeleteToken():
                pass  # Done before: each in a transaction of its own.
            case AddMachine():
                self._add_machine(change)
            case RemoveMachine():
                self._machine(change.machine).remove(by=self._by, now=self._now)
            case AddProfile():
                self._add_profile(change)
            case RemoveProfile():
                profile = self._leaving(change.profile)
                profile.remove(by=self._by, now=self._now)
                del self._profile_ids[change.profile]
            case SetFields():
                self._fill_in(change)
            case Link():
                self._link(change)
            case Unlink():
                self._permit("unlink", self._profile(change.profile))
                own = self._new_token()
                self._leaving(change.profile).unlink(own.id, by=self._by, now=self._now)
            case AddClient():
                self._add_client(change)
            case Grant():
                self._client(change.client).grant([self._profile(change.profile)], by=self._by, now=self._now)
            case Revoke():
                self._client(change.client).revoke([self._profile(change.profile)], by=self._by, now=self._now)
            case _:
                assert_never(change)

    def save(self) -> None:
        """Store it, in one transaction.

        Raises:
            Conflict: somebody else changed one of them first.
        """
        # Tokens that were there first, then profiles: so each event finds, in the log, the profiles it concerns.
        there = [token for token in self._tokens.values() if not _is_new(token)]
        new = [token for token in self._tokens.values() if _is_new(token)]
        looked_at: list[AnyAggregate] = [
            *there,
            *self._machines.values(),
            *self._profiles.values(),
            *new,
            *self._groups.values(),
            *self._clients.values(),
        ]
        expects = {one.id: one.version for one in looked_at if not one.pending_events}
        self._events.save(*looked_at, beside=Alongside(expects=expects))

    def _add_machine(self, change: AddMachine) -> None:
        added = assemble_machine(change.machine, catalogue(change.catalogue), self._by, self._now)
        self._machines[added.machine.id] = added.machine
        self._machine_ids[change.machine] = added.machine.id
        for profile in added.profiles:
            self._take(profile)
        self._tokens.update((token.id, token) for token in added.tokens)
        for group in added.groups:
            self._groups[group.id] = group
            self._group_ids[group.state.name] = group.id

    def _add_profile(self, change: AddProfile) -> None:
        machine_name, _, setting_name = change.profile.partition("/")
        machine = self._machine(machine_name)
        setting = catalogue(machine.state.catalogue).setting(setting_name)
        profile = Profile.create(
            uuid4(),
            machine_id=machine.id,
            machine=machine_name,
            setting=setting.name,
            protocol=setting.protocol,
            token_id=self._new_token().id,
            group_id=None,
            by=self._by,
            now=self._now,
        )
        self._take(profile)

    def _add_client(self, change: AddClient) -> None:
        client = Client.add(uuid4(), change.client, by=self._by, now=self._now)
        self._clients[client.id] = client
        self._client_ids[change.client] = client.id

    def _fill_in(self, change: SetFields) -> None:
        profile = self._profile(change.profile)
        if AUTHORIZATION_FIELDS & change.after.keys():
            self._permit("change", profile)
        if changes := profile.changes(change.after):
            profile.configure(changes, by=self._by, now=self._now)

    def _link(self, change: Link) -> None:
        self._permit("link", self._profile(change.profile))
        profile = self._leaving(change.profile)
        group = self._group(change.group)
        token = self._token(group.state.token_id)
        # Also while somebody signs in again: what is held may well stay.
        received = token.state.credential is not None
        profile.link(
            group_id=group.id,
            token_id=token.id,
            provider=token.state.provider if received else None,
            account=token.state.account if received else None,
            by=self._by,
            now=self._now,
        )
        group.link(profile.id, by=self._by, now=self._now)

    def _permit(self, act: str, profile: Profile) -> None:
        with about(profile.state.name):
            self._token(profile.state.token_id).permit(act, self._now)

    def _leaving(self, name: str) -> Profile:
        """The profile, once it has left its group and its token behind."""
        profile = self._profile(name)
        group_id = profile.state.group_id
        group = self._load(SmtpGroup, self._groups, group_id) if group_id else None
        leave(profile, group, self._token(profile.state.token_id), by=self._by, now=self._now)
        if group and group.state.dissolved:
            del self._group_ids[group.state.name]
        return profile

    def _group(self, name: str) -> SmtpGroup:
        if name not in self._group_ids:
            group = SmtpGroup.create(uuid4(), name, self._new_token().id, by=self._by, now=self._now)
            self._groups[group.id] = group
            self._group_ids[name] = group.id
        return self._load(SmtpGroup, self._groups, self._group_ids[name])

    def _take(self, profile: Profile) -> None:
        self._profiles[profile.id] = profile
        self._profile_ids[profile.state.name] = profile.id

    def _new_token(self) -> Token:
        token = Token.create(uuid4(), by=self._by, now=self._now)
        self._tokens[token.id] = token
        return token

    def _token(self, id: UUID) -> Token:
        if id not in self._tokens:
            self._tokens[id] = self._events.token(id)
        return self._tokens[id]

    def _profile(self, name: str) -> Profile:
        return self._load(Profile, self._profiles, self._profile_ids.get(name))

    def _machine(self, name: str) -> Machine:
        return self._load(Machine, self._machines, self._machine_ids.get(name))

    def _client(self, name: str) -> Client:
        return self._load(Client, self._clients, self._client_ids.get(name))

    def _load(self, kind: type[T], loaded: dict[UUID, T], id: UUID | None) -> T:
        if id in loaded:
            return loaded[id]
        one = self._events.load(kind, id) if id else None
        if one is None or view(one.id, one.version, one.state).row is None:
            raise Conflict("somebody else removed something of this at the same moment: look at the plan again")
        loaded[one.id] = one
        return one


def _is_new(token: Token) -> bool:
    return token.version == len(token.pending_events)


def _ids(query: Query, table: str) -> dict[str, UUID]:
    rows: Iterable[Mapping[str, str]] = query.rows(f"SELECT id, name FROM {table}")  # noqa: S608 - our own table names
    return {row["name"]: UUID(row["id"]) for row in rows}
