"""Who may sign in: administrators, their links and sessions, and what wrong passwords do: nothing but wait."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from fakes import START, FakeClock, Services, session_of
from store_examples import ADMIN, LOG, change, everything, files_with

from domain.errors import Conflict, InvalidValue, NotFound, NotPermitted, Refused, TooManyRequests
from domain.secret import Secret
from infrastructure.access.administrators import Administrators, CodeNeeded, ListedAdministrator
from infrastructure.access.bearer_tokens import token_hash
from infrastructure.access.one_time_links import PendingSignIns
from infrastructure.access.password_hashing import PasswordHasher
from infrastructure.access.sessions import Sessions, SignedIn

PASSWORD, OTHER, WRONG = Secret("a-password-in-clear"), Secret("another-in-clear"), Secret("wrong-in-clear")
HERE, THERE = "192.0.2.7", "198.51.100.9"


@pytest.fixture
def administrators(service: Services) -> Administrators:
    """Anna, who is administrator and operator."""
    service.administrators.add("anna", ["operator", "administrator"], PASSWORD, ADMIN)
    return service.administrators


@pytest.fixture
def zoe(administrators: Administrators) -> None:
    """Another administrator, so that Anna is not the last."""
    administrators.add("zoe", ["administrator"], PASSWORD, ADMIN)


def sign_in(administrators: Administrators, password: Secret = PASSWORD, address: str = HERE) -> Secret:
    return session_of(administrators.sign_in("anna", password, address))


def name_of(service: Services, result: Secret | CodeNeeded) -> str | None:
    signed_in = service.sessions.find(session_of(result))
    return signed_in.name if signed_in else None


def all_that_lasts(service: Services) -> str:
    seen = [status.as_json() for status in service.tokens.statuses()]
    return hashlib.sha256(repr((everything(service.store), seen)).encode()).hexdigest()


# Administrators


def test_administrators_are_listed_by_name(administrators: Administrators) -> None:
    administrators.add("Bob", ["auditor"], None, ADMIN)
    assert administrators.administrators() == [
        ListedAdministrator("Bob", ("auditor",), has_password=False),
        ListedAdministrator("anna", ("administrator", "operator"), has_password=True),
    ]


def test_who_cant_be_added_leaves_nothing_behind(service: Services, administrators: Administrators) -> None:
    before = all_that_lasts(service)
    for name, roles, password, error in (
        ("anna", ["operator"], PASSWORD, Refused),
        ("bob", [], PASSWORD, InvalidValue),
        ("bob", ["client"], PASSWORD, InvalidValue),
        ("bob", ["operator"], Secret("short"), InvalidValue),
        ("bob@contoso.com", ["operator"], PASSWORD, InvalidValue),
    ):
        with pytest.raises(error):
            administrators.add(name, roles, password, ADMIN)
    assert all_that_lasts(service) == before


def test_who_is_not_there_is_not_found(administrators: Administrators) -> None:
    for act in (
        lambda: administrators.set_roles("ghost", ["auditor"], ADMIN),
        lambda: administrators.set_password("ghost", PASSWORD, ADMIN),
        lambda: administrators.remove("ghost", ADMIN),
        lambda: administrators.link("ghost", ADMIN),
    ):
        with pytest.raises(NotFound, match="administrator_not_found name='ghost'"):
            act()


def test_every_change_is_in_the_record_with_who_made_it_and_without_the_password(
    service: Services, administrators: Administrators
) -> None:
    administrators.add("zoe", ["administrator"], PASSWORD, ADMIN)
    administrators.set_roles("anna", ["auditor"], "administrator:bob")
    administrators.set_password("anna", OTHER, "administrator:eve")
    administrators.remove("anna", "administrator:dan")
    told = [record for record in service.history.records() if record.aggregate == "Administrator"]
    assert [(record.name, record.by) for record in told] == [
        ("Created", ADMIN),
        ("PasswordChanged", ADMIN),
        ("Created", ADMIN),
        ("PasswordChanged", ADMIN),
        ("RolesChanged", "administrator:bob"),
        ("PasswordChanged", "administrator:eve"),
        ("Removed", "administrator:dan"),
    ]
    text = json.dumps([record.as_json() for record in told])
    assert "in-clear" not in text
    assert "argon2" not in text
    assert service.audit.verify().findings == ()


def test_a_rebuild_gives_the_same_administrators(service: Services, administrators: Administrators) -> None:
    before = everything(service.store, but=LOG)
    change(service.store, "DELETE FROM administrator")
    service.audit.rebuild(by="worker", now=START)
    assert everything(service.store, but=LOG) == before
    sign_in(administrators)


@pytest.mark.parametrize("engine", ["sqlite"])
def test_no_password_no_session_and_no_link_is_in_any_file(service: Services, administrators: Administrators) -> None:
    shown = sign_in(administrators)
    link = administrators.link("anna", ADMIN)
    administrators.set_password("anna", OTHER, ADMIN)
    secrets = [shown.reveal(), link.secret.reveal(), "in-clear", "$argon2id"]
    assert files_with(service.directory, *secrets) == []


# The last administrator


def test_the_last_administrator_who_can_sign_in_stays_one(administrators: Administrators) -> None:
    administrators.add("bob", ["operator"], PASSWORD, ADMIN)
    administrators.add("carl", ["administrator"], None, ADMIN)
    before = administrators.administrators()
    acts: list[Callable[[], None]] = [
        lambda: administrators.remove("anna", ADMIN),
        lambda: administrators.set_roles("anna", ["operator", "auditor"], ADMIN),
    ]
    for act in acts:
        with pytest.raises(Refused, match="last_administrator name='anna'"):
            act()
    assert administrators.administrators() == before
    administrators.set_roles("anna", ["administrator"], ADMIN)
    administrators.remove("bob", ADMIN)
    administrators.set_password("carl", PASSWORD, ADMIN)
    administrators.remove("anna", ADMIN)
    administrators.add("anna", ["operator"], PASSWORD, ADMIN)
    with pytest.raises(Refused, match="last_administrator name='carl'"):
        administrators.remove("carl", ADMIN)


def test_an_administrator_whose_row_was_altered_does_not_count(
    service: Services, administrators: Administrators
) -> None:
    administrators.add("eve", ["administrator"], None, ADMIN)
    change(service.store, "UPDATE administrator SET password = 1 WHERE name = 'eve'")
    with pytest.raises(Refused, match="last_administrator name='anna'"):
        administrators.remove("anna", ADMIN)


@pytest.mark.usefixtures("zoe")
@pytest.mark.parametrize("roles", [None, ["operator"]], ids=["removed", "demoted"])
def test_of_two_administrators_who_end_each_other_at_once_one_stays(
    service: Services, administrators: Administrators, roles: list[str] | None
) -> None:
    both = threading.Barrier(2)
    decided = service.restart()

    def waits(people: Administrators) -> None:
        read, seen = people._accounts.all, list[int]()

        def all_accounts() -> list[Any]:
            found = read()
            if not seen:
                seen.append(both.wait(60))
            return found

        people._accounts.all = all_accounts  # type: ignore[method-assign]

    def end(people: Administrators, name: str, by: str) -> str:
        try:
            if roles is None:
                people.remove(name, by)
            else:
                people.set_roles(name, roles, by)
        except Refused as refused:
            return refused.code
        return "done"

    waits(administrators)
    waits(decided.administrators)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(end, administrators, "zoe", "administrator:anna")
        second = threads.submit(end, decided.administrators, "anna", "administrator:zoe")
    assert sorted([first.result(), second.result()]) == ["done", "last_administrator"]
    listed = service.restart().administrators.administrators()
    assert sum("administrator" in one.roles for one in listed) == 1


# Signing in


@pytest.mark.usefixtures("zoe")
def test_the_right_password_opens_a_session_with_the_roles_there_are_now(
    service: Services, administrators: Administrators
) -> None:
    shown = sign_in(administrators)
    assert service.sessions.find(shown) == SignedIn("anna", frozenset({"administrator", "operator"}))
    administrators.set_roles("anna", ["auditor"], ADMIN)
    assert service.sessions.find(shown) == SignedIn("anna", frozenset({"auditor"}))


def test_each_sign_in_is_a_session_of_its_own(service: Services, administrators: Administrators) -> None:
    first, second = sign_in(administrators), sign_in(administrators)
    assert first != second
    service.sessions.end(first)
    assert service.sessions.find(first) is None
    assert service.sessions.find(second)


@pytest.mark.parametrize("shown", ["", "nobody's", "x" * 10_000, "nul\x00", "\udcff"])
def test_what_nobody_was_given_opens_nothing(service: Services, administrators: Administrators, shown: str) -> None:
    sign_in(administrators)
    assert service.sessions.find(Secret(shown)) is None


def test_a_session_ends_when_nobody_uses_it_and_in_any_case_after_half_a_day(
    service: Services, administrators: Administrators, clock: FakeClock
) -> None:
    idle, used = sign_in(administrators), sign_in(administrators)
    for _ in range(23):
        clock.step(minutes=31)
        assert service.sessions.find(used)
    assert service.sessions.find(idle) is None
    clock.step(minutes=7)
    assert service.sessions.find(used) is None


@pytest.mark.usefixtures("zoe")
def test_a_new_password_and_a_removal_end_every_session(service: Services, administrators: Administrators) -> None:
    before = [sign_in(administrators), sign_in(administrators)]
    administrators.set_password("anna", OTHER, ADMIN)
    after = sign_in(administrators, OTHER)
    assert [service.sessions.find(one) for one in before] == [None, None]
    administrators.remove("anna", ADMIN)
    assert service.sessions.find(after) is None
    administrators.add("anna", ["operator"], PASSWORD, ADMIN)
    assert service.sessions.find(after) is None
    assert everything(service.store)["administrator"]


def test_a_session_row_whose_password_is_over_is_no_session(service: Services, administrators: Administrators) -> None:
    shown = sign_in(administrators)
    change(service.store, "UPDATE session SET password = 7")
    assert service.sessions.find(shown) is None


def put_back(service: Services, table: str, rows: list[dict[str, Any]]) -> None:
    """Store rows again, as somebody can who writes rows."""
    for row in rows:
        statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
        change(service.store, statement, *row.values())


def test_a_session_row_that_is_put_back_after_a_sign_out_is_no_session(
    service: Services, administrators: Administrators
) -> None:
    shown = sign_in(administrators)
    member = service.sessions.begin_for_member("eve@contoso.com", ("auditor",))
    rows = everything(service.store)["session"]
    for one in (shown, member):
        service.sessions.end(one)
    put_back(service, "session", rows)
    assert [service.sessions.find(one) for one in (shown, member)] == [None, None]


def test_who_signs_out_while_their_row_is_away_has_signed_out(
    service: Services, administrators: Administrators
) -> None:
    shown = sign_in(administrators)
    rows = everything(service.store)["session"]
    change(service.store, "DELETE FROM session")
    service.sessions.end(shown)
    put_back(service, "session", rows)
    assert service.sessions.find(shown) is None


def test_a_session_row_that_no_sign_in_made_is_no_session(service: Services, administrators: Administrators) -> None:
    token = Secret("chosen-by-somebody-who-writes-rows")
    row = everything(service.store)["administrator"][0]
    sign_in(administrators)
    made = {**everything(service.store)["session"][0], "hash": token_hash(token), "administrator_id": row["id"]}
    put_back(service, "session", [made])
    assert service.sessions.find(token) is None


@pytest.mark.usefixtures("zoe")
def test_sign_ins_and_their_ends_are_in_the_record(
    service: Services, administrators: Administrators, clock: FakeClock
) -> None:
    first = sign_in(administrators)
    service.sessions.end(first)
    sign_in(administrators)
    administrators.set_password("anna", OTHER, "administrator:eve")
    expiring = sign_in(administrators, OTHER)
    clock.step(hours=2)
    assert service.sessions.find(expiring) is None
    service.sessions.begin_for_member("eve@contoso.com", ("auditor",), THERE)
    administrators.remove("anna", "administrator:eve")
    told = [record for record in service.history.records() if record.aggregate == "Session"]
    assert [(record.name, record.by, record.facts.get("reason")) for record in told] == [
        ("Begun", "administrator:anna", None),
        ("Ended", "administrator:anna", "signed_out"),
        ("Begun", "administrator:anna", None),
        ("Ended", "administrator:eve", "password_changed"),
        ("Begun", "administrator:anna", None),
        ("Ended", "service", "expired"),
        ("Begun", "auditor:eve@contoso.com", None),
    ]
    assert [told[0].facts["address"], told[-1].facts["address"]] == [HERE, THERE]
    assert first.reveal() not in repr(told)
    assert service.audit.verify().findings == ()


def test_somebody_of_the_organisation_has_the_roles_of_their_sign_in(service: Services) -> None:
    shown = service.sessions.begin_for_member("eve@contoso.com", ("auditor",))
    assert service.sessions.find(shown) == SignedIn("eve@contoso.com", frozenset({"auditor"}), is_member=True)


def test_a_member_of_the_organisation_signs_in_again_as_soon_as_the_configuration_says(
    service: Services, clock: FakeClock
) -> None:
    administrators = service.administrators
    administrators.add("anna", ["operator"], PASSWORD, ADMIN)
    sessions = Sessions(service.events, clock, timedelta(hours=2))
    member, anna = sessions.begin_for_member("eve@contoso.com", ("auditor",)), sign_in(administrators)
    for _ in range(3):
        clock.step(minutes=30)
        assert sessions.find(member)
        assert sessions.find(anna)
    clock.step(minutes=30)
    assert sessions.find(member) is None
    assert sessions.find(anna)
    again = sessions.begin_for_member("eve@contoso.com", ("auditor",))
    assert Sessions(service.events, clock, timedelta(0)).find(again) is None


def test_a_password_that_is_changed_while_it_is_verified_begins_no_session(
    service: Services, administrators: Administrators, monkeypatch: pytest.MonkeyPatch
) -> None:
    matches = PasswordHasher._matches

    def changed_meanwhile(hasher: PasswordHasher, hashed: Secret, password: Secret) -> bool:
        monkeypatch.setattr(PasswordHasher, "_matches", matches)
        administrators.set_password("anna", OTHER, ADMIN)
        return matches(hasher, hashed, password)

    monkeypatch.setattr(PasswordHasher, "_matches", changed_meanwhile)
    with pytest.raises(Conflict):
        sign_in(administrators)
    assert everything(service.store)["session"] == []
    assert service.sessions.find(sign_in(administrators, OTHER))


@pytest.mark.parametrize("name", ["anna", "ghost", "", "nul\x00", "\udcff", "bob"])
def test_whatever_is_wrong_the_answer_is_one_and_costs_one_verification(
    service: Services, administrators: Administrators, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    administrators.add("bob", ["auditor"], None, ADMIN)
    verified: list[bool] = []
    matches = PasswordHasher._matches

    def counted(hasher: PasswordHasher, hashed: Secret, password: Secret) -> bool:
        verified.append(True)
        return matches(hasher, hashed, password)

    monkeypatch.setattr(PasswordHasher, "_matches", counted)
    with pytest.raises(NotPermitted, match=r"^wrong_name_or_password$"):
        administrators.sign_in(name, WRONG, HERE)
    assert verified == [True]


# Guessing


def test_wrong_passwords_make_the_account_wait_ever_longer_and_change_nothing(
    service: Services, administrators: Administrators, clock: FakeClock
) -> None:
    service.add_machine()
    before, waits = all_that_lasts(service), []
    for number in range(18):
        address = f"203.0.113.{number}"
        try:
            sign_in(administrators, WRONG, address)
        except TooManyRequests as locked:
            waits.append(locked.retry_after_seconds)
            clock.step(seconds=locked.retry_after_seconds)
        except NotPermitted:
            pass
    assert waits == [2, 4, 8, 16, 32, 64, 128]
    assert all_that_lasts(service) == before


def test_an_address_waits_whatever_names_it_tries_and_others_do_not(
    administrators: Administrators, clock: FakeClock
) -> None:
    for number in range(5):
        with pytest.raises(NotPermitted):
            administrators.sign_in(f"name-{number}", WRONG, HERE)
    with pytest.raises(TooManyRequests, match="too_many_wrong_passwords retry_after_seconds=2"):
        sign_in(administrators)
    sign_in(administrators, address=THERE)
    clock.step(seconds=2)
    sign_in(administrators)


def test_the_addresses_of_one_ipv6_network_are_one_guesser(administrators: Administrators) -> None:
    for number in range(5):
        with pytest.raises(NotPermitted):
            administrators.sign_in(f"name-{number}", WRONG, f"2001:db8:1:2::{number}")
    with pytest.raises(TooManyRequests):
        sign_in(administrators, address="2001:db8:1:2:ffff::1")
    sign_in(administrators, address="2001:db8:1:3::1")


def test_names_that_are_too_long_for_an_account_fill_no_memory(administrators: Administrators) -> None:
    for number in range(5):
        with pytest.raises(NotPermitted):
            administrators.sign_in("x" * 1000 + str(number), WRONG, f"203.0.113.{number}")
    with pytest.raises(TooManyRequests):
        administrators.sign_in("x" * 1000, WRONG, HERE)
    assert max(map(len, administrators._throttle._accounts._counts)) < 100
    sign_in(administrators)


def test_many_guesses_at_once_are_counted_each(administrators: Administrators) -> None:
    def guess(_: int) -> str:
        try:
            sign_in(administrators, WRONG)
        except (NotPermitted, TooManyRequests) as error:
            return type(error).__name__
        return "let in"

    with ThreadPoolExecutor(12) as threads:
        ended = list(threads.map(guess, range(12)))
    assert sorted(ended) == ["NotPermitted"] * 5 + ["TooManyRequests"] * 7


def test_no_wait_is_longer_than_a_quarter_of_an_hour_and_root_ends_it(
    administrators: Administrators, clock: FakeClock
) -> None:
    longest = 0
    for number in range(60):
        try:
            sign_in(administrators, WRONG, f"203.0.113.{number}")
        except TooManyRequests as locked:
            longest = max(longest, locked.retry_after_seconds)
            clock.step(seconds=locked.retry_after_seconds)
        except NotPermitted:
            pass
    assert longest == 900
    administrators.set_password("anna", OTHER, "administrator:root")
    sign_in(administrators, OTHER)


# Links


def test_the_first_link_makes_the_first_administrator_and_is_good_once(service: Services) -> None:
    link = service.administrators.first_link()
    assert link
    assert service.administrators.whose_link(link.secret) is None
    assert name_of(service, service.administrators.use_link(link.secret, "anna", PASSWORD)) == "anna"
    sign_in(service.administrators)
    assert service.administrators.first_link() is None
    told = [record.by for record in service.history.records() if record.aggregate == "Administrator"]
    assert told == ["link:service", "link:service"]
    with pytest.raises(NotPermitted, match="set_up_link_over"):
        service.administrators.use_link(link.secret, "bob", PASSWORD)


def test_a_link_is_good_for_an_hour_and_only_the_newest_is(service: Services, clock: FakeClock) -> None:
    first = service.administrators.link(None, ADMIN)
    second = service.administrators.link(None, ADMIN)
    with pytest.raises(NotPermitted):
        service.administrators.whose_link(first.secret)
    clock.step(minutes=59)
    service.administrators.whose_link(second.secret)
    clock.step(minutes=1)
    with pytest.raises(NotPermitted):
        service.administrators.use_link(second.secret, "anna", PASSWORD)


def test_a_link_sets_the_password_of_whom_it_is_for_and_of_nobody_else(
    service: Services, administrators: Administrators
) -> None:
    before = sign_in(administrators)
    link = administrators.link("anna", "administrator:root")
    assert administrators.whose_link(link.secret) == "anna"
    assert name_of(service, administrators.use_link(link.secret, "bob", OTHER)) == "anna"
    assert service.sessions.find(before) is None
    sign_in(administrators, OTHER)
    assert [one.name for one in administrators.administrators()] == ["anna"]


def test_a_password_that_is_refused_leaves_the_link_good(administrators: Administrators) -> None:
    link = administrators.link("anna", ADMIN)
    with pytest.raises(InvalidValue):
        administrators.use_link(link.secret, "anna", Secret("short"))
    administrators.use_link(link.secret, "anna", OTHER)


@pytest.mark.usefixtures("zoe")
def test_a_link_of_somebody_who_was_removed_leads_nowhere(administrators: Administrators) -> None:
    link = administrators.link("anna", ADMIN)
    administrators.remove("anna", ADMIN)
    with pytest.raises(NotPermitted, match="set_up_link_without_administrator"):
        administrators.use_link(link.secret, "anna", PASSWORD)


def test_a_link_row_that_is_put_back_after_its_use_is_no_link(
    service: Services, administrators: Administrators
) -> None:
    link = administrators.link("anna", ADMIN)
    rows = everything(service.store)["one_time"]
    administrators.use_link(link.secret, "anna", OTHER)
    put_back(service, "one_time", rows)
    with pytest.raises(NotPermitted, match="set_up_link_over"):
        administrators.use_link(link.secret, "anna", PASSWORD)
    sign_in(administrators, OTHER)


def test_links_made_used_replaced_and_expired_are_in_the_record(
    service: Services, administrators: Administrators, clock: FakeClock
) -> None:
    administrators.link("anna", ADMIN)
    used = administrators.link("anna", ADMIN)
    administrators.use_link(used.secret, "anna", OTHER, THERE)
    administrators.link("anna", ADMIN)
    clock.step(hours=2)
    administrators.link("anna", "administrator:eve")
    told = [record for record in service.history.records() if record.aggregate == "Link"]
    assert sorted((record.name, record.by, record.facts.get("reason")) for record in told) == [
        ("Ended", ADMIN, "replaced"),
        ("Ended", "service", "expired"),
        ("Made", ADMIN, None),
        ("Made", ADMIN, None),
        ("Made", ADMIN, None),
        ("Made", "administrator:eve", None),
        ("Used", f"link:{ADMIN}", None),
    ]
    assert used.secret.reveal() not in repr(told)
    assert [record.facts["address"] for record in service.history.records() if record.name == "Begun"] == [THERE]
    assert service.audit.verify().findings == ()


def test_a_first_link_is_no_good_once_there_is_an_administrator(service: Services) -> None:
    link = service.administrators.link(None, ADMIN)
    service.administrators.add("anna", ["operator"], PASSWORD, ADMIN)
    with pytest.raises(NotPermitted):
        service.administrators.use_link(link.secret, "mallory", OTHER)
    with pytest.raises(Refused, match="administrators_exist"):
        service.administrators.link(None, ADMIN)
    assert [one.name for one in service.administrators.administrators()] == ["anna"]


def test_rows_that_somebody_deletes_make_nobody_the_first_administrator_again(service: Services) -> None:
    administrators = service.administrators
    administrators.add("anna", ["operator"], PASSWORD, ADMIN)
    change(service.store, "DELETE FROM administrator")
    assert administrators.first_link() is None
    with pytest.raises(Refused, match="administrators_exist"):
        administrators.link(None, ADMIN)
    service.audit.rebuild(by="worker", now=START)
    administrators.remove("anna", ADMIN)
    assert administrators.first_link()


def test_of_many_who_come_with_one_link_at_once_one_gets_in(service: Services) -> None:
    link = service.administrators.link(None, ADMIN)

    def use(number: int) -> str | None:
        try:
            return name_of(service, service.administrators.use_link(link.secret, f"admin-{number}", PASSWORD))
        except NotPermitted:
            return None

    with ThreadPoolExecutor(6) as threads:
        let_in = [name for name in threads.map(use, range(6)) if name]
    assert len(let_in) == 1
    assert [one.name for one in service.administrators.administrators()] == let_in


# Sign-ins at the organisation's provider


def test_a_begun_sign_in_is_remembered_for_its_browser_alone_and_finished_once(
    service: Services, clock: FakeClock
) -> None:
    begun = PendingSignIns(service.store, service.vault, clock)
    before = everything(service.store)
    browser = begun.begin(Secret("verifier-in-clear"), "/history", timedelta(minutes=15))
    other = begun.begin(Secret("another-verifier"), "/", timedelta(minutes=15))
    assert everything(service.store) == before
    found, another = begun.find(browser), begun.find(other)
    assert found
    assert another
    assert (found.state, found.next_path) == (Secret("verifier-in-clear"), "/history")
    assert [begun.finish(found), begun.finish(found), begun.finish(another)] == [True, False, True]
    assert (
        "in-clear" not in repr(everything(service.store)) + base64.urlsafe_b64decode(browser.reveal() + "==").decode()
    )
    late = begun.find(begun.begin(Secret("slow"), "/", timedelta(minutes=15)))
    assert late
    clock.step(minutes=15)
    assert begun.find(other) is None
    assert not begun.finish(late)
    assert not begun.finish(found)


def test_of_many_who_finish_one_sign_in_at_once_one_does(service: Services, clock: FakeClock) -> None:
    begun = PendingSignIns(service.store, service.vault, clock)
    found = begun.find(begun.begin(Secret("state"), "/", timedelta(minutes=15)))
    assert found
    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(lambda _: begun.finish(found), range(6))) == 1


def test_what_no_browser_was_given_is_no_sign_in_that_was_begun(service: Services, clock: FakeClock) -> None:
    begun = PendingSignIns(service.store, service.vault, clock)
    given = begun.begin(Secret("state"), "/", timedelta(minutes=15)).reveal()
    sealed = json.loads(base64.urlsafe_b64decode(given + "=="))
    forged = [
        "not JSON",
        "null",
        "[]",
        "[" * 20_000,
        json.dumps({**sealed, "body": 7}),
        json.dumps({**sealed, "key_id": 7}),
        json.dumps({**sealed, "key_id": "\ud800"}),
        json.dumps({**sealed, "body": sealed["wrapped"]}),
        json.dumps({name: value for name, value in sealed.items() if name != "body"}),
        service.vault.seal_text("another place", Secret(json.dumps(["state", "/", "2099-01-01T00:00:00+00:00"]))),
    ]
    shown = [base64.urlsafe_b64encode(text.encode()).decode() for text in forged]
    for text in (*shown, "", "x", "\xe9", "\udcff", given[:-8]):
        assert begun.find(Secret(text)) is None, text
