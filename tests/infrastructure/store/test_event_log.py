"""Events in, aggregates out: what goes in beside them, what it puts an end to, and how the log is read."""

from __future__ import annotations

from uuid import UUID

import pytest
from fakes import START, FakeClock, Services
from store_examples import ADMIN, a_credential, a_pending, a_profile, a_token, ask, everything, history, receive

from domain.outcomes import Reason
from domain.profile import Profile
from domain.token import Token
from domain.token_state import TokenState
from infrastructure.encryption.envelope import Sealer
from infrastructure.store.event_log import EventLog
from infrastructure.store.fold import Fold
from infrastructure.store.store import Store, UnitOfWork
from infrastructure.store.vault import Vault, VaultRow


@pytest.fixture
def vault(sealer: Sealer, store_id: str) -> Vault:
    return Vault(sealer, store_id)


def kept(store: Store) -> list[tuple[str, int]]:
    return sorted((row["kind"], row["generation"]) for row in everything(store)["vault"])


def test_each_event_puts_an_end_to_the_sealed_rows_it_is_the_end_of(
    store: Store, event_log: EventLog, vault: Vault
) -> None:
    token = a_token()

    def save(*put: VaultRow) -> list[tuple[str, int]]:
        event_log.save(token, unit_of_work=UnitOfWork(put=put))
        return kept(store)

    ask(token)
    assert save(vault.seal_device_code(token.id, 1, a_pending())) == [("device_code", 1)]
    token.end_attempt("attempt-1", Reason.CANCELLED, by=ADMIN, now=START)
    assert save() == []
    receive(token, "attempt-2")
    assert save(vault.seal_credential(token.id, 1, a_credential())) == [("credential", 1)]
    ask(token, "attempt-3")
    assert save(vault.seal_device_code(token.id, 3, a_pending())) == [("credential", 1), ("device_code", 3)]
    token.discard("late", by=ADMIN, now=START)
    assert save() == [("credential", 1), ("device_code", 3)]
    token.delete(by=ADMIN, now=START)
    assert save() == []


def test_the_rows_of_another_token_are_not_touched(store: Store, event_log: EventLog, vault: Vault) -> None:
    token, other = a_token(), a_token()
    for one in (token, other):
        receive(one)
        event_log.save(one, unit_of_work=UnitOfWork(put=[vault.seal_credential(one.id, 1, a_credential())]))
    token.delete(by=ADMIN, now=START)
    event_log.save(token)
    assert [row["subject_id"] for row in everything(store)["vault"]] == [str(other.id)]


def test_a_save_without_events_stores_nothing(store: Store, event_log: EventLog) -> None:
    token = a_token()
    event_log.save(token)
    before = everything(store)
    event_log.save(event_log.token(token.id))
    assert everything(store) == before


def test_a_token_is_loaded_from_its_row_however_long_its_history_is(
    service: Services, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = service.add_machine()[0]
    service.get_token(name)
    for _ in range(100):
        clock.step(minutes=55)
        service.access_token(name)
    token_id = service.tokens.status(name).profile.token_id
    with service.store.reading() as query:
        events = [one.event for one in service.events.read(query) if one.event.originator_id == token_id]
    assert len(events) == 103
    fold = Fold()
    for event in events:
        fold.apply(event)
    monkeypatch.setattr("infrastructure.store.event_log._project", None)
    token = service.events.token(token_id)
    assert (token.state, token.version) == (fold.states[token_id], 103)
    token.delete(by=ADMIN, now=clock.now())
    service.events.save(token)
    assert service.label(name) == "Not Retrieved"


def test_the_settings_of_a_group_are_loaded_from_their_rows_however_many_they_are(
    service: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name for name in service.add_machine() if "/smtp-" in name]
    token_id = service.get_token(names[0]).profile.token_id
    replayed = [service.events.load(Profile, service.tokens.status(name).profile_id) for name in names]
    monkeypatch.setattr("infrastructure.store.event_log._project", None)
    with service.store.reading() as query:
        loaded = service.events.profiles_of(query, token_id)
    assert {(one.id, one.version, one.state) for one in loaded} == {(p.id, p.version, p.state) for p in replayed}
    assert set(service.tokens.delete(names[0], ADMIN).profiles) == set(names)
    monkeypatch.undo()
    assert {service.events.load(Profile, one.id).version for one in loaded} == {loaded[0].version + 1}
    assert service.audit.verify().findings == ()


def test_the_log_is_read_in_order_page_by_page_and_from_anywhere(
    store: Store, event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [a_token() for _ in range(12)]
    event_log.save(*tokens)
    with store.reading() as query:
        whole = list(event_log.read(query))
        for page in (1, 5, 12, 100):
            monkeypatch.setattr("infrastructure.store.event_log._PAGE", page)
            assert list(event_log.read(query)) == whole
            assert list(event_log.read(query, whole[4].position)) == whole[5:]
    assert [logged.event.originator_id for logged in whole] == [token.id for token in tokens]


def test_the_instant_of_an_event_is_known_without_making_it(event_log: EventLog) -> None:
    token = a_token()
    ask(token)
    event_log.save(token, a_profile(token))
    with event_log.store.reading() as query:
        stored = list(event_log.read_stored(query))
    assert stored
    assert [event_log.instant_of(one) for _, one in stored] == [
        event_log.decode(*one).event.timestamp for one in stored
    ]


def test_a_history_is_of_the_aggregates_asked_for_in_the_order_of_the_log(event_log: EventLog) -> None:
    token, other = a_token(), a_token()
    profile = a_profile(token)
    event_log.save(token, other, profile)
    token.discard("late", by=ADMIN, now=START)
    event_log.save(token)
    names = [type(logged.event).__qualname__ for logged in history(event_log, [profile.id, token.id])]
    assert names == ["Token.Created", "Profile.Created", "Token.LateReplyDiscarded"]


def test_folding_the_log_gives_the_states_of_the_aggregates(service: Services, clock: FakeClock) -> None:
    scanner, *_, fax, _, _ = service.add_machine()
    service.get_token(scanner)
    clock.step(minutes=55)
    service.access_token(scanner)
    service.get_token(fax)
    service.tokens.delete(fax, ADMIN)
    fold = Fold()
    with service.store.reading() as query:
        for logged in service.events.read(query):
            fold.apply(logged.event)
        ids = [UUID(row["id"]) for row in query.rows("SELECT id FROM token")]
    assert {id: state.status for id, state in fold.of(TokenState).items()}.keys() == set(ids)
    for id in ids:
        token: Token = service.events.token(id)
        assert (fold.states[id], fold.versions[id]) == (token.state, token.version)
