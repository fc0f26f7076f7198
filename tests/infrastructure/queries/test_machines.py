"""The list of machines says the same as a read of every setting, whatever has run out or changed meanwhile."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta

import pytest
from fakes import FakeClock, FakeProvider, Services

from domain.errors import InvalidValue
from domain.lifecycle import TokenStatus
from domain.renewal import GrantLimits
from infrastructure.mail_counters import MailCount, MailCounters
from infrastructure.mail_counts import MailCounts
from infrastructure.queries.attention import Attention
from infrastructure.queries.machine_filter import ANY_CAUSE, MachineFilter, Place, Sort
from infrastructure.queries.machines import ListedMachine, MachinesQuery

LIMITS = {"contoso": GrantLimits(timedelta(days=90))}
ADMIN = "administrator:root"


@pytest.fixture
def secrets_end() -> dict[str, datetime | None]:
    return {"contoso": None}


@pytest.fixture
def attention(service: Services, clock: FakeClock, secrets_end: dict[str, datetime | None]) -> Attention:
    return Attention(service.store, service.tokens.alarms, clock, LIMITS, secrets_end)


@pytest.fixture
def query(service: Services, clock: FakeClock, attention: Attention) -> MachinesQuery:
    return MachinesQuery(service.store, clock, attention)


def names(query: MachinesQuery, sort: Sort = Sort.NAME, **parts: str) -> list[str]:
    """The names on every page of two machines, there and back."""
    wanted, place, there = MachineFilter.of(parts), None, list[tuple[ListedMachine, ...]]()
    while True:
        page = query.page(wanted, sort, place and Place.of(place.text(sort), sort), limit=2)
        there.append(page.machines)
        if page.after is None:
            break
        place = page.after
    back = [page.machines]
    while page.before:
        page = query.page(wanted, sort, Place.of(page.before.text(sort), sort, backwards=True), limit=2)
        back.append(page.machines)
    assert back[::-1] == there
    found = [one.name for machines in there for one in machines]
    assert page.total == len(found)
    return found


WORST = (TokenStatus.INVALID, TokenStatus.WAITING, TokenStatus.NOT_RETRIEVED, TokenStatus.RETRIEVED)


def agrees(query: MachinesQuery, attention: Attention, machines: set[str]) -> None:
    """Each count, each state and each setting is what a read of everything gives."""
    states, ranks = dict[str, TokenStatus](), dict[str, int]()
    for machine in machines:
        labels = {
            one.status.token.status
            for one in attention.statuses()
            if one.status.profile.machine == machine
            and (one.status.profile.settings.provider or one.status.token.status is not TokenStatus.NOT_RETRIEVED)
        }
        ranks[machine] = next((rank for rank, label in enumerate(WORST) if label in labels), len(WORST))
        states[machine] = [*WORST, TokenStatus.NOT_RETRIEVED][ranks[machine]]
    page = query.page(MachineFilter())
    assert {one.name: one.state for one in page.machines} == states
    assert page.counts == Counter(states.values())
    shown = [one for machine in page.machines for one in machine.settings]
    assert sorted(shown, key=lambda one: one.status.profile.name) == attention.statuses()
    for label in TokenStatus:
        assert names(query, state=label.value) == sorted(name for name in states if states[name] is label)
    in_need = {one.status.profile.machine for one in attention.statuses() if one.attention}
    assert names(query, cause=ANY_CAUSE) == sorted(in_need)
    assert names(query, Sort.STATE) == sorted(states, key=lambda name: (ranks[name], name))


def test_states_and_counts_are_those_of_a_read_of_everything_at_every_instant(
    service: Services, clock: FakeClock, provider: FakeProvider, query: MachinesQuery, attention: Attention
) -> None:
    service.add_machine("mfp-1")
    service.add_machine("mfp-2", "generic")
    service.settings.add_machine("Mfp-3", "generic", ADMIN)
    service.add_machine("mfp-4", "generic")
    for setting in ("smtp", "pop", "imap"):
        service.get_token(f"mfp-4/{setting}")
    service.get_token("mfp-1/smtp-service")
    provider.renewable = False
    service.get_token("mfp-1/pop-internet-fax")
    service.tokens.request("mfp-2/smtp", None, ADMIN)
    service.tokens.request("mfp-1/pop-internet-fax", None, ADMIN)
    machines = {"mfp-1", "mfp-2", "Mfp-3", "mfp-4"}
    agrees(query, attention, machines)
    # The code runs out, then the token that nothing renews; much later the grant ends that nobody uses.
    for hours in (0.24, 0.02, 0.6, 0.2, 24 * 70, 24 * 3, 24 * 20):
        clock.step(hours=hours)
        agrees(query, attention, machines)


def test_a_row_follows_every_change_and_a_rebuild_gives_the_same_rows(
    service: Services, clock: FakeClock, query: MachinesQuery, attention: Attention
) -> None:
    service.add_machine("a")
    service.add_machine("b", "generic")
    service.get_token("a/smtp-service")
    service.settings.link("a", ["b/smtp"], ADMIN)
    assert [one.state for one in query.page(MachineFilter()).machines] == [TokenStatus.NOT_RETRIEVED] * 2
    service.settings.unlink("b/smtp", ADMIN)
    service.settings.rename_machine("b", "c", ADMIN)
    service.settings.remove_profile("c/imap", ADMIN)
    service.tokens.renew("a/smtp-service", "operator:root")
    service.tokens.delete("a/smtp-service", "operator:root")
    service.settings.tag_machine("c", ["hamburg"], [], ADMIN)
    service.settings.add_machine("d", "generic", ADMIN)
    service.settings.remove_machine("d", ADMIN)
    agrees(query, attention, {"a", "c"})
    rows = listed(service)
    service.audit.rebuild(by=ADMIN, now=clock.now())
    assert listed(service) == rows


def listed(service: Services) -> list[dict[str, object]]:
    with service.store.reading() as query:
        rows = [dict(row) for row in query.rows("SELECT * FROM machine_list ORDER BY name")]
    return [{name: sorted(text.split()) if isinstance(text, str) else text for name, text in r.items()} for r in rows]


def test_every_word_must_be_somewhere_in_the_machine(service: Services, query: MachinesQuery) -> None:
    service.add_machine("hamburg-mfp-007")
    service.add_machine("hamburg-mfp-070", account="Fax_1@contoso.com")
    service.add_machine("berlin-007", "generic")
    service.settings.tag_machine("berlin-007", ["floor-3", "100%"[:3]], [], ADMIN)
    service.settings.set_profile("berlin-007/smtp", {"server": "smtp.contoso.com"}, ADMIN)
    assert names(query, q="hamburg 007") == ["hamburg-mfp-007"]
    assert names(query, q="  007 HAMBURG ") == ["hamburg-mfp-007"]
    assert names(query, q="fax_1@contoso") == ["hamburg-mfp-070"]
    assert names(query, q="fax01") == names(query, q="%") == names(query, q="007 nowhere") == []
    assert names(query, q="smtp.contoso.com floor") == ["berlin-007"]
    assert names(query, q="sharp-bp") == ["hamburg-mfp-007", "hamburg-mfp-070"]
    assert names(query, account="FAX_1@contoso.com") == ["hamburg-mfp-070"]
    assert names(query, account="1@contoso.com") == names(query, tag="floor") == []
    assert names(query, tag="floor-3", provider="contoso") == ["berlin-007"]
    assert names(query, provider="elsewhere") == []
    assert names(query, group="hamburg-mfp-007") == ["hamburg-mfp-007"]
    assert query.names(MachineFilter(names=("berlin-007", "gone")), 10) == ["berlin-007"]
    assert query.tags(5) == [("100", 1), ("floor-3", 1)]


def test_machines_are_sorted_by_account_mail_and_end(
    service: Services, clock: FakeClock, query: MachinesQuery, provider: FakeProvider
) -> None:
    for name, account in (("a", "zoe@contoso.com"), ("b", "anna@contoso.com"), ("c", "Mia@contoso.com")):
        service.add_machine(name, "generic", account=account)
    service.settings.add_machine("d", "generic", ADMIN)
    assert names(query, Sort.ACCOUNT) == ["d", "b", "c", "a"]
    counts = MailCounts(service.store, MailCounters(clock))
    counts.put(
        "relay", [MailCount("b/smtp", date(2026, 3, 1), 1, 9, 0), MailCount("c/smtp", date(2026, 3, 2), 1, 9, 0)]
    )
    counts.put("relay", [MailCount("b/pop", date(2026, 2, 1), 3, 9, 0), MailCount("a/pop", date(2026, 3, 3), 0, 0, 5)])
    assert names(query, Sort.MAIL) == ["c", "b", "a", "d"]
    assert [one.mail_day for one in query.page(MachineFilter()).machines] == [None, "2026-03-01", "2026-03-02", None]
    service.get_token("c/smtp", account="Mia@contoso.com")
    provider.renewable = False
    service.get_token("b/smtp", account="anna@contoso.com")
    assert names(query, Sort.END) == ["b", "a", "c", "d"]
    assert query.page(MachineFilter(q="b"), Sort.END).machines[0].ends_at is not None


def test_the_cause_selects_the_machines_that_need_a_person_for_it(
    service: Services, query: MachinesQuery, attention: Attention, secrets_end: dict[str, datetime | None]
) -> None:
    service.add_machine("a", "generic")
    service.add_machine("b", "generic")
    service.get_token("a/smtp")
    secrets_end["contoso"] = service.clock.now() + timedelta(days=3)
    assert names(query, cause="client_secret_expires") == ["a"]
    assert names(query, cause="grant_ends") == []


def test_a_state_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidValue) as refused:
        MachineFilter.of({"state": "green"})
    assert (refused.value.field, refused.value.code) == ("state", "not_a_choice")


def test_a_filter_is_the_texts_it_was_made_of() -> None:
    texts = {"q": "hamburg 007", "state": "Invalid", "tag": "floor-3"}
    assert MachineFilter.of(texts).as_texts() == texts
    assert MachineFilter.of({"q": " "}).is_all
