"""What the PostgreSQL engine promises besides the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from eventsourcing.persistence import OperationalError, PersistenceError
from fakes import FakeProvider, Services
from lost_reply_server import LostReplyLine
from postgres import PostgresServer
from psycopg.conninfo import make_conninfo
from store_examples import a_credential, a_profile, a_token, change, everything, receive, some_claim_key

from domain.errors import Conflict, StoreRefused
from infrastructure.encryption.envelope import Sealer
from infrastructure.store import postgres as engine_module
from infrastructure.store.event_log import EventLog
from infrastructure.store.open import open_store
from infrastructure.store.postgres import PostgresStore
from infrastructure.store.store import Store, UnitOfWork
from infrastructure.store.vault import Vault


@pytest.fixture
def engine() -> str:
    return "postgresql"


@pytest.fixture
def broken_vault(store: Store) -> None:
    """The vault's table fails as a server that goes away does, and counts how often it was tried."""
    change(store, "CREATE SEQUENCE tried")
    change(
        store,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('tried'); "
        "RAISE EXCEPTION 'going away' USING ERRCODE = 'admin_shutdown'; END $$",
    )
    change(store, "CREATE TRIGGER fail BEFORE INSERT ON vault EXECUTE FUNCTION fail()")


@pytest.mark.usefixtures("broken_vault")
def test_a_save_that_fails_is_not_repeated_and_leaves_nothing(
    store: Store, event_log: EventLog, sealer: Sealer, store_id: str
) -> None:
    token = a_token()
    receive(token)
    sealed = Vault(sealer, store_id).seal_credential(token.id, 1, a_credential())
    before = everything(store)
    with pytest.raises(OperationalError, match="going away"):
        event_log.save(token, a_profile(token), unit_of_work=UnitOfWork(put=[sealed]))
    assert everything(store) == before
    with store.reading() as query:
        assert query.rows("SELECT last_value, is_called FROM tried") == [{"last_value": 1, "is_called": True}]


def test_a_failure_of_this_program_in_the_middle_of_a_save_leaves_nothing(store: Store, event_log: EventLog) -> None:
    token = a_token()
    before = everything(store)
    unreadable = UnitOfWork(expects={"not an id": 1})  # type: ignore[dict-item]
    with pytest.raises(PersistenceError):
        event_log.save(token, a_profile(token), unit_of_work=unreadable)
    assert everything(store) == before


def test_a_writer_that_must_be_alone_keeps_others_from_writing_events(
    store: Store, open_again: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_LOCK_TIMEOUT_SECONDS", 1)
    other = EventLog(open_again())
    with store.writing(alone=True), pytest.raises(PersistenceError, match="lock"):
        other.save(a_token())
    other.save(a_token())


@pytest.fixture
def line(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[LostReplyLine]:
    line = LostReplyLine(tmp_path_factory.mktemp("pg"), Path(postgres.directory))
    yield line
    line.close()


@pytest.fixture
def store_over_the_line(line: LostReplyLine, store_address: str, store_id: str, sealer: Sealer) -> Iterator[Store]:
    over_the_line = PostgresStore(make_conninfo(store_address, host=str(line.folder)))
    assert open_store(over_the_line, sealer) == store_id
    yield over_the_line
    over_the_line.close()


def test_a_grant_whose_commit_was_not_heard_of_is_stored_once(
    service: Services, line: LostReplyLine, store_over_the_line: Store
) -> None:
    scanner, *_ = service.add_machine()
    service.store = store_over_the_line
    troubled = service.restart()
    line.lose_commit_after = b"INSERT INTO vault"
    # That of the sealed device code.
    with pytest.raises(PersistenceError):
        troubled.tokens.request(scanner, None, "administrator")
    assert troubled.label(scanner) == "Waiting for authorisation"
    provider = service.providers["contoso"]
    assert isinstance(provider, FakeProvider)
    provider.approve()
    line.lose_commit_after = b"INSERT INTO vault"
    token_id = troubled.tokens.status(scanner).profile.token_id
    with pytest.raises(PersistenceError):
        troubled.tokens.poll(token_id)
    assert line.commits_lost == 2
    assert [entry.reply is not None for entry in service.restart().escrow.left_over()] == [True]
    assert troubled.tokens.recover() == 1
    assert [record.name for record in troubled.history.records() if record.aggregate == "Token"].count("Retrieved") == 1
    assert troubled.audit.verify().findings == ()
    assert list(service.restart().escrow.left_over()) == []
    assert troubled.access_token(scanner).account == "scan@contoso.com"


@pytest.mark.parametrize("saves", [1, 8], ids=["first", "with prepared statements"])
def test_a_save_takes_two_round_trips_whatever_is_stored_with_it(
    line: LostReplyLine, store_over_the_line: Store, sealer: Sealer, store_id: str, saves: int
) -> None:
    log = EventLog(store_over_the_line)
    for number in range(saves):
        token = a_token()
        log.save(token)
        profiles = [a_profile(token, f"office-{number}/smtp-{one}") for one in range(3)]
        receive(token)
        sealed = Vault(sealer, store_id).seal_credential(token.id, 1, a_credential())
        before = line.round_trips
        log.save(
            token,
            *profiles,
            unit_of_work=UnitOfWork(put=[sealed], release=[some_claim_key(token.id)], expects={token.id: 1}),
        )
        assert line.round_trips - before == 2


def test_a_save_that_finds_its_decision_out_of_date_writes_nothing(store: Store, event_log: EventLog) -> None:
    token = a_token()
    event_log.save(token)
    before = everything(store)
    with pytest.raises(Conflict):
        event_log.save(a_profile(token), unit_of_work=UnitOfWork(expects={token.id: 2}))
    with pytest.raises(Conflict):
        event_log.save(a_profile(token), unit_of_work=UnitOfWork(expects={uuid4(): 1}))
    assert everything(store) == before


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(StoreRefused, match="store_url_malformed"):
        PostgresStore("postgresql://[nowhere")
