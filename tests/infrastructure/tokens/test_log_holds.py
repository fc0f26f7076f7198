"""An older copy of the store that is put back is found before a provider is asked, and put on hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from fakes import FakeClock, FakeProvider, Services
from store_examples import OlderCopy
from structlog.testing import capture_logs

from domain.catalogue import Protocol
from domain.errors import InvalidValue, Refused
from domain.log_hold import LogHead, LogHold
from domain.secret import Secret
from infrastructure.queries.store_state import read_hold
from infrastructure.store.log_head import read_log_head
from infrastructure.tokens.escrow import EscrowEntry

ADMIN = "administrator:root"
SMTP, POP = "office-mfp/smtp-service", "office-mfp/pop-internet-fax"


@pytest.fixture
def installation(service: Services) -> Services:
    service.add_machine()
    return service


def head_of(service: Services) -> LogHead:
    with service.store.reading() as query:
        return read_log_head(query)


def memory_file(service: Services) -> Path:
    return service.directory / "escrow.log-head"


def noted(service: Services) -> LogHead:
    value = json.loads(memory_file(service).read_text())
    return LogHead(value["number"], value["link"])


def other_node(service: Services, name: str) -> Services:
    """Another node with a memory of its own, on the same store."""
    return Services(
        service.store, service.sealer, service.store_id, service.directory / name, service.clock, service.providers
    )


def holds_of(service: Services) -> list[str]:
    return [record.name for record in service.history.records() if record.aggregate == "Log"]


def test_a_node_notes_the_end_of_the_log_after_each_exchange_and_deletion_and_after_nothing_else(
    installation: Services, clock: FakeClock
) -> None:
    assert not memory_file(installation).exists()
    installation.get_token(SMTP)
    assert noted(installation) == head_of(installation)
    assert memory_file(installation).stat().st_mode & 0o777 == 0o600
    before = noted(installation)
    installation.add_machine("second-mfp")
    installation.access_token(SMTP)
    assert noted(installation) == before
    clock.step(minutes=55)
    installation.tokens.renew(SMTP, ADMIN)
    assert noted(installation) == head_of(installation) != before
    before = noted(installation)
    installation.tokens.delete(SMTP, ADMIN)
    assert noted(installation) == head_of(installation) != before


def test_the_end_of_the_log_is_noted_before_the_escrow_is_cleared(
    installation: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[tuple[LogHead, LogHead]]()
    clear = installation.escrow.clear

    def noting(entry: EscrowEntry) -> None:
        seen.append((noted(installation), head_of(installation)))
        clear(entry)

    monkeypatch.setattr(installation.escrow, "clear", noting)
    installation.get_token(SMTP)
    assert seen
    assert all(one == other for one, other in seen)


def test_a_node_without_memory_has_nothing_to_compare_with_and_says_so(installation: Services) -> None:
    with capture_logs() as logs:
        installation.tokens.holds.look()
        installation.get_token(SMTP)
        installation.restart().tokens.holds.look()
    assert [one["why"] for one in logs if one["event"] == "log_not_compared"] == [
        "this node has not seen this log before: nothing to compare with"
    ]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"store": "another", "number": 9, "link": "00", "at": "2026-03-02T08:00:00+00:00"}']
)
def test_a_memory_that_is_of_another_store_or_damaged_is_nothing_to_compare_with(
    installation: Services, content: str
) -> None:
    memory_file(installation).write_text(content)
    again = installation.restart()
    assert not again.tokens.holds.is_on()
    again.get_token(SMTP)
    assert noted(again) == head_of(again)


def test_an_older_copy_is_put_on_hold_before_any_provider_is_asked_and_goes_on_after_resume(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.get_token(SMTP)
    older = OlderCopy(installation.store)
    installation.get_token(POP)
    known = head_of(installation)
    older.put_back(installation.store)

    again, asked = installation.restart(), list(provider.requests)
    assert again.tokens.recover() == 0
    asks: list[Callable[[], object]] = [
        lambda: again.tokens.request(POP, None, ADMIN),
        lambda: again.tokens.renew(SMTP, ADMIN),
        lambda: again.tokens.delete(SMTP, ADMIN),
        lambda: again.access_token(SMTP, 3590),
    ]
    clock.step(minutes=55)
    for ask in asks:
        with pytest.raises(Refused, match=r"^log_behind"):
            ask()
    assert again.access_token(SMTP).generation == 1
    assert provider.requests == asked
    assert holds_of(again) == ["FoundOther"]

    again.tokens.holds.resume(None, ADMIN)
    assert again.access_token(SMTP).generation == 2
    assert not again.restart().tokens.holds.is_on()
    lifted = [record for record in again.history.records() if record.name == "Resumed"]
    assert [one.facts for one in lifted] == [
        {"because": None, "given_up_number": known.number, "given_up_link": known.link}
    ]
    assert again.audit.verify().findings == ()


def test_a_copy_that_went_on_elsewhere_differs_and_is_used_only_for_a_reason(installation: Services) -> None:
    installation.get_token(SMTP)
    older = OlderCopy(installation.store)
    installation.get_token(POP)
    older.put_back(installation.store)
    other_node(installation, "elsewhere").add_machine("third-mfp")
    assert head_of(installation).number > noted(installation).number

    again = installation.restart()
    with pytest.raises(Refused, match=r"^log_differs"):
        again.tokens.renew(SMTP, ADMIN)
    with pytest.raises(InvalidValue, match="reason_wanted"):
        again.tokens.holds.resume(None, ADMIN)
    assert again.tokens.holds.is_on()
    again.tokens.holds.resume("the third printer is real", ADMIN)
    again.tokens.renew(SMTP, ADMIN)


def test_what_one_node_finds_every_node_heeds_and_what_one_gives_up_all_give_up(
    installation: Services, clock: FakeClock
) -> None:
    one, two = installation, other_node(installation, "two")
    one.get_token(SMTP)
    older = OlderCopy(one.store)
    two.get_token(POP)
    older.put_back(one.store)
    assert not one.tokens.holds.is_on()  # it has seen no more than there is
    two = two.restart()
    assert two.tokens.holds.is_on()
    with pytest.raises(Refused, match=r"^log_behind"):
        one.tokens.renew(SMTP, ADMIN)
    clock.step(minutes=1)
    one.tokens.holds.resume(None, ADMIN)
    again = two.restart()
    again.tokens.renew(SMTP, ADMIN)
    assert noted(again) == head_of(again)
    assert holds_of(one) == ["FoundOther", "Resumed"]


def test_a_hold_that_was_lifted_before_is_no_reason_to_believe_an_older_copy(
    installation: Services, clock: FakeClock
) -> None:
    now = clock.now()
    hold = LogHold.after_restore(uuid4(), backup_made_at=now, events=1, by=ADMIN, now=now)
    installation.events.save(hold)
    installation.tokens.holds.resume(None, ADMIN)
    clock.step(minutes=1)
    installation.get_token(SMTP)
    older = OlderCopy(installation.store)
    installation.get_token(POP)
    older.put_back(installation.store)
    assert installation.restart().tokens.holds.is_on()


def test_an_older_copy_that_is_put_back_during_an_exchange_is_found_at_the_next_look(installation: Services) -> None:
    installation.get_token(SMTP)
    older = OlderCopy(installation.store)
    installation.get_token(POP)
    known = noted(installation)
    older.put_back(installation.store)
    for name in ("third-mfp", "fourth-mfp"):
        installation.add_machine(name)
    assert head_of(installation).number > known.number
    installation.tokens.holds.remember()
    assert noted(installation) == known
    assert installation.tokens.holds.code() == "log_differs"


def test_threads_that_find_it_at_once_begin_one_hold(installation: Services) -> None:
    installation.get_token(SMTP)
    older = OlderCopy(installation.store)
    installation.get_token(POP)
    older.put_back(installation.store)
    again = installation.restart()
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: again.tokens.holds.is_on(), range(32)))
    assert holds_of(again) == ["FoundOther"]


def test_a_memory_that_cant_be_written_costs_no_token(installation: Services) -> None:
    memory_file(installation).mkdir()
    with capture_logs() as logs:
        assert installation.get_token(SMTP).token.credential
    assert {one["event"] for one in logs if one["log_level"] == "error"} == {"log_head_not_noted"}
    assert list((installation.directory / "escrow").iterdir()) == []


def test_a_restored_store_is_on_hold_for_that_and_what_the_node_knew_is_given_up_with_it(
    installation: Services, clock: FakeClock
) -> None:
    installation.get_token(SMTP)
    older = OlderCopy(installation.store)
    installation.get_token(POP)
    known = noted(installation)
    older.put_back(installation.store)
    now = clock.now()
    hold = LogHold.after_restore(uuid4(), backup_made_at=now, events=1, by=ADMIN, now=now)
    installation.events.save(hold)
    again = installation.restart()
    assert again.tokens.holds.code() == "on_hold"
    again.tokens.holds.resume(None, ADMIN)
    assert not again.tokens.holds.is_on()
    resumed = again.history.records()[-1]
    assert resumed.facts["given_up_number"] == known.number
    with again.store.reading() as query:
        assert read_hold(query) is None


def put_back_after(installation: Services, end_a_right: Callable[[], object]) -> Services:
    """A copy is made, a right ends, and the copy is put back; the service that starts on it."""
    older = OlderCopy(installation.store)
    end_a_right()
    older.put_back(installation.store)
    again = installation.restart()
    again.tokens.holds.look()
    return again


def add_a_printer_and_a_client(service: Services) -> None:
    """A relay user and a client for the SMTP setting, whose token is Retrieved."""
    service.get_token(SMTP)
    service.settings.set_profile(SMTP, {"server": "smtp.contoso.com"}, ADMIN)
    service.clients.add("backup", [SMTP], None, ADMIN)
    service.relay_users.add("printer", [SMTP], [], Secret("correct horse battery"), ADMIN)


def refusals_of(service: Services) -> list[str | None]:
    """The code of why a client, a relay user and root get no token; None if they do."""

    def refusal(ask: Callable[[], object]) -> str | None:
        try:
            ask()
        except Refused as refused:
            return refused.code
        return None

    cache, users = service.access_token_cache, service.relay_users
    password = Secret("correct horse battery")
    return [
        refusal(lambda: cache.cached(SMTP, None, "client:backup", "an-id") or cache.fetch(SMTP, None, "c", "an-id")),
        refusal(lambda: users.admit(Protocol.SMTP, "127.0.0.1", "printer", password)),
        refusal(lambda: cache.fetch(SMTP, None, "client:root")),
    ]


def test_a_client_of_an_older_copy_is_served_if_no_right_can_have_ended_since(installation: Services) -> None:
    add_a_printer_and_a_client(installation)
    again = put_back_after(installation, lambda: installation.get_token(POP))
    assert again.tokens.holds.is_on()
    assert refusals_of(again) == [None, None, None]


@pytest.mark.parametrize("ended", ["client", "key", "grant", "user", "password", "networks"])
def test_no_client_of_an_older_copy_is_served_if_a_right_ended_since(installation: Services, ended: str) -> None:
    add_a_printer_and_a_client(installation)
    clients, users = installation.clients, installation.relay_users
    ends: dict[str, Callable[[], object]] = {
        "client": lambda: clients.remove("backup", ADMIN),
        "key": lambda: clients.new_key("backup", None, ADMIN),
        "grant": lambda: clients.revoke("backup", [SMTP], ADMIN),
        "user": lambda: users.remove("printer", ADMIN),
        "password": lambda: users.set_password("printer", Secret("another good password"), ADMIN),
        "networks": lambda: users.set_networks("printer", ["192.0.2.0/24"], ADMIN),
    }
    again = put_back_after(installation, ends[ended])
    assert refusals_of(again) == ["clients_not_proven", "clients_not_proven", None]
    again.tokens.holds.resume(None, ADMIN)
    assert refusals_of(again) == [None, None, None]


def test_a_right_that_another_node_ended_counts_once_this_one_has_seen_the_log_after_it(installation: Services) -> None:
    one, two = installation, other_node(installation, "two")
    add_a_printer_and_a_client(one)
    older = OlderCopy(one.store)
    one.clients.remove("backup", ADMIN)
    two.get_token(POP)
    two.tokens.renew(POP, ADMIN)
    older.put_back(one.store)
    two = two.restart()
    two.tokens.holds.look()
    assert refusals_of(two) == ["clients_not_proven", "clients_not_proven", None]


def test_a_memory_without_the_last_right_is_of_an_older_program_and_is_completed(installation: Services) -> None:
    add_a_printer_and_a_client(installation)
    value = json.loads(memory_file(installation).read_text())
    right = value.pop("last_right")
    memory_file(installation).write_text(json.dumps(value))
    again = installation.restart()
    again.tokens.holds.look()
    assert not again.tokens.holds.is_on()
    again.get_token(POP)
    assert json.loads(memory_file(again).read_text())["last_right"] == right
