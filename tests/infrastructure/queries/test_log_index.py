"""The index leads to the same answers as a replay of the whole log, whatever happened to names, links and the clock."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from effort import amount
from eventsourcing.persistence import StoredEvent
from fakes import START, FakeClock, Services
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from store_examples import LOG, change, everything

from domain.errors import MailtokenError, NotFound
from domain.scope import EVERY_MACHINE, Scope
from domain.secret import Secret
from infrastructure.queries.audit import Finding
from infrastructure.queries.history import Place
from infrastructure.queries.history_filter import HistoryFilter
from infrastructure.queries.records import Concern, Concerned, Record, record_of
from infrastructure.queries.setting_status import SettingStatus, fold_statuses
from infrastructure.store.event_log import LoggedEvent
from infrastructure.store.fold import Fold
from infrastructure.store.log_index import LogEnds, LogEndsCheck, microseconds
from infrastructure.store.schema import LOG_INDEX

ADMIN = "administrator:root"
MACHINES = ("lobby", "press", "store")
USERS = ("anna", "backup")
Told = list[tuple[LoggedEvent, Concern]]


# What a replay of the whole log says


def replayed(service: Services) -> Told:
    """Every event, and what it concerns."""
    concerned = Concerned(service.events)
    with service.store.reading() as query:
        return [
            (service.events.decode(position, stored), concerned.apply(position, stored))
            for position, stored in service.events.read_stored(query)
        ]


def prefix(log: list[LoggedEvent], instant: datetime) -> list[LoggedEvent]:
    """The log as it was at an instant: up to the last event stamped at or before it."""
    return log[: max((number for number, one in enumerate(log, 1) if one.event.timestamp <= instant), default=0)]


def statuses_at(log: list[LoggedEvent], instant: datetime) -> dict[str, SettingStatus]:
    fold = Fold()
    for one in prefix(log, instant):
        fold.apply(one.event)
    return {status.profile.name: status for status in fold_statuses(fold, instant)}


def records_about(
    told: Told, name: str | None, scope: Scope = EVERY_MACHINE, words: tuple[str, ...] = ()
) -> list[Record]:
    """The records of what has this name, concerns machines of this scope alone, and has these words in a name."""
    found = []
    for one, concern in told:
        profiles = {
            profile for profile in concern.profiles if name is None or name in (profile, profile.partition("/")[0])
        }
        names = concern.profiles | concern.machine | concern.other
        is_about = name is None or profiles or name in concern.machine
        is_inside = scope.is_all or scope.has_machines(concern.machines)
        if is_about and is_inside and any(all(word in name for word in words) for name in names or {""}):
            machines = concern.machine or {profile.partition("/")[0] for profile in profiles}
            found.append(replace(record_of(one, concern), profile=single(profiles), machine=single(machines)))
    return found


def single(names: Collection[str]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None


def names_in(told: Told) -> list[str]:
    """The names that any setting ever had, and one that none had."""
    return sorted({"nowhere/smtp", *(name for _, concern in told for name in concern.profiles)})


def check_history(service: Services, told: Told, instants: list[datetime]) -> None:
    log = [one for one, _ in told]
    for name in (None, *MACHINES, *names_in(told)):
        expected = records_about(told, name)
        assert service.history.records(name) == expected
        after = expected[len(expected) // 2].position if expected else 0
        found = service.history.stretch(HistoryFilter(name), EVERY_MACHINE, Place(after), 3)
        assert list(found.records) == [one for one in expected if one.position > after][:3]
        for instant in (None, *instants[:3]):
            end = prefix(log, instant)[-1].position if instant and prefix(log, instant) else 0
            then = [one for one in expected if instant is None or one.position <= end]
            first = service.history.page(HistoryFilter(name), instant, None, 2)
            assert list(first.records) == list(reversed(then))[:2]
            assert bool(first.older) == (len(then) > 2)
            if first.older:
                second = service.history.page(HistoryFilter(name), instant, first.older, 5)
                assert list(second.records) == list(reversed(then))[2:7]


def check_filters(service: Services, told: Told) -> None:
    scopes = (EVERY_MACHINE, Scope(("lob*",)), Scope(("lobby", "p*s")), Scope(("nowhere",)))
    for scope in scopes:
        for words in ((), ("smtp",), ("bb", "pop"), ("anna",), ("nowhere",)):
            for name in (None, "lobby", "press/smtp"):
                wanted = HistoryFilter(name, " ".join(words) or None)
                found = [one for part in service.history.stretches(wanted, scope) for one in part.records]
                assert found == records_about(told, name, scope, words), (scope, wanted)


def check_as_of(service: Services, told: Told, instants: list[datetime]) -> None:
    log = [one for one, _ in told]
    for instant in instants:
        then = statuses_at(log, instant)
        assert service.audit.statuses_as_of(instant) == [then[name] for name in sorted(then)]
        for name in names_in(told):
            if name not in then:
                with pytest.raises(NotFound):
                    service.history.status_as_of(name, instant)
                continue
            assert service.history.status_as_of(name, instant) == then[name]
            sharing = service.history.statuses_sharing_as_of(name, instant)
            token_id = then[name].profile.token_id
            assert sharing == [then[one] for one in sorted(then) if then[one].profile.token_id == token_id]


# What may happen, to the settings that there are by then

Action = Callable[[Services, str, str, str], object]
ACTIONS: tuple[Action, ...] = (
    lambda s, machine, name, user: s.add_machine(machine, "generic"),
    lambda s, machine, name, user: s.add_machine(machine, "sharp-bp"),
    lambda s, machine, name, user: s.settings.remove_machine(machine, ADMIN),
    lambda s, machine, name, user: s.settings.rename_machine(name.split("/")[0], machine, ADMIN),
    lambda s, machine, name, user: s.settings.remove_profile(name, ADMIN),
    lambda s, machine, name, user: s.settings.link(machine, [name], ADMIN),
    lambda s, machine, name, user: s.settings.unlink(name, ADMIN),
    lambda s, machine, name, user: s.get_token(name),
    lambda s, machine, name, user: s.get_token(name),
    lambda s, machine, name, user: s.tokens.request(name, None, ADMIN),
    lambda s, machine, name, user: s.tokens.cancel(name, ADMIN),
    lambda s, machine, name, user: s.tokens.renew(name, ADMIN),
    lambda s, machine, name, user: s.tokens.delete(name, ADMIN),
    lambda s, machine, name, user: s.relay_users.add(user, [name], [], Secret("a-password-in-clear"), ADMIN),
    lambda s, machine, name, user: s.relay_users.map(user, [name], ADMIN),
    lambda s, machine, name, user: s.relay_users.remove(user, ADMIN),
    lambda s, machine, name, user: s.clients.add(user, [name], None, ADMIN),
    lambda s, machine, name, user: s.clients.grant(user, [name], ADMIN),
    lambda s, machine, name, user: s.clients.revoke(user, [name], ADMIN),
    lambda s, machine, name, user: s.access_token_cache.fetch(name, None, f"client:{user}", user),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(ACTIONS),
        st.sampled_from(MACHINES),
        st.integers(0, 99),
        st.sampled_from(USERS),
        st.one_of(st.just(0), st.integers(-90, 120)),
    ),
    min_size=15,
    max_size=40,
)


# An example can't be made smaller, as it goes on from those before it.
@settings(max_examples=amount(3, of=8), deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(steps=steps)
def test_the_index_answers_as_a_replay_of_the_whole_log(
    service: Services, clock: FakeClock, steps: list[tuple[Action, str, int, str, int]]
) -> None:
    instants = [clock.now() - timedelta(days=1)]
    if not service.settings.machines():
        service.get_token(service.add_machine("lobby")[0])
    for do, machine, number, user, minutes in steps:
        names = [profile.name for profile in service.settings.profiles()] or ["lobby/smtp"]
        with suppress(MailtokenError):
            do(service, machine, names[number % len(names)], user)
        instants.append(clock.now())
        clock.jump(minutes=minutes)
    told = replayed(service)
    check_history(service, told, instants[::5])
    check_filters(service, told)
    check_as_of(service, told, instants[::4])
    assert service.audit.verify().findings == ()


def test_a_rebuild_makes_the_same_index(service: Services, clock: FakeClock) -> None:
    service.get_token(service.add_machine()[0])
    clock.jump(hours=-2)
    service.settings.rename_machine("office-mfp", "lobby", ADMIN)
    service.access_token("lobby/smtp-service")
    before = everything(service.store)
    assert all(before[table] for table in LOG_INDEX)
    service.audit.rebuild(by=ADMIN, now=clock.now())
    assert everything(service.store, but=LOG) == {table: rows for table, rows in before.items() if table not in LOG}
    assert service.audit.verify().findings == ()


def test_an_instant_after_which_the_clock_went_back_has_the_events_until_then(
    service: Services, clock: FakeClock
) -> None:
    service.add_machine("lobby", "generic")
    clock.jump(hours=2)
    service.add_machine("press", "generic")
    clock.jump(hours=-1)
    service.add_machine("store", "generic")
    with service.store.reading() as query:
        rows = query.rows("SELECT at FROM log_end ORDER BY at")
    assert len(rows) == 2  # the events of two o'clock are before an event of one o'clock
    assert service.history.status_as_of("press/smtp", START + timedelta(hours=1)).profile.name == "press/smtp"
    with pytest.raises(NotFound):
        service.history.status_as_of("press/smtp", START + timedelta(minutes=59))


@pytest.mark.parametrize("table", LOG_INDEX)
def test_a_row_of_the_index_that_was_removed_or_added_is_found(service: Services, table: str) -> None:
    service.add_machine("lobby", "generic")
    change(
        service.store, f"DELETE FROM {table} WHERE stream_id <> ''" if table == "log_stream" else "DELETE FROM log_end"
    )
    assert {(one.code, one.fields["table"]) for one in service.audit.verify().findings} == {("row_missing", table)}
    service.audit.rebuild(by=ADMIN, now=START)
    added = {"log_stream": "('lobby/smtp', 'another')", "log_end": "(1, 1)"}[table]
    change(service.store, f"INSERT INTO {table} VALUES {added}")
    assert [one.code for one in service.audit.verify().findings] == ["row_not_in_log"]


ROWS = st.dictionaries(st.integers(0, 9), st.integers(0, 12))
"""Rows of `log_end` by their instants, in hours behind the start."""


@given(st.lists(st.integers(0, 9), max_size=10), st.none() | ROWS, ROWS, st.sets(st.integers(0, 9)))
def test_the_check_of_ends_finds_every_other_row_and_no_right_one(
    hours: list[int], rows: dict[int, int] | None, changed: dict[int, int], removed: set[int]
) -> None:
    log = [(position, START + timedelta(hours=hour)) for position, hour in enumerate(hours, 1)]
    ends = LogEnds()
    for one in log:
        ends.append(*one)
    right = {(at - microseconds(START)) // 3_600_000_000: position for at, position in ends}
    if rows is None:
        rows = {hour: position for hour, position in right.items() if hour not in removed}
    check = LogEndsCheck(
        (microseconds(START + timedelta(hours=hour)), position) for hour, position in sorted((rows | changed).items())
    )
    for one in log:
        check.append(*one)
    assert check.is_wrong == ((rows | changed) != right)


def test_a_setting_is_read_without_the_rest_of_the_log(service: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    service.add_machine("lobby", "generic")
    service.get_token("lobby/smtp")
    service.add_machine("press", "generic")
    decode, decoded = service.events.decode, list[int]()

    def counted(position: int, stored: StoredEvent) -> LoggedEvent:
        decoded.append(position)
        return decode(position, stored)

    monkeypatch.setattr(service.events, "decode", counted)
    of_press = {record.position for name in ("press/smtp", "press/pop") for record in service.history.records(name)}
    decoded.clear()
    service.history.status_as_of("lobby/smtp", START)
    service.history.page(HistoryFilter("lobby/smtp"), None, None, 100)
    assert decoded
    assert of_press
    assert not of_press & set(decoded)


def test_the_finding_names_the_row(service: Services) -> None:
    service.add_machine("lobby", "generic")
    change(service.store, "INSERT INTO log_end VALUES (1, 7)")
    assert service.audit.verify().findings == (Finding("row_not_in_log", {"table": "log_end", "id": "1 7"}),)
