"""Nobody changes the record unnoticed, and what it says of an instant is what a reader saw then."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import StoredEvent
from fakes import FAX, SCANNER, START, FakeClock, FakeProvider, Services, error
from store_examples import ADMIN, as_text, change, everything

from domain.errors import Fact, IllegalHistory, Refused
from domain.log_hold import LogHold
from domain.secret import Secret
from infrastructure.queries.audit import Audit, Finding
from infrastructure.store.event_log import EventLog
from infrastructure.store.hash_chain import link_hash
from infrastructure.store.schema import VIEWS
from infrastructure.store.store import Store, UnitOfWork

PAST_THE_LOG = 10_000
ABOUT_EVENTS = ("event_not_in_chain", "event_hash_differs", "event_not_legal", "event_removed")


class Record:
    """The stored record, as somebody sees it who can write rows."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._position = "notification_id" if store.shared_by_nodes else "rowid"

    def events(self) -> list[tuple[int, StoredEvent]]:
        with self.store.reading() as query:
            return query.events(0, PAST_THE_LOG)

    def find(self, topic: str, nth: int = 0) -> tuple[int, StoredEvent]:
        return [(position, event) for position, event in self.events() if topic in event.topic][nth]

    def write(self, position: int, **columns: object) -> None:
        for column, value in columns.items():
            statement = f"UPDATE stored_events SET {column} = ? WHERE {self._position} = ?"
            assert change(self.store, statement, value, position) == 1

    def remove(self, position: int) -> None:
        assert change(self.store, f"DELETE FROM stored_events WHERE {self._position} = ?", position) == 1

    def move(self, position: int, to: int) -> None:
        statement = f"UPDATE stored_events SET {self._position} = ? WHERE {self._position} = ?"
        assert change(self.store, statement, to, position) == 1

    def insert(self, event: StoredEvent, at: int) -> None:
        id = event.originator_id if self.store.shared_by_nodes else UUID(str(event.originator_id)).hex
        columns = f"originator_id, originator_version, topic, state, {self._position}"
        values = (id, event.originator_version, event.topic, event.state, at)
        assert change(self.store, f"INSERT INTO stored_events ({columns}) VALUES (?, ?, ?, ?, ?)", *values) == 1

    def findings(self) -> tuple[Finding, ...]:
        return Audit(EventLog(self.store)).verify().findings

    def blamed(self, *codes: str) -> list[Any]:
        """The positions of the events that a finding with one of these codes is about."""
        return [finding.fields["position"] for finding in self.findings() if finding.code in codes]


@pytest.fixture
def told(service: Services, clock: FakeClock) -> Services:
    """A short story: a token that was renewed, one that was deleted, one asked for, who may do what, a hold."""
    scanner, *_, fax, _, _ = service.add_machine()
    service.get_token(scanner)
    clock.step(minutes=55)
    service.access_token(scanner)
    service.get_token(fax)
    service.tokens.delete(fax, ADMIN)
    service.add_machine("press", "generic")
    service.tokens.request("press/smtp", None, ADMIN)
    service.relay_users.add("printers", ["press/smtp"], ["10.20.30.0/24"], Secret("a-password-in-clear"), ADMIN)
    service.administrators.add("anna", ["operator"], Secret("a-password-in-clear"), ADMIN)
    service.clients.add("backup", [scanner], None, ADMIN)
    service.access_token_cache.fetch(scanner, None, "client:backup")
    hold = LogHold.after_restore(uuid4(), backup_made_at=clock.now(), events=1, by=ADMIN, now=clock.now())
    service.events.save(hold)
    return service


@pytest.fixture
def record(told: Services) -> Record:
    record = Record(told.store)
    assert record.findings() == ()
    return record


# Events


def test_an_event_that_was_changed_is_found_and_no_other(record: Record) -> None:
    position, event = record.find("Token.Retrieved")
    record.write(position, state=event.state.replace(SCANNER.encode(), b"evil@contoso.com"))
    changed = Finding("event_hash_differs", {"position": position, "topic": "mailtoken.Token.Retrieved.v1"})
    assert [finding for finding in record.findings() if finding.code.startswith("event")] == [changed]


@pytest.mark.parametrize("nth", [0, 1, -1])
def test_every_single_event_is_covered(record: Record, nth: int) -> None:
    position, event = record.events()[nth]
    record.write(position, state=event.state.replace(b'"by":', b'"by": ', 1))
    assert record.findings() == (Finding("event_hash_differs", {"position": position, "topic": event.topic}),)


@pytest.mark.parametrize(
    "column_and_value",
    [
        ("topic", "mailtoken.Token.Deleted.v1"),
        ("topic", "mailtoken.Nothing.v1"),
        ("state", b"garbage"),
        ("state", b"{}"),
        ("originator_version", 99),
    ],
)
def test_an_event_that_makes_no_sense_any_more_is_named_and_no_other_is_blamed(
    record: Record, column_and_value: tuple[str, Any]
) -> None:
    column, value = column_and_value
    position, _ = record.find("Token.Retrieved")
    record.write(position, **{column: value})
    assert record.blamed("event_not_in_chain", "event_hash_differs", "event_removed") == [position]


def test_two_events_whose_contents_were_exchanged_are_found(record: Record) -> None:
    (one, first), (other, second) = record.find("Profile.Created", 0), record.find("Profile.Created", 1)
    record.write(one, state=second.state)
    record.write(other, state=first.state)
    assert record.blamed("event_hash_differs") == [one, other]


def test_two_events_that_changed_places_are_found(record: Record) -> None:
    one, other = record.find("Profile.Configured", 0)[0], record.find("Profile.Configured", 1)[0]
    record.move(one, PAST_THE_LOG)
    record.move(other, one)
    record.move(PAST_THE_LOG, other)
    assert record.blamed("event_hash_differs") == [one, other]


def test_an_event_that_was_inserted_at_the_end_is_found(record: Record) -> None:
    at = record.events()[-1][0] + 1
    record.insert(StoredEvent(uuid4(), 1, "mailtoken.Machine.Created.v1", _machine("ghost")), at)
    inserted = Finding("event_not_in_chain", {"position": at, "topic": "mailtoken.Machine.Created.v1"})
    assert inserted in record.findings()


def test_an_event_that_was_inserted_with_a_hash_of_its_own_is_found(record: Record) -> None:
    position, _ = record.find("Profile.Configured", 1)
    behind = record.events()
    event = StoredEvent(uuid4(), 1, "mailtoken.Machine.Created.v1", _machine("ghost"))
    # Make room: everything from there on moves up by one, with its hash.
    for at, _ in reversed([pair for pair in behind if pair[0] >= position]):
        record.move(at, at + 1)
        change(record.store, "UPDATE chain SET position = ? WHERE position = ?", at + 1, at)
    record.insert(event, position)
    with record.store.reading() as query:
        (row,) = query.rows("SELECT hash FROM chain WHERE position = ?", (position - 1,))
    change(record.store, "INSERT INTO chain VALUES (?, ?)", position, link_hash(bytes(row["hash"]), position, event))
    assert record.blamed("event_hash_differs")


def _machine(name: str) -> bytes:
    timestamp = {"_type_": "datetime_iso", "_data_": START.isoformat()}
    fields = {"timestamp": timestamp, "originator_topic": "mailtoken.Machine.v1", "by": ADMIN}
    return json.dumps({**fields, "name": name, "catalogue": "generic"}, separators=(",", ":")).encode()


@pytest.mark.parametrize("nth", [0, 5, -1])
def test_an_event_that_was_removed_is_found_also_the_first_and_the_last(record: Record, nth: int) -> None:
    position, _ = record.events()[nth]
    record.remove(position)
    assert position in record.blamed("event_removed")


@pytest.mark.parametrize("nth", [0, 5])
def test_an_event_that_was_removed_with_its_hash_is_found_by_the_next(record: Record, nth: int) -> None:
    (position, _), (following, _) = record.events()[nth : nth + 2]
    record.remove(position)
    change(record.store, "DELETE FROM chain WHERE position = ?", position)
    assert following in record.blamed(*ABOUT_EVENTS)


def test_the_last_event_that_was_removed_with_its_hash_is_found_by_its_status(record: Record) -> None:
    position, event = record.events()[-1]
    record.remove(position)
    change(record.store, "DELETE FROM chain WHERE position = ?", position)
    assert str(event.originator_id) in [finding.fields.get("id") for finding in record.findings()]


def test_a_hash_that_was_changed_or_added_is_found(record: Record) -> None:
    position = record.events()[3][0]
    change(record.store, "UPDATE chain SET hash = ? WHERE position = ?", bytes(32), position)
    change(record.store, "INSERT INTO chain VALUES (?, ?)", PAST_THE_LOG, bytes(32))
    assert PAST_THE_LOG in record.blamed("event_removed")
    assert position in record.blamed(*ABOUT_EVENTS)


def test_a_history_the_lifecycle_does_not_allow_is_found_even_if_its_hashes_are_right(record: Record) -> None:
    _, retrieved = record.find("Token.Retrieved")
    again = replace(retrieved, originator_version=50)
    record.store.recorder.insert_events([again], unit_of_work=UnitOfWork(instants=[START]))
    position = record.events()[-1][0]
    reason = "command_not_legal command='retrieve' status='Retrieved'"
    facts: dict[str, Fact] = {"position": position, "topic": "mailtoken.Token.Retrieved.v1", "reason": reason}
    found = [finding for finding in record.findings() if finding.code.startswith("event")]
    assert found == [Finding("event_not_legal", facts)]


# Rows


def test_a_status_column_that_was_changed_is_found_whichever_it_is(record: Record) -> None:
    for table in VIEWS:
        with record.store.reading() as query:
            row = dict(query.rows(f"SELECT * FROM {table} ORDER BY id")[0])
        for column, value in row.items():
            if column == "id":
                continue
            forged = 77 if isinstance(value, int) or column in _INTEGERS else "forged"
            change(record.store, f"UPDATE {table} SET {column} = ? WHERE id = ?", forged, row["id"])
            differs = Finding("row_differs", {"table": table, "id": row["id"], "columns": [column]})
            assert record.findings() == (differs,)
            change(record.store, f"UPDATE {table} SET {column} = ? WHERE id = ?", value, row["id"])
    assert record.findings() == ()


_INTEGERS = {"generation", "granted", "renewable", "ordinal", "sign_in_seconds", "takes_over"}


@pytest.mark.parametrize("table", VIEWS)
def test_a_status_row_that_is_missing_or_was_added_is_found(record: Record, table: str) -> None:
    with record.store.reading() as query:
        row = dict(query.rows(f"SELECT * FROM {table}")[0])
    change(record.store, f"DELETE FROM {table} WHERE id = ?", row["id"])
    assert Finding("row_missing", {"table": table, "id": row["id"]}) in record.findings()
    added = {**row, "id": str(uuid4())}
    columns = ", ".join(added)
    marks = ", ".join("?" * len(added))
    change(record.store, f"INSERT INTO {table} ({columns}) VALUES ({marks})", *added.values())
    assert Finding("row_not_in_log", {"table": table, "id": added["id"]}) in record.findings()


def test_a_vault_row_that_is_missing_or_was_added_is_found(record: Record) -> None:
    with record.store.reading() as query:
        rows = query.rows("SELECT subject_id, kind, generation FROM vault ORDER BY kind")
    kept = [(row["kind"], row["generation"]) for row in rows]
    assert kept == [
        ("client_key", 1),
        ("credential", 2),
        ("device_code", 1),
        ("password", 1),
        ("sign_in_password", 1),
    ]
    for row in rows:
        place = (row["subject_id"], row["kind"], row["generation"])
        where = "WHERE subject_id = ? AND kind = ? AND generation = ?"
        change(record.store, f"UPDATE vault SET generation = 9 {where}", *place)
        facts = {"kind": row["kind"], "id": row["subject_id"]}
        assert record.findings() == (
            Finding("vault_row_not_in_log", {**facts, "number": 9}),
            Finding("vault_row_missing", {**facts, "number": row["generation"]}),
        )
        change(record.store, "UPDATE vault SET generation = ? WHERE generation = 9", row["generation"])
    assert record.findings() == ()


def test_a_log_whose_tokens_and_machines_are_gone_still_verifies(told: Services) -> None:
    told.tokens.holds.resume(None, ADMIN)
    told.tokens.delete("office-mfp/smtp-service", ADMIN)
    told.tokens.cancel("press/smtp", ADMIN)
    told.relay_users.remove("printers", ADMIN)
    told.administrators.remove("anna", ADMIN)
    told.clients.remove("backup", ADMIN)
    for machine in ("office-mfp", "press"):
        told.settings.remove_machine(machine, ADMIN)
    verdict = told.audit.verify()
    assert verdict.findings == ()
    assert verdict.events == len(Record(told.store).events())
    stored = everything(told.store)
    # Who had read a token stays known.
    assert {table for table in (*VIEWS, "vault", "claim") if stored[table]} == {"reader"}


def test_verifying_says_how_far_it_is(told: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infrastructure.queries.audit.PROGRESS_EVERY", 10)
    monkeypatch.setattr("infrastructure.store.event_log._PAGE", 7)
    done: list[int] = []
    verdict = told.audit.verify(done.append)
    assert done == list(range(10, verdict.events + 1, 10))
    assert told.audit.rebuild(done.append) == verdict.events


# Rebuilding


def test_a_rebuild_gives_the_very_same_rows_whatever_became_of_them(told: Services) -> None:
    before = everything(told.store)
    change(told.store, "UPDATE token SET status = 'Retrieved', account = 'evil@contoso.com'")
    change(told.store, "DELETE FROM profile")
    change(told.store, "UPDATE machine SET name = 'x' || name")
    assert told.audit.rebuild() == len(before["stored_events"])
    assert everything(told.store) == before
    assert told.audit.verify().findings == ()


def test_a_rebuild_of_an_illegal_log_leaves_the_rows_as_they_are(told: Services, record: Record) -> None:
    _, retrieved = record.find("Token.Retrieved")
    record.store.recorder.insert_events(
        [replace(retrieved, originator_version=50)], unit_of_work=UnitOfWork(instants=[START])
    )
    before = everything(told.store)
    with pytest.raises(IllegalHistory, match="command_not_legal command='retrieve' status='Retrieved'"):
        told.audit.rebuild()
    assert everything(told.store) == before


# What was so


class Witness:
    """Reads every setting as time goes by, and remembers what it saw."""

    def __init__(self, service: Services, clock: FakeClock) -> None:
        self._service = service
        self._clock = clock
        self.seen: dict[datetime, list[dict[str, Any]]] = {}

    def look(self) -> None:
        self.seen[self._clock.now()] = self.now()

    def now(self) -> list[dict[str, Any]]:
        return [status.as_json() for status in self._service.tokens.statuses()]

    def until(self, instant: datetime, **step: float) -> None:
        """Look again and again until `instant`, and right before, at and after it."""
        while self._clock.now() + timedelta(**step) < instant:
            self._clock.step(**step)
            self.look()
        for microseconds in (-1, 0, 1):
            self._clock.instant = instant + timedelta(microseconds=microseconds)
            self.look()

    def check(self) -> None:
        for instant, seen in self.seen.items():
            told = [status.as_json() for status in self._service.audit.statuses_as_of(instant)]
            assert told == seen, instant


@pytest.fixture
def witness(service: Services, clock: FakeClock) -> Witness:
    return Witness(service, clock)


def test_what_was_so_at_an_instant_is_what_a_reader_saw_then(
    service: Services, provider: FakeProvider, clock: FakeClock, witness: Witness
) -> None:
    def deadline(name: str) -> datetime:
        until = service.tokens.status(name).until
        assert until
        return until

    def then(act: Callable[[], object]) -> None:
        act()
        witness.look()
        clock.step(seconds=90)
        witness.look()

    witness.look()
    scanner, alert, *_, fax, _, _ = service.settings.add_machine("office-mfp", "sharp-bp", ADMIN)
    then(lambda: service.settings.set_profile(scanner, {"provider": "contoso", "account": SCANNER}, ADMIN))
    then(lambda: service.settings.set_profile(fax, {"provider": "contoso", "account": FAX}, ADMIN))
    # An attempt that runs out with nobody there to see it, and a worker that looks an hour later.
    then(lambda: service.tokens.request(scanner, None, ADMIN))
    witness.until(deadline(scanner), minutes=4)
    clock.step(hours=1)
    token_id = service.tokens.status(scanner).profile.token_id
    then(lambda: service.tokens.poll(token_id))
    # A grant, renewals, and a second attempt that is denied while the first token serves.
    then(lambda: service.get_token(scanner))
    witness.until(deadline(scanner), minutes=20)
    then(lambda: service.access_token(alert))
    then(lambda: service.tokens.request(alert, None, ADMIN))
    provider.answers(error("access_denied"))
    then(lambda: service.tokens.poll(token_id))
    # A token that nothing can renew, and a grant that dies.
    provider.renewable = False
    then(lambda: service.get_token(fax, FAX))
    then(lambda: service.tokens.request(fax, None, ADMIN))
    witness.until(deadline(fax), minutes=5)
    witness.until(clock.now() + timedelta(hours=1), minutes=10)
    provider.kill_grants()
    clock.step(hours=1)
    with pytest.raises(Refused):
        service.access_token(scanner)
    witness.look()
    # Linking, unlinking, deleting, and a machine that comes and goes.
    then(lambda: service.settings.add_machine("press", "generic", ADMIN))
    then(lambda: service.settings.link("office-mfp", ["press/smtp"], ADMIN))
    then(lambda: service.tokens.delete(scanner, ADMIN))
    then(lambda: service.settings.unlink("press/smtp", ADMIN))
    then(lambda: service.settings.remove_machine("press", ADMIN))
    then(lambda: service.settings.add_machine("press", "generic", ADMIN))
    assert len(witness.seen) > 40
    witness.check()


def test_a_clock_that_steps_back_does_not_reorder_what_happened(
    service: Services, clock: FakeClock, witness: Witness
) -> None:
    scanner, *_ = service.add_machine()
    witness.look()
    clock.step(hours=2)
    service.get_token(scanner)
    clock.step(minutes=30)
    service.tokens.request(scanner, None, ADMIN)
    stepped_from = clock.now()
    clock.step(hours=-1)
    stepped_to = clock.now()
    service.tokens.cancel(scanner, ADMIN)
    witness.look()
    witness.until(stepped_from, minutes=7)
    clock.step(minutes=5)
    service.tokens.delete(scanner, ADMIN)
    witness.look()
    witness.check()
    # Before anything happened the second time, the record knows of the first time alone.
    before = service.audit.statuses_as_of(stepped_to - timedelta(microseconds=1))
    assert {status.token.status.value for status in before} == {"Not Retrieved"}
    assert service.audit.verify().findings == ()


# What happened


def test_the_history_of_a_setting_has_all_that_touched_it(told: Services) -> None:
    history = [(record.aggregate, record.name) for record in told.history.records("office-mfp/smtp-alert")]
    assert history == [
        ("Profile", "Created"),
        ("Token", "Created"),
        *[("SmtpGroup", "ProfileLinked")] * 3,
        ("Profile", "Configured"),
        ("Token", "AuthorizationRequested"),
        ("Token", "Retrieved"),
        ("Profile", "TokenReceived"),
        ("Token", "Renewed"),
        ("Reader", "Created"),
    ]


def test_a_setting_that_was_removed_and_came_back_has_both_lives_in_its_history(service: Services) -> None:
    service.add_machine("press", "generic")
    name = "press/pop"
    service.get_token(name)
    service.tokens.delete(name, ADMIN)
    service.settings.remove_profile(name, ADMIN)
    service.settings.set_profile(name, {"account": FAX}, ADMIN)
    history = [(record.aggregate, record.name) for record in service.history.records(name)]
    first = [
        ("Profile", "Created"),
        ("Token", "Created"),
        ("Profile", "Configured"),
        ("Token", "AuthorizationRequested"),
        ("Token", "Retrieved"),
        ("Profile", "TokenReceived"),
        ("Token", "Deleted"),
        ("Profile", "TokenDeleted"),
    ]
    assert history[: len(first)] == first
    assert history[len(first) : len(first) + 2] == [("Token", "Retired"), ("Profile", "Removed")]
    assert history[len(first) + 2 :] == [("Profile", "Created"), ("Profile", "Configured"), ("Token", "Created")]
    assert {record.profile for record in service.history.records(name)} == {name}
    assert service.history.records("press/fax") == []


def test_the_export_is_every_event_in_order_with_who_did_it_and_no_secret(told: Services) -> None:
    export = [record.as_json() for record in told.history.records()]
    assert [line["position"] for line in export] == [position for position, _ in Record(told.store).events()]
    assert {line["by"] for line in export} == {ADMIN, "worker", "client", "client:backup"}
    (requested, *_) = [line for line in export if line["event"] == "AuthorizationRequested"]
    assert requested["at"] == "2026-03-02T08:00:00.000000+00:00"
    assert (requested["aggregate"], requested["profile"]) == ("Token", None)
    assert requested["facts"]["profile"] == "office-mfp/smtp-service"
    assert "in-clear" not in as_text(export)
    assert "CODE-" not in as_text(export)
    json.dumps(export)
