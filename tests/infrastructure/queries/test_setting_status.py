"""What each setting displays under "Token": one row for each token, judged by the reader's clock."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fakes import FAX, SCANNER, START, FakeClock, FakeProvider, Services, error
from store_examples import ADMIN, PERSON, a_credential, a_token, ask, everything, receive

from domain.errors import NotFound, Refused
from domain.lifecycle import TokenStatus
from domain.outcomes import GrantDead, Granted, Reason
from domain.token import Token
from infrastructure.queries import setting_status
from infrastructure.queries.setting_status import (
    read_status,
    read_status_pages,
    read_statuses,
    read_statuses_called,
    read_statuses_in_need,
)
from infrastructure.store.event_log import EventLog
from infrastructure.store.rows import profile_state, token_state

# The stable contract of `status --json`.
FIELDS = {
    *("profile", "machine", "protocol", "token", "group", "provider", "account", "mailbox"),
    *("since", "expires_at", "reason", "attention"),
}


def test_a_setting_that_was_never_filled_in_is_shown_too(service: Services) -> None:
    service.settings.add_machine("press", "generic", ADMIN)
    imap, pop, smtp = (status.as_json() for status in service.tokens.statuses())
    assert [one["profile"] for one in (imap, pop, smtp)] == ["press/imap", "press/pop", "press/smtp"]
    assert imap.keys() >= FIELDS
    assert {field: imap[field] for field in FIELDS} == {
        "profile": "press/imap",
        "machine": "press",
        "protocol": "imap",
        "token": "Not Retrieved",
        "group": None,
        "provider": None,
        "account": None,
        "mailbox": None,
        "since": "2026-03-02T08:00:00.000000+00:00",
        "expires_at": None,
        "reason": None,
        "attention": None,
    }


def test_linked_settings_show_one_token_and_their_group(service: Services, clock: FakeClock) -> None:
    scanner, *_ = service.add_machine()
    clock.step(minutes=1)
    service.get_token(scanner)
    shown = [status.as_json() for status in service.tokens.statuses() if status.profile.protocol == "smtp"]
    assert [one["profile"] for one in shown] == [
        "office-mfp/smtp-alert",
        "office-mfp/smtp-initial",
        "office-mfp/smtp-quick",
        "office-mfp/smtp-service",
    ]
    for one in shown:
        assert (one["token"], one["group"], one["account"]) == ("Retrieved", "office-mfp", SCANNER)
        assert one["since"] == "2026-03-02T08:01:00.000000+00:00"
        assert one["expires_at"] == "2026-03-02T09:01:00.000000+00:00"


def test_another_mailbox_is_shown_beside_the_account(service: Services) -> None:
    scanner, *_ = service.add_machine()
    service.settings.set_profile(scanner, {"mailbox": "shared@contoso.com"}, ADMIN)
    shown = service.tokens.status(scanner).as_json()
    assert (shown["account"], shown["mailbox"]) == (SCANNER, "shared@contoso.com")


def test_an_attempt_is_over_at_its_deadline_even_if_nobody_has_looked(service: Services, clock: FakeClock) -> None:
    scanner, *_ = service.add_machine()
    service.tokens.request(scanner, None, ADMIN)
    shown = service.tokens.status(scanner).as_json()
    assert (shown["token"], shown["expires_at"]) == ("Waiting for authorisation", "2026-03-02T08:15:00.000000+00:00")
    clock.instant = START + timedelta(minutes=15) - timedelta(microseconds=1)
    assert service.label(scanner) == "Waiting for authorisation"
    clock.step(microseconds=1)
    shown = service.tokens.status(scanner).as_json()
    assert (shown["token"], shown["reason"]) == ("Not Retrieved", "expired_token")
    assert (shown["since"], shown["expires_at"]) == ("2026-03-02T08:15:00.000000+00:00", None)


def test_a_token_that_nothing_can_renew_is_invalid_once_it_has_expired_and_needs_a_person(
    service: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    provider.renewable = False
    fax = service.add_machine()[4]
    service.get_token(fax)
    clock.step(hours=1)
    shown = service.tokens.status(fax).as_json()
    assert (shown["token"], shown["reason"], shown["attention"]) == ("Invalid", "expired", "expired")
    assert shown["since"] == "2026-03-02T09:00:00.000000+00:00"


def test_an_expired_token_that_can_be_renewed_is_not_invalid(service: Services, clock: FakeClock) -> None:
    scanner, *_ = service.add_machine()
    service.get_token(scanner)
    clock.step(days=3)
    shown = service.tokens.status(scanner).as_json()
    assert (shown["token"], shown["attention"]) == ("Retrieved", None)


def test_why_the_last_attempt_ended_stays_until_the_next_success(service: Services, provider: FakeProvider) -> None:
    scanner, *_ = service.add_machine()
    service.tokens.request(scanner, None, ADMIN)
    provider.answers(error("access_denied"))
    service.tokens.poll(service.tokens.status(scanner).profile.token_id)
    assert service.tokens.status(scanner).as_json()["reason"] == "access_denied"
    service.tokens.request(scanner, None, ADMIN)
    assert service.tokens.status(scanner).as_json()["reason"] == "access_denied"
    service.tokens.cancel(scanner, ADMIN)
    assert service.tokens.status(scanner).as_json()["reason"] == "cancelled"
    service.get_token(scanner)
    assert service.tokens.status(scanner).as_json()["reason"] is None


def test_the_wrong_person_is_named(service: Services) -> None:
    scanner, *_ = service.add_machine()
    shown = service.get_token(scanner, FAX).as_json()
    assert (shown["token"], shown["reason"]) == ("Not Retrieved", "wrong_account")
    assert (shown["account"], shown["signed_in_as"]) == (SCANNER, FAX)


def test_what_is_not_there_is_not_found(service: Services) -> None:
    with pytest.raises(NotFound) as missing:
        service.tokens.status("office-mfp/smtp-servce")
    assert str(missing.value) == "profile_not_found profile='office-mfp/smtp-servce'"


def test_no_reader_ever_sees_linked_settings_disagree(service: Services) -> None:
    scanner, *_ = service.add_machine()
    over = threading.Event()
    seen: set[str] = set()
    disagreeing: list[Any] = []

    def look() -> None:
        while not over.is_set():
            shown = [status.as_json() for status in service.tokens.statuses()]
            linked = {
                json.dumps({k: v for k, v in s.items() if k not in ("profile", "setting")}) for s in shown if s["group"]
            }
            seen.update(s["token"] for s in shown if s["group"])
            if len(linked) != 1:
                disagreeing.append(linked)

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(10):
            service.get_token(scanner)
            service.tokens.delete(scanner, ADMIN)
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert disagreeing == []
    assert seen


def _tokens() -> dict[str, Token]:
    """A token in each of its states."""
    tokens = {
        name: a_token() for name in ("new", "waiting", "ended", "retrieved", "again", "renewed", "dead", "deleted")
    }
    tokens["unrenewable"] = a_token()
    ask(tokens["waiting"])
    ask(tokens["ended"])
    tokens["ended"].end_attempt("attempt-1", Reason.WRONG_ACCOUNT, "code", FAX, by="worker", now=START)
    for name in ("retrieved", "again", "renewed", "dead", "deleted"):
        receive(tokens[name])
    ask(tokens["unrenewable"])
    short = Granted(replace(a_credential(), refresh_token=None), PERSON)
    tokens["unrenewable"].retrieve("attempt-1", short, PERSON, by="worker", now=START)
    ask(tokens["again"], "attempt-2")
    tokens["renewed"].renew("renewal-1", 1, Granted(a_credential(2), None), by="worker", now=START)
    tokens["dead"].find_dead(1, GrantDead(Reason.INVALID_GRANT, "AADSTS70000"), by="worker", now=START)
    tokens["deleted"].delete(by=ADMIN, now=START)
    return tokens


def test_a_row_reads_back_as_the_state_it_was_made_of(event_log: EventLog) -> None:
    tokens = _tokens()
    event_log.save(*tokens.values())
    with event_log.store.reading() as query:
        rows = {row["id"]: token_state(row) for row in query.rows("SELECT * FROM token")}
    for name, token in tokens.items():
        assert rows[str(token.id)] == token.state, name
    assert {state.status for state in rows.values()} == set(TokenStatus)


def test_a_setting_reads_back_as_it_was_filled_in(service: Services) -> None:
    service.settings.add_machine("press", "generic", ADMIN)
    texts = {"server": "smtp.contoso.com", "port": "587", "sender_name": "Größe, 'quoted' \u2603", "timeout": "30"}
    state = service.settings.set_profile("press/smtp", texts, ADMIN)
    with service.store.reading() as query:
        (row,) = query.rows("SELECT * FROM profile WHERE name = 'press/smtp'")
        assert profile_state(row) == state
        assert read_status(query, "press/smtp", START).profile == state
        assert len(read_statuses(query, START)) == 3


def test_names_are_in_one_order_on_every_engine(service: Services) -> None:
    for name in ("b", "B", "a-1", "a.1", "A"):
        service.settings.add_machine(name, "generic", ADMIN)
    names = [status.profile.name for status in service.tokens.statuses()]
    assert names == sorted(names)
    assert [machine["name"] for machine in service.settings.machines()] == ["A", "B", "a-1", "a.1", "b"]
    assert [state.name for state in service.settings.profiles()] == names


def test_settings_are_found_by_more_names_than_an_engine_takes_at_once(service: Services) -> None:
    names = service.settings.add_machine("press", "generic", ADMIN)
    wanted = [names[0], *(f"nowhere/{number}" for number in range(70_000)), names[1]]
    with service.store.reading() as query:
        found = [status.profile.name for status in read_statuses_called(query, wanted, START)]
    assert found == sorted(names[:2])


def test_the_names_of_a_machines_settings_are_in_order_and_of_all_some_are_given(service: Services) -> None:
    for name in ("press", "lobby"):
        service.settings.add_machine(name, "generic", ADMIN)
    assert service.settings.profile_names("press") == ["press/imap", "press/pop", "press/smtp"]
    assert service.settings.some_profile_names(4) == ["lobby/imap", "lobby/pop", "lobby/smtp", "press/imap"]


def test_a_token_that_is_nobodys_any_more_has_no_row(service: Services) -> None:
    service.settings.add_machine("press", "generic", ADMIN)
    before = everything(service.store)["token"]
    service.settings.remove_profile("press/smtp", ADMIN)
    assert len(everything(service.store)["token"]) == len(before) - 1


def test_the_settings_that_need_a_person_are_found_without_the_others(
    service: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    scanner, *_, fax, email, _ = service.add_machine()
    service.get_token(scanner)
    provider.renewable = False
    service.get_token(fax)
    service.tokens.request(fax, None, ADMIN)  # its sign-in is over before its access token is, or after
    service.tokens.request(email, None, ADMIN)
    seen = set[str]()
    for minutes in (0, 20, 20, 30, 24 * 60):
        clock.step(minutes=minutes)
        if minutes == 30:
            provider.kill_grants()
            with pytest.raises(Refused):
                service.access_token(scanner)
            service.tokens.request(scanner, None, ADMIN)
        with service.store.reading() as query:
            expected = [one for one in read_statuses(query, clock.now()) if one.attention]
            assert read_statuses_in_need(query, clock.now()) == expected
        seen |= {one.profile.name for one in expected}
    assert {scanner, fax} <= seen
    assert email not in seen


def test_pages_of_statuses_are_all_statuses(service: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    service.add_machine()
    monkeypatch.setattr(setting_status, "_PAGE", 3)
    with service.store.reading() as query:
        pages = list(read_status_pages(query, START))
        assert [one for page in pages for one in page] == read_statuses(query, START)
    assert [len(page) for page in pages] == [3, 3, 1]


def test_an_access_token_that_is_renewed_is_no_end_but_that_of_its_grant_is(
    service: Services, clock: FakeClock, provider: FakeProvider
) -> None:
    scanner, *_, fax, email, _ = service.add_machine()
    service.get_token(scanner)
    provider.renewable = False
    service.get_token(fax)
    started = service.tokens.request(email, None, ADMIN)
    renewed, single, waiting = (service.tokens.status(name) for name in (scanner, fax, email))
    assert (renewed.renews_itself, renewed.ends_at) == (True, None)
    assert renewed.as_json()["expires_at"]
    assert (single.renews_itself, single.ends_at) == (False, single.until)
    assert (waiting.renews_itself, waiting.ends_at) == (False, started.expires_at)
    service.tokens.delete(scanner, ADMIN)
    assert service.tokens.status(scanner).renews_itself is False


def test_what_a_setting_lacks_counts_beside_a_token_that_works(service: Services) -> None:
    scanner, alert, *_ = service.add_machine()
    service.settings.set_profile(alert, {"server": ""}, ADMIN)
    assert service.tokens.status(alert).missing == ()
    assert service.tokens.status(alert).as_json()["missing"] == ["server"]
    service.get_token(scanner)
    assert service.tokens.status(alert).missing == ("server",)
