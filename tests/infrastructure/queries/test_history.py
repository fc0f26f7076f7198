"""The time line says what the audit's records say, newest first, whatever has been added since the last look."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from fakes import START, FakeClock, Services

from adapters.texts.events import EVENTS
from domain.errors import InvalidValue, NotFound
from domain.lifecycle import TokenStatus
from domain.scope import EVERY_MACHINE, Scope
from infrastructure.queries import history
from infrastructure.queries.history import History, HistoryPage
from infrastructure.queries.history_filter import EVERYTHING, EventKind, HistoryFilter, is_of_kind


@pytest.fixture
def timeline(service: Services) -> History:
    return service.history


def agrees(timeline: History, service: Services, profile: str | None) -> None:
    """All pages together are all records, and each page leads back to the one before."""
    expected = [record.as_json() for record in reversed(service.history.records(profile))]
    pages = pages_of(timeline, HistoryFilter(profile))
    assert [record.as_json() for page in pages for record in page.records] == expected
    for before, page in pairwise(pages):
        assert timeline.page(HistoryFilter(profile), None, page.newer, 7).records == before.records


def pages_of(
    timeline: History,
    wanted: HistoryFilter,
    scope: Scope = EVERY_MACHINE,
    as_of: datetime | None = None,
    count: int = 7,
) -> list[HistoryPage]:
    pages = [timeline.page(wanted, as_of, None, count, scope)]
    while older := pages[-1].older:
        pages.append(timeline.page(wanted, as_of, older, count, scope))
    return pages


def told_by(timeline: History, wanted: HistoryFilter, **how: Any) -> list[str]:
    """The events that are selected, the newest first."""
    pages = pages_of(timeline, wanted, **how)
    return [f"{one.aggregate}.{one.name}" for page in pages for one in page.records]


def test_pages_are_the_records_of_the_audit_also_of_what_was_added_since(
    service: Services, timeline: History, clock: FakeClock
) -> None:
    service.add_machine("mfp-1")
    agrees(timeline, service, None)
    service.get_token("mfp-1/smtp-service")
    service.add_machine("mfp-2", "generic")
    service.settings.unlink("mfp-1/smtp-quick", "administrator")
    clock.step(hours=1)
    service.tokens.renew("mfp-1/smtp-service", "operator")
    service.relay_users.add("press", ["mfp-1/smtp-alert"], ["192.0.2.0/24"], None, "administrator")
    service.settings.remove_machine("mfp-2", "administrator")
    for profile in (
        None,
        "mfp-1/smtp-service",
        "mfp-1/smtp-quick",
        "mfp-1/smtp-alert",
        "mfp-2/pop",
        "nowhere/smtp",
        "mfp-1",
        "nowhere",
    ):
        agrees(timeline, service, profile)


def test_what_a_page_names_comes_with_the_records_in_which_it_began(service: Services, timeline: History) -> None:
    service.add_machine("mfp-1")
    service.get_token("mfp-1/smtp-service")
    page = timeline.page(EVERYTHING, None, None, 6)
    (retrieved,) = [one for one in page.records if one.name == "Retrieved"]
    created = page.created
    (group,) = [one for one in created if one.aggregate == "SmtpGroup"]
    assert (group.facts["name"], group.facts["token_id"]) == ("mfp-1", str(retrieved.id))
    assert all(one.version == 1 for one in created)


def test_as_of_an_instant_it_ends_with_the_last_event_stamped_by_then(
    service: Services, timeline: History, clock: FakeClock
) -> None:
    service.settings.add_machine("mfp-1", "generic", "administrator")
    before = timeline.page(EVERYTHING, START, None, 100)
    clock.step(minutes=2)
    service.settings.add_machine("mfp-2", "generic", "administrator")
    assert timeline.page(EVERYTHING, START + timedelta(minutes=1), None, 100) == before
    assert timeline.page(EVERYTHING, START - timedelta(minutes=1), None, 100).records == ()
    # The clock steps back: what was logged before the last event of an instant had happened by then.
    clock.jump(minutes=-2)
    service.settings.add_machine("mfp-3", "generic", "administrator")
    assert timeline.page(EVERYTHING, START, None, 100) == timeline.page(EVERYTHING, None, None, 100)
    assert timeline.page(HistoryFilter("mfp-2/smtp"), START, None, 100).records


def test_a_machine_has_its_own_events_and_those_of_all_its_settings_and_of_no_other_machine(
    service: Services, timeline: History
) -> None:
    service.add_machine("mfp-1")
    # Neighbours in the order of the index: "-", "." and "/" stand in this order, and digits follow.
    for other in ("mfp-1-b", "mfp-1.b", "mfp-10", "mfp"):
        service.add_machine(other, "generic")
    service.get_token("mfp-1/smtp-service")
    service.settings.tag_machine("mfp-1", ["lobby"], [], "administrator")
    service.settings.rename_machine("mfp-1", "lobby", "administrator")
    for name in ("mfp-1", "lobby"):
        settings = [one for one in service.history.records() if one.profile and one.profile.startswith(f"{name}/")]
        told = service.history.records(name)
        assert {one.position for one in settings} <= {one.position for one in told}
        assert "Retrieved" in {one.name for one in service.history.records("mfp-1")}
        assert all(one.profile is None or one.profile.startswith(f"{name}/") for one in told)
        assert "Machine.Renamed" in {f"{one.aggregate}.{one.name}" for one in told}
    own = [one.name for one in service.history.records("mfp-1") if one.aggregate == "Machine"]
    assert own == ["Created", "Tagged", "Renamed"]
    assert [one.aggregate for one in service.history.records("mfp-1-b")].count("Machine") == 1
    assert service.history.records("nowhere") == []


def test_a_machine_that_is_gone_has_its_events_and_its_removal(service: Services, timeline: History) -> None:
    service.add_machine("mfp-1", "generic")
    service.settings.remove_machine("mfp-1", "administrator")
    assert told_by(timeline, HistoryFilter("mfp-1", kind=EventKind.MACHINE)) == ["Machine.Removed", "Machine.Created"]


def test_a_machine_outside_the_scope_has_no_events(service: Services, timeline: History) -> None:
    service.add_machine("mfp-1", "generic")
    assert timeline.has("mfp-1", Scope(("mfp-*",)))
    assert not timeline.has("mfp-1", Scope(("press-*",)))


def test_a_machine_that_came_from_outside_keeps_its_old_name_to_itself(service: Services, timeline: History) -> None:
    service.add_machine("press-1", "generic")
    service.settings.rename_machine("press-1", "hamburg-1", "administrator")
    inside = pages_of(timeline, EVERYTHING, Scope(("hamburg-*",)))
    assert "press-1" not in repr(inside)


def test_words_find_names_and_parts_of_names_in_any_order(service: Services, timeline: History) -> None:
    for name in ("hamburg-007", "hamburg-008", "bremen-007"):
        service.add_machine(name, "generic")
    service.relay_users.add("Möller", ["hamburg-008/smtp"], ["192.0.2.0/24"], None, "administrator")

    def machines(q: str) -> set[str]:
        return {
            one.profile.partition("/")[0]
            for page in pages_of(timeline, HistoryFilter(q=q))
            for one in page.records
            if one.profile
        }

    assert machines("hamburg 007") == machines("007 HAMBURG") == {"hamburg-007"}
    assert machines("007") == {"hamburg-007", "bremen-007"}
    assert told_by(timeline, HistoryFilter(q="hamburg 007", kind=EventKind.MACHINE)) == ["Machine.Created"]
    assert told_by(timeline, HistoryFilter(q="mÖLL")) == [
        "RelayUser.NetworksChanged",
        "RelayUser.Mapped",
        "RelayUser.Created",
    ]
    assert told_by(timeline, HistoryFilter(q="hamburg 009")) == told_by(timeline, HistoryFilter(q="h_mburg")) == []
    assert machines("hamburg-007/pop") == {"hamburg-007"}


def test_kind_author_words_and_time_select_together(service: Services, timeline: History, clock: FakeClock) -> None:
    service.add_machine("mfp-1")
    service.get_token("mfp-1/smtp-service")
    for hour in (1, 2, 3):
        clock.step(hours=1)
        service.tokens.renew("mfp-1/smtp-service", "operator:anna" if hour == 2 else "administrator:root")
    renewals = HistoryFilter(kind=EventKind.RENEWAL)
    assert told_by(timeline, renewals) == ["Token.Renewed"] * 3
    assert told_by(timeline, replace(renewals, who="ANNA")) == ["Token.Renewed"]
    assert told_by(timeline, replace(renewals, who="root operator")) == []
    begin, end = START + timedelta(hours=1), START + timedelta(hours=2)
    assert told_by(timeline, replace(renewals, since=begin, until=end)) == ["Token.Renewed"] * 2
    assert told_by(timeline, replace(renewals, since=begin + timedelta(microseconds=1), until=end)) == ["Token.Renewed"]
    assert told_by(timeline, replace(renewals, q="mfp-1 alert", since=end)) == ["Token.Renewed"] * 2
    assert told_by(timeline, replace(renewals, since=datetime.min.replace(tzinfo=UTC)), as_of=begin) == [
        "Token.Renewed"
    ]
    assert told_by(timeline, HistoryFilter(until=START - timedelta(days=1))) == []


def test_the_texts_of_a_filter_lead_to_it_again() -> None:
    wanted = HistoryFilter("mfp-1", "hamburg 007", EventKind.SIGN_IN, "anna", START, START + timedelta(hours=1))
    assert HistoryFilter.of(wanted.as_texts()) == wanted
    assert HistoryFilter.of({"q": "  ", "kind": ""}) == EVERYTHING
    for name, text in (
        ("kind", "Token.Renewed"),
        ("from", "yesterday"),
        ("to", "0001-01-01T00:00+14:00"),
        ("q", "a\0"),
    ):
        with pytest.raises(InvalidValue, match=f"^{name}: "):
            HistoryFilter.of({name: text})


def test_every_event_is_of_exactly_one_kind() -> None:
    for name in EVENTS:
        assert [kind for kind in EventKind if is_of_kind(name, kind)].__len__() == 1, name


@pytest.mark.parametrize(
    "wanted", [HistoryFilter(who="anna"), HistoryFilter(q="mfp anna"), HistoryFilter("mfp-1", who="anna")]
)
def test_a_request_reads_a_part_of_the_log_and_says_how_far_it_looked(
    service: Services, timeline: History, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, wanted: HistoryFilter
) -> None:
    monkeypatch.setattr(history, "LOOKED_AT", 5)
    monkeypatch.setattr(history, "_PIECE", 2)
    service.add_machine("mfp-1", "generic")
    service.settings.set_profile("mfp-1/smtp", {"port": "26"}, "administrator:anna")
    clock.step(hours=1)
    service.add_machine("mfp-2", "generic")
    pages = pages_of(timeline, wanted)
    if wanted.q:
        assert [page.records for page in pages] == [()]
        return
    assert sum(len(page.records) for page in pages) == 1
    assert len(pages) > 1
    assert all(page.looked_to for page in pages[:-1])
    assert pages[-1].looked_to is None


def test_a_search_says_nothing_of_a_machine_outside(
    service: Services, timeline: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "LOOKED_AT", 2)
    service.add_machine("press", "generic")
    service.add_machine("hamburg", "generic")
    scope = Scope(("hamburg",))
    nothing = HistoryPage((), (), None, None, None)
    for wanted in (HistoryFilter(q="press"), HistoryFilter("press"), HistoryFilter("press/smtp", q="smtp")):
        assert timeline.page(wanted, None, None, 10, scope) == nothing, wanted
    assert timeline.page(HistoryFilter(q="hamburg"), None, None, 10, scope).older


def test_many_names_are_searched_for_in_the_log_itself(
    service: Services, timeline: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("hamburg-007", "hamburg-008", "bremen-007"):
        service.add_machine(name, "generic")
    questions = [(HistoryFilter(q="hamburg"), EVERY_MACHINE), (EVERYTHING, Scope(("bremen-*",)))]
    expected = [pages_of(timeline, wanted, scope) for wanted, scope in questions]
    monkeypatch.setattr(history, "_MOST_NAMES", 1)
    assert [pages_of(timeline, wanted, scope) for wanted, scope in questions] == expected


def test_a_setting_tells_how_long_its_token_was_in_each_state(
    service: Services, timeline: History, clock: FakeClock
) -> None:
    service.add_machine("mfp-1", "generic")
    name = "mfp-1/smtp"
    clock.step(hours=2)
    service.tokens.request(name, None, "administrator")
    clock.step(days=1)  # the sign-in expires after some minutes, and nothing says so
    began = clock.now()
    service.get_token(name)
    for _ in range(4):
        clock.step(minutes=30)
        service.tokens.renew(name, "administrator")
    times = timeline.state_times(name, clock.now())
    assert times.totals[TokenStatus.RETRIEVED] == clock.now() - began
    waited = times.totals[TokenStatus.WAITING]
    assert timedelta() < waited < timedelta(hours=1)
    assert times.totals[TokenStatus.NOT_RETRIEVED] == began - START - waited
    assert sum(times.totals.values(), timedelta()) == clock.now() - START
    assert times.since == began
    assert TokenStatus.INVALID not in times.totals
    earlier = timeline.state_times(name, START + timedelta(hours=1))
    assert (earlier.totals, earlier.since) == ({TokenStatus.NOT_RETRIEVED: timedelta(hours=1)}, START)
    with pytest.raises(NotFound):
        timeline.state_times("nowhere/smtp", clock.now())


def test_a_setting_has_the_times_of_the_groups_token_while_it_is_linked(
    service: Services, timeline: History, clock: FakeClock
) -> None:
    for machine in ("mfp-1", "mfp-2"):
        service.add_machine(machine, "generic")
    service.settings.link("both", ["mfp-1/smtp", "mfp-2/smtp"], "administrator")
    clock.step(minutes=10)
    service.get_token("mfp-1/smtp")
    clock.step(minutes=5)
    service.settings.unlink("mfp-2/smtp", "administrator")
    clock.step(minutes=20)
    assert timeline.state_times("mfp-2/smtp", clock.now()).totals == {
        TokenStatus.NOT_RETRIEVED: timedelta(minutes=30),
        TokenStatus.WAITING: timedelta(),
        TokenStatus.RETRIEVED: timedelta(minutes=5),
    }
