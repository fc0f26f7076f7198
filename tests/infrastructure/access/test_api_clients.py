"""Clients and their keys, and the record of what each of them was handed."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from fakes import START, FakeClock, FakeProvider, Services
from store_examples import ADMIN, change, everything, files_with

from domain.api_client import ApiClient
from domain.errors import InvalidValue, NotFound, NotPermitted, Refused
from domain.secret import Secret
from infrastructure.access.api_clients import ApiClients, ListedClient
from infrastructure.store.event_log import EventLog
from infrastructure.store.store import Store
from infrastructure.tokens.access_token_cache import AccessTokenCache

SMTP, POP = "press/smtp", "press/pop"
BACKUP = "client:backup"


@pytest.fixture
def press(service: Services) -> Services:
    """A machine whose SMTP and POP tokens are Retrieved."""
    service.add_machine("press", "generic")
    service.get_token(SMTP)
    service.get_token(POP)
    return service


def read(service: Services, name: str = SMTP, client: str = BACKUP, id: str | None = None) -> str:
    """What the warm path or the other one hands out."""
    handed = service.access_token_cache.cached(name, None, client, id) or service.access_token_cache.fetch(
        name, None, client, id
    )
    return handed.credential.access_token.reveal()


def recorded(service: Services) -> list[tuple[str, str, int]]:
    """Who was handed which generation of what, in the record."""
    return [
        (record.by, record.facts["profile"], record.facts["generation"])
        for record in service.history.records()
        if record.aggregate == "Reader"
    ]


def number_of_events(service: Services) -> int:
    return len(service.history.records())


# Clients


def test_clients_are_listed_with_what_they_may_read(press: Services) -> None:
    key = press.clients.add("backup", [SMTP, POP], START + timedelta(days=1), ADMIN)
    press.clients.add("Archive", [], None, ADMIN)
    archive, backup = press.clients.clients()
    assert backup == ListedClient(
        "backup", key.reveal().partition(".")[0], (POP, SMTP), START + timedelta(days=1), None
    )
    assert (archive.name, archive.profiles, archive.expires_at) == ("Archive", (), None)


def test_a_key_says_whose_it_is_and_what_it_may_read(press: Services) -> None:
    press.clients.add("archive", [POP], None, ADMIN)
    owner = press.clients.owner_of(press.clients.add("backup", [SMTP], None, ADMIN))
    assert owner
    assert (owner.name, owner.profiles) == ("backup", frozenset({SMTP}))


def test_a_client_that_cant_be_added_leaves_nothing_behind(press: Services) -> None:
    press.clients.add("backup", [], None, ADMIN)
    before = everything(press.store)
    for name, profiles, expires_at, error in (
        ("backup", [SMTP], None, Refused),
        ("other", ["press/fax"], None, NotFound),
        ("two words", [], None, InvalidValue),
        ("other", [], START, InvalidValue),
    ):
        with pytest.raises(error):
            press.clients.add(name, profiles, expires_at, ADMIN)
    for act in (
        lambda: press.clients.grant("ghost", [SMTP], ADMIN),
        lambda: press.clients.revoke("ghost", [SMTP], ADMIN),
        lambda: press.clients.new_key("ghost", None, ADMIN),
        lambda: press.clients.remove("ghost", ADMIN),
    ):
        with pytest.raises(NotFound, match="client_not_found name='ghost'"):
            act()
    assert everything(press.store) == before


def test_what_is_granted_and_revoked_counts_at_once(press: Services) -> None:
    key = press.clients.add("backup", [], None, ADMIN)

    def may_read() -> frozenset[str]:
        owner = press.clients.owner_of(key)
        assert owner
        return owner.profiles

    assert may_read() == frozenset()
    press.clients.grant("backup", [SMTP, POP], ADMIN)
    assert may_read() == {SMTP, POP}
    press.clients.revoke("backup", [POP], ADMIN)
    assert may_read() == {SMTP}


def test_a_grant_is_for_the_setting_and_not_for_the_next_of_its_name(press: Services) -> None:
    key = press.clients.add("backup", [POP], None, ADMIN)
    press.tokens.delete(POP, ADMIN)
    press.settings.remove_profile(POP, ADMIN)
    owner = press.clients.owner_of(key)
    assert owner
    assert owner.profiles == frozenset()
    assert press.clients.clients()[0].profiles == ()


def test_keys_that_are_over_are_nobodys(press: Services, clock: FakeClock) -> None:
    old = press.clients.add("backup", [SMTP], None, ADMIN)
    new = press.clients.new_key("backup", START + timedelta(hours=1), ADMIN)
    assert press.clients.owner_of(old) is None
    assert press.clients.owner_of(new)
    clock.step(hours=1)
    assert press.clients.owner_of(new) is None
    newest = press.clients.new_key("backup", None, ADMIN)
    press.clients.remove("backup", ADMIN)
    assert press.clients.owner_of(newest) is None
    assert everything(press.store)["client_use"] == []
    assert press.audit.verify().findings == ()


def test_a_key_is_looked_up_with_the_same_steps_whatever_is_wrong_with_it(
    press: Services, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = press.clients.add("backup", [SMTP], None, ADMIN).reveal()
    gone = press.clients.add("gone", [SMTP], None, ADMIN).reveal()
    expired = press.clients.add("expired", [SMTP], START + timedelta(minutes=1), ADMIN).reveal()
    press.clients.remove("gone", ADMIN)
    press.events.save(ApiClient.add(uuid4(), "keyless", by=ADMIN, now=START))
    clock.step(minutes=2)
    press.clients.owner_of(Secret(key))
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def count(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr("infrastructure.access.api_clients.hmac.compare_digest", count)
    monkeypatch.setattr(press.store, "reading", None)
    monkeypatch.setattr(press.store, "writing", None)
    id, _, secret = key.partition(".")
    wrong = [f"{id}.{secret[:-1]}", f"{id}.", f"ghost.{secret}", ".", "", "\udcff.\udcff", gone, expired, "x" * 9999]
    wrong += [f"None.{secret}", "None."]
    assert [press.clients.owner_of(Secret(one)) for one in wrong] == [None] * len(wrong)
    assert compared == [(32, 32)] * len(wrong)


def test_a_key_whose_sealed_half_was_changed_is_nobodys(press: Services) -> None:
    mine = press.clients.add("backup", [SMTP], None, ADMIN)
    theirs = press.clients.add("archive", [POP], None, ADMIN)
    with press.store.reading() as query:
        rows = query.rows("SELECT subject_id, body, wrapped FROM vault WHERE kind = 'client_key'")
    for one, other in (rows, reversed(rows)):
        change(
            press.store,
            "UPDATE vault SET body = ?, wrapped = ? WHERE subject_id = ? AND kind = 'client_key'",
            other["body"],
            other["wrapped"],
            one["subject_id"],
        )
    restarted = press.restart()
    assert restarted.clients.owner_of(mine) is None
    assert restarted.clients.owner_of(theirs) is None


@pytest.mark.parametrize("engine", ["sqlite"])
def test_no_key_is_in_any_file_or_event(press: Services) -> None:
    key = press.clients.add("backup", [SMTP], None, ADMIN)
    press.clients.owner_of(key)
    secret = key.reveal().partition(".")[2]
    assert files_with(press.directory, secret) == []
    assert secret not in repr(press.history.records())


def test_the_last_use_is_stored_once_a_minute(press: Services, clock: FakeClock) -> None:
    owner = press.clients.owner_of(press.clients.add("backup", [SMTP], None, ADMIN))
    assert owner
    assert not press.clients.is_noted(owner)
    press.clients.note_use(owner)
    assert press.clients.is_noted(owner)
    clock.step(seconds=59)
    assert press.clients.is_noted(owner)
    clock.step(seconds=1)
    assert not press.clients.is_noted(owner)
    press.clients.note_use(owner)
    assert press.clients.clients()[0].used_at == START + timedelta(minutes=1)


@pytest.mark.parametrize("engine", ["postgresql"])
def test_what_another_node_revokes_is_revoked_here_after_a_second(
    press: Services, open_again: Callable[[], Store], clock: FakeClock
) -> None:
    key = press.clients.add("backup", [SMTP], None, ADMIN)
    assert press.clients.owner_of(key)
    ApiClients(EventLog(open_again()), press.vault, clock).remove("backup", ADMIN)
    clock.step(seconds=1)
    assert press.clients.owner_of(key) is None


# Hand-outs


def test_the_first_hand_out_of_each_generation_to_each_client_is_recorded_once(
    press: Services, clock: FakeClock
) -> None:
    first = read(press)
    read(press, client="client:archive")
    read(press, POP)
    assert [read(press) for _ in range(5)] == [first] * 5
    clock.step(minutes=55)
    renewed = read(press)
    assert renewed != first
    assert read(press) == renewed
    assert recorded(press) == [(BACKUP, SMTP, 1), ("client:archive", SMTP, 1), (BACKUP, POP, 1), (BACKUP, SMTP, 2)]


def test_a_restart_records_nothing_again(press: Services) -> None:
    read(press)
    before = number_of_events(press)
    restarted = press.restart()
    read(restarted)
    read(restarted)
    assert number_of_events(press) == before


def test_later_hand_outs_neither_read_nor_write(press: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    if press.store.shared_by_nodes:
        # There each one reads, for a deletion on another node counts here at once.
        read(press)
        assert press.access_token_cache.cached(SMTP, None, BACKUP) is None
        return
    first = read(press)
    monkeypatch.setattr(press.store, "reading", None)
    monkeypatch.setattr(press.store, "writing", None)
    monkeypatch.setattr(press.events, "save", None)
    assert [read(press) for _ in range(3)] == [first] * 3


def test_a_client_of_the_same_name_is_another_client(press: Services) -> None:
    read(press, id="one")
    read(press, id="two")
    read(press, id="one")
    assert recorded(press) == [(BACKUP, SMTP, 1)] * 2


def test_many_first_hand_outs_at_once_are_recorded_once(press: Services) -> None:
    with ThreadPoolExecutor(8) as threads:
        tokens = set(threads.map(lambda _: read(press), range(24)))
    assert len(tokens) == 1
    assert recorded(press) == [(BACKUP, SMTP, 1)]


def test_two_nodes_record_a_hand_out_once(press: Services, clock: FakeClock) -> None:
    other = AccessTokenCache(EventLog(press.store), press.restart().tokens, clock)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda one: one.fetch(SMTP, None, BACKUP), [press.access_token_cache, other] * 8))
    assert recorded(press) == [(BACKUP, SMTP, 1)]


def test_what_was_deleted_is_handed_out_no_more(press: Services) -> None:
    read(press)
    press.tokens.delete(SMTP, ADMIN)
    with pytest.raises(Refused, match="token_not_retrieved"):
        read(press)


def test_a_new_sign_in_and_a_new_mailbox_count_at_once(press: Services) -> None:
    first = read(press, POP)
    press.settings.set_profile(POP, {"mailbox": "shared@contoso.com"}, ADMIN)
    assert press.access_token_cache.cached(POP, None, BACKUP) is None
    assert press.access_token_cache.fetch(POP, None, BACKUP).mailbox == "shared@contoso.com"
    press.get_token(POP)
    assert read(press, POP) != first


def test_an_access_token_whose_setting_changes_while_it_is_served_is_not_kept(
    press: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = press.tokens.status

    def status_before_a_change(name: str) -> object:
        found = status(name)
        press.settings.set_profile(POP, {"mailbox": "shared@contoso.com"}, ADMIN)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(press.tokens, "status", status_before_a_change)
        press.access_token_cache.fetch(POP, None, BACKUP)
    assert press.access_token_cache.cached(POP, None, BACKUP) is None
    assert press.access_token_cache.fetch(POP, None, BACKUP).mailbox == "shared@contoso.com"


def test_who_asks_for_more_life_than_is_left_gets_a_renewed_token(press: Services, clock: FakeClock) -> None:
    first = read(press)
    clock.step(minutes=30)
    assert read(press) == first
    handed = press.access_token_cache.cached(SMTP, 3000, BACKUP)
    assert handed is None
    assert press.access_token_cache.fetch(SMTP, 3000, BACKUP).credential.access_token.reveal() != first


def test_a_hand_out_from_memory_keeps_the_token_warm(press: Services, clock: FakeClock) -> None:
    read(press)
    clock.step(minutes=5)
    read(press)
    token_id = press.tokens.status(SMTP).profile.token_id
    assert press.tokens.served_at[token_id] == clock.now()


def test_a_token_that_cant_be_recorded_is_not_handed_out(press: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotPermitted("the store is read-only")

    monkeypatch.setattr(press.events, "save", fail)
    with pytest.raises(NotPermitted):
        press.access_token_cache.fetch(SMTP, None, BACKUP)


def test_the_history_of_a_setting_tells_who_may_read_it_and_who_did(press: Services) -> None:
    press.clients.add("backup", [SMTP], None, ADMIN)
    press.clients.add("archive", [POP], None, ADMIN)
    read(press)
    told = [(record.aggregate, record.name) for record in press.history.records(SMTP)][-2:]
    assert told == [("Client", "Granted"), ("Reader", "Created")]


def test_a_renewal_is_never_in_the_way_of_a_hand_out(press: Services, provider: FakeProvider) -> None:
    provider.meanwhile(lambda: read(press, client="client:archive"))
    press.tokens.renew(SMTP, ADMIN)
    read(press)
    assert [(by, generation) for by, _, generation in recorded(press)] == [("client:archive", 1), (BACKUP, 2)]
