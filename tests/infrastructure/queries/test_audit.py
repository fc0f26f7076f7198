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
from store_examples import ADMIN, LOG, as_text, change, everything
from stored_record import PAST_THE_LOG, Record

from domain.errors import Fact, IllegalHistory, Refused
from domain.log_hold import LogHold
from domain.secret import Secret
from domain.stored_provider import StoredProvider
from infrastructure.queries.audit import Finding
from infrastructure.store.fold import Fold
from infrastructure.store.schema import VIEWS
from infrastructure.store.store import UnitOfWork


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
    provider = StoredProvider.add(uuid4(), "stored", "google", {"client_id": "1"}, by=ADMIN, now=START)
    number = provider.upload_secret("client_secret", by=ADMIN, now=START)
    sealed = service.vault.seal_provider_secret(provider.id, "client_secret", number, Secret("sealed"))
    service.events.save(provider, unit_of_work=UnitOfWork(put=[sealed]))
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
    facts: dict[str, Fact] = {"position": position, "topic": "mailtoken.Token.Retrieved.v1"}
    changed = Finding("event_hash_differs", facts, record.index(position))
    assert [finding for finding in record.findings() if finding.code.startswith("event")] == [changed]


@pytest.mark.parametrize("nth", [0, 1, -1])
def test_every_single_event_is_covered(record: Record, nth: int) -> None:
    position, event = record.events()[nth]
    record.write(position, state=event.state.replace(b'"by":', b'"by": ', 1))
    changed = Finding("event_hash_differs", {"position": position, "topic": event.topic}, record.index(position))
    assert record.findings() == (changed,)


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


def _machine(name: str) -> bytes:
    timestamp = {"_type_": "datetime_iso", "_data_": START.isoformat()}
    fields = {"timestamp": timestamp, "originator_topic": "mailtoken.Machine.v1", "by": ADMIN}
    return json.dumps({**fields, "name": name, "catalogue": "generic"}, separators=(",", ":")).encode()


def test_a_history_the_lifecycle_does_not_allow_is_found_even_if_its_hashes_are_right(record: Record) -> None:
    _, retrieved = record.find("Token.Retrieved")
    again = replace(retrieved, originator_version=50)
    record.store.recorder.insert_events([again], unit_of_work=UnitOfWork(instants=[START]))
    position = record.events()[-1][0]
    reason = "command_not_legal command='retrieve' status='Retrieved'"
    facts: dict[str, Fact] = {"position": position, "topic": "mailtoken.Token.Retrieved.v1", "reason": reason}
    found = [finding for finding in record.findings() if finding.code.startswith("event")]
    assert found == [Finding("event_not_legal", facts, len(record.events()))]


@pytest.mark.parametrize("topic", ["RelayUser.MessagesChanged", "Session.Ended"])
def test_an_event_of_what_is_over_is_found_even_if_its_hash_is_right(told: Services, topic: str) -> None:
    told.relay_users.change_messages("printers", {"sender": "scan@contoso.com"}, ADMIN)
    told.relay_users.remove("printers", ADMIN)
    told.sessions.end(told.sessions.begin_for_member("lee@contoso.com", ("auditor",)))
    record = Record(told.store)
    assert record.findings() == ()
    _, stored = record.find(topic)
    again = replace(stored, originator_version=50)
    record.store.recorder.insert_events([again], unit_of_work=UnitOfWork(instants=[told.clock.now()]))
    [found] = [finding for finding in record.findings() if finding.code == "event_not_legal"]
    assert found.index == len(record.events())
    assert found.fields["reason"] == f"aggregate_not_there version=50 id='{stored.originator_id}'"


def test_the_memory_of_a_replay_grows_with_what_lives_and_not_with_what_is_over(told: Services) -> None:
    def replay(*, forgets: bool) -> Fold:
        fold = Fold(forgets=forgets)
        with told.store.reading() as query:
            for logged in told.events.read(query):
                fold.apply(logged.event)
        return fold

    before = replay(forgets=True)
    for number in range(5):
        told.sessions.end(told.sessions.begin_for_member("lee@contoso.com", ("auditor",)))
        told.relay_users.add(f"printer-{number}", ["press/smtp"], [], Secret("a-password-in-clear"), ADMIN)
        told.relay_users.remove(f"printer-{number}", ADMIN)
        told.clients.add(f"client-{number}", [], None, ADMIN)
        told.clients.remove(f"client-{number}", ADMIN)
    after, whole = replay(forgets=True), replay(forgets=False)
    assert (after.states, after.versions) == (before.states, before.versions)
    assert len(whole.states) == len(after.states) + 15
    assert [one for one in whole.views() if one.row] == [one for one in after.views() if one.row]


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
        ("provider_client_secret", 1),
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
    with told.store.reading() as query:
        stored_provider = UUID(query.rows("SELECT id FROM provider")[0]["id"])
    provider = told.events.load(StoredProvider, stored_provider)
    provider.remove([], by=ADMIN, now=START)
    told.events.save(provider)
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
    assert told.audit.rebuild(by=ADMIN, now=START, progress=done.append) == verdict.events


# Rebuilding


def test_a_rebuild_gives_the_very_same_rows_whatever_became_of_them(told: Services) -> None:
    before = everything(told.store)
    change(told.store, "UPDATE token SET status = 'Retrieved', account = 'evil@contoso.com'")
    change(told.store, "DELETE FROM profile")
    change(told.store, "UPDATE machine SET name = 'x' || name")
    assert told.audit.rebuild(by=ADMIN, now=START) == len(before["stored_events"])
    assert everything(told.store, but=LOG) == {table: rows for table, rows in before.items() if table not in LOG}
    last = told.history.records()[-1]
    assert (last.aggregate, last.name, last.by) == ("ReadModel", "Rebuilt", ADMIN)
    assert last.facts == {"events": len(before["stored_events"])}
    assert told.audit.verify().findings == ()


def test_a_rebuild_of_an_illegal_log_leaves_the_rows_as_they_are(told: Services, record: Record) -> None:
    _, retrieved = record.find("Token.Retrieved")
    record.store.recorder.insert_events(
        [replace(retrieved, originator_version=50)], unit_of_work=UnitOfWork(instants=[START])
    )
    before = everything(told.store)
    with pytest.raises(IllegalHistory, match="command_not_legal command='retrieve' status='Retrieved'"):
        told.audit.rebuild(by="worker", now=START)
    assert everything(told.store) == before


def test_a_log_that_was_altered_gives_no_rows(told: Services, record: Record) -> None:
    position, event = record.find("Administrator.Created")
    record.write(position, state=event.state.replace(b"operator", b"owner"))
    before = everything(told.store)
    with pytest.raises(Refused, match="log_altered"):
        told.audit.rebuild(by=ADMIN, now=START)
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
        ("Profile", "Configured"),
        ("Token", "Created"),
        *[("SmtpGroup", "ProfileLinked")] * 3,
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
        ("Profile", "Configured"),
        ("Token", "Created"),
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
