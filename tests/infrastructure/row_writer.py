"""Somebody who can write rows and has no key: their changes, and what anybody gets from a store."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from fakes import Services, session_of
from store_examples import ADMIN, change, everything

from domain.catalogue import Protocol
from domain.errors import MailtokenError
from domain.secret import Secret
from infrastructure.access.bearer_tokens import token_hash
from infrastructure.store.schema import ACCESS, VIEWS
from infrastructure.store.store import Store
from infrastructure.store.vault import VaultKey

Rows = dict[str, list[dict[str, Any]]]

PASSWORDS = {"old": Secret("the-old-password-1"), "new": Secret("the-new-password-2")}
CHOSEN = Secret("a-token-that-somebody-chose")
HERE = "192.0.2.7"
SMTP, POP = "office-mfp/smtp-service", "office-mfp/pop-email-print"
EVIL = "mail.attacker.example"
TOUCHED = (*VIEWS, *ACCESS, "vault")
_PLAUSIBLE: Mapping[str, Sequence[Any]] = {
    "roles": ["administrator operator auditor", "operator"],
    "password": [0, 1, 2, 3],
    "status": ["Retrieved", "Not Retrieved", "nonsense"],
    "name": ["anna", "bob", "office-mfp/smtp-service", "backup"],
    "expires_at": ["2099-01-01T00:00:00.000000Z", "2099-01-01T00:00:00+00:00", None],
    "used_at": ["2099-01-01T00:00:00+00:00", "nonsense"],
    "begun_at": ["2099-01-01T00:00:00+00:00"],
    "networks": ["0.0.0.0/0", "192.0.2.0/24", "nonsense"],
    "version": [1, 2, 3, 99],
    "generation": [1, 2, 3],
    "settings": ["{}", "nonsense"],
}


@dataclass
class Office:
    """A store that was used for a while, what people were given, and its rows at some instants."""

    service: Services
    sessions: dict[str, Secret] = field(default_factory=dict)
    links: dict[str, Secret] = field(default_factory=dict)
    keys: dict[str, Secret] = field(default_factory=dict)
    before: list[Rows] = field(default_factory=list)

    def remember(self) -> None:
        self.before.append(everything(self.service.store))


def an_office(service: Services) -> Office:
    """A store in which everything that gives a right has been changed, ended or removed at least once."""
    office = Office(service)
    service.add_machine()
    for name in (SMTP, POP):
        service.settings.set_profile(name, {"server": "mail.contoso.com"}, ADMIN)
        service.get_token(name)
    people, clients, relay = service.administrators, service.clients, service.relay_users
    people.add("anna", ["administrator", "operator"], PASSWORDS["old"], ADMIN)
    people.add("bob", ["operator"], PASSWORDS["old"], ADMIN)
    people.add("eve", ["administrator"], PASSWORDS["old"], ADMIN)
    office.keys["backup, old"] = clients.add("backup", [SMTP, POP], None, ADMIN)
    office.keys["gone"] = clients.add("gone", [SMTP], None, ADMIN)
    relay.add("scanner", [SMTP, POP], [], PASSWORDS["old"], ADMIN)
    relay.add("desk", [SMTP], ["198.51.100.0/24"], None, ADMIN)
    for name in ("anna", "bob", "eve"):
        office.sessions[f"{name}, old"] = session_of(people.sign_in(name, PASSWORDS["old"], HERE))
    office.sessions["member, out"] = service.sessions.begin_for_member("m@contoso.com", ("operator",), HERE)
    office.links["used"] = people.link("bob", ADMIN).secret
    office.remember()

    people.use_link(office.links["used"], "bob", PASSWORDS["new"], HERE)
    people.set_password("anna", PASSWORDS["new"], ADMIN)
    people.set_roles("bob", ["auditor"], ADMIN)
    service.sessions.end(office.sessions["member, out"])
    office.links["replaced"] = people.link("bob", ADMIN).secret
    office.keys["backup"] = clients.new_key("backup", None, ADMIN)
    office.remember()

    people.remove("eve", ADMIN)
    clients.revoke("backup", [POP], ADMIN)
    clients.remove("gone", ADMIN)
    relay.set_password("scanner", PASSWORDS["new"], ADMIN)
    relay.map("scanner", [SMTP], ADMIN)
    service.settings.set_profile(SMTP, {"server": "smtp.contoso.com"}, ADMIN)
    service.tokens.renew(SMTP, ADMIN)
    office.links["live"] = people.link("bob", ADMIN).secret
    office.sessions["anna"] = session_of(people.sign_in("anna", PASSWORDS["new"], HERE))
    office.sessions["member"] = service.sessions.begin_for_member("n@contoso.com", ("auditor",), HERE)
    return office


def rights(office: Office) -> set[tuple[Any, ...]]:
    """Everything that anybody gets with what they were given, or with what somebody chose."""
    service = office.service.restart()
    found: set[tuple[Any, ...]] = set()
    for get in _gets(office, service):
        with suppress(MailtokenError):
            found.add(get())
    for key in office.keys.values():
        with suppress(MailtokenError):
            if owner := service.clients.owner_of(key):
                found |= {("key", str(owner.id), owner.name, profile) for profile in owner.profiles}
    return {right for right in found if right[-1] != "None"}


def _gets(office: Office, service: Services) -> Iterator[Callable[[], tuple[Any, ...]]]:
    for token in (*office.sessions.values(), CHOSEN):
        yield lambda token=token: ("session", token.reveal(), repr(service.sessions.find(token)))  # type: ignore[misc]
    for secret in (*office.links.values(), CHOSEN):
        yield lambda secret=secret: ("link", service.administrators.whose_link(secret))  # type: ignore[misc]
    for number, name in enumerate(("anna", "bob", "eve", "mallory")):
        for password in PASSWORDS.values():
            yield lambda name=name, password=password, address=f"203.0.113.{number}": (  # type: ignore[misc]
                "sign-in",
                name,
                repr(service.sessions.find(session_of(service.administrators.sign_in(name, password, address)))),
            )
    for name in (SMTP, POP):
        yield lambda name=name: ("token", *_token(service, name))  # type: ignore[misc]
        yield lambda name=name: ("mail", *_server(service, name))  # type: ignore[misc]
    for protocol in (Protocol.SMTP, Protocol.POP):
        for given in (*PASSWORDS.values(), None):
            for address in (HERE, "198.51.100.7"):
                yield lambda protocol=protocol, password=given, address=address: _admitted(  # type: ignore[misc]
                    service, protocol, password, address
                )


def _token(service: Services, name: str) -> tuple[Any, ...]:
    served = service.tokens.access_token(name, None, "client:backup")
    return name, served.account, served.mailbox, served.generation, served.credential.access_token.reveal()


def _server(service: Services, name: str) -> tuple[Any, ...]:
    settings = service.tokens.believed_status(name).profile.settings
    return name, settings.server, settings.port, settings.tls


def _admitted(service: Services, protocol: Protocol, password: Secret | None, address: str) -> tuple[Any, ...]:
    user = None if password is None else "scanner"
    admitted = service.relay_users.admit(protocol, address, user, password)
    return "relay", protocol, admitted.user, admitted.server, admitted.token.generation


# The changes


@dataclass(frozen=True)
class Change:
    """A change of rows, in words, and the ids of the rows that it is about."""

    words: str
    ids: frozenset[str]


def write(office: Office, random_: random.Random) -> Change | None:
    """Change something; None if this change makes no difference."""
    kinds = (_edit, _edit, _edit, _delete, _insert, _swap, _put_back, _put_back, _put_back, _forge_access, _vault_back)
    return random_.choice(kinds)(office, random_)


def _edit(office: Office, random_: random.Random) -> Change | None:
    table, row, rows = _some_row(office, random_, (*VIEWS, *ACCESS))
    column = random_.choice([name for name in row if name != "mac"])
    others = [other[column] for other in rows]
    value = random_.choice([*_PLAUSIBLE.get(column, ()), *others, str(row[column]) + "x"])
    if column == "settings":
        value = str(row[column]).replace(".contoso.com", ".attacker.example")
    if value == row[column]:
        return None
    return _put(office.service.store, table, row, {**row, column: value}, f"{column} of {table} becomes {value!r}")


def _delete(office: Office, random_: random.Random) -> Change | None:
    table, row, _ = _some_row(office, random_, (*VIEWS, "vault"))
    _drop(office.service.store, table, row)
    return Change(f"a row of {table} is deleted", frozenset({_id(row)}))


def _insert(office: Office, random_: random.Random) -> Change | None:
    table, row, _ = _some_row(office, random_, VIEWS)
    other = {**row, "id": str(uuid4())}
    other |= {name: f"{row[name]}-2" for name in ("name", "key_id") if row.get(name)}
    _add(office.service.store, table, other)
    return Change(f"a row of {table} is copied", frozenset({other["id"]}))


def _swap(office: Office, random_: random.Random) -> Change | None:
    table, row, rows = _some_row(office, random_, (*VIEWS, *ACCESS))
    other = random_.choice(rows)
    unique = {"id", "name", "hash", "key_id"}
    if {**row, **dict.fromkeys(unique)} == {**other, **dict.fromkeys(unique)}:
        return None
    taken = {name: value for name, value in other.items() if name not in unique}
    return _put(office.service.store, table, row, {**row, **taken}, f"a row of {table} gets the content of another")


def _put_back(office: Office, random_: random.Random) -> Change | None:
    """A whole row as it was once, MAC and all."""
    table = random_.choice((*VIEWS, *ACCESS))
    old = [row for rows in office.before for row in rows[table]]
    now = everything(office.service.store)[table]
    gone = [row for row in old if row not in now]
    if not gone:
        return None
    row = random_.choice(sorted(gone, key=_without_chance))
    for present in now:
        if any(row.get(name) is not None and row.get(name) == present.get(name) for name in ("id", "hash", "name")):
            if table in ACCESS and present.get("hash") != row.get("hash"):
                continue
            _drop(office.service.store, table, present)
    _add(office.service.store, table, row)
    return Change(f"an old row of {table} is put back", frozenset({_id(row)}))


def _forge_access(office: Office, random_: random.Random) -> Change | None:
    """A session, or a link, with a token that somebody chose; with the MAC of another row."""
    table, row, _ = _some_row(office, random_, ACCESS)
    forged = {**row, "hash": token_hash(CHOSEN)}
    if table == "session":
        anna = next(one for one in everything(office.service.store)["administrator"] if one["name"] == "anna")
        forged |= {"administrator_id": anna["id"], "password": anna["password"], "name": "anna"}
    _add(office.service.store, table, forged)
    return Change(f"a {table} is forged", frozenset({_id(forged)}))


def _vault_back(office: Office, random_: random.Random) -> Change | None:
    """An old sealed row, under its own number or in the place of the newest one."""
    store = office.service.store
    now = everything(store)["vault"]
    old = [row for rows in office.before for row in rows["vault"] if row not in now]
    if not old:
        return None
    row = random_.choice(sorted(old, key=_without_chance))
    newer = [one for one in now if (one["subject_id"], one["kind"]) == (row["subject_id"], row["kind"])]
    if newer and random_.random() < 0.5:
        return _put(
            store, "vault", newer[0], {**row, "generation": newer[0]["generation"]}, "an old secret, renumbered"
        )
    if any(VaultKey(o["subject_id"], o["kind"], o["generation"]) == _vault_key(row) for o in now):
        return None
    _add(store, "vault", row)
    return Change("an old secret is put back", frozenset({row["subject_id"]}))


def forge_event(office: Office, random_: random.Random) -> Change:
    """An event at the end of an aggregate, or in the place of its last one, which gives bob every role."""
    store = office.service.store
    [bob] = [one for one in everything(store)["administrator"] if one["name"] == "bob"]
    events = [row for row in everything(store)["stored_events"] if UUID(str(row["originator_id"])) == UUID(bob["id"])]
    last = max(events, key=lambda row: int(row["originator_version"]))
    [roles] = [row for row in events if "RolesChanged" in row["topic"]]
    state = bytes(roles["state"]).replace(b'["auditor"]', b'["administrator","operator","auditor"]')
    if random_.random() < 0.5:
        statement = "UPDATE stored_events SET state = ? WHERE topic = ? AND originator_id = ?"
        change(store, statement, state, roles["topic"], roles["originator_id"])
        words = "an event is edited"
    else:
        statement = "INSERT INTO stored_events (originator_id, originator_version, topic, state) VALUES (?, ?, ?, ?)"
        change(store, statement, last["originator_id"], last["originator_version"] + 1, roles["topic"], state)
        words = "an event is appended"
    return Change(words, frozenset({bob["id"]}))


def put_everything_back(store: Store, rows: Rows) -> None:
    """Undo what was written."""
    now = everything(store)
    for table in TOUCHED:
        for row in now[table]:
            if row not in rows[table]:
                _drop(store, table, row)
        for row in rows[table]:
            if row not in now[table]:
                _add(store, table, row)


def _some_row(
    office: Office, random_: random.Random, tables: Sequence[str]
) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    rows = everything(office.service.store)
    table = random_.choice([table for table in tables if rows[table]])
    found = sorted(rows[table], key=_without_chance)
    return table, random_.choice(found), found


def _without_chance(row: Mapping[str, Any]) -> str:
    """The row without what is another at each run, so that the same seed makes the same changes."""
    return repr({name: value for name, value in row.items() if name in _CERTAIN})


_CERTAIN = frozenset(
    {"name", "version", "kind", "generation", "status", "roles", "networks", "password", "machine", "client"}
)


def _put(store: Store, table: str, row: dict[str, Any], other: dict[str, Any], words: str) -> Change | None:
    _drop(store, table, row)
    try:
        _add(store, table, other)
    except Exception:
        # The database itself refuses it: another row has the name.
        _add(store, table, row)
        return None
    return Change(words, frozenset({_id(row), _id(other)}))


def _add(store: Store, table: str, row: Mapping[str, Any]) -> None:
    change(
        store,
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
        *row.values(),
    )


_KEYS = {
    "vault": ("subject_id", "kind", "generation"),
    "stored_events": ("originator_id", "originator_version"),
    "session": ("hash",),
    "one_time": ("hash",),
}


def _drop(store: Store, table: str, row: Mapping[str, Any]) -> None:
    names = _KEYS.get(table, ("id",))
    condition = " AND ".join(f"{name} = ?" for name in names)
    change(store, f"DELETE FROM {table} WHERE {condition}", *(row[name] for name in names))


def _id(row: Mapping[str, Any]) -> str:
    return str(row.get("id") or row.get("subject_id") or str(row.get("hash"))[:32])


def _vault_key(row: Mapping[str, Any]) -> VaultKey:
    return VaultKey(row["subject_id"], row["kind"], row["generation"])
